"""Users with their live role, read from the system database.

An account is kept with the two rows it was made of, and each use compares those with what stands in the database now.
So a change on any worker or node, by an operation or by replication, takes effect at the next request, and nobody has
to tell anybody to forget something.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ops.context import User
from ops.passwords import StoredPassword
from ops.recently_used import RecentlyUsed
from ops.super_users import grants_everything, is_active
from ops.system_records import find_key, stored_records
from ops.system_tables import ROLES, SYSTEM, USERS
from storage.keys import encode_scalar, stored
from storage.record import Row
from storage.schema import CREATED_TIME, Table
from storage.transaction import ReadTransaction

ACCOUNTS_MAX: Final = 4096
ROLES_MAX: Final = 1024
NAME_LENGTH_MAX: Final = 250
"""Characters of a new user's name."""
SECRET_ATTRIBUTES: Final = frozenset(("password", "hash_function"))
SUPER_USER: Final = "super_user"
"""Name and id of the role that is made at the first start."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Account:
    """A user as stored, and the rows that say so. Two accounts are the same only where they are one object."""

    user: User
    password: StoredPassword | None = field(repr=False)
    created_ms: float
    """When the record was made. What was handed out to an earlier user of the same name is older."""
    user_key: bytes
    user_row: Row = field(repr=False)
    role_key: bytes | None
    role_row: Row | None = field(repr=False)


class Accounts:
    """Accounts by user name; keeps the last ones used. For use on the event loop."""

    def __init__(self) -> None:
        self._accounts: RecentlyUsed[str, Account] = RecentlyUsed(ACCOUNTS_MAX)
        self._roles: RecentlyUsed[bytes, tuple[Row, Mapping[str, Any] | None]] = RecentlyUsed(ROLES_MAX)
        self._local: tuple[int, Account | None] = (-1, None)

    def get(self, tx: ReadTransaction, name: str) -> Account | None:
        """The account as it stands in ``tx``; None for an unknown user. The same object as long as nothing changed."""
        tables = tx.schema().tables
        kept = self._accounts.get(name)
        if kept is not None and tx.row(tables[USERS], kept.user_key) == kept.user_row:
            role_now = None if kept.role_key is None else tx.row(tables[ROLES], kept.role_key)
            if role_now == kept.role_row:
                return kept
        account = self._read(tx, tables, name)
        if account is None:
            self._accounts.discard(name)
        else:
            self._accounts.put(name, account)
        return account

    def first_super_user(self, tx: ReadTransaction) -> Account | None:
        """The account that a local request without credentials runs as: the first active user with the role
        ``super_user``, else the first one with another role that grants everything.

        Looked for again when anything was committed to the system database.
        """
        lseq, found = self._local
        if lseq != tx.head().lseq or (found is not None and self.get(tx, found.user.name) is not found):
            self._local = (tx.head().lseq, self._find_super_user(tx))
        return self._local[1]

    def _find_super_user(self, tx: ReadTransaction) -> Account | None:
        tables = tx.schema().tables
        roles = stored_records(tx, tables[ROLES])
        granting = [role for role in roles if grants_everything(role) and isinstance(role["id"], str)]
        granting.sort(key=lambda role: role.get("role") != SUPER_USER)
        for role in granting:
            for user in users_of_role(tx, tables[USERS], role["id"]):
                name = user["username"]
                account = self.get(tx, name) if is_active(user) and isinstance(name, str) else None
                if account is not None:
                    return account
        return None

    def _read(self, tx: ReadTransaction, tables: Mapping[str, Table], name: str) -> Account | None:
        user_key = find_key(name)
        user_row = None if user_key is None else tx.row(tables[USERS], user_key)
        if user_key is None or user_row is None:
            return None
        record = tx.record(tables[USERS], user_row)
        role_key = find_key(record.get("role"))
        role_row = None if role_key is None else tx.row(tables[ROLES], role_key)
        role = None if role_key is None or role_row is None else self._role(tx, tables[ROLES], role_key, role_row)
        return Account(
            user=_user(name, record, role),
            password=StoredPassword.of(record),
            created_ms=record.get(CREATED_TIME) or 0,
            user_key=user_key,
            user_row=user_row,
            role_key=role_key,
            role_row=role_row,
        )

    def _role(self, tx: ReadTransaction, table: Table, key: bytes, row: Row) -> Mapping[str, Any] | None:
        """The role's record, one object for all its users, so that what is worked out of it is worked out once."""
        kept = self._roles.get(key)
        if kept is not None and kept[0] == row:
            return kept[1]
        record = tx.record(table, row)
        role = record if isinstance(record.get("permission"), dict) else None
        self._roles.put(key, (row, role))
        return role


def username_problem(name: Any) -> str | None:
    """What is wrong with the name of a new user."""
    if not isinstance(name, str) or not name:
        return "Username can't be blank"
    if name == SYSTEM:
        return "Username You cannot create tables within the system schema"
    if len(name) > NAME_LENGTH_MAX:
        return f"Username cannot exceed {NAME_LENGTH_MAX} characters"
    return "Username is invalid" if find_key(name) is None else None


def users_of_role(tx: ReadTransaction, table: Table, role_id: str) -> list[dict[str, Any]]:
    """The users that have this role, in the order of their names."""
    value = encode_scalar(role_id)
    assert value is not None, "a role's id is a text"
    low = stored(value)
    keys = [key for _, key in tx.index_entries(table, "role", low=low, high=low + b"\x00")]
    rows = [row for key in keys if (row := tx.row(table, key)) is not None]
    return [record for record in (tx.record(table, row) for row in rows) if record.get("role") == role_id]


def as_local(user: User) -> User:
    """The user as a local request without credentials runs as it."""
    return replace(user, is_local=True)


def _user(name: str, record: Mapping[str, Any], role: Mapping[str, Any] | None) -> User:
    shown = {attribute: value for attribute, value in record.items() if attribute not in SECRET_ATTRIBUTES}
    return User(name=name, role=role, is_active=is_active(record), record=shown)
