"""Searches: by primary key, by one value, by conditions; and what nodes ask each other for."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import trio

from ops import search_params
from ops.access import WILDCARDS, readable_attributes, requested_attributes
from ops.context import Context
from ops.errors import InvalidParams
from ops.operation import Operation, SuperUser, TableRights, operation
from ops.params import DatabaseName, ListOf, TableName
from ops.resident_pages import ResidentPages, whole_records
from ops.residents import FETCH_RECORDS, KEYS_MAX, encoded_version, held_versions
from ops.results import RecordList, RecordStream
from ops.search_params import BoundSearch, IdSearch, bind, check_known, names_in_search
from ops.selection import compile_selection, selected_names
from ops.system_tables import SYSTEM
from storage.database import Database
from storage.errors import TableNotFound
from storage.query import explained
from storage.schema import Table
from storage.transaction import stored_key_of

IDS_AT_ONCE: Final = 150
"""Records that are read by id before other tasks get their turn."""
READS: Final = TableRights(("read",), names_in_search)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRecords:
    database: DatabaseName
    table: TableName
    keys: Annotated[list[Any], ListOf()]


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
        records.extend(await whole_records(ctx, params, part, selection, is_single=len(stored_keys) == 1))
        if len(part) < len(stored_keys):
            await trio.lowlevel.checkpoint()
    return RecordList(records=records, columns=selection.columns)


@operation("search_by_value", needs=READS, read=search_params.read_value_search)
async def search_by_value(ctx: Context, params: search_params.Search) -> RecordList:
    """Records whose attribute equals a value, or matches one with ``*`` at its ends."""
    database = ctx.catalog.database(params.database)
    bound = _bound(ctx, database, params)
    search = ResidentPages(ctx, database, params, bound)
    records: list[dict[str, Any]] = []
    while (page := await search.next_page()) is not None:
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
    search = ResidentPages(ctx, database, params, bound)
    first = await search.next_page()
    return RecordStream(pages=_pages(first, search), columns=bound.selection.columns)


@operation(FETCH_RECORDS, needs=SuperUser("fetchRecords"), params=FetchRecords, is_logged=False)
async def fetch_records(ctx: Context, params: FetchRecords) -> list[list[Any] | None]:
    """What this node holds in full of the records with these keys, for a node that does not.

    For each key its stamp and record, null where there is none. The answer may end before the last key: the rest is to
    be asked for again.
    """
    if params.database == SYSTEM:
        raise InvalidParams("Records of database 'system' are held by every node")
    if not 0 < len(params.keys) <= KEYS_MAX:
        raise InvalidParams(f"'keys' must have 1 to {KEYS_MAX} items")
    return [encoded_version(version) for version in held_versions(ctx, params.database, params.table, params.keys)]


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


async def _pages(first: list[dict[str, Any]] | None, search: ResidentPages) -> AsyncGenerator[Sequence[Any], None]:
    page = first
    while page is not None:
        yield page
        page = await search.next_page()


OPERATIONS: Final[tuple[Operation, ...]] = (search_by_id, search_by_value, search_by_conditions, fetch_records)
