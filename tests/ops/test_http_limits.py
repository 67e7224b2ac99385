"""What the server waits for, and how long: slow clients, clients that leave, a server that stops, a full house.

The same whatever way a request takes: fast lane and general server pass the same tests, plain and over TLS.
"""

import logging
from collections.abc import Callable
from functools import partial

import httpx
import pytest
import trio
import trio.testing
from h2.events import StreamEnded, StreamReset

from tests.ops import serving_harness
from tests.ops.serving_harness import Way, chunked, get, in_each_plain_way, in_each_way, post, trusting

SHORT_S = 0.1
"""A limit in tests of limits: several times what the server needs to look."""

serving = partial(serving_harness.serving, watch_s=SHORT_S / 5)


# Time


@in_each_way
async def test_a_connection_without_a_request_is_closed(way: Way) -> None:
    async with serving(way, header_timeout_s=SHORT_S) as served:
        client = await served.connect()
        assert await client.wait_closed() == b""


@in_each_way
async def test_an_idle_connection_is_closed(way: Way) -> None:
    async with serving(way, keep_alive_timeout_s=SHORT_S) as served:
        client = await served.connect()
        assert (await client.ask(post(b'"x"'))).status == 200
        assert await client.wait_closed() == b""


@pytest.mark.parametrize("begun", [b"PO", b"POST / HTTP/1.1\r\nHost:", b"GET /health HTTP/1.1\r\n"])
@in_each_way
async def test_a_head_that_does_not_end_is_late(way: Way, begun: bytes) -> None:
    async with serving(way, header_timeout_s=SHORT_S) as served:
        client = await served.connect()
        answer = await client.ask(begun)
        assert (answer.status, answer["connection"]) == (408, "close")


@in_each_way
async def test_a_head_that_comes_in_drops_is_late_all_the_same(way: Way) -> None:
    async with serving(way, header_timeout_s=SHORT_S) as served:
        client = await served.connect()
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nA: ")
                while True:
                    await client.send_what_is_taken(b"a")
                    await trio.sleep(SHORT_S / 10)

            nursery.start_soon(drip)
            assert (await client.answer()).status == 408
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("begun", [post(b"abcdef")[:-2], chunked(b"abcdef")[:-8]], ids=["of a length", "in chunks"])
@in_each_way
async def test_a_body_that_does_not_go_on_is_late(way: Way, begun: bytes) -> None:
    async with serving(way, timeout_s=SHORT_S) as served:
        client = await served.connect()
        answer = await client.ask(begun)
        assert (answer.status, answer.body, answer["connection"]) == (408, b"", "close")
        assert not served.echo.requests


@in_each_way
async def test_a_body_may_take_long_while_it_goes_on(way: Way) -> None:
    async with serving(way, timeout_s=5 * SHORT_S) as served:
        client = await served.connect()
        request = post(b"abc")
        await client.send(request[:-3])
        for byte in request[-3:]:
            await trio.sleep(2 * SHORT_S)
            await client.send(bytes((byte,)))
        assert (await client.answer()).status == 200


@in_each_way
async def test_an_answer_may_take_the_dispatcher_longer_than_any_limit(way: Way) -> None:
    limit_s = 2 * SHORT_S
    async with serving(way, timeout_s=limit_s, header_timeout_s=limit_s, keep_alive_timeout_s=limit_s) as served:
        client = await served.connect()
        await client.send(post(b'"wait"'))
        await served.echo.waiting.wait()
        await trio.sleep(2 * limit_s)
        served.echo.go_on.set()
        assert (await client.answer()).status == 200


@in_each_way
async def test_a_client_that_takes_nothing_is_given_up(way: Way) -> None:
    async with serving(way, timeout_s=SHORT_S) as served:
        client = await served.connect()
        await client.send(post(b'"endless"'))
        await served.echo.stream_closed.wait()
        assert (await client.wait_closed()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["nothing", "part of one"])
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_a_handshake_that_does_not_end_is_given_up(sent: bytes, fast_lane: bool) -> None:
    async with serving(Way(fast_lane=fast_lane, is_tls=True), handshake_timeout_s=SHORT_S) as served:
        stream = await served.connect_transport()
        await stream.send_all(sent)
        assert await stream.receive_some() == b""


async def test_a_failed_handshake_ends_its_connection_alone() -> None:
    async with serving(Way(fast_lane=True, is_tls=True)) as served:
        stream = await served.connect_transport()
        await stream.send_all(get("/health"))
        while await stream.receive_some():
            pass
        assert (await (await served.connect()).ask(post(b'"x"'))).status == 200


# Departure


@in_each_way
async def test_a_client_that_leaves_ends_its_request(way: Way) -> None:
    async with serving(way, half_close_grace_s=SHORT_S) as served:
        client = await served.connect()
        await client.send(post(b'"wait"'))
        await served.echo.waiting.wait()
        await client.leave()
        await served.echo.cancelled.wait()


@in_each_way
async def test_a_client_that_leaves_ends_its_stream(way: Way) -> None:
    async with serving(way) as served:
        client = await served.connect()
        await client.send(post(b'"endless"'))
        await client.stream.receive_some(1)
        await client.leave()
        await served.echo.stream_closed.wait()


@in_each_plain_way
async def test_a_client_may_end_its_direction_and_wait_for_its_answer(way: Way) -> None:
    async with serving(way) as served:
        client = await served.connect()
        await client.send(post(b'"wait"'))
        await client.end()
        await served.echo.waiting.wait()
        await trio.sleep(SHORT_S)  # Long enough for the server to notice.
        served.echo.go_on.set()
        assert (await client.answer()).status == 200
        assert await client.wait_closed() == b""


