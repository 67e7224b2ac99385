"""The dispatcher's own order and framing; what operations answer is tested with them."""

import gzip
import json
import zlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from ops.context import Context
from ops.dispatch import LARGE_BODY_BYTES, OperationsDispatcher
from ops.errors import UNEXPECTED
from ops.operation import AnyUser, Operation, operation
from ops.results import RecordStream
from storage.errors import Overloaded, StorageError
from tests.ops.conftest import Node, whole_body

ROW = {"name": "x" * 100}


def stream(*pages: Sequence[Any] | Exception) -> AsyncGenerator[Sequence[Any], None]:
    async def generate() -> AsyncGenerator[Sequence[Any], None]:
        for page in pages:
            if isinstance(page, Exception):
                raise page
            yield page

    return generate()


def dispatcher_of(node: Node, *operations: Operation) -> None:
    """Let ``node`` know these operations only."""
    named = {operation.name: operation for operation in operations}
    node.dispatcher = OperationsDispatcher(node.services, named, node.dispatcher._authenticator)


def answering(result: Any) -> Operation:
    async def handler(ctx: Context, params: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return operation("tried", needs=AnyUser())(handler)


async def test_one_page_goes_out_whole_and_as_a_list(node: Node) -> None:
    dispatcher_of(node, answering(RecordStream(pages=stream([1, 2], []))))
    response = await node.respond({"operation": "tried"})
    assert (response.body, response.chunked) == (b"[1,2]", True)


async def test_no_page_is_an_empty_list(node: Node) -> None:
    dispatcher_of(node, answering(RecordStream(pages=stream())))
    assert await node.post({"operation": "tried"}) == (200, [])


async def test_several_pages_are_one_list_sent_in_pieces(node: Node) -> None:
    dispatcher_of(node, answering(RecordStream(pages=stream([1], [2], [3, 4]))))
    response = await node.respond({"operation": "tried"})
    assert not isinstance(response.body, bytes)
    assert json.loads(await whole_body(response)) == [1, 2, 3, 4]


async def test_a_failure_before_anything_was_sent_is_an_error_answer(node: Node) -> None:
    dispatcher_of(node, answering(RecordStream(pages=stream([1], StorageError("the page is gone")))))
    assert await node.post({"operation": "tried"}) == (500, {"error": "the page is gone"})


async def test_a_failure_in_the_middle_is_the_last_element(node: Node) -> None:
    dispatcher_of(node, answering(RecordStream(pages=stream([1], [2], StorageError("the page is gone")))))
    status, answer = await node.post({"operation": "tried"})
    assert (status, answer) == (200, [1, 2, {"error": "StorageError", "message": "the page is gone"}])


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP;q=0.5"])
async def test_a_large_answer_is_compressed_for_who_takes_it(node: Node, accepted: str) -> None:
    dispatcher_of(node, answering([ROW] * 1000))
    response = await node.respond({"operation": "tried"}, headers={"accept-encoding": accepted})
    assert ("content-encoding", "gzip") in response.headers
    assert isinstance(response.body, bytes)
    assert json.loads(gzip.decompress(response.body)) == [ROW] * 1000


@pytest.mark.parametrize(("rows", "accepted"), [(1, "gzip"), (1000, ""), (1000, "gzip;q=0"), (1000, "br")])
async def test_other_answers_are_sent_as_they_are(node: Node, rows: int, accepted: str) -> None:
    dispatcher_of(node, answering([ROW] * rows))
    response = await node.respond({"operation": "tried"}, headers={"accept-encoding": accepted})
    assert "content-encoding" not in dict(response.headers)
    assert response.body == json.dumps([ROW] * rows, separators=(",", ":")).encode()


async def test_each_piece_of_a_compressed_stream_can_be_read_when_it_comes(node: Node) -> None:
    dispatcher_of(node, answering(RecordStream(pages=stream([1], [2], [3]))))
    response = await node.respond({"operation": "tried"}, headers={"accept-encoding": "gzip"})
    assert not isinstance(response.body, bytes)
    decompressor = zlib.decompressobj(31)
    pieces = [decompressor.decompress(piece) async for piece in response.body]
    assert pieces[:3] == [b"[1", b",2", b",3"]
    assert b"".join(pieces) == b"[1,2,3]"
    assert decompressor.eof


@pytest.mark.parametrize(("result", "body"), [("done", {"message": "done"}), (True, {"message": True}), (None, {})])
async def test_what_is_no_object_is_wrapped(node: Node, result: Any, body: Any) -> None:
    dispatcher_of(node, answering(result))
    assert await node.post({"operation": "tried"}) == (200, body)


async def test_an_overload_is_bare_text(node: Node) -> None:
    dispatcher_of(node, answering(Overloaded()))
    response = await node.respond({"operation": "tried"})
    assert (response.status, response.body) == (503, b"Service unavailable, exceeded request queue limit")
    assert dict(response.headers)["content-type"].startswith("text/plain")


async def test_our_own_mistake_tells_the_client_nothing(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    dispatcher_of(node, answering(RuntimeError("inner workings")))
    assert await node.post({"operation": "tried"}) == (500, {"error": UNEXPECTED})
    assert "inner workings" in caplog.text


async def test_nothing_has_run_when_no_type_is_acceptable(node: Node) -> None:
    ran: list[Any] = []

    async def handler(ctx: Context, params: Any) -> None:
        ran.append(params)

    dispatcher_of(node, operation("tried", needs=AnyUser())(handler))
    status, answer = await node.post({"operation": "tried"}, headers={"accept": "text/html"})
    assert (status, answer["error"], ran) == (406, "Not Acceptable", [])


@pytest.mark.parametrize("name", ["nope", "", 5, ["a"], {"a": 1}, True])
async def test_an_unknown_operation_is_named(node: Node, name: Any) -> None:
    status, answer = await node.post({"operation": name})
    assert status == 400
    assert answer["error"].startswith("Operation '")
    assert answer["error"].endswith("' not found")


async def test_server_owned_fields_of_a_client_are_discarded(node: Node) -> None:
    async def handler(ctx: Context, params: Any) -> list[str]:
        return sorted(ctx.body)

    dispatcher_of(node, operation("tried", needs=AnyUser())(handler))
    body = {"operation": "tried", "hdb_user": {"username": "x"}, "bypass_auth": True, "kept": 1}
    assert await node.post(body) == (200, ["kept", "operation"])


async def test_a_large_body_is_read_for_known_users_only(node: Node) -> None:
    dispatcher_of(node, answering("done"))
    body = json.dumps({"operation": "tried", "filler": "x" * LARGE_BODY_BYTES}).encode()
    assert await node.post(body) == (200, {"message": "done"})
    assert await node.post(body, user=None) == (401, {"error": "Must login"})
    assert await node.post(b"[" * (LARGE_BODY_BYTES + 1), user=None) == (401, {"error": "Must login"})


async def test_errors_are_encoded_as_the_client_asked(node: Node) -> None:
    response = await node.respond({"operation": "nope"}, headers={"accept": "text/yaml"})
    assert response.status == 400
    assert dict(response.headers)["content-type"] == "text/yaml"
    assert b"Operation 'nope' not found" in await whole_body(response)


async def test_restarts_close_the_connection(node: Node) -> None:
    response = await node.respond({"operation": "restart"})
    assert (response.status, response.close, node.control.restarts) == (200, True, 1)
