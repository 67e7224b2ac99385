"""Which nodes hold a record in full. Pure.

The *residency* of a record is a list of node names; none means that every node holds it. It is chosen where a record is
written, from what the request wishes, what the record has and what the configuration says, travels with the write,
and is the same everywhere from then on.
"""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from replication.agreements import Databases, Unfit
from replication.membership import Membership
from replication.routes import SHARD_MAX
from storage import codec
from storage.entry import Entry

BY_DEFAULT: Final = "*"
EVERYWHERE: Final[tuple[str, ...]] = ()
NAMES_MAX: Final = 1024
"""Far more nodes than a cluster has."""

_RESIDENCY_FIELD: Final = codec.encode("r")
"""What a payload without any residency hardly ever holds, so that it need not be decoded."""

Wish: TypeAlias = int | tuple[str, ...] | None
"""What a request says: how many other nodes, or which; None: what is configured."""


def read_replicate_to(value: Any) -> Wish:
    """The ``replicateTo`` of a request. Raises ``Unfit`` with the literal text."""
    if value is None or value == BY_DEFAULT:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, list):
        return residents_of(value, {})
    raise _no_residency(value)


def residents_of(residency: Any, shards: Mapping[int, Sequence[str]]) -> tuple[str, ...]:
    """The nodes that a list of names, or the number of a shard, means. Raises ``Unfit`` with the literal text."""
    if isinstance(residency, int) and not isinstance(residency, bool):
        if not 0 <= residency <= SHARD_MAX:
            raise Unfit(f"Shard id {residency} must be below {SHARD_MAX + 1}")
        if residency not in shards:
            raise Unfit(f"Shard {residency} is not defined")
        return tuple(shards[residency])
    is_names = isinstance(residency, list | tuple) and all(isinstance(name, str) and name for name in residency)
    if not is_names or len(residency) > NAMES_MAX:
        raise _no_residency(residency)
    return tuple(dict.fromkeys(residency))


def shards_of(membership: Membership) -> dict[int, list[str]]:
    """The members of each shard, by name."""
    shards: dict[int, list[str]] = {}
    for member in sorted(membership.members(), key=lambda member: member.name):
        if member.shard is not None:
            shards.setdefault(member.shard, []).append(member.name)
    return shards


def configured_count(database: str, databases: Databases, replicate_to: int | None) -> int | None:
    """How many other nodes hold a record by configuration: what is said of the database, else of all; None: all do."""
    counts = [one.replicate_to for one in databases or () if one.name == database and one.replicate_to is not None]
    return counts[0] if counts else replicate_to


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Chooses the residents of the records of one request; called as a ``storage.elsewhere.ChooseResidents``."""

    node: str
    peers: tuple[str, ...]
    """Whom the database is sent to, in the order of names."""
    wish: Wish = None
    configured: int | None = None
    draw: Callable[[int], int] = random.randrange
    """A number from 0 on, below the given one: where the choice begins, so that records spread over the peers."""

    @property
    def has_effect(self) -> bool:
        """Whether it ever changes who holds a record."""
        return self.wish is not None or self.configured is not None

    def __call__(self, existing: tuple[str, ...] | None) -> tuple[str, ...]:
        """``existing`` are the nodes that hold the record now, None for a new one.

        A list stays as it is unless the request names nodes. What the configuration says is for new records: an update
        must not take away from other nodes what they hold.
        """
        if isinstance(self.wish, tuple):
            return tuple(dict.fromkeys((self.node, *self.wish)))
        if existing or (self.wish is None and existing is not None):
            return existing
        count = self.configured if self.wish is None else self.wish
        return EVERYWHERE if count is None else self._some(count)

    def _some(self, count: int) -> tuple[str, ...]:
        """This node and ``count`` others. Where there are not so many yet, all nodes: some may join later."""
        if count > len(self.peers):
            return EVERYWHERE
        if not count:
            return (self.node,)
        start = self.draw(len(self.peers))
        return (self.node, *(*self.peers[start:], *self.peers[:start])[:count])


def may_leave_log(entry: Entry, node: str, confirmed: Collection[str]) -> bool:
    """Whether the log of ``node`` may drop an entry of its own, given the peers that have confirmed it in full.

    A record whose residents do not include ``node`` is here in full in the log only: one of them has to have it.
    """
    if entry.header.kind != "tx" or _RESIDENCY_FIELD not in entry.payload:
        return True
    residencies = (frozenset(write["r"]) for write in entry.writes() if write.get("r"))
    return all(node in residents or not residents.isdisjoint(confirmed) for residents in residencies)


def _no_residency(value: Any) -> Unfit:
    shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return Unfit(
        f"Shard or residency list {shown:.200} is not a valid type, must be a shard number or residency list of node "
        "hostnames"
    )
