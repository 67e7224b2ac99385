"""Which links this node wants, and what it lets a peer take: pure, from the membership and the configured routes.

Data flows from one node to another where all of these agree, and each side checks them for itself:

- both rows: the one *sends*, the other *receives*; with explicit subscriptions the tables named there instead;
- this node's agreement with the peer: the link row and the route, of which the narrower counts;
- both ``replication.databases``; a sharded database stays among nodes of one shard.

A peer that was never named here is known by gossip. Gossip links nodes that replicate with everybody, and no others:
that a directed node exists is no reason to deal with it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from replication.agreements import FULL, Databases, Directions, Subscriptions, is_replicated
from replication.membership import Member, Membership
from replication.routes import Route, is_same_place
from replication.subscription import EVERY_TABLE, TableSelection

NOT_PERMITTED: Final = 'Access to database "{database}" is not permitted'
UNAUTHORIZED: Final = "Unauthorized database subscription to {database}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPeer:
    """A peer to keep a control connection to."""

    name: str
    url: str
    authorization: str | None = field(default=None, repr=False)
    """Retained credentials, for a peer that takes no certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedStream:
    """A database to take from a peer."""

    peer: str
    database: str
    tables: TableSelection = EVERY_TABLE
    """Some only with explicit subscriptions; then the peer's own entries are taken and no others'."""
    except_nodes: frozenset[str] = frozenset()
    """Members from which nothing may come here, not through this peer either."""
    is_new: bool = False
    """Whether the database does not exist here yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedLinks:
    """Both in the order of names."""

    peers: tuple[WantedPeer, ...] = ()
    streams: tuple[WantedStream, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Which ways the data of a database goes between this node and a peer."""

    takes: bool
    gives: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """With whom this node shares a database: whom it has to think of before something of it goes."""

    writers: frozenset[str] = frozenset()
    """Members whose entries come here, straight or relayed."""
    takers: frozenset[str] = frozenset()
    """Members that take entries from this node."""
    removed: frozenset[str] = frozenset()
    """Nodes that were members: nobody waits for them."""
    barred: frozenset[str] = frozenset()
    """Members from which nothing may come here, not relayed either."""
    is_removed: bool = False
    """Whether this node itself is one that was removed."""


SharingOf: TypeAlias = Callable[[str], Sharing]
"""Database name -> with whom it is shared now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dealing:
    """What flows between this node and a peer, from this node's point of view."""

    directions: Directions
    subscriptions: Subscriptions


def wanted_links(
    membership: Membership,
    routes: Iterable[Route],
    *,
    own_databases: Databases,
    local_names: Collection[str],
    remote_databases: Mapping[str, Collection[str]],
) -> WantedLinks:
    """The links to keep up now.

    ``local_names`` are the databases that exist here, ``remote_databases`` those that each peer has announced: no
    stream is wanted of a peer that was not heard yet.
    """
    own = membership.self_member
    if own is None:
        return WantedLinks()
    by_name = {route.name: route for route in routes}
    dealings = {
        peer.name: (peer, dealing)
        for peer in membership.peers.values()
        if (dealing := _dealing(own, peer, by_name.get(peer.name))) is not None
    }
    unwanted = _unwanted({name: dealing for name, (_, dealing) in dealings.items()})
    peers, streams = [], []
    for name, (peer, dealing) in dealings.items():
        url = _address(peer, by_name.get(name))
        if url is None or (own.url is not None and is_same_place(url, own.url)):
            continue
        authorization = None if peer.link is None else peer.link.authorization
        peers.append(WantedPeer(name=name, url=url, authorization=authorization))
        for database in sorted(remote_databases.get(name, ())):
            tables = _taken(dealing, database)
            if tables is not None and _is_exchanged(database, own, peer, own_databases):
                streams.append(
                    WantedStream(
                        peer=name,
                        database=database,
                        tables=tables,
                        except_nodes=unwanted if tables == EVERY_TABLE else frozenset(),
                        is_new=database not in local_names,
                    )
                )
    return WantedLinks(peers=tuple(peers), streams=tuple(streams))


def agreed_flows(
    membership: Membership, routes: Iterable[Route], *, own_databases: Databases, names: Collection[str]
) -> dict[tuple[str, str], Flow]:
    """By peer and database, for the databases of these names: what is to flow, whether or not it can just now."""
    own = membership.self_member
    if own is None:
        return {}
    by_name = {route.name: route for route in routes}
    flows: dict[tuple[str, str], Flow] = {}
    for peer in membership.peers.values():
        dealing = _dealing(own, peer, by_name.get(peer.name))
        if dealing is None:
            continue
        for database in names:
            flow = Flow(takes=_taken(dealing, database) is not None, gives=_is_given(dealing, database))
            if (flow.takes or flow.gives) and _is_exchanged(database, own, peer, own_databases):
                flows[peer.name, database] = flow
    return flows


