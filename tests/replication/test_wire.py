"""Every message survives the wire, and whatever a peer sends ends in a message, in nothing or in one kind of error."""

import time
from dataclasses import fields
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replication import fields as kinds
from replication.errors import RemoteProtocolError
from replication.fields import NATURAL_MAX, SentEntry, SkipRange
from replication.messages import CODES, Ack, Batch, Hello, Message, Origins, Ping, Void
from replication.subscription import TableSelection
from replication.wire import NUMBERS_MAX, Wire
from storage.clock import INSTANT_US_MAX
from storage.entry import DIGEST_BYTES, Origin
from storage.schema import Definition, dynamic_attributes

DECODE_S_MAX = 2.0
"""Far more than any frame here needs, far less than one that makes decoding explode."""

texts = st.text(max_size=12)
instants = st.integers(0, INSTANT_US_MAX)
naturals = st.integers(0, NATURAL_MAX)
origins = st.builds(Origin, texts, texts)
digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)


@st.composite
def skip_ranges(draw: st.DrawFn) -> SkipRange:
    first = draw(st.integers(1, NATURAL_MAX))
    return SkipRange(origin=draw(origins), first=first, last=draw(st.integers(first, NATURAL_MAX)), chain=draw(digests))


def definition(name: str) -> Definition:
    return Definition(name=name, primary_key="id", attributes=dynamic_attributes("id"))


VALUES: dict[Any, st.SearchStrategy[Any]] = {
    kinds.TEXT: texts,
    kinds.NATURAL: naturals,
    kinds.INSTANT: instants,
    kinds.INT: st.integers(-NATURAL_MAX, NATURAL_MAX),
    kinds.FLOAT: st.floats(-1e17, 1e17),
    kinds.BOOL: st.booleans(),
    kinds.BYTES: st.binary(max_size=20),
    kinds.ANY_MAP: st.dictionaries(texts, st.one_of(texts, st.integers(-9, 9)), max_size=3),
    kinds.NAMES: st.lists(texts, max_size=3).map(tuple),
    kinds.STAMPS: st.dictionaries(texts, instants, max_size=3),
    kinds.TABLES: st.builds(
        TableSelection, st.sampled_from(["all", "only", "except"]), st.frozensets(texts, max_size=3)
    ),
    kinds.DEFINITIONS: st.lists(st.sampled_from(["dog", "cat"]).map(definition), max_size=2).map(tuple),
    kinds.ITEMS: st.lists(
        st.one_of(
            skip_ranges(), st.builds(SentEntry, data=st.binary(min_size=1, max_size=9), is_reduced=st.booleans())
        ),
        max_size=3,
    ).map(tuple),
    kinds.TABLE_DIGESTS: st.dictionaries(texts, st.tuples(naturals, digests), max_size=3),
    kinds.FORK_DIGESTS: st.lists(st.tuples(naturals, digests), max_size=3).map(tuple),
    kinds.LONG_POSITIONS: st.dictionaries(origins, naturals, max_size=3),
    kinds.LONG_CHAINED: st.dictionaries(origins, st.tuples(naturals, digests), max_size=3),
    kinds.SHORT_IDS: st.dictionaries(naturals, origins, max_size=3),
    kinds.POSITIONS: st.dictionaries(origins, naturals, max_size=3),
    kinds.ORIGIN: origins,
    kinds.ORIGIN_SET: st.frozensets(origins, max_size=3),
}


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Any message but introductions of origins, which are the wire's own business."""
    kind = draw(st.sampled_from([kind for kind in CODES.values() if kind is not Origins]))
    values = {}
    for spec in fields(kind):
        strategy = VALUES[spec.metadata["kind"]]
        if spec.metadata["is_required"] or draw(st.booleans()):
            values[spec.name] = draw(strategy)
    made: Message = kind(**values)
    return made


def frame_of(code: int, body: Any) -> bytes:
    return cbor2.dumps([code, body])


def decoded(frames: list[bytes], wire: Wire) -> list[Message]:
    return [message for frame in frames if (message := wire.decode(frame)) is not None]


