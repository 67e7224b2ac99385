"""The tasks of one connection: read, write, heartbeat. What the messages mean is the business of its user.

Reading never waits for writing or applying: ``receive`` of the user only takes note. What is sent goes through an
outbox that one task empties; answers are posted to it at once, batches wait for their turn. Losing the connection
cancels everything that belongs to it.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from replication.connection import Connection
from replication.errors import LinkLost, PeerRefused, RemoteProtocolError
from replication.messages import Bye, Error, Hello, Message, Pong
from replication.session import Session
from replication.settings import LinkSettings
from replication.wire import Wire
from storage.clock import WallClock
from storage.errors import DatabaseError, StorageError

log = logging.getLogger("replication")

HELLO_BYTES_MAX: Final = 1 << 20
POSTED_MAX: Final = 1000
"""Answers that wait to be written. A peer that asks on and on and never reads has lost its connection."""
FAREWELL_S: Final = 1.0
"""How long a goodbye may take."""


class Link:
    """One connection, from hello to goodbye."""

    def __init__(
        self,
        connection: Connection,
        greet: Callable[[Hello | None], Hello],
        *,
        name: str,
        expected: str | None,
        is_dialler: bool,
        settings: LinkSettings,
        clock: WallClock,
        head: Callable[[], int] = lambda: 0,
    ) -> None:
        """``greet`` makes our hello: the dialler's at once, the other side's as answer to it, as that names the
        database that the hello is about. ``head``: last ``lseq`` of its log, for pings.
        """
        self.connection = connection
        self.settings = settings
        self.session = Session(name, expected=expected, settings=settings, now_s=trio.current_time())
        self.greeted = trio.Event()
        self.own: Hello | None = None
        """What our side said of itself."""
        self.complete_pong: Callable[[Pong], Pong] = lambda pong: pong
        """What the user of this link has to add to the answer to a ping."""
        self.received_bytes = 0
        self._farewell = Bye(code="shutting-down")
        self._ended = trio.Event()
        self._greet = greet
        self._is_dialler = is_dialler
        self._clock = clock
        self._head = head
        self._wire = Wire()
        self._posted: deque[Message] = deque()
        self._may_write = trio.Event()
        self._written = trio.Event()

    @property
    def peer(self) -> Hello:
        """The peer's hello; there once ``greeted`` is set."""
        assert self.session.peer is not None, "nothing is asked of a link before its hello"
        return self.session.peer

    # -- sending --------------------------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Send as soon as the writer comes to it. Raises ``LinkLost`` where too much waits already."""
        if len(self._posted) >= POSTED_MAX:
            raise LinkLost("the peer does not read what it asked for")
        self._posted.append(message)
        self._may_write.set()

    async def send(self, message: Message) -> None:
        """Send, and wait until it and all before it have been handed to the connection."""
        self.post(message)
        await self.flush()

    async def flush(self) -> None:
        """Wait until all that was posted has been handed to the connection."""
        while self._posted:
            await self._written.wait()

    def end(self, farewell: Bye) -> None:
        """Have the connection end, with a goodbye that says why."""
        self._farewell = farewell
        self._ended.set()

    def is_alive(self) -> bool:
        """Whether the peer has said hello, and proven since then that it lives."""
        return self.session.is_alive(trio.current_time(), last_byte_at=self.connection.last_byte_at)

    def silent_s(self) -> float | None:
        """How long ago the peer last proved that it lives; None before its hello."""
        proof_at = self.session.proof_at(self.connection.last_byte_at)
        return None if proof_at is None else trio.current_time() - proof_at

    @property
    def has_progressed(self) -> bool:
        """Whether the peer has answered a ping, so that more than a greeting came of it."""
        return self.session.liveness.latency_s is not None

    # -- tasks ----------------------------------------------------------------------------------------------------

    async def run(self, receive: Callable[[Message, int], None], body: Callable[[], Awaitable[None]]) -> None:
        """Serve until ``body`` returns (then say goodbye), or the connection is lost.

        ``receive`` gets each message behind the greeting with the size of its frame; it must not wait. Raises
        ``LinkLost``, ``PeerRefused``, ``RemoteProtocolError``, or a ``StorageError`` of this side.
        """
        if self._is_dialler:
            self._say_hello(None)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._read, receive)
                nursery.start_soon(self._beat)
                nursery.start_soon(self._end_when_asked, nursery)
                await self.greeted.wait()
                await body()
                nursery.cancel_scope.cancel()
            await self._say(self._farewell)
        except trio.Cancelled:
            await self._say(self._farewell)
            raise
        except BaseExceptionGroup as group:
            cancelled, errors = group.split(trio.Cancelled)
            if errors is None:
                await self._say(self._farewell)
                raise
            error = sole_error(errors)
            if cancelled is not None and isinstance(error, DatabaseError):
                error = cancelled  # whoever cancels need not hear that the connection broke over it
            await self._say_error(error)
            raise error from None
        finally:
            await self.connection.close()

    def _say_hello(self, answered: Hello | None) -> None:
        self.own = self._greet(answered)
        self.post(self.own)

    async def _end_when_asked(self, nursery: trio.Nursery) -> None:
        await self._ended.wait()
        nursery.cancel_scope.cancel()

    async def _read(self, receive: Callable[[Message, int], None]) -> None:
        while True:
            bytes_max = self.settings.frame_bytes_max if self.greeted.is_set() else HELLO_BYTES_MAX
            frame = await self.connection.receive(bytes_max)
            self.received_bytes += len(frame)
            message = self._wire.decode(frame)
            if message is None:
                continue
            now_us = self._clock()
            answers = self.session.receive(
                message, now_s=trio.current_time(), now_ms=now_us / 1000, clock_us=now_us, head=self._head()
            )
            for answer in answers:
                self.post(self.complete_pong(answer) if isinstance(answer, Pong) else answer)
            if isinstance(message, Hello):
                if not self._is_dialler:
                    self._say_hello(message)
                self.greeted.set()
                self._ping(now_us)
            else:
                receive(message, len(frame))
            del frame, message
            await trio.lowlevel.checkpoint()

    def _ping(self, now_us: int) -> None:
        """Ask at once, so that round trip and clocks are known from the beginning."""
        ping = self.session.ping(now_s=trio.current_time(), now_ms=now_us / 1000, clock_us=now_us, head=self._head())
        self.post(ping)

    async def _write(self) -> None:
        while True:
            while not self._posted:
                self._may_write = trio.Event()
                await self._may_write.wait()
            for frame in self._wire.encode(self._posted[0]):
                await self.connection.send(frame)
            self._posted.popleft()
            self._written.set()
            self._written = trio.Event()

    async def _beat(self) -> None:
        while True:
            last_byte_at = self.connection.last_byte_at
            await trio.sleep_until(max(self.session.next_tick_at(last_byte_at), trio.current_time() + 0.001))
            now_us = self._clock()
            due = self.session.tick(
                now_s=trio.current_time(),
                last_byte_at=self.connection.last_byte_at,
                now_ms=now_us / 1000,
                clock_us=now_us,
                head=self._head(),
            )
            for message in due:
                self.post(message)

    # -- ending ---------------------------------------------------------------------------------------------------

    async def _say_error(self, error: BaseException) -> None:
        """Tell the peer what it did; where it went away or said goodbye itself, there is nobody to tell."""
        match error:
            case RemoteProtocolError():
                await self._say(Error(code=error.code, message=str(error)))
            case PeerRefused() if error.code == "self":
                await self._say(Bye(code="self", reason=str(error), after_ms=-1))
            case _:
                pass

    async def _say(self, message: Message) -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(FAREWELL_S):
            try:
                for frame in self._wire.encode(message):
                    await self.connection.send(frame)
            except LinkLost:
                pass


def sole_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended a nursery: the first of its errors that says why, else whatever there is."""
    leaves = _leaves(group)
    if not all(isinstance(leaf, DatabaseError) for leaf in leaves):
        return leaves[0] if len(leaves) == 1 else group
    for kind in (PeerRefused, RemoteProtocolError, StorageError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
