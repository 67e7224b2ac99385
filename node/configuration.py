"""``get_configuration`` and ``set_configuration``: the file as operations see it.

The file is the truth, not this object: several processes of a node read and change it, and people edit it. So each
reading looks at the file (parsed again only when it was replaced), and each change holds a lock while it reads,
checks and writes.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

import trio

from node.configuration_file import BACKUP_FOLDER, FILE_NAME, ConfigurationFile
from node.file_lock import LockBusy, locked
from node.flat_names import find_parameter
from node.modes import MODE_PATH, switch_mode, with_defaults
from node.parameter import MODES, Json, Kind, Mode, Parameter, Path, plain
from node.parameter_checks import document_problems, twin_problems
from node.parameters import BY_PATH, PORT_TWINS, SECTIONS
from node.paths import ROOT_PATH, resolve_paths, resolved_path
from node.ports import parse_port
from node.tree import get_value, has_value, set_value
from node.value_forms import assignments, value_for, value_of_text
from ops.errors import InvalidParams, OperationError

_LOCK_FILE_NAME = ".configuration.lock"
_LOCK_WAIT_S = 10.0
_CHANGED_VALUES_MAX = 1000
_COMPONENT_NAME = re.compile(r"(?P<component>[A-Za-z0-9-][A-Za-z0-9_-]{0,249})_(?P<key>package|port)")
_PROBLEM_PREFIX = "HarperDB config file validation error: "


class Configuration:
    """The configuration file of the node that runs with ``running`` (effective values, as they were at start)."""

    def __init__(self, root: FilePath, running: Mapping[str, Json]) -> None:
        self._root = root
        self._running = running
        self._parsed: dict[str, Json] = {}
        self._parsed_signature: tuple[int, ...] | None = None

    def document(self) -> dict[str, Any]:
        """The file's content, paths resolved: a copy. Raises ``StartError`` when somebody broke the file by hand."""
        signature = self._signature()
        if signature is None or signature != self._parsed_signature:
            self._parsed = _as_operations_see_it(ConfigurationFile.load(self._root).plain(), self._root)
            self._parsed_signature = signature
        copy: dict[str, Any] = plain(self._parsed)
        return copy

    async def change(self, values: Mapping[str, Any]) -> None:
        """Set flat names to values, in a worker thread, as ``set_configuration`` does.

        Raises ``InvalidParams`` with all problems when a value does not fit: nothing is written then. Names that are no
        parameters are ignored.
        """
        await trio.to_thread.run_sync(self._change, values)

    def _signature(self) -> tuple[int, ...] | None:
        """Changes whenever the file does: a replaced file has a new inode."""
        try:
            stat = os.stat(self._root / FILE_NAME)
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _change(self, values: Mapping[str, Any]) -> None:
        folder = self._root / BACKUP_FOLDER
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with locked(folder / _LOCK_FILE_NAME, wait_s=_LOCK_WAIT_S):
                self._change_locked(values)
        except OSError as error:
            raise OperationError(f"{FILE_NAME} cannot be written: {error.strerror}", status=500) from error
        except LockBusy as error:
            raise OperationError(f"{FILE_NAME} is being changed by another request", status=503) from error

    def _change_locked(self, values: Mapping[str, Any]) -> None:
        file = ConfigurationFile.load(self._root)
        wanted = dict(_wanted(values))
        self._close_plain_twins(values, wanted)
        _refuse(_problems(wanted, file, self._root))
        if not self._changes_anything(wanted, file):
            return
        if wanted.get(MODE_PATH) is not None:
            switch_mode(file, _mode_of(file), wanted[MODE_PATH])
        for path, value in wanted.items():
            file.set(path, value)
        file.save()

    def _close_plain_twins(self, values: Mapping[str, Any], wanted: dict[Path, Json]) -> None:
        """A securePort sent as text that equals the running plain port takes its place."""
        as_text = {
            parameter.path for name, value in values.items() if isinstance(value, str) and (parameter := _named(name))
        }
        for plain_path, secure_path in PORT_TWINS:
            running = get_value(self._running, plain_path)
            if secure_path in as_text and running is not None and str(wanted[secure_path]) == str(running):
                wanted.setdefault(plain_path, None)

    def _changes_anything(self, wanted: Mapping[Path, Json], file: ConfigurationFile) -> bool:
        """Values that run already and that no earlier change of the file is about to replace need no writing."""
        document = _as_operations_see_it(file.plain(), self._root)
        try:
            pending = with_defaults(document, _mode_of(file))
        except ValueError:
            return True  # a port broken by hand is about to be mended
        return any(
            not _is_same(path, value, get_value(where, path), self._root)
            for path, value in wanted.items()
            for where in (self._running, pending)
        )


