"""Who holds a record: what a request may say, and what is chosen."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.agreements import ReplicatedDatabase, Unfit
from replication.membership import Member, Membership
from replication.residency import (
    EVERYWHERE,
    Placement,
    Wish,
    configured_count,
    may_leave_log,
    read_replicate_to,
    residents_of,
    shards_of,
)
from tests.storage.opened import Opened

NO_TYPE = "is not a valid type, must be a shard number or residency list of node hostnames"
PEERS = ("b", "c", "d")


def place(
    wish: Wish = None,
    *,
    existing: tuple[str, ...] | None = None,
    configured: int | None = None,
    peers: tuple[str, ...] = PEERS,
    start: int = 0,
) -> tuple[str, ...]:
    placement = Placement(node="a", peers=peers, wish=wish, configured=configured, draw=lambda below: start % below)
    return placement(existing)


@pytest.mark.parametrize(
    ("sent", "wish"),
    [(None, None), ("*", None), (0, 0), (2, 2), (2.0, 2), (["b"], ("b",)), (["b", "b"], ("b",)), ([], ())],
)
def test_a_request_names_a_count_or_nodes(sent: Any, wish: Wish) -> None:
    assert read_replicate_to(sent) == wish


@pytest.mark.parametrize("sent", [True, -1, 1.5, "b", {}, [1], [""], ["b", None]])
def test_anything_else_is_refused(sent: Any) -> None:
    with pytest.raises(Unfit, match=NO_TYPE):
        read_replicate_to(sent)


def test_a_shard_stands_for_its_nodes() -> None:
    assert residents_of(3, {3: ["b", "c"]}) == ("b", "c")


@pytest.mark.parametrize(
    ("residency", "error"),
    [
        (65536, "Shard id 65536 must be below 65536"),
        (7, "Shard 7 is not defined"),
        (True, f"Shard or residency list True {NO_TYPE}"),
        ([1, 2], f"Shard or residency list 1,2 {NO_TYPE}"),
        (None, f"Shard or residency list None {NO_TYPE}"),
    ],
)
def test_what_is_no_residency_is_told_so(residency: Any, error: str) -> None:
    with pytest.raises(Unfit) as raised:
        residents_of(residency, {3: ["b"]})
    assert str(raised.value) == error


def test_the_shards_are_those_of_the_members() -> None:
    members = {name: Member(name=name, shard=shard) for name, shard in (("c", 1), ("b", 1), ("d", None))}
    membership = Membership(node="a", self_member=Member(name="a", shard=2), peers=members)
    assert shards_of(membership) == {1: ["b", "c"], 2: ["a"]}


def test_named_nodes_hold_a_record_together_with_the_one_that_writes_it() -> None:
    assert place(("c",)) == ("a", "c")
    assert place(("c", "a")) == ("a", "c")
    assert place((), existing=("a", "b")) == ("a",)


def test_a_count_begins_anywhere_and_goes_round() -> None:
    assert [place(2, start=start) for start in range(3)] == [("a", "b", "c"), ("a", "c", "d"), ("a", "d", "b")]


def test_no_other_node_is_only_this_one() -> None:
    assert place(0) == ("a",)
    assert place(0, peers=()) == ("a",)


def test_more_nodes_than_there_are_is_all_of_them_also_those_that_join_later() -> None:
    assert place(4) == EVERYWHERE
    assert place(1, peers=()) == EVERYWHERE
    assert place(3) == ("a", "b", "c", "d")


def test_a_count_keeps_the_nodes_that_hold_the_record() -> None:
    assert place(1, existing=("c", "d")) == ("c", "d")


def test_a_count_moves_a_record_that_is_everywhere() -> None:
    assert place(1, existing=EVERYWHERE) == ("a", "b")


@pytest.mark.parametrize(("existing", "chosen"), [(None, ("a", "b")), (EVERYWHERE, EVERYWHERE), (("c",), ("c",))])
def test_the_configuration_is_for_new_records(existing: tuple[str, ...] | None, chosen: tuple[str, ...]) -> None:
    assert place(existing=existing, configured=1) == chosen


def test_without_wish_and_configuration_all_hold_it() -> None:
    assert place() == EVERYWHERE


def test_what_is_said_of_the_database_wins_over_what_is_said_of_all() -> None:
    databases = (ReplicatedDatabase(name="data", replicate_to=0), ReplicatedDatabase(name="other"))
    assert configured_count("data", databases, 2) == 0
    assert configured_count("other", databases, 2) == 2
    assert configured_count("data", None, None) is None


@given(
    count=st.integers(0, 6),
    peers=st.lists(st.sampled_from("bcdefg"), unique=True).map(sorted).map(tuple),
    start=st.integers(0, 100),
)
def test_a_count_is_met_or_exceeded(count: int, peers: tuple[str, ...], start: int) -> None:
    chosen = place(count, peers=peers, start=start)
    assert chosen == EVERYWHERE if count > len(peers) else len(set(chosen)) == count + 1
    assert set(chosen) <= {"a", *peers}


def test_the_log_keeps_what_no_resident_has_yet(tmp_path: Path) -> None:
    node = Opened.at(tmp_path / "a", node="a")
    node.create_table("dog")
    choices = ((), ("a", "b"), ("b", "c"))
    for key, residents in enumerate(choices):
        node.put("dog", {"id": key, "r": "r"}, choose_residents=lambda _, residents=residents: residents)
    with node.database.read() as tx:
        *_, everywhere, here, elsewhere = tx.log.read_from()
    node.close()
    assert may_leave_log(everywhere, "a", ())
    assert may_leave_log(here, "a", ())
    assert not may_leave_log(elsewhere, "a", ())
    assert not may_leave_log(elsewhere, "a", ("d",))
    assert may_leave_log(elsewhere, "a", ("d", "c"))