@in_each_way
async def test_a_client_that_left_in_the_middle_of_a_request_harms_nobody(
    way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with serving(way) as served:
        for sent in (post(b"abcdef")[:-2], chunked(b"abcdef")[:-8], b"POST / HTTP/1.1\r\nHo"):
            client = await served.connect()
            await client.send(sent)
            await client.leave()
        assert (await (await served.connect()).ask(post(b'"x"'))).status == 200
        assert [request.body for request in served.echo.requests] == [b'"x"']
    assert not caplog.records


# Stopping


@in_each_way
async def test_stopping_lets_a_running_request_end_and_closes_idle_connections(way: Way) -> None:
    async with serving(way) as served:
        silent, idle, busy = [await served.connect() for _ in range(3)]
        assert (await idle.ask(post(b'"x"'))).status == 200
        await busy.send(post(b'"wait"'))
        await served.echo.waiting.wait()
        served.server.stop()
        assert await silent.wait_closed() == b""
        assert await idle.wait_closed() == b""
        with pytest.raises(OSError):
            await served.connect()
        served.echo.go_on.set()
        answer = await busy.answer()
        assert (answer.status, answer["connection"]) == (200, "close")
        assert await busy.wait_closed() == b""


@in_each_way
async def test_stopping_is_over_when_the_last_request_is(way: Way) -> None:
    async with serving(way, drain_s=1000.0) as served:
        client = await served.connect()
        await client.send(post(b'"wait"'))
        await served.echo.waiting.wait()
        served.server.stop()
        served.echo.go_on.set()
        await served.stopped.wait()


@in_each_way
async def test_stopping_closes_what_a_general_connection_idles_on(way: Way) -> None:
    async with serving(way, drain_s=1000.0) as served:
        client = await served.connect()
        assert (await client.ask(get("/health"))).status == 200
        served.server.stop()
        await served.stopped.wait()


@in_each_way
async def test_stopping_does_not_wait_longer_than_it_says(way: Way) -> None:
    async with serving(way, drain_s=SHORT_S) as served:
        client = await served.connect()
        await client.send(post(b'"wait"'))
        await served.echo.waiting.wait()
        served.server.stop()
        await served.echo.cancelled.wait()
        assert await client.wait_closed() == b""


@in_each_way
async def test_stopping_does_not_wait_for_a_client_that_takes_nothing(way: Way) -> None:
    async with serving(way, drain_s=SHORT_S) as served:
        client = await served.connect()
        await client.send(post(b'"endless"'))
        await client.stream.receive_some(1)
        served.server.stop()
        await served.echo.stream_closed.wait()


async def test_stopping_closes_an_idle_http_2_connection() -> None:
    way = Way(fast_lane=True, is_tls=True)
    async with (
        serving(way, http2=True, drain_s=1000.0) as served,
        httpx.AsyncClient(http2=True, verify=trusting()) as client,
    ):
        assert (await client.get(f"{served.urls[0]}/health")).status_code == 200
        served.server.stop()
        await served.stopped.wait()


async def test_stopping_closes_an_http_2_connection_without_a_request() -> None:
    async with serving(Way(fast_lane=True, is_tls=True), http2=True, drain_s=1000.0) as served:
        await served.connect_http2()
        await _until(lambda: served.server.statistics().open == 1)
        served.server.stop()
        await served.stopped.wait()


async def test_while_stopping_a_busy_http_2_connection_takes_no_more_requests() -> None:
    async with serving(Way(fast_lane=True, is_tls=True), http2=True) as served:
        client = await served.connect_http2()
        await client.post(1, b'"wait"')
        await served.echo.waiting.wait()
        served.server.stop()
        await trio.testing.wait_all_tasks_blocked()
        await client.post(3, b'"x"')
        await client.wait_for(StreamReset, 3)
        served.echo.go_on.set()
        await client.wait_for(StreamEnded, 1)
    assert [request.body for request in served.echo.requests] == [b'"wait"']


async def test_an_http_2_request_that_is_taken_back_is_cancelled() -> None:
    async with serving(Way(fast_lane=True, is_tls=True), http2=True) as served:
        client = await served.connect_http2()
        await client.post(1, b'"wait"')
        await served.echo.waiting.wait()
        client.protocol.reset_stream(1)
        await client.flush()
        await served.echo.cancelled.wait()
        await client.post(3, b'"x"')
        await client.wait_for(StreamEnded, 3)


# Many connections


@in_each_way
async def test_a_full_house_first_loses_who_has_been_idle_longest(way: Way) -> None:
    async with serving(way, connections_max=2) as served:
        first, second = [await served.connect() for _ in range(2)]
        for client in (first, second):
            assert (await client.ask(post(b'"x"'))).status == 200
        await _until(lambda: served.server.statistics().idle == 2)
        third = await served.connect()
        assert (await third.ask(post(b'"x"'))).status == 200
        assert await first.wait_closed() == b""
        assert (await second.ask(post(b'"x"'))).status == 200


@in_each_plain_way
async def test_in_a_full_house_of_running_requests_a_new_connection_waits(way: Way) -> None:
    async with serving(way, connections_max=1) as served:
        busy = await served.connect()
        await busy.send(post(b'"wait"'))
        await served.echo.waiting.wait()
        waiting = await served.connect()
        await waiting.send(post(b'"x"'))
        await _until(lambda: served.server.statistics().waiting == 1)
        served.echo.go_on.set()
        answer = await busy.answer()
        assert (answer.status, answer["connection"]) == (200, "close")
        assert (await waiting.answer()).status == 200


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for what the other side of a socket does without an event that could be waited for."""
    while not is_so():
        await trio.sleep(0.005)
