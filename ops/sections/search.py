"""Searches: by primary key, by one value, by conditions."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any, Final

import trio

from ops import search_params
from ops.access import WILDCARDS, readable_attributes, requested_attributes
from ops.context import Context
from ops.errors import InvalidParams
from ops.operation import Operation, TableRights, operation
from ops.results import RecordList, RecordStream
from ops.search_params import BoundSearch, IdSearch, bind, check_known, names_in_search
from ops.selection import Selection, compile_selection, selected_names
from ops.system_tables import SYSTEM
from storage.database import Database
from storage.errors import TableNotFound
from storage.query import Search, explained
from storage.schema import Table
from storage.transaction import stored_key_of

INLINE_COST_MAX: Final = 500.0
"""Rows that are read on the event loop, which takes 1 to 2 ms. In threads such searches hold each other up, as each needs
the interpreter all the time: 32 clients asking for 220 rows got half as many answers that way."""
IDS_AT_ONCE: Final = 150
"""Records that are read by id before other tasks get their turn."""
READS: Final = TableRights(("read",), names_in_search)


@operation("search_by_id", needs=READS, read=search_params.read_id_search, aliases=("search_by_hash",))
async def search_by_id(ctx: Context, params: IdSearch) -> RecordList:
    """Records in the order of ``ids``; ids without a record are left out."""
    database = ctx.catalog.database(params.database)
    with database.read() as tx:
        table = tx.table(params.table)
    elements = _requested(ctx, table, params.get_attributes)
    if params.database != SYSTEM:
        check_known(selected_names(elements), table, status=500)
    selection = compile_selection(elements, table)
    stored_keys = [stored_key_of(key) for key in params.ids]
    records: list[dict[str, Any]] = []
    for start in range(0, len(stored_keys), IDS_AT_ONCE):
        part = stored_keys[start : start + IDS_AT_ONCE]
        records.extend(_records_under(database, params.table, part, selection))
        if len(part) < len(stored_keys):
            await trio.lowlevel.checkpoint()
    return RecordList(records=records, columns=selection.columns)


@operation("search_by_value", needs=READS, read=search_params.read_value_search)
async def search_by_value(ctx: Context, params: search_params.Search) -> RecordList:
    """Records whose attribute equals a value, or matches one with ``*`` at its ends."""
    database = ctx.catalog.database(params.database)
    bound = _bound(ctx, database, params)
    search = Search(database, params.table, bound.query)
    records: list[dict[str, Any]] = []
    while (page := await _next_page(search, bound.selection)) is not None:
        records.extend(page)
    return RecordList(records=records, columns=bound.selection.columns)


@operation("search_by_conditions", needs=READS, read=search_params.read_condition_search)
async def search_by_conditions(ctx: Context, params: search_params.Search) -> RecordStream | dict[str, Any]:
    """Records for which conditions hold, sorted and limited; sent as they are found."""
    database = ctx.catalog.database(params.database)
    try:
        bound = _bound(ctx, database, params)
    except TableNotFound as error:
        raise InvalidParams(f"Table {params.table} not found") from error
    if params.explain:
        plan = explained(database, params.table, bound.query)
        return {**plan, "selectApplied": params.get_attributes is not None}
    search = Search(database, params.table, bound.query)
    first = await _next_page(search, bound.selection)
    return RecordStream(pages=_pages(first, search, bound.selection), columns=bound.selection.columns)


def _bound(ctx: Context, database: Database, params: search_params.Search) -> BoundSearch:
    with database.read() as tx:
        table = tx.table(params.table)
    elements = _requested(ctx, table, params.get_attributes)
    return bind(replace(params, get_attributes=elements), table)


def _requested(ctx: Context, table: Table, elements: list[Any] | None) -> list[Any] | None:
    """The selection that this user gets: only readable attributes where its role lists some."""
    if ctx.user is None:
        return elements
    if elements is None or not any(isinstance(element, dict) for element in elements):
        requested = requested_attributes(ctx.user, table, elements)
        return None if requested is None else list(requested)
    readable = readable_attributes(ctx.user, table)
    if readable is None:
        return elements
    return [name for element in elements for name in (readable if element in WILDCARDS else (element,))]


def _records_under(
    database: Database, table_name: str, stored_keys: Sequence[bytes], selection: Selection
) -> list[dict[str, Any]]:
    """What is shown of the records under these keys, as far as there are, in one snapshot."""
    with database.read() as tx:
        table = tx.table(table_name)
        rows = (tx.row(table, stored_key) for stored_key in stored_keys)
        return [selection.of(tx.record(table, row), row) for row in rows if row is not None]


async def _pages(
    first: list[dict[str, Any]] | None, search: Search, selection: Selection
) -> AsyncGenerator[Sequence[Any], None]:
    page = first
    while page is not None:
        yield page
        page = await _next_page(search, selection)


async def _next_page(search: Search, selection: Selection) -> list[dict[str, Any]] | None:
    """The next page as it is shown; read in a worker thread where it may take long."""

    def read() -> list[dict[str, Any]] | None:
        page = search.next_page()
        return None if page is None else selection.of_page(page)

    if search.is_done or search.plan.cost <= INLINE_COST_MAX:
        return read()
    return await trio.to_thread.run_sync(read)


OPERATIONS: Final[tuple[Operation, ...]] = (search_by_id, search_by_value, search_by_conditions)
