"""Who the members are: the tables ``hdb_nodes``, ``hdb_node_links`` and ``hdb_node_facts`` as values.

- ``hdb_nodes`` says what a node *is*. It replicates, and that is the gossip. The later of two writes of a row wins whole.
- ``hdb_node_links`` says how *this* node deals with that peer. It never replicates.
- ``hdb_node_facts`` holds what a later row of a node that has not heard of it must not undo. A fact is a row of its own,
  only ever added, and a check uses all there are:

  ============================ ====================================================================================
  primary key                  the fact
  ============================ ====================================================================================
  ``[name, "removed", epoch]`` the node was removed: its rows up to this epoch count as absent, whatever their stamp
  ``[name, "added", epoch]``   it was added again after that: its rows count as of this epoch at least
  ``[name, "revoked", text]``  a serial number, upper-case hexadecimal without leading zeros
  ============================ ====================================================================================

The rule for whoever reads: what is missing, undecodable or strange means "unknown", never "removed". So a reader brings
the membership it knew before, and what cannot be read stays as it was there. ``replication/membership_changes.py``
writes these tables.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from replication.agreements import (
    FULL,
    NONE,
    Databases,
    Directions,
    Subscriptions,
    Unfit,
    read_directions,
    read_serial,
    read_stored_databases,
    read_stored_directions,
    read_subscriptions,
)
from replication.routes import SHARD_MAX, BadRoute, name_of_url
from replication.start_time import read_start_time
from storage.errors import Corrupt, InvalidKey
from storage.transaction import ReadTransaction, stored_key_of

log = logging.getLogger("replication")

NODES: Final = "hdb_nodes"
NODE_LINKS: Final = "hdb_node_links"
NODE_FACTS: Final = "hdb_node_facts"

REMOVED: Final = "removed"
ADDED: Final = "added"
REVOKED: Final = "revoked"
EPOCH_MAX: Final = 1 << 53
"""Whole numbers that every format carries exactly; nobody adds a node so often."""
_PEM_LENGTH_MAX: Final = 1 << 20
_AUTHORIZATION_LENGTH_MAX: Final = 16_384

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts of all nodes, by name: highest epochs, and serial numbers."""

    removed: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)
    revoked: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def epoch_of(self, name: str, row_epoch: int) -> int:
        """The epoch of a row, given what it says itself: one that an older write has overwritten says too little."""
        return max(row_epoch, self.added.get(name, 0))

    def covers(self, name: str, epoch: int) -> bool:
        """Whether a row of this epoch is that of a removed node."""
        return epoch <= self.removed.get(name, -1)

    def is_removed(self, name: str) -> bool:
        """Whether the facts alone make a node a removed one. Its row may have a greater epoch: ``Membership.is_removed``
        tells whether it is gone.
        """
        return name in self.removed and self.covers(name, self.added.get(name, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How this node deals with a peer, from this node's point of view: its row in ``hdb_node_links``."""

    allows: Directions = FULL
    """What it does with the peer under full replication, within what both take part in."""
    subscriptions: Subscriptions = None
    verify_tls: bool = True
    authorization: str | None = field(default=None, repr=False)
    start_time_ms: int | None = None
    is_leader: bool = False


UNKNOWN_LINK: Final = Link(allows=NONE, subscriptions=())
"""Stands in for a row that cannot be read: the peer is one, and nothing flows until more is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node as this node sees it: its row, joined with this node's link row and the facts."""

    name: str
    url: str | None = None
    replicates: Directions = NONE
    """What the node takes part in, from its own point of view."""
    shard: int | None = None
    ca: str | None = field(default=None, repr=False)
    revoked: frozenset[int] = frozenset()
    """Serial numbers of its row and of the facts."""
    epoch: int = 0
    databases: Databases = None
    """Its ``replication.databases``."""
    link: Link | None = None
    """None for a peer that neither was added here nor has added this node: it is known by gossip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """All members at one moment. ``self_member`` is None where this node takes no part, or was removed."""

    node: str
    self_member: Member | None = None
    peers: Mapping[str, Member] = field(default_factory=lambda: MappingProxyType({}))
    """By name, in the order of names."""
    facts: Facts = field(default_factory=Facts)
    troubles: frozenset[str] = frozenset()
    """What could not be read; each is logged when it appears."""

    def member(self, name: str) -> Member | None:
        return self.self_member if name == self.node else self.peers.get(name)

    def is_removed(self, name: str) -> bool:
        """Whether the node was removed, and is no member again."""
        return name in self.facts.removed and self.member(name) is None

    def members(self) -> Collection[Member]:
        own = () if self.self_member is None else (self.self_member,)
        return (*own, *self.peers.values())


def read_membership(tx: ReadTransaction, node: str, previous: Membership | None = None) -> Membership:
    """The membership in this snapshot of database ``system``; ``previous`` stands in for what cannot be read."""
    known = previous or Membership(node=node)
    rows, links, stored_facts = (_Rows.read(tx, name) for name in (NODES, NODE_LINKS, NODE_FACTS))
    troubles = [*rows.troubles, *links.troubles, *stored_facts.troubles]
    facts = _facts_of(stored_facts.records.values(), known.facts, troubles)
    old = {stored_key_of(member.name): member for member in known.members()}
    found: dict[str, Member] = {}
    for key, record in rows.records.items():
        read = _MemberReader(key, record, old.get(key), facts)
        member = read.member(links)
        troubles += read.troubles
        if member is not None and not facts.covers(member.name, member.epoch):
            found[member.name] = member
    for key, member in old.items():
        is_unknown = key in rows.unreadable or not (rows.is_whole or key in rows.records)
        if is_unknown and not facts.covers(member.name, member.epoch):
            found[member.name] = _with_facts(member, facts)
    for trouble in sorted(set(troubles) - known.troubles):
        log.error("%s; what was known before stays in force", trouble)
    return Membership(
        node=node,
        self_member=found.pop(node, None),
        peers=MappingProxyType(dict(sorted(found.items()))),
        facts=facts,
        troubles=frozenset(troubles),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The records of a table by stored key, as far as they can be read."""

    records: Mapping[bytes, Mapping[str, Any]]
    unreadable: frozenset[bytes]
    is_whole: bool
    """False where the walk ended early, so that a missing row need not be absent."""
    troubles: tuple[str, ...]

    @classmethod
    def read(cls, tx: ReadTransaction, name: str) -> "_Rows":
        table = tx.schema().tables.get(name)
        if table is None:
            return cls(records={}, unreadable=frozenset(), is_whole=False, troubles=(f"there is no table {name}",))
        records: dict[bytes, Mapping[str, Any]] = {}
        unreadable: set[bytes] = set()
        troubles: list[str] = []
        is_whole = True
        try:
            for key, row in tx.rows(table):
                try:
                    record = tx.record(table, row)
                except (Corrupt, AttributeError):
                    record = None
                if isinstance(record, dict):
                    records[key] = record
                else:
                    unreadable.add(key)
                    troubles.append(f"a row of {name} cannot be decoded (key {key.hex()})")
        except Corrupt as error:
            is_whole = False
            troubles.append(f"{name} cannot be read to its end: {error}")
        return cls(records=records, unreadable=frozenset(unreadable), is_whole=is_whole, troubles=tuple(troubles))


class _MemberReader:
    """Reads one row. A field that is strange keeps its previous value, or has the safest one."""

    def __init__(self, key: bytes, record: Mapping[str, Any], old: Member | None, facts: Facts) -> None:
        self._key = key
        self._record = record
        self._old = old
        self._facts = facts
        self._label = f"{NODES}: the row of '{record.get('name') or key.hex()}'"
        self.troubles: list[str] = []

    def member(self, links: _Rows) -> Member | None:
        name = self._name()
        if name is None:
            self.troubles.append(f"{self._label} has a name that is not its key")
            return self._old and _with_facts(self._old, self._facts)
        old = self._old or Member(name=name)
        member = Member(
            name=name,
            url=self._field("url", _url, old.url, is_kept=True),
            replicates=self._field("replicates", read_stored_directions, old.replicates),
            shard=self._field("shard", _shard, old.shard, is_kept=True),
            ca=self._field("ca", _pem, old.ca, is_kept=True),
            revoked=old.revoked | self._revoked(),
            epoch=self._field("epoch", _epoch, old.epoch),
            databases=self._field("databases", read_stored_databases, old.databases, is_kept=True),
            link=self._link(name, links),
        )
        return _with_facts(member, self._facts)

    def _name(self) -> str | None:
        """The name, if it is a text and the one under which the row stands."""
        name = self._record.get("name")
        try:
            return name if isinstance(name, str) and name and stored_key_of(name) == self._key else None
        except (InvalidKey, UnicodeEncodeError):
            return None

    def _revoked(self) -> frozenset[int]:
        """All that are serial numbers: one strange element must not let the others back in."""
        found = set()
        value = self._record.get("revoked_certificates")
        for element in value if isinstance(value, list) else ():
            try:
                found.add(read_serial("revoked_certificates", element))
            except Unfit:
                self._note("revoked_certificates")
        return frozenset(found)

    def _link(self, name: str, links: _Rows) -> Link | None:
        record = links.records.get(self._key)
        old = self._old.link if self._old else None
        if record is None:
            return None if links.is_whole and self._key not in links.unreadable else old or UNKNOWN_LINK
        self._record, self._label = record, f"{NODE_LINKS}: the row of '{name}'"
        old = old or UNKNOWN_LINK
        return Link(
            allows=self._field("replicates", _allowed, old.allows),
            subscriptions=self._field("subscriptions", _subscriptions, old.subscriptions),
            verify_tls=self._field("verify_tls", _true_unless_said, old.verify_tls),
            authorization=self._field("authorization", _authorization, old.authorization),
            start_time_ms=self._field("start_time", _start_time, old.start_time_ms),
            is_leader=self._field("isLeader", _false_unless_said, old.is_leader),
        )

    def _field(self, name: str, read: Callable[[Any], T], old: T, *, is_kept: bool = False) -> T:
        """``is_kept``: a row without the field says nothing of it, as one that a third node wrote may."""
        value = self._record.get(name)
        if value is None and is_kept:
            return old
        try:
            return read(value)
        except (Unfit, BadRoute):
            self._note(name)
            return old

    def _note(self, name: str) -> None:
        self.troubles.append(f"{self._label} has an unusable '{name}'")


def read_facts(records: Iterable[Mapping[str, Any]]) -> Facts:
    """The facts in these rows; rows that are no facts are left out."""
    return _facts_of(records, Facts(), [])


def _facts_of(records: Iterable[Mapping[str, Any]], known: Facts, troubles: list[str]) -> Facts:
    """The facts in these rows and the known ones: they are only ever added."""
    epochs = {REMOVED: dict(known.removed), ADDED: dict(known.added)}
    revoked = {name: set(serials) for name, serials in known.revoked.items()}
    for record in records:
        try:
            match record.get("id"):
                case [str(name), ("removed" | "added") as kind, value]:
                    epochs[kind][name] = max(epochs[kind].get(name, 0), _epoch(value))
                case [str(name), "revoked", value]:
                    revoked.setdefault(name, set()).add(read_serial(REVOKED, value))
                case [str(), str(), _]:
                    pass  # a kind that a newer version knows
                case _:
                    raise Unfit
        except Unfit:
            troubles.append(f"{NODE_FACTS}: the row {record.get('id')!r:.200} is no fact")
    return Facts(
        removed=epochs[REMOVED],
        added=epochs[ADDED],
        revoked={name: frozenset(serials) for name, serials in revoked.items()},
    )


def _with_facts(member: Member, facts: Facts) -> Member:
    return replace(
        member,
        epoch=facts.epoch_of(member.name, member.epoch),
        revoked=member.revoked | facts.revoked.get(member.name, frozenset()),
    )


def _epoch(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= EPOCH_MAX:
        raise Unfit("'epoch' must be a whole number")
    return value


def _url(value: Any) -> str | None:
    name_of_url(value)
    return str(value)


def _shard(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SHARD_MAX:
        raise Unfit("'shard' must be a number")
    return value


def _pem(value: Any) -> str | None:
    return _text("ca", value, _PEM_LENGTH_MAX)


def _authorization(value: Any) -> str | None:
    return None if value is None else _text("authorization", value, _AUTHORIZATION_LENGTH_MAX)


def _text(label: str, value: Any, length_max: int) -> str:
    if not isinstance(value, str) or len(value) > length_max:
        raise Unfit(f"'{label}' must be a string")
    return value


def _allowed(value: Any) -> Directions:
    return FULL if value is None else read_directions("replicates", value)


def _subscriptions(value: Any) -> Subscriptions:
    return None if value is None else read_subscriptions("subscriptions", value)


def _start_time(value: Any) -> int | None:
    return None if value is None else read_start_time("start_time", value)


def _true_unless_said(value: Any) -> bool:
    return True if value is None else _flag(value)


def _false_unless_said(value: Any) -> bool:
    return False if value is None else _flag(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit("must be a boolean")
    return value
