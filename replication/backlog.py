"""What a peer has not confirmed yet, of what it takes from this node.

That is our own entries, and those of others that it has us send on. The rest it gets elsewhere and tells us nothing
of, so it is no backlog of ours. What is confirmed we have from the peer's hellos and acknowledgements, and from the
last mark of it that we applied: so something is known of a peer that has not been heard since this node started.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from storage.entry import Origin
from storage.marks import mark_of
from storage.transaction import ReadTransaction

LOOKED_AT_MAX: Final = 20_000
"""Entries read to find the oldest one; where that is not enough its age is not told."""


class Lack(NamedTuple):
    """Positions of an origin: what the peer has, and what is here."""

    confirmed: int
    here: int


class Unconfirmed(NamedTuple):
    """An entry that the peer has not confirmed."""

    origin: Origin
    oseq: int
    ts: int


def confirmed_by(tx: ReadTransaction, peer: str, told: Mapping[Origin, int]) -> dict[Origin, int]:
    """What is durable at ``peer``, given what it has ``told`` since this node started."""
    mark = mark_of(tx, peer)
    confirmed = {} if mark is None else dict(mark.vector)
    for origin, oseq in told.items():
        confirmed[origin] = max(oseq, confirmed.get(origin, 0))
    return confirmed


def lacking(
    positions: Mapping[Origin, int],
    confirmed: Mapping[Origin, int],
    *,
    node: str,
    peer: str,
    left_out: frozenset[Origin] | None,
) -> dict[Origin, Lack]:
    """Origins of which ``peer`` lacks entries that ``node`` is to send. ``left_out`` is what its last subscription left
    out, None where there was none yet.
    """
    return {
        origin: Lack(confirmed.get(origin, 0), oseq)
        for origin, oseq in positions.items()
        if oseq > confirmed.get(origin, 0)
        and (origin.node == node or (left_out is not None and origin not in left_out and origin.node != peer))
    }


def count(lacks: Mapping[Origin, Lack]) -> int:
    return sum(lack.here - lack.confirmed for lack in lacks.values())


def is_still_oldest(found: Unconfirmed | None, lacks: Mapping[Origin, Lack]) -> bool:
    """Whether what was the oldest at an earlier look still is: positions only grow."""
    return found is not None and found.origin in lacks and lacks[found.origin].confirmed < found.oseq


def oldest(tx: ReadTransaction, lacks: Mapping[Origin, Lack]) -> Unconfirmed | None:
    """The first entry of the log that the peer lacks; None where it is no longer here, or too far to look for."""
    confirmed = {origin: lack.confirmed for origin, lack in lacks.items()}
    others = {position.origin for position in tx.log.positions().values()} - lacks.keys()
    place = tx.log.place_behind(confirmed, ignored=others)
    for looked_at, entry in enumerate(tx.log.read_from(place + 1)):
        header = entry.header
        if looked_at >= LOOKED_AT_MAX:
            return None
        if header.kind != "skip" and header.origin in lacks and header.oseq > confirmed[header.origin]:
            return Unconfirmed(header.origin, header.oseq, header.ts)
    return None
