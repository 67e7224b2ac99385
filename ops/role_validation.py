"""The check of a role's permission object before it is stored, with every problem in one answer.

Clients show ``main_permissions`` and ``schema_permissions`` to the person who edits the role, so the texts are literal
and their order is fixed: the request's own fields, the kind of role, then databases, tables and attributes as they
are written. What is stored later is read with more suspicion than is shown here (``ops/permissions.py``).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from ops.errors import OperationError
from ops.permissions import ATTRIBUTE_RIGHTS, RIGHTS
from storage.schema import Table

Schemas: TypeAlias = Callable[[str], Mapping[str, Table] | None]

NAME: Final = re.compile(r"[\w\-]+", re.ASCII)
ALLOWED_KEYS: Final = ("operation", "role", "id", "permission", "access")
SUPER_USER: Final = "super_user"
CLUSTER_USER: Final = "cluster_user"
STRUCTURE_USER: Final = "structure_user"
TABLE_KEYS: Final = (*RIGHTS, "attribute_permissions")
ATTRIBUTE_KEYS: Final = ("attribute_name", *RIGHTS)
"""``delete`` means nothing there and is tolerated."""


class InvalidRole(OperationError):
    def __init__(self, main: Sequence[str], of_tables: Mapping[str, Sequence[str]]) -> None:
        message = "Errors in the role permissions JSON provided"
        body = {"error": message, "main_permissions": list(main), "schema_permissions": dict(of_tables)}
        super().__init__(message, status=400, body=body)


def check_new_role(body: Mapping[str, Any], schemas: Schemas) -> None:
    """The body of ``add_role``. Raises ``InvalidRole``."""
    _check(body, schemas, required=("role", "permission"))


def check_changed_role(body: Mapping[str, Any], schemas: Schemas) -> None:
    """The body of ``alter_role``. Raises ``InvalidRole``."""
    _check(body, schemas, required=("id", "permission"))


def name_problem(label: str, value: Any) -> str | None:
    """What is wrong with a role's name or id that has to be there."""
    if value is None:
        return f"{label} can't be blank"
    return None if isinstance(value, str) and NAME.fullmatch(value) else f"{label} is invalid"


@dataclass(slots=True)
class _Problems:
    main: list[str] = field(default_factory=list)
    of_tables: dict[str, list[str]] = field(default_factory=dict)

    def add(self, table: Table, problems: Iterator[str]) -> None:
        found = list(problems)
        if found:
            self.of_tables.setdefault(f"{table.database}_{table.name}", []).extend(found)


def _check(body: Mapping[str, Any], schemas: Schemas, *, required: tuple[str, ...]) -> None:
    problems = _Problems(main=[*_key_problems(body), *_field_problems(body, required)])
    permission = body.get("permission")
    if isinstance(permission, Mapping):
        problems.main.extend(_kind_problems(permission))
        for name, value in permission.items():
            if name == STRUCTURE_USER:
                problems.main.extend(_structure_problems(value, schemas))
            elif name not in (SUPER_USER, CLUSTER_USER):
                _check_database(name, value, schemas, problems)
    if problems.main or problems.of_tables:
        raise InvalidRole(problems.main, problems.of_tables)


def _key_problems(body: Mapping[str, Any]) -> Iterator[str]:
    unknown = [f"'{name}'" for name in body if name not in ALLOWED_KEYS]
    if unknown:
        yield f"Invalid key{'s' if len(unknown) > 1 else ''} in JSON body - {', '.join(unknown)}"


def _field_problems(body: Mapping[str, Any], required: tuple[str, ...]) -> Iterator[str]:
    for name, label in (("role", "Role"), ("id", "Id")):
        value = body.get(name)
        problem = name_problem(label, value) if name in required or value is not None else None
        if problem is not None:
            yield problem
    permission = body.get("permission")
    if permission is None:
        yield "Permission can't be blank"
    elif not isinstance(permission, Mapping):
        yield "Permission is invalid"


