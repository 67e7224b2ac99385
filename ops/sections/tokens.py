"""Tokens: log in once, then send a token instead of a password."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from ops.accounts import Accounts
from ops.authentication import check_claims, checked_account, client_of
from ops.context import Context
from ops.credentials import bearer_token
from ops.errors import AuthenticationFailed, InvalidParams, OperationError
from ops.login_log import log_failure, log_success
from ops.operation import AnyUser, NoUser, Operation, operation
from ops.params import Anyhow, Problem, Text
from ops.refresh_tokens import is_current, store_refresh_token
from ops.system_tables import SYSTEM
from ops.tokens import EXPIRED, INVALID, Grant, lifetime_s
from storage.errors import StorageError
from storage.write_transaction import WriteTransaction

INVALID_CREDENTIALS: Final = "invalid credentials"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A number of seconds or a text with a unit; what it comes to is for ``ops/tokens.py`` to say."""

    def convert(self, label: str, value: Any) -> str | int | float:
        if type(value) not in (str, int, float):
            raise Problem(f"'{label}' must be one of [string, number]")
        return value  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTokens:
    username: Annotated[str | None, Text()] = None
    password: Annotated[str | None, Text(may_be_empty=True)] = field(default=None, repr=False)
    expires_in: Annotated[str | int | float | None, Lifetime()] = None
    role: Annotated[str | None, Text()] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    refresh_token: Anyhow = field(default=None, repr=False)


@operation("create_authentication_tokens", needs=NoUser(if_any_of=("username", "password")), params=CreateTokens)
async def create_authentication_tokens(ctx: Context, params: CreateTokens) -> dict[str, str]:
    """An operation token and a refresh token, for the given user or for the caller. An earlier refresh token of the user
    ends.
    """
    if params.expires_in is not None:
        lifetime_s(params.expires_in)
    user, is_super_user = await _user(ctx, params)
    grant = Grant(user=user, is_super_user=is_super_user, role=params.role)
    tokens, client = ctx.services.tokens, client_of(ctx.request)
    operation_token = await tokens.make("operation", grant, client=client, expires_in=params.expires_in)
    refresh_token = await tokens.make("refresh", grant, client=client)

    def store(tx: WriteTransaction) -> None:
        store_refresh_token(tx, user, refresh_token)

    try:
        await ctx.write(SYSTEM, store)
    except StorageError as error:
        raise OperationError("unable to store refresh_token", status=500) from error
    return {"operation_token": operation_token, "refresh_token": refresh_token}


@operation("refresh_operation_token", needs=AnyUser(), params=RefreshToken)
async def refresh_operation_token(ctx: Context, params: RefreshToken) -> dict[str, str]:
    """A new operation token for a refresh token, which stays valid."""
    user = ctx.user
    assert user is not None, "any user means a user"
    if bearer_token(ctx.request.headers.get("authorization")) is not None:
        grant = Grant(user=user.name, is_super_user=user.is_super_user)
    else:
        grant = await _grant_of(ctx, params.refresh_token)
    token = await ctx.services.tokens.make("operation", grant, client=client_of(ctx.request))
    return {"operation_token": token}


async def _user(ctx: Context, params: CreateTokens) -> tuple[str, bool]:
    """For whom the tokens are, and whether that is a super user. Raises ``AuthenticationFailed``."""
    if ctx.user is not None:
        return ctx.user.name, ctx.user.is_super_user
    if params.username is None or params.password is None:
        raise AuthenticationFailed(INVALID_CREDENTIALS)
    services, client = ctx.services, client_of(ctx.request)
    account = await checked_account(
        services.catalog, services.passwords, params.username, params.password, client=client
    )
    if account is None or not account.user.is_active:
        log_failure(services.settings, ctx.request, "Token", params.username)
        raise AuthenticationFailed(INVALID_CREDENTIALS)
    log_success(services.settings, ctx.request, "Token", params.username)
    return account.user.name, account.user.is_super_user


async def _grant_of(ctx: Context, token: Any) -> Grant:
    """What a refresh token in the body is good for. One that was restricted to a role buys tokens with that role."""
    if token is None:
        raise InvalidParams("'refresh_token' is required")
    if not isinstance(token, str):
        raise InvalidParams("'refresh_token' must be a string")
    try:
        claims = await ctx.services.tokens.read("refresh", token)
    except AuthenticationFailed as error:
        if str(error) == EXPIRED:
            raise OperationError(EXPIRED, status=403) from error
        raise
    with ctx.catalog.database(SYSTEM).read() as tx:
        account = Accounts().get(tx, claims.user)
        if account is None or not is_current(tx, account, token):
            raise AuthenticationFailed(INVALID)
    check_claims(claims, account)
    return Grant(user=account.user.name, is_super_user=account.user.is_super_user, role=claims.role)


OPERATIONS: Final[tuple[Operation, ...]] = (create_authentication_tokens, refresh_operation_token)
