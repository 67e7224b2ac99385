"""Conflicts found again in the log: both writes, filters, pages, and what is no longer told."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.conflict_history import (
    ConflictFilter,
    ConflictPlace,
    DecidedConflict,
    find_conflicts,
    read_conflicts,
)
from storage.maintenance import hide_history, reduce_history, trim_log
from storage.table_writes import delete_records, write_records
from storage.transaction import stored_key_of
from tests.storage.exchange import Nodes, send, skip, versions_of
from tests.storage.opened import Opened


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    made.a.create_table("dog")
    made.a.create_table("cat")
    made.exchange()
    yield made
    made.close()


def write(node: Opened, key: Any, *, table: str = "dog", user: str | None = None, **values: Any) -> None:
    node.write(lambda tx: write_records(tx, table, [{"id": key, **values}], "upsert"), user=user, operation="upsert")


def quarrel(nodes: Nodes, *keys: Any, table: str = "dog") -> None:
    """Both write each of the keys, ``b`` later; then each hears of the other."""
    for key in keys:
        write(nodes.a, key, table=table, user="ann", by="a")
        nodes.b.now_us = nodes.a.now_us
        write(nodes.b, key, table=table, user="bob", by="b")
        nodes.exchange()
        nodes.a.now_us = nodes.b.now_us


def places(
    node: Opened, *, before: int | None = None, limit: int = 100, examined_max: int = 1000, **wanted: Any
) -> Any:
    with node.database.read() as tx:
        return find_conflicts(tx, ConflictFilter(**wanted), before=before, limit=limit, examined_max=examined_max)


def conflicts(node: Opened, **wanted: Any) -> list[DecidedConflict]:
    with node.database.read() as tx:
        return list(read_conflicts(tx, places(node, **wanted).places))


def keys(node: Opened, **wanted: Any) -> list[Any]:
    return [conflict.key for conflict in conflicts(node, **wanted)]


def test_both_nodes_tell_the_same_of_both_writes(nodes: Nodes) -> None:
    quarrel(nodes, 1)
    (at_a,), (at_b,) = conflicts(nodes.a), conflicts(nodes.b)
    assert (at_a.table, at_a.key) == (at_b.table, at_b.key) == ("dog", 1)
    assert (at_a.winner, at_a.loser) == (at_b.winner, at_b.loser)
    assert (at_a.winner.user, at_a.loser.user) == ("bob", "ann")
    assert (at_a.winner.record or {})["by"] == "b"
    assert (at_a.loser.record or {})["by"] == "a"
    assert (at_a.winner.stamp.node, at_a.loser.stamp.node) == ("b", "a")


def test_it_was_decided_when_the_second_came(nodes: Nodes) -> None:
    write(nodes.a, 1)
    nodes.b.now_us = nodes.a.now_us
    write(nodes.b, 1)
    nodes.a.now_us += 60_000_000
    send(nodes.b, nodes.a)
    (conflict,) = conflicts(nodes.a)
    assert conflict.decided_at == nodes.a.now_us


def test_a_delete_has_no_record_and_is_known(nodes: Nodes) -> None:
    write(nodes.a, 1)
    nodes.b.now_us = nodes.a.now_us
    nodes.b.write(lambda tx: delete_records(tx, "dog", [1]), user="bob")
    nodes.exchange()
    (conflict,) = conflicts(nodes.a)
    assert conflict.winner.is_known
    assert (conflict.winner.record, conflict.winner.user) == (None, "bob")


def test_what_had_been_seen_is_not_among_them(nodes: Nodes) -> None:
    write(nodes.a, 1)
    nodes.exchange()
    nodes.b.now_us = nodes.a.now_us
    write(nodes.b, 1)
    nodes.exchange()
    assert conflicts(nodes.a) == conflicts(nodes.b) == []


def test_the_newest_come_first(nodes: Nodes) -> None:
    quarrel(nodes, 1, 2, 3)
    assert keys(nodes.a) == [3, 2, 1]


def test_they_are_found_by_table_key_and_time(nodes: Nodes) -> None:
    quarrel(nodes, 1, 2)
    quarrel(nodes, 1, table="cat")
    assert [(c.table, c.key) for c in conflicts(nodes.a, table="dog")] == [("dog", 2), ("dog", 1)]
    assert [(c.table, c.key) for c in conflicts(nodes.a, stored_key=stored_key_of(1))] == [("cat", 1), ("dog", 1)]
    assert conflicts(nodes.a, table="dog", stored_key=stored_key_of("ghost")) == []
    _, second, first = (conflict.decided_at for conflict in conflicts(nodes.a))
    assert [c.key for c in conflicts(nodes.a, committed_from=first, committed_before=second)] == [1]
    assert [c.decided_at for c in conflicts(nodes.a, committed_before=second + 1)] == [second, first]


@pytest.mark.parametrize(("limit", "examined_max"), [(1, 1000), (2, 1000), (100, 1), (100, 3)])
def test_pages_are_the_whole_list_in_order(nodes: Nodes, limit: int, examined_max: int) -> None:
    quarrel(nodes, *range(5))
    whole = places(nodes.a).places
    found: list[ConflictPlace] = []
    before = None
    for _ in range(1000):
        page, before = places(nodes.a, before=before, limit=limit, examined_max=examined_max)
        found += page
        if before is None:
            break
    assert found == whole
    assert len(whole) == 5


def test_all_conflicts_of_an_entry_are_on_one_page(nodes: Nodes) -> None:
    records = [{"id": key} for key in range(4)]
    nodes.a.put("dog", *records)
    nodes.b.now_us = nodes.a.now_us
    nodes.b.put("dog", *records)
    nodes.exchange()
    assert len(places(nodes.a, limit=1).places) == 4


def test_an_empty_log_has_none(tmp_path: Path) -> None:
    opened = Opened.at(tmp_path / "empty")
    assert places(opened) == ([], None)
    opened.close()


def trim_to_last_conflict(node: Opened) -> None:
    last = places(node).places[0].lseq
    limit = last - 1
    node.maintain(partial(trim_log, before_us=node.now_us + 1, limit=limit))
    with node.database.read() as tx:
        assert tx.log.first() == last


def test_a_write_whose_entry_is_gone_has_only_its_stamp(nodes: Nodes) -> None:
    quarrel(nodes, 1)
    trim_to_last_conflict(nodes.a)
    (conflict,) = conflicts(nodes.a)
    assert conflict.winner.is_known
    assert not conflict.loser.is_known
    assert (conflict.loser.user, conflict.loser.record) == (None, None)
    assert conflict.loser.stamp.node == "a"


def test_a_place_that_was_trimmed_meanwhile_is_left_out(nodes: Nodes) -> None:
    quarrel(nodes, 1)
    found = places(nodes.a).places
    write(nodes.a, 2)
    nodes.a.maintain(partial(trim_log, before_us=nodes.a.now_us + 1))
    with nodes.a.database.read() as tx:
        assert list(read_conflicts(tx, found)) == []


def test_history_that_was_deleted_tells_of_no_conflict(nodes: Nodes) -> None:
    quarrel(nodes, 1)
    found = places(nodes.a).places
    table_id = nodes.a.table("dog").id
    nodes.a.now_us += 1
    nodes.a.maintain(partial(hide_history, table_id=table_id, before_us=nodes.a.now_us))
    assert conflicts(nodes.a) == []
    with nodes.a.database.read() as tx:
        assert list(read_conflicts(tx, found)) == []
    nodes.a.maintain(partial(reduce_history, table_id=table_id, may_trim=lambda origin, oseq: True))
    assert conflicts(nodes.a) == []
    quarrel(nodes, 2)
    assert keys(nodes.a) == [2]


def test_a_write_before_the_deleted_part_ends_is_not_shown_by_a_later_conflict(nodes: Nodes) -> None:
    write(nodes.a, 1, secret="x")
    nodes.b.now_us = nodes.a.now_us
    write(nodes.b, 1)
    nodes.a.now_us += 1_000_000
    nodes.a.maintain(partial(hide_history, table_id=nodes.a.table("dog").id, before_us=nodes.a.now_us))
    send(nodes.b, nodes.a)
    (conflict,) = conflicts(nodes.a)
    assert not conflict.loser.is_known


def test_conflicts_of_a_dropped_table_are_not_those_of_its_successor(nodes: Nodes) -> None:
    quarrel(nodes, 1)
    nodes.a.write(lambda tx: tx.drop_table(tx.table("dog")))
    assert conflicts(nodes.a) == []
    nodes.a.create_table("dog")
    assert conflicts(nodes.a) == []


def test_of_a_restatement_the_first_writer_is_told_and_no_user(nodes: Nodes) -> None:
    write(nodes.a, 1, user="ann", by="a")
    nodes.b.now_us = nodes.a.now_us
    write(nodes.b, 1, user="bob", by="b")
    skip(nodes.b, nodes.a)
    nodes.b.write(lambda tx: tx.restate(tx.table("dog"), stored_key_of(1)), user="operator")
    send(nodes.b, nodes.a)
    (conflict,) = conflicts(nodes.a)
    assert (conflict.winner.user, (conflict.winner.record or {})["by"]) == (None, "b")
    assert conflict.winner.stamp == versions_of(nodes.b, "dog")[stored_key_of(1)][0]
