"""Roles: list, add, alter and drop them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ops.context import Context
from ops.errors import Conflict, InvalidParams, Missing, OperationError
from ops.operation import Operation, SuperUser, operation
from ops.role_validation import check_changed_role, check_new_role, name_problem
from ops.super_users import check_keeps_super_user, is_active
from ops.system_records import delete_record, find_record, find_role_ids, put_record, stored_records
from ops.system_tables import ROLES, SYSTEM, USERS
from storage.errors import NotFound
from storage.schema import Table
from storage.write_transaction import WriteTransaction

CHANGEABLE: Final = ("role", "permission", "access")


def _whole(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body as it is: what is wrong with it depends on the schema, hence the handler looks."""
    return body


def _read_id(body: Mapping[str, Any]) -> str:
    problem = name_problem("Id", body.get("id"))
    if problem is not None:
        answer = {"statusCode": 400, "error": "Bad Request", "message": problem}
        raise OperationError(problem, status=400, body=answer)
    return str(body["id"])


@operation("list_roles", needs=SuperUser("listRoles"))
async def list_roles(ctx: Context, params: None) -> list[dict[str, Any]]:
    """All roles, ordered by id."""
    with ctx.catalog.database(SYSTEM).read() as tx:
        return list(stored_records(tx, tx.table(ROLES)))


@operation("add_role", needs=SuperUser("addRole"), read=_whole)
async def add_role(ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
    """Add a role with the permissions it grants; the answer is the role as stored."""
    check_new_role(params, _schemas(ctx))
    name: str = params["role"]
    role_id: str = params.get("id") or name
    role = {"id": role_id, **{field: params[field] for field in CHANGEABLE if field in params}}

    def add(tx: WriteTransaction) -> None:
        roles = tx.table(ROLES)
        if find_role_ids(tx.records(roles), name):
            raise Conflict(f"A role with name '{name}' already exists")
        if find_record(tx, roles, role_id) is not None:
            raise Conflict(f"A role with id '{role_id}' already exists")
        put_record(tx, roles, role)

    await ctx.write(SYSTEM, add)
    return role


@operation("alter_role", needs=SuperUser("alterRole"), read=_whole)
async def alter_role(ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
    """Replace a role's permission object, and its name where one is given; the answer is the role as stored."""
    check_changed_role(params, _schemas(ctx))
    changes = {field: params[field] for field in CHANGEABLE if params.get(field) is not None}

    def alter(tx: WriteTransaction) -> dict[str, Any]:
        roles = tx.table(ROLES)
        current = find_record(tx, roles, params["id"])
        if current is None:
            raise InvalidParams("Invalid role id")
        role = {**current, **changes}
        put_record(tx, roles, role, changed=list(changes))
        check_keeps_super_user(tx)
        return role

    role: dict[str, Any] = await ctx.write(SYSTEM, alter)
    return role


@operation("drop_role", needs=SuperUser("dropRole"), read=_read_id)
async def drop_role(ctx: Context, params: str) -> str:
    """Remove a role that no active user has, by its id. Inactive users are left without role."""

    def drop(tx: WriteTransaction) -> str:
        roles = tx.table(ROLES)
        role = find_record(tx, roles, params)
        if role is None:
            raise Missing("Role not found")
        name = str(role.get("role"))
        if any(is_active(user) and user.get("role") == params for user in tx.records(tx.table(USERS))):
            raise Conflict(f"Cannot drop role {name} as it has active user(s) tied to this role")
        delete_record(tx, roles, params)
        return f"{name} successfully deleted"

    return str(await ctx.write(SYSTEM, drop))


def _schemas(ctx: Context) -> Callable[[str], Mapping[str, Table] | None]:
    def tables_of(database: str) -> Mapping[str, Table] | None:
        try:
            with ctx.catalog.database(database).read() as tx:
                return tx.schema().tables
        except NotFound:
            return None

    return tables_of


OPERATIONS: Final[tuple[Operation, ...]] = (list_roles, add_role, alter_role, drop_role)
