from typing import Any

import pytest

from storage.history import TableEntry, original_record, record_history, table_history
from storage.maintenance import trim_log
from storage.table_writes import write_records
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.storage.opened import Opened, put_dog


@pytest.fixture
def written(opened: Opened) -> Opened:
    """``dog`` 1: inserted, updated, deleted, inserted again; 2: with the first; ``cat`` in between."""
    opened.create_table("cat")
    for operation, write in (
        ("insert", lambda tx: put_dogs(tx, 1, 2)),
        ("upsert", lambda tx: put_cat(tx, 1)),
        ("update", lambda tx: put_dog(tx, 1, n=2)),
        ("delete", lambda tx: tx.delete(tx.table("dog"), 1, stored_key_of(1))),
        ("insert", lambda tx: put_dog(tx, 1, m=3)),
    ):
        opened.now_us += 1_000_000
        opened.write(write, user="ann", operation=operation)
    return opened


def put_dogs(tx: WriteTransaction, *keys: int) -> None:
    for key in keys:
        put_dog(tx, key, n=1)


def put_cat(tx: WriteTransaction, key: Any) -> None:
    write_records(tx, "cat", [{"id": key}], "upsert")


def whole(opened: Opened, table: str = "dog", **options: Any) -> list[TableEntry]:
    with opened.database.read() as tx:
        return list(table_history(tx, tx.table(table), **options))


def of_record(opened: Opened, key: Any, **options: Any) -> list[TableEntry]:
    with opened.database.read() as tx:
        return list(record_history(tx, tx.table("dog"), stored_key_of(key), **options))


def operations(entries: list[TableEntry]) -> list[tuple[str | None, list[Any]]]:
    return [(entry.operation, [change.key for change in entry.changes]) for entry in entries]


ALL = [("insert", [1, 2]), ("update", [1]), ("delete", [1]), ("insert", [1])]


def test_a_tables_history_is_its_transactions_oldest_first(written: Opened) -> None:
    assert operations(whole(written)) == ALL
    assert operations(whole(written, "cat")) == [("upsert", [1])]


def test_a_tables_history_can_be_read_newest_first(written: Opened) -> None:
    assert operations(whole(written, newest_first=True)) == ALL[::-1]


def test_each_entry_says_who_when_and_where(written: Opened) -> None:
    last = whole(written)[-1]
    assert (last.user, last.node, last.committed_at) == ("ann", "n1", written.now_us)
    assert last.ts == written.now_us


def test_a_change_has_the_whole_resulting_record_and_a_delete_none(written: Opened) -> None:
    first, update, delete, again = (entry.changes[0] for entry in whole(written))
    records = [change.record or {} for change in (first, update, delete, again)]
    assert [record.get("n") for record in records] == [1, 2, None, None]
    assert [change.record is None for change in (first, update, delete, again)] == [False, False, True, False]
    assert (first.changed, update.changed, again.changed) == (None, ("n",), None)


def test_times_select_from_on_and_before(written: Opened) -> None:
    times = [entry.committed_at for entry in whole(written)]
    assert operations(whole(written, committed_from=times[1])) == ALL[1:]
    assert operations(whole(written, committed_before=times[1])) == ALL[:1]
    assert operations(whole(written, committed_from=times[1], committed_before=times[3])) == ALL[1:3]


@pytest.mark.parametrize("newest_first", [False, True])
def test_reading_ends_with_the_last_entry_that_may_be_looked_at(written: Opened, newest_first: bool) -> None:
    entries = whole(written, newest_first=newest_first)
    assert whole(written, newest_first=newest_first, through=entries[1].lseq) == entries[:2]
    assert whole(written, newest_first=newest_first, through=entries[0].lseq) == entries[:1]


@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_follow_on_each_other(written: Opened, newest_first: bool) -> None:
    pages: list[tuple[str | None, list[Any]]] = []
    beyond: int | None = None
    while page := whole(written, newest_first=newest_first, limit=1, beyond=beyond):
        assert len(page) == 1
        pages += operations(page)
        beyond = page[-1].lseq
    assert pages == (ALL[::-1] if newest_first else ALL)


def test_a_records_history_is_what_made_it_newest_first(written: Opened) -> None:
    assert operations(of_record(written, 1)) == [(op, [1]) for op, _ in ALL[::-1]]
    assert operations(of_record(written, 2)) == [("insert", [2])]
    assert of_record(written, 77) == []


def test_a_records_history_may_be_limited(written: Opened) -> None:
    assert operations(of_record(written, 1, limit=2)) == [("insert", [1]), ("delete", [1])]
    assert of_record(written, 1, limit=0) == []


def test_a_deleted_record_has_its_history(written: Opened) -> None:
    written.delete("dog", 1)
    assert [entry.operation for entry in of_record(written, 1)] == ["delete", "insert", "delete", "update", "insert"]


def test_a_records_history_ends_where_the_log_does(written: Opened) -> None:
    update = whole(written)[1].lseq
    written.maintain(lambda state: trim_log(state, before_us=written.now_us + 1, limit=update - 1))
    assert [entry.operation for entry in of_record(written, 1)] == ["insert", "delete", "update"]


def test_what_stood_there_before_a_change_can_be_read(written: Opened) -> None:
    with written.database.read() as tx:
        table = tx.table("dog")
        before = [original_record(tx, table, entry.changes[0]) for entry in table_history(tx, table)]
    assert [record and record["n"] for record in before] == [None, 1, 2, None]


def test_what_stood_there_before_is_unknown_once_the_log_has_let_it_go(written: Opened) -> None:
    update = whole(written)[1].lseq
    written.maintain(lambda state: trim_log(state, before_us=written.now_us + 1, limit=update - 1))
    with written.database.read() as tx:
        table = tx.table("dog")
        (first, *_) = table_history(tx, table)
        assert original_record(tx, table, first.changes[0]) is None


def test_an_older_table_of_the_same_name_is_not_this_ones_history(written: Opened) -> None:
    written.write(lambda tx: tx.drop_table(tx.table("dog")))
    written.create_table("dog")
    assert whole(written) == []
    written.put("dog", {"id": 1, "n": 9})
    assert operations(whole(written)) == [("upsert", [1])]
    assert operations(of_record(written, 1)) == [("upsert", [1])]


def test_an_expiry_is_part_of_the_change(opened: Opened) -> None:
    at = opened.now_us // 1000 + 60_000
    opened.put("dog", {"id": 1}, expires_at_ms=at)
    ((change,),) = (entry.changes for entry in whole(opened))
    assert change.expires_at_ms == at


def test_local_writes_are_history_too(opened: Opened) -> None:
    opened.write(lambda tx: put_dog(tx, 1), is_local=True, operation="insert")
    assert operations(whole(opened)) == [("insert", [1])]
