"""The first administrator: made at the first start, before the API opens, so that a node can be used at once.

Role and user stay on this node until an operation changes them: a node that joins a cluster must not bring its own
administrator's password there.
"""

import secrets
from typing import Final

from ops.accounts import SUPER_USER, username_problem
from ops.errors import InvalidParams
from ops.passwords import Argon2Cost, Passwords
from ops.settings import OpsSettings
from ops.system_records import find_record, put_record
from ops.system_tables import ROLES, SYSTEM, USERS
from storage.catalog import Catalog
from storage.write_transaction import WriteTransaction

DEFAULT_NAME: Final = "admin"
GENERATED_PASSWORD_BYTES: Final = 18


async def ensure_first_administrator(
    catalog: Catalog,
    settings: OpsSettings,
    username: str | None = None,
    password: str | None = None,
    *,
    cost: Argon2Cost | None = None,
) -> str | None:
    """Make the role ``super_user`` and an active user with it, unless this node has users already.

    Returns the password where it had to be generated: to be shown once and kept nowhere. Raises ``InvalidParams`` for a
    name that no user can have.
    """
    if _has_users(catalog):
        return None
    name = username or DEFAULT_NAME
    problem = username_problem(name)
    if problem is not None:
        raise InvalidParams(problem)
    chosen = password or secrets.token_urlsafe(GENERATED_PASSWORD_BYTES)
    made = await Passwords(function=settings.hash_function, cost=cost).stored_form(chosen, client="local")

    def create(tx: WriteTransaction) -> bool:
        users, roles = tx.table(USERS), tx.table(ROLES)
        if next(tx.records(users), None) is not None:
            return False
        if find_record(tx, roles, SUPER_USER) is None:
            put_record(tx, roles, {"id": SUPER_USER, "role": SUPER_USER, "permission": {"super_user": True}})
        user = {"username": name, "password": made.text, "hash_function": made.function, "role": SUPER_USER}
        put_record(tx, users, {**user, "active": True})
        return True

    was_made = await catalog.write(SYSTEM, create, is_local=True)
    return chosen if was_made and not password else None


def _has_users(catalog: Catalog) -> bool:
    with catalog.database(SYSTEM).read() as tx:
        return next(tx.rows(tx.table(USERS)), None) is not None
