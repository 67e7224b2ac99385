from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.agreements import FULL, NONE, Databases, Directions, ReplicatedDatabase, Subscription
from replication.membership import Facts, Link, Member, Membership
from replication.routes import Route
from replication.subscription import EVERY_TABLE, TableSelection
from replication.wanted_links import (
    WantedLinks,
    WantedPeer,
    WantedStream,
    known_names,
    may_subscribe,
    revoked_serials,
    wanted_links,
)
from tests.replication.system_database import route

SENDS = Directions(sends=True, receives=False, only_named=True)
RECEIVES = SENDS.reversed()
BOTH_NAMED = Directions(sends=True, receives=True, only_named=True)
UNAUTHORIZED = "Unauthorized database subscription to data"
NOT_PERMITTED = 'Access to database "data" is not permitted'
LINKED = Link()


def member(name: str, **fields: Any) -> Member:
    return Member(**{"name": name, "url": f"wss://{name}:9933", "replicates": FULL, **fields})


def membership(*peers: Member, own: Member | None = None, **fields: Any) -> Membership:
    return Membership(node="a", self_member=own or member("a"), peers={peer.name: peer for peer in peers}, **fields)


def wanted(
    members: Membership,
    *routes: Route,
    databases: Databases = None,
    remote: tuple[str, ...] = ("data",),
    local: tuple[str, ...] = ("data",),
) -> WantedLinks:
    return wanted_links(
        members,
        routes,
        own_databases=databases,
        local_names=local,
        remote_databases=dict.fromkeys(members.peers, remote),
    )


def is_dialled(members: Membership, *routes: Route) -> bool:
    return [peer.name for peer in wanted(members, *routes).peers] == ["b"]


def is_taken(members: Membership, *routes: Route, databases: Databases = None) -> bool:
    return bool(wanted(members, *routes, databases=databases).streams)


def refusal(
    members: Membership,
    *routes: Route,
    databases: Databases = None,
    tables: TableSelection = EVERY_TABLE,
    database: str = "data",
) -> str | None:
    return may_subscribe(members, routes, peer="b", database=database, own_databases=databases, tables=tables)


def subscription(table: str, *, subscribe: bool = False, publish: bool = False, database: str = "data") -> Subscription:
    return Subscription(database=database, table=table, subscribe=subscribe, publish=publish)


# -- whom and what ------------------------------------------------------------------------------------------------


def test_every_database_that_a_full_peer_has_is_taken() -> None:
    assert wanted(membership(member("b")), remote=("system", "data"), local=("system",)) == WantedLinks(
        peers=(WantedPeer(name="b", url="wss://b:9933"),),
        streams=(
            WantedStream(peer="b", database="data", is_new=True),
            WantedStream(peer="b", database="system"),
        ),
    )


def test_of_a_peer_that_was_not_heard_yet_nothing_is_taken() -> None:
    links = wanted_links(membership(member("b")), (), own_databases=None, local_names=("data",), remote_databases={})
    assert ([peer.name for peer in links.peers], links.streams) == (["b"], ())


def test_a_node_that_takes_no_part_wants_and_gives_nothing() -> None:
    alone = Membership(node="a", peers={"b": member("b", link=LINKED)})
    assert wanted(alone, route("b")) == WantedLinks()
    assert refusal(alone, route("b")) == UNAUTHORIZED


def test_a_route_to_a_node_that_is_no_member_is_no_link() -> None:
    assert wanted(membership(), route("b")) == WantedLinks()
    assert refusal(membership(), route("b")) == UNAUTHORIZED


def test_a_peer_at_our_own_address_is_ourselves() -> None:
    assert wanted(membership(member("alias", url="wss://A:9933", link=LINKED))) == WantedLinks()


def test_a_peer_without_an_address_is_not_dialled() -> None:
    assert wanted(membership(member("b", url=None, link=LINKED))) == WantedLinks()
    assert refusal(membership(member("b", url=None, link=LINKED))) is None


