import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.connection import Connection, PeerIdentity
from replication.errors import LinkLost, PeerRefused
from replication.listener import REFUSAL_LOG_S, Incoming, ReplicationListener
from replication.tcp_ports import Address, CannotListen
from replication.transport import TransportSettings
from tests.replication.peers import (
    HOST,
    NODE_A,
    NODE_B,
    STRANGER,
    TEST_S_MAX,
    Door,
    client_context,
    dialer,
    listening,
    node_b,
    parsed,
    serve_echo,
    serve_nothing,
    server_context,
)

HEADERS = {
    "host": "node-b",
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-protocol": "commitlog.v1",
}


def request(line: str = "GET / HTTP/1.1", **changed: str | None) -> bytes:
    headers = {**HEADERS, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [line, *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def opened(url: str) -> trio.SocketStream:
    return await trio.open_tcp_stream(HOST, port_of(url))


async def answer_to(url: str, sent: bytes) -> bytes:
    """All that the listener answers until it closes."""
    async with await opened(url) as stream:
        await stream.send_all(sent)
        answer = b""
        try:
            while chunk := await stream.receive_some():
                answer += chunk
        except trio.BrokenResourceError:
            pass
        return answer


async def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        await trio.sleep(0.001)


@asynccontextmanager
async def plain(admit: Callable[[Incoming], Awaitable[PeerIdentity]] | None = None) -> AsyncIterator[str]:
    async with listening(serve_nothing, admit=admit, is_secure=False) as url:
        yield url


async def test_admission_is_decided_by_all_that_a_peer_shows() -> None:
    door = Door()
    async with listening(serve_nothing, admit=door) as url:
        connection = await dialer()(node_b(url, authorization="Bearer x"))
        await connection.close()
    assert door.incoming == [
        Incoming(certificate=parsed(NODE_A), address=HOST, authorization="Bearer x", is_secure=True)
    ]


async def test_an_accepted_connection_has_the_identity_that_was_decided() -> None:
    identity = PeerIdentity(name="node-a", address=HOST, serial=5, is_super_user=True)
    served: list[PeerIdentity] = []

    async def admit(_: Incoming) -> PeerIdentity:
        return identity

    async def serve(connection: Connection) -> None:
        served.append(connection.peer)
        await connection.close()

    async with listening(serve, admit=admit) as url:
        connection = await dialer()(node_b(url))
        with pytest.raises(LinkLost):
            await connection.receive(100)
        await connection.close()
    assert served == [identity]


async def test_a_refusal_is_answered_with_403_and_at_most_123_bytes_of_reason() -> None:
    async with plain(Door(refusal="ü" * 100)) as url:
        head, _, body = (await answer_to(url, request())).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert body.decode() == "ü" * 61


async def test_refusals_are_logged_once_a_second_for_each_address(
    caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    async with listening(serve_nothing, admit=Door(refusal="not\nyou"), is_secure=False) as url:
        for own in (None, None, "127.0.0.7", "127.0.0.7"):
            with pytest.raises(PeerRefused):
                await dialer(local_address=own)(node_b(url))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(REFUSAL_LOG_S)
        with pytest.raises(PeerRefused):
            await dialer()(node_b(url))
        await trio.testing.wait_all_tasks_blocked()
    logged = [record.getMessage() for record in caplog.records if record.name == "replication"]
    assert logged == [f"refused {address}: not?you" for address in (HOST, "127.0.0.7", HOST)]


async def test_a_certificate_that_tls_refuses_is_logged_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(serve_nothing) as url:
        with pytest.raises(LinkLost):
            await dialer(STRANGER)(node_b(url))
    (record,) = (record for record in caplog.records if record.name == "replication")
    assert record.getMessage().startswith(f"refused {HOST}: its certificate is refused here: ")


async def test_who_only_looks_whether_the_port_is_open_is_not_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(serve_nothing) as secure, plain() as url:
        for one in (secure, url):
            await (await opened(one)).aclose()
        await trio.testing.wait_all_tasks_blocked(0.02)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


REFUSED = {
    "another method": request("POST / HTTP/1.1"),
    "another path": request("GET /other HTTP/1.1"),
    "a query": request("GET /?x HTTP/1.1"),
    "an older HTTP": request("GET / HTTP/1.0"),
    "no upgrade": request(upgrade=None),
    "another upgrade": request(upgrade="h2c"),
    "no connection header": request(connection=None),
    "no key": request(sec_websocket_key=None),
    "another version": request(sec_websocket_version="8"),
    "no subprotocol": request(sec_websocket_protocol=None),
    "another subprotocol": request(sec_websocket_protocol="commitlog.v0"),
    "no host": request(host=None),
    "a host that is none": request(host="\xff" * 70),
    "two hosts": request(host="a\r\nhost: b"),
    "an authorization that is not ASCII": request(authorization="Basic \xff"),
    "two authorizations": request(authorization="Basic a\r\nauthorization: Basic b"),
    "a header without a name": request(host="a\r\n: b"),
    "a bad line": request(host="a\r\nno colon"),
    "an endless line": b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000,
    "endless headers": b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 4_000,
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
async def test_what_is_not_our_upgrade_is_answered_with_400_and_asks_nobody(sent: bytes) -> None:
    door = Door()
    async with plain(door) as url:
        answer = await answer_to(url, sent)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert door.incoming == []


async def test_an_upgrade_offers_no_extension_whatever_the_peer_asks() -> None:
    async with plain() as url:
        answer = await answer_to(url, request(sec_websocket_extensions="permessage-deflate"))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-protocol: commitlog.v1" in answer.lower()
    assert b"extensions" not in answer.lower()


async def test_frames_that_come_with_the_request_are_not_lost() -> None:
    received: list[bytes] = []

    async def serve(connection: Connection) -> None:
        received.append(await connection.receive(100))
        await connection.close()

    async with listening(serve, is_secure=False) as url:
        await answer_to(url, request() + bytes([0x82, 0x85]) + bytes(4) + b"early")
    assert received == [b"early"]


@given(st.binary(min_size=1, max_size=400), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_arrives_the_listener_goes_on(sent: bytes, is_upgraded: bool) -> None:
    async def knock() -> None:
        async with listening(serve_echo, is_secure=False) as url:
            async with await opened(url) as stream:
                await stream.send_all((request() if is_upgraded else b"GET / HTTP/1.1\r\n") + sent)
            await _assert_serves(url)

    trio.run(knock)


async def _assert_serves(url: str) -> None:
    connection = await dialer()(node_b(url))
    await connection.send(b"still there?")
    assert await connection.receive(100) == b"still there?"
    await connection.close()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03", b"GET / HTTP/1.1\r\nx: y\r\n"], ids=["silent", "tls", "http"])
@pytest.mark.parametrize("is_secure", [True, False], ids=["secure", "plain"])
async def test_a_peer_that_does_not_go_on_is_closed(sent: bytes, is_secure: bool) -> None:
    hasty = TransportSettings(handshake_s=0.05, upgrade_s=0.05)
    async with listening(serve_nothing, is_secure=is_secure, settings=hasty) as url:
        await answer_to(url, sent)


@pytest.mark.parametrize("sent", [request(), b"\x16\x03\x01\x02\x00" + bytes(600), bytes(600)])
async def test_what_is_not_tls_is_closed_on_the_secure_port(sent: bytes) -> None:
    door = Door()
    async with listening(serve_nothing, admit=door) as url:
        assert b"HTTP" not in await answer_to(url, sent)
    assert door.incoming == []


async def test_a_peer_that_is_silent_after_its_handshake_is_closed() -> None:
    hasty = TransportSettings(upgrade_s=0.05)
    async with listening(serve_nothing, settings=hasty) as url:
        stream = trio.SSLStream(await opened(url), client_context(NODE_A), https_compatible=True)
        assert await stream.receive_some() == b""
        await stream.aclose()


async def test_an_admission_that_takes_too_long_is_given_up() -> None:
    async def admit(_: Incoming) -> PeerIdentity:
        await trio.sleep_forever()
        raise AssertionError

    hasty = TransportSettings(upgrade_s=0.05)
    async with listening(serve_nothing, admit=admit, settings=hasty) as url:
        with pytest.raises(LinkLost):
            await dialer()(node_b(url))


async def test_silent_connections_make_room_for_others() -> None:
    few = TransportSettings(unadmitted_max=5)
    async with listening(serve_echo, settings=few) as url:
        silent = [await opened(url) for _ in range(20)]
        await _assert_serves(url)
        before = trio.lowlevel.current_statistics().tasks_living
        silent += [await opened(url) for _ in range(20)]
        await _assert_serves(url)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert trio.lowlevel.current_statistics().tasks_living <= before
        for one in silent:
            await one.aclose()


async def test_admitted_connections_do_not_count_as_silent_ones() -> None:
    few = TransportSettings(unadmitted_max=1)
    async with listening(serve_echo, settings=few) as url:
        connections = [await dialer()(node_b(url)) for _ in range(5)]
        for one in connections:
            await one.send(b"x")
            assert await one.receive(10) == b"x"
        async with trio.open_nursery() as closing:
            for one in connections:
                closing.start_soon(one.close)


async def test_the_failure_of_one_connection_is_logged_and_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def serve(connection: Connection) -> None:
        if await connection.receive(100) == b"fail":
            raise RuntimeError("a mistake of ours")
        await serve_echo(connection)

    async with listening(serve) as url:
        good = await dialer()(node_b(url))
        await good.send(b"go on")
        bad = await dialer()(node_b(url))
        await bad.send(b"fail")
        with pytest.raises(LinkLost):
            await bad.receive(100)
        await bad.close()
        await good.send(b"unharmed")
        assert await good.receive(100) == b"unharmed"
        await good.close()
    assert "a mistake of ours" in caplog.text


async def test_a_failing_admission_ends_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    async def admit(incoming: Incoming) -> PeerIdentity:
        if incoming.authorization is not None:
            raise RuntimeError("a mistake of ours")
        return PeerIdentity(name="node-a", address=incoming.address)

    async with listening(serve_echo, admit=admit) as url:
        with pytest.raises(LinkLost):
            await dialer()(node_b(url, authorization="Basic x"))
        await _assert_serves(url)
    assert "a mistake of ours" in caplog.text


async def test_all_ends_when_it_is_cancelled() -> None:
    async with listening(serve_echo) as url:
        connection = await dialer()(node_b(url))
        await connection.send(b"x")
        await connection.receive(10)
    with trio.fail_after(TEST_S_MAX), pytest.raises(LinkLost):
        await connection.receive(10)
    await connection.close()
    with pytest.raises(OSError, match="connect"):
        await opened(url)


async def test_a_port_that_is_taken_is_named_and_none_stays_open() -> None:
    async with listening(serve_nothing) as url:
        taken = Address(port=port_of(url), host=HOST)
        listener = ReplicationListener(
            Address(port=0, host="127.0.0.9"), taken, lambda: server_context(NODE_B), Door(), TransportSettings()
        )
        with pytest.raises(CannotListen, match=f"cannot listen for replication on {taken}: Address already in use"):
            await listener.run(serve_nothing)


async def test_both_ports_are_served() -> None:
    listener = ReplicationListener(
        Address(port=0, host=HOST),
        Address(port=0, host=HOST),
        partial(server_context, NODE_B),
        Door(),
        TransportSettings(),
    )
    with trio.fail_after(TEST_S_MAX):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run, serve_echo)
            assert [url.partition(":")[0] for url in listener.urls] == ["wss", "ws"]
            for url in listener.urls:
                await _assert_serves(url)
            nursery.cancel_scope.cancel()


async def test_each_handshake_asks_for_the_context_in_force() -> None:
    contexts = [server_context(NODE_B), server_context(NODE_A)]
    listener = ReplicationListener(Address(port=0, host=HOST), None, lambda: contexts[0], Door(), TransportSettings())
    with trio.fail_after(TEST_S_MAX):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run, serve_echo)
            (url,) = listener.urls
            await _assert_serves(url)
            contexts.reverse()
            with pytest.raises(LinkLost, match="is for node-a, not for node-b"):
                await dialer()(node_b(url))
            nursery.cancel_scope.cancel()


async def test_hundreds_of_handshakes_leave_no_growth_of_sockets_and_tasks() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def tasks() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    async with listening(serve_echo) as url:
        await _assert_serves(url)
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = open_files(), tasks()
        for number in range(300):
            if number % 3 == 0:
                await _assert_serves(url)
            elif number % 3 == 1:
                with pytest.raises(LinkLost):
                    await dialer(STRANGER)(node_b(url))
            else:
                with pytest.raises(LinkLost):
                    await dialer()(node_b(url, name="node-c"))
        await wait_until(lambda: (open_files(), tasks()) <= before)
