"""``get_backup``: a database, or some of its tables, as one file, while the node runs.

The file is made under the node's root first and then sent, so that a slow client holds no snapshot open. It is a data
file of the node's own storage format: ``storage/snapshot.py`` says how to put it back.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any, Final

import trio

from ops.compression import HEADERS as GZIP_HEADERS
from ops.compression import accepts_gzip
from ops.context import Context
from ops.errors import OperationError
from ops.operation import Operation, SuperUser, operation
from ops.params import DatabaseName, Flag, ListOf, TableName
from ops.results import Download
from ops.target import DEFAULT_DATABASE
from ops.temporary_files import SentFile, new_path, open_unlinked
from storage.database import Database
from storage.snapshot import Backup, backup_database, backup_tables

AT_ONCE: Final = 2
"""Backups made at the same time: each is a file as large as its database."""
_places = trio.CapacityLimiter(AT_ONCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBackup:
    """``tables`` wins over ``table``; without both it is the whole database, whose log is always in."""

    database: DatabaseName = DEFAULT_DATABASE
    table: TableName | None = None
    tables: Annotated[list[Any] | None, ListOf()] = None
    include_audit: Flag = False


@operation("get_backup", needs=SuperUser("getBackup"), params=GetBackup, is_download=True)
async def get_backup(ctx: Context, params: GetBackup) -> Download:
    """A consistent snapshot of a database, or of some of its tables, as a file."""
    database = ctx.catalog.database(params.database)
    names = _known_tables(database, params)

    def make() -> tuple[Backup, IO[bytes]]:
        path = new_path(ctx.services.settings.root_path, "backup")
        return _make(database, path, names, include_audit=params.include_audit)

    backup, file = await trio.to_thread.run_sync(make, limiter=_places)
    compresses = accepts_gzip(ctx.request.headers)
    return Download(
        chunks=SentFile(file, compresses=compresses),
        headers=tuple(_headers(params.database, backup, compresses=compresses)),
    )


def _known_tables(database: Database, params: GetBackup) -> list[str] | None:
    """The tables to copy, None for all. Only the first has to exist; the reference calls that a failure of its own."""
    wanted = params.tables
    if wanted is None:
        if params.table is None:
            return None
        wanted = [params.table]
    with database.read() as tx:
        known = tx.schema().tables
    first = wanted[0] if wanted else "undefined"
    if not wanted or not isinstance(first, str) or first not in known:
        raise OperationError(f"Can not find table {first}", status=500)
    return [name for name in wanted if isinstance(name, str) and name in known]


def _make(database: Database, path: Path, names: list[str] | None, *, include_audit: bool) -> tuple[Backup, IO[bytes]]:
    if names is None:
        backup = backup_database(database, path)
    else:
        backup = backup_tables(database, path, names, include_audit=include_audit)
    return backup, open_unlinked(path)


def _headers(database: str, backup: Backup, *, compresses: bool) -> list[tuple[str, str]]:
    file_name = database.replace("\\", "\\\\").replace('"', '\\"')
    taken_at = datetime.fromtimestamp(backup.taken_at_ms / 1000, UTC)
    headers = [
        ("content-type", "application/octet-stream"),
        ("content-disposition", f'attachment; filename="{file_name}"'),
        ("x-snapshot-time", f"{taken_at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"),
    ]
    return [*headers, *GZIP_HEADERS] if compresses else headers


OPERATIONS: Final[tuple[Operation, ...]] = (get_backup,)
