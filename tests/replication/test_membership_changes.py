from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replication.agreements import FULL, NONE, Directions, ReplicatedDatabase, Subscription
from replication.membership import NODE_FACTS, NODE_LINKS, NODES
from replication.membership_changes import (
    add_member,
    authorise_routes,
    put_self,
    remove_member,
    revoke,
    update_member,
)
from storage.write_transaction import WriteTransaction
from tests.replication.system_database import SystemDatabase, route, system_databases

SENDS = Directions(sends=True, receives=False, only_named=True)
RECEIVES = SENDS.reversed()
DOGS = Subscription(database="dev", table="dog", subscribe=True, publish=False)


@pytest.fixture
def a(tmp_path: Path) -> Iterator[SystemDatabase]:
    with system_databases(tmp_path, ("a",)) as databases:
        yield databases["a"]


def add(database: SystemDatabase, name: str, **fields: Any) -> int:
    epoch: int = database.write(lambda tx: add_member(tx, name, **{"url": f"wss://{name}:9933", **fields}))
    return epoch


def update(database: SystemDatabase, name: str, **fields: Any) -> bool:
    return bool(database.write(lambda tx: update_member(tx, name, **fields)))


def remove(database: SystemDatabase, name: str) -> bool:
    return bool(database.write(lambda tx: remove_member(tx, name)))


def refresh(database: SystemDatabase, *routes: Any, **options: Any) -> bool:
    return bool(database.write(lambda tx: put_self(tx, database.own, tuple(map(route, routes)), **options)))


def start(database: SystemDatabase, *routes: Any) -> tuple[str, ...]:
    removed: tuple[str, ...] = database.write(lambda tx: authorise_routes(tx, database.own, tuple(map(route, routes))))
    return removed


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if not name.startswith("__")}


# -- adding and updating ------------------------------------------------------------------------------------------


def test_a_new_peer_replicates_fully_unless_said_otherwise(a: SystemDatabase) -> None:
    add(a, "b", ca="CA of b", shard=2, verify_tls=False)
    assert without_times(a.row("b")) == {
        "name": "b",
        "url": "wss://b:9933",
        "replicates": True,
        "epoch": 1,
        "ca": "CA of b",
        "shard": 2,
    }
    assert [without_times(link) for link in a.rows(NODE_LINKS)] == [{"name": "b", "verify_tls": False}]


def test_adding_again_refreshes_the_record_and_keeps_what_was_not_given(a: SystemDatabase) -> None:
    add(a, "b", ca="CA of b", authorization="Basic xyz")
    assert add(a, "b", url="wss://b:1") == 2
    member = a.membership().peers["b"]
    assert (member.url, member.ca, member.epoch) == ("wss://b:1", "CA of b", 2)
    assert member.link is not None and member.link.authorization == "Basic xyz"


def test_a_field_given_as_none_is_taken_away(a: SystemDatabase) -> None:
    add(a, "b", authorization="Basic xyz", subscriptions=(DOGS,))
    update(a, "b", authorization=None, subscriptions=None)
    link = a.membership().peers["b"].link
    assert link is not None
    assert (link.authorization, link.subscriptions) == (None, None)


def test_an_update_that_changes_nothing_leaves_no_entry_in_the_log(a: SystemDatabase) -> None:
    fields = {"subscriptions": (DOGS,), "revoked": (1, 2), "databases": (ReplicatedDatabase(name="data"),)}
    add(a, "b", **fields)
    before = a.last_lseq()
    assert update(a, "b", **fields)
    assert a.last_lseq() == before


def test_an_update_of_an_unknown_node_changes_nothing(a: SystemDatabase) -> None:
    assert not update(a, "b", url="wss://b:1")
    assert a.rows(NODES) == []


def test_an_update_does_not_raise_the_epoch(a: SystemDatabase) -> None:
    add(a, "b")
    update(a, "b", url="wss://b:1")
    assert a.row("b")["epoch"] == 1


def test_a_peer_with_explicit_subscriptions_is_nobody_elses(a: SystemDatabase) -> None:
    add(a, "b", subscriptions=(DOGS,))
    assert "replicates" not in a.row("b")
    assert a.membership().peers["b"].replicates == NONE


def test_a_peer_that_replicates_with_others_goes_on_with_them(a: SystemDatabase) -> None:
    a.put(NODES, {"name": "b", "url": "wss://b:9933", "replicates": True, "epoch": 1})
    add(a, "b", subscriptions=(DOGS,))
    assert a.row("b")["replicates"] is True


def test_explicit_subscriptions_can_give_way_to_full_replication(a: SystemDatabase) -> None:
    add(a, "b", subscriptions=(DOGS,))
    update(a, "b", subscriptions=None)
    assert a.row("b")["replicates"] is True


