"""A real node ``a`` over a network of memory, and a peer ``b`` that a test speaks for, message by message.

    async with node_a(tmp_path) as node:
        stream = await node.dialled("data", publisher)      # a has dialled b
        subscribe = await stream.hear(Subscribe)
        await stream.say(Subscribed(...), Batch(...))

The peer answers pings by itself, so whatever else it keeps back, it is alive.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self, TypeVar

import trio

from replication.connection import Connection, Dial, PeerIdentity, Target
from replication.errors import LinkLost
from replication.fields import Item, SentEntry
from replication.figures import Inbox
from replication.messages import (
    Batch,
    Bye,
    CopyData,
    CopyEnd,
    CopyStart,
    Error,
    Hello,
    Message,
    Ping,
    Pong,
    Schema,
    Subscribe,
    Subscribed,
)
from replication.policy import Refusal
from replication.settings import LinkSettings
from replication.subscription import EVERY_TABLE, TableSelection
from replication.supervisor import LinkRecord, Supervisor
from replication.wanted_links import WantedLinks, WantedPeer, WantedStream
from replication.wire import Wire
from storage.catalog import Catalog, open_catalog
from storage.checker import check_database
from storage.copy_file import write_copy
from storage.entry import DIGEST_BYTES, Origin, encode_travelling
from storage.errors import DatabaseClosed
from storage.schema import Definition, dynamic_attributes
from storage.settings import StorageSettings
from storage.table_writes import write_records
from tests.simulation.history import state_of, vector_of
from tests.simulation.network import Network
from tests.simulation.node import START_US, run_inline
from tests.simulation.queue import Hook, SimulatedQueue
from tests.storage.opened import Opened

PATIENCE_S = 900.0
"""Virtual time within which something has to happen; longer than every timeout of the links together."""
SETTINGS = LinkSettings(ping_interval_s=5.0, ping_timeout_s=10.0, copies_to_catch_up=False)
"""Without copies, so that a publisher can begin with its first entry."""
WITH_COPIES = replace(SETTINGS, copies_to_catch_up=True)
PLENTY = 1 << 20

M = TypeVar("M", bound=Message)


class SettablePolicy:
    """Everything with ``peers``, until a test says otherwise and calls ``change``."""

    def __init__(self, *peers: str) -> None:
        self.peers: Collection[str] = peers
        self.refusals: dict[str, Refusal] = {}
        self.not_permitted: str | None = None
        self.tables = EVERY_TABLE
        self.except_nodes: frozenset[str] = frozenset()
        self.dropped_us = 0
        self._changed = trio.Event()

    def change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def wanted(self, local: Collection[str], remote: Mapping[str, Collection[str]]) -> WantedLinks:
        return WantedLinks(
            peers=tuple(WantedPeer(name=name, url=f"wss://{name}:9933") for name in self.peers),
            streams=tuple(
                WantedStream(
                    peer=name,
                    database=database,
                    tables=self.tables,
                    except_nodes=self.except_nodes,
                    is_new=database not in local,
                )
                for name in self.peers
                for database in sorted(remote.get(name, ()))
            ),
        )

    def refusal(self, peer: PeerIdentity, name: str, kind: str) -> Refusal | None:
        return self.refusals.get(name)

    def may_subscribe(self, peer: str, database: str, tables: TableSelection) -> str | None:
        return self.not_permitted

    def may_create(self, database: str, created: int) -> bool:
        return created > self.dropped_us

    async def wait_for_change(self) -> None:
        await self._changed.wait()


class HandPeer:
    """The peer's end of one connection. What it hears waits in ``heard`` until somebody asks for it."""

    def __init__(self, connection: Connection, *, is_dialled: bool) -> None:
        self.connection = connection
        self.is_dialled = is_dialled
        self.heard: list[Message] = []
        self.ended = trio.Event()
        self.at_s = trio.current_time()
        self._wire = Wire()
        self._changed = trio.Event()

    async def read(self) -> None:
        """Take in what the node says until the connection ends."""
        try:
            while True:
                message = self._wire.decode(await self.connection.receive(1 << 30))
                if isinstance(message, Ping):
                    with suppress(LinkLost):  # what was sent before the end still comes
                        await self.say(Pong(token=message.token, now_ms=message.now_ms))
                elif message is not None:
                    self.heard.append(message)
                    self._note()
        except LinkLost:
            self.ended.set()
            self._note()
            await self.connection.close()

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def frames(self, message: Message) -> list[bytes]:
        """The bytes of a message, with what has to come before it on this connection."""
        return self._wire.encode(message)

    async def say(self, *messages: Message) -> None:
        for message in messages:
            for frame in self.frames(message):
                await self.connection.send(frame)

    async def hear(self, kind: type[M]) -> M:
        """The next message of this kind; others that came before it are forgotten."""
        with trio.fail_after(PATIENCE_S):
            while True:
                while self.heard:
                    message = self.heard.pop(0)
                    if isinstance(message, kind):
                        return message
                if self.ended.is_set():
                    raise LinkLost(f"the node ended the connection and said no {kind.__name__}")
                await self._changed.wait()

    async def farewell(self) -> Error | Bye | None:
        """Wait until the node has ended the connection; what it said last of why."""
        with trio.fail_after(PATIENCE_S):
            await self.ended.wait()
        return next((one for one in reversed(self.heard) if isinstance(one, Error | Bye)), None)

    async def close(self) -> None:
        await self.connection.close()

    async def publish(self, *, unavailable: Mapping[Origin, int] | None = None, head: int = 0) -> Subscribe:
        """Answer the subscription that comes next."""
        subscribe = await self.hear(Subscribe)
        await self.say(Subscribed(id=subscribe.id, mode="log", head=head, unavailable=unavailable or {}))
        return subscribe


