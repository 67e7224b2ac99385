"""The operations on routes, over the real configuration file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from node.configuration import Configuration
from node.configuration_file import FILE_NAME
from tests.ops.conftest import Node

SET = "cluster routes successfully set"
DELETED = "cluster routes successfully deleted"
WITH_ALL: dict[str, Any] = {
    "hostname": "c",
    "port": 9944,
    "startTime": "2025-01-02T03:04:05Z",
    "revokedCertificates": ["0A:FF"],
    "shard": 3,
    "replicates": {"sends": True, "receives": False},
    "comment": "kept",
}


@pytest.fixture
def configured(node: Node, tmp_path: Path) -> Node:
    """The node, with a configuration file."""
    (tmp_path / FILE_NAME).write_text(f"rootPath: {tmp_path}\n")
    configuration = Configuration(tmp_path, {"rootPath": str(tmp_path)})
    node.services = replace(node.services, configuration=configuration)
    node.dispatcher._services = node.services
    return node


async def put(node: Node, *routes: Any) -> Any:
    return await node.ok(operation="cluster_set_routes", routes=list(routes))


async def stored(node: Node) -> Any:
    return await node.ok(operation="cluster_get_routes")


async def delete(node: Node, *routes: Any) -> Any:
    return await node.ok(operation="cluster_delete_routes", routes=list(routes))


async def test_without_routes_the_list_is_empty(configured: Node) -> None:
    assert await stored(configured) == []


async def test_routes_of_all_forms_are_stored_and_echoed_as_sent(configured: Node) -> None:
    routes = ["b", "d:1", "wss://e:2", WITH_ALL, {"host": "f"}]
    assert await put(configured, *routes) == {"message": SET, "set": routes, "skipped": []}
    assert await stored(configured) == routes


async def test_a_route_that_is_there_is_skipped_and_keeps_its_stored_form(configured: Node) -> None:
    await put(configured, WITH_ALL)
    again = {"host": "C", "port": "9944"}
    assert await put(configured, "b", again, "b") == {"message": SET, "set": ["b"], "skipped": [again, "b"]}
    assert await stored(configured) == [WITH_ALL, "b"]


async def test_setting_nothing_new_does_not_touch_the_file(configured: Node, tmp_path: Path) -> None:
    await put(configured, "b")
    before = (tmp_path / FILE_NAME).stat()
    await put(configured, "b")
    await put(configured)
    assert (tmp_path / FILE_NAME).stat() == before


async def test_deleting_tells_what_went_and_what_was_kept(configured: Node) -> None:
    await put(configured, "b", WITH_ALL, "d:1")
    assert await delete(configured, {"hostname": "c", "port": 9944}, "unknown", "d") == {
        "message": DELETED,
        "deleted": [WITH_ALL],
        "skipped": ["b", "d:1"],
    }
    assert await stored(configured) == ["b", "d:1"]


async def test_two_hosts_with_equal_ports_are_two_routes(configured: Node) -> None:
    routes = [{"hostname": "b", "port": 1}, {"hostname": "c", "port": 1}]
    await put(configured, *routes)
    assert (await delete(configured, routes[0]))["deleted"] == [routes[0]]


async def test_a_route_broken_by_hand_can_be_seen_and_deleted(configured: Node, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(f"rootPath: {tmp_path}\nreplication:\n  routes: [b, {{port: 1}}]\n")
    assert await stored(configured) == ["b", {"port": 1}]
    assert (await delete(configured, {"port": 1}))["deleted"] == [{"port": 1}]


async def test_requests_at_the_same_time_lose_nothing(configured: Node) -> None:
    names = [f"node-{number}" for number in range(6)]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(put, configured, name)
    assert sorted(await stored(configured)) == names


@pytest.mark.parametrize("operation", ["cluster_set_routes", "cluster_delete_routes"])
@pytest.mark.parametrize(
    ("fields", "problem"),
    [({}, "'routes' is required"), ({"routes": "b"}, "'routes' must be an array")],
    ids=str,
)
async def test_routes_are_a_list(configured: Node, operation: str, fields: Any, problem: str) -> None:
    assert await configured.post({"operation": operation, **fields}) == (400, {"error": problem})


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        ([5], "a route must be a string or an object"),
        ([{"hostname": "b", "sendsTo": ["c"]}], "'sendsTo' is not supported"),
        (
            ["b", {}, "a b"],
            "a route needs a 'hostname' or a 'url'. 'a b' is not a host name or address",
        ),
    ],
    ids=str,
)
async def test_a_bad_route_is_refused_and_nothing_is_stored(configured: Node, routes: Any, problem: str) -> None:
    request = {"operation": "cluster_set_routes", "routes": routes}
    assert await configured.post(request) == (400, {"error": problem})
    assert await stored(configured) == []
