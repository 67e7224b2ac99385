"""Status values."""

from pathlib import Path
from typing import Any

import pytest

from ops.sections.status import clear_statuses
from storage.incarnation import end_filling
from tests.ops.cluster_nodes import cluster_nodes
from tests.ops.conftest import Node


async def get(node: Node, **fields: Any) -> Any:
    return await node.ok(operation="get_status", **fields)


async def test_a_value_that_was_set_is_there_with_its_times(node: Node) -> None:
    assert await node.ok(operation="set_status", status="active") == {}
    record = await get(node, id="primary")
    assert (record["id"], record["status"]) == ("primary", "active")
    assert record["__createdtime__"] == record["__updatedtime__"]


async def test_setting_a_value_again_keeps_its_created_time(node: Node) -> None:
    await node.ok(operation="set_status", status="active")
    before = await get(node, id="primary")
    await node.ok(operation="set_status", id="primary", status="resting")
    after = await get(node, id="primary")
    assert after["status"] == "resting"
    assert after["__createdtime__"] == before["__createdtime__"]
    assert after["__updatedtime__"] > before["__updatedtime__"]


async def test_all_values_are_listed_by_id(node: Node) -> None:
    await node.ok(operation="set_status", id="maintenance", status="none")
    await node.ok(operation="set_status", id="availability", status="Unavailable")
    answer = await get(node)
    assert [(one["id"], one["status"]) for one in answer.pop("systemStatus")] == [
        ("availability", "Unavailable"),
        ("maintenance", "none"),
    ]
    assert answer == {"componentStatus": [], "restartRequired": False}


@pytest.mark.parametrize("status_id", ["primary", "unknown", 5, [], "", "x" * 5000], ids=lambda value: str(value)[:20])
async def test_a_value_that_is_not_set_is_empty(node: Node, status_id: Any) -> None:
    assert await get(node, id=status_id) == {}


async def test_a_cleared_value_is_gone_and_the_others_stay(node: Node) -> None:
    for name in ("primary", "maintenance"):
        await node.ok(operation="set_status", id=name, status="x")
    assert await node.ok(operation="clear_status", id="maintenance") == {"message": True}
    assert [one["id"] for one in (await get(node))["systemStatus"]] == ["primary"]


@pytest.mark.parametrize("fields", [{}, {"id": "unknown"}, {"id": 5}, {"id": None}], ids=str)
async def test_clearing_succeeds_whatever_is_named(node: Node, fields: dict[str, Any]) -> None:
    assert await node.ok(operation="clear_status", **fields) == {"message": True}


async def test_nothing_is_left_after_a_new_start(node: Node) -> None:
    for name in ("primary", "maintenance"):
        await node.ok(operation="set_status", id=name, status="x")
    await clear_statuses(node.services.catalog)
    assert (await get(node))["systemStatus"] == []


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "'status' is required"),
        ({"status": 5}, "'status' must be a string"),
        ({"status": ""}, "'status' is not allowed to be empty"),
        ({"status": "x" * 513}, "'status' length must be less than or equal to 512 characters long"),
        ({"status": "x", "id": "other"}, "'id' must be one of [primary, maintenance, availability]"),
        (
            {"status": "available", "id": "availability"},
            'Status "availability" only accepts these values: Available, Unavailable',
        ),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_value_that_does_not_fit_is_refused(node: Node, fields: dict[str, Any], problem: str) -> None:
    assert await node.post({"operation": "set_status", **fields}) == (400, {"error": problem})
    assert (await get(node))["systemStatus"] == []


@pytest.mark.parametrize("status", ["Available", "Unavailable"])
async def test_the_two_words_for_availability_are_taken(node: Node, status: str) -> None:
    await node.ok(operation="set_status", id="availability", status=status)
    assert (await get(node, id="availability"))["status"] == status


async def test_a_node_that_is_being_filled_is_not_available_whatever_was_set(tmp_path: Path) -> None:
    async with cluster_nodes(tmp_path, ["n1"]) as nodes:
        node = nodes["n1"]
        assert await get(node, id="availability") == {}
        await node.services.catalog.create("late", is_filling=True)
        assert await get(node, id="availability") == {"id": "availability", "status": "Unavailable"}
        await node.ok(operation="set_status", id="availability", status="Available")
        await node.ok(operation="set_status", id="primary", status="active")
        assert (await get(node, id="availability"))["status"] == "Unavailable"
        listed = (await get(node))["systemStatus"]
        assert [(one["id"], one["status"]) for one in listed] == [
            ("availability", "Unavailable"),
            ("primary", "active"),
        ]
        await node.services.catalog.maintain("late", end_filling)
        assert (await get(node, id="availability"))["status"] == "Available"