def test_a_directed_peer_stands_in_its_row_from_its_own_point_of_view(a: SystemDatabase) -> None:
    add(a, "b", replicates=SENDS)
    assert a.row("b")["replicates"] == {"sends": False, "receives": True}
    link = a.membership().peers["b"].link
    assert link is not None and link.allows == SENDS


def test_the_epoch_is_at_least_the_one_the_other_side_knows(a: SystemDatabase) -> None:
    assert add(a, "b", epoch_at_least=7) == 7
    assert add(a, "b", epoch_at_least=7) == 8


# -- removing -----------------------------------------------------------------------------------------------------


def test_a_removal_leaves_a_fact_and_no_rows(a: SystemDatabase) -> None:
    add(a, "b", authorization="Basic xyz", epoch_at_least=4)
    assert remove(a, "b")
    assert (a.rows(NODES), a.rows(NODE_LINKS)) == ([], [])
    assert [fact["id"] for fact in a.rows(NODE_FACTS)] == [["b", "removed", 4]]


def test_removing_whom_nobody_knows_changes_nothing(a: SystemDatabase) -> None:
    assert not remove(a, "b")
    assert a.rows(NODE_FACTS) == []


def test_a_removed_node_cannot_be_removed_again_though_its_row_came_back(a: SystemDatabase) -> None:
    add(a, "b")
    row = a.row("b")
    remove(a, "b")
    a.put(NODES, row)
    assert not remove(a, "b")
    assert not update(a, "b", url="wss://b:1")


def test_a_removed_node_can_be_added_again_and_starts_afresh(a: SystemDatabase) -> None:
    add(a, "b", authorization="Basic xyz", ca="CA of b")
    remove(a, "b")
    assert add(a, "b") == 2
    member = a.membership().peers["b"]
    assert (member.epoch, member.ca) == (2, None)
    assert member.link is not None and member.link.authorization is None


def test_a_node_that_was_added_again_survives_an_older_row_of_its_own(a: SystemDatabase) -> None:
    add(a, "b")
    older = a.row("b")
    remove(a, "b")
    add(a, "b")
    a.put(NODES, older)
    assert a.membership().peers["b"].epoch == 2
    assert remove(a, "b")
    a.put(NODES, older)
    assert not a.membership().peers


def test_a_revoked_serial_number_stays_so_when_the_node_is_added_again(a: SystemDatabase) -> None:
    add(a, "b", revoked=(1,))
    update(a, "b", revoked=(2,))
    assert a.row("b")["revoked_certificates"] == ["1", "2"]
    a.write(lambda tx: revoke(tx, "b", (3,)))
    remove(a, "b")
    add(a, "b", revoked=())
    assert a.membership().peers["b"].revoked == frozenset((1, 2, 3))


# -- the own row --------------------------------------------------------------------------------------------------


def test_a_node_without_agreements_has_no_row(a: SystemDatabase) -> None:
    assert not refresh(a)
    assert a.rows(NODES) == []


def test_an_explicit_add_makes_this_node_a_member(a: SystemDatabase) -> None:
    add(a, "b")
    assert refresh(a, is_added=True)
    assert without_times(a.row("a")) == {
        "name": "a",
        "url": "wss://a:9933",
        "replicates": True,
        "databases": "*",
        "ca": "CA of a",
        "epoch": 1,
    }


def test_a_refresh_that_finds_nothing_new_leaves_no_entry_in_the_log(a: SystemDatabase) -> None:
    add(a, "b")
    refresh(a, is_added=True)
    before = a.last_lseq()
    assert refresh(a)
    assert refresh(a, is_added=True)
    assert a.last_lseq() == before


def test_a_refresh_repairs_the_row_that_a_peer_wrote(a: SystemDatabase) -> None:
    add(a, "b")
    refresh(a, is_added=True)
    right = without_times(a.row("a"))
    a.put(NODES, {"name": "a", "url": "wss://alias:9933", "replicates": True, "epoch": 1})
    refresh(a)
    assert without_times(a.row("a")) == right


def test_a_refresh_brings_the_configuration_and_keeps_what_others_know(a: SystemDatabase) -> None:
    add(a, "b")
    refresh(a, is_added=True)
    a.put(NODES, {**a.row("a"), "shard": 5, "revoked_certificates": ["1"]})
    a.own = replace(a.own, url="wss://new:9933", ca=None, databases=(ReplicatedDatabase(name="data"),))
    refresh(a)
    row = a.row("a")
    assert (row["url"], row["databases"], row["shard"], row["ca"]) == ("wss://new:9933", ["data"], 5, "CA of a")
    a.own = replace(a.own, shard=6)
    refresh(a)
    assert a.row("a")["shard"] == 6


