"""A network of memory: frames take time, stop, or are lost with their connection; never reordered within one.

That is what TCP leaves of the world's faults. A *cut* pair refuses connections and has those it had broken. A
*blackhole* lets nothing through in one direction and tells nobody; when it ends, what waited arrives. A frame may be
damaged where the run asks for it: then TLS is thought away, and digests have to notice.
"""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from replication.connection import Connection, Dial, PeerIdentity, Serve, Target
from replication.errors import LinkLost, RemoteProtocolError
from tests.simulation.plan import Violation

BUFFER_BYTES = 256 * 1024
CONNECT_TIMEOUT_S = 10.0
FRAMES_PER_S_MAX = 2_000
"""A whole cluster that connects and catches up sends some hundreds."""


@dataclass(eq=False)
class Pipe:
    """One direction of one connection. A reader that waits is woken once per frame, when it arrives: that is what most
    of a simulation's time goes into.
    """

    network: "Network"
    source: str
    target: str
    frames: deque[tuple[float, bytes]] = field(default_factory=deque)
    buffered_bytes: int = 0
    is_finished: bool = False
    is_broken: bool = False
    last_arrival: float = 0.0
    _reader: trio.CancelScope | None = None
    _room: trio.Event | None = None

    def wake(self) -> None:
        """Something else than a frame may have changed: have both ends look again."""
        if self._reader is not None:
            self._reader.cancel()
        self._wake_writer()

    async def put(self, frame: bytes) -> None:
        await trio.lowlevel.checkpoint()
        while self.buffered_bytes >= BUFFER_BYTES and not self.is_broken:
            self._room = trio.Event()
            await self._room.wait()
        if self.is_broken or self.is_finished:
            raise LinkLost("the connection is broken")
        self.network.count_frame()
        delay_s = self.network.delay_s(self.source, self.target, len(frame))
        self.last_arrival = max(self.last_arrival, trio.current_time() + delay_s)
        self.frames.append((self.last_arrival, self.network.perhaps_damaged(frame)))
        self.buffered_bytes += len(frame)
        if self._reader is not None:
            self._reader.deadline = self._next_arrival()

    async def get(self) -> bytes:
        has_waited = False
        while True:
            if self.is_broken:
                raise LinkLost("the connection was reset")
            arrival = self._next_arrival()
            if arrival <= trio.current_time() and has_waited:
                _, frame = self.frames.popleft()
                self.buffered_bytes -= len(frame)
                self._wake_writer()
                return frame
            if arrival <= trio.current_time():
                await trio.lowlevel.checkpoint()
            elif self.is_finished and not self.frames:
                raise LinkLost("the peer closed the connection")
            else:
                with trio.CancelScope(deadline=arrival) as self._reader:
                    await trio.sleep_forever()
                self._reader = None
            has_waited = True

    def _next_arrival(self) -> float:
        if not self.frames or self.network.is_blackholed(self.source, self.target):
            return math.inf
        return self.frames[0][0]

    def _wake_writer(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None


class MemoryConnection:
    """One end of a connection; implements ``replication.connection.Connection``."""

    def __init__(self, peer: PeerIdentity, incoming: Pipe, outgoing: Pipe) -> None:
        self.peer = peer
        self.last_byte_at = trio.current_time()
        self.incoming = incoming
        self.outgoing = outgoing

    async def send(self, frame: bytes) -> None:
        await self.outgoing.put(frame)

    async def receive(self, bytes_max: int) -> bytes:
        frame = await self.incoming.get()
        self.last_byte_at = trio.current_time()
        if len(frame) > bytes_max:
            raise RemoteProtocolError(f"a frame of {len(frame)} bytes", code="too-large")
        return frame

    async def close(self, reason: str = "") -> None:
        self.outgoing.is_finished = True
        self.outgoing.wake()
        self.incoming.is_broken = True
        self.incoming.wake()


class Network:
    """All nodes' connections. ``log`` gets one line per fault.

    ``frames_per_s_max`` is None where clients write as fast as the machine lets them: then there are as many frames.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        latency_s: float = 0.002,
        bytes_per_s: float = 50e6,
        frames_per_s_max: int | None = FRAMES_PER_S_MAX,
    ) -> None:
        self.rng = rng
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.damage_probability = 0.0
        self.connections: dict[frozenset[str], list[Pipe]] = {}
        self.dials = 0
        self._listeners: dict[str, tuple[trio.Nursery, Serve]] = {}
        self._cut: set[frozenset[str]] = set()
        self._blackholes: set[tuple[str, str]] = set()
        self._slow: dict[frozenset[str], float] = {}
        self._second = 0
        self._frames = 0
        self._frames_per_s_max = frames_per_s_max

    # -- faults ---------------------------------------------------------------------------------------------------

    def cut(self, a: str, b: str) -> None:
        """Break all connections of the pair; none is possible until ``heal``."""
        self._cut.add(frozenset((a, b)))
        self.reset(a, b)

    def reset(self, a: str, b: str) -> None:
        """Break all connections of the pair."""
        for pipe in self.connections.pop(frozenset((a, b)), []):
            pipe.is_broken = True
            pipe.wake()

    def blackhole(self, source: str, target: str) -> None:
        self._blackholes.add((source, target))

    def slow(self, a: str, b: str, bytes_per_s: float) -> None:
        self._slow[frozenset((a, b))] = bytes_per_s

    def mend(self, a: str, b: str) -> None:
        """No more faults between these two."""
        self._cut.discard(frozenset((a, b)))
        self._blackholes -= {(a, b), (b, a)}
        self._slow.pop(frozenset((a, b)), None)
        for pipe in self.connections.get(frozenset((a, b)), []):
            pipe.wake()

    def heal(self) -> None:
        """No more faults from now on."""
        self._cut.clear()
        self._blackholes.clear()
        self._slow.clear()
        self.damage_probability = 0.0
        for pipes in self.connections.values():
            for pipe in pipes:
                pipe.wake()

    def vanish(self, node: str) -> None:
        """A node crashed: its connections are reset, and it listens no more."""
        self._listeners.pop(node, None)
        for pair in [pair for pair in self.connections if node in pair]:
            self.reset(*pair)

    def count_frame(self) -> None:
        """Raises ``Violation`` where nodes keep each other busy and get nowhere."""
        second = int(trio.current_time())
        self._frames = self._frames + 1 if second == self._second else 1
        self._second = second
        if self._frames_per_s_max is not None and self._frames > self._frames_per_s_max:
            raise Violation(f"more than {self._frames_per_s_max} frames within a second")

    def is_blackholed(self, source: str, target: str) -> bool:
        return (source, target) in self._blackholes

    def delay_s(self, source: str, target: str, size_bytes: int) -> float:
        bytes_per_s = self._slow.get(frozenset((source, target)), self.bytes_per_s)
        return self.latency_s * self.rng.uniform(0.5, 3.0) + size_bytes / bytes_per_s

    def perhaps_damaged(self, frame: bytes) -> bytes:
        if not frame or self.rng.random() >= self.damage_probability:
            return frame
        at = self.rng.randrange(len(frame))
        return frame[:at] + bytes([frame[at] ^ (1 << self.rng.randrange(8))]) + frame[at + 1 :]

    # -- connecting -----------------------------------------------------------------------------------------------

    def dialer(self, node: str) -> Dial:
        async def dial(target: Target) -> Connection:
            return await self._connect(node, target.url.removeprefix("wss://").split(":")[0])

        return dial

    async def _connect(self, node: str, target: str) -> MemoryConnection:
        self.dials += 1
        await trio.sleep(self.delay_s(node, target, 100))
        if self.is_blackholed(node, target) or self.is_blackholed(target, node):
            await trio.sleep(CONNECT_TIMEOUT_S)
            raise LinkLost("connecting timed out")
        listener = self._listeners.get(target)
        if listener is None or frozenset((node, target)) in self._cut:
            raise LinkLost("connection refused")
        there, back = Pipe(self, node, target), Pipe(self, target, node)
        pipes = self.connections.setdefault(frozenset((node, target)), [])
        pipes[:] = [pipe for pipe in pipes if not (pipe.is_broken or pipe.is_finished)]
        pipes.extend((there, back))
        nursery, serve = listener
        served = MemoryConnection(PeerIdentity(name=node, address=node), there, back)
        nursery.start_soon(self._serve, serve, served)
        return MemoryConnection(PeerIdentity(name=target, address=target), back, there)

    @staticmethod
    async def _serve(serve: Callable[[Connection], object], connection: MemoryConnection) -> None:
        try:
            await serve(connection)  # type: ignore[misc]
        finally:
            await connection.close()

    async def listen(
        self, node: str, serve: Serve, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept connections for ``node`` until cancelled."""
        async with trio.open_nursery() as nursery:
            self._listeners[node] = (nursery, serve)
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                if self._listeners.get(node, (None,))[0] is nursery:
                    del self._listeners[node]
