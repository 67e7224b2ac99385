"""Waiting until enough peers have a write: each peer counts once, and only once the entry is durable there."""

import math
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import trio

from replication.errors import NotConfirmed
from storage.entry import Origin

RANGES_KEPT: Final = 4096
"""Of entries that one peer has in part, per origin. Older ones become one range, which may name some that the peer has:
that errs on the safe side.
"""


@dataclass(slots=True, eq=False)
class _Waiter:
    origin: Origin
    oseq: int
    count: int
    done: trio.Event = field(default_factory=trio.Event)


class PartialEntries:
    """Entries that a peer has in part or not at all: ``(origin, oseq) in entries``."""

    def __init__(self, ranges: Mapping[Origin, Sequence[tuple[int, int]]] = MappingProxyType({})) -> None:
        self._ranges = {origin: list(of_one) for origin, of_one in ranges.items()}
        """By origin: first and last positions, in ascending order."""

    def __contains__(self, position: object) -> bool:
        match position:
            case (Origin() as origin, int(oseq)):
                ranges = self._ranges.get(origin, ())
                at = bisect_right(ranges, (oseq, math.inf)) - 1
                return at >= 0 and ranges[at][1] >= oseq
            case _:
                return False

    def add(self, origin: Origin, oseq: int) -> None:
        if (origin, oseq) in self:
            return
        ranges = self._ranges.setdefault(origin, [])
        if ranges and ranges[-1][1] == oseq - 1:
            ranges[-1] = (ranges[-1][0], oseq)
        else:
            insort(ranges, (oseq, oseq))
        if len(ranges) >= 2 * RANGES_KEPT:
            ranges[:-RANGES_KEPT] = [(ranges[0][0], ranges[-RANGES_KEPT - 1][1])]

    def copy(self) -> "PartialEntries":
        return PartialEntries(self._ranges)


class Confirmations:
    """What the peers of one database have confirmed. Positions of a peer grow, but for one that went back in time."""

    def __init__(self) -> None:
        self._confirmed: dict[str, dict[Origin, int]] = {}
        self._in_part: dict[str, PartialEntries] = {}
        self._waiters: set[_Waiter] = set()

    def note(self, peer: str, positions: Mapping[Origin, int]) -> None:
        """``peer`` has all up to these positions, durably. Wakes who waited for it."""
        known = self._confirmed.setdefault(peer, {})
        for origin, oseq in positions.items():
            known[origin] = max(oseq, known.get(origin, 0))
        for waiter in list(self._waiters):
            if self.count(waiter.origin, waiter.oseq) >= waiter.count:
                waiter.done.set()

    def meet(self, peer: str, positions: Mapping[Origin, int]) -> None:
        """What ``peer`` says of itself when it connects, which may be less than it said before: its file was put back."""
        self._confirmed[peer] = {}
        self.note(peer, positions)

    def note_partial(self, peer: str, origin: Origin, oseq: int) -> None:
        """``peer`` gets an entry only in part or not at all: it never counts for that one."""
        self._in_part.setdefault(peer, PartialEntries()).add(origin, oseq)

    def forget(self, peer: str) -> None:
        """A removed peer."""
        self._confirmed.pop(peer, None)
        self._in_part.pop(peer, None)

    def of(self, peer: str) -> Mapping[Origin, int]:
        return self._confirmed.get(peer, {})

    def in_part(self, peer: str) -> PartialEntries:
        """Entries that ``peer`` is known not to have in full, as of now."""
        return self._in_part.get(peer, PartialEntries()).copy()

    def count(self, origin: Origin, oseq: int) -> int:
        """How many peers have that entry in full."""
        return len(self.peers_with(origin, oseq))

    def peers_with(self, origin: Origin, oseq: int) -> frozenset[str]:
        """The peers that have that entry in full, durably."""
        return frozenset(
            peer
            for peer, known in self._confirmed.items()
            if known.get(origin, 0) >= oseq and (origin, oseq) not in self._in_part.get(peer, ())
        )

    async def wait(self, origin: Origin, oseq: int, *, count: int, timeout_s: float) -> None:
        """Wait until ``count`` peers have the entry. Raises ``NotConfirmed``; the write itself stays and goes on."""
        if self.count(origin, oseq) >= count:
            return
        waiter = _Waiter(origin, oseq, count)
        self._waiters.add(waiter)
        try:
            with trio.move_on_after(timeout_s) as scope:
                await waiter.done.wait()
        finally:
            self._waiters.discard(waiter)
        if scope.cancelled_caught:
            confirmed = self.count(origin, oseq)
            raise NotConfirmed(
                f"Timed out after {timeout_s:g} s waiting for replication to be confirmed by {count} nodes "
                f"({confirmed} confirmed); the write is committed and goes on replicating"
            )
