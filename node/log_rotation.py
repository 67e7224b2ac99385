"""Rotation of a log file by age and size: ``hdb.log`` becomes ``HDB-<time>.log``, and old ones are deleted.

The age of a file is that of its first line, so that it does not begin again with each start of the node. A rotation
that was cut short leaves a whole file under its final name, at worst uncompressed or still in the log's own folder.
"""

import contextlib
import gzip
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from node.log_file import LogFile
from node.log_line import make_line, timestamp
from node.settings import RotationSettings
from ops.log_thread import MAIN_THREAD
from storage.log_levels import NOTIFY

log = logging.getLogger("node")

CHECK_EVERY_S: Final = 60.0
_TIME_IN_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)-(\d\d)-(\d\d\.\d{3})Z")
_TIMESTAMP_LENGTH: Final = 24
_PART: Final = ".part"
_COPY_BYTES: Final = 1024 * 1024


def is_rotating(settings: RotationSettings) -> bool:
    return settings.enabled and (settings.interval_s is not None or settings.size_bytes_max is not None)


def rotate_if_due(file: LogFile, settings: RotationSettings, *, now_s: float | None = None) -> Path | None:
    """One regular check of ``file``: rotate it when it is due, delete rotated ones that are too old.

    Blocks, for a copy of the file where it is compressed or moved to another disk. Returns the rotated file, if any.
    What the disk refuses is logged; the next check tries again.
    """
    now_s = time.time() if now_s is None else now_s
    rotated = None
    try:
        if _is_due(file.path, settings, now_s):
            rotated = _rotate(file, settings, now_s)
        _delete_old(file.path, settings, now_s)
    except OSError as error:
        log.error("log file %s cannot be rotated: %s", file.path, error)
    return rotated


def _is_due(path: Path, settings: RotationSettings, now_s: float) -> bool:
    try:
        size_bytes = path.stat().st_size
    except FileNotFoundError:
        return False
    if size_bytes == 0:
        return False
    if settings.size_bytes_max is not None and size_bytes >= settings.size_bytes_max:
        return True
    return settings.interval_s is not None and now_s - _begun_s(path) >= settings.interval_s


def _begun_s(path: Path) -> float:
    """When the first line was written; when the last one was, where the first one does not tell."""
    with path.open("rb") as stream:
        first = stream.read(_TIMESTAMP_LENGTH).decode("ascii", "replace")
    try:
        return datetime.fromisoformat(first).timestamp()
    except ValueError:
        return path.stat().st_mtime


def _rotate(file: LogFile, settings: RotationSettings, now_s: float) -> Path:
    settings.path.mkdir(parents=True, exist_ok=True)
    target = _free_target(file.path, settings, now_s)
    final = target.with_name(f"{target.name}.gz") if settings.compress else target
    message = f"{file.path.name} rotated, old log moved to {final}"
    beside = file.path.with_name(target.name)
    moved = target if _is_same_disk(file.path, settings.path) else beside
    file.move(moved, lambda: make_line(message, level=NOTIFY, created_s=time.time(), thread=MAIN_THREAD))
    if settings.compress:
        _finish(moved, final, compress=True)
    elif moved != final:
        _finish(moved, final, compress=False)
    return final


def _free_target(path: Path, settings: RotationSettings, now_s: float) -> Path:
    """``HDB-<time>.log`` for ``hdb.log``; a millisecond later where that is taken."""
    while True:
        name = f"{path.stem.upper()}-{timestamp(now_s).replace(':', '-')}{path.suffix}"
        target = settings.path / name
        taken = (target, target.with_name(f"{name}.gz"), path.with_name(name))
        if not any(candidate.exists() for candidate in taken):
            return target
        now_s += 0.001


def _is_same_disk(path: Path, folder: Path) -> bool:
    return path.parent.stat().st_dev == folder.stat().st_dev


def _finish(source: Path, final: Path, *, compress: bool) -> None:
    """Copy ``source`` to ``final``, which appears whole or not at all, and remove it."""
    part = final.with_name(f"{final.name}{_PART}")
    with source.open("rb") as stream, _writing(part, compress=compress) as copy:
        shutil.copyfileobj(stream, copy, _COPY_BYTES)
    os.chmod(part, source.stat().st_mode & 0o777)
    os.replace(part, final)
    source.unlink()


@contextlib.contextmanager
def _writing(part: Path, *, compress: bool) -> Iterator[IO[bytes]]:
    with part.open("wb") as plain:
        if compress:
            with gzip.GzipFile(fileobj=plain, mode="wb", filename="", compresslevel=6) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield plain
        plain.flush()
        os.fsync(plain.fileno())


def _delete_old(path: Path, settings: RotationSettings, now_s: float) -> None:
    """Delete this log's rotated files beyond their retention, and what cut-short copies left."""
    if not settings.path.is_dir():
        return
    for found in settings.path.iterdir():
        rotated_s = _rotated_s(found.name, path)
        if rotated_s is None:
            continue
        is_old = settings.retention_s is not None and now_s - rotated_s > settings.retention_s
        if is_old or found.name.endswith(_PART):
            found.unlink(missing_ok=True)


def _rotated_s(name: str, path: Path) -> float | None:
    """When a file of that name was rotated; None for a file that no rotation of ``path`` made."""
    prefix = f"{path.stem.upper()}-"
    match = _TIME_IN_NAME.match(name, len(prefix)) if name.startswith(prefix) else None
    if match is None or name[match.end() :] not in {f"{path.suffix}{end}" for end in ("", ".gz", ".gz.part", ".part")}:
        return None
    try:
        return datetime.fromisoformat(f"{match[1]}:{match[2]}:{match[3]}+00:00").timestamp()
    except ValueError:
        return None
