import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection as WsprotoConnection
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong
from wsproto.frame_protocol import FrameDecoder

from replication.connection import PeerIdentity
from replication.errors import LinkLost, PeerRefused, RemoteProtocolError, ReplicationError
from replication.transport import WatchedStream
from replication.websocket import WebSocketConnection, frame_head
from tests.replication.connection_suite import ConnectionSuite
from tests.replication.peers import HOST, TEST_S_MAX, dialled_and_accepted

BYTES_MAX = 100_000
MASK = b"\x01\x02\x03\x04"


class TestTls(ConnectionSuite):
    ends = staticmethod(partial(dialled_and_accepted, is_secure=True))


class TestPlain(ConnectionSuite):
    ends = staticmethod(partial(dialled_and_accepted, is_secure=False))


@asynccontextmanager
async def raw_peer() -> AsyncIterator[tuple[trio.SocketStream, WebSocketConnection]]:
    """A server's connection whose client sends any bytes that a test likes."""
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    with trio.fail_after(TEST_S_MAX):
        async with listener:
            peer = await trio.open_tcp_stream(HOST, listener.socket.getsockname()[1])
            accepted = await listener.accept()
        async with peer, accepted:
            websocket = WsprotoConnection(ConnectionType.SERVER)
            identity = PeerIdentity(name="node-a", address=HOST)
            yield peer, WebSocketConnection(WatchedStream(accepted), websocket, identity)


def masked(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    """A frame of a client whose mask is zero, so that the payload stands as it is."""
    first = (0x80 if is_last else 0) | opcode
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0x80 | 126, len(payload))
    return bytes([first]) + length + bytes(4) + payload


async def next_event(peer: trio.SocketStream, client: WsprotoConnection) -> object:
    """What the connection under test sends."""
    while (event := next(client.events(), None)) is None:
        client.receive_data(bytes(await peer.receive_some()) or None)
    return event


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536, 1 << 40])
@pytest.mark.parametrize("mask", [b"", MASK], ids=["server", "client"])
def test_a_frame_head_is_read_as_it_was_meant(length: int, mask: bytes) -> None:
    decoder = FrameDecoder(client=not mask)
    decoder.receive_bytes(frame_head(length, mask))
    assert decoder.parse_header()
    assert decoder.header is not None
    assert (decoder.header.fin, decoder.header.opcode, decoder.header.payload_len) == (True, 2, length)


async def test_a_ping_is_answered() -> None:
    client = WsprotoConnection(ConnectionType.CLIENT)
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive, BYTES_MAX)
        await peer.send_all(client.send(Ping(payload=b"there?")))
        assert await next_event(peer, client) == Pong(payload=b"there?")
        nursery.cancel_scope.cancel()


async def test_a_ping_amid_the_fragments_of_a_message_is_answered_and_the_message_is_whole() -> None:
    client = WsprotoConnection(ConnectionType.CLIENT)
    async with raw_peer() as (peer, connection):
        await peer.send_all(masked(2, b"one", is_last=False) + masked(9, b"?") + masked(0, b" two"))
        assert await connection.receive(BYTES_MAX) == b"one two"
        assert await next_event(peer, client) == Pong(payload=b"?")


async def test_while_a_frame_is_sent_pings_wait_for_its_end_and_receiving_goes_on() -> None:
    client = WsprotoConnection(ConnectionType.CLIENT)
    large = bytes(8_000_000)
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        nursery.start_soon(connection.send, large)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send_all(masked(9, b"old") + masked(9, b"new") + masked(2, b"data"))
        assert await connection.receive(BYTES_MAX) == b"data"
        events = [await next_event(peer, client)]
        while isinstance(events[-1], BytesMessage):
            events.append(await next_event(peer, client))
        assert sum(len(event.data) for event in events if isinstance(event, BytesMessage)) == len(large)
        assert events[-1] == Pong(payload=b"new")


async def test_a_peer_that_pings_and_reads_nothing_does_not_hold_up_receiving() -> None:
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        nursery.start_soon(connection.send, bytes(8_000_000))
        await trio.testing.wait_all_tasks_blocked()
        for number in range(100):
            await peer.send_all(masked(9, bytes(125)) * 100 + masked(2, bytes([number])))
            assert await connection.receive(BYTES_MAX) == bytes([number])
        nursery.cancel_scope.cancel()


async def test_a_close_that_comes_while_a_frame_is_sent_ends_the_sender_too() -> None:
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        nursery.start_soon(_expect_cut, connection)
        await trio.testing.wait_all_tasks_blocked()
        await peer.send_all(masked(9, b"?") + masked(8, struct.pack("!H", 1000) + b"enough"))
        with pytest.raises(PeerRefused, match="enough"):
            await connection.receive(BYTES_MAX)


async def _expect_cut(connection: WebSocketConnection) -> None:
    with pytest.raises(LinkLost):
        await connection.send(bytes(8_000_000))


async def test_a_frame_that_trickles_in_moves_the_time_of_the_last_byte() -> None:
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive, BYTES_MAX)
        seen = {connection.last_byte_at}
        for byte in masked(2, b"12345")[:-1]:
            await peer.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked(0.001)
            seen.add(connection.last_byte_at)
        assert len(seen) > 5
        nursery.cancel_scope.cancel()


