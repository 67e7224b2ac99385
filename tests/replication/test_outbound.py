"""What a publisher sends next, from real logs: batches under credit, ranges to skip, and where an origin stops."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from replication.errors import RemoteProtocolError
from replication.fields import SentEntry, SkipRange
from replication.messages import Ack, Batch, Message, Resubscribe, Schema, Subscribe, Subscribed, Void
from replication.outbound import Publisher
from replication.settings import LinkSettings
from replication.stream_in import received_of
from replication.subscription import EVERY_TABLE, TableSelection
from storage.entry import Origin
from storage.maintenance import trim_log
from storage.received_entries import apply_received, read_received
from storage.schema import Attribute
from storage.table_writes import write_records
from storage.write_transaction import WriteTransaction
from tests.storage.opened import Opened

PLENTY = 1 << 20


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened.at(tmp_path / "data")
    opened.create_table("dog", Attribute(name="id", is_primary_key=True), Attribute(name="filling"))
    opened.create_table("cat")
    yield opened
    opened.close()


class Stream:
    """A publisher of ``node``, and what it said."""

    def __init__(self, node: Opened, *, entry_bytes_max: int = PLENTY, **settings: Any) -> None:
        self.node = node
        self.publisher = Publisher(LinkSettings(**settings), entry_bytes_max=entry_bytes_max)

    @property
    def own(self) -> Origin:
        return self.node.environment.origin

    def subscribe(self, want: dict[Origin, int] | None = None, *, credit_bytes: int = PLENTY, **fields: Any) -> Message:
        message = Subscribe(id=self.publisher.id + 1, want=want or {}, credit_bytes=credit_bytes, **fields)
        with self.node.database.read() as tx:
            (answer,) = self.publisher.subscribe(message, tx)
        return answer

    def resubscribe(self, want: dict[Origin, int], **fields: Any) -> list[Message]:
        with self.node.database.read() as tx:
            return self.publisher.resubscribe(Resubscribe(id=self.publisher.id, want=want, **fields), tx)

    def step(self) -> list[Message]:
        with self.node.database.read() as tx:
            definitions = [table.definition for table in tx.schema().tables.values()]
            return self.publisher.next_messages(tx, definitions)

    def rest(self) -> list[Message]:
        """All that it sends until it has nothing more."""
        sent: list[Message] = []
        with self.node.database.read() as tx:
            head = tx.head().lseq
        while True:
            messages = self.step()
            sent += messages
            if not messages and (self.publisher.place >= head or not self.publisher.may_send):
                return sent


def batches(messages: list[Message]) -> list[Batch]:
    return [message for message in messages if isinstance(message, Batch)]


def items(messages: list[Message]) -> list[Any]:
    return [item for batch in batches(messages) for item in batch.items]


def positions(messages: list[Message]) -> list[Any]:
    """Numbers of the entries sent, and ranges skipped as pairs."""
    return [
        (item.first, item.last) if isinstance(item, SkipRange) else read_received(item.data).header.oseq
        for item in items(messages)
    ]


def put_dogs(node: Opened, count: int, **values: Any) -> None:
    for key in range(count):
        node.put("dog", {"id": key, **values})


def test_a_subscriber_gets_the_whole_log_in_order(node):
    put_dogs(node, 3)
    stream = Stream(node)
    assert isinstance(stream.subscribe(), Subscribed)
    assert positions(stream.rest()) == [1, 2, 3, 4, 5]


def test_definitions_come_before_the_first_entries(node):
    stream = Stream(node)
    stream.subscribe()
    schema, batch = stream.step()
    assert isinstance(schema, Schema) and {table.name for table in schema.tables} == {"dog", "cat"}
    assert isinstance(batch, Batch)


def test_definitions_come_again_only_when_they_have_changed(node):
    stream = Stream(node)
    stream.subscribe()
    stream.rest()
    node.put("dog", {"id": 1})
    assert [type(message) for message in stream.step()] == [Batch]
    node.create_table("bird")
    assert [type(message) for message in stream.step()] == [Schema, Batch]


def test_nothing_is_sent_before_a_subscription(node):
    assert Stream(node).step() == []


def test_the_stream_goes_on_behind_what_is_wanted(node):
    put_dogs(node, 3)
    stream = Stream(node)
    stream.subscribe({stream.own: 4})
    assert positions(stream.rest()) == [5]


def test_a_batch_ends_at_its_number_of_entries(node):
    put_dogs(node, 5)
    stream = Stream(node, batch_items=3)
    stream.subscribe()
    assert [len(batch.items) for batch in batches(stream.rest())] == [3, 3, 1]


def test_a_batch_ends_at_its_bytes_but_never_before_one_entry(node):
    put_dogs(node, 3, filling="x" * 500)
    stream = Stream(node, batch_bytes=100)
    stream.subscribe({stream.own: 2})
    assert [len(batch.items) for batch in batches(stream.rest())] == [1, 1, 1]


def test_batches_are_numbered_and_tell_of_the_head(node):
    put_dogs(node, 3)
    stream = Stream(node, batch_items=2)
    stream.subscribe()
    assert [(batch.number, batch.head) for batch in batches(stream.rest())] == [(1, 5), (2, 5), (3, 5)]


def test_credit_is_overdrawn_by_no_more_than_one_entry(node):
    put_dogs(node, 6, filling="x" * 500)
    stream = Stream(node)
    stream.subscribe({stream.own: 2}, credit_bytes=700)
    sent = stream.rest()
    assert positions(sent) == [3, 4]
    assert stream.publisher.credit_bytes == 700 - sum(len(item.data) for item in items(sent))


def test_what_is_acknowledged_with_credit_lets_the_stream_go_on(node):
    put_dogs(node, 2, filling="x" * 500)
    stream = Stream(node)
    stream.subscribe({stream.own: 2}, credit_bytes=1)
    assert positions(stream.rest()) == [3]
    stream.publisher.acknowledge(Ack(id=1, positions={stream.own: 3}, credit_bytes=1000))
    assert positions(stream.rest()) == [4]


def test_an_acknowledgement_before_any_subscription_is_refused(node):
    with pytest.raises(RemoteProtocolError):
        Stream(node).publisher.acknowledge(Ack(id=1, positions={}))


def test_an_acknowledgement_of_a_subscription_that_never_was_is_refused(node):
    stream = Stream(node)
    stream.subscribe()
    with pytest.raises(RemoteProtocolError):
        stream.publisher.acknowledge(Ack(id=2, positions={}))


def test_confirmed_positions_never_fall(node):
    stream = Stream(node)
    stream.subscribe()
    for oseq in (5, 3):
        stream.publisher.acknowledge(Ack(id=1, positions={stream.own: oseq}))
    assert stream.publisher.confirmed == {stream.own: 5}


def test_entries_of_unwanted_tables_become_one_range(node):
    node.put("cat", {"id": 1})
    put_dogs(node, 4)
    node.put("cat", {"id": 2})
    stream = Stream(node)
    stream.subscribe(tables=TableSelection("only", frozenset(("cat",))))
    assert positions(stream.rest()) == [(1, 1), 2, 3, (4, 7), 8]


def test_a_range_names_the_chain_at_its_end(node):
    put_dogs(node, 2)
    stream = Stream(node)
    stream.subscribe(tables=TableSelection("only", frozenset()))
    (skipped,) = items(stream.rest())
    with node.database.read() as tx:
        assert skipped.chain == tx.log.chain_at(stream.own, 4)


def test_a_long_run_of_unwanted_entries_is_told_of_piece_by_piece(node):
    put_dogs(node, 6)
    stream = Stream(node, scan_entries=4)
    stream.subscribe(tables=TableSelection("except", frozenset(("dog", "cat"))))
    assert [positions([message]) for message in batches(stream.rest())] == [[(1, 4)], [(5, 8)]]


def test_an_entry_of_which_a_part_is_wanted_is_sent_reduced(node):
    def both(tx: WriteTransaction) -> None:
        for table in ("dog", "cat"):
            write_records(tx, table, [{"id": 1}], "upsert")

    node.write(both)
    stream = Stream(node)
    stream.subscribe({stream.own: 2}, tables=TableSelection("only", frozenset(("cat",))))
    (entry,) = items(stream.rest())
    assert isinstance(entry, SentEntry) and entry.is_reduced
    assert b"dog" not in entry.data


def test_an_origin_that_is_left_out_is_not_even_skipped(node):
    put_dogs(node, 2)
    stream = Stream(node)
    stream.subscribe(without=frozenset((stream.own,)))
    assert items(stream.rest()) == []


def test_an_entry_that_the_subscriber_cannot_take_stops_its_origin(node):
    node.put("dog", {"id": 1, "filling": "x" * 5000})
    node.put("dog", {"id": 2})
    stream = Stream(node, entry_bytes_max=1000)
    stream.subscribe({stream.own: 2})
    assert [message for message in stream.rest() if not isinstance(message, Schema)] == [
        Void(id=1, origin=stream.own, at=3, reason="too large")
    ]


def test_what_was_trimmed_is_unavailable_and_nothing_of_it_is_sent(node):
    put_dogs(node, 3)
    node.maintain(partial(trim_log, before_us=node.now_us - 1500))
    stream = Stream(node)
    answer = stream.subscribe()
    assert isinstance(answer, Subscribed) and set(answer.unavailable) == {stream.own}
    assert items(stream.rest()) == []


def test_who_is_beyond_what_was_trimmed_is_served(node):
    put_dogs(node, 3)
    node.maintain(partial(trim_log, before_us=node.now_us - 1500))
    stream = Stream(node)
    stream.subscribe({stream.own: 4})
    assert positions(stream.rest()) == [5]


def test_who_was_told_to_pass_a_range_does_not_pass_it_on(node, tmp_path):
    """Only who holds the entries may say that they need not be seen; a relay without them leads to another peer."""
    put_dogs(node, 2)
    stream = Stream(node)
    stream.subscribe(tables=TableSelection("only", frozenset()))
    relay = Opened.at(tmp_path / "relay", node="n2")
    received = [received_of(item) for item in items(stream.rest())]
    relay.maintain(partial(apply_received, items=received, now_us=relay.now_us))
    relayed = Stream(relay)
    answer = relayed.subscribe()
    assert isinstance(answer, Subscribed) and answer.unavailable == {stream.own: 4}
    assert items(relayed.rest()) == []
    relay.close()


def test_a_changed_subscription_goes_on_from_what_it_names(node):
    put_dogs(node, 3)
    stream = Stream(node)
    stream.subscribe()
    stream.rest()
    (answer,) = stream.resubscribe({stream.own: 3})
    assert isinstance(answer, Subscribed) and answer.id == 1
    assert positions(stream.rest()) == [4, 5]


def test_a_changed_subscription_keeps_the_credit_that_is_left(node):
    put_dogs(node, 3)
    stream = Stream(node)
    stream.subscribe(credit_bytes=1)
    stream.rest()
    stream.resubscribe({}, tables=EVERY_TABLE)
    assert stream.step() == []


def test_a_subscription_begun_anew_has_credit_of_its_own(node):
    stream = Stream(node)
    stream.subscribe(credit_bytes=1)
    stream.rest()
    stream.subscribe(credit_bytes=PLENTY)
    assert positions(stream.rest()) == [1, 2]
