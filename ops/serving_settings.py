"""Settings of the HTTP listeners of the operations API: made once at the start, passed in."""

from dataclasses import dataclass
from pathlib import Path

from replication.tcp_ports import Address as Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    plain: Address | None = None
    """The listener for HTTP without TLS; None keeps it closed."""
    secure: Address | None = None
    """The listener for HTTPS; whether it offers HTTP/2 is said by its ``SSLContext``."""
    domain_socket: Path | None = None
    fast_lane: bool = True
    """Whether ``POST /`` over HTTP/1.1 is answered ahead of the general server; answers are the same either way."""

    cors: bool = True
    cors_access_list: tuple[str, ...] = ("*",)
    """Origins, exactly as browsers name them, or ``*`` for all; empty for nobody."""
    cors_allow_headers: str = "Accept, Content-Type, Authorization"
    allows_credentials: bool = True
    """Whether browsers may send the session cookie along."""

    header_bytes_max: int = 16394
    """Largest head of a request: request line, headers and the empty line after them."""
    body_bytes_max: int = 1 << 30
    connections_max: int = 4096
    """Open connections of all listeners together; beyond it, the idle ones make room first, then new ones wait."""

    handshake_timeout_s: float = 10.0
    header_timeout_s: float = 60.0
    """From a request's first byte to the end of its head; and what a new connection may take for its first byte."""
    keep_alive_timeout_s: float = 30.0
    """From an answer to the next request's first byte."""
    timeout_s: float = 120.0
    """Silence in the middle of a request's body, or of an answer that the client does not take. Time that the node
    itself needs for an answer does not count."""
    half_close_grace_s: float = 1.0
    """What a client gets to be answered in that has ended its own direction: most likely it has left."""
    watch_s: float = 0.1
    """How often open connections are looked at, and so how late the limits above may take effect."""
    drain_s: float = 10.0
    """What running requests get to end in when the server stops."""
