from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import codec
from storage.entry import (
    NO_CHAIN,
    Origin,
    Stamp,
    chain_digest,
    decode_header,
    decode_stored,
    digest,
    encode_header,
    encode_reduced,
    encode_stored,
)
from storage.errors import Corrupt

ORIGIN = Origin("n1", "store")


def header_of(payload: bytes, *, oseq: int = 1, previous_chain: bytes = NO_CHAIN, **said: Any) -> tuple[bytes, bytes]:
    fields: dict[str, Any] = {"ts": 5, "kind": "tx", "user": "ann", "operation": "insert", **said}
    return encode_header(origin=ORIGIN, oseq=oseq, payload=payload, previous_chain=previous_chain, **fields)


def stored_entry(writes: list[dict[str, Any]], previous: list[int]) -> bytes:
    payload = codec.encode(writes)
    header, _ = header_of(payload)
    return encode_stored(committed_at=7, previous=previous, header=header, payload=payload)


@given(st.integers(0, 1 << 62), st.lists(st.integers(0, 1 << 62), max_size=5))
def test_an_entry_comes_back_as_it_was_stored(committed_at: int, previous: list[int]) -> None:
    payload = codec.encode([{"t": "dog", "k": number} for number in previous])
    header, chain = header_of(payload)
    entry = decode_stored(
        9, encode_stored(committed_at=committed_at, previous=previous, header=header, payload=payload)
    )
    assert (entry.lseq, entry.committed_at, entry.previous) == (9, committed_at, tuple(previous))
    assert (entry.payload, entry.header.raw, entry.header.chain) == (payload, header, chain)
    assert (entry.header.origin, entry.header.user, entry.header.operation) == (ORIGIN, "ann", "insert")
    assert not entry.is_reduced


def test_a_header_without_user_and_operation_does_not_mention_them() -> None:
    header, _ = header_of(b"", user=None, operation=None)
    assert codec.decode(header).keys() == {"o", "n", "ts", "k", "pd", "ch"}


def test_the_chain_depends_on_the_entry_before_and_on_every_field() -> None:
    chains = {
        header_of(b"x")[1],
        header_of(b"x", previous_chain=digest(b"other"))[1],
        header_of(b"y")[1],
        header_of(b"x", user="bob")[1],
        header_of(b"x", oseq=2)[1],
        header_of(b"x", ts=6)[1],
    }
    assert len(chains) == 6


def test_unknown_fields_of_a_header_are_kept_and_covered_by_the_chain() -> None:
    fields = codec.decode(header_of(b"x")[0])
    newer: Mapping[str, Any] = {**fields, "new": 1}
    header = decode_header(codec.encode({**newer, "ch": chain_digest(NO_CHAIN, dict(newer))}))
    assert codec.decode(header.raw)["new"] == 1
    assert chain_digest(NO_CHAIN, codec.decode(header.raw)) == header.chain
    assert header.chain != fields["ch"]


def test_a_local_entry_is_in_no_chain() -> None:
    assert header_of(b"x", oseq=0)[1] == NO_CHAIN


def test_stamps_are_ordered_by_time_node_incarnation_and_position() -> None:
    ordered = [Stamp(1, "b", "y", 2), Stamp(2, "a", "x", 1), Stamp(2, "a", "x", 2), Stamp(2, "a", "y", 1)]
    assert all(before < after for before, after in pairwise(ordered))


def test_a_reduced_entry_keeps_its_header_and_the_writes_that_are_wanted() -> None:
    stored = stored_entry([{"t": "dog", "k": 1}, {"t": "cat", "k": 2}, {"t": "dog", "k": 3}], [4, 5, 6])
    entry = decode_stored(9, stored)
    reduced_bytes = encode_reduced(entry, lambda write: write["t"] == "dog")
    assert reduced_bytes is not None
    reduced = decode_stored(9, reduced_bytes)
    assert reduced.is_reduced
    assert reduced.writes() == [{"t": "dog", "k": 1}, {"t": "dog", "k": 3}]
    assert reduced.previous == (4, 6)
    assert (reduced.header, reduced.committed_at) == (entry.header, entry.committed_at)


def test_an_entry_that_loses_nothing_is_not_reduced() -> None:
    entry = decode_stored(9, stored_entry([{"t": "dog", "k": 1}], [0]))
    assert encode_reduced(entry, lambda write: True) is None


@given(st.data())
def test_a_damaged_entry_is_an_entry_or_corrupt(data: st.DataObject) -> None:
    stored = bytearray(stored_entry([{"t": "dog", "k": 1}], [4]))
    stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_stored(9, bytes(stored))
    except Corrupt:
        pass


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_an_entry_that_is_cut_short_is_corrupt(length: int) -> None:
    with pytest.raises(Corrupt):
        decode_stored(9, stored_entry([{"t": "dog", "k": 1}], [4])[:length])
