"""The last active super user stays: whatever would take it away is refused, as nobody could then repair the node."""

from collections.abc import Mapping
from typing import Any

from ops.errors import Conflict
from ops.system_records import find_record
from ops.system_tables import ROLES, USERS
from storage.write_transaction import WriteTransaction


def grants_everything(role: Any) -> bool:
    """Whether a stored role is a super user's."""
    permission = role.get("permission") if isinstance(role, Mapping) else None
    return isinstance(permission, dict) and permission.get("super_user") is True


def is_active(user: Mapping[str, Any]) -> bool:
    """Only the value true makes a user active; a row that says nothing is not taken for a yes."""
    return user.get("active") is True


def check_keeps_super_user(tx: WriteTransaction) -> None:
    """To be called after staging whatever changes users or roles. Raises ``Conflict`` where no active super user is
    left.

    Stops at the first one it finds, which as a rule is among the first users.
    """
    users, roles = tx.table(USERS), tx.table(ROLES)
    grants: dict[str, bool] = {}
    for user in tx.records(users):
        role_id = user.get("role")
        if not isinstance(role_id, str) or not is_active(user):
            continue
        if role_id not in grants:
            grants[role_id] = grants_everything(find_record(tx, roles, role_id))
        if grants[role_id]:
            return
    raise Conflict("Cannot remove the last active super user")
