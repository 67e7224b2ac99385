"""Tables and attributes: creating and dropping them. Each is one transaction of the table's database.

Names are checked before anything is created, as creating a table makes its database where that is missing.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from ops.context import Context
from ops.errors import InvalidParams, SystemProtected
from ops.fan_out import with_answers_of_peers
from ops.operation import Operation, StructureUser, operation
from ops.params import (
    NAME_LENGTH_MAX,
    Also,
    Anyhow,
    DatabaseName,
    Flag,
    ListOf,
    NewDatabaseName,
    NewTableName,
    Number,
    Problem,
    TableName,
    Text,
)
from ops.system_tables import SYSTEM
from ops.table_definitions import definition_of
from ops.target import DEFAULT_DATABASE
from storage.errors import AttributeExists, DatabaseExists
from storage.schema import CREATED_TIME, UPDATED_TIME, Attribute, check_attribute_name
from storage.write_transaction import WriteTransaction

EXPIRATION_S_MAX: Final = 10**12
"""Thirty thousand years; a time of expiry stays a number that every client holds exactly."""
NO_CLUSTERING: Final = "Clustering does not appear to be enabled. Cannot insert table with property 'residence'."


@dataclass(frozen=True, slots=True)
class AttributeName:
    """A text; that it is there, and what it may hold, is checked by the rules for attribute names."""

    def convert(self, label: str, value: Any) -> str:
        if not isinstance(value, str):
            raise Problem(f"'{label}' must be a string")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable:
    database: NewDatabaseName = DEFAULT_DATABASE
    table: NewTableName
    primary_key: Annotated[
        str,
        Text(length_max=NAME_LENGTH_MAX, is_name=True, pattern_label="hash_attribute"),
        Also(("hash_attribute",)),
    ]
    attributes: Annotated[list[Any] | None, ListOf()] = None
    expiration: Annotated[int | float | None, Number(at_least=0, at_most=EXPIRATION_S_MAX)] = None
    audit: Flag | None = None
    replicate: Flag | None = None
    residence: Anyhow = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable:
    database: DatabaseName = DEFAULT_DATABASE
    table: TableName
    replicated: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateAttribute:
    database: DatabaseName = DEFAULT_DATABASE
    table: TableName
    attribute: Annotated[str, AttributeName()] = ""
    indexed: Flag = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DropAttribute:
    database: DatabaseName = DEFAULT_DATABASE
    table: TableName
    attribute: Annotated[str, Text()]


@operation("create_table", needs=StructureUser("createTable"), params=CreateTable)
async def create_table(ctx: Context, params: CreateTable) -> str:
    """Create a table, and its database where that is missing."""
    if params.database == SYSTEM:
        raise SystemProtected
    if params.residence is not None:
        raise InvalidParams(NO_CLUSTERING)
    definition = definition_of(
        database=params.database,
        name=params.table,
        primary_key=params.primary_key,
        attributes=params.attributes,
        expiration_s=params.expiration,
        audit=params.audit,
        replicate=params.replicate,
    )
    await _ensure_database(ctx, params.database)
    await ctx.write(params.database, lambda tx: tx.create_table(definition))
    return f"table '{params.database}.{params.table}' successfully created."


@operation("drop_table", needs=StructureUser("dropTable"), params=DropTable)
async def drop_table(ctx: Context, params: DropTable) -> dict[str, Any]:
    """Remove a table with its records, indexes and audit entries. Not reversible."""
    await ctx.write(params.database, lambda tx: tx.drop_table(tx.table(params.table)))
    message = f"successfully deleted table '{params.database}.{params.table}'"
    return await with_answers_of_peers(ctx, message, replicated=params.replicated)


@operation("create_attribute", needs=StructureUser("createAttribute", or_table_right="insert"), params=CreateAttribute)
async def create_attribute(ctx: Context, params: CreateAttribute) -> str:
    """Add an untyped attribute at the end of a table; its index covers the records that are there."""
    check_attribute_name(params.attribute)

    def create(tx: WriteTransaction) -> None:
        table = tx.table(params.table)
        if params.attribute in table.attributes:
            raise AttributeExists(params.database, params.table, params.attribute)
        tx.add_attribute(table, Attribute(name=params.attribute, indexed=params.indexed))

    await ctx.write(params.database, create)
    return f"attribute '{params.database}.{params.table}.{params.attribute}' successfully created."


@operation("drop_attribute", needs=StructureUser("dropAttribute"), params=DropAttribute)
async def drop_attribute(ctx: Context, params: DropAttribute) -> str:
    """Remove an attribute and its index; in a dynamic table its values are no longer returned either."""
    if params.attribute in (CREATED_TIME, UPDATED_TIME):
        raise InvalidParams(f"cannot drop internal timestamp attribute: {params.attribute}")

    def drop(tx: WriteTransaction) -> None:
        table = tx.table(params.table)
        if params.attribute == table.primary_key:
            raise InvalidParams("You cannot drop a hash attribute")
        if params.attribute in table.attributes:
            tx.drop_attribute(table, params.attribute)

    await ctx.write(params.database, drop)
    return f"successfully deleted attribute '{params.attribute}'"


async def _ensure_database(ctx: Context, name: str) -> None:
    """Two requests may find it missing at the same time: the second one's creation comes too late, and that is fine."""
    if name in ctx.catalog.names:
        return
    try:
        await ctx.catalog.create(name)
    except DatabaseExists:
        return


OPERATIONS: Final[tuple[Operation, ...]] = (create_table, drop_table, create_attribute, drop_attribute)
