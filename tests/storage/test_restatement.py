"""Restatements: what they bring to others, and that they change nothing where it is known."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import SchemaConflict
from storage.maintenance import expire_rows, trim_log
from storage.record import Row, decode_row
from storage.table_writes import write_records
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.storage.exchange import Nodes, digest_of, send, skip, versions_of
from tests.storage.opened import Opened


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    made.a.create_table("dog")
    send(made.a, made.b)
    yield made
    made.close()


def restate(node: Opened, *keys: Any, table: str = "dog") -> list[int]:
    def run(tx: WriteTransaction) -> list[int]:
        return [tx.restate(tx.table(table), stored_key_of(key)) for key in keys]

    staged: list[int] = node.write(run)
    return staged


def restate_all(node: Opened) -> None:
    def run(tx: WriteTransaction) -> None:
        for stored_key in versions_of(node, "dog"):
            tx.restate(tx.table("dog"), stored_key)

    node.write(run)


def row_of(node: Opened, key: Any, table: str = "dog") -> Row:
    found = node.table(table)
    with node.database.read() as tx:
        for number in (found.rows_id, found.tombstones_id):
            data = tx.txn.get(stored_key_of(key), db=node.environment.handles[f"p{number}"])
            if data is not None:
                return decode_row(data)
    raise AssertionError(f"nothing is known of {key}")


def last_lseq(node: Opened) -> int:
    with node.database.read() as tx:
        return tx.head().lseq


def last_writes(node: Opened) -> list[dict[str, Any]]:
    with node.database.read() as tx:
        entry = tx.log.entry(tx.log.last())
        assert entry is not None
        return entry.writes()


def test_here_only_who_said_it_again_changes(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1, "name": "Rex"}, {"id": 2})
    nodes.a.delete("dog", 2)
    before, digest, index = versions_of(nodes.a, "dog"), digest_of(nodes.a, "dog"), nodes.a.index("dog", "name")
    rows = [row_of(nodes.a, key) for key in (1, 2)]
    assert all(restate(nodes.a, 1, 2))
    assert versions_of(nodes.a, "dog") == before
    assert digest_of(nodes.a, "dog") == digest
    assert nodes.a.index("dog", "name") == index
    with nodes.a.database.read() as tx:
        by = (nodes.a.environment.origin_id, tx.log.positions()[nodes.a.environment.origin_id].oseq)
    assert [row_of(nodes.a, key) for key in (1, 2)] == [row._replace(by=by) for row in rows]


def test_several_records_are_one_entry_of_writes_with_their_old_stamps(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1, "name": "Rex"})
    nodes.a.put("dog", {"id": 1, "name": "Max"}, expires_at_ms=1 << 50)
    nodes.a.put("dog", {"id": 2})
    nodes.a.delete("dog", 2)
    first, second = versions_of(nodes.a, "dog").values()
    before = last_lseq(nodes.a)
    restate(nodes.a, 1, 2)
    assert last_lseq(nodes.a) == before + 1
    put, delete = last_writes(nodes.a)
    replaced = [put.pop("p"), delete.pop("p")]
    assert put == {"t": "dog", "op": "put", "k": 1, "v": first[1], "x": 1 << 50, "s": list(first[0])}
    assert delete == {"t": "dog", "op": "delete", "k": 2, "s": list(second[0])}
    assert all(stamp[1] == "a" for stamp in replaced)


def test_what_a_node_never_got_comes_with_a_restatement(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1, "name": "Rex"}, {"id": 2})
    send(nodes.a, nodes.b)
    nodes.a.put("dog", {"id": 1, "name": "Max"}, {"id": 3})
    nodes.a.delete("dog", 2)
    skip(nodes.a, nodes.b)
    assert digest_of(nodes.a, "dog") != digest_of(nodes.b, "dog")
    restate(nodes.a, 1, 2, 3)
    applied = send(nodes.a, nodes.b)
    assert not applied.stopped
    assert versions_of(nodes.b, "dog") == versions_of(nodes.a, "dog")
    assert digest_of(nodes.b, "dog") == digest_of(nodes.a, "dog")
    assert nodes.b.index("dog", "name") == nodes.a.index("dog", "name")


def test_a_restatement_of_what_replaced_the_version_there_is_no_conflict(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1, "name": "Rex"})
    send(nodes.a, nodes.b)
    nodes.a.put("dog", {"id": 1, "name": "Max"})
    skip(nodes.a, nodes.b)
    restate(nodes.a, 1)
    assert send(nodes.a, nodes.b).conflicts == {}


def test_a_write_of_another_origin_keeps_its_name(nodes: Nodes) -> None:
    nodes.b.now_us = nodes.a.now_us
    nodes.b.put("dog", {"id": 1, "name": "of b"})
    send(nodes.b, nodes.a)
    restate(nodes.a, 1)
    send(nodes.a, nodes.b)
    assert versions_of(nodes.a, "dog") == versions_of(nodes.b, "dog")
    (stamp, _, _) = versions_of(nodes.b, "dog")[stored_key_of(1)]
    assert stamp.node == "b"
    assert row_of(nodes.b, 1).by is not None


def test_a_node_that_knows_nothing_of_the_origin_takes_it(nodes: Nodes, tmp_path: Path) -> None:
    nodes.b.now_us = nodes.a.now_us
    nodes.b.put("dog", {"id": 1, "name": "of b"})
    send(nodes.b, nodes.a)
    strangers = Nodes(tmp_path / "strangers", "cd")
    restate(nodes.a, 1)
    assert not send(nodes.a, strangers.a).stopped
    assert versions_of(strangers.a, "dog") == versions_of(nodes.a, "dog")
    strangers.close()


def test_a_newer_write_elsewhere_stays(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1, "name": "Rex"})
    send(nodes.a, nodes.b)
    nodes.b.now_us = nodes.a.now_us
    nodes.b.put("dog", {"id": 1, "name": "Max"})
    nodes.a.now_us += 1_000_000
    restate(nodes.a, 1)
    nodes.exchange()
    assert nodes.a.record("dog", 1)["name"] == nodes.b.record("dog", 1)["name"] == "Max"


def test_a_tombstone_said_again_beats_an_older_write_that_came_late(nodes: Nodes) -> None:
    nodes.b.now_us = nodes.a.now_us
    nodes.b.put("dog", {"id": 1, "name": "late"})
    nodes.a.now_us += 1_000_000
    nodes.a.delete("dog", 1)
    skip(nodes.a, nodes.b)
    assert nodes.b.get("dog", 1) is not None
    restate(nodes.a, 1)
    nodes.exchange()
    assert nodes.a.all("dog") == nodes.b.all("dog") == []


def test_an_expired_record_is_restated_as_the_tombstone_that_it_left(nodes: Nodes) -> None:
    expires_at_ms = nodes.a.now_us // 1000 + 60_000
    nodes.a.put("dog", {"id": 1}, {"id": 2}, expires_at_ms=expires_at_ms)
    send(nodes.a, nodes.b)
    nodes.a.put("dog", {"id": 2}, expires_at_ms=expires_at_ms)
    skip(nodes.a, nodes.b)
    nodes.a.now_us += 120_000_000
    nodes.a.maintain(partial(expire_rows, now_ms=nodes.a.now_us // 1000))
    restate(nodes.a, 1, 2)
    assert [write["x"] for write in last_writes(nodes.a)] == [expires_at_ms] * 2
    send(nodes.a, nodes.b)
    newest, same = versions_of(nodes.b, "dog")[stored_key_of(2)], versions_of(nodes.b, "dog")[stored_key_of(1)]
    assert newest == versions_of(nodes.a, "dog")[stored_key_of(2)]
    assert not same[2], "the row that is still there has the stamp, so it stays until its own time comes"
    assert row_of(nodes.b, 2).expires_at_ms == expires_at_ms


def test_restating_twice_notes_the_later_one(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1})
    restate(nodes.a, 1)
    first = row_of(nodes.a, 1).by
    restate(nodes.a, 1)
    second = row_of(nodes.a, 1).by
    assert first is not None and second is not None and second > first
    nodes.exchange()
    assert row_of(nodes.b, 1).by is not None
    assert versions_of(nodes.b, "dog") == versions_of(nodes.a, "dog")


def test_a_restatement_outlives_the_entry_that_it_repeats(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1, "name": "Rex"})
    restate(nodes.a, 1)
    nodes.a.maintain(partial(trim_log, before_us=nodes.a.now_us))
    restate(nodes.a, 1)
    assert nodes.a.record("dog", 1)["name"] == "Rex"


@pytest.mark.parametrize("key", [1, "ghost"])
def test_what_no_other_node_may_have_is_not_restated(nodes: Nodes, key: Any) -> None:
    nodes.a.write(lambda tx: write_records(tx, "dog", [{"id": 1}], "upsert"), is_local=True)
    before = last_lseq(nodes.a)
    assert restate(nodes.a, key) == [0]
    assert last_lseq(nodes.a) == before


def test_records_of_a_local_table_are_not_restated(nodes: Nodes) -> None:
    nodes.a.create_table("note", is_local=True)
    nodes.a.put("note", {"id": 1})
    assert restate(nodes.a, 1, table="note") == [0]


@pytest.mark.parametrize("is_before", [True, False])
def test_a_write_of_the_same_transaction_is_the_only_one_of_its_record(nodes: Nodes, is_before: bool) -> None:
    nodes.a.put("dog", {"id": 1, "name": "Rex"}, {"id": 2})

    def run(tx: WriteTransaction) -> None:
        if is_before:
            tx.restate(tx.table("dog"), stored_key_of(1))
        write_records(tx, "dog", [{"id": 1, "name": "Max"}], "upsert")
        tx.restate(tx.table("dog"), stored_key_of(1))
        tx.restate(tx.table("dog"), stored_key_of(2))

    nodes.a.write(run)
    assert [(write["k"], "s" in write) for write in last_writes(nodes.a)] == [(1, False), (2, True)]
    send(nodes.a, nodes.b)
    assert versions_of(nodes.b, "dog") == versions_of(nodes.a, "dog")


def test_a_table_is_not_dropped_in_the_transaction_that_restates(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1})

    def run(tx: WriteTransaction) -> None:
        tx.restate(tx.table("dog"), stored_key_of(1))
        tx.drop_table(tx.table("dog"))

    with pytest.raises(SchemaConflict):
        nodes.a.write(run)


def test_residency_goes_with_it(nodes: Nodes) -> None:
    records = [{"id": 1, "name": "Rex"}]
    nodes.a.write(lambda tx: write_records(tx, "dog", records, "upsert", choose_residents=lambda _: ("a", "b")))
    restate(nodes.a, 1)
    assert last_writes(nodes.a)[0]["r"] == ["a", "b"]


steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(("put", "delete", "send", "skip", "restate")),
        st.integers(0, 3),
        st.integers(-2, 2),
    ),
    max_size=30,
)


@given(steps=steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_lost_on_the_way_comes_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int, int]]
) -> None:
    """Entries skipped by anybody; then everybody restates all, and gets all that the others have said since."""
    nodes = Nodes(tmp_path_factory.mktemp("nodes"), "abc")
    nodes.a.create_table("dog")
    nodes.exchange()
    for number, (who, what, key, drift) in enumerate(steps):
        node, other = nodes.all[who], nodes.all["abc"[("abc".index(who) + 1 + key % 2) % 3]]
        node.now_us += drift * 1500
        if what == "put":
            node.put("dog", {"id": key, "from": who, "number": number})
        elif what == "delete":
            node.delete("dog", key)
        elif what == "restate":
            restate(node, key)
        elif what == "send":
            send(other, node)
        else:
            skip(other, node)
    for node in nodes.all.values():
        restate_all(node)
    nodes.exchange()
    first, *others = (versions_of(node, "dog") for node in nodes.all.values())
    assert all(versions == first for versions in others)
    assert len({digest_of(node, "dog") for node in nodes.all.values()}) == 1
    nodes.close()
