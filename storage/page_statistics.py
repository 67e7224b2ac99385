"""What a database, its tables and its log take on disk: LMDB's own page counters, so nothing is read to count it.

All of it is asked within a read transaction, which keeps the environment open meanwhile.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from storage.schema import Table
from storage.transaction import ReadTransaction

_READER: Final = re.compile(r"\s*(\d+)\s+(\S+)\s+(\S+)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """One B+tree: its depth, its pages by kind, and its entries."""

    depth: int
    branch: int
    leaf: int
    overflow: int
    entries: int
    page_bytes: int

    @property
    def size_bytes(self) -> int:
        return (self.branch + self.leaf + self.overflow) * self.page_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentFacts:
    """The environment as a whole. ``readers`` are (process, thread, transaction) as LMDB writes them."""

    catalog: Pages
    """The tree that names the sub-databases."""
    map_bytes: int
    last_page: int
    last_transaction: int
    readers_max: int
    reader_slots: int
    readers: tuple[tuple[str, str, str], ...]


def row_pages(tx: ReadTransaction, table: Table) -> Pages:
    """Pages of the table's rows, without tombstones and indexes."""
    return _pages(tx, f"p{table.rows_id}")


def log_pages(tx: ReadTransaction) -> Pages:
    """Pages of the log, which the tables of a database share."""
    return _pages(tx, "log")


def table_bytes(tx: ReadTransaction, table: Table) -> int:
    """What the table's rows, tombstones and indexes take."""
    indexes = (f"i{number}" for number in table.index_ids.values())
    names = (f"p{table.rows_id}", f"p{table.tombstones_id}", *indexes)
    return sum(_pages(tx, name).size_bytes for name in names)


def environment_facts(tx: ReadTransaction) -> EnvironmentFacts:
    environment = tx.environment.lmdb
    info = environment.info()
    return EnvironmentFacts(
        catalog=_decoded(environment.stat()),
        map_bytes=int(info["map_size"]),
        last_page=int(info["last_pgno"]),
        last_transaction=int(info["last_txnid"]),
        readers_max=int(info["max_readers"]),
        reader_slots=int(info["num_readers"]),
        readers=tuple(_READER.findall(environment.readers())),
    )


def _pages(tx: ReadTransaction, name: str) -> Pages:
    return _decoded(tx.txn.stat(tx.environment.handles[name]))


def _decoded(stat: dict[str, Any]) -> Pages:
    return Pages(
        depth=int(stat["depth"]),
        branch=int(stat["branch_pages"]),
        leaf=int(stat["leaf_pages"]),
        overflow=int(stat["overflow_pages"]),
        entries=int(stat["entries"]),
        page_bytes=int(stat["psize"]),
    )
