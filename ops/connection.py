"""One accepted connection, and all that are open: until when each may stay silent, and which clients have left.

Whoever serves a connection only notes what it waits for (``phase``) and until when (``receive_by``, ``take_by``); one
task for all connections looks at these notes every ``watch_s``. A timer per wait, or a task per request that watches
for the client's departure, would cost more than most answers do.

A client that ends its direction has most likely left, but may also be one that closes early and waits for its answer
(``nc -N``): TCP shows both alike. It gets ``half_close_grace_s`` to be answered in, then what runs for it is cancelled.
"""

import math
import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus
from typing import Final, TypeAlias

import trio

from ops.http import Peer
from ops.server_headers import refusal_head
from ops.serving_settings import ServingSettings

Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

LINGER_S: Final = 2.0
"""How long a connection with unread bytes is read on after the answer: closing it at once would reset it, and the
reset may overtake the answer.
"""
LINGER_BYTES_MAX: Final = 64 * 1024 * 1024
RECEIVE_BYTES: Final = 64 * 1024
SEND_PIECE_BYTES: Final = 256 * 1024
"""Large answers are sent in such pieces: each one that the client takes shows that it is there."""
_CLIENT_ENDED: Final = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class Phase(Enum):
    """What a connection waits for."""

    IDLE = auto()
    """The first byte of a request."""
    HEAD = auto()
    BODY = auto()
    WORKING = auto()
    """The node itself, or the client to take the answer."""


class Connection:
    """``with connection.scope`` around all that serves it: the scope is cancelled when the client is too slow or
    gone.
    """

    __slots__ = (
        "_fileno",
        "_seen_answering",
        "answering",
        "has_unread",
        "is_http2",
        "is_late",
        "is_over",
        "peer",
        "phase",
        "receive_by",
        "scope",
        "stream",
        "take_by",
        "timeout_s",
    )

    def __init__(self, stream: Stream, peer: Peer, *, timeout_s: float, receive_by: float) -> None:
        """``timeout_s`` bounds the silence of a client that does not take its answer."""
        self.stream = stream
        self.peer = peer
        self.timeout_s = timeout_s
        self.scope = trio.CancelScope()
        self.phase = Phase.IDLE
        self.receive_by = receive_by
        """When bytes must have come; infinity while none are expected."""
        self.take_by = math.inf
        """When the client must have taken what is being sent."""
        self.answering = 0
        """Other than 0 while a request is answered and nobody reads from the stream: a number of its own for each."""
        self.is_late = False
        """A time ran out."""
        self.is_over = False
        """Nothing that comes will be read."""
        self.is_http2 = False
        self.has_unread = False
        """The client may still be sending when the connection ends."""
        self._seen_answering = 0
        self._fileno = transport_of(stream).socket.fileno()

    async def receive(self, bytes_max: int = RECEIVE_BYTES) -> bytes:
        """What comes next; empty when nothing will come any more."""
        try:
            received = await self.stream.receive_some(bytes_max)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""
        # A request that came in the moment of being dismissed is not begun: it would be cancelled half-way.
        return b"" if self.is_over else bytes(received)

    async def send(self, data: bytes) -> None:
        """Returns when the system has taken it all. Raises ``trio.BrokenResourceError`` when the client is gone."""
        try:
            for piece in (data,) if len(data) <= SEND_PIECE_BYTES else _pieces(data):
                self.take_by = trio.current_time() + self.timeout_s
                await self.stream.send_all(piece)
        except trio.ClosedResourceError as error:
            raise trio.BrokenResourceError from error
        finally:
            self.take_by = math.inf

    def dismiss(self) -> None:
        """End what is served here."""
        self.is_over = True
        self.scope.cancel()

    async def end(self, refusal: HTTPStatus | None = None) -> None:
        """Close, so that the client still gets what was sent. Takes ``LINGER_S`` at most."""
        with trio.move_on_after(LINGER_S):
            try:
                if refusal is not None:
                    await self.stream.send_all(refusal_head(refusal))
                if refusal is not None or self.has_unread:
                    await _read_on(transport_of(self.stream))
                await self.stream.aclose()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # The client was faster.

    def check(self, now: float) -> bool:
        """Cancel what has waited too long. True: this connection's socket shall be asked whether its client has left."""
        if self.receive_by <= now or self.take_by <= now:
            self.is_late = True
            self.dismiss()
            return False
        answering = self.answering
        if answering == 0:
            return False
        is_slow = answering == self._seen_answering
        self._seen_answering = answering
        return is_slow

    @property
    def fileno(self) -> int:
        return self._fileno


def transport_of(stream: Stream) -> trio.SocketStream:
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), SEND_PIECE_BYTES):
        yield view[start : start + SEND_PIECE_BYTES]


async def _read_on(transport: trio.SocketStream) -> None:
    """Say that no more will be sent, and let the client finish what it is sending."""
    await transport.send_eof()
    left = LINGER_BYTES_MAX
    while left > 0:
        received = len(await transport.receive_some(RECEIVE_BYTES))
        if received == 0:
            return
        left -= received


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStatistics:
    open: int
    idle: int
    """Of the open ones: those between two requests."""
    waiting: int
    """Accepted, but without a place yet: one of each listener at most, the others wait in its backlog."""


class Connections:
    """All that are open. ``run`` watches them; it ends by being cancelled."""

    def __init__(self, settings: ServingSettings) -> None:
        self.is_stopping = False
        self._waiting = 0
        self._open: set[Connection] = set()
        self._room = trio.Semaphore(settings.connections_max)
        self._half_close_grace_s = settings.half_close_grace_s
        self._watch_s = settings.watch_s

    @property
    def keeps_none(self) -> bool:
        """Every answer is the last of its connection: the server stops, or others wait for a place."""
        return self.is_stopping or self._waiting > 0

    def statistics(self) -> ConnectionStatistics:
        return ConnectionStatistics(open=len(self._open), idle=sum(1 for _ in self._idle()), waiting=self._waiting)

    async def run(self) -> None:
        while True:
            await trio.sleep(self._watch_s)
            now = trio.current_time()
            slow = {connection.fileno: connection for connection in self._open if connection.check(now)}
            if slow:
                self._give_up_departed(slow, now)

    async def wait_for_room(self) -> None:
        """Take a place for a connection; ``leave_room`` gives it back. In a full house the longest idle one must go."""
        if self._room.value > 0:
            # Not counted as waiting, not even for the moment of a checkpoint: answers sent meanwhile would be last ones.
            self._room.acquire_nowait()
            return
        self._end_longest_idle()
        self._waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1

    def leave_room(self) -> None:
        self._room.release()

    @contextmanager
    def watching(self, connection: Connection) -> Iterator[None]:
        self._open.add(connection)
        if self.is_stopping:
            connection.dismiss()
        try:
            yield
        finally:
            self._open.remove(connection)

    def stop(self) -> None:
        """End the idle ones now, and the others after what they are at."""
        self.is_stopping = True
        for connection in self._idle():
            connection.dismiss()

    def _end_longest_idle(self) -> None:
        longest = min(self._idle(), key=lambda connection: connection.receive_by, default=None)
        if longest is not None:
            longest.dismiss()

    def _idle(self) -> Iterator[Connection]:
        return (connection for connection in self._open if connection.phase is Phase.IDLE)

    def _give_up_departed(self, slow: dict[int, Connection], now: float) -> None:
        poll = select.poll()
        for fileno in slow:
            poll.register(fileno, _CLIENT_ENDED)
        for fileno, _ in poll.poll(0):
            connection = slow[fileno]
            connection.receive_by = min(connection.receive_by, now + self._half_close_grace_s)
