"""The ``Authorization`` header as credentials. Pure."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ops.errors import AuthenticationFailed

_SPACES: Final = re.compile(r"[ \t\r\n\f]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    token: str = field(repr=False)


Credentials: TypeAlias = Basic | Bearer


def read_authorization(header: str) -> Credentials | None:
    """The credentials of a header; None where it brings none (no value, or an empty name with an empty password).

    Raises ``AuthenticationFailed`` for a scheme or a value that is not understood.
    """
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    match scheme.lower():
        case "basic":
            return _read_basic(value) if value else None
        case "bearer":
            return Bearer(token=value) if value else None
        case "":
            return None
    raise AuthenticationFailed


def bearer_token(header: str | None) -> str | None:
    """The token of a ``Bearer`` header, None for any other."""
    scheme, _, value = (header or "").strip().partition(" ")
    return value.strip() or None if scheme.lower() == "bearer" else None


def _read_basic(value: str) -> Basic | None:
    """Padding may be missing. A name or password that is not UTF-8 is what an old client sent: one byte a character."""
    compact = _SPACES.sub("", value).rstrip("=")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise AuthenticationFailed("Invalid character") from error
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    username, _, password = text.partition(":")
    return Basic(username=username, password=password) if username or password else None