def _as_operations_see_it(document: dict[str, Json], root: FilePath) -> dict[str, Json]:
    threads = document.get("threads")
    if threads is not None and not isinstance(threads, Mapping):
        document["threads"] = {"count": threads}
    resolve_paths(document, root)
    return document


def _named(name: str) -> Parameter | None:
    """The parameter with the flat ``name``; dotted names belong to the command line."""
    return None if "." in name else find_parameter(name)


def _wanted(values: Mapping[str, Any]) -> Iterator[tuple[Path, Json]]:
    """Places in the file and their new values; names that mean nothing here are left out."""
    if len(values) > _CHANGED_VALUES_MAX:
        raise InvalidParams(f"{_PROBLEM_PREFIX}more than {_CHANGED_VALUES_MAX} values")
    for name, raw in values.items():
        parameter = _named(name)
        if parameter is None:
            yield from _component_setting(name, raw)
        elif not (isinstance(raw, Mapping) and Kind.OBJECT not in parameter.kinds and name in SECTIONS):
            yield from assignments(parameter, value_for(parameter, raw) if isinstance(raw, str) else plain(raw))


def _component_setting(name: str, raw: Json) -> Iterator[tuple[Path, Json]]:
    match = _COMPONENT_NAME.fullmatch(name)
    if match is None or match["component"] in SECTIONS:
        return
    is_port_text = match["key"] == "port" and isinstance(raw, str)
    yield (match["component"], match["key"]), value_of_text(raw) if is_port_text else plain(raw)


def _problems(wanted: Mapping[Path, Json], file: ConfigurationFile, root: FilePath) -> Iterator[str]:
    """Problems of the file as it would be: what a start would refuse must not be written."""
    document = file.plain()
    for path, value in wanted.items():
        set_value(document, path, value)
        if path not in BY_PATH and path[0] not in SECTIONS:
            yield from _component_problems(path, value)
    if (
        has_value(document, ROOT_PATH)
        and ROOT_PATH in wanted
        and not _is_same(ROOT_PATH, wanted[ROOT_PATH], str(root), root)
    ):
        yield "'rootPath' can only be set at start, with --root-path or ROOTPATH"
    found = list(document_problems(document, root))
    yield from found
    if not found:
        yield from twin_problems(with_defaults(document, _mode_in(document)))


def _component_problems(path: Path, value: Json) -> Iterator[str]:
    if path[-1] == "package" and value is not None and not isinstance(value, str):
        yield f"'{'.'.join(path)}' must be a string"
    if path[-1] == "port":
        try:
            parse_port(value)
        except ValueError:
            yield f"'{'.'.join(path)}' must be a number"


def _refuse(problems: Iterator[str]) -> None:
    text = ". ".join(problems)
    if text:
        raise InvalidParams(_PROBLEM_PREFIX + text)


def _is_same(path: Path, value: Json, other: Json, root: FilePath) -> bool:
    parameter = BY_PATH.get(path)
    if parameter is not None and Kind.PATH in parameter.kinds and isinstance(value, str):
        value = str(resolved_path(value, root))
    return bool(value == other)


def _mode_of(file: ConfigurationFile) -> Mode:
    return _mode_in(file.plain())


def _mode_in(document: Mapping[str, Json]) -> Mode:
    written = get_value(document, MODE_PATH)
    return next((mode for mode in MODES if mode == written), "prod")
