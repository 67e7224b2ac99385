"""Greeting, liveness and farewell of one connection, whatever it carries. Sans-IO: messages and times in, messages
out.

Both sides say hello at once; nothing else counts before. Liveness is ours, not the socket's: each side pings, and a
peer from which no byte came for the timeout is gone. A large frame on a slow line is alive, hence bytes, not frames.
"""

from dataclasses import dataclass, field
from typing import Final

from replication.errors import LinkLost, PeerRefused, RemoteProtocolError
from replication.messages import PROTOCOL_VERSION, Bye, Error, Hello, Message, Ping, Pong
from replication.settings import LinkSettings

NEVER_AGAIN: Final = frozenset(("self", "removed"))
"""Refusals that only a change of the membership can mend."""


@dataclass(slots=True)
class Liveness:
    """What pings tell of the peer, for the status."""

    latency_s: float | None = None
    clock_skew_s: float = 0.0
    last_proof_at: float | None = None
    """``trio.current_time()`` of the last pong or hello."""
    _sent: dict[int, float] = field(default_factory=dict)


class Session:
    """One side of one connection."""

    def __init__(self, name: str, *, expected: str | None, settings: LinkSettings, now_s: float) -> None:
        """``name`` is our own; ``expected`` the one that the peer has proven or must have, None: any but our own."""
        self._name = name
        self.peer: Hello | None = None
        self.liveness = Liveness()
        self._expected = expected
        self._settings = settings
        self._token = 0
        self._ping_due_at = now_s + settings.ping_interval_s

    def receive(self, message: Message, *, now_s: float, now_ms: float, clock_us: int, head: int = 0) -> list[Message]:
        """Take note of a message; answers to it. Raises ``RemoteProtocolError``, ``PeerRefused``, ``LinkLost``."""
        match message:
            case Hello():
                self._greet(message, now_s, now_ms)
            case Bye():
                raise self._farewell(message)
            case _ if self.peer is None:
                if isinstance(message, Error):
                    raise PeerRefused(message.message, code=message.code)
                raise RemoteProtocolError("the peer did not say hello first", code="unsupported")
            case Ping():
                return [Pong(token=message.token, now_ms=now_ms, clock_us=clock_us, head=head)]
            case Pong():
                self._pong(message, now_s, now_ms)
        return []

    def tick(self, *, now_s: float, last_byte_at: float, now_ms: float, clock_us: int, head: int = 0) -> list[Message]:
        """Messages that are due by now. Raises ``LinkLost`` where the peer has been silent for too long."""
        if now_s - last_byte_at >= self._settings.ping_timeout_s:
            raise LinkLost(f"no byte came for {self._settings.ping_timeout_s:g} s")
        if now_s < self._ping_due_at or self.peer is None:
            return []
        return [self.ping(now_s=now_s, now_ms=now_ms, clock_us=clock_us, head=head)]

    def ping(self, *, now_s: float, now_ms: float, clock_us: int, head: int = 0) -> Ping:
        """A ping to send now; the next one is due an interval later."""
        self._ping_due_at = now_s + self._settings.ping_interval_s
        self._token += 1
        self.liveness._sent = {self._token: now_s}
        return Ping(token=self._token, now_ms=now_ms, clock_us=clock_us, head=head)

    def next_tick_at(self, last_byte_at: float) -> float:
        return min(self._ping_due_at, last_byte_at + self._settings.ping_timeout_s)

    def is_alive(self, now_s: float, *, last_byte_at: float) -> bool:
        """Whether a proof of life of a peer that has said hello is newer than the timeout; an open socket is none."""
        proof_at = self.proof_at(last_byte_at)
        return proof_at is not None and now_s - proof_at < self._settings.ping_timeout_s

    def proof_at(self, last_byte_at: float) -> float | None:
        """When the peer last proved that it lives: by an answer, or by any byte of a frame that is still coming."""
        proof_at = self.liveness.last_proof_at
        return None if proof_at is None else max(proof_at, last_byte_at)

    def _greet(self, hello: Hello, now_s: float, now_ms: float) -> None:
        if self.peer is not None:
            raise RemoteProtocolError("the peer said hello twice")
        if hello.name == self._name:
            raise PeerRefused("this is the node itself", code="self", after_s=-1)
        if self._expected is not None and hello.name.lower() != self._expected.lower():
            raise RemoteProtocolError(
                f"the peer calls itself '{hello.name}', not '{self._expected}'", code="name-mismatch"
            )
        if not hello.version_min <= PROTOCOL_VERSION <= hello.version_max:
            raise RemoteProtocolError(
                f"the peer speaks versions {hello.version_min} to {hello.version_max}, this node {PROTOCOL_VERSION}",
                code="version",
            )
        self.peer = hello
        self.liveness.last_proof_at = now_s
        self.liveness.clock_skew_s = (hello.now_ms - now_ms) / 1000

    def _pong(self, pong: Pong, now_s: float, now_ms: float) -> None:
        sent_at = self.liveness._sent.pop(pong.token, None)
        if sent_at is None:
            return
        self.liveness.last_proof_at = now_s
        self.liveness.latency_s = now_s - sent_at
        self.liveness.clock_skew_s = (pong.now_ms - now_ms) / 1000 + self.liveness.latency_s / 2

    def _farewell(self, bye: Bye) -> Exception:
        if bye.after_ms < 0 or bye.code in NEVER_AGAIN:
            return PeerRefused(bye.reason or bye.code, code=bye.code, after_s=-1)
        if bye.code in ("shutting-down", "superseded"):
            return LinkLost(bye.reason or bye.code)
        return PeerRefused(bye.reason or bye.code, code=bye.code, after_s=bye.after_ms / 1000 or None)
