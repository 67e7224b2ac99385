import errno
import random
from datetime import UTC, datetime
from functools import partial
from typing import Any

import lmdb
import pytest

from storage import codec
from storage.checker import check_database
from storage.entry import Stamp
from storage.errors import (
    AttributeExists,
    ClockUnset,
    Corrupt,
    DiskFailed,
    InvalidKey,
    InvalidValue,
    MapFull,
    SchemaConflict,
    TableExists,
    TableNotFound,
    TooManyTables,
    TransactionTooLarge,
)
from storage.record import decode_row
from storage.schema import Attribute, Definition, dynamic_attributes
from storage.table_writes import delete_records, write_records
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.storage.opened import START_US, Opened, put_dog

DAY_US = 86_400_000_000


def log_of(opened: Opened) -> list[tuple[int, int, str, list[dict[str, Any]]]]:
    with opened.database.read() as tx:
        return [(e.lseq, e.header.oseq, e.header.kind, e.writes()) for e in tx.log.read_from()]


def raw_row(opened: Opened, table: str, key: Any, *, tombstone: bool = False) -> Any:
    with opened.database.read() as tx:
        found = tx.table(table)
        number = found.tombstones_id if tombstone else found.rows_id
        data = tx.txn.get(stored_key_of(key), db=opened.environment.handles[f"p{number}"])
        return None if data is None else decode_row(data)


def files(opened: Opened) -> tuple[int, int]:
    """Last LMDB transaction and entry: what a write that does nothing must not move."""
    with opened.database.read() as tx:
        return opened.environment.lmdb.info()["last_txnid"], tx.head().lseq


# -- entries and rows --------------------------------------------------------------------------------------------------


def test_one_transaction_is_one_entry_with_the_bytes_of_the_rows(opened: Opened) -> None:
    opened.put("dog", {"id": 1}, {"id": 2})
    lseq, oseq, kind, writes = log_of(opened)[-1]
    assert (lseq, oseq, kind) == (2, 2, "tx")
    assert [(write["op"], write["k"]) for write in writes] == [("put", 1), ("put", 2)]
    for write in writes:
        row = raw_row(opened, "dog", write["k"])
        assert (row.value, row.lseq, row.oseq) == (write["v"], lseq, oseq)


def test_who_asked_for_what_is_in_the_entry(opened: Opened) -> None:
    opened.write(lambda tx: put_dog(tx, 1), user="ann", operation="insert")
    with opened.database.read() as tx:
        entry = tx.log.entry(2)
    assert entry is not None
    assert (entry.header.user, entry.header.operation, entry.committed_at) == ("ann", "insert", opened.now_us)


def test_a_write_names_what_it_replaced_and_links_to_it(opened: Opened) -> None:
    opened.put("dog", {"id": 1})
    opened.put("dog", {"id": 1})
    before = raw_row(opened, "dog", 1)
    opened.delete("dog", 1)
    with opened.database.read() as tx:
        entry = tx.log.entry(4)
    assert entry is not None
    (write,) = entry.writes()
    assert Stamp(*write["p"]) == Stamp(before.ts, *opened.environment.origin, before.oseq)
    assert entry.previous == (3,)


def test_transactions_of_one_commit_have_times_of_their_own(opened: Opened) -> None:
    opened.write_all([partial(put_dog, key=key) for key in range(3)])
    times = [raw_row(opened, "dog", key).ts for key in range(3)]
    assert times == [opened.now_us, opened.now_us + 1, opened.now_us + 2]


def test_a_write_beats_what_it_touches_even_from_a_clock_that_ran_ahead(opened: Opened) -> None:
    opened.now_us = START_US + 30 * DAY_US
    opened.put("dog", {"id": 1})
    ahead = raw_row(opened, "dog", 1).ts
    opened.now_us = START_US
    opened.put("dog", {"id": 1, "name": "Tilda"})
    assert raw_row(opened, "dog", 1).ts == ahead + 1
    assert opened.record("dog", 1)["name"] == "Tilda"


def test_times_do_not_go_back_with_the_wall_clock(opened: Opened) -> None:
    opened.put("dog", {"id": 1})
    opened.now_us = START_US - DAY_US
    opened.put("dog", {"id": 2})
    assert raw_row(opened, "dog", 2).ts == raw_row(opened, "dog", 1).ts + 1


