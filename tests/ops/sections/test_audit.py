"""The audit and the transaction log: elements, windows, users, keys, and what deleting takes away."""

from dataclasses import replace
from typing import Any

import pytest
import trio

from ops.sections import audit
from ops.sections.audit import AUDIT_IS_OFF, BAD_WINDOW, TOO_LONG
from tests.ops.conftest import Node

OTTER = {"database": "zoo", "table": "otter"}
KEEPER = ("keeper", "Keeper-1")
Element = dict[str, Any]


async def fill(node: Node) -> None:
    """Four transactions of the administrator's on one table, one on another."""
    for table in ("otter", "seal"):
        await node.ok(operation="create_table", database="zoo", table=table, primary_key="id")
    await node.ok(operation="insert", **OTTER, records=[{"id": 1, "name": "Tarka"}, {"id": 2, "name": "Ring"}])
    await node.ok(operation="update", **OTTER, records=[{"id": 1, "weight": 7.5}])
    await node.ok(operation="upsert", database="zoo", table="seal", records=[{"id": 1}])
    await node.ok(operation="upsert", **OTTER, records=[{"id": 3, "name": "White"}])
    await node.ok(operation="delete", **OTTER, ids=[2])


async def history(node: Node, **fields: Any) -> Any:
    return await node.ok(operation="read_audit_log", **OTTER, **fields)


def operations(elements: list[Element]) -> list[str]:
    return [element["operation"] for element in elements]


async def delete_before(node: Node, timestamp: float, operation: str = "delete_audit_logs_before") -> dict[str, Any]:
    """The record of the job, once it is over."""
    answer = await node.ok(operation=operation, **OTTER, timestamp=timestamp)
    with trio.fail_after(10):
        while True:
            (job,) = await node.ok(operation="get_job", id=answer["job_id"])
            if "end_datetime" in job:
                return dict(job)
            await trio.sleep(0.002)


def with_settings(node: Node, **changes: Any) -> None:
    """The node as if it had been started with these settings."""
    services = replace(node.services, settings=replace(node.services.settings, **changes))
    node.services = services
    node.dispatcher._services = services


@pytest.mark.parametrize("examined", [1, 2, 3])
async def test_a_history_is_whole_however_few_entries_one_snapshot_looks_at(
    node: Node, monkeypatch: pytest.MonkeyPatch, examined: int
) -> None:
    await fill(node)
    at_once = await history(node)
    monkeypatch.setattr(audit, "PAGE_EXAMINED", examined)
    assert await history(node) == at_once
    assert await history(node, limit=2) == at_once[:2]


# -- read_audit_log ---------------------------------------------------------------------------------------------------


async def test_each_transaction_is_an_element_with_its_keys_and_whole_records(node: Node) -> None:
    await fill(node)
    inserted, updated, upserted, deleted = await history(node)
    at = inserted["timestamp"]
    times = {"__createdtime__": at, "__updatedtime__": at}
    assert inserted == {
        "operation": "insert",
        "user_name": "admin",
        "timestamp": at,
        "hash_values": [1, 2],
        "records": [{"id": 1, "name": "Tarka", **times}, {"id": 2, "name": "Ring", **times}],
    }
    changed = {**times, "__updatedtime__": updated["timestamp"]}
    assert updated["records"] == [{"id": 1, "name": "Tarka", "weight": 7.5, **changed}]
    assert operations([updated, upserted, deleted]) == ["update", "upsert", "delete"]
    assert (deleted["hash_values"], deleted["records"]) == ([2], [None])


async def test_a_write_of_the_nodes_own_is_an_upsert_of_nobody(node: Node) -> None:
    (element,) = await node.ok(operation="read_audit_log", schema="system", table="hdb_user")
    assert element["operation"] == "upsert"
    assert "user_name" not in element


async def test_schema_and_database_are_both_taken(node: Node) -> None:
    await fill(node)
    assert len(await node.ok(operation="read_audit_log", schema="zoo", table="otter")) == 4


