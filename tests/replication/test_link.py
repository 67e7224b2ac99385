"""The tasks of one connection: greeting, heartbeat, and all the ways in which it ends."""

from functools import partial

import cbor2
import pytest
import trio
from trio.testing import MockClock

from replication.errors import LinkLost, PeerRefused, RemoteProtocolError
from replication.link import POSTED_MAX
from replication.messages import Bye, Databases, Error, Message
from tests.replication.linked import linked


async def test_both_sides_know_each_other_after_the_greeting(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        ends.run_b()
        await ends.greeted()
        assert (ends.a.peer.name, ends.b.peer.name) == ("b", "a")


async def test_messages_arrive_in_order(autojump_clock: MockClock) -> None:
    received: list[Message] = []
    async with linked() as ends:
        ends.run_a()
        ends.run_b(lambda message, _: received.append(message))
        await ends.greeted()
        sent: list[Message] = [Databases(databases={"data": number}) for number in range(20)]
        for message in sent:
            await ends.a.send(message)
        await trio.sleep(1)
        assert [message for message in received if isinstance(message, Databases)] == sent


async def test_an_idle_connection_lives_by_its_pings(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        ends.run_b()
        await trio.sleep(1000)
        assert ends.errors == {}
        assert ends.a.session.liveness.latency_s is not None


@pytest.mark.parametrize("direction", ["ab", "ba"])
async def test_a_direction_that_loses_everything_ends_both_sides(direction: str, autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        ends.run_b()
        await ends.greeted()
        ends.network.blackhole(*direction)
        await trio.sleep(60)
        assert {name: type(error) for name, error in ends.errors.items()} == {"a": LinkLost, "b": LinkLost}


async def test_a_peer_that_never_says_hello_is_dropped(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        await trio.sleep(25)
        assert isinstance(ends.errors["a"], LinkLost)


async def test_a_broken_connection_is_a_lost_link(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        ends.run_b()
        await ends.greeted()
        ends.network.reset("a", "b")
        await trio.sleep(1)
        assert {name: type(error) for name, error in ends.errors.items()} == {"a": LinkLost, "b": LinkLost}


async def test_a_goodbye_tells_the_other_side_why(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        ends.run_b()
        await ends.greeted()
        ends.b.end(Bye(code="removed", reason="you were removed"))
        await trio.sleep(1)
        error = ends.errors["a"]
        assert isinstance(error, PeerRefused) and (error.code, error.after_s) == ("removed", -1)


async def test_a_body_that_ends_says_goodbye(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        ends.run_b(body=partial(trio.sleep, 1))
        await trio.sleep(2)
        assert ends.errors["b"] is None
        assert str(ends.errors["a"]) == "shutting-down"


async def test_a_user_that_refuses_a_message_tells_the_peer(autojump_clock: MockClock) -> None:
    def refuse(message: Message, _: int) -> None:
        raise RemoteProtocolError("that will not do", code="gap")

    told: list[Message] = []
    async with linked() as ends:
        ends.run_a(lambda message, _: told.append(message))
        ends.run_b(refuse)
        await ends.greeted()
        ends.a.post(Databases(databases={}))
        await trio.sleep(1)
        assert isinstance(ends.errors["b"], RemoteProtocolError)
        assert [message.code for message in told if isinstance(message, Error)] == ["gap"]


@pytest.mark.parametrize(
    "frame", [b"", b"\xff", b"\x81" * 5000, cbor2.dumps([8, {"id": 1}]), cbor2.dumps([5, {"id": "x"}])]
)
async def test_garbage_ends_the_connection_and_nothing_else(frame: bytes, autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_a()
        ends.run_b()
        await ends.greeted()
        await ends.a.connection.send(frame)
        await trio.sleep(1)
        assert isinstance(ends.errors["b"], RemoteProtocolError)


async def test_a_hello_of_more_than_a_mebibyte_is_not_read(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_b()
        await ends.a.connection.send(bytes((1 << 20) + 1))
        await trio.sleep(1)
        error = ends.errors["b"]
        assert isinstance(error, RemoteProtocolError) and error.code == "too-large"


async def test_a_peer_that_asks_on_and_never_reads_is_given_up(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        with pytest.raises(LinkLost, match="does not read"):
            for _ in range(POSTED_MAX + 1):
                ends.a.post(Databases(databases={}))


async def test_cancelling_one_side_ends_the_other_with_a_goodbye(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        ends.run_b()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ends.a.run, lambda *_: None, trio.sleep_forever)
                await ends.greeted()
                await trio.sleep(1)  # or an answer of the other side meets the closed connection first
                scope.cancel()
        await trio.sleep(1)
        assert str(ends.errors["b"]) == "shutting-down"
