"""What retention may take away on a node that has peers, for ``storage/retention.py``.

*Entries* are kept until another member has them: an acknowledged write must not hang on one disk. An entry of another
member is no longer ours alone to keep.

*Tombstones* are kept until they are stable, which is when no older write of their record can arrive any more: from
every node whose entries come here a mark has been applied that is later than the tombstone, covers it, and is covered
by our own vector. A position of each node's own origin would not do: C purges, A has not got the delete yet, C takes a
copy from A. While a copy comes in nothing is purged, as its file may hold what a tombstone keeps out; and a removed
node, which hears of nothing, purges nothing.

The rules are called on the commit thread for every entry and tombstone that could go. What they need is read once per
round; all of it only grows, so what is out of date only keeps something for longer.
"""

import logging
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from replication.backlog import confirmed_by
from replication.replica import Replica
from replication.residency import may_leave_log
from replication.supervisor import Supervisor
from replication.wanted_links import Sharing, SharingOf
from storage.commit_log import Position
from storage.entry import Entry, Origin
from storage.marks import Mark, marks_of
from storage.record import Row
from storage.retention import RetentionRules

log = logging.getLogger("replication")

REPORT_EVERY_US: Final = 3_600_000_000
"""How often it is said that entries are kept for want of a confirmation."""


class Held(NamedTuple):
    """The oldest entry that retention would have taken, but for its having been confirmed by nobody."""

    origin: Origin
    oseq: int


class ReplicatedRetention:
    """The rules for all databases of a node: give ``rules`` to ``run_retention``."""

    def __init__(self, supervisor: Supervisor, sharing: SharingOf) -> None:
        self._supervisor = supervisor
        self._sharing = sharing
        self._rounds: dict[str, _Round] = {}
        self._reported_us: dict[str, int] = {}

    def rules(self, database: str) -> RetentionRules:
        """The rules for the round that begins now. Raises ``DatabaseNotFound``."""
        self._report(database)
        this_round = self._rounds[database] = _Round(self._supervisor.replica(database), self._sharing(database))
        return RetentionRules(
            may_trim=this_round.may_trim, may_drop=this_round.may_drop, is_stable=this_round.is_stable
        )

    def held(self, database: str) -> Held | None:
        """What the last round found that is kept past its time, as no other member has it."""
        last = self._rounds.get(database)
        return None if last is None else last.held

    def _report(self, database: str) -> None:
        held = self.held(database)
        now_us = self._supervisor.replica(database).catalog.clock()
        if held is None:
            self._reported_us.pop(database, None)
        elif now_us - self._reported_us.get(database, 0) >= REPORT_EVERY_US:
            self._reported_us[database] = now_us
            log.warning(
                "database '%s': entry %d of '%s' and later ones are kept beyond retention, as no other member has "
                "confirmed them",
                database,
                held.oseq,
                held.origin.node,
            )


@dataclass(frozen=True, slots=True)
class _Taker:
    """What a member that takes entries from here has of them."""

    confirmed: Mapping[Origin, int]
    in_part: Container[tuple[Origin, int]]

    def has(self, origin: Origin, oseq: int) -> bool:
        return oseq <= self.confirmed.get(origin, 0) and (origin, oseq) not in self.in_part


class _Round:
    """What one round knows of one database."""

    def __init__(self, replica: Replica, sharing: Sharing) -> None:
        self.held: Held | None = None
        self._copying = replica.copying
        self._sharing = sharing
        self._node = replica.origin.node
        with replica.read() as tx:
            positions = tx.log.positions()
            marks = marks_of(tx)
            self._last_ts = tx.head().last_ts
            self._takers = {
                taker: _Taker(
                    confirmed_by(tx, taker, replica.confirmations.of(taker)), replica.confirmations.in_part(taker)
                )
                for taker in sharing.takers
            }
        self._origins = {origin_id: position.origin for origin_id, position in positions.items()}
        is_copying = replica.is_merging or replica.incoming_copy.unfinished() is not None
        may_purge = not (is_copying or sharing.is_removed)
        self._marks = heard_marks(positions.values(), marks, sharing, node=self._node) if may_purge else None

    def may_trim(self, origin: Origin, oseq: int) -> bool:
        if not self._takers or (origin.node != self._node and origin.node in self._sharing.writers):
            return True
        if any(taker.has(origin, oseq) for taker in self._takers.values()):
            return True
        self.held = self.held or Held(origin, oseq)
        return False

    def may_drop(self, entry: Entry) -> bool:
        """A record that lives elsewhere is here in full in the log alone, until one of its nodes has it."""
        origin, oseq = entry.header.origin, entry.header.oseq
        if origin.node != self._node:
            return True
        having = {name for name, taker in self._takers.items() if taker.has(origin, oseq)}
        return may_leave_log(entry, self._node, having)

    def is_stable(self, origin: Origin, row: Row) -> bool:
        """``copying`` is asked each time, as a copy may be asked for in the middle of a round."""
        if self._marks is None or self._copying.locked() or row.ts > self._last_ts:
            return False
        oseq = row.oseq
        if row.by is not None:
            known = self._origins.get(row.by[0])
            if known is None:
                return False
            origin, oseq = known, row.by[1]
        return all(mark.ts > row.ts and mark.vector.get(origin, 0) >= oseq for mark in self._marks)


def heard_marks(
    positions: Collection[Position], marks: Mapping[str, Mark], sharing: Sharing, *, node: str
) -> list[Mark] | None:
    """The marks that have to cover a tombstone, one of each node whose entries come here; None where one is missing, or
    tells of more than has arrived here.
    """
    own = {position.origin: position.oseq for position in positions}
    known = {origin.node for origin, oseq in own.items() if oseq}
    heard: list[Mark] = []
    for name in (known | sharing.writers) - sharing.removed - sharing.barred - {node}:
        mark = marks.get(name)
        if mark is None or not _is_covered(mark, own, sharing.barred):
            return None
        heard.append(mark)
    return heard


def _is_covered(mark: Mark, own: Mapping[Origin, int], barred: frozenset[str]) -> bool:
    vouched = {**mark.vector, mark.origin: mark.oseq}
    return all(own.get(origin, 0) >= oseq for origin, oseq in vouched.items() if origin.node not in barred)
