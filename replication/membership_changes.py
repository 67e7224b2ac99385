"""Changes of the membership, each staged in one transaction of database ``system``.

An explicit add raises the node's epoch above everything that is known of it; a removal covers the epoch it saw. So a
row that somebody writes later without having heard of the removal counts for nothing, and a node that was added again
stays even if its row is overwritten by an older one of its own.

Nothing is written that stands there already: a start or a repeated request that finds nothing new leaves no entry in
the log. The owner of a row repairs it: ``put_self`` whenever ``hdb_nodes`` has changed brings back what a peer that knew
less has overwritten.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

from replication.agreements import (
    FULL,
    NONE,
    Databases,
    Directions,
    Subscriptions,
    Unfit,
    combined,
    encoded_databases,
    read_directions,
    read_serial,
    read_stored_directions,
    serial_text,
)
from replication.membership import ADDED, EPOCH_MAX, NODE_FACTS, NODE_LINKS, NODES, REMOVED, REVOKED, Facts, read_facts
from replication.routes import Route
from storage.schema import CREATED_TIME, UPDATED_TIME
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction

_ROW_FIELDS: Final = ("url", "shard", "ca", "ca_info")
_LINK_FIELDS: Final = {
    "authorization": "authorization",
    "verify_tls": "verify_tls",
    "start_time_ms": "start_time",
    "is_leader": "isLeader",
}
"""Fields of an agreement that stand in its row as they are, and their names there."""
_TIMES: Final = frozenset((CREATED_TIME, UPDATED_TIME))


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnNode:
    """What this node says of itself in its own row, from its configuration and its certificates."""

    name: str
    url: str | None
    shard: int | None = None
    databases: Databases = None
    ca: str | None = None
    ca_info: Mapping[str, Any] | None = None


class MemberFields(TypedDict, total=False):
    """What is known or agreed of a peer; what is left out stays as it is stored, None takes it away.

    ``replicates`` and ``subscriptions`` are this node's point of view. ``revoked`` are added to those stored.
    """

    url: str | None
    shard: int | None
    ca: str | None
    ca_info: Mapping[str, Any] | None
    databases: Databases
    revoked: Iterable[int]
    replicates: Directions
    subscriptions: Subscriptions
    authorization: str | None
    verify_tls: bool
    start_time_ms: int | None
    is_leader: bool


def add_member(tx: WriteTransaction, name: str, *, epoch_at_least: int = 0, **fields: Unpack[MemberFields]) -> int:
    """Add a peer, or refresh it; the epoch that it has now, which its own row has to have at least."""
    facts = stored_facts(tx)
    row = _live_row(tx, name, facts)
    link = {} if row is None else _stored(tx, NODE_LINKS, name) or {}
    epoch = _raised(tx, facts, name, max(_epoch_of(facts, name, row) + 1, epoch_at_least))
    _put_peer(tx, name, {**(row or {}), "epoch": epoch}, link, fields)
    return epoch


def update_member(tx: WriteTransaction, name: str, **fields: Unpack[MemberFields]) -> bool:
    """Change what is stored of a member; False where it is none, so that it has to be added."""
    row = _live_row(tx, name, stored_facts(tx))
    if row is None:
        return False
    _put_peer(tx, name, row, _stored(tx, NODE_LINKS, name) or {}, fields)
    return True


def remove_member(tx: WriteTransaction, name: str) -> bool:
    """Remove a peer, or this node itself, for good; False where there is no such member."""
    facts = stored_facts(tx)
    row = _live_row(tx, name, facts)
    if row is None:
        return False
    _put(tx, NODE_FACTS, {"id": [name, REMOVED, _epoch_of(facts, name, row)]})
    for table in (NODES, NODE_LINKS):
        if _stored(tx, table, name) is not None:
            tx.delete(tx.table(table), name, stored_key_of(name))
    return True


def revoke(tx: WriteTransaction, name: str, serials: Iterable[int]) -> None:
    """Serial numbers that no certificate of this node may have, for ever."""
    for serial in serials:
        _put(tx, NODE_FACTS, {"id": [name, REVOKED, serial_text(serial)]})


def put_self(
    tx: WriteTransaction,
    own: OwnNode,
    routes: Iterable[Route] = (),
    *,
    is_added: bool = False,
    epoch_at_least: int = 0,
) -> bool:
    """Bring this node's own row in line with what it is; whether it is a member then.

    A node becomes one by an explicit add (``is_added``, of it or by it) or by its first agreement with a peer, and one
    that was removed by an explicit add alone. What it replicates follows from its agreements: the links and ``routes``.
    """
    facts = stored_facts(tx)
    row = _live_row(tx, own.name, facts)
    directions = combined(_agreements(tx, own.name, routes, facts).values())
    if row is None and not is_added and (directions is None or own.name in facts.removed):
        return False
    epoch = max(_epoch_of(facts, own.name, row), 1)
    if is_added:
        epoch = _raised(tx, facts, own.name, max(epoch, epoch_at_least))
    said = {
        "shard": own.shard,
        "ca": own.ca,
        "ca_info": None if own.ca_info is None else dict(own.ca_info),
        "replicates": None if directions is None else directions.encoded(),
    }
    changed: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    changed |= {"name": own.name, "url": own.url, "epoch": epoch, "databases": encoded_databases(own.databases)}
    _put(tx, NODES, {**(row or {}), **changed})
    return True


def authorise_routes(tx: WriteTransaction, own: OwnNode, routes: Iterable[Route]) -> tuple[str, ...]:
    """Make the peers of ``routes`` members as far as they are not, then this node; for each start.

    Peers that were removed, which no route brings back, are returned.
    """
    routes = tuple(routes)
    facts = stored_facts(tx)
    removed = []
    for route in routes:
        if route.name == own.name:
            continue
        row = _live_row(tx, route.name, facts)
        if row is None and route.name in facts.removed:
            removed.append(route.name)
            continue
        changes = dict(row or {"name": route.name, "url": route.url, "epoch": 1})
        if route.subscriptions is None and not _replicates(changes).is_any:
            changes["replicates"] = route.replicates.reversed().encoded()
        if route.shard is not None:
            changes.setdefault("shard", route.shard)
        _put(tx, NODES, changes)
    put_self(tx, own, routes)
    return tuple(removed)


def stored_facts(tx: WriteTransaction) -> Facts:
    return read_facts(tx.records(tx.table(NODE_FACTS)))


def _put_peer(
    tx: WriteTransaction, name: str, row: Mapping[str, Any], link: Mapping[str, Any], fields: MemberFields
) -> None:
    given: Mapping[str, object] = fields
    changed = {**row, "name": name, **{field: given[field] for field in _ROW_FIELDS if field in given}}
    if "databases" in fields:
        changed["databases"] = encoded_databases(fields["databases"])
    revoked = frozenset(fields.get("revoked", ()))
    if revoked:
        revoke(tx, name, revoked)
        changed["revoked_certificates"] = _serial_texts(revoked, changed.get("revoked_certificates"))
    agreed = _link(name, link, fields)
    if agreed.get("subscriptions") is None and not _replicates(changed).is_any:
        changed["replicates"] = _allowed(agreed).reversed().encoded()
    _put(tx, NODES, changed)
    _put(tx, NODE_LINKS, agreed)


def _link(name: str, old: Mapping[str, Any], fields: MemberFields) -> dict[str, Any]:
    given: Mapping[str, object] = fields
    link = {**old, "name": name, **{stored: given[field] for field, stored in _LINK_FIELDS.items() if field in given}}
    if "replicates" in fields:
        link["replicates"] = fields["replicates"].encoded()
    if "subscriptions" in fields:
        subscriptions = fields["subscriptions"]
        link["subscriptions"] = None if subscriptions is None else [one.encoded() for one in subscriptions]
    return link


def _agreements(tx: WriteTransaction, own_name: str, routes: Iterable[Route], facts: Facts) -> dict[str, Directions]:
    """What this node does with each member that was named to it; one with explicit subscriptions counts for nothing."""
    found = {
        link["name"]: _allowed(link) for link in tx.records(tx.table(NODE_LINKS)) if link.get("subscriptions") is None
    }
    for route in routes:
        if route.subscriptions is None:
            found[route.name] = route.replicates.within(found.get(route.name, FULL))
        else:
            found.pop(route.name, None)
    return {
        name: directions
        for name, directions in found.items()
        if name != own_name and _live_row(tx, name, facts) is not None
    }


def _allowed(link: Mapping[str, Any]) -> Directions:
    value = link.get("replicates")
    try:
        return FULL if value is None else read_directions("replicates", value)
    except Unfit:
        return NONE


def _replicates(row: Mapping[str, Any]) -> Directions:
    try:
        return read_stored_directions(row.get("replicates"))
    except Unfit:
        return NONE


def _live_row(tx: WriteTransaction, name: str, facts: Facts) -> dict[str, Any] | None:
    """The row of a member; None also for one that a removal covers."""
    row = _stored(tx, NODES, name)
    return None if row is None or facts.covers(name, _epoch_of(facts, name, row)) else row


def _epoch_of(facts: Facts, name: str, row: Mapping[str, Any] | None) -> int:
    stored = row.get("epoch") if row else None
    return facts.epoch_of(name, stored if type(stored) is int and 0 <= stored <= EPOCH_MAX else 0)


def _raised(tx: WriteTransaction, facts: Facts, name: str, epoch: int) -> int:
    """``epoch``, or one that no removal covers. For a node that was removed it becomes a fact: an older row of its own
    may yet replace the one that is written now.
    """
    epoch = max(epoch, facts.removed.get(name, -1) + 1)
    if facts.is_removed(name):
        _put(tx, NODE_FACTS, {"id": [name, ADDED, epoch]})
    return epoch


def _serial_texts(serials: Iterable[int], stored: Any) -> list[str]:
    """The list of a row: these and what stands there, without what is no serial number."""
    found = set(serials)
    for element in stored if isinstance(stored, list) else ():
        try:
            found.add(read_serial("revoked_certificates", element))
        except Unfit:
            continue
    return [serial_text(serial) for serial in sorted(found)]


def _stored(tx: WriteTransaction, table: str, name: str) -> dict[str, Any] | None:
    return tx.record(tx.table(table), stored_key_of(name))


def _put(tx: WriteTransaction, table_name: str, record: Mapping[str, Any]) -> None:
    """Stage a record, without fields that are None, unless it stands there like that."""
    table = tx.table(table_name)
    key = record[table.primary_key]
    wanted = {name: value for name, value in record.items() if value is not None}
    stored = tx.record(table, stored_key_of(key))
    if stored is None or _without_times(stored) != _without_times(wanted):
        tx.put(table, key, stored_key_of(key), wanted)


def _without_times(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _TIMES}