@pytest.mark.parametrize("values", [None, []])
async def test_timestamp_without_values_is_everything(node: Node, values: Any) -> None:
    await fill(node)
    assert await history(node, search_type="timestamp", search_values=values) == await history(node)


async def test_a_window_begins_with_and_ends_before_its_times(node: Node) -> None:
    await fill(node)
    with node.services.catalog.database("zoo").read() as tx:
        first, second, third, fourth = (
            entry.committed_at / 1000
            for entry in tx.log.read_from()
            if entry.header.kind == "tx" and entry.writes()[0]["t"] == "otter"
        )

    async def window(*values: Any) -> list[str]:
        return operations(await history(node, search_type="timestamp", search_values=list(values)))

    assert await window(second) == ["update", "upsert", "delete"]
    assert await window(second, fourth) == ["update", "upsert"]
    assert await window(str(first), third) == ["insert", "update"]
    assert await window(fourth + 1) == []
    assert await window(-5, first) == []


async def test_a_limit_counts_elements(node: Node) -> None:
    await fill(node)
    assert operations(await history(node, limit=2)) == ["insert", "update"]
    assert len(await history(node, limit=1e300)) == 4


async def test_a_long_history_comes_in_pages_without_gap_or_repetition(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE_RECORDS", 3)
    await fill(node)
    for key in range(10, 20):
        await node.ok(operation="insert", **OTTER, records=[{"id": key}])
    keys = [key for element in await history(node) for key in element["hash_values"]]
    assert keys == [1, 2, 1, 3, 2, *range(10, 20)]
    assert len(await history(node, limit=7)) == 7


async def test_users_without_entries_are_left_out(node: Node) -> None:
    await fill(node)
    await node.ok(operation="add_role", role="keeper", permission={"super_user": True})
    await node.ok(operation="add_user", username=KEEPER[0], password=KEEPER[1], role="keeper", active=True)
    await node.post({"operation": "insert", **OTTER, "records": [{"id": 9}]}, user=KEEPER)
    found = await history(node, search_type="username", search_values=["keeper", "nobody", 5])
    assert {user: [element["hash_values"] for element in elements] for user, elements in found.items()} == {
        "keeper": [[9]]
    }
    both = await history(node, search_type="username", search_values=["keeper", "admin"])
    assert {user: len(elements) for user, elements in both.items()} == {"admin": 4, "keeper": 1}


async def test_a_key_has_its_own_changes_alone_and_every_asked_key_is_there(node: Node) -> None:
    await fill(node)
    found = await history(node, search_type="hash_value", search_values=[1, 2, "ghost", None, {}])
    assert {key: operations(elements) for key, elements in found.items()} == {
        "1": ["upsert", "upsert"],
        "2": ["upsert", "delete"],
        "ghost": [],
        "null": [],
        "[object Object]": [],
    }
    assert [element["hash_values"] for element in found["2"]] == [[2], [2]]
    assert found["2"][0]["records"][0]["name"] == "Ring"
    assert found["2"][0]["timestamp"] < found["2"][1]["timestamp"]


async def test_keys_that_read_alike_share_a_place_and_one_asked_twice_is_answered_once(node: Node) -> None:
    await fill(node)
    await node.ok(operation="insert", **OTTER, records=[{"id": "1"}])
    found = await history(node, search_type="hash_value", search_values=[1, 1.0, "1"])
    assert [element["hash_values"] for element in found["1"]] == [[1], [1], ["1"]]


@pytest.mark.parametrize("search", [("username", ["admin"]), ("hash_value", [1, 2, 3])])
async def test_an_answer_that_cannot_be_sent_in_pages_has_an_end(
    node: Node, monkeypatch: pytest.MonkeyPatch, search: tuple[str, list[Any]]
) -> None:
    monkeypatch.setattr(audit, "ANSWER_RECORDS_MAX", 3)
    await fill(node)
    request = {"operation": "read_audit_log", **OTTER, "search_type": search[0], "search_values": search[1]}
    assert await node.post(request) == (400, {"error": TOO_LONG})


async def test_the_history_of_a_dropped_table_is_not_that_of_its_successor(node: Node) -> None:
    await fill(node)
    await node.ok(operation="drop_table", **OTTER)
    await node.ok(operation="create_table", **OTTER, primary_key="id")
    assert await history(node) == []


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({}, 500, "database is required"),
        ({"schema": None, "table": "otter"}, 500, "database is required"),
        ({"schema": "zoo"}, 500, "table is required"),
        ({"schema": "zoo", "table": ""}, 500, "table is required"),
        ({"schema": 5, "table": "otter"}, 400, "'schema' must be a string"),
        ({"schema": "ghost", "table": "otter"}, 404, "database 'ghost' does not exist"),
        ({"schema": "zoo", "table": "ghost"}, 404, "Table 'zoo.ghost' does not exist"),
        ({**OTTER, "search_type": "colour"}, 500, "Invalid searchType 'colour'"),
        ({**OTTER, "search_type": ["timestamp"]}, 500, "Invalid searchType '['timestamp']'"),
        ({**OTTER, "search_type": "username"}, 400, "'search_values' is required"),
        ({**OTTER, "search_type": "hash_value"}, 400, "'search_values' is required"),
        ({**OTTER, "search_type": "username", "search_values": "admin"}, 400, "'search_values' must be an array"),
        ({**OTTER, "search_type": "timestamp", "search_values": ["soon"]}, 400, BAD_WINDOW),
        ({**OTTER, "search_values": [1, True]}, 400, BAD_WINDOW),
        ({**OTTER, "limit": 0}, 400, "'limit' must be greater than or equal to 1"),
    ],
    ids=str,
)
async def test_what_does_not_fit_the_audit_log_is_told(
    node: Node, fields: dict[str, Any], status: int, problem: str
) -> None:
    await fill(node)
    assert await node.post({"operation": "read_audit_log", **fields}) == (status, {"error": problem})


