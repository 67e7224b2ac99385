import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from storage import environment as environment_module
from storage.data_file import DATA_FILE, STARTS_FILE, file_problem, write_starts
from storage.environment import Environment
from storage.errors import DatabaseClosed, NotOpened
from storage.settings import StorageSettings
from tests.storage.opened import MAP_BYTES, Opened


def open_environment(path: Path, *, node: str = "n1", sync: bool = True) -> Environment:
    settings = StorageSettings(path=path.parent, map_size_bytes=MAP_BYTES, sync=sync)
    return Environment(path, settings, node=node, name="data")


def start_and_stop(path: Path, *, node: str = "n1", sync: bool = True) -> tuple[str, bool]:
    """Store id of a start, and whether it began a new incarnation."""
    environment = open_environment(path, node=node, sync=sync)
    environment.close()
    return environment.origin.store, environment.is_new_incarnation


def stop_uncleanly(environment: Environment) -> None:
    """What is left when the process dies: nothing is noted, the lock is gone."""
    environment.lmdb.close()
    os.close(environment._lock)


def test_a_new_database_begins_an_incarnation(folder: Path) -> None:
    store, is_new = start_and_stop(folder)
    assert is_new
    assert len(store) == 32


def test_a_restart_goes_on_with_its_incarnation(folder: Path) -> None:
    first, _ = start_and_stop(folder)
    assert start_and_stop(folder) == (first, False)
    assert start_and_stop(folder) == (first, False)


def test_an_unclean_stop_of_a_synced_database_is_no_new_incarnation(folder: Path) -> None:
    environment = open_environment(folder)
    stop_uncleanly(environment)
    assert start_and_stop(folder) == (environment.origin.store, False)


def test_a_file_put_back_from_before_the_last_start_is_a_new_incarnation(folder: Path, tmp_path: Path) -> None:
    first, _ = start_and_stop(folder)
    shutil.copy(folder / DATA_FILE, tmp_path / "kept")
    start_and_stop(folder)
    shutil.copy(tmp_path / "kept", folder / DATA_FILE)
    store, is_new = start_and_stop(folder)
    assert is_new
    assert store != first


def test_a_data_file_without_its_counter_is_a_new_incarnation(folder: Path) -> None:
    first, _ = start_and_stop(folder)
    (folder / STARTS_FILE).unlink()
    assert start_and_stop(folder)[0] != first


@pytest.mark.parametrize("content", ["", "x", "7"])
def test_a_damaged_or_wrong_counter_is_a_new_incarnation(folder: Path, content: str) -> None:
    first, _ = start_and_stop(folder)
    (folder / STARTS_FILE).write_text(content)
    assert start_and_stop(folder)[0] != first
    assert start_and_stop(folder)[1] is False


def test_a_crash_between_the_two_counters_is_taken_for_a_restored_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = start_and_stop(folder)

    def crash(path: Path, starts: int) -> None:
        write_starts(path, starts)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(environment_module, "write_starts", crash)
        open_environment(folder)
    store, is_new = start_and_stop(folder)
    assert (store != first, is_new) == (True, True)
    assert start_and_stop(folder) == (store, False)


def test_an_unclean_stop_of_an_unsynced_database_is_a_new_incarnation(folder: Path) -> None:
    environment = open_environment(folder, sync=False)
    stop_uncleanly(environment)
    assert start_and_stop(folder, sync=True)[1] is True
    assert start_and_stop(folder, sync=True)[1] is False


def test_a_clean_stop_of_an_unsynced_database_is_no_new_incarnation(folder: Path) -> None:
    first, _ = start_and_stop(folder, sync=False)
    assert start_and_stop(folder, sync=False) == (first, False)


def test_a_node_that_was_renamed_is_another_origin_of_the_same_incarnation(folder: Path) -> None:
    first, _ = start_and_stop(folder, node="n1")
    environment = open_environment(folder, node="n2")
    assert environment.origin == ("n2", first)
    assert environment.origin_id == 2
    environment.close()


def test_positions_begin_anew_in_a_new_incarnation_and_the_log_goes_on(
    folder: Path, is_sound: Callable[[Path], bool]
) -> None:
    first = Opened.at(folder)
    first.create_table("dog")
    first.put("dog", {"id": 1})
    first.close()
    (folder / STARTS_FILE).unlink()
    second = Opened.at(folder)
    second.now_us += 1_000_000
    second.put("dog", {"id": 2})
    with second.database.read() as tx:
        assert [(e.lseq, e.header.oseq) for e in tx.log.read_from()] == [(1, 1), (2, 2), (3, 1)]
    second.close()
    assert is_sound(folder)


def test_a_second_opening_in_this_process_is_refused(folder: Path) -> None:
    environment = open_environment(folder)
    with pytest.raises(NotOpened, match="open already"):
        open_environment(folder)
    environment.close()


