"""How the server starts and ends; what it does in between is in ``test_http_conformance`` and ``test_http_limits``."""

import socket
from pathlib import Path

import pytest
import trio

from ops.http import Peer
from ops.http_server import HttpServer
from ops.serving_settings import Address, ServingSettings
from replication.tcp_ports import CannotListen
from tests.ops.serving_harness import HOST, Client, Echo, Way, in_each_plain_way, post, server_context, serving


@in_each_plain_way
async def test_who_comes_by_the_domain_socket_is_local(tmp_path: Path, way: Way) -> None:
    path = tmp_path / "socket"
    async with serving(way, domain_socket=path) as served:
        async with await trio.open_unix_socket(path) as stream:
            assert (await Client(stream).ask(post(b'"x"'))).status == 200
        assert served.echo.requests[0].peer == Peer(is_local_socket=True)
    assert not path.exists()


async def test_it_is_started_with_what_it_listens_on() -> None:
    address = Address(port=0, host=HOST)
    server = HttpServer(Echo(), ServingSettings(plain=address, secure=address), server_context())
    async with trio.open_nursery() as nursery:
        plain, secure = await nursery.start(server.run)
        assert plain.startswith(f"http://{HOST}:")
        assert secure.startswith(f"https://{HOST}:")
        server.stop()


async def test_a_port_that_is_taken_ends_the_start() -> None:
    with socket.create_server((HOST, 0)) as taken:
        address = Address(port=taken.getsockname()[1], host=HOST)
        with pytest.raises(CannotListen, match=str(address)):
            await HttpServer(Echo(), ServingSettings(plain=address)).run()


async def test_told_to_stop_before_it_runs_it_ends_at_once() -> None:
    server = HttpServer(Echo(), ServingSettings(plain=Address(port=0, host=HOST)))
    server.stop()
    with trio.fail_after(5):
        await server.run()


@in_each_plain_way
async def test_cancelling_it_ends_everything(way: Way) -> None:
    echo = Echo()
    server = HttpServer(echo, ServingSettings(fast_lane=way.fast_lane, plain=Address(port=0, host=HOST)))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(server.run)
            async with await trio.open_tcp_stream(HOST, int(url.rpartition(":")[2])) as stream:
                await stream.send_all(post(b'"wait"'))
                await echo.waiting.wait()
                nursery.cancel_scope.cancel()
    assert echo.cancelled.is_set()
    assert server.statistics().open == 0


def test_a_secure_listener_needs_a_certificate() -> None:
    with pytest.raises(ValueError, match="SSLContext"):
        HttpServer(Echo(), ServingSettings(secure=Address(port=0, host=HOST)))