def test_a_removed_node_does_not_come_back_by_a_refresh(a: SystemDatabase) -> None:
    add(a, "b")
    refresh(a, is_added=True)
    row = a.row("a")
    remove(a, "a")
    assert not refresh(a)
    assert start(a, "b") == ()
    assert a.membership().self_member is None
    a.put(NODES, row)
    assert not refresh(a)
    assert a.membership().self_member is None


def test_a_removed_node_comes_back_by_an_explicit_add(a: SystemDatabase) -> None:
    add(a, "b")
    refresh(a, is_added=True)
    remove(a, "a")
    assert refresh(a, is_added=True, epoch_at_least=9)
    member = a.membership().self_member
    assert member is not None and (member.epoch, member.replicates) == (9, FULL)


def test_the_own_row_tells_of_directed_agreements(a: SystemDatabase) -> None:
    add(a, "b", replicates=SENDS)
    refresh(a, is_added=True)
    assert a.row("a")["replicates"] == {"sends": True, "receives": False}
    add(a, "c")
    refresh(a)
    assert a.row("a")["replicates"] == {"sends": True, "receives": True}
    remove(a, "b")
    refresh(a)
    assert a.row("a")["replicates"] is True


def test_explicit_subscriptions_do_not_make_this_node_a_full_replica(a: SystemDatabase) -> None:
    add(a, "b", subscriptions=(DOGS,))
    refresh(a, is_added=True)
    assert "replicates" not in a.row("a")


def test_the_last_peer_that_leaves_takes_nothing_from_the_own_row(a: SystemDatabase) -> None:
    add(a, "b")
    refresh(a, is_added=True)
    remove(a, "b")
    assert refresh(a)
    assert a.row("a")["replicates"] is True


# -- routes -------------------------------------------------------------------------------------------------------


def test_a_route_makes_its_peer_and_this_node_members(a: SystemDatabase) -> None:
    assert start(a, "b", "a", {"hostname": "c", "port": 1, "shard": 4}) == ()
    membership = a.membership()
    assert membership.self_member is not None and membership.self_member.replicates == FULL
    assert {name: (one.url, one.replicates, one.shard, one.link) for name, one in membership.peers.items()} == {
        "b": ("wss://b:9933", FULL, None, None),
        "c": ("wss://c:1", FULL, 4, None),
    }


def test_a_second_start_with_the_same_routes_leaves_no_entry_in_the_log(a: SystemDatabase) -> None:
    routes = ("b", {"hostname": "c", "shard": 4, "replicates": {"sends": True}})
    start(a, *routes)
    before = a.last_lseq()
    start(a, *routes)
    assert a.last_lseq() == before


def test_a_route_changes_nothing_of_what_the_peer_says_of_itself(a: SystemDatabase) -> None:
    row = {"name": "b", "url": "wss://b:7", "replicates": {"sends": True}, "epoch": 3, "shard": 1, "ca": "CA of b"}
    a.put(NODES, row)
    start(a, {"hostname": "b", "port": 1, "shard": 4})
    assert without_times(a.row("b")) == row


def test_a_route_does_not_bring_a_removed_node_back(a: SystemDatabase) -> None:
    start(a, "b")
    remove(a, "b")
    assert start(a, "b") == ("b",)
    assert not a.membership().peers


def test_a_directed_route_writes_directed_rows_on_both_sides(a: SystemDatabase) -> None:
    start(a, {"hostname": "b", "replicates": {"sends": True}})
    membership = a.membership()
    assert membership.self_member is not None and membership.self_member.replicates == SENDS
    assert membership.peers["b"].replicates == RECEIVES


def test_a_route_with_subscriptions_makes_a_peer_that_is_nobody_elses(a: SystemDatabase) -> None:
    start(a, {"hostname": "b", "subscriptions": [{"database": "dev", "table": "dog", "subscribe": True}]})
    assert "replicates" not in a.row("b")


def test_a_node_cannot_be_cut_off_by_a_row_of_it_that_cannot_be_read(a: SystemDatabase) -> None:
    """What the reader makes of strange rows, the changes do too."""
    a.put(NODES, {"name": "b", "url": "wss://b:9933", "replicates": "yes", "epoch": "x", "revoked_certificates": ["x"]})
    a.put(NODE_LINKS, {"name": "b", "replicates": "yes"})

    def change(tx: WriteTransaction) -> None:
        update_member(tx, "b", revoked=(5,))
        put_self(tx, a.own, is_added=True)

    a.write(change)
    assert a.membership().peers["b"].revoked == frozenset((5,))
    assert add(a, "b", replicates=FULL) == 1
    assert a.membership().peers["b"].replicates == FULL