def _kind_problems(permission: Mapping[str, Any]) -> Iterator[str]:
    is_super_user, is_cluster_user = (permission.get(kind) is True for kind in (SUPER_USER, CLUSTER_USER))
    if is_super_user and is_cluster_user:
        yield f"Roles cannot have both '{SUPER_USER}' and '{CLUSTER_USER}' values included in their permissions set."
    elif (is_super_user or is_cluster_user) and len(permission) > 1:
        kind = SUPER_USER if is_super_user else CLUSTER_USER
        yield f"Roles with '{kind}' set to true cannot have other permissions set."
    for kind in (SUPER_USER, CLUSTER_USER):
        value = permission.get(kind)
        if value and not isinstance(value, bool):
            yield f"Value for '{kind}' permission must be a boolean"


def _structure_problems(value: Any, schemas: Schemas) -> Iterator[str]:
    if isinstance(value, bool):
        return
    if not isinstance(value, list):
        yield f"Value for '{STRUCTURE_USER}' permission must be a boolean or Array"
        return
    for name in value:
        if not isinstance(name, str) or schemas(name) is None:
            yield f"database '{name}' does not exist"


def _check_database(name: str, value: Any, schemas: Schemas, problems: _Problems) -> None:
    known = schemas(name)
    if known is None:
        problems.main.append(f"database '{name}' does not exist")
        return
    tables = value.get("tables") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(tables, Mapping | None):
        problems.main.append(f"Value for '{name}' permission must be an object")
        return
    for table_name, permission in (tables or {}).items():
        table = known.get(table_name)
        if table is None:
            problems.main.append(f"Table '{name}.{table_name}' does not exist")
        elif not isinstance(permission, Mapping):
            problems.add(table, iter((f"Value for '{table_name}' permission must be an object",)))
        else:
            problems.add(table, _table_problems(permission, table))


def _table_problems(permission: Mapping[str, Any], table: Table) -> Iterator[str]:
    yield from (f"Invalid table permission key value '{key}'" for key in permission if key not in TABLE_KEYS)
    for right in RIGHTS:
        value = permission.get(right)
        if value is None:
            yield f"Missing table {right.upper()} permission"
        elif not isinstance(value, bool):
            yield f"Table {right.upper()} permission must be a boolean"
    if "attribute_permissions" not in permission:
        yield "Missing 'attribute_permissions' array"
        return
    listed = permission["attribute_permissions"]
    if not isinstance(listed, list | None):
        yield "Value for 'attribute_permissions' must be an array"
        return
    for entry in listed or ():
        yield from _attribute_problems(entry, table)
    if any(_is_wider(entry, permission, table) for entry in listed or ()):
        yield (
            f"You have a conflict with TABLE permissions for '{table.database}.{table.name}' being false "
            "and ATTRIBUTE permissions being true"
        )


def _attribute_problems(entry: Any, table: Table) -> Iterator[str]:
    entry = entry if isinstance(entry, Mapping) else {}
    yield from (f"Invalid attribute permission key value '{key}'" for key in entry if key not in ATTRIBUTE_KEYS)
    name = entry.get("attribute_name")
    if name is None:
        yield "Permission object in 'attribute_permission' missing an 'attribute_name'"
    elif not _is_attribute(name, table):
        yield f"Invalid attribute '{name}' in 'attribute_permissions'"
    else:
        for right in ATTRIBUTE_RIGHTS:
            value = entry.get(right)
            if value is None:
                yield f"{right.upper()} attribute permission missing for '{name}'"
            elif not isinstance(value, bool):
                yield f"{right.upper()} attribute permission for '{name}' must be a boolean"


def _is_attribute(name: Any, table: Table) -> bool:
    return isinstance(name, str) and name in table.attributes


def _is_wider(entry: Any, permission: Mapping[str, Any], table: Table) -> bool:
    """Whether an attribute is given a right that its table is not."""
    if not isinstance(entry, Mapping) or not _is_attribute(entry.get("attribute_name"), table):
        return False
    return any(entry.get(right) is True and not permission.get(right) for right in ATTRIBUTE_RIGHTS)
