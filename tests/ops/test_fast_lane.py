"""What only the lane's own tests can show: which requests it takes, what it hands on, and in how many pieces it answers.

What its answers say is compared with the general server's in ``test_http_conformance``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from ops.connection import Connection, Connections
from ops.cors import cors_policy
from ops.fast_lane import JOINED_BYTES_MAX, FastLane
from ops.http import Peer
from ops.serving_settings import ServingSettings
from tests.ops.serving_harness import LARGE, TEST_S_MAX, Client, Echo, chunked, get, post

SETTINGS = ServingSettings(header_bytes_max=500, body_bytes_max=1000)


class CountingConnection(Connection):
    """Counts the pieces that it is given to send."""

    sent = 0

    async def send(self, data: bytes) -> None:
        self.sent += 1
        await super().send(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A lane at one end of a connection, its client at the other."""

    lane: FastLane
    client: Client
    echo: Echo
    connection: CountingConnection

    async def handed_on(self, sent: bytes) -> bytes:
        """What the lane leaves of ``sent``, which the client ends with."""
        await self.client.send(sent)
        await self.client.end()
        return await self.lane.serve()


@asynccontextmanager
async def a_lane() -> AsyncIterator[Lane]:
    ours, theirs = trio.socket.socketpair()
    stream, client = trio.SocketStream(ours), trio.SocketStream(theirs)
    connections, echo = Connections(SETTINGS), Echo()
    connection = CountingConnection(stream, Peer(is_local_socket=True), timeout_s=5.0, receive_by=float("inf"))
    lane = FastLane(connection, connections, echo, cors_policy(SETTINGS), SETTINGS)
    async with stream, client:
        with trio.fail_after(TEST_S_MAX):
            yield Lane(lane=lane, client=Client(client), echo=echo, connection=connection)


@pytest.mark.parametrize("body", [b'"x"', b'"list"', b'"raise it not"'])
async def test_a_small_answer_is_sent_as_one(body: bytes) -> None:
    async with a_lane() as served:
        assert await served.handed_on(post(body)) == b""
        assert served.connection.sent == 1
        assert (await served.client.answer()).status == 200


async def test_the_body_of_a_large_answer_is_not_copied_to_its_head() -> None:
    assert len(LARGE) > JOINED_BYTES_MAX
    async with a_lane() as served, trio.open_nursery() as nursery:
        nursery.start_soon(served.handed_on, post(b'"large"'))
        assert (await served.client.answer()).body == LARGE
        assert served.connection.sent > 1


async def test_the_head_of_a_stream_goes_with_its_first_piece() -> None:
    async with a_lane() as served:
        assert await served.handed_on(post(b'"stream"')) == b""
        assert served.connection.sent == len((b"[1", b",2]", b"the end"))
        assert (await served.client.answer()).body == b"[1,2]"


def _with(*headers: str) -> bytes:
    return post(b"abc", *headers)


NOT_OF_THE_LANE = {
    "another method": get("/"),
    "another path": _with().replace(b"/ ", b"/a "),
    "a query": _with().replace(b"/ ", b"/?a "),
    "another version": _with().replace(b"1.1", b"1.0"),
    "chunks": chunked(b"abc"),
    "expect": _with("Expect: 100-continue"),
    "upgrade": _with("Upgrade: websocket", "Connection: upgrade"),
    "upgrade unsaid": _with("Upgrade: websocket"),
    "no host": _with().replace(b"Host: x\r\n", b""),
    "two hosts": _with("Host: y"),
    "both lengths": _with("Transfer-Encoding: chunked"),
    "a length twice": _with("Content-Length: 3"),
    "a folded header": _with("A: b", " c"),
    "a line feed alone": _with("A: b\nC: d"),
    "a control character": _with("A: b\x01"),
    "a head that is too large": _with("A: " + "b" * 500),
    "a body that is too large": post(b"y" * 1001),
    "nothing of http": b"\x16\x03\x01\x00",
    "part of a request line": b"POST / HT",
    "part of a head": b"POST / HTTP/1.1\r\nHost",
    "part of a body": post(b"abc")[:-1],
}


@pytest.mark.parametrize("name", NOT_OF_THE_LANE)
async def test_what_is_not_of_the_lane_is_handed_on_whole(name: str) -> None:
    async with a_lane() as served:
        assert await served.handed_on(NOT_OF_THE_LANE[name]) == NOT_OF_THE_LANE[name]
        assert not served.echo.requests
        assert served.connection.sent == 0


@pytest.mark.parametrize("name", NOT_OF_THE_LANE)
async def test_what_is_not_of_the_lane_is_handed_on_after_what_is(name: str) -> None:
    async with a_lane() as served:
        assert await served.handed_on(post(b"a") + post(b"bc") + NOT_OF_THE_LANE[name]) == NOT_OF_THE_LANE[name]
        assert [request.body for request in served.echo.requests] == [b"a", b"bc"]


async def test_what_follows_a_request_of_another_path_is_left_to_its_server() -> None:
    async with a_lane() as served:
        rest = get("/health") + post(b"after")
        assert await served.handed_on(post(b"a") + rest) == rest


async def test_a_body_that_comes_in_parts_is_put_together() -> None:
    async with a_lane() as served, trio.open_nursery() as nursery:
        nursery.start_soon(served.lane.serve)
        request = post(bytes(range(256)))
        for start in range(0, len(request), 100):
            await served.client.send(request[start : start + 100])
        assert (await served.client.answer()).status == 200
        assert served.echo.requests[0].body == bytes(range(256))
        nursery.cancel_scope.cancel()


async def test_a_head_is_not_taken_for_the_last_one() -> None:
    async with a_lane() as served:
        sent = post(b"a", "A: 1") + post(b"b", "A: 1") + post(b"c", "A: 2") + post(b"dd", "A: 2")
        assert await served.handed_on(sent) == b""
    seen = [(request.headers["a"], request.headers["content-length"], request.body) for request in served.echo.requests]
    assert seen == [("1", "1", b"a"), ("1", "1", b"b"), ("2", "1", b"c"), ("2", "2", b"dd")]


async def test_nothing_is_answered_after_the_client_ended_the_connection() -> None:
    async with a_lane() as served:
        assert await served.handed_on(post(b"a", "Connection: close") + post(b"b")) == b""
        assert [request.body for request in served.echo.requests] == [b"a"]
