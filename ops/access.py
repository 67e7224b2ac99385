"""May this user do that? The checks that come before an operation's parameters are read, and what handlers ask later.

A refusal tells nothing that the role may not know: what is invisible to it and what does not exist are reported with
the same words. All findings of a request are collected in one answer, those on tables before those on attributes.

The node's own tables in ``system`` are read by super users alone. Nobody writes them but the node, with one exception:
super users write users, roles and nodes through the record operations (``ops/super_users.py`` keeps the last one).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

from ops.context import User
from ops.errors import AccessDenied, OperationError, SystemProtected
from ops.operation import AnyUser, Describe, NoUser, Operation, StructureUser, SuperUser, TableRights
from ops.permissions import TIMES, Permissions, TablePermission, permissions_of
from ops.system_tables import ROLES, SYSTEM, USERS
from ops.target import Target, target_of
from replication.membership import NODES
from storage.schema import Table

Schemas: TypeAlias = Callable[[str], Mapping[str, Table] | None]
"""The tables of a database by name; None where it does not exist."""

RECORD_WRITES: Final = frozenset(("insert", "update", "upsert", "delete"))
WRITTEN_BY_SUPER_USERS: Final = frozenset((NODES, ROLES, USERS))
PROTECTED: Final = frozenset(
    ("delete", "update", "upsert", "create_table", "drop_attribute", "drop_table", "drop_database")
)
"""Operations that nobody runs on ``system``."""
WILDCARDS: Final = ("*", "%")
TIMES_ARE_INTERNAL: Final = (
    "Internal timestamp attributes - '__createdtime_' and '__updatedtime__' - "
    "cannot be inserted to or updated by HDB users."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUse:
    """What a request does with one table. ``attributes`` need every right in ``rights``."""

    database: str
    table: str
    rights: tuple[str, ...]
    attributes: Sequence[str] = ()


def check_access(operation: Operation, name: str, user: User, body: Mapping[str, Any], schemas: Schemas) -> None:
    """Raises ``AccessDenied`` or ``SystemProtected`` where ``user`` may not run ``operation``, sent as ``name``."""
    check_has_role(user)
    need = operation.needs
    if isinstance(need, NoUser | AnyUser):
        return
    permissions = permissions_of(user)
    target = target_of(body)
    if target.database == SYSTEM:
        if _is_open_to_super_users(operation, permissions, target):
            return
        if operation.name in PROTECTED:
            raise SystemProtected
    elif permissions.is_super_user:
        return
    match need:
        case SuperUser():
            if not permissions.is_super_user:
                raise _restricted(need.internal_name)
        case StructureUser():
            _check_structure(need, name, permissions, target, body, schemas)
        case Describe():
            _check_describe(need, permissions, target, schemas)
        case TableRights():
            rights = _narrowed(need.rights, body) if operation.is_job else need.rights
            names = [] if need.attributes_of is None else need.attributes_of(body)
            _check_target(permissions, target, rights, names, schemas)


def check_has_role(user: User) -> None:
    if not user.role:
        message = f"User {user.name} has no role or permissions.  Please assign the user a valid role."
        raise AccessDenied(unauthorized_access=[message])


def check_table_uses(user: User, uses: Iterable[TableUse], schemas: Schemas) -> None:
    """The check for a request that uses several tables, as statements do. Raises as ``check_access`` does."""
    check_has_role(user)
    uses = tuple(uses)
    if any(use.database == SYSTEM and not {"update", "delete"}.isdisjoint(use.rights) for use in uses):
        raise SystemProtected
    _check_uses(permissions_of(user), uses, schemas)


def check_attributes(user: User, table: Table, rights: Sequence[str], names: Iterable[str]) -> None:
    """The check of attributes alone, for names that are known only while a job runs. Raises ``AccessDenied``."""
    findings = _Findings()
    use = TableUse(database=table.database, table=table.name, rights=tuple(rights), attributes=tuple(names))
    findings.add_attributes(use, table, permissions_of(user).of_table(table))
    findings.raise_if_any()


def sees_database(user: User, database: str, tables: Mapping[str, Table]) -> bool:
    """Whether ``database`` may be shown to the user."""
    return permissions_of(user).sees_database(database, tables.values())


def visible_tables(user: User, tables: Mapping[str, Table]) -> dict[str, Table]:
    """Those of the tables that may be shown to the user."""
    permissions = permissions_of(user)
    return {name: table for name, table in tables.items() if permissions.of_table(table).is_visible}


def visible_attributes(user: User, table: Table) -> tuple[str, ...]:
    """Names of the table's attributes that may be shown to the user, in the order of the schema."""
    permission = permissions_of(user).of_table(table)
    return tuple(name for name in table.attributes if permission.of_attribute(name))