def test_a_second_process_is_refused_and_leaves_the_first_alone(folder: Path) -> None:
    opened = Opened.at(folder)
    opened.create_table("dog")
    source = (
        "import sys\nfrom pathlib import Path\nfrom tests.storage.test_environment import open_environment\n"
        "from storage.errors import NotOpened\n"
        "try:\n    open_environment(Path(sys.argv[1]))\nexcept NotOpened as error:\n    sys.exit(str(error))\n"
    )
    second = subprocess.run([sys.executable, "-c", source, folder], capture_output=True, text=True, timeout=60)
    assert "open already" in second.stderr
    opened.put("dog", {"id": 1})
    store = opened.environment.origin.store
    opened.close()
    assert start_and_stop(folder) == (store, False)


@pytest.mark.parametrize("length", [1, 4096, 8192, 20_000])
def test_a_data_file_that_is_cut_short_is_refused_and_left_as_it_is(folder: Path, length: int) -> None:
    opened = Opened.at(folder)
    opened.create_table("dog")
    opened.put("dog", *({"id": number, "text": "x" * 500} for number in range(200)))
    opened.close()
    os.truncate(folder / DATA_FILE, length)
    with pytest.raises(NotOpened):
        open_environment(folder)
    assert (folder / DATA_FILE).stat().st_size == length


def test_a_data_file_that_lacks_only_free_pages_is_opened(folder: Path) -> None:
    environment = open_environment(folder)
    with environment.lmdb.begin(write=True) as txn:
        txn.put(b"x", bytes(400_000), db=environment.handles["meta"])
    with environment.lmdb.begin(write=True) as txn:
        txn.delete(b"x", db=environment.handles["meta"])
    for number in range(3):
        with environment.lmdb.begin(write=True) as txn:
            txn.put(b"y", str(number).encode(), db=environment.handles["meta"])
    used = (environment.lmdb.info()["last_pgno"] + 1) * 4096
    environment.close()
    os.truncate(folder / DATA_FILE, used - 4096)
    assert file_problem(folder) is None
    start_and_stop(folder)


def test_an_emptied_data_file_does_not_become_an_empty_database(folder: Path) -> None:
    start_and_stop(folder)
    os.truncate(folder / DATA_FILE, 0)
    with pytest.raises(NotOpened):
        open_environment(folder)


def test_somebody_elses_lmdb_file_does_not_become_a_database(folder: Path, tmp_path: Path) -> None:
    start_and_stop(folder)
    with lmdb.open(str(tmp_path / "other")) as other, other.begin(write=True) as txn:
        txn.put(b"a", b"b")
    shutil.copy(tmp_path / "other" / DATA_FILE, folder / DATA_FILE)
    with pytest.raises(NotOpened):
        open_environment(folder)


def test_a_file_that_is_no_lmdb_file_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / DATA_FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(NotOpened, match="data"):
        open_environment(folder)


def test_a_format_of_a_later_version_is_refused(folder: Path) -> None:
    environment = open_environment(folder)
    with environment.lmdb.begin(write=True) as txn:
        txn.put(b"format", b"999", db=environment.handles["meta"])
    environment.close()
    with pytest.raises(NotOpened, match="format 999"):
        open_environment(folder)


def test_a_refused_opening_gives_its_lock_back(folder: Path) -> None:
    folder.mkdir()
    (folder / DATA_FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(NotOpened):
        open_environment(folder)
    (folder / DATA_FILE).unlink()
    start_and_stop(folder)


def test_closing_waits_for_the_reader_that_is_still_there(folder: Path) -> None:
    environment = open_environment(folder)
    txn = environment.begin_read()
    closer = threading.Thread(target=environment.close)
    closer.start()
    with pytest.raises(DatabaseClosed):
        while True:
            environment.end_read(environment.begin_read())
    assert txn.get(b"format", db=environment.handles["meta"]) == b"1"
    assert closer.is_alive()
    environment.end_read(txn)
    closer.join(timeout=30)
    assert not closer.is_alive()


def test_a_snapshot_never_shows_a_table_whose_handles_are_not_known(opened: Opened) -> None:
    errors: list[Exception] = []
    is_done = threading.Event()

    def read_all_tables() -> None:
        while not is_done.is_set() and not errors:
            try:
                with opened.database.read() as tx:
                    for table in tx.schema().tables.values():
                        tx.record_count(table)
            except Exception as error:
                errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read_all_tables)
    reader.start()
    try:
        for number in range(400):
            opened.create_table(f"t{number}")
    finally:
        is_done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert errors == []


def test_a_reservation_that_the_machine_refused_grows_when_it_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open = lmdb.open

    def open_small(path: str, **options: Any) -> lmdb.Environment:
        if options.get("map_size", 0) > 1 << 20:
            raise lmdb.MemoryError("Cannot allocate memory")
        return really_open(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(environment_module, "MAP_BYTES_MIN", 1 << 19)
        patch.setattr(lmdb, "open", open_small)
        opened = Opened.at(folder, map_size_bytes=16 << 20)
    assert opened.environment.map_bytes == 1 << 20
    opened.create_table("dog")
    opened.put("dog", {"id": 1, "text": "x" * (2 << 20)})
    assert opened.environment.map_bytes == 8 << 20
    assert opened.ids("dog") == [1]
    opened.close()


def test_a_machine_without_any_room_for_a_map_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise lmdb.MemoryError("Cannot allocate memory")

    monkeypatch.setattr(lmdb, "open", refuse)
    with pytest.raises(NotOpened, match="no address space"):
        open_environment(folder)
