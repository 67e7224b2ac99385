"""Were numbers of an incarnation used twice? What two logs' chain digests tell of that. Pure.

Both sides of a stream say in their hello how far they are with each origin, with the chain digest there. Whoever is
further can look up its own digest at the other's number: another one there means another history. It answers with
some of its digests, at doubling distances below, from which the other finds a position up to which both agree.

A third node can only keep off such an origin. The node whose incarnation it is gives way: ``storage/fork.py``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from storage.commit_log import Position
from storage.entry import NO_CHAIN, Origin

DIGESTS_MAX: Final = 64

Digest: TypeAlias = tuple[int, bytes]
"""A position of an origin and its chain digest there."""
ChainAt: TypeAlias = Callable[[Origin, int], bytes | None]
"""Our own digest at a position, None where its entry is not here any more."""
Difference: TypeAlias = Literal["other", "gone"]
"""The peer has another history; or nobody can tell, as our digest at the peer's number is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a peer's digests tell of one origin. ``common``: the highest position at which both have one digest."""

    is_other: bool
    """Whether the two histories differ for certain."""
    is_unknown_above: bool
    """Whether the peer is ahead and nothing proves that its entries follow ours."""
    common: Digest | None


def differences(
    ours: Mapping[Origin, Position], theirs: Mapping[Origin, Digest], chain_at: ChainAt, *, peer: str
) -> dict[Origin, Difference]:
    """Origins in which a peer's hello does not fit what is here. Those in which it is ahead are for it to judge.

    A digest that is gone matters only to the node whose incarnation it is: that one is behind its own entries.
    """
    found: dict[Origin, Difference] = {}
    for origin, (oseq, chain) in theirs.items():
        position = ours.get(origin)
        if position is None or not oseq or oseq > position.oseq:
            continue
        here = position.chain if oseq == position.oseq else chain_at(origin, oseq)
        if here is not None and here != chain:
            found[origin] = "other"
        elif here is None and origin.node == peer:
            found[origin] = "gone"
    return found


def digests_below(position: Position, lower: int, chain_at: ChainAt) -> tuple[Digest, ...]:
    """Our digests of an origin: where we are, at the lower number, and at doubling distances below that."""
    digests = [(position.oseq, position.chain)]
    for oseq in _distances(min(lower, position.oseq)):
        chain = chain_at(position.origin, oseq) if oseq < position.oseq else None
        if chain is not None:
            digests.append((oseq, chain))
        if len(digests) == DIGESTS_MAX:
            break
    return tuple(digests)


def _distances(top: int) -> Iterator[int]:
    yield top
    distance = 1
    while distance < top:
        yield top - distance
        distance *= 2


def judge(position: Position, digests: Sequence[Digest], chain_at: ChainAt) -> Finding:
    """Compare a peer's digests of an origin with what is here."""
    is_other = False
    common: Digest | None = None
    for oseq, chain in digests:
        here = _here(position, oseq, chain_at)
        if here == chain and (common is None or oseq > common[0]):
            common = (oseq, chain)
        is_other = is_other or (here is not None and here != chain)
    is_ahead = max((oseq for oseq, _ in digests), default=0) > position.oseq
    return Finding(
        is_other=is_other,
        is_unknown_above=is_ahead and position.oseq > 0 and (common is None or common[0] < position.oseq),
        common=common,
    )


def base_of(
    position: Position, finding: Finding, digests: Sequence[Digest], chain_at: ChainAt, *, marked: int
) -> Digest:
    """Where the owner of a forked incarnation goes back to: the highest position that both logs share.

    Where no digest tells, up to what the peer's last mark covers (``marked``), as far as its digests do not contradict;
    else to the beginning. The digest there has to be known, as the next entry must follow from it.
    """
    if finding.common is not None:
        return finding.common
    differing = [oseq for oseq, chain in digests if _here(position, oseq, chain_at) not in (None, chain)]
    marked = min([marked, position.oseq, *(oseq - 1 for oseq in differing)])
    here = _here(position, marked, chain_at)
    if marked > 0 and here is not None:
        return marked, here
    return max(((oseq, chain) for oseq, chain in digests if 0 < oseq <= marked), default=(0, NO_CHAIN))


def _here(position: Position, oseq: int, chain_at: ChainAt) -> bytes | None:
    if oseq > position.oseq:
        return None
    return position.chain if oseq == position.oseq else chain_at(position.origin, oseq)
