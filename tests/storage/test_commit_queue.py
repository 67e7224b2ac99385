import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from storage.catalog import Catalog, open_catalog
from storage.checker import check_database
from storage.errors import DatabaseClosed, MapFull, Overloaded, TableNotFound
from storage.schema import Definition, dynamic_attributes
from storage.settings import StorageSettings
from storage.write_transaction import WriteTransaction
from tests.storage.opened import MAP_BYTES, put_dog

WAIT_S = 30.0


@asynccontextmanager
async def serving(path: Path, **settings: Any) -> AsyncIterator[Catalog]:
    """A catalog with a database ``data`` and a table ``dog``, checked when it was closed."""
    chosen = {"map_size_bytes": MAP_BYTES, "sync": False, **settings}
    async with open_catalog(StorageSettings(path=path, **chosen), node="n1") as catalog:
        await catalog.create("data")
        definition = Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id"))
        await catalog.write("data", lambda tx: tx.create_table(definition))
        yield catalog
    assert check_database(path / "data") == []


class Gate:
    """A write that holds the commit thread until it is let go."""

    def __init__(self) -> None:
        self._is_taken = threading.Event()
        self._may_go_on = threading.Event()

    def function(self, tx: WriteTransaction) -> None:
        self._is_taken.set()
        assert self._may_go_on.wait(WAIT_S)

    async def wait_taken(self) -> None:
        await trio.to_thread.run_sync(self._is_taken.wait, WAIT_S)

    def open(self) -> None:
        self._may_go_on.set()


def keys_of(catalog: Catalog) -> list[Any]:
    with catalog.database("data").read() as tx:
        table = tx.table("dog")
        return [tx.record(table, row)["id"] for _, row in tx.rows(table)]


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


async def test_a_write_gives_back_what_its_function_returned(tmp_path: Path) -> None:
    async with serving(tmp_path) as catalog:
        assert await catalog.write("data", lambda tx: 42) == 42


async def test_a_write_that_has_returned_can_be_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as catalog:
        for key in range(5):
            await catalog.write("data", partial(put_dog, key=key))
            assert keys_of(catalog)[-1] == key


async def test_a_refusal_is_raised_where_the_write_was_asked_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as catalog:
        with pytest.raises(TableNotFound):
            await catalog.write("data", lambda tx: tx.table("cat"))
        await catalog.write("data", lambda tx: put_dog(tx, 1))


async def test_all_that_wait_share_one_commit(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path) as catalog:
        lmdb = catalog.database("data").environment.lmdb
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.write, "data", gate.function)
            await gate.wait_taken()
            before = lmdb.info()["last_txnid"]
            for key in range(50):
                nursery.start_soon(catalog.write, "data", partial(put_dog, key=key))
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert keys_of(catalog) == list(range(50))
        assert lmdb.info()["last_txnid"] == before + 1


async def test_a_failing_write_does_not_touch_those_that_share_its_commit(tmp_path: Path, gate: Gate) -> None:
    outcomes: dict[int, str] = {}

    async def write(catalog: Catalog, key: int) -> None:
        def function(tx: WriteTransaction) -> None:
            put_dog(tx, key)
            if key == 2:
                raise ValueError

        try:
            await catalog.write("data", function)
            outcomes[key] = "written"
        except ValueError:
            outcomes[key] = "refused"

    async with serving(tmp_path) as catalog:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.write, "data", gate.function)
            await gate.wait_taken()
            for key in range(4):
                nursery.start_soon(write, catalog, key)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert outcomes == {0: "written", 1: "written", 2: "refused", 3: "written"}
        assert keys_of(catalog) == [0, 1, 3]


async def test_one_write_too_large_for_the_map_does_not_fail_those_that_share_its_commit(
    tmp_path: Path, gate: Gate
) -> None:
    refused: list[int] = []

    async def write(catalog: Catalog, key: int, size: int) -> None:
        try:
            await catalog.write("data", lambda tx: put_dog(tx, key, text="x" * size))
        except MapFull:
            refused.append(key)

    async with serving(tmp_path, map_size_bytes=2 << 20) as catalog:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.write, "data", gate.function)
            await gate.wait_taken()
            for key, size in enumerate((10, 3 << 20, 10)):
                nursery.start_soon(write, catalog, key, size)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert refused == [1]
        assert keys_of(catalog) == [0, 2]


async def test_a_write_cancelled_while_it_waits_is_withdrawn(tmp_path: Path, gate: Gate) -> None:
    has_run = threading.Event()

    def function(tx: WriteTransaction) -> None:
        has_run.set()

    async with serving(tmp_path) as catalog:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.write, "data", gate.function)
            await gate.wait_taken()
            with trio.move_on_after(0.01) as scope:
                await catalog.write("data", function)
            assert scope.cancelled_caught
            gate.open()
        await catalog.write("data", lambda tx: put_dog(tx, 1))
        assert not has_run.is_set()