# -- what is shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["read_audit_log", "read_transaction_log"])
async def test_a_node_that_shows_no_history_says_so(node: Node, operation: str) -> None:
    await fill(node)
    with_settings(node, audit_log=False)
    assert await node.post({"operation": operation, **OTTER}) == (400, {"error": AUDIT_IS_OFF})
    assert (await node.ok(operation="describe_table", **OTTER))["audit"] is False


async def test_a_table_shows_its_history_where_it_says_so_itself(node: Node) -> None:
    await node.ok(operation="create_table", **OTTER, primary_key="id", audit=True)
    await node.ok(operation="insert", **OTTER, records=[{"id": 1}])
    with_settings(node, audit_log=False)
    assert operations(await history(node)) == ["insert"]


async def test_a_table_may_hide_its_history(node: Node) -> None:
    await node.ok(operation="create_table", **OTTER, primary_key="id", audit=False)
    await node.ok(operation="insert", **OTTER, records=[{"id": 1}])
    assert await history(node) == []
    assert await history(node, search_type="username", search_values=["admin"]) == {}
    assert await history(node, search_type="hash_value", search_values=[1]) == {"1": []}
    assert await node.ok(operation="read_transaction_log", **OTTER) == []


# -- read_transaction_log ---------------------------------------------------------------------------------------------


async def test_the_transaction_log_has_the_elements_of_the_audit_log(node: Node) -> None:
    await fill(node)
    elements = await history(node)
    assert await node.ok(operation="read_transaction_log", **OTTER) == elements
    assert await node.ok(operation="read_transaction_log", **OTTER, limit=3) == elements[:3]


