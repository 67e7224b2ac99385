"""Conflict resolution, pure: a record's state is the fold of its writes in stamp order, whatever order they come in.

A put or delete with a greater stamp than the winning one replaces it, any other changes nothing here (it still goes to
the log, so that audit and relays are complete). That makes the fold commutative, associative and idempotent. Equal
values do not make writes equal: there is no "nothing changed" shortcut. A *restatement* brings a write that is known
elsewhere under a newer entry; it never changes a value that has its stamp and only records who brought it.

Local writes pass through the same rule: their stamp is made greater than everything they touch, so they always win.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from storage.entry import Stamp

Outcome: TypeAlias = Literal["applied", "restated", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordState:
    """What a replica knows of one record. ``value`` is None for a tombstone."""

    stamp: Stamp
    value: bytes | None
    expires_at_ms: int | None = None
    by: tuple[str, str, int] | None = None


def judge(current: Stamp | None, incoming: Stamp, *, is_restatement: bool = False) -> Outcome:
    """What an incoming write of a record does to the state whose winning stamp is ``current`` (None: never seen)."""
    if current is None or incoming > current:
        return "applied"
    return "restated" if is_restatement and incoming == current else "lost"


def merge(current: RecordState | None, incoming: RecordState) -> RecordState:
    """The state after both; ``incoming.by`` marks a restatement."""
    outcome = judge(current.stamp if current else None, incoming.stamp, is_restatement=incoming.by is not None)
    if current is None or outcome == "applied":
        return incoming
    if outcome == "restated" and incoming.by and (current.by is None or incoming.by > current.by):
        return replace(current, by=incoming.by)
    return current