def readable_attributes(user: User, table: Table) -> tuple[str, ...] | None:
    """The only attributes that the user may read, an implicit primary key last; None where the table decides."""
    permission = permissions_of(user).of_table(table)
    return None if permission.attributes is None else permission.attributes_with("read")


def requested_attributes(user: User, table: Table, get_attributes: Sequence[Any] | None) -> Sequence[Any] | None:
    """What ``get_attributes`` asks for. For a user with attribute permissions a wildcard, and leaving it out, stand for
    the readable attributes; for others it is returned as it was sent.
    """
    readable = readable_attributes(user, table)
    if readable is None:
        if get_attributes and get_attributes[0] == "%" and not user.is_super_user:
            return ["*"]
        return get_attributes
    if not get_attributes or get_attributes[0] in WILDCARDS:
        expanded = readable
    else:
        parts = [readable if name in WILDCARDS else (name,) for name in get_attributes]
        expanded = tuple(dict.fromkeys(name for part in parts for name in part))
    if not expanded:
        raise OperationError("'get_attributes' must contain at least 1 item", status=500)
    return expanded


class _Findings:
    """What speaks against a request, by table."""

    def __init__(self) -> None:
        self._invalid: dict[str, None] = {}
        self._tables: dict[tuple[str, str], dict[str, list[Any]]] = {}

    def add_invalid(self, message: str) -> None:
        self._invalid[message] = None

    def add_table_rights(self, use: TableUse, missing: Iterable[str]) -> None:
        found = self._of(use)["required_table_permissions"]
        found.extend(right for right in missing if right not in found)

    def add_attributes(self, use: TableUse, table: Table, permission: TablePermission) -> None:
        """Note what the role lacks on the attributes of a use whose table it may use."""
        if permission.attributes is None:
            return
        for name in dict.fromkeys(map(str, use.attributes)):
            if name in WILDCARDS and use.rights == ("read",) and name not in table.attributes:
                continue
            rights = permission.of_attribute(name)
            missing = [right for right in use.rights if right not in rights]
            if not rights:
                self.add_invalid(f"Attribute '{name}' does not exist on '{use.database}.{use.table}'")
            elif missing and name in TIMES:
                raise OperationError(TIMES_ARE_INTERNAL, status=403)
            elif missing:
                self._add_attribute_rights(use, name, missing)

    def raise_if_any(self) -> None:
        if self._invalid or self._tables:
            unauthorized = [
                {"schema": database, "table": table, **lists} for (database, table), lists in self._tables.items()
            ]
            raise AccessDenied(unauthorized_access=unauthorized, invalid_schema_items=list(self._invalid))

    def _add_attribute_rights(self, use: TableUse, name: str, missing: list[str]) -> None:
        found = self._of(use)["required_attribute_permissions"]
        entry = next((entry for entry in found if entry["attribute_name"] == name), None)
        if entry is None:
            found.append({"attribute_name": name, "required_permissions": missing})
        else:
            known = entry["required_permissions"]
            known.extend(right for right in missing if right not in known)

    def _of(self, use: TableUse) -> dict[str, list[Any]]:
        empty: dict[str, list[Any]] = {"required_table_permissions": [], "required_attribute_permissions": []}
        return self._tables.setdefault((use.database, use.table), empty)


def _is_open_to_super_users(operation: Operation, permissions: Permissions, target: Target) -> bool:
    return permissions.is_super_user and operation.name in RECORD_WRITES and target.table in WRITTEN_BY_SUPER_USERS


