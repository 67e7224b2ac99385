"""Reading the tables of nodes: what is there, and what must never be taken for a removal."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replication.agreements import FULL, NONE, Directions, ReplicatedDatabase, Subscription
from replication.membership import (
    NODE_FACTS,
    NODE_LINKS,
    NODES,
    UNKNOWN_LINK,
    Link,
    Member,
    Membership,
    read_membership,
)
from replication.membership_changes import add_member, put_self, remove_member, revoke
from storage.transaction import stored_key_of
from tests.replication.system_database import SystemDatabase, system_databases
from tests.storage.opened import Opened

B: dict[str, Any] = {"name": "b", "url": "wss://b:9933", "replicates": True, "epoch": 3, "shard": 2, "ca": "CA of b"}


@pytest.fixture
def a(tmp_path: Path) -> Iterator[SystemDatabase]:
    with system_databases(tmp_path, ("a",)) as databases:
        yield databases["a"]


def damage(opened: Opened, table: str, key: Any, *, length: int) -> None:
    """Cut a row, so that its head (a few bytes left) or its record cannot be decoded."""
    handle = opened.environment.handles[f"p{opened.table(table).rows_id}"]
    with opened.environment.lmdb.begin(write=True) as txn:
        data = txn.get(stored_key_of(key), db=handle)
        txn.put(stored_key_of(key), data[:length], db=handle)


def test_a_node_without_rows_takes_no_part(a: SystemDatabase) -> None:
    assert a.membership() == Membership(node="a")


def test_a_member_is_read_with_all_that_is_known_of_it(a: SystemDatabase) -> None:
    a.put(
        NODES,
        {
            **B,
            "replicates": {"sends": True, "receives": False},
            "revoked_certificates": ["0A:FF"],
            "databases": ["data", {"name": "big", "sharded": True}],
            "ca_info": {"issuer": "somebody"},
            "routes": None,
        },
    )
    a.put(
        NODE_LINKS,
        {
            "name": "b",
            "subscriptions": [{"database": "data", "table": "dog", "subscribe": True, "publish": False}],
            "authorization": "Basic xyz",
            "verify_tls": False,
            "start_time": 5,
            "isLeader": True,
            "replicates": {"receives": True},
        },
    )
    a.put(NODE_FACTS, {"id": ["b", "revoked", "B00"]})
    assert a.membership().peers["b"] == Member(
        name="b",
        url="wss://b:9933",
        replicates=Directions(sends=True, receives=False, only_named=True),
        shard=2,
        ca="CA of b",
        revoked=frozenset((0xAFF, 0xB00)),
        epoch=3,
        databases=(ReplicatedDatabase(name="data"), ReplicatedDatabase(name="big", sharded=True)),
        link=Link(
            allows=Directions(sends=False, receives=True, only_named=True),
            subscriptions=(Subscription(database="data", table="dog", subscribe=True, publish=False),),
            verify_tls=False,
            authorization="Basic xyz",
            start_time_ms=5,
            is_leader=True,
        ),
    )


def test_a_row_written_by_hand_is_a_member_that_exchanges_nothing(a: SystemDatabase) -> None:
    a.put(NODES, {"name": "b", "url": "wss://b:9933"})
    assert a.membership().peers["b"] == Member(name="b", url="wss://b:9933", replicates=NONE)


def test_secrets_are_not_shown(a: SystemDatabase) -> None:
    a.put(NODES, B)
    a.put(NODE_LINKS, {"name": "b", "authorization": "Basic xyz"})
    assert "xyz" not in repr(a.membership())
    assert "CA of b" not in repr(a.membership())


def test_this_node_itself_is_no_peer(a: SystemDatabase) -> None:
    a.put(NODES, {"name": "a", "url": "wss://a:9933", "replicates": True})
    a.put(NODES, B)
    membership = a.membership()
    assert membership.self_member is not None
    assert list(membership.peers) == ["b"]
    assert membership.member("a") is membership.self_member
    assert membership.member("b") is membership.peers["b"]
    assert membership.member("c") is None


def test_a_deleted_row_is_a_member_that_left(a: SystemDatabase) -> None:
    a.put(NODES, B)
    before = a.membership()
    a.write(lambda tx: tx.delete(tx.table(NODES), "b", stored_key_of("b")))
    assert not a.membership(before).peers


@pytest.mark.parametrize(("epoch", "is_member"), [(2, False), (3, False), (4, True), (None, False), ("x", False)])
def test_a_row_counts_only_above_the_removal(a: SystemDatabase, epoch: Any, is_member: bool) -> None:
    a.put(NODE_FACTS, {"id": ["b", "removed", 3]})
    a.put(NODE_FACTS, {"id": ["b", "removed", 1]})
    a.put(NODES, {**B, "epoch": epoch})
    membership = a.membership()
    assert ("b" in membership.peers) is is_member
    assert membership.is_removed("b") is not is_member
    assert not membership.is_removed("c")


def test_a_node_that_was_added_again_counts_whatever_epoch_its_row_has(a: SystemDatabase) -> None:
    a.put(NODE_FACTS, {"id": ["b", "removed", 3]})
    a.put(NODE_FACTS, {"id": ["b", "added", 4]})
    a.put(NODES, {**B, "epoch": 2})
    assert a.membership().peers["b"].epoch == 4
    a.put(NODE_FACTS, {"id": ["b", "removed", 4]})
    assert not a.membership().peers


@pytest.mark.parametrize("length", [5, 40], ids=["head", "record"])
@pytest.mark.parametrize("table", [NODES, NODE_LINKS])
def test_a_row_that_cannot_be_decoded_leaves_all_members_as_they_were(
    a: SystemDatabase, table: str, length: int
) -> None:
    for name in ("b", "c", "d"):
        a.write(lambda tx, name=name: add_member(tx, name, url=f"wss://{name}:9933", verify_tls=False))  # type: ignore[misc]
    before = a.membership()
    damage(a.opened, table, "c", length=length)
    after = a.membership(before)
    assert after.peers == before.peers
    assert after.troubles


@pytest.mark.parametrize("length", [5, 40], ids=["head", "record"])
def test_a_removal_counts_for_a_row_that_cannot_be_decoded(a: SystemDatabase, length: int) -> None:
    a.put(NODES, B)
    before = a.membership()
    a.put(NODE_FACTS, {"id": ["b", "removed", 3]})
    damage(a.opened, NODES, "b", length=length)
    assert not a.membership(before).peers


@pytest.mark.parametrize("length", [5, 40], ids=["head", "record"])
def test_a_fact_that_cannot_be_decoded_stays_known(a: SystemDatabase, length: int) -> None:
    a.put(NODES, B)
    fact = ["b", "removed", 3]
    a.put(NODE_FACTS, {"id": fact})
    before = a.membership()
    damage(a.opened, NODE_FACTS, fact, length=length)
    assert not a.membership(before).peers


def test_a_link_that_cannot_be_read_at_the_start_lets_nothing_flow(a: SystemDatabase) -> None:
    a.put(NODES, B)
    a.put(NODE_LINKS, {"name": "b"})
    damage(a.opened, NODE_LINKS, "b", length=40)
    assert a.membership().peers["b"].link == UNKNOWN_LINK


def test_missing_tables_say_nothing_of_the_members(a: SystemDatabase) -> None:
    a.put(NODES, B)
    before = a.membership()
    a.write(lambda tx: tx.drop_table(tx.table(NODES)))
    assert a.membership(before).peers == before.peers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("url", 5),
        ("url", None),
        ("url", "https://b"),
        ("replicates", "yes"),
        ("replicates", {"sendsTo": ["c"]}),
        ("shard", "one"),
        ("shard", None),
        ("ca", 5),
        ("ca", None),
        ("epoch", -1),
        ("epoch", 1 << 60),
        ("epoch", True),
        ("databases", 5),
        ("databases", None),
        ("revoked_certificates", 5),
        ("revoked_certificates", []),
        ("revoked_certificates", [None]),
    ],
    ids=str,
)
def test_a_strange_or_missing_field_keeps_what_was_known(a: SystemDatabase, field: str, value: Any) -> None:
    good = {**B, "databases": ["data"], "revoked_certificates": ["A1"]}
    a.put(NODES, good)
    before = a.membership()
    a.put(NODES, {**good, field: value})
    assert a.membership(before).peers == before.peers


def test_a_row_under_another_name_keeps_what_was_known(a: SystemDatabase) -> None:
    a.put(NODES, B)
    before = a.membership()

    def rename(tx: Any) -> None:
        tx.put(tx.table(NODES), "b", stored_key_of("b"), {**B, "name": ["b"]})

    a.write(rename)
    assert a.membership(before).peers == before.peers
    assert not a.membership().peers


def test_one_strange_serial_number_does_not_let_the_others_in(a: SystemDatabase) -> None:
    a.put(NODES, {**B, "revoked_certificates": ["A1", {"no": "number"}, "A2"]})
    assert a.membership().peers["b"].revoked == frozenset((0xA1, 0xA2))


def test_a_fact_of_a_later_version_is_passed_over(a: SystemDatabase) -> None:
    a.put(NODES, B)
    a.put(NODE_FACTS, {"id": ["b", "paused", 9]})
    assert list(a.membership().peers) == ["b"]
    assert not a.membership().troubles


@pytest.mark.parametrize("key", ["b", ["b"], ["b", "removed", "x"], ["b", "revoked", "x"], [1, "removed", 9]], ids=str)
def test_a_row_that_is_no_fact_changes_nothing_and_is_told(a: SystemDatabase, key: Any) -> None:
    a.put(NODES, B)
    a.put(NODE_FACTS, {"id": key})
    membership = a.membership()
    assert list(membership.peers) == ["b"]
    assert len(membership.troubles) == 1


def test_a_trouble_is_logged_once(a: SystemDatabase, caplog: pytest.LogCaptureFixture) -> None:
    a.put(NODES, {**B, "shard": "one"})
    with caplog.at_level(logging.ERROR, "replication"):
        first = a.membership()
        second = a.membership(first)
        assert len(caplog.records) == 1
        assert "'b'" in caplog.text and "shard" in caplog.text
        a.put(NODES, B)
        third = a.membership(second)
        a.put(NODES, {**B, "shard": "one"})
        a.membership(third)
    assert len(caplog.records) == 2


def test_a_database_without_the_tables_is_a_node_without_peers(opened_without_tables: Opened) -> None:
    with opened_without_tables.database.read() as tx:
        membership = read_membership(tx, "a")
    assert (membership.self_member, dict(membership.peers)) == (None, {})


@pytest.fixture
def opened_without_tables(tmp_path: Path) -> Iterator[Opened]:
    opened = Opened.at(tmp_path / "system", name="system")
    yield opened
    opened.close()


def test_what_the_changes_write_reads_without_trouble(a: SystemDatabase) -> None:
    def change(tx: Any) -> None:
        add_member(
            tx,
            "b",
            url="wss://b:9933",
            replicates=Directions(sends=True, receives=False, only_named=True),
            authorization="Basic xyz",
            start_time_ms=5,
            revoked=(1, 2),
            databases=(ReplicatedDatabase(name="data", sharded=True),),
            is_leader=True,
        )
        add_member(tx, "c", url="wss://c:9933")
        remove_member(tx, "c")
        add_member(tx, "c", url="wss://c:9933")
        revoke(tx, "c", (3,))
        put_self(tx, a.own)

    a.write(change)
    membership = a.membership()
    assert not membership.troubles
    assert membership.peers["c"].replicates == FULL
    assert membership.peers["c"].revoked == frozenset((3,))
