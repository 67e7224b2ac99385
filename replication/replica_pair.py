"""A table here and at one peer: held against each other where both are equally far, and made equal where they differ.

The rows are read even where the digests that each commit keeps are equal. Those tell that both were given the same;
whether the rows still are what was given, only reading them tells.

A difference is repaired by what ``storage.repair`` decides, as an own entry of this node which brings the outcome to
all replicas. What differs is looked at again right before: it may have been written since.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import trio

from replication.replica_answers import State
from replication.replica_comparison import Comparison, Difference
from replication.replica_sides import AHEAD_MS, CALL_S, KEYS_MAX, LocalSide, NotComparable, RemoteSide
from replication.supervisor import Supervisor
from storage.catalog import Catalog
from storage.entry import Origin
from storage.errors import DatabaseClosed, NotFound
from storage.repair import Knowledge, Settlement, Sides, Verdict, compare, decide, settle
from storage.write_state import WriteState

log = logging.getLogger("replication")

SAMPLE_MAX: Final = 100
MEET_S: Final = 1.0
"""How long both sides are looked at for a moment at which neither is ahead."""
AWAITED_MAX: Final = 2000
"""Records at once of which a write was on its way; a table with more is too busy to be compared."""
LOOK_AGAIN_S_MIN: Final = 0.02
LOOK_AGAIN_S_MAX: Final = 1.0
FORKED: Final = ("fork", "chain")
"""Why a stream does not go on with an origin: the peer has other entries under its numbers."""

OnRows: TypeAlias = Callable[[int], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Findings:
    """What one comparison found. ``differing`` and ``sample`` are of what was found, repaired or not."""

    has_equal_digests: bool | None = None
    """Of the digests that are kept; None where both were never seen as of one vector."""
    differing: int = 0
    sample: list[Difference] = field(default_factory=list)
    repaired: int = 0
    awaited: dict[bytes, None] = field(default_factory=dict)
    """Records that could not be judged, as writes of them were on their way."""

    @property
    def is_equal(self) -> bool | None:
        """None where that could not be found out."""
        if self.differing:
            return False
        return None if self.awaited else self.has_equal_digests is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Whom the log names for what a repair writes."""

    user: str | None
    operation: str


