"""Frames of a peer that is let in and means no good, or whose bytes suffer on their way: a connection may end by them,
the node goes on, and nothing that is not the publisher's gets into a table.
"""

import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import cbor2
import pytest
import trio
from trio.testing import MockClock

from replication.errors import LinkLost
from replication.messages import CODES, Subscribe, Subscribed
from tests.replication.hand_peer import SETTINGS, HandPeer, Node, Source, batch, node_a
from tests.simulation.history import state_of

STRANGE: tuple[Any, ...] = (-1, 1 << 70, 1.5, float("nan"), "", "x" * 70_000, b"", [], {}, True, [[[]]], {"": [{}]})
"""Values of which each is wrong for most fields."""
KINDS = {kind: code for code, kind in CODES.items()}
PLAIN: dict[str, Any] = {
    "id": 1,
    "rid": 1,
    "want": {},
    "map": {1: ["b", "s"]},
    "mode": "log",
    "head": 1,
    "unavailable": {},
    "tables": [],
    "b": 1,
    "e": [],
    "o": 1,
    "at": 1,
    "why": "trimmed",
    "vec": {},
    "t": 1,
    "copy": "c",
    "d": b"",
    "bytes": 1,
    "sum": bytes(16),
    "op": {},
    "status": 200,
    "body": b"",
    "add": {},
    "code": "fork",
    "message": "no",
    "vmin": 1,
    "vmax": 1,
    "name": "b",
    "kind": "control",
}
"""A value for each field that must be there, by its name on the wire."""


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    made = Source(tmp_path)
    made.put(*range(10))
    yield made
    made.opened.close()


def keys_of(kind: type[Any]) -> list[str]:
    return [spec.metadata["key"] for spec in fields(kind)]


def plain(kind: type[Any]) -> dict[str, Any]:
    body = {spec.metadata["key"]: PLAIN[spec.metadata["key"]] for spec in fields(kind) if spec.metadata["is_required"]}
    if kind is Subscribe:
        body["tables"] = {"mode": "all", "names": []}
    return body


def strange_frames(kind: type[Any]) -> Iterator[bytes]:
    """A message of this kind with each of its fields wrong in turn, and without it."""
    for key in keys_of(kind):
        for value in STRANGE:
            yield cbor2.dumps([KINDS[kind], {**plain(kind), key: value}])
        yield cbor2.dumps([KINDS[kind], {name: one for name, one in plain(kind).items() if name != key}])


async def send_all(frames: Iterator[bytes], connect: Callable[[], Awaitable[HandPeer]]) -> None:
    """Send each of them; wherever the connection ends by one, the next goes over another."""
    peer: HandPeer | None = None
    for frame in frames:
        if peer is None or peer.ended.is_set():
            peer = await connect()
        try:
            await peer.connection.send(frame)
        except LinkLost:
            continue
        await trio.sleep(0.05)


async def is_well(node: Node, source: Source) -> None:
    """The node still takes a stream, and has only what that brings."""
    node.network.reset("a", "b")
    node.arrivals.clear()
    node.policy.change()
    stream = await node.dialled(source)
    number = (await stream.publish()).id
    await stream.say(source.schema(number), batch(number, *source.entries()))
    await node.until(lambda: node.ids() == list(range(10)))


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("database", [None, "data"], ids=["control", "stream"])
async def test_strange_fields_of_a_peer_that_dials_in_do_no_harm(
    kind: type[Any], database: str | None, tmp_path: Path, source: Source, autojump_clock: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        await send_all(strange_frames(kind), lambda: node.dial(database))
        assert (node.ids(), node.catalog.names) == ([], ("data",))
        await is_well(node, source)


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
async def test_strange_fields_of_a_publisher_do_no_harm(
    kind: type[Any], tmp_path: Path, source: Source, autojump_clock: MockClock
) -> None:
    async def connect() -> HandPeer:
        node.policy.change()  # one of the goodbyes is for ever
        stream = await node.dialled(source)
        subscribe = await stream.hear(Subscribe)
        await stream.say(Subscribed(id=subscribe.id, mode="log", head=0, unavailable={}))
        return stream

    async with node_a(tmp_path) as node:
        await send_all(strange_frames(kind), connect)
        assert (node.ids(), node.catalog.names) == ([], ("data",))
        await is_well(node, source)


async def test_flipped_bits_let_nothing_in_that_the_publisher_does_not_have(
    tmp_path: Path, source: Source, autojump_clock: MockClock
) -> None:
    rng = random.Random(1)
    right = state_of(source.opened.database)
    async with node_a(tmp_path) as node:
        for _ in range(150):
            stream = await node.dialled(source)
            subscribe = await stream.publish()
            left = source.entries()[subscribe.want.get(source.origin, 0) :]
            frames = stream.frames(source.schema(subscribe.id)) + stream.frames(batch(subscribe.id, *left[:1]))
            frame = bytearray(frames[-1])
            for _ in range(rng.choice((1, 1, 3))):
                frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            for one in (*frames[:-1], bytes(frame)):
                await stream.connection.send(one)
            await trio.sleep(0.5)
            rows = node.state()[0]
            assert rows.items() <= right.items()
            await stream.close()
            node.record().retry.set()


async def test_a_subscriber_of_the_future_that_knows_more_messages_is_heard_out(
    tmp_path: Path, source: Source, autojump_clock: MockClock
) -> None:
    async with node_a(tmp_path, settings=SETTINGS) as node:
        peer = await node.dial()
        for code in (6, 17, 18, 22, 1000, 1 << 60):
            await peer.connection.send(cbor2.dumps([code, {"new": 1}]))
        await peer.connection.send(cbor2.dumps([KINDS[Subscribe], {**plain(Subscribe), "new": [1, 2]}]))
        await peer.hear(Subscribed)
        await trio.sleep(30)
        assert not peer.ended.is_set()
