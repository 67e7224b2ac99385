"""Two links with a connection of memory between them, in virtual time."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from replication.connection import PeerIdentity
from replication.link import Link
from replication.messages import Hello, Message
from replication.settings import LinkSettings
from storage.errors import DatabaseError
from tests.simulation.network import MemoryConnection, Network, Pipe

SETTINGS = LinkSettings(ping_interval_s=10.0, ping_timeout_s=20.0)
Receive = Callable[[Message, int], None]
Body = Callable[[], Awaitable[None]]


def hello(name: str) -> Hello:
    return Hello(version_min=1, version_max=1, name=name, kind="control")


def ignore(message: Message, frame_bytes: int) -> None:
    """A receiver that takes note of nothing."""


@dataclass
class Ends:
    """``a`` has dialled ``b``; how each of them ended stands in ``errors``."""

    a: Link
    b: Link
    network: Network
    nursery: trio.Nursery
    errors: dict[str, DatabaseError | None] = field(default_factory=dict)

    def run_a(self, receive: Receive = ignore, body: Body = trio.sleep_forever) -> None:
        self.nursery.start_soon(self._run, "a", self.a, receive, body)

    def run_b(self, receive: Receive = ignore, body: Body = trio.sleep_forever) -> None:
        self.nursery.start_soon(self._run, "b", self.b, receive, body)

    async def greeted(self) -> None:
        with trio.fail_after(60):
            await self.a.greeted.wait()
            await self.b.greeted.wait()

    async def _run(self, name: str, link: Link, receive: Receive, body: Body) -> None:
        try:
            await link.run(receive, body)
        except DatabaseError as error:
            self.errors[name] = error
        else:
            self.errors[name] = None


@asynccontextmanager
async def linked(settings: LinkSettings = SETTINGS) -> AsyncIterator[Ends]:
    network = Network(random.Random(1))
    there, back = Pipe(network, "a", "b"), Pipe(network, "b", "a")
    network.connections[frozenset("ab")] = [there, back]

    def end(name: str, peer: str, incoming: Pipe, outgoing: Pipe) -> Link:
        return Link(
            MemoryConnection(PeerIdentity(name=peer, address=peer), incoming, outgoing),
            lambda _: hello(name),
            name=name,
            expected=peer,
            is_dialler=name == "a",
            settings=settings,
            clock=lambda: 0,
        )

    async with trio.open_nursery() as nursery:
        yield Ends(end("a", "b", back, there), end("b", "a", there, back), network, nursery)
        nursery.cancel_scope.cancel()
