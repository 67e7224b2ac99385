"""Figures of tables that describe operations show: record count, sizes and the time of the newest write.

Counts and sizes come from counters. The newest write is looked for in the newest part of the log only, as a table that
rests would cost a walk through all of it; behind that the newest record of an indexed update time stands for it, which
does not know of deletes. A table with neither has no such time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from storage.page_statistics import log_pages, table_bytes
from storage.schema import Table
from storage.transaction import ReadTransaction

LOG_BYTES_MAX: Final = 1 << 20
"""Payload bytes of the log looked through for newest writes: some milliseconds."""
_ENTRY_BYTES: Final = 200
"""What an entry counts beside its payload, so that many small ones end the search as well."""
_ROWS_MAX: Final = 100
"""Index entries looked at for one whose record has not expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFigures:
    """``last_write_ts`` is microseconds since 1970, None where no write is known."""

    record_count: int
    table_bytes: int
    database_bytes: int
    log_bytes: int
    last_write_ts: int | None


def measure_tables(tx: ReadTransaction, tables: Iterable[Table]) -> list[tuple[Table, TableFigures]]:
    """Each of the tables with its figures, all of one snapshot."""
    tables = tuple(tables)
    last_writes = _last_writes(tx, tables)
    database_bytes = tx.environment.file_bytes()
    log_bytes = log_pages(tx).size_bytes
    return [
        (
            table,
            TableFigures(
                record_count=tx.record_count(table),
                table_bytes=table_bytes(tx, table),
                database_bytes=database_bytes,
                log_bytes=log_bytes,
                last_write_ts=last_writes.get(table.id),
            ),
        )
        for table in tables
    ]


def _last_writes(tx: ReadTransaction, tables: Iterable[Table]) -> dict[int, int]:
    """Table id -> ``ts`` of the newest write that is known."""
    wanted = {table.name: table for table in tables}
    found: dict[int, int] = {}
    for ts, names in _newest_entries(tx):
        for name in names & wanted.keys():
            table = wanted[name]
            if ts >= table.definition.created:
                found[table.id] = ts
                del wanted[name]
        if not wanted:
            return found
    for table in wanted.values():
        last = _newest_row(tx, table)
        if last is not None:
            found[table.id] = last
    return found


def _newest_entries(tx: ReadTransaction) -> Iterator[tuple[int, set[str]]]:
    """``ts`` and tables of the log's newest transactions, newest first."""
    read_bytes = 0
    for entry in tx.log.read_before():
        if entry.header.kind == "tx":
            yield entry.header.ts, {write["t"] for write in entry.writes()}
        read_bytes += len(entry.payload) + _ENTRY_BYTES
        if read_bytes >= LOG_BYTES_MAX:
            return


def _newest_row(tx: ReadTransaction, table: Table) -> int | None:
    name = next((a.name for a in table.updated_time_attributes if a.name in table.index_ids), None)
    if name is None:
        return None
    entries = islice(tx.index_entries(table, name, reverse=True), _ROWS_MAX)
    rows = (tx.row(table, stored_key) for _, stored_key in entries)
    return next((row.ts for row in rows if row is not None), None)