async def test_text_ends_the_connection() -> None:
    client = WsprotoConnection(ConnectionType.CLIENT)
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        await peer.send_all(masked(1, b"text"))
        nursery.start_soon(_closes_with, peer, client, 1003)
        with pytest.raises(RemoteProtocolError, match="text"):
            await connection.receive(BYTES_MAX)


async def _closes_with(peer: trio.SocketStream, client: WsprotoConnection, code: int) -> None:
    event = await next_event(peer, client)
    assert isinstance(event, CloseConnection)
    assert event.code == code
    await peer.aclose()


async def test_a_frame_is_refused_as_soon_as_its_bound_is_passed() -> None:
    client = WsprotoConnection(ConnectionType.CLIENT)
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        await peer.send_all(frame_head(1 << 62, MASK) + bytes(1001))
        nursery.start_soon(_closes_with, peer, client, 1009)
        with pytest.raises(RemoteProtocolError) as refused:
            await connection.receive(1000)
        assert refused.value.code == "too-large"


async def test_the_bound_is_one_of_the_message_however_many_fragments_it_has() -> None:
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        await peer.send_all(masked(2, bytes(100), is_last=False) + masked(0, bytes(100), is_last=False) * 10)
        nursery.start_soon(peer.aclose)
        with pytest.raises(RemoteProtocolError, match="longer than 1000 bytes"):
            await connection.receive(1000)


async def test_fragments_without_end_take_no_memory() -> None:
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        nursery.start_soon(connection.receive, 1000)
        await peer.send_all(masked(2, b"", is_last=False))
        tracemalloc.start()
        try:
            for _ in range(40):
                await peer.send_all(masked(0, b"", is_last=False) * 1000)
                await trio.testing.wait_all_tasks_blocked()
            assert tracemalloc.get_traced_memory()[0] < 500_000
        finally:
            tracemalloc.stop()
        nursery.cancel_scope.cancel()


async def test_a_peer_that_is_gone_is_a_link_lost() -> None:
    async with raw_peer() as (peer, connection):
        await peer.aclose()
        with pytest.raises(LinkLost, match="the peer closed the connection"):
            await connection.receive(BYTES_MAX)


async def test_a_close_without_a_reason_is_a_link_lost() -> None:
    async with raw_peer() as (peer, connection):
        await peer.send_all(masked(8, b""))
        with pytest.raises(LinkLost):
            await connection.receive(BYTES_MAX)


async def test_a_reason_from_outside_is_one_printable_line() -> None:
    async with raw_peer() as (peer, connection):
        await peer.send_all(masked(8, struct.pack("!H", 1000) + b"no\nentry\x1b[2J"))
        with pytest.raises(PeerRefused) as refused:
            await connection.receive(BYTES_MAX)
        assert str(refused.value) == "no?entry?[2J"


VIOLATIONS = {
    "a reserved opcode": bytes([0x83, 0x80]) + bytes(4),
    "a reserved control opcode": bytes([0x8B, 0x80]) + bytes(4),
    "a reserved bit": bytes([0xC2, 0x80]) + bytes(4),
    "a fragmented ping": bytes([0x09, 0x80]) + bytes(4),
    "a long ping": struct.pack("!BBH", 0x89, 0xFE, 126) + bytes(130),
    "no mask": bytes([0x82, 0x01, 0x41]),
    "a length with the highest bit": struct.pack("!BBQ", 0x82, 0xFF, 1 << 63) + bytes(4),
    "a length that is longer than need be": struct.pack("!BBQ", 0x82, 0xFF, 5) + bytes(9),
    "a continuation of nothing": masked(0, b"x"),
    "a message within a message": masked(2, b"x", is_last=False) + masked(2, b"y"),
    "a close of one byte": masked(8, b"x"),
    "a close with a code that is reserved": masked(8, struct.pack("!H", 1005)),
    "a close whose reason is not UTF-8": masked(8, struct.pack("!H", 1000) + b"\xff"),
}


@pytest.mark.parametrize("sent", VIOLATIONS.values(), ids=VIOLATIONS)
async def test_a_broken_protocol_ends_the_connection(sent: bytes) -> None:
    async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        await peer.send_all(sent)
        nursery.start_soon(peer.aclose)
        with pytest.raises(RemoteProtocolError):
            await connection.receive(BYTES_MAX)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_whatever_arrives_only_the_errors_of_a_link_leave(chunks: list[bytes], starts_well: bool) -> None:
    async def receive_until_the_end() -> None:
        async with raw_peer() as (peer, connection), trio.open_nursery() as nursery:
            nursery.start_soon(_send_and_leave, peer, [masked(2, b"fine")] * starts_well + chunks)
            while True:
                try:
                    assert len(await connection.receive(1000)) <= 1000
                except ReplicationError:
                    return

    trio.run(receive_until_the_end)


async def _send_and_leave(peer: trio.SocketStream, chunks: list[bytes]) -> None:
    try:
        for chunk in chunks:
            await peer.send_all(chunk)
    except trio.BrokenResourceError:
        pass
    await peer.aclose()
