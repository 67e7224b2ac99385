"""Checks the databases of a root folder, those of a running node too.

Each database is read through its own read transaction, so writes of a running node neither wait nor show up half done.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import click

from node.configuration_file import ConfigurationFile
from node.errors import StartError
from node.modes import with_defaults
from node.paths import resolve_paths
from storage.catalog import read_name

Check: TypeAlias = Callable[[FilePath], Sequence[object]]
"""Everything wrong with the database in a folder; each problem's text is what people read."""
_DATA_FILE = "data.mdb"
_UNDER_WAY = "."
"""Folders with this first letter are databases that are being made or removed."""


def verify_root(root: FilePath, databases: Collection[str], check: Check) -> int:
    """Check the named databases of ``root`` (all when none is named) and print each problem. The exit code is returned.

    Raises ``StartError`` for a name that no database has.
    """
    found = dict(database_folders(root))
    unknown = sorted(set(databases) - found.keys())
    if unknown:
        raise StartError(f"No database '{unknown[0]}' in {root}")
    wanted = [(name, folder) for name, folder in sorted(found.items()) if not databases or name in databases]
    counts = [_verify(name, check(folder)) for name, folder in wanted]
    return 1 if any(counts) else 0


def database_folders(root: FilePath) -> Iterator[tuple[str, FilePath]]:
    """Name and folder of each database that is on the disk."""
    document = _document(root)
    single = [FilePath(entry["path"]) for entry in _entries(document.get("databases"))]
    for parent in (databases_folder(root), *single):
        for folder in sorted(parent.iterdir()) if parent.is_dir() else ():
            if (folder / _DATA_FILE).exists() and not folder.name.startswith(_UNDER_WAY):
                yield read_name(folder), folder


def databases_folder(root: FilePath) -> FilePath:
    """Where databases are that have no place of their own."""
    return FilePath(_document(root)["storage"]["path"])


def _document(root: FilePath) -> dict[str, Any]:
    document = with_defaults(ConfigurationFile.load(root).plain(), "prod")
    resolve_paths(document, root)
    return document


def _entries(databases: object) -> list[Mapping[str, str]]:
    entries = databases.values() if isinstance(databases, Mapping) else ()
    return [entry for entry in entries if isinstance(entry, Mapping) and entry.get("path")]


def _verify(name: str, problems: Sequence[object]) -> int:
    """Print what is wrong with one database; how many problems."""
    click.echo(f"{name}: " + ("ok" if not problems else f"{len(problems)} problem(s)"))
    for problem in problems:
        click.echo(f"  {problem}")
    return len(problems)
