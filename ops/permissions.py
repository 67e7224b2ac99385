"""What a role may do: its stored permission object applied to tables as they stand now. Pure.

A stored object is read as it is, however it came there (a super user may write ``hdb_role`` directly, another node may
have sent it): only the value true grants, and whatever has an unexpected shape grants nothing. A name the object does
not mention is invisible, and what is invisible is reported as if it did not exist.

Results are kept per permission object and per table definition, by identity: both are values that are never changed
but replaced when the role's row or the schema moves on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ops.context import User
from ops.system_tables import SYSTEM
from storage.schema import CREATED_TIME, UPDATED_TIME, Table

RIGHTS: Final = ("read", "insert", "update", "delete")
ATTRIBUTE_RIGHTS: Final = ("read", "insert", "update")
"""Deleting has no attribute level."""
TIMES: Final = frozenset((CREATED_TIME, UPDATED_TIME))
"""Set by the node; a role can have the right to read them and no other."""
KEPT_ROLES: Final = 1024
KEPT_TABLES: Final = 4096

NO_RIGHTS: Final[frozenset[str]] = frozenset()
ONLY_READ: Final = frozenset(("read",))


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePermission:
    """Effective rights on one table.

    ``attributes`` is there for roles with attribute permissions: the rights on each attribute that the role knows of, in
    the order of the schema, a primary key that follows from the others last. Without it every attribute, also one that
    is yet to come, follows the table.
    """

    rights: frozenset[str]
    attributes: Mapping[str, frozenset[str]] | None = None

    @property
    def is_visible(self) -> bool:
        return bool(self.rights)

    def of_attribute(self, name: str) -> frozenset[str]:
        return self.rights if self.attributes is None else self.attributes.get(name, NO_RIGHTS)

    def attributes_with(self, right: str) -> tuple[str, ...]:
        """Names of the attributes with this right; only for roles with attribute permissions."""
        assert self.attributes is not None, "without attribute permissions the table's rights decide"
        return tuple(name for name, rights in self.attributes.items() if right in rights)


EVERYTHING: Final = TablePermission(rights=frozenset(RIGHTS))
NOTHING: Final = TablePermission(rights=NO_RIGHTS)
READING: Final = TablePermission(rights=ONLY_READ)


class Permissions:
    """The effective permissions of one stored permission object."""

    def __init__(self, permission: Mapping[str, Any]) -> None:
        self.is_super_user = permission.get("super_user") is True
        self.is_structure_user = permission.get("structure_user") is True
        """Everywhere but in ``system``, creating and dropping databases included."""
        self.structured_databases = _names(permission.get("structure_user"))
        self._stored = permission
        self._tables: dict[tuple[str, str], tuple[Table, TablePermission]] = {}

    @property
    def has_structure_rights(self) -> bool:
        """Whether this is a structure user at all, whatever the databases."""
        return self.is_structure_user or bool(self.structured_databases)

    def structures(self, database: str) -> bool:
        """Whether the role may create and drop tables and attributes of ``database`` as a structure user."""
        return database != SYSTEM and (self.is_structure_user or database in self.structured_databases)

    def of_table(self, table: Table) -> TablePermission:
        key = (table.database, table.name)
        kept = self._tables.get(key)
        if kept is not None and kept[0] is table:
            return kept[1]
        if len(self._tables) >= KEPT_TABLES:
            self._tables.clear()
        permission = self._work_out(table)
        self._tables[key] = (table, permission)
        return permission

    def sees_database(self, database: str, tables: Iterable[Table]) -> bool:
        """Whether the role may know that ``database``, with these tables, exists."""
        if self.is_super_user or self.structures(database):
            return True
        if database == SYSTEM:
            return False
        if _part(self._stored, database).get("describe") is True:
            return True
        return any(self.of_table(table).is_visible for table in tables)

    def _work_out(self, table: Table) -> TablePermission:
        if self.is_super_user:
            return READING if table.database == SYSTEM else EVERYTHING
        if table.database == SYSTEM:
            return NOTHING
        if self.structures(table.database):
            return EVERYTHING
        stored = _part(_part(_part(self._stored, table.database), "tables"), table.name)
        rights = _rights(stored, RIGHTS)
        listed = stored.get("attribute_permissions")
        return TablePermission(rights=rights, attributes=_attribute_rights(listed, table) if listed else None)


_kept: Final[dict[int, tuple[Mapping[str, Any], Permissions]]] = {}
"""By identity of the permission object, which is held so that its identity is not used again."""


def permissions_of(user: User) -> Permissions:
    """The effective permissions of the user's role, worked out once for each version of the role's row."""
    stored = user.permission
    kept = _kept.get(id(stored))
    if kept is not None and kept[0] is stored:
        return kept[1]
    if len(_kept) >= KEPT_ROLES:
        _kept.clear()
    permissions = Permissions(stored)
    _kept[id(stored)] = (stored, permissions)
    return permissions


def _attribute_rights(listed: Any, table: Table) -> Mapping[str, frozenset[str]]:
    """Rights per attribute. Listed names that the table no longer has are nothing: a dropped attribute does not come
    back by way of a role that could once write it.
    """
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if isinstance(listed, list) else []
    stored = {entry.get("attribute_name"): entry for entry in entries if isinstance(entry.get("attribute_name"), str)}
    effective = {
        name: _rights(stored[name], ("read",) if name in TIMES else ATTRIBUTE_RIGHTS)
        for name in table.attributes
        if name in stored
    }
    if table.primary_key not in effective:
        effective[table.primary_key] = frozenset().union(*effective.values())
    return effective


def _rights(stored: Mapping[str, Any], names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if stored.get(name) is True)


def _names(value: Any) -> frozenset[str]:
    return frozenset(name for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()


def _part(stored: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = stored.get(name)
    return part if isinstance(part, Mapping) else {}
