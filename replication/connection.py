"""What the links need of a network: message frames to and from one peer, as protocols.

``replication/transport.py`` makes connections of websockets over TLS; the simulation makes them of memory. Everything
above sees frames only, so both run the same code.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import trio


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerIdentity:
    """Who is at the other end, as proven before the first frame.

    ``name`` is None on a connection without a certificate (a join): then ``is_super_user`` tells that its credentials
    were those of a super user. ``serial`` is the number of the certificate; ``not_after_s`` when it ends (epoch).
    """

    name: str | None
    address: str
    serial: int | None = None
    not_after_s: float | None = None
    is_super_user: bool = False


class Connection(Protocol):
    """Frames to and from one peer. One task sends and one receives at a time."""

    @property
    def peer(self) -> PeerIdentity: ...

    @property
    def last_byte_at(self) -> float:
        """``trio.current_time()`` at which the last byte arrived: a large frame on a slow line is alive."""

    async def send(self, frame: bytes) -> None:
        """Send one frame whole. Raises ``LinkLost``; cancelled midway, the connection is of no more use."""

    async def receive(self, bytes_max: int) -> bytes:
        """The next frame. Raises ``LinkLost`` at the end, ``PeerRefused`` where the peer gave a reason, and
        ``RemoteProtocolError`` (code ``too-large``) for a frame of more than ``bytes_max``.
        """

    async def close(self, reason: str = "") -> None:
        """Say goodbye with a reason of at most 123 bytes, as far as that is possible at once, and close. Never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to dial, and who has to be there. Address and expected identity are independent of each other.

    ``authorization`` is the value of an HTTP header, for a join or a peer with retained credentials.
    """

    url: str
    """``wss://host:port`` or ``ws://host:port``."""
    name: str | None
    """Expected identity; None accepts whoever is there (a join by URL)."""
    verifies: bool = True
    """False accepts any server certificate, for the one connection of a join."""
    authorities_pem: str | None = None
    """The only ones that the server's certificate may come from; None: those that this node trusts."""
    shows_certificate: bool = True
    authorization: str | None = None


Dial: TypeAlias = Callable[[Target], Awaitable[Connection]]
"""Raises ``LinkLost`` where nobody answers, ``PeerRefused`` where somebody declines."""
Serve: TypeAlias = Callable[[Connection], Awaitable[None]]
"""Called with each accepted connection, in a task of its own; closes it before it returns."""


class Listener(Protocol):
    """Where peers dial in."""

    async def run(self, serve: Serve, *, task_status: trio.TaskStatus[None]) -> None:
        """Accept until cancelled; started once all ports are open."""
