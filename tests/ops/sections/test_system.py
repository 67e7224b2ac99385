"""``system_information``: what it tells of databases and of the process; the machine's part is tested beside it."""

import os
from typing import Any

import pytest

from ops.database_facts import UNKNOWN
from ops.system_information import GROUPS
from tests.ops.conftest import Node

OTTER = {"database": "zoo", "table": "otter"}
PAGES = {"treeDepth", "treeBranchPageCount", "treeLeafPageCount", "entryCount", "overflowPages"}


async def fill(node: Node, count: int = 300) -> None:
    await node.ok(operation="create_table", **OTTER, primary_key="id")
    await node.ok(operation="insert", **OTTER, records=[{"id": n, "text": "x" * 100} for n in range(count)])


async def group(node: Node, name: str) -> Any:
    answer = await node.ok(operation="system_information", attributes=[name])
    assert list(answer) in ([name], ["metrics"])
    (facts,) = answer.values()
    return facts


@pytest.mark.parametrize("attributes", [None, [], "time"])
async def test_all_groups_are_told_unless_some_are_asked_for(node: Node, attributes: Any) -> None:
    answer = await node.ok(operation="system_information", attributes=attributes)
    assert list(answer) == [name for name in GROUPS if name != "replication"]
    assert answer["harperdb_processes"]["core"][0]["pid"] == os.getpid()


async def test_tables_are_told_with_their_sizes_and_records(node: Node) -> None:
    await fill(node)
    (otter,) = [one for one in await group(node, "table_size") if one["schema"] == "zoo"]
    described = await node.ok(operation="describe_table", **OTTER)
    assert otter == {
        "schema": "zoo",
        "table": "otter",
        "table_size": described["table_size"],
        "record_count": 300,
        "transaction_log_size": described["db_audit_size"],
        "transaction_log_record_count": 3,
    }


async def test_the_metrics_of_a_database_are_its_pages(node: Node) -> None:
    await fill(node)
    metrics = await group(node, "metrics")
    assert set(metrics) == {"zoo"}
    zoo = metrics["zoo"]
    assert set(zoo) == PAGES | {
        "tables",
        "pageSize",
        "mapSize",
        "lastPageNumber",
        "lastTxnId",
        "maxReaders",
        "numReaders",
        "free",
        "readers",
        "audit",
        *UNKNOWN,
    }
    assert set(zoo["audit"]) == set(zoo["tables"]["otter"]) == PAGES
    assert zoo["tables"]["otter"]["entryCount"] == 300
    assert zoo["tables"]["otter"]["treeLeafPageCount"] > 1
    assert zoo["audit"]["entryCount"] == 3
    assert zoo["mapSize"] == 1 << 30


async def test_the_readers_of_a_database_are_told_by_process(node: Node) -> None:
    await fill(node, count=1)
    readers = (await group(node, "database_metrics"))["zoo"]["readers"]
    assert {int(reader["pid"]) for reader in readers} == {os.getpid()}
    assert all(set(reader) == {"pid", "thread", "txnid"} for reader in readers)


async def test_the_worker_tells_how_busy_it_has_been(node: Node) -> None:
    (worker,) = await group(node, "threads")
    assert worker["name"] == "http"
    assert worker["active"] > 0
    assert 0 < worker["utilization"] <= 1