def test_an_address_that_the_configuration_gives_goes_before_what_the_peer_says() -> None:
    peers = membership(member("b", url="wss://b:7"))
    assert wanted(peers, route("b")).peers[0].url == "wss://b:7"
    assert wanted(peers, route("b:8")).peers[0].url == "wss://b:8"
    assert wanted(peers, route({"hostname": "b", "url": "wss://proxy:8"})).peers[0].url == "wss://proxy:8"
    assert wanted(membership(member("b", url=None)), route("b")).peers[0].url == "wss://b:9933"


def test_retained_credentials_go_with_the_peer_and_are_not_shown() -> None:
    links = wanted(membership(member("b", link=Link(authorization="Basic xyz"))))
    assert links.peers[0].authorization == "Basic xyz"
    assert "xyz" not in repr(links)


# -- gossip -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [FULL, SENDS, RECEIVES, BOTH_NAMED, NONE], ids=str)
@pytest.mark.parametrize("peer", [FULL, SENDS, RECEIVES, BOTH_NAMED, NONE], ids=str)
def test_gossip_links_nodes_that_replicate_with_everybody_and_no_others(own: Directions, peer: Directions) -> None:
    members = membership(member("b", replicates=peer), own=member("a", replicates=own))
    is_full = own == peer == FULL
    assert is_dialled(members) is is_full
    assert is_taken(members) is is_full
    assert (refusal(members) is None) is is_full


def test_a_named_peer_has_a_control_connection_even_where_nothing_flows() -> None:
    members = membership(member("b", replicates=NONE, link=LINKED))
    assert is_dialled(members)
    assert not is_taken(members)


# -- directions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replicates", "is_taken_here", "is_given"),
    [(True, True, True), ({"sends": True}, False, True), ({"receives": True}, True, False), (False, False, False)],
    ids=str,
)
def test_a_route_limits_what_flows_whatever_the_rows_say(replicates: Any, is_taken_here: bool, is_given: bool) -> None:
    limit = route({"hostname": "b", "replicates": replicates})
    members = membership(member("b"))
    assert is_taken(members, limit) is is_taken_here
    assert refusal(members, limit) == (None if is_given else UNAUTHORIZED)


def test_the_narrower_of_link_and_route_counts() -> None:
    members = membership(member("b", link=Link(allows=SENDS)))
    receiving = route({"hostname": "b", "replicates": {"receives": True}})
    assert not is_taken(members, receiving)
    assert refusal(members, receiving) == UNAUTHORIZED
    assert refusal(members, route("b")) is None


directions = st.builds(Directions, sends=st.booleans(), receives=st.booleans(), only_named=st.booleans())


@given(own=directions, peer=directions, here=directions, there=directions)
def test_what_one_side_takes_only_flows_if_both_sides_allow_that_way(
    own: Directions, peer: Directions, here: Directions, there: Directions
) -> None:
    seen_here = membership(member("b", replicates=peer, link=Link(allows=here)), own=member("a", replicates=own))
    seen_there = Membership(
        node="b",
        self_member=member("b", replicates=peer),
        peers={"a": member("a", replicates=own, link=Link(allows=there))},
    )
    reason = may_subscribe(seen_there, (), peer="a", database="data", own_databases=None)
    flows = is_taken(seen_here) and reason is None
    assert flows == (own.receives and peer.sends and here.receives and there.sends)


def test_data_of_a_node_that_may_not_send_here_is_not_taken_from_others_either() -> None:
    members = membership(member("b", link=Link(allows=SENDS)), member("c"))
    (stream,) = wanted(members).streams
    assert (stream.peer, stream.except_nodes) == ("c", frozenset(("b",)))


# -- databases and shards -----------------------------------------------------------------------------------------


def test_a_database_outside_either_list_is_neither_taken_nor_given() -> None:
    other = (ReplicatedDatabase(name="other"),)
    assert not is_taken(membership(member("b")), databases=other)
    assert refusal(membership(member("b")), databases=other) == NOT_PERMITTED
    assert not is_taken(membership(member("b", databases=other)))
    assert refusal(membership(member("b", databases=other))) == NOT_PERMITTED
    assert is_taken(membership(member("b", databases=(ReplicatedDatabase(name="data"),))))


