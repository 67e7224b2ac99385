"""The descent to the keys that differ: exactly those, in bounded steps, whatever two tables hold."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from replication import replica_comparison
from replication.replica_comparison import Comparison, Difference, Page
from storage.entry import Origin, Stamp
from storage.range_digests import PARTS, RangeDigest, Version

A = Origin("a", "s1")
PAGE = 7
Versions = Mapping[int, tuple[int, bytes]]
"""By key: position of the write, and its value; b"" is a tombstone."""


def stored(key: int) -> bytes:
    return key.to_bytes(4)


class Replica:
    """A table in memory; counts what one step takes."""

    def __init__(self, held: Versions, *, vector: Mapping[Origin, int]) -> None:
        self.held = {stored(key): version for key, version in sorted(held.items())}
        self.vector = vector
        self.calls = 0

    def range_digest(self, low: bytes | None, high: bytes | None) -> RangeDigest:
        counted = [(key, held) for key, held in self.held.items() if held[1] and is_within(key, low, high)]
        total = sum(int.from_bytes(blake2b(repr(one).encode(), digest_size=16).digest()) for one in counted)
        return RangeDigest(low, high, len(counted), (total % (1 << 128)).to_bytes(16))

    async def between(
        self, boundaries: Sequence[bytes], low: bytes | None, high: bytes | None, *, as_of_ms: int
    ) -> list[RangeDigest]:
        self.calls += 1
        assert len(boundaries) < PARTS
        places = [low, *boundaries, high]
        return [self.range_digest(*ends) for ends in pairwise(places)]

    async def split(
        self, low: bytes | None, high: bytes | None, *, rows: int, parts: int, as_of_ms: int
    ) -> list[RangeDigest]:
        keys = [key for key, held in self.held.items() if held[1] and is_within(key, low, high)]
        step = max(-(-rows // parts), 1)
        cuts = [keys[at] for at in range(step, len(keys), step)][: parts - 1]
        return await self.between(cuts, low, high, as_of_ms=as_of_ms)

    async def versions(self, low: bytes | None, high: bytes | None, *, after: bytes | None, as_of_ms: int) -> Page:
        self.calls += 1
        keys = [key for key in self.held if is_within(key, low, high) and (after is None or key > after)][:PAGE]
        return Page([self.version(key) for key in keys], self.vector, len(keys) < PAGE)

    def version(self, key: bytes) -> Version:
        oseq, value = self.held[key]
        return Version(
            stored_key=key,
            key=int.from_bytes(key),
            stamp=Stamp(oseq, *A, oseq),
            position=(A, oseq),
            is_tombstone=not value,
            content=blake2b(value, digest_size=16).digest(),
        )


def is_within(key: bytes, low: bytes | None, high: bytes | None) -> bool:
    return (low is None or key >= low) and (high is None or key < high)


def found_between(here: Replica, there: Replica, **options: Any) -> list[Difference]:
    found: list[Difference] = []

    async def on_found(differences: Sequence[Difference]) -> None:
        assert len(differences) <= 2 * PAGE
        found.extend(differences)

    async def on_rows(rows: int) -> None:
        rows_done.append(rows)

    rows_done: list[int] = []
    comparison = Comparison(here=here, there=there, on_found=on_found, on_rows=on_rows, instant=lambda: 0, **options)
    live = sum(1 for _, value in here.held.values() if value)
    trio.run(comparison.run, live)
    assert sum(rows_done) == live
    return found


held = st.dictionaries(st.integers(0, 200), st.tuples(st.integers(1, 3), st.sampled_from((b"", b"x", b"y"))))


@given(common=held, of_here=held, of_there=held, leaf=st.sampled_from((1, 3, 256)), part=st.sampled_from((1, 2, 64)))
@settings(max_examples=150, deadline=None)
def test_exactly_the_keys_that_differ_are_found(
    common: Versions, of_here: Versions, of_there: Versions, leaf: int, part: int
) -> None:
    here = Replica({**common, **of_here}, vector={A: 9})
    there = Replica({**common, **of_there}, vector={A: 9})
    replica_comparison.LEAF_ROWS, replica_comparison.PART_ROWS = leaf, part  # type: ignore[misc]
    try:
        found = found_between(here, there)
    finally:
        replica_comparison.LEAF_ROWS, replica_comparison.PART_ROWS = 256, 64  # type: ignore[misc]
    nothing = (0, b"")
    expected = [
        key
        for key in sorted(here.held.keys() | there.held.keys())
        for ours, theirs in [(here.held.get(key, nothing), there.held.get(key, nothing))]
        if ours != theirs and (ours[1] or theirs[1])
    ]
    assert [one.stored_key for one in found] == expected
    assert not any(one.is_awaited for one in found)


def test_one_key_among_many_takes_few_steps() -> None:
    table = dict.fromkeys(range(100_000), (1, b"x"))
    here, there = Replica(table, vector={A: 2}), Replica({**table, 77_777: (2, b"y")}, vector={A: 2})
    assert [one.stored_key for one in found_between(here, there)] == [stored(77_777)]
    assert there.calls < 75


def test_a_table_that_only_one_side_has_is_read_in_pages() -> None:
    table = dict.fromkeys(range(3000), (1, b"x"))
    here, there = Replica({}, vector={A: 2}), Replica(table, vector={A: 2})
    assert len(found_between(here, there)) == len(found_between(there, here)) == 3000


def test_a_write_on_its_way_is_awaited() -> None:
    here, there = Replica({1: (1, b"x")}, vector={A: 1}), Replica({1: (2, b"y")}, vector={A: 2})
    assert [one.is_awaited for one in found_between(here, there)] == [True]


def test_entries_that_are_not_exchanged_are_not_waited_for() -> None:
    here, there = Replica({1: (1, b"x")}, vector={A: 1}), Replica({1: (2, b"y")}, vector={A: 2})
    assert [one.is_awaited for one in found_between(here, there, apart={A})] == [False]
