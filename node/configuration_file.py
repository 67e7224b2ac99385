"""``logmesh.yaml`` on disk: read with its comments, changed in place, replaced in one step.

A reader sees the old file or the new one whole: a change is written beside it, synced and renamed over it. The file
before a change is kept as ``backup/<time>-logmesh.yaml.bak``. Both have the mode of the file they come from, 0600
when new, as component entries may hold tokens.
"""

import contextlib
import datetime
import io
import os
import shutil
from collections.abc import MutableMapping
from pathlib import Path as FilePath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from node.errors import StartError
from node.parameter import Json, Path
from node.tree import get_value, has_value, remove_value, set_value

FILE_NAME = "logmesh.yaml"
OTHER_PRODUCT_FILE_NAME = "harperdb-config.yaml"
BACKUP_FOLDER = "backup"
_FILE_BYTES_MAX = 4 * 1024 * 1024
_DEPTH_MAX = 64
_NEW_FILE_MODE = 0o600
_LINE_WIDTH = 4096
"""Wider than any value: a long one stays on its line."""


class ConfigurationFile:
    """The content of one ``logmesh.yaml``. Not safe for use by several threads at once."""

    def __init__(self, path: FilePath, tree: CommentedMap, text: str | None) -> None:
        self.path = path
        self._tree = tree
        self._text = text

    @classmethod
    def load(cls, root: FilePath) -> "ConfigurationFile":
        """The file of ``root``; an empty one when there is none. Raises ``StartError`` for a file that is not YAML."""
        path = root / FILE_NAME
        try:
            if path.stat().st_size > _FILE_BYTES_MAX:
                raise StartError(f"{path} is larger than {_FILE_BYTES_MAX} bytes")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(path, CommentedMap(), None)
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"{path} cannot be read: {error}") from error
        return cls(path, _parse(path, text), text)

    @property
    def exists(self) -> bool:
        """False until the first ``save`` of a new file."""
        return self._text is not None

    def get(self, path: Path) -> Json:
        return get_value(self._tree, path)

    def has(self, path: Path) -> bool:
        return has_value(self._tree, path)

    def set(self, path: Path, value: Json) -> None:
        if get_value(self._tree, path, self) != value:
            set_value(self._tree, path, value)

    def remove(self, path: Path) -> None:
        remove_value(self._tree, path)

    def annotate(self, path: Path, comment: str) -> None:
        """Put ``comment`` at the end of the line of ``path``, where it stays beside its key whatever is added later."""
        section = get_value(self._tree, path[:-1]) if len(path) > 1 else self._tree
        if isinstance(section, CommentedMap):
            section.yaml_add_eol_comment(comment, path[-1], column=0)

    def plain(self) -> dict[str, Json]:
        """The content as plain dicts, lists and scalars: a copy."""
        plain = _plain(self._tree, _DEPTH_MAX, self.path)
        assert isinstance(plain, dict)
        return plain

    def save(self) -> bool:
        """Back the old file up and write this content, when it differs. True when something was written.

        Raises ``OSError`` when the disk refuses; the old file is whole then.
        """
        text = _dump(self._tree)
        if text == self._text:
            return False
        target = self.path.resolve()
        mode = _NEW_FILE_MODE
        if self.exists:
            mode = target.stat().st_mode & 0o777
            _back_up(target, self.path.parent / BACKUP_FOLDER)
        replace_file(target, text, mode=mode)
        self._text = text
        return True


def replace_file(path: FilePath, text: str, *, mode: int) -> None:
    """Write ``text`` as the file at ``path`` in one step that survives a power loss."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: FilePath) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _back_up(path: FilePath, folder: FilePath) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    at = datetime.datetime.now(datetime.UTC)
    while True:
        stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z").replace(":", "-")
        try:
            with open(folder / f"{stamp}-{FILE_NAME}.bak", "xb") as backup, open(path, "rb") as source:
                shutil.copyfileobj(source, backup)
                shutil.copymode(path, backup.name)
            return
        except FileExistsError:
            at += datetime.timedelta(milliseconds=1)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = _LINE_WIDTH
    yaml.preserve_quotes = True
    yaml.representer.add_representer(type(None), lambda representer, _: representer.represent_scalar(_NULL_TAG, "null"))
    return yaml


_NULL_TAG = "tag:yaml.org,2002:null"


def _parse(path: FilePath, text: str) -> CommentedMap:
    try:
        tree = _yaml().load(text)
    except (YAMLError, RecursionError, ValueError) as error:
        raise StartError(f"{path} is not valid YAML: {error}") from error
    if tree is None:
        return CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise StartError(f"{path} must hold a mapping of sections")
    return tree


def _dump(tree: CommentedMap) -> str:
    stream = io.StringIO()
    _yaml().dump(tree, stream)
    return stream.getvalue()


def _plain(value: Any, depth: int, path: FilePath) -> Json:
    """Library types to plain ones. Dates become text: no parameter takes one."""
    if depth == 0:
        raise StartError(f"{path} is nested too deeply")
    if isinstance(value, MutableMapping):
        return {str(key): _plain(item, depth - 1, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth - 1, path) for item in value]
    if value is None or isinstance(value, bool):
        return value
    for scalar in (int, float, str):
        if isinstance(value, scalar):
            return scalar(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise StartError(f"{path} holds a value of a type that settings do not have: {type(value).__name__}")
