"""Records that some nodes hold in full: what each node keeps of them, and writes where they are not held."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import codec
from storage.conditions import Comparator, Condition, Query
from storage.elsewhere import Elsewhere, Stamps, Version, elsewhere, logged_version, residents_of
from storage.entry import NO_CHAIN, Origin, encode_header, encode_travelling
from storage.errors import RecordsElsewhere
from storage.maintenance import alone, expire_rows, trim_log
from storage.query import Search
from storage.received_entries import apply_received, read_received
from storage.record import RESIDENCY_BYTES_MAX, Row
from storage.schema import Attribute
from storage.table_writes import delete_records, write_records
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.storage.exchange import Nodes, digest_of, send
from tests.storage.opened import Opened

ATTRIBUTES = (
    Attribute(name="id", is_primary_key=True),
    Attribute(name="name", indexed=True),
    Attribute(name="text"),
    Attribute(name="made", type="Date", assigned_created_time=True),
)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path, "abc")
    made.a.create_table("cat", *ATTRIBUTES)
    made.exchange()
    yield made
    made.close()


def put(node: Opened, key: Any, *residents: str, **values: Any) -> None:
    node.put("cat", {"id": key, "name": "Tom", "text": "long", **values}, choose_residents=lambda _: residents)


def row_of(node: Opened, key: Any) -> Row:
    with node.database.read() as tx:
        row = tx.row(tx.table("cat"), stored_key_of(key))
    assert row is not None
    return row


def place_of(node: Opened, key: Any) -> Elsewhere:
    with node.database.read() as tx:
        return elsewhere(Stamps(tx), tx.table("cat"), stored_key_of(key), row_of(node, key))


def version_of(node: Opened, key: Any) -> Version:
    with node.database.read() as tx:
        row = row_of(node, key)
        return Version(Stamps(tx).of(row), tx.record(tx.table("cat"), row))


def update(node: Opened, *records: dict[str, Any], fetched: Mapping[bytes, Version] | None = None) -> None:
    node.write(lambda tx: write_records(tx, "cat", records, "update", fetched=fetched or {}))


def last_write(node: Opened) -> dict[str, Any]:
    with node.database.read() as tx:
        entry = next(tx.log.read_before())
        return entry.writes()[-1]


# -- what is kept -------------------------------------------------------------------------------------------------------


def test_residents_keep_the_record_and_the_others_what_is_indexed(nodes: Nodes) -> None:
    put(nodes.a, 1, "a", "b")
    nodes.exchange()
    a, b, c = (row_of(node, 1) for node in nodes.all.values())
    assert a.value == b.value
    assert [row.is_resident for row in (a, b, c)] == [True, True, False]
    assert c.decode() == {"id": 1, "name": "Tom"}
    assert [residents_of(row) for row in (a, b, c)] == [("a", "b")] * 3


def test_who_accepts_a_write_that_it_does_not_hold_has_it_whole_in_its_log(nodes: Nodes) -> None:
    put(nodes.a, 1, "b", "c")
    assert row_of(nodes.a, 1).decode() == {"id": 1, "name": "Tom"}
    assert codec.decode(last_write(nodes.a)["v"])["text"] == "long"
    place = place_of(nodes.a, 1)
    with nodes.a.database.read() as tx:
        version = logged_version(tx, "cat", place)
    assert version is not None
    assert (version.stamp, version.record["text"]) == (place.stamp, "long")
    nodes.exchange()
    assert row_of(nodes.b, 1).decode()["text"] == "long"


def test_the_log_may_know_nothing_of_it_any_more(nodes: Nodes) -> None:
    put(nodes.a, 1, "b")
    put(nodes.a, 2)
    nodes.a.maintain(lambda state: trim_log(state, before_us=nodes.a.now_us, may_trim=alone))
    with nodes.a.database.read() as tx:
        assert logged_version(tx, "cat", place_of(nodes.a, 1)) is None


def test_those_who_hold_a_record_go_on_to_do_so(nodes: Nodes) -> None:
    put(nodes.a, 1, "a")
    update(nodes.a, {"id": 1, "text": "new"})
    assert last_write(nodes.a)["r"] == ["a"]


def test_a_choice_is_told_who_holds_the_record_now(nodes: Nodes) -> None:
    told: list[Any] = []

    def choose(existing: tuple[str, ...] | None) -> tuple[str, ...]:
        told.append(existing)
        return ("a",) if existing is None else ()

    for key in (1, 1, 1):
        nodes.a.put("cat", {"id": key}, choose_residents=choose)
    nodes.a.delete("cat", 1)
    nodes.a.put("cat", {"id": 1}, choose_residents=choose)
    assert told == [None, ("a",), (), None]


def test_records_of_a_local_table_have_no_residency(nodes: Nodes) -> None:
    nodes.a.create_table("own", replicate=False)
    nodes.a.put("own", {"id": 1, "text": "long"}, choose_residents=lambda _: ("b",))
    assert nodes.a.record("own", 1)["text"] == "long"


def test_an_expired_record_leaves_a_plain_tombstone(nodes: Nodes) -> None:
    nodes.a.put("cat", {"id": 1}, expires_at_ms=nodes.a.now_us // 1000 + 10, choose_residents=lambda _: ("b",))
    nodes.exchange()
    nodes.a.now_us += 20_000
    assert nodes.a.maintain(lambda state: expire_rows(state, now_ms=nodes.a.now_us // 1000)) == 1


def test_a_residency_too_long_to_store_stops_its_origin(nodes: Nodes) -> None:
    origin = Origin("z", "store")
    names = ["n" * RESIDENCY_BYTES_MAX]
    payload = codec.encode([{"t": "cat", "op": "put", "k": 1, "v": codec.encode({"id": 1}), "r": names}])
    header, _ = encode_header(
        origin=origin, oseq=1, ts=1, kind="tx", user=None, operation=None, payload=payload, previous_chain=NO_CHAIN
    )
    entry = read_received(encode_travelling(header, payload))
    applied = nodes.b.maintain(lambda state: apply_received(state, [entry], now_us=nodes.b.now_us))
    assert applied.stopped == {origin: ("corrupt", "expiry or residency of an entry is damaged")}


# -- writes where it is not held ----------------------------------------------------------------------------------------


def test_an_update_names_all_records_that_it_lacks(nodes: Nodes) -> None:
    for key in (1, 2, 3):
        put(nodes.a, key, *(("a",) if key < 3 else ()))
    nodes.exchange()
    before = row_of(nodes.all["c"], 1)
    with pytest.raises(RecordsElsewhere) as raised:
        update(nodes.all["c"], *({"id": key, "name": "Kit"} for key in (1, 2, 3)))
    assert raised.value.stored_keys == (stored_key_of(1), stored_key_of(2))
    assert row_of(nodes.all["c"], 1) == before
    assert nodes.all["c"].record("cat", 3)["name"] == "Tom"


def test_an_update_changes_the_record_that_was_fetched(nodes: Nodes) -> None:
    put(nodes.a, 1, "a")
    nodes.exchange()
    made = version_of(nodes.a, 1).record["made"]
    update(nodes.all["c"], {"id": 1, "name": "Kit"}, fetched={stored_key_of(1): version_of(nodes.a, 1)})
    assert not row_of(nodes.all["c"], 1).is_resident
    nodes.exchange()
    assert nodes.a.record("cat", 1) == {"id": 1, "name": "Kit", "text": "long", "made": made}


def test_what_was_fetched_counts_only_while_it_is_the_version_here(nodes: Nodes) -> None:
    put(nodes.a, 1, "a")
    old = version_of(nodes.a, 1)
    put(nodes.a, 1, "a", name="newer")
    nodes.exchange()
    with pytest.raises(RecordsElsewhere):
        update(nodes.all["c"], {"id": 1, "text": "new"}, fetched={stored_key_of(1): old})


def test_a_delete_and_an_insert_need_not_have_it(nodes: Nodes) -> None:
    put(nodes.a, 1, "a")
    put(nodes.a, 2, "a")
    nodes.exchange()
    nodes.all["c"].delete("cat", 1)
    assert nodes.all["c"].put("cat", {"id": 2, "name": "Kit"}, mode="insert").skipped == [2]
    nodes.exchange()
    assert nodes.a.ids("cat") == [2]


# -- searches -----------------------------------------------------------------------------------------------------------


def test_a_search_finds_by_the_index_or_leaves_out_what_is_elsewhere(nodes: Nodes) -> None:
    put(nodes.a, 1, "a")
    put(nodes.a, 2)
    nodes.exchange()
    query = Query(where=Condition(attribute="name", comparator=Comparator.EQUALS, value="Tom"), limit=1)
    for whole_only, found in ((False, [1]), (True, [2])):
        page = Search(nodes.all["c"].database, "cat", query, whole_only=whole_only).next_page()
        assert page is not None
        assert [record["id"] for _, record, _ in page] == found


# -- agreement ----------------------------------------------------------------------------------------------------------

residencies = st.sampled_from([(), ("a",), ("b",), ("a", "b"), ("b", "c"), ("a", "b", "c")])
steps = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(("put", "delete", "send")),
        st.integers(0, 2),
        residencies,
        st.integers(-2, 2),
    ),
    max_size=25,
)


@given(steps=steps)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_residents_agree_whatever_the_order_in_which_they_hear(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int, tuple[str, ...], int]]
) -> None:
    nodes = Nodes(tmp_path_factory.mktemp("nodes"), "abc")
    nodes.a.create_table("cat", *ATTRIBUTES)
    nodes.exchange()
    for number, (name, kind, key, residents, ahead) in enumerate(steps):
        node = nodes.all[name]
        node.now_us += ahead * 1000
        if kind == "send":
            for other in nodes.all.values():
                if other is not node:
                    send(node, other)
        elif kind == "delete":
            node.write(lambda tx, key=key: delete_records(tx, "cat", [key]))
        else:
            node.write(lambda tx, key=key, number=number, residents=residents: replace(tx, key, number, residents))
    nodes.exchange()
    assert len({digest_of(node, "cat") for node in nodes.all.values()}) == 1
    for key in range(3):
        check_residents(nodes, key)
    nodes.close()


def replace(tx: WriteTransaction, key: int, number: int, residents: tuple[str, ...]) -> None:
    """Write the whole record, whatever is there."""
    record = {"id": key, "name": f"name {number}", "text": f"text {number}"}
    tx.put(tx.table("cat"), key, stored_key_of(key), record, choose_residents=lambda _: residents)


def check_residents(nodes: Nodes, key: int) -> None:
    records = {name: node.get("cat", key) for name, node in nodes.all.items()}
    if None in records.values():
        assert set(map(repr, records.values())) == {"None"}
        return
    rows = {name: row_of(node, key) for name, node in nodes.all.items()}
    (residents,) = {residents_of(row) for row in rows.values()}
    assert {name for name, row in rows.items() if row.is_resident} == set(residents or "abc")
    whole = {row.value for row in rows.values() if row.is_resident}
    assert len(whole) == 1
    record = codec.decode(whole.pop())
    for row in rows.values():
        assert row.is_resident or row.decode() == {"id": key, "name": record["name"]}


def test_the_log_keeps_an_entry_that_may_not_be_dropped_and_all_behind_it(nodes: Nodes) -> None:
    put(nodes.a, 1)
    put(nodes.a, 2, "b")
    put(nodes.a, 3)
    kept = last_entry_with(nodes.a, 2)
    nodes.a.maintain(
        lambda state: trim_log(
            state, before_us=nodes.a.now_us, may_trim=alone, may_drop=lambda entry: entry.lseq != kept
        )
    )
    with nodes.a.database.read() as tx:
        assert tx.log.first() == kept


def last_entry_with(side: Opened, key: int) -> int:
    """The ``lseq`` of the newest entry that wrote this record."""
    with side.database.read() as tx:
        return next(
            entry.lseq
            for entry in tx.log.read_before()
            if entry.header.kind == "tx" and any(write["k"] == key for write in entry.writes())
        )
