"""``search_conflicts`` and ``verify_database``. Conflicts come from a second node, whose entries are applied here."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from ops.sections import agreement
from storage.clock import wall_clock
from storage.database import Database
from storage.entry import encode_travelling
from storage.errors import DatabaseClosed
from storage.maintenance import trim_log
from storage.received_entries import apply_received, read_received
from storage.table_writes import delete_records, write_records
from storage.transaction import stored_key_of
from storage.write_state import WriteState
from storage.write_transaction import WriteTransaction
from tests.ops.conftest import Node
from tests.storage.opened import Opened


class Rival:
    """A database as another node has it, which writes what it has not seen here."""

    def __init__(self, node: Node, opened: Opened) -> None:
        self.node = node
        self.opened = opened

    @property
    def database(self) -> str:
        return self.opened.environment.name

    async def make_table(self, table: str = "otter") -> None:
        await self.node.ok(operation="create_table", database=self.database, table=table, primary_key="id")
        self.opened.now_us = wall_clock()
        self.opened.create_table(table)

    async def quarrel(self, *keys: Any, table: str = "otter", deletes: bool = False) -> None:
        """Each of the keys is written here, then elsewhere, then that comes here and wins."""

        def write(tx: WriteTransaction, key: Any) -> None:
            if deletes:
                delete_records(tx, table, [key])
            else:
                write_records(tx, table, [{"id": key, "by": "there"}], "upsert")

        for key in keys:
            record = {"id": key, "by": "here"}
            await self.node.ok(operation="upsert", database=self.database, table=table, records=[record])
            self.opened.now_us = wall_clock()
            self.opened.write(partial(write, key=key), user="bob")
            await self.send()

    async def send(self) -> None:
        with self.opened.database.read() as tx:
            items = [read_received(encode_travelling(entry.header.raw, entry.payload)) for entry in tx.log.read_from()]

        def apply(state: WriteState) -> None:
            assert not apply_received(state, items, now_us=wall_clock()).stopped

        await self.node.services.catalog.maintain(self.database, apply)


@pytest.fixture
def rival(node: Node, tmp_path: Path) -> Iterator[Rival]:
    opened = Opened.at(tmp_path / "rival", node="n2", name="zoo")
    yield Rival(node, opened)
    opened.close()


def found(conflicts: list[dict[str, Any]]) -> list[Any]:
    return [conflict["key"] for conflict in conflicts]


async def search(node: Node, **fields: Any) -> list[dict[str, Any]]:
    answer = await node.ok(operation="search_conflicts", **fields)
    assert isinstance(answer, list)
    return answer


async def finished_job(node: Node, **request: Any) -> dict[str, Any]:
    answer = await node.ok(**request)
    with trio.fail_after(10):
        while True:
            (job,) = await node.ok(operation="get_job", id=answer["job_id"])
            if "end_datetime" in job:
                return dict(job)
            await trio.sleep(0.002)


# -- search_conflicts -------------------------------------------------------------------------------------------------


async def test_a_conflict_shows_both_writes(node: Node, rival: Rival) -> None:
    await rival.make_table()
    await rival.quarrel(1)
    (conflict,) = await search(node)
    winner, loser = conflict.pop("winner"), conflict.pop("loser")
    decided_at = conflict.pop("decided_at")
    assert conflict == {"database": "zoo", "table": "otter", "key": 1}
    assert (winner["origin"], winner["user"], winner["record"]["by"]) == ("n2", "bob", "there")
    assert (loser["origin"], loser["user"], loser["record"]["by"]) == ("n1", "admin", "here")
    assert winner["version"] == winner["record"]["__updatedtime__"]
    assert loser["version"] < winner["version"]
    assert abs(decided_at - wall_clock() / 1000) < 60_000


async def test_a_delete_has_null_for_its_record(node: Node, rival: Rival) -> None:
    await rival.make_table()
    await rival.quarrel(1, deletes=True)
    (conflict,) = await search(node)
    assert conflict["winner"]["record"] is None
    assert conflict["winner"]["user"] == "bob"


async def test_what_the_log_no_longer_holds_has_neither_user_nor_record(node: Node, rival: Rival) -> None:
    await rival.make_table()
    await rival.quarrel(1)
    with node.services.catalog.database("zoo").read() as tx:
        before_last = tx.log.last() - tx.log.first()
    trim = partial(trim_log, before_us=wall_clock() + 1_000_000, limit=before_last)
    await node.services.catalog.maintain("zoo", trim)
    (conflict,) = await search(node)
    assert conflict["loser"].keys() == {"version", "origin"}
    assert conflict["winner"]["record"]["by"] == "there"


async def test_without_conflicts_the_list_is_empty(node: Node) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")
    assert await search(node) == await search(node, database="zoo", table="otter") == []


async def test_the_newest_come_first_with_limit_and_offset(node: Node, rival: Rival) -> None:
    await rival.make_table()
    await rival.quarrel(1, 2, 3, 4)
    assert found(await search(node)) == [4, 3, 2, 1]
    assert found(await search(node, limit=2)) == [4, 3]
    assert found(await search(node, limit=2, offset=1)) == [3, 2]
    assert found(await search(node, offset=3)) == [1]
    assert found(await search(node, offset=4)) == []


async def test_a_long_list_is_the_same_however_it_is_read(
    node: Node, rival: Rival, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rival.make_table()
    await rival.quarrel(*range(7))
    whole = await search(node)
    monkeypatch.setattr(agreement, "PAGE_CONFLICTS", 2)
    assert await search(node) == whole
    assert await search(node, limit=3, offset=3) == whole[3:6]


async def test_they_are_found_by_table_and_key(node: Node, rival: Rival) -> None:
    await rival.make_table()
    await rival.make_table("seal")
    await rival.quarrel(1, "a")
    await rival.quarrel(1, table="seal")
    assert found(await search(node, database="zoo", table="otter")) == ["a", 1]
    assert found(await search(node, schema="zoo", table="seal")) == [1]
    assert [conflict["table"] for conflict in await search(node, key=1)] == ["seal", "otter"]
    assert found(await search(node, table="otter", key="a")) == ["a"]
    assert await search(node, key="1") == []


async def test_a_window_begins_with_and_ends_before_its_times(node: Node, rival: Rival) -> None:
    await rival.make_table()
    await rival.quarrel(1, 2, 3)
    third, second, first = (conflict["decided_at"] for conflict in await search(node))
    assert found(await search(node, **{"from": second})) == [3, 2]
    assert found(await search(node, **{"from": str(first)}, to=third)) == [2, 1]
    assert found(await search(node, to=first)) == []
    second_text = datetime.fromtimestamp(second / 1000, UTC).isoformat()
    assert found(await search(node, to=second_text.replace("+00:00", "Z"))) == [1]


async def test_all_databases_are_one_list(node: Node, rival: Rival, tmp_path: Path) -> None:
    opened = Opened.at(tmp_path / "farm", node="n2", name="farm")
    farm = Rival(node, opened)
    await rival.make_table()
    await farm.make_table()
    await rival.quarrel(1)
    await farm.quarrel(2)
    await rival.quarrel(3)
    both = await search(node)
    assert [(conflict["database"], conflict["key"]) for conflict in both] == [("zoo", 3), ("farm", 2), ("zoo", 1)]
    assert found(await search(node, database="farm")) == [2]
    opened.close()


async def test_a_database_that_goes_away_meanwhile_is_left_out(
    node: Node, rival: Rival, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rival.make_table()
    await rival.quarrel(1)
    await node.ok(operation="create_table", database="farm", table="cow", primary_key="id")
    read = Database.read

    def read_unless_closed(database: Database, **options: Any) -> Any:
        if database.name == "farm":
            raise DatabaseClosed("Database 'farm' is closed")
        return read(database, **options)

    monkeypatch.setattr(Database, "read", read_unless_closed)
    assert found(await search(node)) == [1]


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"database": "ghost"}, 404, "database 'ghost' does not exist"),
        ({"database": "zoo", "table": "ghost"}, 404, "Table 'zoo.ghost' does not exist"),
        ({"database": 5}, 400, "'database' must be a string"),
        ({"key": {}}, 400, "'key' cannot be a primary key"),
        ({"key": []}, 400, "'key' cannot be a primary key"),
        (
            {"to": "2026-11-23T08:30:00" + "0" * 50 + "Z"},
            400,
            "'to' must be in ISO 8601 or number of milliseconds format",
        ),
        ({"from": "soon"}, 400, "'from' must be in ISO 8601 or number of milliseconds format"),
        ({"to": "2026-11-23T08:30:00"}, 400, "'to' must be in ISO 8601 or number of milliseconds format"),
        ({"to": True}, 400, "'to' must be in ISO 8601 or number of milliseconds format"),
        ({"limit": 0}, 400, "'limit' must be greater than or equal to 1"),
        ({"offset": -1}, 400, "'offset' must be greater than or equal to 0"),
        ({"offset": 10**9}, 400, "'offset' must be less than or equal to 1000000"),
    ],
    ids=str,
)
async def test_what_does_not_fit_is_told(node: Node, fields: dict[str, Any], status: int, problem: str) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")
    assert await node.post({"operation": "search_conflicts", **fields}) == (status, {"error": problem})


@pytest.mark.parametrize("at", [0, -5, "0", 1e300, "1e5", "9" * 30, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_no_time_is_too_far_away(node: Node, at: Any) -> None:
    status, _ = await node.post({"operation": "search_conflicts", "from": at, "to": at})
    assert status in (200, 400)


# -- verify_database --------------------------------------------------------------------------------------------------


async def test_a_sound_database_is_ok_with_its_numbers(node: Node, rival: Rival) -> None:
    await rival.make_table()
    await rival.quarrel(1, 2)
    with node.services.catalog.database("zoo").read() as tx:
        entries = sum(1 for _ in tx.log.read_from())
    job = await finished_job(node, operation="verify_database", database="zoo")
    assert job["status"] == "COMPLETE"
    assert job["result"] == {"database": "zoo", "entries": entries, "rows": 2, "problems": [], "ok": True}


async def test_the_systems_own_database_can_be_checked(node: Node) -> None:
    job = await finished_job(node, operation="verify_database", database="system")
    assert job["result"]["ok"] is True


async def test_what_is_broken_is_named(node: Node) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")
    await node.ok(operation="insert", database="zoo", table="otter", records=[{"id": 1}])

    def damage(state: WriteState) -> None:
        state.delete(f"p{state.tables['otter'].rows_id}", stored_key_of(1))

    await node.services.catalog.maintain("zoo", damage)
    job = await finished_job(node, operation="verify_database", database="zoo")
    result = job["result"]
    assert (job["status"], result["ok"]) == ("COMPLETE", False)
    kinds = {problem["kind"] for problem in result["problems"]}
    assert {"fold", "digest"} <= kinds
    digest = next(problem for problem in result["problems"] if problem["kind"] == "digest")
    assert digest == {"kind": "digest", "table": "otter", "message": "the state digest is not that of the rows"}


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({}, 400, "'database' is required"),
        ({"database": "ghost"}, 404, "database 'ghost' does not exist"),
    ],
)
async def test_a_database_to_check_has_to_be_there(
    node: Node, fields: dict[str, Any], status: int, problem: str
) -> None:
    assert await node.post({"operation": "verify_database", **fields}) == (status, {"error": problem})