class Source:
    """The database ``data`` of a peer, to take entries from: real ones, chained and signed by their digests."""

    def __init__(self, folder: Path, node: str = "b") -> None:
        self.opened = Opened.at(folder / f"source-{node}", node=node)
        self.opened.now_us = START_US
        self.opened.create_table("dog")

    @property
    def origin(self) -> Origin:
        return self.opened.environment.origin

    @property
    def vector(self) -> dict[Origin, tuple[int, bytes]]:
        with self.opened.database.read() as tx:
            return {at.origin: (at.oseq, at.chain) for at in tx.log.positions().values() if at.oseq}

    @property
    def head(self) -> int:
        with self.opened.database.read() as tx:
            return tx.head().lseq

    def chain_at(self, oseq: int) -> bytes:
        with self.opened.database.read() as tx:
            chain = tx.log.chain_at(self.origin, oseq)
        assert chain is not None
        return chain

    def put(self, *keys: Any, table: str = "dog", **values: Any) -> None:
        """A transaction each."""
        for key in keys:
            self.opened.put(table, {"id": key, **values})

    def entries(self) -> list[SentEntry]:
        with self.opened.database.read() as tx:
            return [
                SentEntry(data=encode_travelling(entry.header.raw, entry.payload))
                for entry in tx.log.read_from()
                if entry.header.oseq
            ]

    def definitions(self) -> tuple[Definition, ...]:
        with self.opened.database.read() as tx:
            return tuple(table.definition for table in tx.schema().tables.values())

    def schema(self, number: int) -> Schema:
        return Schema(id=number, tables=self.definitions())


def batch(number: int, *items: Item, head: int = 0, place: int = 0, newest_ts: int = 0) -> Batch:
    return Batch(id=number, number=1, items=items, head=head, place=place, newest_ts=newest_ts)


class SentCopy:
    """A copy of a source, as its publisher sends it."""

    def __init__(self, source: Source, copy_id: str = "c1") -> None:
        file = source.opened.environment.path.parent / f"{source.origin.node}-{copy_id}.copy"
        self.description = write_copy(source.opened.database, file, copy_id=copy_id, left_out=(), need={})
        self.data = file.read_bytes()

    def start(self, number: int, at: int = 0) -> CopyStart:
        return CopyStart(id=number, copy=self.description.copy_id, description=self.description.encoded(), at=at)

    def piece(self, number: int, first: int, behind: int) -> CopyData:
        return CopyData(id=number, copy=self.description.copy_id, at=first, data=self.data[first:behind])

    def end(self, number: int) -> CopyEnd:
        size_bytes, digest = self.description.size_bytes, self.description.digest
        return CopyEnd(id=number, copy=self.description.copy_id, size_bytes=size_bytes, digest=digest)

    def rest(self, number: int, at: int = 0) -> list[Message]:
        """All messages from byte ``at`` on."""
        return [self.start(number, at), self.piece(number, at, len(self.data)), self.end(number)]

    def with_data(self, data: bytes) -> Self:
        """One whose file has other contents, with a digest that fits."""
        self.data = data
        self.description = replace(
            self.description, size_bytes=len(data), digest=blake2b(data, digest_size=DIGEST_BYTES).digest()
        )
        return self


