"""What an HTTP server hands to the dispatcher and gets back: plain values that know no server.

The dispatcher is ``async (Request) -> Response``. It never raises for something a client did; an exception that
escapes it is our bug, and the server answers 500 with the default text.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end. ``address`` is None for the unix domain socket: the listener decides what is
    local (``is_local_socket``), never a missing address."""

    address: str | None = None
    is_local_socket: bool = False
    is_tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One whole request. Header names are lower case; a repeated header's values are joined with ``, ``."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    peer: Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """``headers`` are sent in this order, after the server's own. A body that is an iterator is sent as it comes;
    ``chunked`` asks for chunked framing (HTTP/1.1) also where the whole body is at hand, as list answers do.
    ``close`` ends the connection after the answer."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | AsyncIterator[bytes] = field(default=b"")
    chunked: bool = False
    close: bool = False


Dispatcher: TypeAlias = Callable[[Request], Awaitable[Response]]