def _restricted(internal_name: str) -> AccessDenied:
    return AccessDenied(unauthorized_access=[f"Operation '{internal_name}' is restricted to 'super_user' roles"])


def _check_structure(
    need: StructureUser,
    name: str,
    permissions: Permissions,
    target: Target,
    body: Mapping[str, Any],
    schemas: Schemas,
) -> None:
    if not need.of_database:
        if permissions.is_super_user or permissions.is_structure_user:
            return
        raise _restricted(need.internal_name)
    if target.database is None and permissions.has_structure_rights:
        return
    if target.database is not None and permissions.structures(target.database):
        return
    if need.or_table_right is not None:
        if permissions.structured_databases and not _has_table_right(permissions, target, need.or_table_right, schemas):
            raise _other_database(name, target)
        attribute = body.get("attribute")
        names = [] if attribute is None else [str(attribute)]
        _check_target(permissions, target, (need.or_table_right,), names, schemas)
    elif permissions.has_structure_rights:
        raise _other_database(name, target)
    else:
        raise _restricted(need.internal_name)


def _other_database(name: str, target: Target) -> AccessDenied:
    message = f"User does not have access to perform '{name}' against schema '{target.database}'"
    return AccessDenied(unauthorized_access=[message])


def _has_table_right(permissions: Permissions, target: Target, right: str, schemas: Schemas) -> bool:
    tables = (schemas(target.database) if target.database is not None else None) or {}
    table = tables.get(target.table or "")
    return table is not None and right in permissions.of_table(table).rights


def _check_describe(need: Describe, permissions: Permissions, target: Target, schemas: Schemas) -> None:
    if permissions.is_super_user or target.database is None:
        return
    if target.database == SYSTEM:
        message = f"Your role does not have permission to view database metadata for '{SYSTEM}'"
        raise AccessDenied(unauthorized_access=[message])
    tables = schemas(target.database)
    is_seen = tables is not None and permissions.sees_database(target.database, tables.values())
    if need.of_table and target.table is not None:
        table = tables.get(target.table) if tables is not None and is_seen else None
        if table is None or not permissions.of_table(table).is_visible:
            _deny_unknown(f"Table '{target.database}.{target.table}' does not exist")
    elif not is_seen:
        _deny_unknown(f"database '{target.database}' does not exist")


def _deny_unknown(item: str) -> NoReturn:
    raise AccessDenied(invalid_schema_items=[item])


def _check_target(
    permissions: Permissions, target: Target, rights: tuple[str, ...], names: Sequence[str], schemas: Schemas
) -> None:
    """Names that are neither text nor number are left to the parameters, which refuse them."""
    if target.database is None or target.table is None:
        return
    use = TableUse(database=target.database, table=target.table, rights=rights, attributes=names)
    _check_uses(permissions, (use,), schemas)


def _check_uses(permissions: Permissions, uses: Sequence[TableUse], schemas: Schemas) -> None:
    found: list[tuple[TableUse, Table, TablePermission]] = []
    findings = _Findings()
    for use in uses:
        if permissions.is_super_user and use.database != SYSTEM:
            continue
        tables = schemas(use.database)
        if tables is None or not permissions.sees_database(use.database, tables.values()):
            findings.add_invalid(f"database '{use.database}' does not exist")
            continue
        table = tables.get(use.table)
        permission = None if table is None else permissions.of_table(table)
        if table is None or permission is None or not permission.is_visible:
            findings.add_invalid(f"Table '{use.database}.{use.table}' does not exist")
            continue
        missing = [right for right in use.rights if right not in permission.rights]
        if missing:
            findings.add_table_rights(use, missing)
        found.append((use, table, permission))
    findings.raise_if_any()
    for use, table, permission in found:
        findings.add_attributes(use, table, permission)
    findings.raise_if_any()


def _narrowed(rights: tuple[str, ...], body: Mapping[str, Any]) -> tuple[str, ...]:
    """A bulk load's ``action`` says which one of its rights it uses; any other value leaves all of them needed."""
    action = body.get("action")
    return (action,) if isinstance(action, str) and action in rights else rights
