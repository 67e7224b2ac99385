"""Users: list, show, add, alter and drop them. A user's role is given by name and stored by id."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from ops.accounts import username_problem
from ops.authentication import client_of
from ops.context import Context
from ops.errors import Conflict, InvalidParams, Missing
from ops.operation import AnyUser, Operation, SuperUser, operation
from ops.passwords import password_problem
from ops.role_validation import name_problem
from ops.super_users import check_keeps_super_user, grants_everything
from ops.system_records import (
    delete_record,
    find_key,
    find_record,
    find_role_ids,
    put_record,
    stored_records,
)
from ops.system_tables import REFRESH_TOKENS, ROLES, SHOWN_IN_PERMISSIONS, SYSTEM, USERS
from storage.schema import CREATED_TIME, UPDATED_TIME
from storage.transaction import ReadTransaction
from storage.write_transaction import WriteTransaction

TIMES: Final = (UPDATED_TIME, CREATED_TIME)
NOTHING_TO_UPDATE: Final = "nothing to update, must supply active, role or password to update"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    username: str
    password: str = field(repr=False)
    role: str
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedUser:
    """None where it stays as it is."""

    username: str
    password: str | None = field(repr=False)
    role: str | None
    active: bool | None


def _active_problem(active: Any) -> str | None:
    if active is None:
        return "Active can't be blank"
    return None if isinstance(active, bool) else "Active must be a boolean"


def _read_new_user(body: Mapping[str, Any]) -> NewUser:
    username, password, role, active = (body.get(name) for name in ("username", "password", "role", "active"))
    problems = (
        username_problem(username),
        password_problem(password),
        name_problem("Role", role),
        _active_problem(active),
    )
    found = [problem for problem in problems if problem is not None]
    if found:
        raise InvalidParams(",".join(found))
    return NewUser(username=str(username), password=str(password), role=str(role), active=active is True)


def _read_changed_user(body: Mapping[str, Any]) -> ChangedUser:
    username, password, role, active = (body.get(name) for name in ("username", "password", "role", "active"))
    if not isinstance(username, str) or not username:
        _refuse("username is required")
    if all(value in (None, "") for value in (password, role, active)):
        _refuse(NOTHING_TO_UPDATE)
    if password is not None:
        if not isinstance(password, str) or not password.strip():
            _refuse("password cannot be an empty string")
        problem = password_problem(password)
        if problem is not None:
            _refuse(problem)
    if active is not None and not isinstance(active, bool):
        _refuse("active must be true or false")
    if role == "":
        _refuse("If role is specified, it cannot be empty.")
    return ChangedUser(username=username, password=password, role=None if role is None else str(role), active=active)


def _refuse(message: str) -> NoReturn:
    """Clients know these as failures of the node."""
    raise InvalidParams(message, status=500)


def _read_username(body: Mapping[str, Any]) -> str:
    username = body.get("username")
    if not isinstance(username, str) or not username:
        raise InvalidParams("Username can't be blank")
    return username


@operation("list_users", needs=SuperUser("listUsersExternal"))
async def list_users(ctx: Context, params: None) -> list[dict[str, Any]]:
    """All users with their roles, ordered by name; never anything of their passwords."""
    with ctx.catalog.database(SYSTEM).read() as tx:
        stored = [role for role in stored_records(tx, tx.table(ROLES)) if isinstance(role["id"], str)]
        roles = {role["id"]: _with_system_tables(role) for role in stored}
        return [_shown(user, roles) for user in stored_records(tx, tx.table(USERS))]


@operation("user_info", needs=AnyUser())
async def user_info(ctx: Context, params: None) -> dict[str, Any]:
    """The caller's name and role."""
    user = ctx.user
    assert user is not None, "any user means a user"
    shown: dict[str, Any] = {"active": user.is_active, "username": user.name, "role": user.role}
    if user.is_local:
        shown |= {name: user.record[name] for name in TIMES if name in user.record}
    return shown


@operation("add_user", needs=SuperUser("addUser"), read=_read_new_user)
async def add_user(ctx: Context, params: NewUser) -> str:
    """Add a user with a role and a password."""
    with ctx.catalog.database(SYSTEM).read() as tx:
        _unique_role_id(_role_ids(tx, params.role), params.role, f"{params.role} role not found")
        if _has_user(tx, params.username):
            raise Conflict(f"User {params.username} already exists")
    made = await ctx.services.passwords.stored_form(params.password, client=client_of(ctx.request))

    def add(tx: WriteTransaction) -> None:
        users = tx.table(USERS)
        role_ids = find_role_ids(tx.records(tx.table(ROLES)), params.role)
        role_id = _unique_role_id(role_ids, params.role, f"{params.role} role not found")
        if find_record(tx, users, params.username) is not None:
            raise Conflict(f"User {params.username} already exists")
        user = {"username": params.username, "password": made.text, "hash_function": made.function}
        put_record(tx, users, {**user, "role": role_id, "active": params.active})

    await ctx.write(SYSTEM, add)
    return f"{params.username} successfully added"