@pytest.mark.parametrize(("shard", "is_same"), [(1, True), (2, False), (None, False)])
def test_a_sharded_database_is_exchanged_within_the_shard(shard: int | None, is_same: bool) -> None:
    members = membership(member("b", shard=shard), own=member("a", shard=1))
    sharded = (ReplicatedDatabase(name="data", sharded=True),)
    assert is_taken(members, databases=sharded) is is_same
    assert refusal(members, databases=sharded) == (None if is_same else NOT_PERMITTED)
    assert is_taken(members, databases=(ReplicatedDatabase(name="data"),))


# -- explicit subscriptions ---------------------------------------------------------------------------------------


def subscribed(*subscriptions: Subscription) -> Membership:
    return membership(
        member("b", replicates=NONE, link=Link(subscriptions=subscriptions)), own=member("a", replicates=NONE)
    )


def test_explicit_subscriptions_take_the_tables_that_they_name() -> None:
    members = subscribed(
        subscription("dog", subscribe=True),
        subscription("cat", subscribe=True, publish=True),
        subscription("owl", publish=True),
        subscription("elm", subscribe=True, database="trees"),
    )
    streams = wanted(members, remote=("data", "trees", "more")).streams
    assert [(stream.database, stream.tables) for stream in streams] == [
        ("data", TableSelection("only", frozenset(("dog", "cat")))),
        ("trees", TableSelection("only", frozenset(("elm",)))),
    ]


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (TableSelection("only", frozenset(("owl",))), None),
        (TableSelection("only", frozenset(("owl", "cat"))), None),
        (TableSelection("only", frozenset(("owl", "dog"))), UNAUTHORIZED),
        (TableSelection("except", frozenset(("dog",))), UNAUTHORIZED),
        (EVERY_TABLE, UNAUTHORIZED),
    ],
    ids=str,
)
def test_explicit_subscriptions_give_the_tables_that_they_publish(tables: TableSelection, reason: str | None) -> None:
    members = subscribed(
        subscription("owl", publish=True),
        subscription("cat", publish=True, subscribe=True),
        subscription("dog", subscribe=True),
    )
    assert refusal(members, tables=tables) == reason


def test_nothing_is_given_of_a_database_that_is_not_published() -> None:
    none = TableSelection("only", frozenset())
    members = subscribed(subscription("dog", subscribe=True))
    assert refusal(members, tables=none) == UNAUTHORIZED
    assert refusal(subscribed(), tables=none) == UNAUTHORIZED


def test_explicit_subscriptions_stay_within_the_replicated_databases() -> None:
    members = subscribed(subscription("dog", subscribe=True, publish=True))
    other = (ReplicatedDatabase(name="other"),)
    assert not is_taken(members, databases=other)
    assert refusal(members, databases=other, tables=TableSelection("only", frozenset(("dog",)))) == NOT_PERMITTED


def test_subscriptions_of_a_route_replace_full_replication() -> None:
    limit = route({"hostname": "b", "subscriptions": [{"database": "data", "table": "dog", "publish": True}]})
    members = membership(member("b", link=LINKED))
    assert not is_taken(members, limit)
    assert refusal(members, limit) == UNAUTHORIZED
    assert refusal(members, limit, tables=TableSelection("only", frozenset(("dog",)))) is None


# -- names and serial numbers -------------------------------------------------------------------------------------


def test_members_and_routes_are_known_names_but_not_this_node_or_a_removed_one() -> None:
    members = membership(member("b"), member("d", epoch=2), facts=Facts(removed={"c": 1, "d": 1}))
    assert known_names(members, [route("a"), route("c"), route("d"), route("e")]) == frozenset(("b", "d", "e"))


def test_a_serial_number_is_revoked_by_the_row_the_facts_or_the_route() -> None:
    members = membership(
        member("b", revoked=frozenset((1, 2))), facts=Facts(revoked={"b": frozenset((2,)), "c": frozenset((4,))})
    )
    routes = [route({"hostname": name, "revokedCertificates": ["3"]}) for name in ("b", "c")]
    assert revoked_serials(members, routes, "b") == frozenset((1, 2, 3))
    assert revoked_serials(members, routes, "c") == frozenset((3, 4))
    assert revoked_serials(members, (), "d") == frozenset()
