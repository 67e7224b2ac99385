"""Records as an answer shows them, those that other nodes hold included.

What is here as an index-only row is fetched from a node that holds it. Of a list, records that nobody reachable holds
are left out and the log says so; a single record that was asked for is an error then.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

import trio

from ops.context import Context
from ops.residents import fetch, no_connection
from ops.search_params import BoundSearch, IdSearch, Search
from ops.selection import Selection
from storage import query
from storage.database import Database
from storage.elsewhere import Elsewhere, Stamps, Version, elsewhere
from storage.matching import predicate
from storage.record import NOT_RESIDENT, Row, decode_row, encode_row
from storage.scan import Found

log = logging.getLogger("ops")

INLINE_COST_MAX: Final = 500.0
"""Rows that are read on the event loop, which takes 1 to 2 ms. In threads such searches hold each other up, as each needs
the interpreter all the time: 32 clients asking for 220 rows got half as many answers that way."""


async def whole_records(
    ctx: Context, params: IdSearch, stored_keys: Sequence[bytes], selection: Selection, *, is_single: bool
) -> list[dict[str, Any]]:
    """What is shown of the records under these keys, as far as there are, in one snapshot.

    Raises ``OperationError`` where a record ``is_single`` and none of the nodes that hold it is reachable.
    """
    shown: list[dict[str, Any] | Elsewhere] = []
    with ctx.catalog.database(params.database).read() as tx:
        table, stamps = tx.table(params.table), Stamps(tx)
        for stored_key in stored_keys:
            row = tx.row(table, stored_key)
            if row is None:
                continue
            if row.is_resident:
                shown.append(selection.of(tx.record(table, row), row))
            elif params.asks_residents:
                shown.append(elsewhere(stamps, table, stored_key, row))
    places = [item for item in shown if isinstance(item, Elsewhere)]
    versions = await _fetched(ctx, params.database, params.table, places, is_single=is_single) if places else {}
    records: list[dict[str, Any]] = []
    for item in shown:
        if not isinstance(item, Elsewhere):
            records.append(item)
        elif item.stored_key in versions:
            version = versions[item.stored_key]
            records.append(selection.of(table.visible(version.record, version.stamp.ts), _row_of(version, item.row)))
    return records


class ResidentPages:
    """The pages of a search, as they are shown. A page may be empty."""

    def __init__(self, ctx: Context, database: Database, params: Search, bound: BoundSearch) -> None:
        self._ctx = ctx
        self._database = database
        self._table = params.table
        self._bound = bound
        self._search = query.Search(database, params.table, bound.query, whole_only=not params.asks_residents)
        self._fetches = params.asks_residents and not bound.shows_indexed_only

    async def next_page(self) -> list[dict[str, Any]] | None:
        """The next page, None behind the last; read in a worker thread where it may take long."""
        search, selection = self._search, self._bound.selection

        def read() -> tuple[list[dict[str, Any]] | None, list[Found]]:
            page = search.next_page()
            if page is None or (self._fetches and any(data[0] & NOT_RESIDENT for _, _, data in page)):
                return None, page or []
            return selection.of_page(page), []

        is_inline = search.is_done or search.plan.cost <= INLINE_COST_MAX
        shown, page = read() if is_inline else await trio.to_thread.run_sync(read)
        return selection.of_page(await self._whole(page)) if page else shown

    async def _whole(self, page: Sequence[Found]) -> list[Found]:
        """The page with the whole records, without those that nobody reachable holds, or that do not match any more."""
        with self._database.read() as tx:
            table, stamps = tx.table(self._table), Stamps(tx)
            places = {
                stored_key: elsewhere(stamps, table, stored_key, decode_row(data))
                for stored_key, _, data in page
                if data[0] & NOT_RESIDENT
            }
        versions = await _fetched(self._ctx, self._database.name, self._table, list(places.values()), is_single=False)
        where = self._bound.query.where
        holds = None if where is None else predicate(where, table.primary_key)
        whole: list[Found] = []
        for found in page:
            place = places.get(found[0])
            version = versions.get(found[0])
            if place is None:
                whole.append(found)
            elif version is not None:
                record = table.visible(version.record, version.stamp.ts)
                if holds is None or holds(record):
                    whole.append((found[0], record, encode_row(_row_of(version, place.row))))
        return whole


async def _fetched(
    ctx: Context, database: str, table: str, places: Sequence[Elsewhere], *, is_single: bool
) -> dict[bytes, Version]:
    fetched = await fetch(ctx, database, table, places)
    if fetched.unreachable:
        error = no_connection(fetched.unreachable, ctx.catalog.node)
        if is_single:
            raise error
        log.warning(
            "%d records of '%s.%s' are left out of an answer: %s", len(fetched.unreachable), database, table, error
        )
    return fetched.versions


def _row_of(version: Version, row: Row) -> Row:
    """The row here, with the time of the version that is shown."""
    return row._replace(ts=version.stamp.ts)
