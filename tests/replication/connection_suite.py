"""What every ``Connection`` has to do, whatever it is made of: a subclass names its two ends.

class TestMemory(ConnectionSuite):
    ends = staticmethod(memory_ends)
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing

from replication.connection import Connection
from replication.errors import LinkLost, PeerRefused, RemoteProtocolError, ReplicationError

BYTES_MAX = 8_000_000
SIZES = (0, 1, 125, 126, 65_535, 65_536, 70_000, 5_000_000)


def frame_of(size: int) -> bytes:
    """Bytes of which no two stretches are alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


async def send_all(connection: Connection, frames: list[bytes]) -> None:
    for frame in frames:
        await connection.send(frame)


async def receive_as(connection: Connection, frames: list[bytes]) -> None:
    for frame in frames:
        assert await connection.receive(BYTES_MAX) == frame


class ConnectionSuite:
    ends: Callable[[], AbstractAsyncContextManager[tuple[Connection, Connection]]]
    """Both ends of an open connection, closed behind the test."""

    async def test_frames_of_all_sizes_arrive_whole_and_in_order_both_ways_at_once(self) -> None:
        frames = [frame_of(size) for size in SIZES]
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(send_all, one, frames)
            nursery.start_soon(send_all, other, frames)
            nursery.start_soon(receive_as, one, frames)
            nursery.start_soon(receive_as, other, frames)

    async def test_many_small_frames_keep_their_order(self) -> None:
        frames = [str(number).encode() for number in range(2_000)]
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(send_all, one, frames)
            nursery.start_soon(receive_as, other, frames)

    async def test_a_large_frame_that_nobody_takes_yet_does_not_keep_its_sender_from_receiving(self) -> None:
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(one.send, frame_of(5_000_000))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(other.send, b"meanwhile")
            assert await one.receive(BYTES_MAX) == b"meanwhile"
            assert len(await other.receive(BYTES_MAX)) == 5_000_000

    async def test_a_frame_may_have_exactly_the_bytes_that_are_allowed(self) -> None:
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(one.send, frame_of(1000))
            assert await other.receive(1000) == frame_of(1000)

    async def test_a_frame_that_is_too_long_ends_the_connection_on_both_sides(self) -> None:
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(one.send, frame_of(1001))
            nursery.start_soon(self._expect_end, one)
            with pytest.raises(RemoteProtocolError) as refused:
                await other.receive(1000)
            assert refused.value.code == "too-large"
            with pytest.raises(LinkLost):
                await other.receive(1000)
            with pytest.raises(LinkLost):
                await other.send(b"more")

    async def _expect_end(self, connection: Connection) -> None:
        with pytest.raises(ReplicationError):
            await connection.receive(BYTES_MAX)

    async def test_frames_that_were_sent_before_the_end_arrive_before_it(self) -> None:
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            await one.send(b"last")
            nursery.start_soon(one.close)
            assert await other.receive(BYTES_MAX) == b"last"
            with pytest.raises(LinkLost):
                await other.receive(BYTES_MAX)

    async def test_the_reason_of_an_end_arrives_and_is_cut_to_123_bytes(self) -> None:
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(one.close, "ü" * 100)
            with pytest.raises(PeerRefused) as refused:
                await other.receive(BYTES_MAX)
            assert str(refused.value) == "ü" * 61

    async def test_the_reason_arrives_although_frames_of_the_other_side_are_unread(self) -> None:
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            await send_all(other, [b"unread"] * 100)
            nursery.start_soon(one.close, "enough")
            with pytest.raises(PeerRefused, match="enough"):
                await other.receive(BYTES_MAX)

    async def test_a_closed_connection_neither_sends_nor_receives(self) -> None:
        async with self.ends() as (one, _):
            await one.close()
            await one.close("again")
            with pytest.raises(LinkLost):
                await one.send(b"more")
            with pytest.raises(LinkLost):
                await one.receive(BYTES_MAX)

    async def test_closing_ends_those_who_wait(self) -> None:
        async with self.ends() as (one, _), trio.open_nursery() as nursery:
            nursery.start_soon(self._expect_end, one)
            nursery.start_soon(self._expect_cut, one)
            await trio.testing.wait_all_tasks_blocked()
            await one.close("while others wait")

    async def _expect_cut(self, connection: Connection) -> None:
        with pytest.raises(LinkLost):
            await send_all(connection, [bytes(5_000_000)] * 20)

    async def test_closing_in_a_cancelled_scope_says_the_reason_still(self) -> None:
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            nursery.start_soon(self._close_cancelled, one)
            with pytest.raises(PeerRefused, match="cancelled"):
                await other.receive(BYTES_MAX)

    async def _close_cancelled(self, connection: Connection) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.close("cancelled")

    async def test_a_cancelled_receive_loses_nothing(self) -> None:
        frame = frame_of(5_000_000)
        async with self.ends() as (one, other), trio.open_nursery() as nursery:
            with trio.move_on_after(0.01) as nothing_came:
                await other.receive(BYTES_MAX)
            assert nothing_came.cancelled_caught
            nursery.start_soon(one.send, frame)
            received = None
            while received is None:
                with trio.move_on_after(0.002):
                    received = await other.receive(BYTES_MAX)
            assert received == frame

    async def test_nothing_follows_a_frame_that_was_cancelled_midway(self) -> None:
        async with self.ends() as (one, _):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send_all, one, [bytes(5_000_000)] * 20)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            with pytest.raises(LinkLost):
                await one.send(b"more")

    async def test_the_time_of_the_last_byte_moves_with_what_arrives(self) -> None:
        async with self.ends() as (one, other):
            await one.send(b"first")
            await other.receive(BYTES_MAX)
            first_at = other.last_byte_at
            await trio.sleep(0.002)
            assert other.last_byte_at == first_at
            await one.send(b"second")
            await other.receive(BYTES_MAX)
            assert first_at < other.last_byte_at <= trio.current_time()
