import threading
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from storage.catalog import DROPS_FOLDER, Catalog, folder_of, open_catalog, read_name
from storage.checker import check_database
from storage.errors import DatabaseClosed, DatabaseExists, DatabaseNotFound, NotOpened
from storage.settings import StorageSettings
from tests.storage.opened import MAP_BYTES

names = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7F), min_size=1, max_size=250)


def settings(path: Path) -> StorageSettings:
    return StorageSettings(path=path, map_size_bytes=MAP_BYTES, sync=False)


@given(names)
def test_the_folder_of_any_name_is_one_plain_folder(name: str) -> None:
    folder = folder_of(name)
    assert len(folder) <= 150
    assert folder not in ("", ".", "..")
    assert not folder.startswith(".")
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_%~")


@given(names, names)
def test_two_names_never_share_a_folder_whatever_case_counts_for(left: str, right: str) -> None:
    assert (folder_of(left).lower() == folder_of(right).lower()) == (left == right)


@pytest.mark.parametrize("name", ["data", ".", "..", "COM1", "Farm", "farm", "my db-1.x", "a%b", "x" * 250, "%2e", "~"])
async def test_a_database_of_any_name_is_made_found_again_and_dropped(tmp_path: Path, name: str) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        await catalog.create(name)
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        assert catalog.names == (name,)
        assert catalog.database(name).name == name
        await catalog.drop(name)
    assert [folder.name for folder in tmp_path.iterdir()] == [DROPS_FOLDER]


async def test_names_that_differ_in_case_only_are_two_databases(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        await catalog.create("Farm")
        await catalog.create("farm")
        assert catalog.names == ("Farm", "farm")


async def test_a_database_cannot_be_made_twice(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        await catalog.create("data")
        with pytest.raises(DatabaseExists):
            await catalog.create("data")


async def test_of_two_that_create_one_name_at_once_one_succeeds(tmp_path: Path) -> None:
    outcomes: list[str] = []

    async def create(catalog: Catalog) -> None:
        try:
            await catalog.create("data")
            outcomes.append("created")
        except DatabaseExists:
            outcomes.append("exists")

    async with open_catalog(settings(tmp_path), node="n1") as catalog, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(create, catalog)
    assert sorted(outcomes) == ["created", "exists", "exists"]


async def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        with pytest.raises(DatabaseNotFound, match="database 'x' does not exist"):
            catalog.database("x")
        with pytest.raises(DatabaseNotFound, match="database 'x' does not exist"):
            await catalog.drop("x")


async def test_a_dropped_database_can_be_made_anew_and_is_empty(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        first = await catalog.create("data")
        store = first.environment.origin.store
        await catalog.drop("data")
        second = await catalog.create("data")
        assert second.environment.origin.store != store
        with second.read() as tx:
            assert tx.head().lseq == 0


async def test_a_dropped_database_refuses_readers_and_writers(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        database = await catalog.create("data")
        await catalog.drop("data")
        with pytest.raises(DatabaseClosed):
            database.read()
        with pytest.raises(DatabaseNotFound):
            await catalog.write("data", lambda tx: None)


async def test_a_drop_waits_for_a_reader_in_another_thread(tmp_path: Path) -> None:
    is_reading, may_end = threading.Event(), threading.Event()

    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        database = await catalog.create("data")

        def read() -> int:
            with database.read() as tx:
                is_reading.set()
                assert may_end.wait(30)
                return tx.head().lseq

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, read)
            await trio.to_thread.run_sync(is_reading.wait, 30)
            nursery.start_soon(catalog.drop, "data")
            await trio.testing.wait_all_tasks_blocked()
            assert (tmp_path / "data").exists()
            may_end.set()
        assert not (tmp_path / "data").exists()


async def test_what_a_crash_left_of_a_create_or_a_drop_is_removed(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        await catalog.create("data")
        await catalog.create("old")
    (tmp_path / "old").rename(tmp_path / ".dropped-1234")
    (tmp_path / ".new-1234").mkdir()
    (tmp_path / ".new-1234" / "data.mdb").write_bytes(b"half")
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        assert catalog.names == ("data",)
    assert [folder.name for folder in tmp_path.iterdir()] == ["data"]


async def test_a_database_that_cannot_be_opened_is_kept_out_and_the_others_work(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        await catalog.create("good")
        await catalog.create("bad")
    (tmp_path / "bad" / "data.mdb").write_bytes(b"damaged" * 2000)
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        assert catalog.names == ("good",)
        assert catalog.unopened.keys() == {"bad"}
        with pytest.raises(NotOpened, match="'bad' was not opened"):
            catalog.database("bad")
        with pytest.raises(DatabaseExists):
            await catalog.create("bad")
    assert (tmp_path / "bad" / "data.mdb").read_bytes() == b"damaged" * 2000


async def test_a_database_stays_where_it_was_made_whatever_its_path_becomes(tmp_path: Path) -> None:
    elsewhere = replace(settings(tmp_path / "here"), database_paths={"farm": tmp_path / "there"})
    async with open_catalog(settings(tmp_path / "here"), node="n1") as catalog:
        await catalog.create("farm")
    async with open_catalog(elsewhere, node="n1") as catalog:
        assert catalog.names == ("farm",)
        assert catalog.database("farm").environment.path == tmp_path / "here" / "farm"
        await catalog.drop("farm")
        await catalog.create("farm")
        assert catalog.database("farm").environment.path == tmp_path / "there" / "farm"


async def test_of_two_databases_of_one_name_the_first_is_opened(tmp_path: Path) -> None:
    for home in ("here", "there"):
        async with open_catalog(settings(tmp_path / home), node="n1") as catalog:
            await catalog.create("farm")
    both = replace(settings(tmp_path / "here"), database_paths={"farm": tmp_path / "there"})
    async with open_catalog(both, node="n1") as catalog:
        assert catalog.database("farm").environment.path == tmp_path / "here" / "farm"


async def test_folders_that_are_no_databases_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("x")
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        assert catalog.names == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "notes"]


async def test_a_database_whose_folder_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr("storage.catalog.sync_folder", fail)
            await catalog.create("data")
        assert list(tmp_path.iterdir()) == []
        await catalog.create("data")
    assert check_database(tmp_path / "data") == []


def test_a_folder_without_a_name_file_is_called_what_its_name_says(tmp_path: Path) -> None:
    (tmp_path / "my%20db").mkdir()
    assert read_name(tmp_path / "my%20db") == "my db"


async def test_databases_stay_writable_when_one_is_dropped(tmp_path: Path) -> None:
    async with open_catalog(settings(tmp_path), node="n1") as catalog:
        for name in ("a", "b"):
            await catalog.create(name)
        await catalog.drop("a")
        assert await catalog.write("b", lambda tx: 1) == 1
