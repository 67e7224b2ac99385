from typing import Any

from replication.agreements import NONE, Databases, Directions, ReplicatedDatabase, Subscription
from replication.membership import Facts, Link, Member, Membership
from replication.wanted_links import Sharing, sharing_of
from tests.replication.test_wanted_links import member, membership

SENDS = Directions(sends=True, receives=False, only_named=True)
RECEIVES = SENDS.reversed()


def sharing(members: Membership, *, databases: Databases = None) -> Sharing:
    return sharing_of(members, (), own_databases=databases, database="data")


def only(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_full_members_write_and_take() -> None:
    found = sharing(membership(member("b"), member("c")))
    assert (found.writers, found.takers) == (only("b", "c"), only("b", "c"))


def test_a_member_without_the_database_is_not_waited_for() -> None:
    other = (ReplicatedDatabase(name="other"),)
    assert sharing(membership(member("b", databases=other))) == Sharing()
    assert sharing(membership(member("b")), databases=other) == Sharing()


def test_a_sharded_database_is_shared_within_the_shard() -> None:
    sharded = (ReplicatedDatabase(name="data", sharded=True),)
    members = membership(member("b", shard=1), member("c", shard=2), own=member("a", shard=1))
    assert sharing(members, databases=sharded).writers == only("b")


def test_a_node_that_only_sends_is_heard_and_takes_nothing() -> None:
    found = sharing(membership(member("b", replicates=SENDS, link=Link())))
    assert (found.writers, found.takers) == (only("b"), only())


def test_a_node_that_only_receives_is_not_heard() -> None:
    found = sharing(membership(member("b", replicates=RECEIVES, link=Link())))
    assert (found.writers, found.takers) == (only(), only("b"))


def test_a_directed_member_of_others_is_heard_over_them() -> None:
    found = sharing(membership(member("b"), member("c", replicates=SENDS)))
    assert (found.writers, found.takers) == (only("b", "c"), only("b"))


def test_nothing_is_waited_for_from_whom_nothing_may_come() -> None:
    allowed = Link(allows=Directions(sends=True, receives=False, only_named=True))
    found = sharing(membership(member("b", link=allowed)))
    assert (found.writers, found.barred, found.takers) == (only(), only("b"), only("b"))


def test_named_tables_make_a_writer_or_a_taker() -> None:
    def linked(**flags: Any) -> Member:
        one = Subscription(database="data", table="dog", **{"subscribe": False, "publish": False, **flags})
        return member("b", replicates=NONE, link=Link(subscriptions=(one,)))

    assert sharing(membership(linked(subscribe=True))).writers == only("b")
    assert sharing(membership(linked(publish=True))).takers == only("b")


def test_removed_nodes_are_named_and_members_again_are_not() -> None:
    facts = Facts(removed={"b": 0, "c": 0}, added={"c": 1})
    found = sharing(membership(member("c", epoch=1), facts=facts))
    assert (found.removed, found.writers) == (only("b"), only("c"))


def test_a_node_that_was_removed_knows_it() -> None:
    assert sharing(Membership(node="a", facts=Facts(removed={"a": 0}))).is_removed
    assert not sharing(Membership(node="a")).is_removed
