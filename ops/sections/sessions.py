"""Sessions: log in and out with a cookie, as browser clients do."""

from dataclasses import dataclass, field
from typing import Any, Final

from ops.authentication import IS_INACTIVE, LOGIN_FAILED, checked_account, client_of
from ops.context import Context
from ops.errors import AuthenticationFailed, OperationError
from ops.login_log import log_failure, log_success
from ops.operation import NoUser, Operation, operation
from ops.params import Anyhow
from ops.results import WithHeaders
from ops.sessions import Session, cookie_headers, lifetime_s, new_session_id, read_session
from ops.system_records import find_record, put_record
from ops.system_tables import SESSIONS, SYSTEM
from storage.write_transaction import WriteTransaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Anything that is no text fails like a wrong password."""

    username: Anyhow = None
    password: Anyhow = field(default=None, repr=False)


@operation("login", needs=NoUser(), params=Login)
async def login(ctx: Context, params: Login) -> WithHeaders:
    """Begin a session, or go on with the one the request's cookie names. It is stored before the answer is sent."""
    if not ctx.services.settings.enable_sessions:
        raise OperationError("No session for login", status=500)
    user = await _checked_user(ctx, params.username, params.password)
    session = _session(ctx)
    if session is not None:
        await _store(ctx, session.id, user)
        return WithHeaders(result="Login successful")
    session_id = new_session_id()
    await _store(ctx, session_id, user)
    headers = cookie_headers(ctx.request, session_id, ctx.services.settings)
    return WithHeaders(result="Login successful", headers=headers)


@operation("logout", needs=NoUser())
async def logout(ctx: Context, params: None) -> str:
    """End the session that the request's cookie names, if there is one."""
    session = _session(ctx)
    if session is not None and session.user is not None:
        await _store(ctx, session.id, None)
    return "Logout successful"


async def _checked_user(ctx: Context, username: Any, password: Any) -> str:
    """The name of the user whose password this is. Raises ``AuthenticationFailed``."""
    if not isinstance(username, str) or not isinstance(password, str):
        raise AuthenticationFailed(LOGIN_FAILED)
    services, client = ctx.services, client_of(ctx.request)
    account = await checked_account(services.catalog, services.passwords, username, password, client=client)
    if account is None or not account.user.is_active:
        log_failure(services.settings, ctx.request, "Session", username)
        raise AuthenticationFailed(LOGIN_FAILED if account is None else IS_INACTIVE)
    log_success(services.settings, ctx.request, "Session", username)
    return account.user.name


def _session(ctx: Context) -> Session | None:
    with ctx.catalog.database(SYSTEM).read() as tx:
        return read_session(tx, ctx.request.headers)


async def _store(ctx: Context, session_id: str, user: str | None) -> None:
    lives_s = lifetime_s(ctx.services.settings)

    def store(tx: WriteTransaction) -> None:
        table = tx.table(SESSIONS)
        record = find_record(tx, table, session_id) or {"id": session_id}
        put_record(tx, table, {**record, "user": user}, lives_s=lives_s)

    await ctx.write(SYSTEM, store)


OPERATIONS: Final[tuple[Operation, ...]] = (login, logout)
