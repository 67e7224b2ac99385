"""Sessions of browser clients: a row that names the user, and a cookie that names the row.

The cookie's name begins with where the page came from, so a page of another origin sends no cookie that counts here:
this is what keeps foreign pages from acting for their visitor, as cookies alone go with every request.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from ops.durations import duration_s
from ops.http import Request
from ops.settings import OpsSettings
from ops.system_records import find_key
from ops.system_tables import SESSIONS
from storage.transaction import ReadTransaction

NEVER: Final = "Tue, 01 Oct 8307 19:33:20 GMT"
"""What a cookie says that ends only with its session."""
COOKIE: Final = "hdb-session"
UNITS_S: Final = {"": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "M": 30 * 86400.0}
LOCAL_HOSTS: Final = ("localhost:", "127.0.0.1:", "::1", "[::1]")
_SCHEME: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*://")
_NOT_A_WORD: Final = re.compile(r"\W", re.ASCII)
_UNFIT_FOR_A_NAME: Final = re.compile(r"[^\w.:\-\[\]]", re.ASCII)
_SESSION_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A stored session. ``user`` is None after a logout."""

    id: str
    user: str | None
    updated_ms: float


def cookie_name(headers: Mapping[str, str]) -> str:
    """The name of the session cookie of a page of this origin."""
    source = headers.get("origin") or headers.get("host") or ""
    prefix = _NOT_A_WORD.sub("_", _SCHEME.sub("", source), count=1)
    return _UNFIT_FOR_A_NAME.sub("_", f"{prefix}-") + COOKIE if prefix else COOKIE


def session_id_of(headers: Mapping[str, str]) -> str | None:
    """The session that a request names, whether or not there is one."""
    cookies = headers.get("cookie")
    if cookies is None:
        return None
    wanted = cookie_name(headers)
    for cookie in cookies.split(";"):
        name, _, value = cookie.strip().partition("=")
        if name == wanted and _SESSION_ID.fullmatch(value):
            return value
    return None


def read_session(tx: ReadTransaction, headers: Mapping[str, str]) -> Session | None:
    """The session that a request's cookie names; None where there is none, or no longer."""
    session_id = session_id_of(headers)
    key = find_key(session_id)
    if session_id is None or key is None:
        return None
    table = tx.table(SESSIONS)
    row = tx.row(table, key)
    if row is None:
        return None
    record: dict[str, Any] = tx.record(table, row)
    user = record.get("user")
    return Session(id=session_id, user=user if isinstance(user, str) else None, updated_ms=row.ts / 1000)


def new_session_id() -> str:
    return str(uuid.uuid4())


def lifetime_s(settings: OpsSettings) -> float | None:
    """How long a new session lasts; None for ever."""
    return None if settings.cookie_expires is None else duration_s(settings.cookie_expires, UNITS_S)


def cookie_headers(request: Request, session_id: str, settings: OpsSettings) -> tuple[tuple[str, str], ...]:
    """The headers of the answer that gives a client its session.

    Where the client is on TLS or on this machine, the cookie also goes with requests from pages of other hosts.
    """
    lives_s = lifetime_s(settings)
    expires = NEVER if lives_s is None else format_datetime(datetime.now(UTC) + timedelta(seconds=lives_s), usegmt=True)
    parts = [f"{cookie_name(request.headers)}={session_id}", "Path=/", f"Expires={expires}", "HttpOnly"]
    domain = _domain(request.headers, settings.cookie_domains)
    if domain is not None:
        parts.append(f"Domain={domain}")
    if not (request.peer.is_tls or request.headers.get("host", "").startswith(LOCAL_HOSTS)):
        return (("set-cookie", "; ".join(parts)),)
    cookie = "; ".join((*parts, "SameSite=None", "Secure"))
    return (
        ("set-cookie", cookie),
        ("x-hdb-session", "Secure"),
        ("access-control-expose-headers", "X-Hdb-Session"),
    )


def _domain(headers: Mapping[str, str], domains: tuple[str, ...]) -> str | None:
    """The configured domain that the node was called by: browsers drop a cookie for any other."""
    try:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return None
    return next((domain for domain in domains if f".{host}".endswith(f".{domain.lstrip('.').lower()}")), None)
