"""A subscriber among publishers that a test speaks for: what it takes, what it refuses, and that a refusal changes
nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from replication.errors import LinkLost
from replication.fields import SentEntry, SkipRange
from replication.messages import (
    Ack,
    CopyData,
    CopyEnd,
    CopyStart,
    Error,
    Message,
    Ping,
    Pong,
    Resubscribe,
    Void,
)
from storage import codec
from storage.entry import NO_CHAIN, Origin, chain_digest, digest, encode_travelling
from storage.schema import Definition, dynamic_attributes
from tests.replication.hand_peer import HandPeer, Node, SettablePolicy, Source, batch, node_a

STRANGER = Origin("stranger", "s1")


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    """The publisher's database: a table, and the records 1 to 3. Its positions are 1 to 4."""
    made = Source(tmp_path)
    made.put(1, 2, 3)
    yield made
    made.opened.close()


@pytest.fixture
def virtual(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


async def streaming(node: Node, source: Source) -> tuple[HandPeer, int]:
    """A stream that has brought all but the last record, with the number of its subscription."""
    stream = await node.dialled(source)
    number = (await stream.publish()).id
    await stream.say(source.schema(number), batch(number, *source.entries()[:-1]))
    await stream.hear(Ack)
    return stream, number


def forged(payload: Any = (), **fields: Any) -> SentEntry:
    """An entry that nobody made, with digests as they ought to be."""
    encoded = codec.encode(list(payload)) if not isinstance(payload, bytes) else payload
    header: dict[str, Any] = {"o": list(STRANGER), "n": 1, "ts": 1, "k": "tx", "pd": digest(encoded), **fields}
    header.setdefault("ch", chain_digest(NO_CHAIN, header))
    return SentEntry(data=encode_travelling(codec.encode(header), encoded))


def put(key: Any = 9, table: str = "dog", **fields: Any) -> dict[str, Any]:
    return {"t": table, "op": "put", "k": key, "v": codec.encode({"id": key}), **fields}


def changed(entry: SentEntry, at: int) -> SentEntry:
    return SentEntry(data=entry.data[:at] + bytes([entry.data[at] ^ 1]) + entry.data[at + 1 :])


# -- what is taken ------------------------------------------------------------------------------------------------


async def test_entries_are_applied_and_acknowledged(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        number = (await stream.publish()).id
        await stream.say(source.schema(number), batch(number, *source.entries()))
        assert (await stream.hear(Ack)).positions == {source.origin: 4}
        assert node.ids() == [1, 2, 3]


async def test_a_batch_that_comes_again_changes_nothing(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        await stream.say(batch(number, *source.entries()))
        await stream.hear(Ack)
        state = node.state()
        await stream.say(batch(number, *source.entries()), batch(number, *source.entries()[:2]))
        assert (await stream.hear(Ack)).positions == {source.origin: 4}
        assert node.state() == state


async def test_entries_of_a_subscription_that_was_made_anew_do_not_count(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        state = node.state()
        await stream.say(batch(number - 1, source.entries()[-1]), batch(number + 1, source.entries()[-1]))
        await trio.sleep(1)
        assert node.state() == state


async def test_a_range_to_skip_moves_the_position(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        number = (await stream.publish()).id
        oseq, chain = source.vector[source.origin]
        skip = SkipRange(origin=source.origin, first=1, last=oseq, chain=chain)
        await stream.say(source.schema(number), batch(number, skip))
        assert (await stream.hear(Ack)).positions == {source.origin: 4}
        source.put(4)
        await stream.say(batch(number, source.entries()[-1]))
        assert (await stream.hear(Ack)).positions == {source.origin: 5}
        assert node.ids() == [4]


async def test_entries_wait_for_the_definition_of_their_table(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    """The table's own schema entry came from elsewhere, so that only the peer's definitions can tell of it."""
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        number = (await stream.publish()).id
        relayed = forged([put()])
        await stream.say(batch(number, relayed))
        again = await stream.publish()
        assert (again.id, again.want) == (number + 1, {})
        assert node.tables() == []
        await stream.say(source.schema(again.id), batch(again.id, relayed))
        assert (await stream.hear(Ack)).positions == {STRANGER: 1}
        assert node.ids() == [9]


async def test_a_table_with_another_primary_key_is_left_out_and_the_others_come(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    source.opened.create_table("cat")
    source.put(7, table="cat")
    async with node_a(tmp_path) as node:
        other = Definition(name="dog", primary_key="chip", attributes=dynamic_attributes("chip"))
        await node.catalog.write("data", lambda tx: tx.create_table(other))
        stream = await node.dialled(source)
        number = (await stream.publish()).id
        await stream.say(source.schema(number))
        narrower = await stream.hear(Resubscribe)
        assert (narrower.tables.mode, narrower.tables.names) == ("except", {"dog"})
        entries = source.entries()
        skip = SkipRange(origin=source.origin, first=1, last=4, chain=source.chain_at(4))
        await stream.say(batch(number, skip, *entries[4:]))
        assert (await stream.hear(Ack)).positions == {source.origin: 6}
        assert (node.ids("cat"), node.ids("dog")) == ([7], [])


async def test_voids_hand_an_origin_to_another_publisher(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    other = Source(tmp_path, "c")
    async with node_a(tmp_path, policy=SettablePolicy("b", "c")) as node:
        await node.also_listen("c")
        through_b = await node.dialled(source)
        number = (await through_b.publish()).id
        through_c = await node.dialled(other, vector={**source.vector, **other.vector})
        via_c = await through_c.publish()
        assert via_c.without == {node.origin, source.origin}
        await through_b.say(Void(id=number, origin=source.origin, at=1, reason="reduced"))
        assert (await through_c.hear(Resubscribe)).without == {node.origin}
        await through_c.say(source.schema(via_c.id), batch(via_c.id, *source.entries()))
        await through_c.hear(Ack)
        assert node.ids() == [1, 2, 3]
    other.opened.close()


async def test_the_end_of_a_direct_stream_hands_its_origin_to_another_publisher_and_its_return_takes_it_back(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    other = Source(tmp_path, "c")
    async with node_a(tmp_path, policy=SettablePolicy("b", "c")) as node:
        await node.also_listen("c")
        through_b = await node.dialled(source)
        await through_b.publish()
        through_c = await node.dialled(other)
        assert (await through_c.publish()).without == {node.origin, source.origin}
        await through_b.close()
        assert (await through_c.hear(Resubscribe)).without == {node.origin}
        await (await node.dialled(source)).publish()
        assert (await through_c.hear(Resubscribe)).without == {node.origin, source.origin}
    other.opened.close()


# -- what is refused ----------------------------------------------------------------------------------------------


async def test_a_gap_is_asked_for_anew_and_then_ends_the_connection(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    source.put(4)
    async with node_a(tmp_path) as node:
        stream = await node.dialled(source)
        number = (await stream.publish()).id
        await stream.say(source.schema(number), batch(number, *source.entries()[:2]))
        await stream.hear(Ack)
        state = node.state()
        subscriptions = 0
        with pytest.raises(LinkLost):
            while True:
                await stream.say(batch(number, source.entries()[-1]))
                number = (await stream.publish()).id
                subscriptions += 1
        assert subscriptions == 5
        assert node.state() == state
        assert node.last_error() == ("gap", "entry 5 of 'b' follows entry 2")


async def test_what_bears_our_own_current_name_is_not_taken(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put("ours")
        stream, number = await streaming(node, source)
        state = node.state()
        mine = forged([put()], o=list(node.origin), n=3)
        with pytest.raises(LinkLost):
            while True:
                await stream.say(batch(number, mine))
                number = (await stream.publish()).id
        assert node.state() == state
        assert "this node's own current name" in node.last_error()[1]


async def test_a_bad_chain_ends_the_connection_and_then_keeps_its_origin_off(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    """Once it may have been damaged on its way; twice there are two histories."""
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        state = node.state()
        bad = forged([put()], o=list(source.origin), n=4, ch=bytes(16))
        await stream.say(batch(number, bad))
        await stream.farewell()
        assert node.last_error() == ("lost", "entry 4 of 'b' does not follow the one that is here")
        again = await node.dialled(source)
        number = (await again.publish()).id
        await again.say(batch(number, bad))
        assert source.origin in (await again.hear(Resubscribe)).without
        assert node.state() == state
        assert node.record().stream is not None
        assert dict(node.record().stream.unserved()) == {source.origin: "fork"}


async def test_claims_of_an_unknown_origin_need_its_chain_from_the_beginning(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        state = node.state()
        await stream.say(batch(number, forged([put()], ch=bytes(16))))
        await stream.farewell()
        assert node.last_error() == ("lost", "entry 1 of 'stranger' does not follow the one that is here")
        assert node.state() == state


@pytest.mark.parametrize("at", [0, 4, 5, -1], ids=["length", "header", "in the header", "payload"])
async def test_a_damaged_entry_ends_the_connection_and_changes_nothing(
    at: int, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        state = node.state()
        entry = source.entries()[-1]
        await stream.say(batch(number, changed(entry, at % len(entry.data))))
        farewell = await stream.farewell()
        assert isinstance(farewell, Error) and farewell.code == "corrupt"
        assert node.last_error()[0] == "corrupt"
        assert node.state() == state


HOSTILE_HEADERS: list[dict[str, Any]] = [
    {"o": [1, 2]},
    {"o": [[], {}]},
    {"o": ["stranger"]},
    {"o": ["", ""]},
    {"o": ["x" * 1025, "s"]},
    {"n": "1"},
    {"n": -1},
    {"n": 0},
    {"n": None},
    {"n": 1.0},
    {"n": True},
    {"n": [1]},
    {"ts": "now"},
    {"ts": None},
    {"ts": -1},
    {"ts": 1.5},
    {"ts": 1 << 64},
    {"ts": (1 << 64) - 1},
    {"k": None},
    {"k": []},
    {"k": "skip"},
    {"user": 5},
    {"user": ["root"]},
    {"q": {}},
    {"pd": None},
    {"pd": "text"},
    {"ch": None},
    {"ch": b"short"},
]


@pytest.mark.parametrize("fields", HOSTILE_HEADERS, ids=lambda fields: repr(fields)[:30])
async def test_a_strange_header_ends_its_link_at_most(
    fields: dict[str, Any], tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        state = node.state()
        await stream.say(batch(number, forged([put()], **fields)))
        await trio.sleep(1)
        assert node.state() == state
        await node.until(lambda: node.record().last_error is not None or node.has_unserved())


HOSTILE_PAYLOADS: list[Any] = [
    b"",
    b"\xff",
    codec.encode({"t": "dog"}),
    codec.encode(5),
    codec.encode([5]),
    [put(t=5)],
    [put(op="steal")],
    [put(op=[])],
    [put(op=None)],
    [put(k=[])],
    [put(k={})],
    [put(k=b"bytes")],
    [put(k=None)],
    [put(k="x" * 5000)],
    [put(v=None)],
    [put(v=b"\xff")],
    [put(v=codec.encode([]))],
    [put(v=codec.encode({"id": 8}))],
    [put(p=[1, "b", "s"])],
    [put(s=[-1, "b", "s", 1])],
    [put(s=[1 << 64, "b", "s", 1])],
    [put(x=-1)],
    [put(x=1 << 70)],
    [put(x="soon")],
    [put(r="b")],
    [put(r=[1])],
    [put(r=["b" * 70_000])],
    [put(), put(t=None)],
]


@pytest.mark.parametrize("payload", HOSTILE_PAYLOADS, ids=lambda payload: repr(payload)[:40])
async def test_a_strange_write_is_not_taken_and_ends_its_link_at_most(
    payload: Any, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        state = node.state()
        await stream.say(batch(number, forged(payload)))
        await trio.sleep(1)
        assert node.state() == state
        await node.until(lambda: node.record().last_error is not None or node.has_unserved())


@pytest.mark.parametrize("kind", ["schema", "mark"])
@pytest.mark.parametrize("payload", HOSTILE_PAYLOADS, ids=lambda payload: repr(payload)[:40])
async def test_a_strange_entry_of_another_kind_changes_no_row_and_ends_its_link_at_most(
    kind: str, payload: Any, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        rows, _ = node.state()
        await stream.say(batch(number, forged(payload, k=kind)))
        await trio.sleep(1)
        assert node.state()[0] == rows


@pytest.mark.parametrize(
    "message",
    [
        CopyStart(id=1, copy="x", description={}),
        CopyData(id=1, copy="x", at=0, data=b"rows"),
        CopyEnd(id=1, copy="x", size_bytes=0, digest=bytes(16)),
    ],
    ids=lambda message: type(message).__name__,
)
async def test_a_copy_that_nobody_asked_for_is_refused(
    message: Message, tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        state = node.state()
        assert number == 1
        await stream.say(message)
        farewell = await stream.farewell()
        assert isinstance(farewell, Error)
        assert node.last_error()[1] == "the peer sends a copy that was not asked for"
        assert node.state() == state


async def test_what_comes_from_a_node_that_nothing_may_come_from_is_left_aside(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    policy.except_nodes = frozenset(("stranger",))
    async with node_a(tmp_path, policy=policy) as node:
        stream, number = await streaming(node, source)
        await stream.say(batch(number, forged([put()]), source.entries()[-1]))
        assert (await stream.hear(Ack)).positions == {source.origin: 4}
        assert node.ids() == [1, 2, 3]
        assert STRANGER not in node.vector()


async def test_a_peer_that_sends_beyond_its_credit_loses_its_connection(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    blocked = trio.Event()

    async def hook(moment: str) -> None:
        if blocked.is_set():
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()

    source.put(*range(10, 60), filling="x" * 60_000)
    async with node_a(tmp_path, hook=hook) as node:
        stream = await node.dialled(source)
        subscribe = await stream.publish()
        await stream.say(source.schema(subscribe.id))
        await trio.sleep(1)
        blocked.set()
        with pytest.raises(LinkLost):
            for entry in source.entries():
                await stream.say(batch(subscribe.id, entry))
                await trio.sleep(0.1)
        assert node.last_error()[1] == "the peer sends more than it has credit for"
        assert node.inbox.received_bytes < subscribe.credit_bytes + 200_000


# -- reading while applying -----------------------------------------------------------------------------------------


class Gate:
    """Commits wait here while it is shut."""

    def __init__(self) -> None:
        self.is_shut = False

    async def __call__(self, moment: str) -> None:
        await trio.lowlevel.checkpoint()
        while self.is_shut:
            await trio.sleep(0.1)


async def held_back(node: Node, source: Source, gate: Gate) -> HandPeer:
    """A stream that has sent all, while the commit that applies the first of it does not end."""
    stream = await node.dialled(source)
    number = (await stream.publish()).id
    await stream.say(source.schema(number))
    await trio.sleep(1)
    gate.is_shut = True
    for entry in source.entries():
        await stream.say(batch(number, entry))
    await trio.sleep(1)
    return stream


async def test_pings_are_answered_while_a_commit_takes_its_time(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    gate = Gate()
    async with node_a(tmp_path, hook=gate) as node:
        stream = await held_back(node, source, gate)
        for token in range(100):
            await stream.say(Ping(token=token))
            with trio.fail_after(1):
                assert (await stream.hear(Pong)).token == token
            await trio.sleep(1)
        assert node.ids() == []
        gate.is_shut = False
        await node.until(lambda: node.ids() == [1, 2, 3])
        assert not stream.ended.is_set()


async def test_what_comes_behind_entries_that_wait_is_heard_at_once(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    gate = Gate()
    async with node_a(tmp_path, hook=gate) as node:
        stream = await held_back(node, source, gate)
        await stream.say(Void(id=1, origin=STRANGER, at=5, reason="trimmed"))
        await node.until(node.has_unserved, within_s=1)
        gate.is_shut = False
        await node.until(lambda: node.ids() == [1, 2, 3])


async def test_what_was_received_and_not_applied_comes_again_after_the_end_of_its_connection(
    tmp_path: Path, source: Source, virtual: MockClock
) -> None:
    gate = Gate()
    async with node_a(tmp_path, hook=gate) as node:
        stream = await held_back(node, source, gate)
        await stream.close()
        gate.is_shut = False
        again = await node.dialled(source)
        subscribe = await again.publish()
        position = subscribe.want.get(source.origin, 0)
        assert node.vector() == ({source.origin: position} if position else {})
        await again.say(source.schema(subscribe.id), batch(subscribe.id, *source.entries()[position:]))
        await node.until(lambda: node.ids() == [1, 2, 3])


async def test_a_time_beyond_all_dates_is_refused(tmp_path: Path, source: Source, virtual: MockClock) -> None:
    """Taken as it is, no status could show it."""
    async with node_a(tmp_path) as node:
        stream, number = await streaming(node, source)
        await stream.say(batch(number, newest_ts=1 << 60))
        await stream.farewell()
        assert node.last_error() == ("corrupt", "the peer sent something else than an instant")
