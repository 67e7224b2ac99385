"""Waiting until enough peers have a write: each peer counts once, and only once the entry is durable there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import trio

from replication.errors import NotConfirmed
from storage.entry import Origin


PARTIAL_KEPT: Final = 4096
"""Entries per peer of which is known that it has them in part only: what nobody waits for is needed just until the task
that wrote it has begun to wait.
"""


@dataclass(slots=True, eq=False)
class _Waiter:
    origin: Origin
    oseq: int
    count: int
    done: trio.Event = field(default_factory=trio.Event)


class Confirmations:
    """What the peers of one database have confirmed. Positions only ever grow while an incarnation lives."""

    def __init__(self) -> None:
        self._confirmed: dict[str, dict[Origin, int]] = {}
        self._not_in_full: dict[str, dict[tuple[Origin, int], None]] = {}
        self._waiters: set[_Waiter] = set()

    def note(self, peer: str, positions: Mapping[Origin, int]) -> None:
        """``peer`` has all up to these positions, durably. Wakes who waited for it."""
        known = self._confirmed.setdefault(peer, {})
        for origin, oseq in positions.items():
            known[origin] = max(oseq, known.get(origin, 0))
        for waiter in list(self._waiters):
            if self.count(waiter.origin, waiter.oseq) >= waiter.count:
                waiter.done.set()

    def note_partial(self, peer: str, origin: Origin, oseq: int) -> None:
        """``peer`` gets an entry only in part or not at all: it never counts for that one."""
        partial = self._not_in_full.setdefault(peer, {})
        partial[origin, oseq] = None
        if len(partial) >= 2 * PARTIAL_KEPT:
            awaited = {(waiter.origin, waiter.oseq) for waiter in self._waiters}
            old = list(partial)[:-PARTIAL_KEPT]
            for position in old:
                if position not in awaited:
                    del partial[position]

    def forget(self, peer: str) -> None:
        """A removed peer."""
        self._confirmed.pop(peer, None)
        self._not_in_full.pop(peer, None)

    def of(self, peer: str) -> Mapping[Origin, int]:
        return self._confirmed.get(peer, {})

    def count(self, origin: Origin, oseq: int) -> int:
        """How many peers have that entry in full."""
        return len(self.peers_with(origin, oseq))

    def peers_with(self, origin: Origin, oseq: int) -> frozenset[str]:
        """The peers that have that entry in full, durably."""
        return frozenset(
            peer
            for peer, known in self._confirmed.items()
            if known.get(origin, 0) >= oseq and (origin, oseq) not in self._not_in_full.get(peer, ())
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
