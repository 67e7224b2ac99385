"""What ``system_information`` tells of databases and of this process's work. Blocks: for a worker thread.

LMDB keeps no times and no numbers of puts, so those of the reference's fields that would need them are null.
"""

import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psutil

from ops.system_tables import SYSTEM
from storage.catalog import Catalog
from storage.database import Database
from storage.errors import DatabaseClosed, DatabaseNotFound
from storage.page_statistics import Pages, environment_facts, log_pages, row_pages, table_bytes

T = TypeVar("T")

UNKNOWN: Final = (
    "timeStartTxns",
    "timeDuringTxns",
    "timePageFlushes",
    "timeSync",
    "timeTxnWaiting",
    "txns",
    "pageFlushes",
    "pagesWritten",
    "writes",
    "puts",
    "deletes",
)


def table_sizes(catalog: Catalog) -> list[dict[str, Any]]:
    """One element per table, those of ``system`` too. The log is shared by a database's tables, so its size is the same
    for all of them.
    """
    return [size for sizes in _of_databases(catalog, _table_sizes).values() for size in sizes]


def database_metrics(catalog: Catalog) -> dict[str, Any]:
    """The pages of each database but ``system``, by name."""
    metrics = _of_databases(catalog, _metrics)
    metrics.pop(SYSTEM, None)
    return metrics


def thread_facts() -> list[dict[str, Any]]:
    """One element per worker, which is this process: its time on the processor against the time since it began, in
    milliseconds."""
    process = psutil.Process(os.getpid())
    times = process.cpu_times()
    active_ms = (times.user + times.system) * 1000
    idle_ms = max((time.time() - process.create_time()) * 1000 - active_ms, 0.0)
    return [
        {
            "threadId": 1,
            "name": "http",
            "heapTotal": 0,
            "heapUsed": 0,
            "externalMemory": 0,
            "arrayBuffers": 0,
            "sinceLastUpdate": 0,
            "idle": round(idle_ms, 3),
            "active": round(active_ms, 3),
            "utilization": round(active_ms / ((active_ms + idle_ms) or 1.0), 6),
        }
    ]


def _of_databases(catalog: Catalog, read: Callable[[Database], T]) -> dict[str, T]:
    """What ``read`` makes of each database; one that goes away meanwhile is left out."""
    found: dict[str, T] = {}
    for name in catalog.names:
        try:
            found[name] = read(catalog.database(name))
        except (DatabaseNotFound, DatabaseClosed):
            continue
    return found


def _table_sizes(database: Database) -> list[dict[str, Any]]:
    with database.read() as tx:
        log = log_pages(tx)
        return [
            {
                "schema": database.name,
                "table": table.name,
                "table_size": table_bytes(tx, table),
                "record_count": tx.record_count(table),
                "transaction_log_size": log.size_bytes,
                "transaction_log_record_count": log.entries,
            }
            for table in tx.schema().tables.values()
        ]


def _metrics(database: Database) -> dict[str, Any]:
    with database.read() as tx:
        facts = environment_facts(tx)
        tables = {table.name: _page_counts(row_pages(tx, table)) for table in tx.schema().tables.values()}
        audit = _page_counts(log_pages(tx))
    return {
        "tables": tables,
        "pageSize": facts.catalog.page_bytes,
        **_page_counts(facts.catalog),
        "mapSize": facts.map_bytes,
        "lastPageNumber": facts.last_page,
        "lastTxnId": facts.last_transaction,
        "maxReaders": facts.readers_max,
        "numReaders": facts.reader_slots,
        **dict.fromkeys(UNKNOWN),
        "free": {},
        "readers": [{"pid": pid, "thread": thread, "txnid": txnid} for pid, thread, txnid in facts.readers],
        "audit": audit,
    }


def _page_counts(pages: Pages) -> dict[str, int]:
    return {
        "treeDepth": pages.depth,
        "treeBranchPageCount": pages.branch,
        "treeLeafPageCount": pages.leaf,
        "entryCount": pages.entries,
        "overflowPages": pages.overflow,
    }
