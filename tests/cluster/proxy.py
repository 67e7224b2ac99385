"""The network between the nodes of a cluster: a front before each node's port, and a rule for each ordered pair.

A node advertises the address of its front, so every peer comes through it; the certificate names the node, not the
address, so TLS does not notice. Who calls is asked of the kernel (which process has the calling socket), so one
advertised address is enough and each pair of nodes can still be treated by itself. The rules are about the way that
bytes take: a connection that B dials to A carries bytes both ways, so losing what goes from A to B touches it as well
as the one that A dials.

The fronts run in a thread with an event loop of their own; all methods are called from outside it.
"""

import math
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar

import trio

CHUNK_BYTES: Final = 1 << 16
THROTTLE_STEP_S: Final = 0.05
BEGIN_S_MAX: Final = 10.0
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

Address: TypeAlias = tuple[str, int]
T = TypeVar("T")


@dataclass(slots=True)
class _Way:
    """What happens to bytes from one node to another."""

    is_blocked: bool = False
    is_lossy: bool = False
    bytes_per_s: float = math.inf
    until_cut: float = math.inf
    carried: int = 0
    changed: trio.Event = field(default_factory=trio.Event)
    turn: trio.Lock = field(default_factory=trio.Lock)

    def change(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.changed.set()
        self.changed = trio.Event()

    async def admit(self, count: int) -> None:
        """Returns when so many bytes may go on; they may never, while everything is lost."""
        while self.is_lossy:
            await self.changed.wait()
        if self.bytes_per_s != math.inf:
            async with self.turn:
                await trio.sleep(count / self.bytes_per_s)

    def chunk_bytes(self) -> int:
        return max(1, int(min(CHUNK_BYTES, self.bytes_per_s * THROTTLE_STEP_S)))


@dataclass(slots=True, eq=False)
class _Passage:
    """One connection through a front."""

    caller: str
    target: str
    ends: list[trio.SocketStream]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def reset(self) -> None:
        for end in self.ends:
            _reset(end)
        self.scope.cancel()


@dataclass(slots=True)
class _Front:
    listen: Address
    upstream: Address
    dialled: int = 0


class Network:
    """``caller_of`` tells which node has a socket that leads to the front from the local port, None when none has."""

    def __init__(self, caller_of: Callable[[Address, int], str | None]) -> None:
        self._caller_of = caller_of
        self._ways: dict[tuple[str, str], _Way] = {}
        self._fronts: dict[str, _Front] = {}
        self._passages: set[_Passage] = set()
        self._thread = threading.Thread(target=trio.run, args=(self._run,), name="network", daemon=True)
        self._has_begun = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._has_begun.wait(BEGIN_S_MAX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._nursery is not None
        self._call(self._nursery.cancel_scope.cancel)
        self._thread.join(BEGIN_S_MAX)

    def open_front(self, name: str, listen: Address, upstream: Address) -> None:
        """From now on ``listen`` leads to the node."""
        self._fronts[name] = _Front(listen, upstream)
        self._await(lambda: self._open_front(name, listen))

    def reroute(self, name: str, upstream: Address) -> Address:
        """New connections to the node arrive somewhere else; where they arrived before is returned."""
        front = self._fronts[name]
        before, front.upstream = front.upstream, upstream
        return before

    def cut(self, one: str, other: str) -> None:
        """Reset what is open between the two, and refuse what they try."""
        self._change(((one, other), (other, one)), is_blocked=True)
        self.reset(one, other)

    def blackhole(self, one: str, other: str) -> None:
        """Everything between the two is lost, and nobody is told."""
        self._change(((one, other), (other, one)), is_lossy=True)

    def lose(self, source: str, destination: str) -> None:
        """Everything that goes from ``source`` to ``destination`` is lost, nothing of what comes back."""
        self._change(((source, destination),), is_lossy=True)

    def throttle(self, source: str, destination: str, bytes_per_s: float) -> None:
        self._change(((source, destination),), bytes_per_s=bytes_per_s)

    def cut_after(self, source: str, destination: str, count: int) -> None:
        """Once so many more bytes went this way, the connection with the next one is reset; then all is well again."""
        self._change(((source, destination),), until_cut=count)

    def heal(self, one: str, other: str) -> None:
        self._change(
            ((one, other), (other, one)),
            is_blocked=False,
            is_lossy=False,
            bytes_per_s=math.inf,
            until_cut=math.inf,
        )

    def heal_all(self) -> None:
        for one, other in list(self._ways):
            self.heal(one, other)

    def reset(self, one: str, other: str) -> None:
        """Break what is open between the two; they may connect again."""
        self._call(lambda: self._reset({one, other}))

    def carried(self, source: str, destination: str) -> int:
        """Bytes that have gone this way."""
        return self._way(source, destination).carried

    def dialled(self, target: str) -> int:
        """Connections to the node so far, those that were refused included."""
        return self._fronts[target].dialled

    def open_connections(self, caller: str, target: str) -> int:
        return self._call(lambda: sum((it.caller, it.target) == (caller, target) for it in self._passages))

    # -- outside the loop ------------------------------------------------------------------------------------------

    def _call(self, function: Callable[[], T]) -> T:
        return trio.from_thread.run_sync(function, trio_token=self._token)

    def _await(self, function: Callable[[], Awaitable[T]]) -> T:
        return trio.from_thread.run(function, trio_token=self._token)

    def _change(self, ways: tuple[tuple[str, str], ...], **values: object) -> None:
        self._call(lambda: [self._way(*way).change(**values) for way in ways])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _way(self, source: str, destination: str) -> _Way:
        return self._ways.setdefault((source, destination), _Way())

    def _reset(self, pair: set[str]) -> None:
        for passage in list(self._passages):
            if {passage.caller, passage.target} == pair:
                passage.reset()

    async def _run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._has_begun.set()
            await trio.sleep_forever()

    async def _open_front(self, name: str, listen: Address) -> None:
        assert self._nursery is not None
        host, port = listen
        listeners = await trio.open_tcp_listeners(port, host=host)
        self._nursery.start_soon(trio.serve_listeners, lambda stream: self._serve(name, stream), listeners)

    async def _serve(self, target: str, incoming: trio.SocketStream) -> None:
        front = self._fronts[target]
        front.dialled += 1
        caller = self._caller_of(front.listen, incoming.socket.getpeername()[1])
        there, back = (self._way(caller or "", target), self._way(target, caller or ""))
        if caller is None or there.is_blocked or back.is_blocked:
            _reset(incoming)
            return
        passage = _Passage(caller, target, [incoming])
        self._passages.add(passage)
        try:
            with passage.scope:
                await there.admit(0)
                outgoing = await trio.open_tcp_stream(*front.upstream)
                passage.ends.append(outgoing)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pump, passage, incoming, outgoing, there)
                    nursery.start_soon(_pump, passage, outgoing, incoming, back)
        except OSError:
            passage.reset()
        finally:
            self._passages.discard(passage)
            for end in passage.ends:
                end.socket.close()


async def _pump(passage: _Passage, source: trio.SocketStream, sink: trio.SocketStream, way: _Way) -> None:
    """Carry bytes until the end of the stream. A failure of one direction breaks the connection as a whole."""
    try:
        while data := await _next_chunk(source, way):
            if way.until_cut < len(data):
                await sink.send_all(data[: int(way.until_cut)])
                way.until_cut = math.inf
                passage.reset()
                return
            way.until_cut -= len(data)
            way.carried += len(data)
            await sink.send_all(data)
        await sink.send_eof()
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        passage.reset()


async def _next_chunk(source: trio.SocketStream, way: _Way) -> bytes:
    await way.admit(0)
    data = await source.receive_some(way.chunk_bytes())
    await way.admit(len(data))
    return bytes(data)


def _reset(stream: trio.SocketStream) -> None:
    """Close it so that the other end is told at once, and loses what was under way."""
    if stream.socket.fileno() != -1:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        stream.socket.close()
