"""The operations on the configuration, over the real file, and ``restart``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.configuration import Configuration
from node.configuration_file import FILE_NAME
from tests.ops.conftest import Node, whole_body

SET = "Configuration successfully set. You must restart HarperDB for new config settings to take effect."
FILE = "rootPath: {root}\nlogging:\n  level: warn # quiet\nthreads:\n  count: 2\n"


@pytest.fixture
def configured(node: Node, tmp_path: Path) -> Node:
    """The node, with a configuration file."""
    (tmp_path / FILE_NAME).write_text(FILE.format(root=tmp_path))
    running = {"rootPath": str(tmp_path), "logging": {"level": "warn"}, "threads": {"count": 2}}
    node.services = replace(node.services, configuration=Configuration(tmp_path, running))
    node.dispatcher._services = node.services
    return node


async def test_the_file_is_answered_as_an_object(configured: Node, tmp_path: Path) -> None:
    document = await configured.ok(operation="get_configuration")
    assert document == {"rootPath": str(tmp_path), "logging": {"level": "warn"}, "threads": {"count": 2}}


async def test_a_change_is_written_to_the_file_and_visible_at_once(configured: Node, tmp_path: Path) -> None:
    answer = await configured.ok(operation="set_configuration", logging_level="debug", nothing_known=5)
    assert answer == {"message": SET}
    assert (await configured.ok(operation="get_configuration"))["logging"]["level"] == "debug"
    assert "level: debug # quiet" in (tmp_path / FILE_NAME).read_text()


async def test_the_words_of_the_request_itself_are_no_settings(configured: Node) -> None:
    answer = await configured.ok(operation="set_configuration", threads_count=3, replicated=True)
    assert answer == {"message": SET, "replicated": []}
    document = await configured.ok(operation="get_configuration")
    assert set(document) == {"rootPath", "logging", "threads"}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (
            {"logging_level": "loud"},
            "'logging.level' must be one of [notify, fatal, error, warn, info, debug, trace]",
        ),
        ({"threads_count": -1}, "'threads.count' must be greater than or equal to 0"),
    ],
    ids=str,
)
async def test_a_value_that_does_not_fit_is_refused_and_nothing_written(
    configured: Node, tmp_path: Path, values: dict[str, Any], problem: str
) -> None:
    before = (tmp_path / FILE_NAME).read_text()
    status, answer = await configured.post({"operation": "set_configuration", **values})
    assert (status, answer) == (400, {"error": f"HarperDB config file validation error: {problem}"})
    assert (tmp_path / FILE_NAME).read_text() == before


async def test_replicated_is_true_or_false(configured: Node) -> None:
    request = {"operation": "set_configuration", "replicated": "yes"}
    assert await configured.post(request) == (400, {"error": "'replicated' must be a boolean"})


async def test_a_restart_is_answered_before_it_happens_and_ends_the_connection(node: Node) -> None:
    response = await node.respond({"operation": "restart"})
    assert await whole_body(response) == b'{"message":"Restarting HarperDB. This may take up to 60 seconds."}'
    assert response.close
    assert node.control.restarts == 1


async def test_who_may_not_restart_the_node_does_not(node: Node) -> None:
    await node.ok(operation="add_role", role="keeper", permission={"structure_user": True})
    await node.ok(operation="add_user", username="keeper", password="Keeper-1", role="keeper", active=True)
    status, _ = await node.post({"operation": "restart"}, user=("keeper", "Keeper-1"))
    assert (status, node.control.restarts) == (403, 0)
