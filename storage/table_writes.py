"""Insert, update, upsert and delete: what a request for records means for a table. Used inside a write transaction.

All of a request's records are one transaction. Updates replace top-level attributes; there is no deep merge. A
dynamic table learns attributes from the records, in order of first appearance; in a schema-defined one undeclared
attributes are stored but neither declared nor indexed. A key that occurs twice in a request is applied in order.
"""

import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from storage.elsewhere import ChooseResidents, Version
from storage.errors import InvalidKey, RecordsElsewhere
from storage.keys import encode_primary_key, stored
from storage.schema import CREATED_TIME, UPDATED_TIME, Attribute, Table, check_attribute_name
from storage.write_transaction import WriteTransaction

Mode: TypeAlias = Literal["insert", "update", "upsert"]

FIRST_KEY_BELOW: Final = 1 << 49
FIRST_INT_KEY_BELOW: Final = 1 << 31
INT_KEY_MAX: Final = (1 << 31) - 1


@dataclass(slots=True)
class Written:
    """Keys in the order of the request: those written and those left alone."""

    written: list[Any] = field(default_factory=list)
    skipped: list[Any] = field(default_factory=list)


def write_records(
    tx: WriteTransaction,
    table_name: str,
    records: Sequence[dict[str, Any]],
    mode: Mode,
    *,
    expires_at_ms: int | None = None,
    choose_residents: ChooseResidents | None = None,
    fetched: Mapping[bytes, Version] = MappingProxyType({}),
) -> Written:
    """Stage ``records`` by the rules of ``mode``. Raises ``StorageError`` types; nothing is written then.

    The dictionaries are not changed. For ``update`` every record must carry its primary key: the caller has checked
    that. ``fetched`` are records that other nodes hold, by stored key; ``RecordsElsewhere`` names all that are missing.
    """
    table = tx.table(table_name)
    if table.is_dynamic:
        table = _learn_attributes(tx, table, records)
    tx.use_fetched(table, fetched)
    primary_key = table.primary_key
    result = Written()
    missing: list[bytes] = []
    for sent in records:
        key = sent.get(primary_key)
        if key is None:
            key, stored_key = _generate_key(tx, table)
            sent = {primary_key: key, **{name: value for name, value in sent.items() if name != primary_key}}
        else:
            stored_key = stored(encode_primary_key(key))
        if mode == "insert":
            if tx.exists(table, stored_key):
                result.skipped.append(key)
                continue
            current = None
        else:
            try:
                current = tx.record(table, stored_key)
            except RecordsElsewhere as error:
                missing.extend(error.stored_keys)
                continue
        if current is not None:
            tx.put(
                table,
                key,
                stored_key,
                {**current, **sent},
                changed=[name for name in sent if name != primary_key],
                expires_at_ms=expires_at_ms,
                choose_residents=choose_residents,
            )
        elif mode == "update":
            result.skipped.append(key)
            continue
        else:
            tx.put(
                table,
                key,
                stored_key,
                dict(sent),
                expires_at_ms=expires_at_ms,
                choose_residents=choose_residents,
            )
        result.written.append(key)
    if missing:
        raise RecordsElsewhere(table.database, table_name, missing)
    return result


def delete_records(tx: WriteTransaction, table_name: str, ids: Sequence[Any]) -> None:
    """Stage the deletes. Keys are matched by type; one that is not here is deleted all the same."""
    table = tx.table(table_name)
    for key in ids:
        tx.delete(table, key, stored(encode_primary_key(key)))


def _learn_attributes(tx: WriteTransaction, table: Table, records: Sequence[dict[str, Any]]) -> Table:
    """Add what these records bring, indexed. Client values of the two times are replaced, hence declare nothing."""
    known = table.attributes.keys()
    seen = {name: None for record in records if not record.keys() <= known for name in record}
    for name in seen:
        if name not in known and name not in (CREATED_TIME, UPDATED_TIME):
            check_attribute_name(name)
            table = tx.add_attribute(table, Attribute(name=name, indexed=True))
    return table


def _generate_key(tx: WriteTransaction, table: Table) -> tuple[Any, bytes]:
    """A key that no record has: a taken one is drawn again, never reported as skipped."""
    generate = _key_generator(tx, table)
    while True:
        key = generate()
        stored_key = stored(encode_primary_key(key))
        if not tx.exists(table, stored_key):
            return key, stored_key


def _key_generator(tx: WriteTransaction, table: Table) -> Callable[[], Any]:
    attribute = table.attributes.get(table.primary_key)
    kind = attribute.type if attribute else None
    if kind in ("String", "ID"):
        return lambda: str(uuid.uuid4())
    if kind == "Int":
        return lambda: _next_int_key(tx, table)
    return lambda: tx.next_generated_key(table, lambda: secrets.randbelow(FIRST_KEY_BELOW))


def _next_int_key(tx: WriteTransaction, table: Table) -> int:
    key = tx.next_generated_key(table, lambda: secrets.randbelow(FIRST_INT_KEY_BELOW))
    if key > INT_KEY_MAX:
        raise InvalidKey("No generated keys are left for this table")
    return key