def sharing_of(membership: Membership, routes: Iterable[Route], *, own_databases: Databases, database: str) -> Sharing:
    """With whom ``database`` is shared, whether or not they are connected."""
    removed = frozenset(name for name in membership.facts.removed if membership.is_removed(name))
    own = membership.self_member
    if own is None:
        return Sharing(removed=removed, is_removed=membership.is_removed(membership.node))
    routes = tuple(routes)
    by_name = {route.name: route for route in routes}
    dealings = {peer.name: _dealing(own, peer, by_name.get(peer.name)) for peer in membership.peers.values()}
    barred = _unwanted({name: dealing for name, dealing in dealings.items() if dealing is not None})
    flows = agreed_flows(membership, routes, own_databases=own_databases, names=(database,))
    takes = {name for (name, _), flow in flows.items() if flow.takes}
    relayed = {
        peer.name
        for peer in membership.peers.values()
        if peer.replicates.sends and _is_exchanged(database, own, peer, own_databases)
    }
    return Sharing(
        writers=frozenset(takes | relayed) - barred,
        takers=frozenset(name for (name, _), flow in flows.items() if flow.gives),
        removed=removed,
        barred=barred,
    )


def may_subscribe(
    membership: Membership,
    routes: Iterable[Route],
    *,
    peer: str,
    database: str,
    own_databases: Databases,
    tables: TableSelection = EVERY_TABLE,
) -> str | None:
    """Why ``peer`` may not take ``tables`` of ``database`` from this node; None where it may."""
    own, member = membership.self_member, membership.peers.get(peer)
    route = {route.name: route for route in routes}.get(peer)
    dealing = None if own is None or member is None else _dealing(own, member, route)
    if own is None or member is None or dealing is None:
        return UNAUTHORIZED.format(database=database)
    if not _is_exchanged(database, own, member, own_databases):
        return NOT_PERMITTED.format(database=database)
    if dealing.subscriptions is None:
        return None if dealing.directions.sends else UNAUTHORIZED.format(database=database)
    published = {one.table for one in dealing.subscriptions if one.publish and one.database == database}
    if published and tables.mode == "only" and tables.names <= published:
        return None
    return UNAUTHORIZED.format(database=database)


def known_names(membership: Membership, routes: Iterable[Route]) -> frozenset[str]:
    """The names that identify a peer: those of members, and of routes to nodes that were not removed."""
    of_routes = (route.name for route in routes if not membership.is_removed(route.name))
    return frozenset((*membership.peers, *of_routes)) - {membership.node}


def revoked_serials(membership: Membership, routes: Iterable[Route], name: str) -> frozenset[int]:
    """Serial numbers that a certificate of ``name`` must not have."""
    member = membership.member(name)
    found = membership.facts.revoked.get(name, frozenset()) if member is None else member.revoked
    return found.union(*(route.revoked for route in routes if route.name == name))


def _dealing(own: Member, peer: Member, route: Route | None) -> _Dealing | None:
    """What flows with this peer at most; None for one that this node does not deal with."""
    is_named = peer.link is not None or route is not None
    allows = (FULL if peer.link is None else peer.link.allows).within(FULL if route is None else route.replicates)
    subscriptions = None if peer.link is None else peer.link.subscriptions
    if route is not None and route.subscriptions is not None:
        subscriptions = route.subscriptions
    directions = own.replicates.within(peer.replicates.reversed()).within(allows)
    if not is_named and (not directions.is_any or directions.only_named):
        return None
    return _Dealing(directions=directions, subscriptions=subscriptions)


def _unwanted(dealings: Mapping[str, _Dealing]) -> frozenset[str]:
    """Peers from which nothing may come here."""
    return frozenset(
        name for name, dealing in dealings.items() if dealing.subscriptions is None and not dealing.directions.receives
    )


def _taken(dealing: _Dealing, database: str) -> TableSelection | None:
    if dealing.subscriptions is None:
        return EVERY_TABLE if dealing.directions.receives else None
    names = frozenset(one.table for one in dealing.subscriptions if one.subscribe and one.database == database)
    return TableSelection("only", names) if names else None


def _is_given(dealing: _Dealing, database: str) -> bool:
    if dealing.subscriptions is None:
        return dealing.directions.sends
    return any(one.publish and one.database == database for one in dealing.subscriptions)


def _is_exchanged(database: str, own: Member, peer: Member, own_databases: Databases) -> bool:
    is_same_shard = own.shard == peer.shard
    return all(is_replicated(database, one, is_same_shard=is_same_shard) for one in (own_databases, peer.databases))


def _address(peer: Member, route: Route | None) -> str | None:
    """Where to dial: what the configuration gives in so many words, else what the peer says of itself."""
    if route is not None and (route.has_own_url or peer.url is None):
        return route.url
    return peer.url