@given(st.lists(messages(), max_size=5))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_messages_arrive_as_they_were_sent(sent):
    here, there = Wire(), Wire()
    assert [decoded(here.encode(message), there) for message in sent] == [[message] for message in sent]


@given(st.binary(max_size=200))
def test_random_bytes_end_in_one_kind_of_error(frame):
    try:
        Wire().decode(frame)
    except RemoteProtocolError:
        pass


@given(messages(), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_damaged_frames_end_in_one_kind_of_error(message, data):
    here, there = Wire(), Wire()
    *introductions, frame = here.encode(message)
    decoded(introductions, there)
    damaged = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        there.decode(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    except RemoteProtocolError:
        pass


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.binary(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(texts, naturals), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(CODES)), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_fields_of_any_type_end_in_one_kind_of_error(code, data):
    body = {spec.metadata["key"]: data.draw(json_like) for spec in fields(CODES[code])}
    try:
        Wire().decode(frame_of(code, body))
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81" * 100_000,
        b"\x81" * 2_000 + b"\x00",
        b"\xa1\x61a" * 50_000,
        b"\xc1" * 100_000,
        b"\x9f" * 100_000,
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x05\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x82\x05\xa1\x61e\x9b\x00\x00\x00\xff\xff\xff\xff\xff",
        b"\xc2\x5a\x7f\xff\xff\xff",
        b"",
    ],
)
def test_deep_nesting_and_huge_lengths_are_refused_at_once(frame):
    began = time.monotonic()
    with pytest.raises(RemoteProtocolError):
        Wire().decode(frame)
    assert time.monotonic() - began < DECODE_S_MAX


def test_a_message_of_a_later_version_is_ignored():
    assert Wire().decode(frame_of(4711, {"any": "thing"})) is None


def test_a_field_of_a_later_version_is_ignored():
    assert Wire().decode(frame_of(10, {"t": 1, "novelty": [1, 2]})) == Ping(token=1)


def test_a_message_without_a_field_that_it_needs_is_refused():
    with pytest.raises(RemoteProtocolError, match="without 't'"):
        Wire().decode(frame_of(10, {}))


def test_an_origin_is_introduced_once_and_before_its_first_use():
    here, there = Wire(), Wire()
    ack = Ack(id=1, positions={Origin("a", "s"): 3})
    first, second = here.encode(ack), here.encode(ack)
    assert (len(first), len(second)) == (2, 1)
    assert decoded(first + second, there) == [ack, ack]


def test_an_origin_that_was_never_introduced_is_refused():
    *_, frame = Wire().encode(Void(id=1, origin=Origin("a", "s"), at=1, reason="trimmed"))
    with pytest.raises(RemoteProtocolError, match="never introduced"):
        Wire().decode(frame)


def test_no_connection_introduces_more_origins_than_a_cluster_has():
    wire = Wire()
    half = NUMBERS_MAX // 2 + 1
    wire.decode(frame_of(1, {"map": {number: ["a", str(number)] for number in range(half)}}))
    with pytest.raises(RemoteProtocolError, match="more origins"):
        wire.decode(frame_of(1, {"map": {number: ["a", str(number)] for number in range(half, 2 * half)}}))


def test_a_range_that_ends_before_it_begins_is_refused():
    wire = Wire()
    wire.decode(frame_of(1, {"map": {1: ["a", "s"]}}))
    with pytest.raises(RemoteProtocolError, match="ends before"):
        wire.decode(frame_of(5, {"id": 1, "b": 1, "head": 1, "place": 1, "e": [[1, 5, 4, bytes(DIGEST_BYTES)]]}))


def test_what_is_left_out_has_its_default():
    here, there = Wire(), Wire()
    hello = Hello(version_min=1, version_max=1, name="a", kind="control")
    assert decoded(here.encode(hello), there) == [hello]
    assert len(here.encode(hello)[0]) < 50


def test_an_entry_travels_as_the_bytes_that_it_is():
    here, there = Wire(), Wire()
    entry = bytes(range(256)) * 1000
    batch = Batch(id=1, number=1, items=(SentEntry(data=entry),), head=1)
    (frame,) = here.encode(batch)
    assert len(frame) < len(entry) + 60
    assert decoded([frame], there) == [batch]
