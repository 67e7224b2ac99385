"""A publisher among subscribers that a test speaks for: what it sends, what it holds back, what it believes."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from replication.errors import LinkLost, NotConfirmed
from replication.fields import Item, SentEntry, SkipRange
from replication.messages import (
    Ack,
    Batch,
    Bye,
    CopyData,
    CopyEnd,
    CopyStart,
    Error,
    Message,
    Resubscribe,
    Schema,
    Subscribe,
    Subscribed,
)
from replication.subscription import TableSelection
from storage.entry import Origin
from storage.received_entries import read_received
from tests.replication.hand_peer import WITH_COPIES, HandPeer, Node, SettablePolicy, node_a

PLENTY = 1 << 20
STRANGER = Origin("stranger", "s1")


@pytest.fixture
def virtual(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


async def subscribed(node: Node, *, credit_bytes: int = PLENTY, **fields: Any) -> HandPeer:
    """A subscriber that has been answered."""
    stream = await node.dial()
    await stream.say(Subscribe(**{"id": 1, "want": {}, "credit_bytes": credit_bytes, **fields}))
    await stream.hear(Subscribed)
    return stream


async def heard_items(stream: HandPeer, count: int) -> list[Item]:
    """The entries and the ranges to skip that come next, until there are so many."""
    items: list[Item] = []
    while len(items) < count:
        items += (await stream.hear(Batch)).items
    return items


async def heard_entries(stream: HandPeer, count: int) -> list[int]:
    """Their positions; of a range the last one."""
    return [
        item.last if isinstance(item, SkipRange) else read_received(item.data).header.oseq
        for item in await heard_items(stream, count)
    ]


def sent_bytes(stream: HandPeer) -> list[int]:
    """Sizes of the batches with entries that were heard."""
    batches = [message for message in stream.heard if isinstance(message, Batch) and message.items]
    return [sum(len(item.data) for item in one.items if isinstance(item, SentEntry)) for one in batches]


# -- what is sent ---------------------------------------------------------------------------------------------------


async def test_the_log_is_sent_and_then_what_is_written(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1, 2)
        stream = await subscribed(node)
        await stream.hear(Schema)
        assert await heard_entries(stream, 3) == [1, 2, 3]
        await node.put(3)
        assert await heard_entries(stream, 1) == [4]


async def test_what_was_sent_before_comes_again_when_it_is_wanted_again(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1, 2)
        stream = await subscribed(node)
        assert await heard_entries(stream, 3) == [1, 2, 3]
        await stream.say(Resubscribe(id=1, want={node.origin: 1}))
        assert await heard_entries(stream, 2) == [2, 3]


async def test_an_origin_is_left_out_and_taken_again_without_a_new_connection(
    tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await subscribed(node, without=frozenset((node.origin,)))
        await trio.sleep(5)
        assert sent_bytes(stream) == []
        await stream.say(Resubscribe(id=1, want={}))
        assert await heard_entries(stream, 2) == [1, 2]
        await stream.say(Resubscribe(id=1, want={node.origin: 2}, without=frozenset((node.origin,))))
        await stream.hear(Subscribed)
        await node.put(2)
        await trio.sleep(5)
        assert sent_bytes(stream) == []


async def test_other_tables_count_from_the_next_entry(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await subscribed(node, tables=TableSelection("except", frozenset(("dog",))))
        assert await heard_entries(stream, 1) == [2]
        await stream.say(Resubscribe(id=1, want={node.origin: 2}))
        await stream.hear(Subscribed)
        await node.put(2)
        (item,) = await heard_items(stream, 1)
        assert isinstance(item, SentEntry)


async def test_nothing_is_sent_before_a_subscription(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await node.dial()
        await trio.sleep(30)
        assert not any(isinstance(message, Batch | Schema) for message in stream.heard)


# -- credit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credit_bytes", [1, 1000, 20_000])
async def test_no_more_is_on_its_way_than_credit_and_one_frame(
    credit_bytes: int, tmp_path: Path, virtual: MockClock
) -> None:
    """The subscriber is alive, and takes its time."""
    async with node_a(tmp_path) as node:
        await node.put(*range(60), filling="x" * 1000)
        stream = await subscribed(node, credit_bytes=credit_bytes)
        await trio.sleep(100)
        sizes = sent_bytes(stream)
        assert sum(sizes) - sizes[-1] < credit_bytes
        before = sum(sizes)
        await stream.say(Ack(id=1, positions={}, credit_bytes=before - credit_bytes + 5000))
        await trio.sleep(100)
        sizes = sent_bytes(stream)
        assert before < sum(sizes) and sum(sizes) - sizes[-1] < before + 5000
        assert not stream.ended.is_set()


async def test_without_credit_nothing_is_sent_and_nothing_ends(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await subscribed(node, credit_bytes=0)
        await trio.sleep(1000)
        assert sent_bytes(stream) == []
        await stream.say(Ack(id=1, positions={}, credit_bytes=PLENTY))
        assert await heard_entries(stream, 2) == [1, 2]


async def test_a_copy_keeps_to_its_credit_too(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        await node.put(*range(600), filling="x" * 1000)
        stream = await node.dial()
        await stream.say(Subscribe(id=1, want={}, credit_bytes=1, copy=True))
        start = await stream.hear(CopyStart)
        at, pieces = 0, 0
        while at < start.description["bytes"]:
            await trio.sleep(30)
            (piece,) = [message for message in stream.heard if isinstance(message, CopyData)]
            stream.heard.remove(piece)
            at, pieces = at + len(piece.data), pieces + 1
            await stream.say(Ack(id=1, positions={}, credit_bytes=len(piece.data), copy=piece.copy, copy_at=at))
        assert (await stream.hear(CopyEnd)).size_bytes == at
        assert pieces > 2


@pytest.mark.parametrize(
    ("resume", "at", "is_resumed"), [("same", 100, True), ("same", 1 << 40, False), ("no", 100, False)]
)
async def test_a_copy_goes_on_only_where_it_is_the_same_and_long_enough(
    resume: str, at: int, is_resumed: bool, tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        await node.put(*range(10))
        first = await node.dial()
        await first.say(Subscribe(id=1, want={}, credit_bytes=1, copy=True))
        begun = (await first.hear(CopyStart)).copy
        await first.close()
        again = await node.dial()
        asked = begun if resume == "same" else "0123456789abcdef"
        await again.say(Subscribe(id=1, want={}, credit_bytes=PLENTY, copy=True, copy_resume=asked, copy_at=at))
        start = await again.hear(CopyStart)
        piece = await again.hear(CopyData)
        assert ((start.copy, start.at) == (begun, at)) == is_resumed
        assert piece.at == (at if is_resumed else 0)


async def test_a_subscriber_that_wants_something_else_in_the_midst_of_a_copy_gets_that(
    tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path, settings=WITH_COPIES) as node:
        await node.put(*range(600), filling="x" * 1000)
        stream = await node.dial()
        await stream.say(Subscribe(id=1, want={}, credit_bytes=1, copy=True))
        await stream.hear(CopyData)
        await stream.say(Subscribe(id=2, want={node.origin: 600}, credit_bytes=PLENTY))
        await stream.hear(Subscribed)
        assert await heard_entries(stream, 2) == [601, 602]


# -- what is believed -----------------------------------------------------------------------------------------------


async def test_an_acknowledgement_confirms_a_write(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await subscribed(node)
        await heard_entries(stream, 2)
        await stream.say(Ack(id=1, positions={node.origin: 2}, credit_bytes=0))
        await node.supervisor.replica("data").confirmations.wait(node.origin, 2, count=1, timeout_s=5)


@pytest.mark.parametrize("kind", ["acknowledges", "subscribes", "subscribes anew"])
async def test_nobody_has_more_of_this_node_than_the_node_itself(kind: str, tmp_path: Path, virtual: MockClock) -> None:
    """Believed, it would confirm writes before they are made."""
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await subscribed(node)
        future = {node.origin: 100}
        said: dict[str, Message] = {
            "acknowledges": Ack(id=1, positions=future),
            "subscribes": Subscribe(id=2, want=future, credit_bytes=PLENTY),
            "subscribes anew": Resubscribe(id=1, want=future),
        }
        await stream.say(said[kind])
        assert isinstance(await stream.farewell(), Error)
        await node.put(2)
        with pytest.raises(NotConfirmed):
            await node.supervisor.replica("data").confirmations.wait(node.origin, 3, count=1, timeout_s=5)


async def test_a_subscriber_may_have_more_of_others_than_this_node(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await node.dial()
        await stream.say(Subscribe(id=1, want={STRANGER: 1000}, credit_bytes=PLENTY))
        assert await heard_entries(stream, 2) == [1, 2]


@pytest.mark.parametrize(
    "message",
    [Ack(id=1, positions={}), Ack(id=2, positions={}), Resubscribe(id=1, want={})],
    ids=["acknowledges", "acknowledges what comes later", "subscribes anew"],
)
async def test_who_has_not_subscribed_cannot_speak_of_a_subscription(
    message: Message, tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        stream = await node.dial()
        await stream.say(message)
        farewell = await stream.farewell()
        assert isinstance(farewell, Error) and farewell.message == "the peer acknowledges before it subscribed"


async def test_a_subscription_that_was_never_made_cannot_be_acknowledged(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        stream = await subscribed(node)
        await stream.say(Ack(id=7, positions={}, credit_bytes=PLENTY))
        farewell = await stream.farewell()
        assert isinstance(farewell, Error) and "that it never made" in farewell.message


async def test_a_subscription_that_is_not_permitted_is_refused_with_the_reason(
    tmp_path: Path, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    policy.not_permitted = 'Access to database "data" is not permitted'
    async with node_a(tmp_path, policy=policy) as node:
        await node.put(1)
        stream = await node.dial()
        await stream.say(Subscribe(id=1, want={}, credit_bytes=PLENTY))
        farewell = await stream.farewell()
        assert isinstance(farewell, Error)
        assert (farewell.code, farewell.message) == ("not-permitted", policy.not_permitted)
        assert sent_bytes(stream) == []


async def test_wider_tables_than_are_permitted_are_refused_on_a_running_stream(
    tmp_path: Path, virtual: MockClock
) -> None:
    policy = SettablePolicy("b")
    async with node_a(tmp_path, policy=policy) as node:
        stream = await subscribed(node, tables=TableSelection("only", frozenset(("dog",))))
        policy.not_permitted = "Unauthorized database subscription to data"
        await stream.say(Resubscribe(id=1, want={}))
        farewell = await stream.farewell()
        assert isinstance(farewell, Error) and farewell.code == "not-permitted"


async def test_what_only_a_publisher_says_is_nothing_to_a_publisher(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path) as node:
        await node.put(1)
        stream = await subscribed(node)
        await heard_entries(stream, 2)
        state = node.state()
        await stream.say(
            Subscribed(id=1, mode="log", head=5, unavailable={}),
            Batch(id=1, number=1, items=(SentEntry(data=b"x"),), head=9),
            Schema(id=1, tables=()),
            Error(code="internal", message="no"),
        )
        await node.put(2)
        assert await heard_entries(stream, 1) == [3]
        assert node.state()[0].keys() >= state[0].keys()


# -- a subscriber that does not read ----------------------------------------------------------------------------------


async def test_a_subscriber_that_acknowledges_on_and_on_and_never_reads_costs_no_memory(
    tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        await node.put(*range(600), filling="x" * 1000)
        stream = await subscribed(node, credit_bytes=1)
        node.network.blackhole("a", "b")
        await stream.say(Ack(id=1, positions={}, credit_bytes=100 * PLENTY))
        await trio.sleep(1)
        for _ in range(3_000):
            await stream.say(Ack(id=1, positions={}, credit_bytes=1))
            await trio.sleep(0.001)
        (served,) = node.supervisor.served.values()
        assert served.stream is not None and served.stream.waiting_messages < 5


async def test_a_subscriber_that_subscribes_on_and_on_and_never_reads_loses_its_connection(
    tmp_path: Path, virtual: MockClock
) -> None:
    async with node_a(tmp_path) as node:
        await node.put(*range(600), filling="x" * 1000)
        stream = await subscribed(node, credit_bytes=1)
        node.network.blackhole("a", "b")
        await stream.say(Ack(id=1, positions={}, credit_bytes=100 * PLENTY))
        await trio.sleep(1)
        with pytest.raises(LinkLost):
            for _ in range(5_000):
                await stream.say(Resubscribe(id=1, want={}))
                await trio.sleep(0.002)


async def test_a_peer_that_stops_the_stream_leaves_the_others_alone(tmp_path: Path, virtual: MockClock) -> None:
    async with node_a(tmp_path, policy=SettablePolicy("b", "c")) as node:
        await node.put(1)
        stream = await subscribed(node)
        other = await node.dial(name="c")
        await other.say(Subscribe(id=1, want={}, credit_bytes=PLENTY))
        assert await heard_entries(other, 2) == [1, 2]
        await stream.say(Bye(code="shutting-down"))
        await stream.farewell()
        await node.put(2)
        assert await heard_entries(other, 1) == [3]
