"""Insert, update, upsert and delete of records."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from ops.authentication import client_of
from ops.context import Context
from ops.errors import InvalidParams
from ops.operation import Operation, TableRights, operation
from ops.params import Also, Anyhow, ListOf, Number, Problem, RecordsDatabase, RecordsTable
from ops.replication_controls import controlled_write, controls_of
from ops.super_users import check_keeps_super_user
from ops.system_tables import SYSTEM, USERS
from storage.elsewhere import Version
from storage.errors import NotFound
from storage.schema import Table
from storage.table_writes import Mode, Written, delete_records, write_records
from storage.write_transaction import WriteTransaction

NO_ATTRIBUTE_NAMES: Final = ("", "null", "undefined")
NO_KEYS: Final = ("null", "undefined")
KEY_IS_MISSING: Final = "a valid hash attribute must be provided with update record, check log for more info"


@dataclass(frozen=True, slots=True)
class Instant:
    """An absolute expiry, epoch milliseconds."""

    def convert(self, label: str, value: Any) -> int:
        number = Number(at_least=0, at_most=1 << 62).convert(label, value)
        return int(number)


@dataclass(frozen=True, slots=True)
class Ids:
    """The keys of a delete; the texts name both spellings."""

    def convert(self, label: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            also = ". 'ids' must be an array" if label == "ids" else ""
            raise Problem(f"'hash_values' must be an array{also}")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRecords:
    database: RecordsDatabase = "data"
    table: RecordsTable
    records: Annotated[list[dict[str, Any]], ListOf(of_objects=True)]
    expiresAt: Annotated[int | None, Instant()] = None
    replicateTo: Anyhow = None
    replicatedConfirmation: Anyhow = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRecords:
    database: RecordsDatabase = "data"
    table: RecordsTable
    ids: Annotated[list[Any], Ids(), Also(("hash_values",), when_missing="hash_values")]
    replicateTo: Anyhow = None
    replicatedConfirmation: Anyhow = None


def names_in_records(body: Mapping[str, Any]) -> list[str]:
    """The attributes that a write touches, in order of first appearance; from the body as sent."""
    records = body.get("records")
    found = (record for record in records if isinstance(record, dict)) if isinstance(records, list) else ()
    return list(dict.fromkeys(name for record in found for name in record))


@operation("insert", needs=TableRights(("insert",), names_in_records), params=WriteRecords)
async def insert(ctx: Context, params: WriteRecords) -> dict[str, Any]:
    """Add records; those whose primary key exists are left alone and reported as skipped."""
    written = await _write(ctx, params, "insert")
    return _told("inserted", params.records, written, inserted_hashes=written.written, skipped_hashes=written.skipped)


@operation("update", needs=TableRights(("update",), names_in_records), params=WriteRecords)
async def update(ctx: Context, params: WriteRecords) -> dict[str, Any]:
    """Replace the named attributes of existing records; keys without a record are skipped."""
    written = await _write(ctx, params, "update")
    return _told("updated", params.records, written, update_hashes=written.written, skipped_hashes=written.skipped)


@operation("upsert", needs=TableRights(("insert", "update"), names_in_records), params=WriteRecords)
async def upsert(ctx: Context, params: WriteRecords) -> dict[str, Any]:
    """Update records that exist, add those that do not."""
    written = await _write(ctx, params, "upsert")
    return _told("upserted", params.records, written, upserted_hashes=written.written)


@operation("delete", needs=TableRights(("delete",)), params=DeleteRecords)
async def delete(ctx: Context, params: DeleteRecords) -> dict[str, Any]:
    """Delete records by primary key; keys that do not exist count as deleted."""
    controls = controls_of(ctx, params.database, params.table, params.replicateTo, params.replicatedConfirmation)
    if any(key is None for key in params.ids):
        raise InvalidParams("Invalid primary key of null")

    def remove(tx: WriteTransaction, _: Mapping[bytes, Version]) -> None:
        delete_records(tx, params.table, params.ids)
        if params.database == SYSTEM:
            check_keeps_super_user(tx)

    await controlled_write(ctx, controls, remove)
    total = len(params.ids)
    noun = "record" if total == 1 else "records"
    return {
        "message": f"{total} of {total} {noun} successfully deleted",
        "deleted_hashes": params.ids,
        "skipped_hashes": [],
    }


def _told(verb: str, records: list[Any], written: Written, **hashes: list[Any]) -> dict[str, Any]:
    return {"message": f"{verb} {len(written.written)} of {len(records)} records", **hashes}


async def _write(ctx: Context, params: WriteRecords, mode: Mode) -> Written:
    controls = controls_of(ctx, params.database, params.table, params.replicateTo, params.replicatedConfirmation)
    _check_names(params.records)
    try:
        table = _table(ctx, params.database, params.table)
        _check_keys(params.records, table.primary_key, mode)
        records = params.records
        if (params.database, params.table) == (SYSTEM, USERS):
            records = await ctx.services.passwords.prepared_users(records, client=client_of(ctx.request))

        def write(tx: WriteTransaction, fetched: Mapping[bytes, Version]) -> Written:
            written = write_records(
                tx,
                params.table,
                records,
                mode,
                expires_at_ms=params.expiresAt,
                choose_residents=controls.choose_residents,
                fetched=fetched,
            )
            if params.database == SYSTEM:
                check_keeps_super_user(tx)
            return written

        return await controlled_write(ctx, controls, write)
    except NotFound as error:
        raise InvalidParams(str(error)) from error


def _table(ctx: Context, database: str, table: str) -> Table:
    with ctx.catalog.database(database).read() as tx:
        return tx.table(table)


def _check_names(records: list[dict[str, Any]]) -> None:
    names = set().union(*records)
    bad = [name for name in NO_ATTRIBUTE_NAMES if name in names]
    if bad:
        raise InvalidParams(". ".join(f"Invalid attribute name: '{name}'" for name in bad))


def _check_keys(records: Iterable[dict[str, Any]], primary_key: str, mode: Mode) -> None:
    for record in records:
        key = record.get(primary_key)
        if mode == "update" and (key is None or key == ""):
            raise InvalidParams(KEY_IS_MISSING)
        if isinstance(key, str) and key in NO_KEYS:
            raise InvalidParams(
                f"Invalid hash value: '{key}' is not a valid hash attribute value, check log for more info"
            )
        if isinstance(key, dict):
            raise InvalidParams("Invalid primary key type: object")


OPERATIONS: Final[tuple[Operation, ...]] = (insert, update, upsert, delete)