async def test_the_transaction_log_takes_a_window(node: Node) -> None:
    await fill(node)
    last = (await history(node))[-1]["timestamp"]
    assert await node.ok(operation="read_transaction_log", **OTTER, to=1) == []
    assert await node.ok(operation="read_transaction_log", **OTTER, **{"from": last + 60_000}) == []
    window = {"from": 0, "to": last + 60_000}
    assert len(await node.ok(operation="read_transaction_log", **OTTER, **window)) == 4


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({}, 400, "'table' is required"),
        ({**OTTER, "from": "soon"}, 400, "'from' must be in timestamp or number of milliseconds format"),
        ({**OTTER, "to": True}, 400, "'to' must be in timestamp or number of milliseconds format"),
        ({**OTTER, "limit": 0}, 400, "'limit' must be greater than or equal to 1"),
        ({"database": "zoo", "table": "ghost"}, 404, "Table 'zoo.ghost' does not exist"),
        ({"table": "otter"}, 404, "database 'data' does not exist"),
    ],
    ids=str,
)
async def test_what_does_not_fit_the_transaction_log_is_told(
    node: Node, fields: dict[str, Any], status: int, problem: str
) -> None:
    await fill(node)
    assert await node.post({"operation": "read_transaction_log", **fields}) == (status, {"error": problem})


# -- deleting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["delete_audit_logs_before", "delete_transaction_logs_before"])
async def test_deleting_takes_this_tables_history_and_leaves_records_and_other_tables(
    node: Node, operation: str
) -> None:
    await fill(node)
    job = await delete_before(node, (await history(node))[-1]["timestamp"] + 60_000, operation)
    assert (job["status"], job["message"]) == ("COMPLETE", f"Successfully completed job: {job['id']}")
    assert job["type"] == operation
    assert await history(node) == []
    assert await history(node, search_type="hash_value", search_values=[1]) == {"1": []}
    assert len(await node.ok(operation="read_audit_log", schema="zoo", table="seal")) == 1
    assert (await node.ok(operation="describe_table", **OTTER))["record_count"] == 2


async def test_what_is_not_older_stays(node: Node) -> None:
    await fill(node)
    with node.services.catalog.database("zoo").read() as tx:
        newest = tx.log.entry(tx.log.last())
    assert newest is not None
    await delete_before(node, newest.committed_at / 1000)
    assert operations(await history(node)) == ["delete"]


@pytest.mark.parametrize("timestamp", [-1e300, -1, 0])
async def test_before_the_beginning_there_is_nothing_to_delete(node: Node, timestamp: float) -> None:
    await fill(node)
    assert (await delete_before(node, timestamp))["status"] == "COMPLETE"
    assert len(await history(node)) == 4


async def test_what_is_written_after_the_deletion_is_history_again(node: Node) -> None:
    await fill(node)
    await delete_before(node, 1e300)
    await node.ok(operation="insert", **OTTER, records=[{"id": 7}])
    assert [element["hash_values"] for element in await history(node)] == [[7]]


async def test_a_job_for_a_table_that_does_not_exist_fails_in_its_record(node: Node) -> None:
    job = await delete_before(node, 1)
    assert (job["status"], job["message"]) == ("ERROR", "database 'zoo' does not exist")
    await node.ok(operation="create_database", database="zoo")
    job = await delete_before(node, 1)
    assert (job["status"], job["message"]) == ("ERROR", "Table 'zoo.otter' does not exist")


EPOCH = "'timestamp' must be in timestamp or number of milliseconds format"


@pytest.mark.parametrize(
    ("operation", "fields", "problem"),
    [
        ("delete_audit_logs_before", {"table": "otter"}, "'timestamp' is required"),
        ("delete_audit_logs_before", {"timestamp": 1}, "'table' is required"),
        ("delete_audit_logs_before", {"table": "otter", "timestamp": "soon"}, "'timestamp' is invalid"),
        ("delete_transaction_logs_before", {"table": "otter"}, "'timestamp' is required"),
        ("delete_transaction_logs_before", {"timestamp": 1}, "'table' is required"),
        ("delete_transaction_logs_before", {"table": "otter", "timestamp": "soon"}, EPOCH),
    ],
    ids=str,
)
async def test_a_deletion_that_does_not_fit_is_no_job(
    node: Node, operation: str, fields: dict[str, Any], problem: str
) -> None:
    assert await node.post({"operation": operation, **fields}) == (400, {"error": problem})
    assert (await node.ok(operation="describe_table", database="system", table="hdb_job"))["record_count"] == 0
