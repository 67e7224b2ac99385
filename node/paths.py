"""Files and folders that settings name: ``~`` is the user's home, a relative path counts from the root folder.

The file keeps paths as people wrote them, so that a root folder can be moved; everybody else sees them resolved.
"""

import os
from collections.abc import Mapping
from pathlib import Path as FilePath

from node.parameter import Json, Kind, Path
from node.parameters import PARAMETERS
from node.tree import get_value, set_value

ROOT_PATH: Path = ("rootPath",)
_TLS_SECTIONS = (("tls",), ("operationsApi", "tls"))
_TLS_FILES = ("privateKey", "certificate", "certificateAuthority")


def resolved_path(text: str, root: FilePath) -> FilePath:
    """The file that ``text`` names. Links are not followed."""
    return FilePath(root, os.path.expanduser(text))


def resolve_paths(document: dict[str, Json], root: FilePath) -> None:
    """Make every path in ``document`` absolute, and its root path the one that the node runs with."""
    for parameter in PARAMETERS:
        value = get_value(document, parameter.path)
        if Kind.PATH in parameter.kinds and value is not None:
            set_value(document, parameter.path, _resolved(value, root))
    for section in _TLS_SECTIONS:
        entries = get_value(document, section)
        if isinstance(entries, list):
            set_value(document, section, [_resolved_entry(entry, _TLS_FILES, root) for entry in entries])
    databases = document.get("databases")
    if isinstance(databases, dict):
        keys = ("path", "auditPath")
        document["databases"] = {name: _resolved_entry(entry, keys, root) for name, entry in databases.items()}
    document["rootPath"] = str(root)


def _resolved(value: Json, root: FilePath) -> Json:
    if isinstance(value, list):
        return [_resolved(item, root) for item in value]
    return str(resolved_path(value, root)) if isinstance(value, str) and value else value


def _resolved_entry(entry: Json, keys: tuple[str, ...], root: FilePath) -> Json:
    if not isinstance(entry, Mapping):
        return entry
    return {key: _resolved(value, root) if key in keys else value for key, value in entry.items()}
