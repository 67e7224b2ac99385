"""Where do two replicas of a table differ? Digests of ranges lead down to the keys; single versions decide.

One side cuts a range, the other answers for the same cuts. Two equal digests prove that each row of their range was
met alike on both sides, however much was written meanwhile, as each key was read once by either. Unequal ones only
tell where to look: what is held of each key is compared with how far each side is (``storage.repair.compare``), read in
the transaction of the rows. So a write that is on its way is never taken for a difference.

Nothing here is held but one step: at most ``PARTS`` ranges per level, a page of versions from either side.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from storage.entry import Origin
from storage.range_digests import PARTS, RangeDigest, Version
from storage.repair import Knowledge, compare

LEAF_ROWS: Final = 256
"""Rows of a range that is not cut any more."""
PART_ROWS: Final = 64
"""Rows of the smallest ranges that a cut makes: fewer are not worth a digest."""
CALL_ROWS: Final = 50_000
"""Rows that the other side looks at for one request, about; a long one could neither be cancelled nor followed."""


class Page(NamedTuple):
    """The next versions of a range, in key order, and how far their side is. ``is_last``: nothing is behind them."""

    versions: Sequence[Version]
    vector: Mapping[Origin, int]
    is_last: bool


class Side(Protocol):
    """One replica of the table. What expires until ``as_of_ms``, still to come on both sides, counts as gone."""

    async def between(
        self, boundaries: Sequence[bytes], low: bytes | None, high: bytes | None, *, as_of_ms: int
    ) -> Sequence[RangeDigest]:
        """Answer for the cuts of the other side."""

    async def versions(self, low: bytes | None, high: bytes | None, *, after: bytes | None, as_of_ms: int) -> Page: ...


class CuttingSide(Side, Protocol):
    async def split(
        self, low: bytes | None, high: bytes | None, *, rows: int, parts: int, as_of_ms: int
    ) -> Sequence[RangeDigest]:
        """Cut about ``rows`` rows into even ranges."""


class Difference(NamedTuple):
    """One key that is not held alike. ``is_awaited``: a write of it was on its way."""

    stored_key: bytes
    here: Version | None
    there: Version | None
    is_awaited: bool


Found: TypeAlias = Callable[[Sequence[Difference]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``run`` compares the whole table; ``on_found`` is awaited with the differences of a page, each key at most once.

    ``instant`` gives the one as of which both sides look, which comes after the end of a step. ``apart`` are origins
    whose entries the sides do not exchange; ``on_rows`` is awaited with how many rows were done.
    """

    here: CuttingSide
    there: Side
    on_found: Found
    on_rows: Callable[[int], Awaitable[None]]
    instant: Callable[[], int]
    apart: Collection[Origin] = ()

    async def run(self, rows: int) -> None:
        """``rows`` is about what is here."""
        await self._compare(None, None, rows, is_whole=True)

    async def _compare(self, low: bytes | None, high: bytes | None, rows: int, *, is_whole: bool = False) -> None:
        parts = min(max(-(-rows // PART_ROWS), 1), PARTS)
        as_of_ms = self.instant()
        ours = await self.here.split(low, high, rows=rows, parts=parts, as_of_ms=as_of_ms)
        for group in _groups(ours):
            boundaries = [one.low for one in group[1:] if one.low is not None]
            theirs = await self.there.between(boundaries, group[0].low, group[-1].high, as_of_ms=as_of_ms)
            differing = [
                (one.low, one.high, one.rows)
                for one, other in zip(group, theirs, strict=True)
                if (one.rows, one.digest) != (other.rows, other.digest)
            ]
            for part_low, part_high, part_rows in _joined(differing):
                if part_rows <= LEAF_ROWS or (part_low, part_high) == (low, high):
                    await self._compare_versions(part_low, part_high)
                else:
                    await self._compare(part_low, part_high, part_rows)
            if is_whole:
                await self.on_rows(sum(one.rows for one in group))

    async def _compare_versions(self, low: bytes | None, high: bytes | None) -> None:
        after: bytes | None = None
        while True:
            as_of_ms = self.instant()
            ours = await self.here.versions(low, high, after=after, as_of_ms=as_of_ms)
            theirs = await self.there.versions(low, high, after=after, as_of_ms=as_of_ms)
            ends = [page.versions[-1].stored_key for page in (ours, theirs) if not page.is_last]
            through = min(ends, default=None)
            found = [*self._differences(ours, theirs, through)]
            if found:
                await self.on_found(found)
            if through is None:
                return
            after = through

    def _differences(self, ours: Page, theirs: Page, through: bytes | None) -> Iterator[Difference]:
        here = {version.stored_key: version for version in ours.versions}
        there = {version.stored_key: version for version in theirs.versions}
        knowledge = Knowledge(here=ours.vector, there=theirs.vector, old_us=0, apart=self.apart)
        for stored_key in sorted(here.keys() | there.keys()):
            if through is not None and stored_key > through:
                return
            sides = here.get(stored_key), there.get(stored_key)
            verdict = compare(*sides, knowledge)
            if verdict != "equal":
                yield Difference(stored_key, *sides, verdict == "awaited")


def _groups(ranges: Sequence[RangeDigest]) -> Iterator[list[RangeDigest]]:
    """Neighbours that one request asks for."""
    group: list[RangeDigest] = []
    rows = 0
    for one in ranges:
        if group and rows + one.rows > CALL_ROWS:
            yield group
            group, rows = [], 0
        group.append(one)
        rows += one.rows
    if group:
        yield group


def _joined(
    differing: Sequence[tuple[bytes | None, bytes | None, int]],
) -> Iterator[tuple[bytes | None, bytes | None, int]]:
    """Small neighbours made one: where all differs, pages of versions are read and not ranges of a few rows."""
    joined: tuple[bytes | None, bytes | None, int] | None = None
    for low, high, rows in differing:
        if joined is not None and joined[1] == low and joined[2] <= LEAF_ROWS and rows <= LEAF_ROWS:
            joined = (joined[0], high, min(joined[2] + rows, LEAF_ROWS))
        else:
            if joined is not None:
                yield joined
            joined = (low, high, rows)
    if joined is not None:
        yield joined
