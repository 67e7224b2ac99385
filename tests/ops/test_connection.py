"""The watch over connections, without a server: what is looked at when."""

import math
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from ops.connection import Connection, Connections, ConnectionStatistics, Phase
from ops.http import Peer
from ops.serving_settings import ServingSettings


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    async with ours, theirs:
        yield Connection(ours, Peer(is_local_socket=True), timeout_s=5.0, receive_by=10.0)


async def test_a_connection_is_not_late_before_its_time(connection: Connection) -> None:
    connection.check(9.9)
    assert not connection.is_late


async def test_a_connection_is_late_when_its_time_has_come(connection: Connection) -> None:
    connection.check(10.0)
    assert connection.is_late
    assert connection.scope.cancel_called


async def test_a_connection_is_late_when_its_client_takes_nothing(connection: Connection) -> None:
    connection.receive_by, connection.take_by = math.inf, 5.0
    connection.check(5.0)
    assert connection.is_late


async def test_a_request_is_slow_when_it_is_seen_twice(connection: Connection) -> None:
    connection.answering = 1
    assert not connection.check(1.0)
    assert connection.check(2.0)
    connection.answering = 2
    assert not connection.check(3.0)
    connection.answering = 0
    assert not connection.check(4.0)
    assert not connection.check(5.0)


async def test_what_comes_in_the_moment_of_dismissal_is_not_begun() -> None:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())
    async with ours, theirs:
        await theirs.send_all(b"POST")
        connection = Connection(ours, Peer(is_local_socket=True), timeout_s=5.0, receive_by=10.0)
        connection.dismiss()
        assert await connection.receive() == b""


async def test_only_what_is_idle_is_dismissed_by_stopping(connection: Connection) -> None:
    connections = Connections(ServingSettings())
    with connections.watching(connection):
        connection.phase = Phase.WORKING
        connections.stop()
        assert not connection.is_over
        connection.phase = Phase.IDLE
        connections.stop()
        assert connection.is_over


async def test_a_connection_that_comes_while_stopping_is_dismissed(connection: Connection) -> None:
    connections = Connections(ServingSettings())
    connections.stop()
    with connections.watching(connection):
        assert connection.is_over


async def test_where_there_is_room_nobody_waits_and_no_other_connection_ends_for_it() -> None:
    connections = Connections(ServingSettings(connections_max=1))
    with pytest.raises(StopIteration):
        connections.wait_for_room().send(None)
    assert not connections.keeps_none


async def test_in_a_full_house_answers_are_the_last_of_their_connections_until_there_is_room() -> None:
    connections = Connections(ServingSettings(connections_max=1))
    await connections.wait_for_room()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connections.wait_for_room)
        await trio.testing.wait_all_tasks_blocked()
        assert connections.keeps_none
        connections.leave_room()
    assert not connections.keeps_none


async def test_statistics_count_what_is_open(connection: Connection) -> None:
    connections = Connections(ServingSettings())
    assert connections.statistics() == ConnectionStatistics(open=0, idle=0, waiting=0)
    with connections.watching(connection):
        assert connections.statistics() == ConnectionStatistics(open=1, idle=1, waiting=0)
        connection.phase = Phase.BODY
        assert connections.statistics() == ConnectionStatistics(open=1, idle=0, waiting=0)
