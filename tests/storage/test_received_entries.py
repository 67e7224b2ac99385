"""Entries of one database applied to another."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import codec
from storage.checker import check_database
from storage.entry import encode_travelling
from storage.received_entries import Applied, Received, ReceivedEntry, ReceivedSkip, apply_received, read_received
from storage.schema import Attribute
from tests.storage.opened import Opened


class Pair:
    """Two databases of two nodes."""

    def __init__(self, folder: Path) -> None:
        self.a = Opened.at(folder / "a", node="a")
        self.b = Opened.at(folder / "b", node="b")

    def close(self) -> None:
        for side in (self.a, self.b):
            assert check_database(side.environment, now_ms=side.now_us // 1000) == []
            side.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def own_entries(side: Opened, after: int = 0) -> list[ReceivedEntry]:
    """What ``side`` has for others, through the form in which it travels."""
    with side.database.read() as tx:
        return [
            read_received(encode_travelling(entry.header.raw, entry.payload))
            for entry in tx.log.read_from()
            if entry.header.oseq > after and entry.header.origin == side.environment.origin
        ]


def apply(side: Opened, items: list[Received]) -> Applied:
    applied: Applied = side.maintain(partial(apply_received, items=items, now_us=side.now_us))
    return applied


def state_of(side: Opened, table: str) -> bytes:
    with side.database.read() as tx:
        return tx.state_digest(tx.table(table))


def test_a_replica_holds_the_same_rows_indexes_and_digest(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1, "name": "Rex", "tags": ["big", "old"]}, {"id": 2, "name": "Bo"})
    pair.a.put("dog", {"id": 1, "name": "Max"})
    pair.a.delete("dog", 2)
    applied = apply(pair.b, own_entries(pair.a))
    assert not applied.stopped
    assert pair.b.all("dog") == pair.a.all("dog")
    assert pair.b.index("dog", "name") == pair.a.index("dog", "name")
    assert state_of(pair.b, "dog") == state_of(pair.a, "dog")


def test_what_comes_twice_changes_nothing(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1, "name": "Rex"})
    apply(pair.b, own_entries(pair.a))
    with pair.b.database.read() as tx:
        before = tx.head().lseq
    applied = apply(pair.b, own_entries(pair.a))
    assert applied.entries == 0
    with pair.b.database.read() as tx:
        assert tx.head().lseq == before


def test_a_gap_stops_its_origin_and_no_other(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1})
    pair.a.put("dog", {"id": 2})
    entries = own_entries(pair.a)
    applied = apply(pair.b, [entries[0], *entries[2:]])
    assert applied.positions == {pair.a.environment.origin: entries[0].header.oseq}
    assert applied.stopped[pair.a.environment.origin][0] == "gap"


def test_an_entry_for_an_unknown_table_waits_for_its_definition(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1})
    pair.b.create_table("cat")
    pair.b.put("cat", {"id": 1})
    entries = own_entries(pair.b)
    apply(pair.a, [entries[0]])
    pair.a.maintain(lambda state: None)
    stray = Opened.at(pair.a.environment.path.parent / "c", node="c")
    applied = apply(
        stray, [ReceivedSkip(origin=entries[0].header.origin, first=1, last=1, chain=entries[0].header.chain)]
    )
    assert not applied.stopped
    applied = apply(stray, list(entries[1:]))
    assert applied.stopped[pair.b.environment.origin][0] == "unknown table"
    stray.close()


def test_a_changed_payload_is_refused(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1, "name": "Rex"})
    *before, last = own_entries(pair.a)
    damaged = ReceivedEntry(header=last.header, payload=last.payload.replace(b"Rex", b"Max"))
    applied = apply(pair.b, [*before, damaged])
    assert applied.stopped[pair.a.environment.origin][0] == "corrupt"
    assert pair.b.all("dog") == []


def test_an_entry_of_another_chain_is_refused(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1})
    first, second = own_entries(pair.a)[:2]
    other = ReceivedSkip(origin=first.header.origin, first=1, last=1, chain=bytes(16))
    applied = apply(pair.b, [other, second])
    assert applied.stopped[pair.a.environment.origin][0] == "chain"


def test_writes_of_both_that_had_not_seen_each_other_are_a_conflict(pair: Pair) -> None:
    pair.a.create_table("dog", Attribute(name="id", is_primary_key=True), Attribute(name="name"))
    apply(pair.b, own_entries(pair.a))
    pair.a.put("dog", {"id": 1, "name": "of a"})
    pair.b.now_us = pair.a.now_us + 1
    pair.b.put("dog", {"id": 1, "name": "of b"})
    at_a, at_b = apply(pair.a, own_entries(pair.b)), apply(pair.b, own_entries(pair.a))
    assert at_a.conflicts == at_b.conflicts == {"dog": 1}
    assert pair.a.record("dog", 1)["name"] == pair.b.record("dog", 1)["name"] == "of b"
    assert state_of(pair.a, "dog") == state_of(pair.b, "dog")


def test_an_update_of_what_was_seen_is_no_conflict(pair: Pair) -> None:
    pair.a.create_table("dog", Attribute(name="id", is_primary_key=True), Attribute(name="name"))
    pair.a.put("dog", {"id": 1, "name": "first"})
    apply(pair.b, own_entries(pair.a))
    pair.b.put("dog", {"id": 1, "name": "second"})
    assert apply(pair.a, own_entries(pair.b)).conflicts == {}


def test_an_unknown_kind_of_write_waits_for_a_newer_version(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1})
    *before, last = own_entries(pair.a)
    writes = codec.decode(last.payload)
    writes[0]["op"] = "stir"
    stirred = ReceivedEntry(header=last.header, payload=codec.encode(writes), is_reduced=True)
    applied = apply(pair.b, [*before, stirred])
    assert applied.stopped[pair.a.environment.origin][0] == "needs newer version"


def test_a_dropped_table_is_not_brought_back_by_data_or_old_definitions(pair: Pair) -> None:
    pair.a.create_table("dog")
    pair.a.put("dog", {"id": 1})
    apply(pair.b, own_entries(pair.a))
    pair.b.now_us = pair.a.now_us
    pair.b.write(lambda tx: tx.drop_table(tx.table("dog")))
    pair.a.put("dog", {"id": 2})
    applied = apply(pair.b, own_entries(pair.a))
    assert not applied.stopped
    with pair.b.database.read() as tx:
        assert "dog" not in tx.schema().tables


steps = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(("put", "delete", "sync")), st.integers(0, 3), st.integers(-2, 2)),
    max_size=25,
)


@given(steps=steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_replicas_agree_whatever_the_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int, int]]
) -> None:
    pair = Pair(tmp_path_factory.mktemp("pair"))
    pair.a.create_table("dog")
    apply(pair.b, own_entries(pair.a))
    sides = {"a": (pair.a, pair.b), "b": (pair.b, pair.a)}
    for number, (who, what, key, drift) in enumerate(steps):
        side, other = sides[who]
        side.now_us += drift * 1500
        if what == "put":
            side.put("dog", {"id": key, "from": who, "number": number})
        elif what == "delete":
            side.delete("dog", key)
        else:
            apply(side, own_entries(other))
    apply(pair.a, own_entries(pair.b))
    apply(pair.b, own_entries(pair.a))
    assert pair.a.all("dog") == pair.b.all("dog")
    assert state_of(pair.a, "dog") == state_of(pair.b, "dog")
    pair.close()


def test_a_table_made_anew_after_a_drop_is_incomplete_where_others_may_have_kept_it(pair: Pair) -> None:
    pair.a.create_table("dog")
    apply(pair.b, own_entries(pair.a))
    for side in (pair.a, pair.b):
        side.write(lambda tx: tx.drop_table(tx.table("dog")))
        side.create_table("dog")
    assert pair.a.table("dog").complete, "nobody else has written to this database yet"
    assert not pair.b.table("dog").complete
