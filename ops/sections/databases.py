"""Databases: describing them and their tables, creating and dropping them.

A database can go while it is being described: one that does counts as never seen by ``describe_all``, and as not found
where it was asked for by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

from ops.access import sees_database, visible_attributes, visible_tables
from ops.context import Context
from ops.describe import describe_table as description_of
from ops.fan_out import with_answers_of_peers
from ops.operation import AnyUser, Describe, Operation, StructureUser, operation
from ops.params import DatabaseName, Flag, NewDatabaseName, TableName
from ops.system_tables import SYSTEM
from ops.target import DEFAULT_DATABASE
from storage.database import Database
from storage.errors import DatabaseClosed, DatabaseNotFound
from storage.schema import Table
from storage.table_figures import TableFigures, measure_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeAll:
    """Counts are exact whether or not that is asked for; this build has no computed attributes."""

    exact_count: Flag = False
    include_computed: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeDatabase:
    database: DatabaseName = DEFAULT_DATABASE
    exact_count: Flag = False
    include_computed: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTable:
    database: DatabaseName = DEFAULT_DATABASE
    table: TableName
    exact_count: Flag = False
    include_computed: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDatabase:
    database: NewDatabaseName = DEFAULT_DATABASE


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDatabase:
    database: DatabaseName
    replicated: Flag = False


@operation("describe_all", needs=AnyUser(), params=DescribeAll)
async def describe_all(ctx: Context, params: DescribeAll) -> dict[str, Any]:
    """All databases and tables that the user may see; empty databases come last."""
    found: dict[str, dict[str, Any]] = {}
    for name in ctx.catalog.names:
        if name == SYSTEM:
            continue
        try:
            measured = await _measure(ctx.catalog.database(name))
        except (DatabaseNotFound, DatabaseClosed):
            continue
        if _is_visible(ctx, name, measured):
            found[name] = _describe(ctx, measured)
    return dict(sorted(found.items(), key=lambda item: not item[1]))


@operation("describe_database", needs=Describe(), params=DescribeDatabase, aliases=("describe_schema",))
async def describe_database(ctx: Context, params: DescribeDatabase) -> dict[str, Any]:
    """The tables of one database that the user may see, by name."""
    return _describe(ctx, await _measure_named(ctx, params.database))


@operation("describe_table", needs=Describe(of_table=True), params=DescribeTable)
async def describe_table(ctx: Context, params: DescribeTable) -> dict[str, Any]:
    """One table: its attributes, settings, record count and sizes."""
    (measured,) = await _measure_named(ctx, params.database, params.table)
    return _describe_one(ctx, *measured)


@operation(
    "create_database",
    needs=StructureUser("createSchema", of_database=False),
    params=CreateDatabase,
    aliases=("create_schema",),
)
async def create_database(ctx: Context, params: CreateDatabase) -> str:
    """Create an empty database."""
    await ctx.catalog.create(params.database)
    return f"database '{params.database}' successfully created"


@operation(
    "drop_database",
    needs=StructureUser("dropSchema", of_database=False),
    params=DropDatabase,
    aliases=("drop_schema",),
)
async def drop_database(ctx: Context, params: DropDatabase) -> dict[str, Any]:
    """Remove a database with all its tables, records, indexes and audit entries. Not reversible."""
    await ctx.catalog.drop(params.database)
    return await with_answers_of_peers(ctx, f"successfully deleted '{params.database}'", replicated=params.replicated)


def _measured(database: Database, table: str | None) -> list[tuple[Table, TableFigures]]:
    with database.read() as tx:
        return measure_tables(tx, tx.schema().tables.values() if table is None else (tx.table(table),))


async def _measure(database: Database, table: str | None = None) -> list[tuple[Table, TableFigures]]:
    """In a worker thread: it looks through a part of the log, and at what has expired."""
    return await trio.to_thread.run_sync(_measured, database, table)


async def _measure_named(ctx: Context, name: str, table: str | None = None) -> list[tuple[Table, TableFigures]]:
    try:
        return await _measure(ctx.catalog.database(name), table)
    except DatabaseClosed as error:
        raise DatabaseNotFound(name) from error


def _tables(measured: list[tuple[Table, TableFigures]]) -> Mapping[str, Table]:
    return {table.name: table for table, _ in measured}


def _is_visible(ctx: Context, name: str, measured: list[tuple[Table, TableFigures]]) -> bool:
    assert ctx.user is not None, "describing needs a user"
    return sees_database(ctx.user, name, _tables(measured))


def _describe(ctx: Context, measured: list[tuple[Table, TableFigures]]) -> dict[str, Any]:
    assert ctx.user is not None, "describing needs a user"
    visible = visible_tables(ctx.user, _tables(measured))
    return {table.name: _describe_one(ctx, table, figures) for table, figures in measured if table.name in visible}


def _describe_one(ctx: Context, table: Table, figures: TableFigures) -> dict[str, Any]:
    assert ctx.user is not None, "describing needs a user"
    return description_of(
        table,
        figures,
        audits_by_default=ctx.services.settings.audit_log,
        attributes=visible_attributes(ctx.user, table),
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    describe_all,
    describe_database,
    describe_table,
    create_database,
    drop_database,
)