@operation("alter_user", needs=SuperUser("alterUser"), read=_read_changed_user)
async def alter_user(ctx: Context, params: ChangedUser) -> dict[str, Any]:
    """Change a user's password, role or whether it is active, at once and on all nodes that learn of it."""
    unknown_role = f"Update failed.  Requested '{params.role}' role not found."
    with ctx.catalog.database(SYSTEM).read() as tx:
        if params.role is not None:
            _unique_role_id(_role_ids(tx, params.role), params.role, unknown_role)
        if not _has_user(tx, params.username):
            return _updated(params.username, found=False)
    changes: dict[str, Any] = {} if params.active is None else {"active": params.active}
    if params.password is not None:
        made = await ctx.services.passwords.stored_form(params.password, client=client_of(ctx.request))
        changes |= {"password": made.text, "hash_function": made.function}

    def alter(tx: WriteTransaction) -> bool:
        users = tx.table(USERS)
        changed = dict(changes)
        if params.role is not None:
            role_ids = find_role_ids(tx.records(tx.table(ROLES)), params.role)
            changed["role"] = _unique_role_id(role_ids, params.role, unknown_role)
        current = find_record(tx, users, params.username)
        if current is None:
            return False
        put_record(tx, users, {**current, **changed}, changed=list(changed))
        check_keeps_super_user(tx)
        return True

    return _updated(params.username, found=await ctx.write(SYSTEM, alter))


@operation("drop_user", needs=SuperUser("dropUser"), read=_read_username)
async def drop_user(ctx: Context, params: str) -> str:
    """Remove a user, and with it its refresh token."""

    def drop(tx: WriteTransaction) -> None:
        users, refresh_tokens = tx.table(USERS), tx.table(REFRESH_TOKENS)
        if find_record(tx, users, params) is None:
            raise Missing(f"User {params} does not exist")
        delete_record(tx, users, params)
        if find_record(tx, refresh_tokens, params) is not None:
            delete_record(tx, refresh_tokens, params)
        check_keeps_super_user(tx)

    await ctx.write(SYSTEM, drop)
    return f"{params} successfully deleted"


def _has_user(tx: ReadTransaction, name: str) -> bool:
    key = find_key(name)
    return key is not None and tx.row(tx.table(USERS), key) is not None


def _role_ids(tx: ReadTransaction, name: str) -> list[Any]:
    return find_role_ids(stored_records(tx, tx.table(ROLES)), name)


def _unique_role_id(role_ids: list[Any], name: str, if_unknown: str) -> Any:
    if not role_ids:
        raise Missing(if_unknown)
    if len(role_ids) > 1:
        raise Conflict(
            f"Multiple {name} roles found.  Roles must have unique 'role' value. Please update and try again."
        )
    return role_ids[0]


def _updated(username: str, *, found: bool) -> dict[str, Any]:
    return {
        "message": f"updated {int(found)} of 1 records",
        "txn_time": 0,
        "update_hashes": [username] if found else [],
        "skipped_hashes": [] if found else [username],
    }


def _shown(user: Mapping[str, Any], roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A user without role shows none: a role that is null breaks clients which read into it."""
    shown: dict[str, Any] = {"username": user.get("username"), "active": user.get("active")}
    role_id = user.get("role")
    if isinstance(role_id, str) and role_id in roles:
        shown["role"] = roles[role_id]
    return shown | {name: user[name] for name in TIMES if name in user}


def _with_system_tables(role: Mapping[str, Any]) -> dict[str, Any]:
    """The role with what it means for the node's own tables: super users read them, nobody writes them."""
    permission = role.get("permission")
    flags = {"read": grants_everything(role), "insert": False, "update": False, "delete": False}
    tables = {name: {**flags, "attribute_permissions": []} for name in SHOWN_IN_PERMISSIONS}
    stored = permission if isinstance(permission, Mapping) else {}
    return {**role, "permission": {**stored, SYSTEM: {"tables": tables}}}


OPERATIONS: Final[tuple[Operation, ...]] = (list_users, user_info, add_user, alter_user, drop_user)