def test_a_machine_without_a_set_clock_writes_nothing(opened: Opened) -> None:
    opened.now_us = 1_000_000
    with pytest.raises(ClockUnset):
        opened.write(lambda tx: put_dog(tx, 1))
    opened.now_us = START_US
    assert opened.ids("dog") == []


# -- reading what was staged -------------------------------------------------------------------------------------------


def test_a_transaction_sees_what_it_staged(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"})

    def function(tx: WriteTransaction) -> list[Any]:
        table = tx.table("dog")
        seen: list[Any] = []
        delete_records(tx, "dog", [1])
        seen.append(tx.record(table, stored_key_of(1)))
        seen.append(tx.exists(table, stored_key_of(1)))
        put_dog(tx, 1, age=3)
        seen.append(dict(tx.record(table, stored_key_of(1)) or {}))
        return seen

    assert opened.write(function) == [None, False, {"id": 1, "age": 3}]
    record = opened.get("dog", 1)
    assert record is not None
    assert "name" not in record


def test_several_writes_of_a_record_are_one_in_the_entry(opened: Opened) -> None:
    def function(tx: WriteTransaction) -> None:
        put_dog(tx, 1, a=1)
        put_dog(tx, 1, b=2)
        delete_records(tx, "dog", [2])
        put_dog(tx, 2, c=3)

    opened.write(function)
    assert [(write["op"], write["k"]) for write in log_of(opened)[-1][3]] == [("put", 1), ("put", 2)]
    assert opened.record("dog", 1).items() >= {"a": 1, "b": 2}.items()


def test_the_changed_attributes_of_all_writes_of_a_record_are_told(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "a": 0, "b": 0, "c": 0})

    def function(tx: WriteTransaction) -> None:
        write_records(tx, "dog", [{"id": 1, "a": 1}, {"id": 1, "b": 2}], "update")

    opened.write(function)
    assert log_of(opened)[-1][3][0]["a"] == ["a", "b"]


def test_a_transaction_that_changes_nothing_leaves_no_trace(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "age": 3})
    before = files(opened)
    assert opened.put("dog", {"id": 1, "age": 9}, mode="insert").skipped == [1]
    opened.write(lambda tx: None)
    assert files(opened) == before


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_refused_transaction_leaves_no_trace(opened: Opened) -> None:
    before = files(opened)

    def function(tx: WriteTransaction) -> None:
        tx.create_table(Definition(name="cat", primary_key="id", attributes=dynamic_attributes("id")))
        put_dog(tx, 1, colour="red")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        opened.write(function)
    assert files(opened) == before
    with pytest.raises(TableNotFound):
        opened.table("cat")
    assert "colour" not in opened.table("dog").attributes


def test_a_refused_transaction_does_not_touch_those_that_share_its_commit(opened: Opened) -> None:
    def failing(tx: WriteTransaction) -> None:
        put_dog(tx, 2, colour="red")
        raise ValueError("no")

    outcomes = opened.write_all([lambda tx: put_dog(tx, 1, size=1), failing, lambda tx: put_dog(tx, 3, size=3)])
    assert [type(outcome.error) for outcome in outcomes] == [type(None), ValueError, type(None)]
    assert opened.ids("dog") == [1, 3]
    assert "colour" not in opened.table("dog").attributes


def test_an_entry_that_is_too_large_is_refused_before_anything_is_written(folder: Any) -> None:
    opened = Opened.at(folder, entry_bytes_max=10_000)
    opened.create_table("dog")
    with pytest.raises(TransactionTooLarge, match=r"Transaction of \d+ bytes is larger than replication.maxPayload"):
        opened.put("dog", {"id": 1, "text": "x" * 10_000})
    opened.put("dog", {"id": 2})
    assert opened.ids("dog") == [2]
    opened.close()


@pytest.mark.parametrize("key", [None, True, [], {}, float("nan"), "x" * 2000])
def test_a_key_that_is_none_is_refused(opened: Opened, key: Any) -> None:
    if key is None:
        opened.put("dog", {"name": "a key is generated"})
    else:
        with pytest.raises(InvalidKey):
            opened.put("dog", {"id": 1}, {"id": key})
    assert len(opened.ids("dog")) == (1 if key is None else 0)


def test_a_record_that_could_not_be_read_again_is_refused(opened: Opened) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidValue, match="nested deeper"):
        opened.put("dog", {"id": 1, "deep": deep})
    assert opened.ids("dog") == []


