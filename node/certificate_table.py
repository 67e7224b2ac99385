"""``system.hdb_certificate`` read and written: its rows, whether they changed, and the rows that come from files.

The table never leaves this node. What an operation added stays until it is removed or a newer file of the same name
comes; what the node generated gives way to everything else.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from node.certificate_rows import Row
from ops.system_records import delete_record, find_record, put_record, stored_records
from ops.system_tables import SYSTEM
from storage.catalog import Catalog
from storage.errors import DatabaseNotFound, TableNotFound
from storage.schema import UPDATED_TIME
from storage.write_transaction import WriteTransaction

CERTIFICATES: Final = "hdb_certificate"


def read_rows(catalog: Catalog, table: str = CERTIFICATES) -> list[Row]:
    """All rows of a system table, by name; none before a first start has made it."""
    try:
        with catalog.database(SYSTEM).read() as tx:
            return list(stored_records(tx, tx.table(table)))
    except (DatabaseNotFound, TableNotFound):
        return []


class TableWatch:
    """Tells cheaply whether system tables may have changed: their rows are looked at only when the log has grown."""

    def __init__(self, catalog: Catalog, *tables: str) -> None:
        self._catalog = catalog
        self._tables = tables
        self._seen: tuple[int, Hashable] = (-1, ())

    def look(self) -> Hashable:
        """Equal as long as no row came, changed or went."""
        try:
            with self._catalog.database(SYSTEM).read() as tx:
                lseq = tx.head().lseq
                if lseq != self._seen[0]:
                    rows = ((name, key, row.ts) for name in self._tables for key, row in tx.rows(tx.table(name)))
                    self._seen = lseq, tuple(rows)
        except (DatabaseNotFound, TableNotFound):
            return ()
        return self._seen[1]


async def store_file_rows(catalog: Catalog, rows: Iterable[Row]) -> None:
    """Bring the table in line with the rows that files stand for. What is there already is not written again."""
    by_name = {row["name"]: row for row in rows}

    def store(tx: WriteTransaction) -> None:
        table = tx.table(CERTIFICATES)
        for name, row in by_name.items():
            if _gives_way(find_record(tx, table, name), row):
                put_record(tx, table, dict(row))
        for stored in list(tx.records(table)):
            if _is_of_another_name(stored) and stored["name"] not in by_name:
                delete_record(tx, table, stored["name"])

    await catalog.write(SYSTEM, store, is_local=True)


def _gives_way(stored: Mapping[str, Any] | None, row: Row) -> bool:
    """Is ``row`` to take the place of ``stored``?"""
    if stored is None:
        return True
    if all(stored.get(name) == value for name, value in row.items()):
        return False
    if stored.get("is_self_signed"):
        return True
    if row["is_self_signed"]:
        return False
    loaded_at_ms = stored.get("file_timestamp")
    if loaded_at_ms is not None:
        return bool(row["file_timestamp"] >= loaded_at_ms)  # a file can change twice within a millisecond
    return bool(row["file_timestamp"] > stored[UPDATED_TIME])


def _is_of_another_name(stored: Mapping[str, Any]) -> bool:
    """Did the node issue it for itself? Unless that is its own still, it had another name then."""
    return bool(stored.get("is_self_signed")) and not stored.get("is_authority")
