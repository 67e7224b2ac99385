"""Tokens: signed statements that a user has logged in (JSON Web Tokens, RFC 7519, RS256).

An operation token goes with requests, a refresh token only buys new operation tokens. Neither carries rights: those are
the live role's, hence a token is looked at again whenever the user's or the role's record changes. Tokens stay valid
until they expire, whatever becomes of the password.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from ops.durations import duration_s
from ops.errors import AuthenticationFailed, OperationError
from ops.turns import Turns

Kind: TypeAlias = Literal["operation", "refresh"]

ALGORITHM: Final = "RS256"
TOKEN_LENGTH_MAX: Final = 16 * 1024
INVALID: Final = "invalid token"
EXPIRED: Final = "token expired"
SIGNATURES_AT_ONCE: Final = 2
UNITS_S: Final = {
    "": 0.001,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 7 * 86400.0,
    "y": 365.25 * 86400.0,
}
NOT_A_LIFETIME: Final = (
    '"expiresIn" should be a number of seconds or string representing a timespan eg: "1d", "20h", 60'
)

_OURS_TO_CHECK: Final[Any] = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_sub": False,
}
"""Times are compared with our clock, and a token whose maker's clock runs a little ahead is no forgery."""


class KeysUnreadable(OperationError):
    """The node's key files are there but cannot be used; raised by ``TokenKeys``."""

    def __init__(self) -> None:
        message = "unable to generate JWT as there are no encryption keys.  please contact your administrator"
        super().__init__(message, status=500)


class TokenKeys(Protocol):
    """The node's key pair. Making one takes seconds, hence it may be made when it is first asked for."""

    async def signing_key(self) -> RSAPrivateKey:
        """Raises ``KeysUnreadable``."""

    async def verification_key(self) -> RSAPublicKey:
        """Raises ``KeysUnreadable``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says, once its signature is checked."""

    user: str
    role: Any
    """A restriction that its maker asked for; the operations API takes no such token."""
    issued_at_s: float
    expires_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """For whom a token is made. ``role`` is copied into it where it is given."""

    user: str
    is_super_user: bool
    role: Any = None


def lifetime_s(value: Any) -> float:
    """Seconds of ``expires_in`` and of the two settings. Raises ``OperationError`` with the text that clients know."""
    try:
        return duration_s(value, UNITS_S)
    except ValueError as error:
        raise OperationError(NOT_A_LIFETIME, status=500) from error


class Tokens:
    """Makes and reads the tokens of this node."""

    def __init__(
        self,
        keys: TokenKeys,
        *,
        operation_lifetime: str | int = "1d",
        refresh_lifetime: str | int = "30d",
        wait_s_max: float = 20.0,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.now_s = now_s
        self._keys = keys
        self._lifetime_s: Mapping[Kind, float] = {
            "operation": lifetime_s(operation_lifetime),
            "refresh": lifetime_s(refresh_lifetime),
        }
        self._turns = Turns(at_once=SIGNATURES_AT_ONCE, wait_s_max=wait_s_max)

    async def make(self, kind: Kind, grant: Grant, *, client: str, expires_in: Any = None) -> str:
        """A token. Those made in the same second with the same lifetime are equal.

        Raises ``KeysUnreadable``, ``Overloaded``, or ``OperationError`` for a lifetime that is none.
        """
        lived_s = self._lifetime_s[kind] if expires_in is None else lifetime_s(expires_in)
        key = await self._keys.signing_key()
        return await self._turns.run(client, _signed, _claims(kind, grant, self.now_s(), lived_s), key)

    async def read(self, kind: Kind, token: str) -> Claims:
        """What a valid token of this kind says. Raises ``AuthenticationFailed``, or ``KeysUnreadable``."""
        if len(token) > TOKEN_LENGTH_MAX:
            raise AuthenticationFailed(INVALID)
        key = await self._keys.verification_key()
        try:
            payload: dict[str, Any] = jwt.decode(token, key, algorithms=[ALGORITHM], options=_OURS_TO_CHECK)
        except (jwt.InvalidTokenError, ValueError, RecursionError) as error:
            raise AuthenticationFailed(INVALID) from error
        claims = _read_claims(payload)
        if claims.expires_at_s <= self.now_s():
            raise AuthenticationFailed(EXPIRED)
        if payload.get("sub") != kind:
            raise AuthenticationFailed(INVALID)
        return claims


def _claims(kind: Kind, grant: Grant, now_s: float, lived_s: float) -> dict[str, Any]:
    issued_at = int(now_s)
    claims: dict[str, Any] = {"username": grant.user, "super_user": grant.is_super_user}
    if grant.role is not None:
        claims["role"] = grant.role
    return {**claims, "iat": issued_at, "exp": math.floor(issued_at + lived_s), "sub": kind}


def _signed(claims: dict[str, Any], key: RSAPrivateKey) -> str:
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def _read_claims(payload: Mapping[str, Any]) -> Claims:
    user = payload.get("username")
    issued_at, expires_at = payload.get("iat"), payload.get("exp")
    if not isinstance(user, str) or type(issued_at) is not int or type(expires_at) is not int:
        raise AuthenticationFailed(INVALID)
    return Claims(user=user, role=payload.get("role"), issued_at_s=issued_at, expires_at_s=expires_at)