async def test_a_write_cancelled_after_it_was_taken_is_finished(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path) as catalog:

        def function(tx: WriteTransaction) -> str:
            gate.function(tx)
            put_dog(tx, 1)
            return "done"

        results: list[str] = []

        async def write(scope: trio.CancelScope) -> None:
            with scope:
                results.append(await catalog.write("data", function))

        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, scope)
            await gate.wait_taken()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert results == []
            gate.open()
        assert results == ["done"]
        assert keys_of(catalog) == [1]


async def test_a_task_that_is_cancelled_already_writes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as catalog:
        with trio.CancelScope() as scope:
            scope.cancel()
            await catalog.write("data", lambda tx: put_dog(tx, 1))
        assert keys_of(catalog) == []


async def test_a_queue_that_waits_too_long_refuses_more(tmp_path: Path, gate: Gate) -> None:
    async with serving(tmp_path, queue_wait_s_max=0.0) as catalog:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.write, "data", gate.function)
            await gate.wait_taken()
            nursery.start_soon(catalog.write, "data", lambda tx: put_dog(tx, 1))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Overloaded):
                await catalog.write("data", lambda tx: put_dog(tx, 2))
            gate.open()
        await catalog.write("data", lambda tx: put_dog(tx, 3))
        assert keys_of(catalog) == [1, 3]


async def test_a_queue_that_moves_while_it_is_looked_at_is_not_overloaded(tmp_path: Path) -> None:
    class Moving(dict[Any, None]):
        """Loses an item between the start of a walk and its first step, as when the commit thread takes it then."""

        def __iter__(self) -> Iterator[Any]:
            walk = super().__iter__()
            self["taken meanwhile"] = None
            return walk

    async with serving(tmp_path) as catalog:
        queue = catalog._opened["data"].queue
        queue._unclaimed = Moving(queue._unclaimed)
        await catalog.write("data", lambda tx: put_dog(tx, 1))
        assert keys_of(catalog) == [1]


async def test_closing_commits_what_waits_and_leaves_nobody_waiting(tmp_path: Path, gate: Gate) -> None:
    done: list[int] = []

    async def write(catalog: Catalog, key: int) -> None:
        await catalog.write("data", lambda tx: put_dog(tx, key))
        done.append(key)

    async with trio.open_nursery() as writers, serving(tmp_path) as catalog:
        writers.start_soon(catalog.write, "data", gate.function)
        await gate.wait_taken()
        for key in range(20):
            writers.start_soon(write, catalog, key)
        await trio.testing.wait_all_tasks_blocked()
        gate.open()
    assert sorted(done) == list(range(20))
    async with open_catalog(StorageSettings(path=tmp_path, map_size_bytes=MAP_BYTES), node="n1") as catalog:
        assert keys_of(catalog) == list(range(20))


async def test_a_closed_database_refuses_writes(tmp_path: Path) -> None:
    async with serving(tmp_path) as catalog:
        queue = catalog._opened["data"].queue
        write = catalog.write
    with pytest.raises(DatabaseClosed):
        await write("data", lambda tx: None)
    assert queue._unclaimed == {}


async def test_an_error_of_our_own_while_putting_is_told_to_that_write_only(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = WriteTransaction.apply

    def fail_for_2(self: WriteTransaction) -> None:
        apply(self)
        if any(staged.key == 2 for staged in self._staged.get("dog", {}).values()):
            raise AssertionError("a mistake of ours")

    monkeypatch.setattr(WriteTransaction, "apply", fail_for_2)
    errors: list[int] = []

    async def write(catalog: Catalog, key: int) -> None:
        try:
            await catalog.write("data", lambda tx: put_dog(tx, key))
        except AssertionError:
            errors.append(key)

    async with serving(tmp_path) as catalog:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.write, "data", gate.function)
            await gate.wait_taken()
            for key in range(4):
                nursery.start_soon(write, catalog, key)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
        assert errors == [2]
        assert keys_of(catalog) == [0, 1, 3]


async def test_many_tasks_writing_and_giving_up_keep_all_invariants(tmp_path: Path) -> None:
    acknowledged: list[int] = []

    async def write(catalog: Catalog, key: int) -> None:
        with trio.move_on_after(0.0005 * (key % 7)):
            await catalog.write("data", lambda tx: put_dog(tx, key))
            acknowledged.append(key)

    async with serving(tmp_path) as catalog:
        async with trio.open_nursery() as nursery:
            for key in range(1000):
                nursery.start_soon(write, catalog, key)
        assert set(acknowledged) <= set(keys_of(catalog))
        assert catalog._opened["data"].queue._unclaimed == {}
