import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from storage.checker import check_database
from storage.data_file import DATA_FILE, STARTS_FILE
from storage.errors import Corrupt, DatabaseExists, DiskFailed, TableNotFound
from storage.history import record_history, table_history
from storage.maintenance import expire_rows
from storage.schema import Attribute
from storage.snapshot import backup_database, backup_tables, restore_database
from storage.transaction import stored_key_of
from tests.storage.opened import Opened


@pytest.fixture
def filled(opened: Opened) -> Opened:
    """Tables ``dog`` and ``cat`` with history, tombstones, long keys, expiry and a dropped attribute."""
    opened.create_table("cat", Attribute(name="id", is_primary_key=True), Attribute(name="a", indexed=True))
    opened.create_table("gone")
    for key in range(40):
        opened.put("dog", {"id": key, "name": f"n{key % 5}", "tags": [key, "x"]})
        opened.put("cat", {"id": str(key), "a": key % 3})
    opened.put("dog", {"id": "k" * 700, "name": "long"}, {"id": 3, "name": "again"})
    opened.put("dog", {"id": 50}, expires_at_ms=opened.now_us // 1000 + 60_000)
    opened.delete("dog", 1, 99)
    opened.put("dog", {"name": "generated"})
    opened.write(lambda tx: tx.drop_attribute(tx.table("dog"), "tags"))
    opened.write(lambda tx: tx.drop_table(tx.table("gone")))
    return opened


def contents(opened: Opened, table: str) -> dict[str, Any]:
    """What clients can find out about a table: description, records in order, every index, count, digest."""
    with opened.database.read(now_ms=opened.now_us // 1000) as tx:
        found = tx.table(table)
        return {
            "definition": found.definition,
            "dropped": found.dropped,
            "records": [(key, tx.record(found, row), row.ts, row.expires_at_ms) for key, row in tx.rows(found)],
            "indexes": {name: list(tx.index_entries(found, name)) for name in found.index_ids},
            "count": tx.record_count(found),
            "digest": tx.state_digest(found),
        }


def tables(opened: Opened) -> set[str]:
    with opened.database.read() as tx:
        return set(tx.schema().tables)


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    (tmp_path / "restored").mkdir()
    return tmp_path / "restored"


@pytest.fixture
def restored(filled: Opened, tmp_path: Path, databases: Path) -> Iterator[Opened]:
    """The whole of ``filled``, backed up and restored."""
    backup_database(filled.database, tmp_path / "backup")
    again = Opened.at(restore_database(tmp_path / "backup", databases, "data"))
    again.now_us = filled.now_us
    yield again
    again.close()
    assert check_database(databases / "data", now_ms=again.now_us // 1000) == []


def test_a_restored_database_answers_as_the_one_that_was_backed_up(filled: Opened, restored: Opened) -> None:
    assert tables(restored) == tables(filled) == {"dog", "cat"}
    for table in ("dog", "cat"):
        assert contents(restored, table) == contents(filled, table)


def test_a_whole_backup_has_the_log(filled: Opened, restored: Opened) -> None:
    with filled.database.read() as left, restored.database.read() as right:
        assert list(left.log.read_from()) == list(right.log.read_from())


def test_a_restored_database_is_a_new_incarnation_and_goes_on(filled: Opened, restored: Opened) -> None:
    assert restored.environment.is_new_incarnation
    assert restored.environment.origin.store != filled.environment.origin.store
    restored.put("dog", {"id": 3, "name": "after"})
    assert restored.record("dog", 3)["name"] == "after"
    restored.create_table("new")
    restored.put("new", {"id": 1, "b": 1})


def test_a_backup_put_over_the_running_life_it_was_made_in_is_noticed(folder: Path, tmp_path: Path) -> None:
    """The counters beside and in the file would agree: the backup has to say for itself that it is one."""
    opened = Opened.at(folder)
    opened.create_table("dog")
    backup_database(opened.database, tmp_path / "backup")
    opened.close()
    shutil.copy(tmp_path / "backup", folder / DATA_FILE)
    again = Opened.at(folder)
    assert again.environment.is_new_incarnation
    again.close()


def test_a_backup_can_be_put_in_place_by_hand(filled: Opened, tmp_path: Path) -> None:
    backup_database(filled.database, tmp_path / "backup")
    (tmp_path / "by hand").mkdir()
    shutil.copy(tmp_path / "backup", tmp_path / "by hand" / DATA_FILE)
    again = Opened.at(tmp_path / "by hand")
    again.now_us = filled.now_us
    assert contents(again, "dog") == contents(filled, "dog")
    again.close()


def test_a_backup_is_of_one_instant_while_writes_go_on(folder: Path, tmp_path: Path, databases: Path) -> None:
    opened = Opened.at(folder)
    opened.create_table("dog")
    is_done = threading.Event()

    def write() -> None:
        key = 0
        while not is_done.is_set():
            key += 1
            opened.put("dog", {"id": key, "n": key}, {"id": -key, "n": key})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backups = [backup_database(opened.database, tmp_path / f"backup{number}") for number in range(5)]
    finally:
        is_done.set()
        writer.join()
    opened.close()
    for number, backup in enumerate(backups):
        path = restore_database(tmp_path / f"backup{number}", databases, f"copy{number}")
        assert check_database(path) == []
        again = Opened.at(path)
        ids = set(again.ids("dog"))
        assert ids == {-key for key in ids}
        with again.database.read() as tx:
            assert tx.head().lseq == backup.lseq
        again.close()


def test_a_backup_leaves_no_reader_and_no_other_file_behind(filled: Opened, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    backup_database(filled.database, tmp_path / "out" / "backup")
    backup_tables(filled.database, tmp_path / "out" / "tables", ["dog"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["backup", "tables"]
    assert filled.environment._readers == 0


def test_a_backup_of_an_empty_database_is_one(tmp_path: Path, databases: Path) -> None:
    opened = Opened.at(tmp_path / "empty")
    backup_database(opened.database, tmp_path / "backup")
    opened.close()
    path = restore_database(tmp_path / "backup", databases, "data")
    assert check_database(path) == []
    again = Opened.at(path)
    assert tables(again) == set()
    again.close()


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("include_audit", [False, True])
@pytest.mark.parametrize("names", [["dog"], ["cat"], ["cat", "dog", "cat"]])
def test_restored_tables_answer_as_those_that_were_backed_up(
    filled: Opened, tmp_path: Path, databases: Path, names: list[str], include_audit: bool
) -> None:
    backup_tables(filled.database, tmp_path / "backup", names, include_audit=include_audit)
    path = restore_database(tmp_path / "backup", databases, "data")
    again = Opened.at(path)
    again.now_us = filled.now_us
    assert tables(again) == set(names)
    for name in names:
        assert contents(again, name) == contents(filled, name)
    again.put(names[0], {"id": 3, "name": "after", "z": 1}, {"n": "generated"})
    again.delete(names[0], 5)
    again.create_table("another")
    again.close()
    assert check_database(path, now_ms=again.now_us // 1000) == []


def test_expiring_records_of_a_table_backup_still_expire(filled: Opened, tmp_path: Path, databases: Path) -> None:
    backup_tables(filled.database, tmp_path / "backup", ["dog"])
    again = Opened.at(restore_database(tmp_path / "backup", databases, "data"))
    again.now_us = filled.now_us + 3600_000_000
    assert again.get("dog", 50) is None
    assert again.maintain(lambda state: expire_rows(state, now_ms=again.now_us // 1000)) == 1
    again.close()


def test_a_table_backup_holds_nothing_of_other_tables(filled: Opened, tmp_path: Path) -> None:
    filled.put("cat", {"id": "secret-of-a-cat", "a": "whisker"})
    backup_tables(filled.database, tmp_path / "backup", ["dog"], include_audit=True)
    data = (tmp_path / "backup").read_bytes()
    assert b"whisker" not in data
    assert b"secret-of-a-cat" not in data
    assert b"again" in data


def test_the_history_of_a_table_goes_with_it_where_that_is_asked(
    filled: Opened, tmp_path: Path, databases: Path
) -> None:
    backup_tables(filled.database, tmp_path / "with", ["dog"], include_audit=True)
    backup_tables(filled.database, tmp_path / "without", ["dog"])
    histories = []
    for name in ("with", "without"):
        again = Opened.at(restore_database(tmp_path / name, databases, name))
        with again.database.read() as tx:
            table = tx.table("dog")
            histories.append((list(table_history(tx, table)), list(record_history(tx, table, stored_key_of(3)))))
        again.close()
    with filled.database.read() as tx:
        table = tx.table("dog")
        assert histories[0] == (list(table_history(tx, table)), list(record_history(tx, table, stored_key_of(3))))
    assert histories[1] == ([], [])


def test_a_table_that_is_not_there_is_named_and_no_file_is_left(filled: Opened, tmp_path: Path) -> None:
    with pytest.raises(TableNotFound):
        backup_tables(filled.database, tmp_path / "backup", ["dog", "fish"])
    assert not (tmp_path / "backup").exists()


def test_no_tables_at_all_are_a_valid_backup(filled: Opened, tmp_path: Path, databases: Path) -> None:
    backup_tables(filled.database, tmp_path / "backup", [])
    assert check_database(restore_database(tmp_path / "backup", databases, "data")) == []


# -- restoring ---------------------------------------------------------------------------------------------------------


def test_a_database_that_is_there_is_not_restored_over(filled: Opened, tmp_path: Path, databases: Path) -> None:
    backup_database(filled.database, tmp_path / "backup")
    restore_database(tmp_path / "backup", databases, "data")
    with pytest.raises(DatabaseExists):
        restore_database(tmp_path / "backup", databases, "data")


def test_a_backup_may_be_restored_under_another_name(filled: Opened, tmp_path: Path, databases: Path) -> None:
    backup_database(filled.database, tmp_path / "backup")
    path = restore_database(tmp_path / "backup", databases, "My other/db"[:8])
    assert (path.name, (path / "name").read_text()) == ("%4dy%20other", "My other")
    assert not (path / STARTS_FILE).exists()
    with lmdb.open(str(path), max_dbs=1, readonly=True, lock=False) as environment:
        meta = environment.open_db(b"meta", create=False)
        with environment.begin() as txn:
            assert txn.get(b"name", db=meta) == b"My other"


@pytest.mark.parametrize("content", [b"", b"x", b"no backup" * 5000])
def test_a_file_that_is_no_backup_is_refused_and_nothing_is_left(
    tmp_path: Path, databases: Path, content: bytes
) -> None:
    (tmp_path / "backup").write_bytes(content)
    with pytest.raises(Corrupt):
        restore_database(tmp_path / "backup", databases, "data")
    assert list(databases.iterdir()) == []


def test_an_lmdb_file_of_something_else_is_refused_and_nothing_is_left(tmp_path: Path, databases: Path) -> None:
    with lmdb.open(str(tmp_path / "other")) as other, other.begin(write=True) as txn:
        txn.put(b"a", b"b")
    with pytest.raises(Corrupt):
        restore_database(tmp_path / "other" / DATA_FILE, databases, "data")
    assert list(databases.iterdir()) == []


def test_a_backup_that_was_cut_or_damaged_is_refused(filled: Opened, tmp_path: Path, databases: Path) -> None:
    backup_database(filled.database, tmp_path / "backup")
    data = (tmp_path / "backup").read_bytes()
    for number, damaged in enumerate((data[: len(data) // 2], data[:12_288] + bytes(8192) + data[20_480:])):
        (tmp_path / f"damaged{number}").write_bytes(damaged)
        with pytest.raises(Corrupt):
            restore_database(tmp_path / f"damaged{number}", databases, "data")
    assert list(databases.iterdir()) == []


def test_a_backup_that_cannot_be_written_leaves_no_file(filled: Opened, tmp_path: Path) -> None:
    with pytest.raises(DiskFailed):
        backup_database(filled.database, tmp_path / "no such folder" / "backup")
    assert filled.environment._readers == 0