class ReplicaPair:
    """``here`` against ``there``. What cannot be compared now raises ``NotComparable``."""

    def __init__(
        self,
        supervisor: Supervisor,
        catalog: Catalog,
        peer: str,
        database: str,
        table: str,
        *,
        author: Author,
        on_rows: OnRows,
    ) -> None:
        self._catalog = catalog
        self._database = database
        self._table = table
        self._name = f"'{database}.{table}' of '{peer}'"
        self._author = author
        self._on_rows = on_rows
        self._timeout_s = supervisor.settings.confirmation_timeout_s
        self._here = LocalSide(catalog, database, table, apart=apart_from(supervisor, peer, database))
        self._there = RemoteSide(partial(supervisor.call, peer, timeout_s=CALL_S), database, table)
        self._apart: frozenset[Origin] = frozenset()
        self._ahead_ms = AHEAD_MS
        self._old_us = 0
        self.found = Findings()
        """What the first comparison found, as far as it came."""

    async def compare(self, *, patience_s: float) -> Findings:
        """Compare once both are equally far, for which ``patience_s`` is waited."""
        return await self._compare(self.found, patience_s)

    async def repair(self, *, patience_s: float) -> Findings:
        """Compare, repair what differs, and compare again: what is found in the end."""
        last = await self._compare(self.found, patience_s, repairs=True)
        if last.is_equal is False:
            last = await self._compare_again()
        if last.is_equal is False and not last.differing:
            log.warning("the digest that is kept for table %s is not that of its rows, here or there", self._name)
            if await self._here.mend_digest() and await self._there.mend_digest():
                last = await self._compare_again()
        return last

    async def _compare_again(self) -> Findings:
        return await self._compare(Findings(), self._timeout_s)

    async def _compare(self, findings: Findings, patience_s: float, *, repairs: bool = False) -> Findings:
        try:
            here, there = await self._meet(patience_s)
            if self._is_equally_far(here, there):
                findings.has_equal_digests = here.digest == there.digest
            comparison = Comparison(
                here=self._here,
                there=self._there,
                on_found=partial(self._note, findings, repairs),
                on_rows=self._on_rows,
                instant=self._instant,
                apart=self._apart,
            )
            await comparison.run(here.rows)
            await self._judge_awaited(findings, repairs)
        except (NotFound, DatabaseClosed) as error:
            raise NotComparable("incomplete", str(error)) from error
        return findings

    async def _meet(self, patience_s: float) -> tuple[State, State]:
        """The table on both sides, both equally far.

        Where both are written all the time, that is hardly ever seen. Then it is enough that each has got as far as the
        other was when they were first looked at: what is on its way is told by the single versions.
        """
        pauses = _pauses()
        began = trio.current_time()
        first = None
        while True:
            states = await self._states()
            if states is not None:
                first = first or states
                is_met = self._is_equally_far(*states)
                if is_met or (trio.current_time() >= began + MEET_S and self._have_passed(first, states)):
                    here, there = states
                    self._ahead_ms = AHEAD_MS + max(there.now_ms - here.now_ms, 0)
                    self._old_us = max(here.old_us, there.old_us)
                    return states
            if trio.current_time() >= began + patience_s:
                raise NotComparable("busy", f"Table {self._name} and this node were not equally far in time")
            await trio.sleep(next(pauses))

    async def _states(self) -> tuple[State, State] | None:
        """Ours is that from before or after the peer's, whichever fits; None while a copy is merged."""
        try:
            before = self._here.state()
            there = await self._there.state()
            after = self._here.state()
        except NotComparable as error:
            if error.reason == "busy":
                return None
            raise
        self._apart = before.apart | there.apart
        return (before, there) if self._is_equally_far(before, there) else (after, there)

    def _is_equally_far(self, here: State, there: State) -> bool:
        return self._shared(here.vector) == self._shared(there.vector)

    def _have_passed(self, first: tuple[State, State], now: tuple[State, State]) -> bool:
        """Whether each side has all that the other had at first."""
        return all(
            oseq <= side.vector.get(origin, 0)
            for side, other in zip(now, reversed(first), strict=True)
            for origin, oseq in self._shared(other.vector).items()
        )

    def _shared(self, vector: Mapping[Origin, int]) -> dict[Origin, int]:
        return {origin: oseq for origin, oseq in vector.items() if origin not in self._apart}

    def _instant(self) -> int:
        return self._catalog.clock() // 1000 + self._ahead_ms

    # -- differences ----------------------------------------------------------------------------------------------

    async def _note(self, findings: Findings, repairs: bool, differences: Sequence[Difference]) -> None:
        for one in differences:
            if one.is_awaited:
                findings.awaited[one.stored_key] = None
            else:
                _count(findings, one)
        if len(findings.awaited) > AWAITED_MAX:
            raise NotComparable("busy", f"Table {self._name} is written too much to be compared")
        if repairs:
            await self._repair(findings, [one.stored_key for one in differences if not one.is_awaited])

    async def _repair(self, findings: Findings, stored_keys: Sequence[bytes]) -> None:
        left = stored_keys
        while left:
            looked = await self._look(left[:KEYS_MAX])
            findings.repaired += await self._settle(looked)
            left = left[len(looked) :]

    async def _judge_awaited(self, findings: Findings, repairs: bool) -> None:
        """Look again until what was on its way has come, as long as that may take."""
        pauses = _pauses()
        deadline = trio.current_time() + self._timeout_s
        while findings.awaited and trio.current_time() < deadline:
            await trio.sleep(next(pauses))
            for part in _parts(list(findings.awaited)):
                await self._judge_part(findings, repairs, part)

    async def _judge_part(self, findings: Findings, repairs: bool, stored_keys: Sequence[bytes]) -> None:
        looked = await self._look(stored_keys)
        for one in looked:
            if one.verdict != "awaited":
                del findings.awaited[one.stored_key]
            if one.verdict == "differs":
                here, there = (None if held is None else held.version for held in one.sides)
                _count(findings, Difference(one.stored_key, here, there, False))
        if repairs:
            findings.repaired += await self._settle(looked)

    async def _look(self, stored_keys: Sequence[bytes]) -> list["_Looked"]:
        """What both sides have of these records now, or of a first part of them."""
        as_of_ms = self._instant()
        ours = await self._here.held(stored_keys, as_of_ms=as_of_ms)
        theirs = await self._there.held(stored_keys, as_of_ms=as_of_ms)
        knowledge = Knowledge(here=ours.vector, there=theirs.vector, old_us=self._old_us, apart=self._apart)
        looked = []
        for stored_key, here, there in zip(stored_keys, ours.held, theirs.held, strict=False):
            verdict = compare(here and here.version, there and there.version, knowledge)
            looked.append(_Looked(stored_key, (here, there), knowledge, verdict))
        return looked

    async def _settle(self, looked: Iterable["_Looked"]) -> int:
        """Repair those that differ; how many were."""
        settlements = [
            Settlement(one.stored_key, decide(*one.sides, one.knowledge), one.sides)
            for one in looked
            if one.verdict == "differs"
        ]
        if not settlements:
            return 0

        def run(state: WriteState) -> int:
            return settle(
                state,
                self._table,
                settlements,
                now_us=self._catalog.clock(),
                user=self._author.user,
                operation=self._author.operation,
            )

        settled: int = await self._catalog.maintain(self._database, run)
        return settled


class _Looked(NamedTuple):
    stored_key: bytes
    sides: Sides
    knowledge: Knowledge
    verdict: Verdict


def apart_from(supervisor: Supervisor, peer: str, database: str) -> frozenset[Origin]:
    """Origins of which a peer has other entries than this node, so that none of them are exchanged."""
    link = supervisor.dialled.get((peer, database))
    stream = None if link is None else link.stream
    unserved = {} if stream is None else stream.unserved()
    return frozenset(origin for origin, why in unserved.items() if why in FORKED)


def _count(findings: Findings, difference: Difference) -> None:
    findings.differing += 1
    if len(findings.sample) < SAMPLE_MAX:
        findings.sample.append(difference)


def _parts(stored_keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(stored_keys), KEYS_MAX):
        yield stored_keys[start : start + KEYS_MAX]


def _pauses() -> Iterator[float]:
    pause_s = LOOK_AGAIN_S_MIN
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.5, LOOK_AGAIN_S_MAX)