@dataclass(eq=False)
class Node:
    """The node under test."""

    catalog: Catalog
    supervisor: Supervisor
    policy: SettablePolicy
    network: Network
    nursery: trio.Nursery
    arrivals: list[tuple[str, Hello, HandPeer]] = field(default_factory=list)
    """Connections that the node has dialled, in order, until a test takes them."""
    dials: list[tuple[float, str]] = field(default_factory=list)
    """When the node dialled, and which database, "" for control."""
    databases: dict[str, int] = field(default_factory=lambda: {"data": 1})
    """What the peer announces."""
    hello: dict[str, Any] = field(default_factory=dict)
    """What the peer says otherwise in its hellos."""
    errors: list[BaseException] = field(default_factory=list)
    _arrived: trio.Event = field(default_factory=trio.Event)

    async def also_listen(self, name: str) -> None:
        """Another peer, which a test speaks for as well."""
        await self.nursery.start(self.network.listen, name, partial(self.accept, name=name))

    # -- as who is dialled ----------------------------------------------------------------------------------------

    async def accept(self, connection: Connection, *, name: str = "b") -> None:
        """Take a connection that the node dialled: control is kept as it should be, streams are for the test."""
        peer = HandPeer(connection, is_dialled=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.read)
            try:
                hello = await peer.hear(Hello)
            except LinkLost:
                return
            self.dials.append((trio.current_time(), hello.database or ""))
            if hello.kind == "control" and not self.hello:
                await peer.say(self.greeting(name=name, databases=self.databases))
            self.arrivals.append((name, hello, peer))
            self._arrived.set()
            self._arrived = trio.Event()

    def greeting(self, **fields: Any) -> Hello:
        known: dict[str, Any] = {
            "version_min": 1,
            "version_max": 1,
            "name": "b",
            "kind": "control",
            "entry_bytes_max": PLENTY,
            "now_ms": (START_US + trio.current_time() * 1e6) / 1000,
            **self.hello,
        }
        return Hello(**{**known, **fields})

    async def arrival(self, database: str = "data", *, name: str = "b") -> tuple[Hello, HandPeer]:
        """The next connection that the node dials for this database, "" for control; with what it greets."""
        with trio.fail_after(PATIENCE_S):
            while True:
                for at, (dialled, hello, peer) in enumerate(self.arrivals):
                    if (dialled, hello.database or "") == (name, database):
                        del self.arrivals[at]
                        return hello, peer
                await self._arrived.wait()

    async def dialled(self, source: Source, database: str = "data", **hello: Any) -> HandPeer:
        """The next stream that the node dials, greeted by the publisher that ``source`` is."""
        _, peer = await self.arrival(database, name=source.origin.node)
        hello = {"name": source.origin.node, **hello}
        fields = {"kind": "stream", "database": database, "store": source.origin.store, "vector": source.vector}
        await peer.say(self.greeting(**{**fields, **hello}))
        return peer

    # -- as who dials ---------------------------------------------------------------------------------------------

    async def dial(self, database: str | None = "data", *, name: str = "b", **hello: Any) -> HandPeer:
        """A connection to the node, greeted by both sides; control without a database."""
        peer = await self.dial_silently(name)
        fields: dict[str, Any] = {"kind": "control", "databases": {}} if database is None else {"kind": "stream"}
        if database is not None:
            fields |= {"database": database, "store": f"store of {name}", "vector": {}}
        await peer.say(self.greeting(**{"name": name, **fields, **hello}))
        return peer

    async def dial_silently(self, name: str = "b") -> HandPeer:
        connection = await self.network.dialer(name)(Target(url="wss://a:9933", name="a"))
        peer = HandPeer(connection, is_dialled=False)
        self.nursery.start_soon(peer.read)
        return peer

    # -- what the node holds --------------------------------------------------------------------------------------

    @property
    def origin(self) -> Origin:
        return self.catalog.database("data").environment.origin

    def state(self) -> tuple[Any, ...]:
        """All rows, tombstones and positions."""
        database = self.catalog.database("data")
        return state_of(database), vector_of(database)

    def vector(self) -> dict[Origin, int]:
        return {Origin(*origin): oseq for origin, oseq in vector_of(self.catalog.database("data")).items() if oseq}

    def ids(self, table: str = "dog") -> list[Any]:
        with self.catalog.database("data").read() as tx:
            if table not in tx.schema().tables:
                return []
            found = tx.table(table)
            return [tx.record(found, row)["id"] for _, row in tx.rows(found)]

    async def put(self, *keys: Any, **values: Any) -> None:
        """A transaction each, in a table that is made where there is none."""
        definition = Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id"))
        if "dog" not in self.tables():
            await self.catalog.write("data", lambda tx: tx.create_table(definition))
        for key in keys:
            record = {"id": key, **values}
            await self.catalog.write("data", lambda tx, record=record: write_records(tx, "dog", [record], "upsert"))

    def tables(self) -> list[str]:
        with self.catalog.database("data").read() as tx:
            return list(tx.schema().tables)

    def record(self, database: str = "data") -> LinkRecord:
        return self.supervisor.dialled["b", database]

    @property
    def inbox(self) -> Inbox:
        return self.supervisor.figures["b", "data"].inbox

    def last_error(self, database: str = "data") -> tuple[str, str]:
        """Code and text of what last ended the link."""
        error = self.record(database).last_error
        assert error is not None, "nothing has ended the link"
        return error[0], error[2]

    def has_unserved(self) -> bool:
        """Whether some origin does not go on over the stream."""
        stream = self.record().stream
        return stream is not None and bool(stream.unserved())

    async def until(self, condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
        with trio.fail_after(within_s):
            while not condition():
                await trio.sleep(0.05)

    def check(self) -> None:
        for name in self.catalog.names:
            problems = check_database(self.catalog.database(name).environment, now_ms=self.catalog.clock() // 1000)
            assert problems == [], problems


async def no_moment(moment: str) -> None:
    """A commit that takes no time."""
    await trio.lowlevel.checkpoint()


async def no_operations(peer: PeerIdentity, name: str, operation: Mapping[str, Any]) -> tuple[int, Any]:
    return 404, {"error": "there are no operations here"}


@asynccontextmanager
async def node_a(
    folder: Path,
    *,
    settings: LinkSettings = SETTINGS,
    policy: SettablePolicy | None = None,
    hook: Hook = no_moment,
    databases: Collection[str] = ("data",),
    dial: Callable[[Dial], Dial] = lambda dial: dial,
    offload: Callable[..., Awaitable[Any]] = run_inline,
) -> AsyncIterator[Node]:
    """One life of the node, which ends as a crash does; the next one finds what is on disk."""
    rng = random.Random(1)
    network = Network(rng)
    storage = StorageSettings(
        path=folder / "node-a",
        map_size_bytes=64 << 20,
        sub_databases_max=64,
        sync=False,
        new_store_id=lambda: f"{rng.getrandbits(64):016x}",
    )

    def clock() -> int:
        return START_US + int(trio.current_time() * 1e6)

    policy = policy or SettablePolicy("b")
    try:
        async with open_catalog(
            storage, node="a", clock=clock, new_queue=partial(SimulatedQueue, hook=hook), offload=offload
        ) as catalog:
            for name in databases:
                if name not in catalog.names:
                    await catalog.create(name)
            supervisor = Supervisor(
                catalog=catalog,
                policy=policy,
                dial=dial(network.dialer("a")),
                handler=no_operations,
                settings=settings,
                url="wss://a:9933",
                rng=rng,
            )
            async with trio.open_nursery() as nursery:
                node = Node(catalog, supervisor, policy, network, nursery)
                await nursery.start(network.listen, "b", node.accept)
                await nursery.start(supervisor.run)
                await nursery.start(network.listen, "a", supervisor.serve)
                yield node
                node.check()
                nursery.cancel_scope.cancel()
    except* DatabaseClosed:
        pass
