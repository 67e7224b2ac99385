"""From a request to its user: ``Authorization`` header, else session cookie, else a local request. The first that
applies decides, so wrong credentials fail also where none would have been needed.

A credential is verified once and then remembered for a while (``ops/verified_credentials.py``); the user's and the
role's rows are read for every request, in the system database as it stands, so nothing that changed is overlooked.
"""

from collections.abc import Mapping
from typing import Any, Final

from ops.accounts import Account, Accounts, as_local
from ops.context import User
from ops.credentials import Basic, Bearer, Credentials, read_authorization
from ops.errors import AuthenticationFailed
from ops.http import Request
from ops.local_requests import is_local
from ops.login_log import log_failure, log_success
from ops.passwords import Passwords, StoredPassword
from ops.refresh_tokens import is_current
from ops.sessions import read_session
from ops.settings import OpsSettings
from ops.system_tables import SYSTEM
from ops.tokens import INVALID, Claims, Tokens
from ops.verified_credentials import VerifiedCredentials
from storage.catalog import Catalog
from storage.transaction import ReadTransaction

REFRESH: Final = "refresh_operation_token"
LOGIN_FAILED: Final = "Login failed"
IS_INACTIVE: Final = "Cannot complete request: User is inactive"
CLOCKS_DIFFER_S_MAX: Final = 60.0
"""How far the clock that dated a user's record may be ahead of the one that dates tokens here."""


class Authenticator:
    """``await authenticator.authenticate(request, body)``. One for the life of a process."""

    def __init__(self, *, catalog: Catalog, settings: OpsSettings, passwords: Passwords, tokens: Tokens) -> None:
        self._catalog = catalog
        self._settings = settings
        self._passwords = passwords
        self._tokens = tokens
        self._accounts = Accounts()
        self._remembered = VerifiedCredentials(kept_s=settings.credential_cache_s)

    async def authenticate(self, request: Request, body: Mapping[str, Any]) -> User | None:
        """The user; None where the request brings no credentials and is not local.

        Its role is None where user or role are gone: access is refused then. Raises ``AuthenticationFailed``, or
        ``Overloaded`` where too many passwords wait to be checked.
        """
        header = request.headers.get("authorization")
        if header is not None:
            digest = self._remembered.digest(header)
            user = self._remembered_user(digest, body)
            if user is not None:
                return user
            credentials = read_authorization(header)
            if credentials is not None:
                return await self._user_of(credentials, digest, request, body)
        return self._session_user(request) or self._local_user(request)

    def _read(self) -> ReadTransaction:
        return self._catalog.database(SYSTEM).read()

    def _account(self, name: str) -> Account | None:
        with self._read() as tx:
            return self._accounts.get(tx, name)

    def _remembered_user(self, digest: bytes, body: Mapping[str, Any]) -> User | None:
        entry = self._remembered.verified(digest)
        if entry is None or (entry.is_token and body.get("operation") == REFRESH):
            return None
        return entry.account.user if self._account(entry.account.user.name) is entry.account else None

    async def _user_of(
        self, credentials: Credentials, digest: bytes, request: Request, body: Mapping[str, Any]
    ) -> User:
        match credentials:
            case Basic(username=username, password=password):
                return await self._basic_user(username, password, digest, request)
            case Bearer(token=token):
                try:
                    if body.get("operation") == REFRESH:
                        return await self._refreshing_user(token)
                    return await self._token_user(token, digest)
                except AuthenticationFailed:
                    log_failure(self._settings, request, "Bearer", None)
                    raise

    async def _basic_user(self, username: str, password: str, digest: bytes, request: Request) -> User:
        account = self._account(username)
        if account is not None and not account.user.is_active:
            raise AuthenticationFailed(IS_INACTIVE)
        if self._remembered.has_failed(digest, account):
            raise AuthenticationFailed(LOGIN_FAILED)

        async def check() -> bool:
            return await self._passwords.is_password(password, password_of(account), client=client_of(request))

        is_right = await self._remembered.check_once(digest, account, check)
        if account is None or not is_right:
            if not self._remembered.has_failed(digest, account):
                log_failure(self._settings, request, "Basic", username)
            self._remembered.remember_failure(digest, account)
            raise AuthenticationFailed(LOGIN_FAILED)
        self._remembered.remember(digest, account, is_token=False)
        log_success(self._settings, request, "Basic", username)
        return account.user

    async def _token_user(self, token: str, digest: bytes) -> User:
        claims = await self._tokens.read("operation", token)
        if claims.role is not None:
            raise AuthenticationFailed(INVALID)
        account = self._account(claims.user)
        if account is None:
            return nobody(claims.user)
        check_claims(claims, account)
        lives_s = claims.expires_at_s - self._tokens.now_s()
        self._remembered.remember(digest, account, is_token=True, lives_s=lives_s)
        return account.user

    async def _refreshing_user(self, token: str) -> User:
        claims = await self._tokens.read("refresh", token)
        if claims.role is not None:
            raise AuthenticationFailed(INVALID)
        with self._read() as tx:
            account = self._accounts.get(tx, claims.user)
            if account is None:
                return nobody(claims.user)
            check_claims(claims, account)
            if not is_current(tx, account, token):
                raise AuthenticationFailed(INVALID)
        return account.user

    def _session_user(self, request: Request) -> User | None:
        """The user of the request's session. One that is inactive, gone, or made anew under the same name is refused."""
        if not self._settings.enable_sessions or "cookie" not in request.headers:
            return None
        with self._read() as tx:
            session = read_session(tx, request.headers)
            if session is None or session.user is None:
                return None
            account = self._accounts.get(tx, session.user)
        if account is None or session.updated_ms < account.created_ms:
            raise AuthenticationFailed
        if not account.user.is_active:
            raise AuthenticationFailed(IS_INACTIVE)
        return account.user

    def _local_user(self, request: Request) -> User | None:
        if not is_local(request, authorize_loopback=self._settings.authorize_local):
            return None
        with self._read() as tx:
            account = self._accounts.first_super_user(tx)
        return None if account is None else as_local(account.user)


def client_of(request: Request) -> str:
    """Whose turn it is when costly work is shared out. Not a forwarding header's word: anybody may write those."""
    return request.peer.address or "local"


def password_of(account: Account | None) -> StoredPassword | None:
    return None if account is None else account.password


async def checked_account(
    catalog: Catalog, passwords: Passwords, username: str, password: str, *, client: str
) -> Account | None:
    """The account whose user name and password these are; None for any other. It may be inactive."""
    with catalog.database(SYSTEM).read() as tx:
        account = Accounts().get(tx, username)
    is_right = await passwords.is_password(password, password_of(account), client=client)
    return account if is_right else None


def nobody(name: str) -> User:
    """The holder of a valid token whose user is gone."""
    return User(name=name, role=None)


def check_claims(claims: Claims, account: Account) -> None:
    """Raises ``AuthenticationFailed`` where a valid token is not good for the user as it is now."""
    if not account.user.is_active or claims.issued_at_s + CLOCKS_DIFFER_S_MAX < account.created_ms / 1000:
        raise AuthenticationFailed(INVALID)
