"""Operations that nodes ask of each other, over control connections: who dialled asks, the other side answers.

Requests carry numbers and may be answered in any order. When the connection goes, who waits gets ``LinkLost``; nothing
is sent a second time, as it may have been carried out.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import trio

from replication.connection import PeerIdentity
from replication.errors import LinkLost
from replication.link import Link
from replication.messages import CallOperation, Databases, Message, OperationResult
from storage import codec
from storage.errors import Corrupt

OUTSTANDING_MAX: Final = 64
"""Requests under way on one connection."""


class RemoteFailure(LinkLost):
    """The peer answered with an error."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


Answer: TypeAlias = tuple[int, Any]
"""Status as of HTTP, and the answer's body as a value of the CBOR value model."""
Handler: TypeAlias = Callable[[PeerIdentity, str, Mapping[str, Any]], Awaitable[Answer]]
"""Carries out an operation for a peer: its identity as proven, the name that it gave, the request."""


class Caller:
    """The dialler's side of a control connection."""

    def __init__(self, link: Link, *, on_databases: Callable[[Mapping[str, int]], None]) -> None:
        self._link = link
        self._on_databases = on_databases
        self._limit = trio.CapacityLimiter(OUTSTANDING_MAX)
        self._waiting: dict[int, tuple[trio.Event, list[OperationResult]]] = {}
        self._number = 0
        self._is_closed = False

    def receive(self, message: Message, _: int) -> None:
        match message:
            case OperationResult():
                waiting = self._waiting.get(message.request_id)
                if waiting is not None:
                    waiting[1].append(message)
                    waiting[0].set()
            case Databases():
                self._on_databases(message.databases)
            case _:
                pass

    def close(self) -> None:
        """The connection is gone: wake all who wait."""
        self._is_closed = True
        for answered, _ in self._waiting.values():
            answered.set()

    async def call(self, operation: Mapping[str, Any], *, timeout_s: float) -> Any:
        """The answer's body. Raises ``RemoteFailure`` for an error, ``LinkLost`` where none came."""
        results: list[OperationResult] = []
        with trio.move_on_after(timeout_s) as scope:
            async with self._limit:
                await self._ask(operation, results, timeout_s)
        if scope.cancelled_caught:
            raise LinkLost(f"the peer did not answer within {timeout_s:g} s")
        if not results:
            raise LinkLost("the connection to the peer was lost")
        return _value(results[0])

    async def _ask(self, operation: Mapping[str, Any], results: list[OperationResult], timeout_s: float) -> None:
        if self._is_closed:
            raise LinkLost("the connection to the peer is closed")
        self._number += 1
        number = self._number
        answered = trio.Event()
        self._waiting[number] = (answered, results)
        try:
            self._link.post(CallOperation(request_id=number, operation=operation, deadline_ms=int(timeout_s * 1000)))
            await answered.wait()
        finally:
            del self._waiting[number]


class Answerer:
    """The other side: carries out what a peer asks, several at a time."""

    def __init__(self, link: Link, handler: Handler, *, on_databases: Callable[[Mapping[str, int]], None]) -> None:
        self._link = link
        self._handler = handler
        self._on_databases = on_databases
        self._asked, self._requests = trio.open_memory_channel[CallOperation](OUTSTANDING_MAX)

    def receive(self, message: Message, _: int) -> None:
        match message:
            case CallOperation():
                try:
                    self._asked.send_nowait(message)
                except trio.WouldBlock:
                    self._answer(message, 503, {"error": "too many requests of this node are under way"})
            case Databases():
                self._on_databases(message.databases)
            case _:
                pass

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(OUTSTANDING_MAX)
            async for request in self._requests:
                await limit.acquire_on_behalf_of(request.request_id)
                nursery.start_soon(self._carry_out, request, limit)

    async def _carry_out(self, request: CallOperation, limit: trio.CapacityLimiter) -> None:
        try:
            status, body = await self._handler(self._link.connection.peer, self._link.peer.name, request.operation)
            self._answer(request, status, body)
        finally:
            limit.release_on_behalf_of(request.request_id)

    def _answer(self, request: CallOperation, status: int, body: Any) -> None:
        self._link.post(OperationResult(request_id=request.request_id, status=status, body=codec.encode(body)))


def _value(result: OperationResult) -> Any:
    try:
        body = codec.decode(result.body)
    except Corrupt as error:
        raise LinkLost(f"the peer's answer cannot be read: {error}") from error
    if result.status == 200:
        return body
    message = body.get("error") if isinstance(body, Mapping) else None
    raise RemoteFailure(str(message or body), status=result.status)
