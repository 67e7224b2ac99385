"""The files of an environment's folder, and what can be wrong with them before and after LMDB sees them.

LMDB maps its files, so what is missing on the disk is no error but the end of the process: a data file that was cut
short, a hole in the table of readers that a full disk cannot fill. Both are found out here first.

======== ==========================================================================================
file     content
======== ==========================================================================================
data.mdb LMDB's pages
lock.mdb LMDB's table of readers, made anew by whoever opens first
starts   how often the environment was started, see ``storage/environment.py``
======== ==========================================================================================
"""

import errno
import fcntl
import os
import resource
import uuid
from pathlib import Path
from typing import Final

import lmdb
from lmdb.verify import verify

from storage.errors import NotOpened

STARTS_FILE: Final = "starts"
DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
LOCK_SLOT_BYTES: Final = 64
LOCK_HEAD_SLOTS: Final = 16
"""Room for the head of the table of readers, in slots: more than LMDB takes."""
PROBE_BYTES: Final = 1 << 20
"""What a disk must still take for a failed write not to be put down to lack of room."""


def lock_folder(path: Path, name: str) -> int:
    """Descriptor of the folder, locked until it is closed. Raises ``NotOpened`` where another opening has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NotOpened(name, "it is open already, here or in another process") from None
    return descriptor


def file_problem(path: Path) -> str | None:
    """Why the data file in folder ``path`` cannot be mapped, None where nothing is wrong with it or it is not there.

    A file that ends before its last page kills the process that reads there. It may rightly be a little short, as LMDB
    does not write free pages at the end, so one that is short is looked through, by code that does not map it.
    """
    data_file = path / DATA_FILE
    if not data_file.exists():
        return None
    with lmdb.open(str(path), readonly=True, create=False, lock=False) as environment:
        wanted = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if not data_file.stat().st_size or data_file.stat().st_size >= wanted:
        return None
    problems = verify(str(path))  # type: ignore[no-untyped-call]  # lmdb's only untyped module
    return f"its data file is cut short ({problems[0]})" if problems else None


def allocate_lock_file(path: Path, readers_max: int) -> None:
    """Give LMDB's table of readers its room on the disk: a hole in it that a full disk cannot fill kills the process
    that writes there. Raises ``OSError`` where there is no room.
    """
    descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, (readers_max + LOCK_HEAD_SLOTS) * LOCK_SLOT_BYTES)
    finally:
        os.close(descriptor)


def lacks_room(error: lmdb.Error | OSError, data_file: Path) -> bool:
    """Whether writing ``data_file`` failed for lack of room. LMDB calls a write that was cut short an I/O error,
    whatever the reason, so the disk is asked whether it takes a little more.
    """
    code = error.errno if isinstance(error, OSError) else getattr(error, "code", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return code == errno.EIO and not (_takes_more(data_file.parent) and _may_grow(data_file))


def _takes_more(path: Path) -> bool:
    probe = path / f"probe-{uuid.uuid4().hex}"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
        return True
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    finally:
        probe.unlink(missing_ok=True)


def _may_grow(data_file: Path) -> bool:
    """Whether the limit on the size of files leaves this one some room."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return limit == resource.RLIM_INFINITY or data_file.stat().st_size + PROBE_BYTES < limit


def read_starts(path: Path) -> int | None:
    try:
        return int((path / STARTS_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_starts(path: Path, starts: int) -> None:
    """Replace the counter file durably: a torn one would look like a file put back."""
    temporary = path / (STARTS_FILE + ".new")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(starts))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path / STARTS_FILE)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make what was created, renamed or removed in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
