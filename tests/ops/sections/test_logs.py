"""``read_log`` through the dispatcher; its parameters and the reader have tests of their own."""

from pathlib import Path

import pytest

from tests.ops.conftest import Node

LINES = (
    "2026-11-23T08:30:01.381Z [job/3] [notify]: Starting job: 7c2f\n"
    "2026-11-23T08:31:10.020Z [http/1] [error] [operation]: Operation 'nope' not found\n"
)
ERROR = {
    "timestamp": "2026-11-23T08:31:10.020Z",
    "thread": "http/1",
    "level": "error",
    "tags": ["operation"],
    "message": "Operation 'nope' not found",
}


@pytest.fixture
def logged(node: Node, tmp_path: Path) -> Node:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "hdb.log").write_text(LINES)
    return node


async def test_entries_are_a_list(logged: Node) -> None:
    assert await logged.ok(operation="read_log", level="error", order=None) == [ERROR]


async def test_asked_of_all_nodes_each_entry_names_its_node(logged: Node) -> None:
    assert await logged.ok(operation="read_log", level="error", replicated=True) == [{**ERROR, "node": "n1"}]


async def test_a_log_that_is_not_there_is_told_so(logged: Node) -> None:
    request = {"operation": "read_log", "log_name": "install.log"}
    assert await logged.post(request) == (400, {"error": "'log_name' 'install.log' does not exist."})
