"""Running a query: pages of records, each page from a snapshot of its own.

No transaction is open between two pages, so a caller may send a page to a slow client before it asks for the next; it
may ask from a worker thread, and from another one each time. What fits one page is one snapshot. Behind that a record
that is changed meanwhile can be met at its old and its new place, or not at all; whatever is delivered satisfies the
query in the snapshot of its delivery.

Memory is bounded by the page and, for an order that is made in memory, by the sort values of all matches (of a limit's
worth where there is one).
"""

from collections.abc import Iterator
from typing import Any, Final

from storage.conditions import Query
from storage.database import Database
from storage.matching import predicate
from storage.planner import Plan, plan_query
from storage.record import Row, decode_row
from storage.scan import CHUNK_MAX, Found, Reader, chunk_sizes
from storage.sorting import Sorter
from storage.step_run import StepRun
from storage.table_statistics import TableStatistics
from storage.transaction import ReadTransaction

PAGE_RECORDS: Final = 1000
EXAMINED_PER_RECORD: Final = 100
"""A page that finds little ends after this many times its records were looked at (about half a second), maybe empty: a
snapshot must not stay open for as long as a large table takes."""
PAGE_BYTES_MAX: Final = 64 << 20
"""Stored bytes after which a page ends early: a thousand large records need not fit into memory together."""


class Search:
    """A planned query and how far it has got. Made and driven outside of any transaction."""

    def __init__(
        self,
        database: Database,
        table_name: str,
        query: Query,
        *,
        page_records: int = PAGE_RECORDS,
        whole_only: bool = False,
    ) -> None:
        """Plan the query; with ``whole_only`` it leaves out records that this node holds the indexed part of.

        Raises ``TableNotFound``, and ``InvalidKey`` where a value has no place in the order.
        """
        self._database = database
        self._page_records = page_records
        with database.read() as tx:
            table = tx.table(table_name)
            self.plan = plan_query(query, table, TableStatistics(tx, table))
            self._reader = Reader(tx, table, chunk_max=min(CHUNK_MAX, page_records), whole_only=whole_only)
        self._found = found_by(self._reader, self.plan)
        self.is_done = False
        """Whether the last page has been delivered."""

    def next_page(self) -> list[Found] | None:
        """The next page, possibly empty; None behind the last. Raises ``NotFound`` where table or index have gone."""
        if self.is_done:
            return None
        page: list[Found] = []
        size_bytes = 0
        with self._database.read() as tx:
            reader = self._reader
            reader.use(tx)
            examined_max = reader.examined + self._page_records * EXAMINED_PER_RECORD
            for found in self._found:
                page.extend(found)
                size_bytes += sum([len(data) for _, _, data in found])
                if len(page) >= self._page_records or reader.examined >= examined_max or size_bytes >= PAGE_BYTES_MAX:
                    return page
        self.is_done = True
        return page


def pages(
    database: Database, table_name: str, query: Query, *, page_records: int = PAGE_RECORDS
) -> Iterator[list[dict[str, Any]]]:
    """The records of a query in pages of about ``page_records``; a page may be empty, the last one always comes."""
    search = Search(database, table_name, query, page_records=page_records)
    while (page := search.next_page()) is not None:
        yield [record for _, record, _ in page]


def row_pages(
    database: Database, table_name: str, query: Query, *, page_records: int = PAGE_RECORDS
) -> Iterator[list[tuple[dict[str, Any], Row]]]:
    """As ``pages``, with each record's row, which tells when it was written and when it expires."""
    search = Search(database, table_name, query, page_records=page_records)
    while (page := search.next_page()) is not None:
        yield [(record, decode_row(data)) for _, record, data in page]


def records_in(tx: ReadTransaction, table_name: str, query: Query) -> Iterator[dict[str, Any]]:
    """All records of a query in one snapshot, which the caller holds and ends; for work that must see one state."""
    table = tx.table(table_name)
    plan = plan_query(query, table, TableStatistics(tx, table))
    for found in found_by(Reader(tx, table), plan):
        for _, record, _ in found:
            yield record


def explained(database: Database, table_name: str, query: Query) -> dict[str, Any]:
    """How the query would run. Reads no record."""
    with database.read() as tx:
        table = tx.table(table_name)
        return plan_query(query, table, TableStatistics(tx, table)).described()


def found_by(reader: Reader, plan: Plan) -> Iterator[list[Found]]:
    """What a plan finds, chunk by chunk. Between two chunks the reader's snapshot may be exchanged."""
    if plan.limit == 0:
        return iter(())
    matches = _matches(reader, plan)
    ordered = _sorted(reader, plan, matches) if plan.sort else matches
    return ordered if plan.limit is None and not plan.offset else _cut(ordered, plan.offset, plan.limit)


def _matches(reader: Reader, plan: Plan) -> Iterator[list[Found]]:
    sizes = chunk_sizes(None if plan.sort else plan.wanted, reader.chunk_max)
    for step in plan.steps:
        yield from StepRun(reader, step, sizes).found()


def _sorted(reader: Reader, plan: Plan, matches: Iterator[list[Found]]) -> Iterator[list[Found]]:
    """Collect, sort, and load what is delivered; a record that has changed meanwhile is tested again."""
    sorter = Sorter(plan.sort, plan.where, reader.table.primary_key, plan.wanted)
    for found in matches:
        sorter.add(found)
        yield []
    holds = None if plan.where is None else predicate(plan.where, reader.table.primary_key)
    stored_keys = sorter.stored_keys()
    for start in range(0, len(stored_keys), reader.chunk_max):
        part = stored_keys[start : start + reader.chunk_max]
        rows = reader.stored_rows(part)
        reader.examined += len(part)
        delivered: list[Found] = []
        for key in part:
            data = rows.get(key)
            record = None if data is None else reader.record_of(data)
            if data is not None and record is not None and (holds is None or holds(record)):
                delivered.append((key, record, data))
        yield delivered


def _cut(chunks: Iterator[list[Found]], offset: int, limit: int | None) -> Iterator[list[Found]]:
    """Without the first ``offset``, and no more than ``limit``."""
    left = limit
    for chunk in chunks:
        skipped = min(offset, len(chunk))
        offset -= skipped
        kept = chunk[skipped:]
        if left is not None:
            kept = kept[:left]
            left -= len(kept)
        yield kept
        if left == 0:
            return
