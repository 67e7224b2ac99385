"""Records of the system tables as a write transaction sees them: what is stored and what it has staged so far.

Rules over several records (a role with users, the last super user) hold only where they are checked inside the
transaction that might break them; another one may have committed since any earlier look.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from storage.errors import InvalidKey
from storage.keys import encode_primary_key, stored
from storage.schema import Table
from storage.transaction import ReadTransaction
from storage.write_transaction import WriteTransaction


def find_key(name: Any) -> bytes | None:
    """Where the record with this text as its primary key stands; None for what cannot be one, so that none is there."""
    try:
        return stored(encode_primary_key(name)) if isinstance(name, str) else None
    except (InvalidKey, UnicodeEncodeError):
        return None


def find_record(tx: WriteTransaction, table: Table, name: Any) -> dict[str, Any] | None:
    """The live record with this text as its primary key, as ``tx`` has left it. Not to be changed in place."""
    key = find_key(name)
    return None if key is None else tx.record(table, key)


def put_record(
    tx: WriteTransaction,
    table: Table,
    record: dict[str, Any],
    *,
    changed: list[str] | None = None,
    lives_s: float | None = None,
) -> None:
    """Stage the whole record, which gets its times when the transaction is sealed; it expires after ``lives_s``."""
    name = record[table.primary_key]
    expires_at_ms = None if lives_s is None else tx.now_ms + int(lives_s * 1000)
    tx.put(table, name, stored(encode_primary_key(name)), record, changed=changed, expires_at_ms=expires_at_ms)


def delete_record(tx: WriteTransaction, table: Table, name: str) -> None:
    tx.delete(table, name, stored(encode_primary_key(name)))


def stored_records(tx: ReadTransaction, table: Table) -> Iterator[dict[str, Any]]:
    """All live records of a table, in the order of their keys."""
    return (tx.record(table, row) for _, row in tx.rows(table))


def find_role_ids(records: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """Ids of the roles with this name; it should be one."""
    return [role.get("id") for role in records if role.get("role") == name]