def test_one_write_too_large_for_the_map_does_not_fail_the_others(folder: Any) -> None:
    opened = Opened.at(folder, map_size_bytes=2 << 20)
    opened.create_table("dog")
    huge = "x" * (3 << 20)
    outcomes = opened.write_all(
        [
            lambda tx: put_dog(tx, 1, a=1),
            lambda tx: put_dog(tx, 2, text=huge, b=1),
            lambda tx: put_dog(tx, 3, a=2, c=1),
        ]
    )
    assert [type(outcome.error) for outcome in outcomes] == [type(None), MapFull, type(None)]
    assert opened.ids("dog") == [1, 3]
    opened.put("dog", {"id": 4, "b": 1, "d": 1})
    assert {"a", "b", "c", "d"} <= opened.table("dog").index_ids.keys()
    opened.close()
    assert check_database(folder) == []


def test_a_full_map_says_how_large_it_is(folder: Any) -> None:
    opened = Opened.at(folder, map_size_bytes=1 << 20)
    opened.create_table("dog")
    with pytest.raises(MapFull, match="its map of 1048576 bytes is full"):
        opened.put("dog", {"id": 1, "text": "x" * (2 << 20)})
    opened.close()


def test_a_damaged_row_fails_the_writes_that_meet_it_and_no_others(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"}, {"id": 2})
    handle = opened.environment.handles[f"p{opened.table('dog').rows_id}"]
    with opened.environment.lmdb.begin(write=True) as txn:
        whole = txn.get(stored_key_of(1), db=handle)
        txn.put(stored_key_of(1), whole[:40], db=handle)
    outcomes = opened.write_all([lambda tx: put_dog(tx, 1, name="x"), lambda tx: put_dog(tx, 3)])
    assert [type(outcome.error) for outcome in outcomes] == [Corrupt, type(None)]
    opened.put("dog", {"id": 4})
    with opened.environment.lmdb.begin(write=True) as txn:
        txn.put(stored_key_of(1), whole, db=handle)
    assert opened.ids("dog") == [1, 2, 3, 4]


def test_after_a_failed_sync_nothing_is_written_any_more(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        error = lmdb.Error("mdb_txn_commit: Input/output error")
        vars(error)["code"] = errno.EIO
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(opened.environment, "commit", fail)
        outcomes = opened.write_all([lambda tx: put_dog(tx, 1), lambda tx: put_dog(tx, 2)])
    assert [type(outcome.error) for outcome in outcomes] == [DiskFailed, DiskFailed]
    assert outcomes[0].error is not outcomes[1].error
    errors = []
    for _ in range(2):
        with pytest.raises(DiskFailed, match="Input/output error") as caught:
            opened.write(lambda tx: put_dog(tx, 3))
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert opened.ids("dog") == []


# -- deletes -----------------------------------------------------------------------------------------------------------


def test_a_delete_leaves_a_tombstone_with_the_key(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"})
    opened.delete("dog", 1)
    assert raw_row(opened, "dog", 1) is None
    tombstone = raw_row(opened, "dog", 1, tombstone=True)
    assert (tombstone.decode(), tombstone.lseq) == (1, 4)
    assert opened.index("dog", "name") == []


def test_a_delete_of_a_record_that_is_not_here_is_logged(opened: Opened) -> None:
    opened.delete("dog", 7)
    assert [(write["op"], write["k"]) for write in log_of(opened)[-1][3]] == [("delete", 7)]
    assert raw_row(opened, "dog", 7, tombstone=True).decode() == 7


def test_a_record_that_comes_back_takes_its_tombstone_away(opened: Opened) -> None:
    opened.put("dog", {"id": 1})
    opened.delete("dog", 1)
    opened.put("dog", {"id": 1})
    assert raw_row(opened, "dog", 1, tombstone=True) is None
    assert [e[3][0].get("p") is not None for e in log_of(opened)[1:]] == [False, True, True]


# -- expiry ------------------------------------------------------------------------------------------------------------


def expiries(opened: Opened) -> list[tuple[int, bytes]]:
    with opened.database.read() as tx, tx.txn.cursor(db=opened.environment.handles["expiry"]) as cursor:
        return [(int.from_bytes(key[:8]), value) for key, value in cursor]


def test_an_expired_record_counts_as_absent_for_writes(opened: Opened) -> None:
    now_ms = opened.now_us // 1000
    opened.put("dog", {"id": 1, "name": "old", "size": 3}, expires_at_ms=now_ms + 5)
    opened.now_us += 60_000_000
    assert opened.put("dog", {"id": 1}, mode="update").skipped == [1]
    assert opened.put("dog", {"id": 1, "name": "new"}, mode="insert").written == [1]
    record = opened.get("dog", 1)
    assert record is not None
    assert record["name"] == "new"
    assert "size" not in record
    assert record["__createdtime__"] == opened.now_us // 1000
    assert [key for _, key in opened.index("dog", "size")] == []
    assert expiries(opened) == []


def test_an_expired_record_may_be_deleted(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "old"}, expires_at_ms=opened.now_us // 1000 + 5)
    opened.now_us += 60_000_000
    opened.delete("dog", 1)
    assert (opened.index("dog", "name"), expiries(opened)) == ([], [])


def test_a_new_expiry_replaces_the_old_one(opened: Opened) -> None:
    now_ms = opened.now_us // 1000
    for at in (now_ms + 5000, now_ms + 9000, now_ms + 9000):
        opened.put("dog", {"id": 1}, expires_at_ms=at)
    assert expiries(opened) == [(now_ms + 9000, stored_key_of(1))]
    opened.put("dog", {"id": 1})
    assert expiries(opened) == []


def test_a_table_with_an_expiration_gives_every_record_one(opened: Opened) -> None:
    opened.create_table("session", expiration_s=60)
    opened.put("session", {"id": 1})
    assert expiries(opened) == [(opened.now_us // 1000 + 60_000, stored_key_of(1))]
    opened.now_us += 59_998_000
    assert opened.ids("session") == [1]
    opened.now_us += 2000
    assert opened.ids("session") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2_000_000_000_000, 2_000_000_000_000),
        (2_000_000_000_000.9, 2_000_000_000_000),
        (datetime(2033, 5, 18, 3, 33, 20, tzinfo=UTC), 2_000_000_000_000),
        (-5, 0),
        (10.0**300, (1 << 53) - 1),
        (float("inf"), (1 << 53) - 1),
    ],
)
def test_an_attribute_may_say_when_its_record_expires(opened: Opened, value: Any, expected: int) -> None:
    opened.create_table(
        "offer", Attribute(name="id", is_primary_key=True), Attribute(name="until", expires_at=True, indexed=True)
    )
    opened.put("offer", {"id": 1, "until": value})
    assert [at for at, _ in expiries(opened)] == [expected]


@pytest.mark.parametrize("value", [None, "2033-05-18", True, float("nan"), [1], {}])
def test_a_value_that_is_no_instant_sets_no_expiry(opened: Opened, value: Any) -> None:
    opened.create_table("offer", Attribute(name="id", is_primary_key=True), Attribute(name="until", expires_at=True))
    opened.put("offer", {"id": 1, "until": value})
    assert expiries(opened) == []


@pytest.mark.parametrize(("given", "stored"), [(-1, 0), (1 << 70, (1 << 53) - 1)])
def test_an_expiry_outside_of_what_can_be_stored_is_the_nearest_that_can(
    opened: Opened, given: int, stored: int
) -> None:
    opened.put("dog", {"id": 1}, expires_at_ms=given)
    assert [at for at, _ in expiries(opened)] == [stored]


# -- schema ------------------------------------------------------------------------------------------------------------


def test_an_attribute_added_to_a_table_with_records_gets_a_whole_index(opened: Opened) -> None:
    opened.create_table("cat", Attribute(name="id", is_primary_key=True))
    opened.put("cat", *({"id": key, "size": key % 3} for key in range(30)))
    opened.write(lambda tx: tx.add_attribute(tx.table("cat"), Attribute(name="size", indexed=True)))
    assert len(opened.index("cat", "size")) == 30


def test_an_attribute_and_its_first_values_come_in_one_commit(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda", "tags": ["a", "b", "a"]})
    assert [kind for _, _, kind, _ in log_of(opened)] == ["schema", "schema", "tx"]
    assert len(opened.index("dog", "tags")) == 2


def test_a_dropped_attribute_is_neither_seen_nor_indexed_and_may_come_back(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "colour": "red"}, {"id": 2, "colour": "blue"})
    opened.write(lambda tx: tx.drop_attribute(tx.table("dog"), "colour"))
    assert all("colour" not in record for record in opened.all("dog"))
    opened.put("dog", {"id": 2, "colour": "green"})
    assert [record.get("colour") for record in opened.all("dog")] == [None, "green"]
    assert len(opened.index("dog", "colour")) == 1
    assert list(opened.table("dog").attributes)[-1] == "colour"


def test_an_update_does_not_bring_a_dropped_value_back(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "colour": "red", "size": 1})
    opened.write(lambda tx: tx.drop_attribute(tx.table("dog"), "colour"))
    opened.put("dog", {"id": 1, "size": 2}, mode="update")
    record = opened.get("dog", 1)
    assert record is not None
    assert (record["size"], "colour" in record) == (2, False)


def test_a_dropped_table_is_gone_with_all_it_had_and_its_name_is_free(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"}, expires_at_ms=opened.now_us // 1000 + 99_999)
    opened.delete("dog", 2)
    opened.write(lambda tx: tx.drop_table(tx.table("dog")))
    with pytest.raises(TableNotFound):
        opened.table("dog")
    opened.create_table("dog")
    assert (opened.ids("dog"), expiries(opened)) == ([], [])
    opened.put("dog", {"id": 2, "name": "Rex"})
    assert opened.ids("dog") == [2]


def test_sub_databases_of_a_dropped_table_serve_the_next_one_empty(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"})
    old = opened.table("dog")
    opened.write(lambda tx: tx.drop_table(tx.table("dog")))
    opened.create_table("cat")
    new = opened.table("cat")
    assert {new.rows_id, new.tombstones_id} == {old.rows_id, old.tombstones_id}
    assert set(new.index_ids.values()) < set(old.index_ids.values())
    assert new.id > old.id
    assert opened.ids("cat") == []


def test_a_table_cannot_be_created_twice(opened: Opened) -> None:
    with pytest.raises(TableExists):
        opened.create_table("dog")


def test_an_attribute_cannot_be_added_twice(opened: Opened) -> None:
    def twice(tx: WriteTransaction) -> None:
        table = tx.table("dog")
        tx.add_attribute(table, Attribute(name="a", indexed=True))
        tx.add_attribute(table, Attribute(name="a", indexed=True))

    with pytest.raises(AttributeExists):
        opened.write(twice)
    opened.put("dog", {"id": 1, "a": 1})


def test_a_mistake_of_ours_does_not_end_all_writing(opened: Opened) -> None:
    long_name = "x" * 600
    opened.create_table(long_name)
    with pytest.raises(lmdb.BadValsizeError):
        opened.write(lambda tx: tx.drop_table(tx.table(long_name)))
    opened.put("dog", {"id": 1})
    assert opened.ids("dog") == [1]


def test_a_table_cannot_be_dropped_where_it_was_written_or_created_anew(opened: Opened) -> None:
    def write_then_drop(tx: WriteTransaction) -> None:
        put_dog(tx, 1)
        tx.drop_table(tx.table("dog"))

    def drop_then_create(tx: WriteTransaction) -> None:
        tx.drop_table(tx.table("dog"))
        tx.create_table(Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id")))

    for function in (write_then_drop, drop_then_create):
        with pytest.raises(SchemaConflict):
            opened.write(function)
    opened.put("dog", {"id": 1})


def test_a_full_table_of_sub_databases_refuses_cleanly(folder: Any) -> None:
    opened = Opened.at(folder, sub_databases_max=6)
    opened.create_table("dog")
    opened.put("dog", {"id": 1, "a": 1})
    with pytest.raises(TooManyTables, match="Too many tables and indexed attributes in database 'data'"):
        opened.put("dog", {"id": 2, "b": 1, "c": 1})
    with pytest.raises(TooManyTables):
        opened.create_table("cat")
    opened.put("dog", {"id": 3, "b": 1})
    assert opened.ids("dog") == [1, 3]
    opened.write(lambda tx: tx.drop_table(tx.table("dog")))
    opened.create_table("cat")
    opened.close()
    assert check_database(folder) == []


def test_handles_made_in_a_commit_that_failed_are_made_again(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise lmdb.MapFullError("mdb_txn_commit: MDB_MAP_FULL", -30792)

    with monkeypatch.context() as patch:
        patch.setattr(opened.environment, "commit", fail)
        with pytest.raises(MapFull):
            opened.put("dog", {"id": 1, "a": 1, "b": 2})
    assert "a" not in opened.table("dog").attributes
    opened.put("dog", {"id": 1, "b": 2, "c": 3})
    assert opened.table("dog").index_ids.keys() == {"__createdtime__", "__updatedtime__", "b", "c"}
    assert len(opened.index("dog", "b")) == len(opened.index("dog", "c")) == 1


# -- local writes ------------------------------------------------------------------------------------------------------


def test_a_local_write_takes_no_position(opened: Opened) -> None:
    opened.write(lambda tx: put_dog(tx, 1), is_local=True)
    opened.put("dog", {"id": 2})
    assert [(lseq, oseq) for lseq, oseq, _, _ in log_of(opened)] == [(1, 1), (2, 0), (3, 2)]
    assert raw_row(opened, "dog", 1).oseq == 0


def test_writes_of_a_local_table_are_an_entry_of_their_own(opened: Opened) -> None:
    opened.create_table("note", is_local=True)

    def function(tx: WriteTransaction) -> None:
        put_dog(tx, 1)
        write_records(tx, "note", [{"id": 1}], "upsert")

    opened.write(function)
    assert [(oseq, [write["t"] for write in writes]) for _, oseq, _, writes in log_of(opened)[-2:]] == [
        (2, ["dog"]),
        (0, ["note"]),
    ]
    assert raw_row(opened, "note", 1).lseq == raw_row(opened, "dog", 1).lseq + 1


# -- digests -----------------------------------------------------------------------------------------------------------


def digest_of(opened: Opened) -> bytes:
    with opened.database.read() as tx:
        return tx.state_digest(tx.table("dog"))


def test_the_digest_of_a_table_without_visible_rows_is_zero(opened: Opened) -> None:
    assert digest_of(opened) == bytes(16)
    opened.put("dog", {"id": 1}, {"id": 2})
    assert digest_of(opened) != bytes(16)
    opened.delete("dog", 1, 2)
    assert digest_of(opened) == bytes(16)


def test_expiring_and_local_rows_stay_out_of_the_digest(opened: Opened) -> None:
    opened.put("dog", {"id": 1}, expires_at_ms=opened.now_us // 1000 + 60_000)
    opened.write(lambda tx: put_dog(tx, 2), is_local=True)
    assert digest_of(opened) == bytes(16)
    opened.put("dog", {"id": 1}, {"id": 2})
    opened.delete("dog", 1)
    assert digest_of(opened) != bytes(16)
    opened.write(lambda tx: put_dog(tx, 2), is_local=True)
    assert digest_of(opened) == bytes(16)


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_of_writes_keeps_all_invariants(folder: Any, seed: int) -> None:
    chance = random.Random(seed)
    opened = Opened.at(folder, node="n1")
    opened.create_table("dog")
    opened.create_table("typed", Attribute(name="id", is_primary_key=True), Attribute(name="a", indexed=True))
    expected: dict[tuple[str, Any], dict[str, Any]] = {}
    values: list[Any] = [None, True, 1, 1.0, "x", "y" * 600, "y" * 599 + "z", [1, "x", True], {"o": 1}, 2.5, "", b"b"]

    def write_one(tx: WriteTransaction, table: str, key: Any, record: dict[str, Any] | None) -> None:
        if record is None:
            delete_records(tx, table, [key])
        else:
            write_records(tx, table, [{"id": key, **record}], "upsert")

    for _ in range(60):
        functions = []
        for _ in range(chance.randint(1, 4)):
            table = chance.choice(["dog", "typed"])
            key = chance.choice([0, 1, 2, "0", "k" * 600, [1, "a"], 1.5])
            names = chance.sample(["a", "b", "c"], chance.randint(0, 3))
            record = None if chance.random() < 0.3 else {name: chance.choice(values) for name in names}
            functions.append(lambda tx, t=table, k=key, r=record: write_one(tx, t, k, r))
            place = (table, str(key) + type(key).__name__)
            if record is None:
                expected.pop(place, None)
            else:
                expected[place] = {**expected.get(place, {}), **record}
        assert all(outcome.error is None for outcome in opened.write_all(functions))
        if chance.random() < 0.05:
            opened.write(lambda tx: tx.drop_attribute(tx.table("dog"), "b") if "b" in tx.table("dog").attributes else 0)
            for place in expected:
                if place[0] == "dog":
                    expected[place].pop("b", None)
    for table in ("dog", "typed"):
        found = {
            (table, str(record["id"]) + type(record["id"]).__name__): {
                name: value for name, value in record.items() if name in ("a", "b", "c")
            }
            for record in opened.all(table)
        }
        assert codec.encode(sorted(found.items(), key=repr)) == codec.encode(
            sorted(((place, value) for place, value in expected.items() if place[0] == table), key=repr)
        )
    opened.close()
    assert check_database(folder, now_ms=opened.now_us // 1000) == []
