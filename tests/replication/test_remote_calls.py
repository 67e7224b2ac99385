"""Operations over control connections: who asks gets the answer, an error, or the news that none will come."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from replication.connection import PeerIdentity
from replication.errors import LinkLost
from replication.messages import Bye, CallOperation, OperationResult
from replication.remote_calls import OUTSTANDING_MAX, Answer, Answerer, Caller, Handler, RemoteFailure
from tests.replication.linked import Ends, linked


async def echo(peer: PeerIdentity, name: str, operation: Mapping[str, Any]) -> Answer:
    return 200, {"name": name, **operation}


@asynccontextmanager
async def calling(handler: Handler) -> AsyncIterator[tuple[Caller, Ends]]:
    """A caller whose peer carries out operations with ``handler``."""
    async with linked() as ends:
        caller = Caller(ends.a, on_databases=lambda _: None)
        answerer = Answerer(ends.b, handler, on_databases=lambda _: None)
        ends.run_a(caller.receive)
        ends.run_b(answerer.receive, answerer.run)
        await ends.greeted()
        yield caller, ends
        caller.close()


async def test_the_answer_comes_back(autojump_clock: MockClock) -> None:
    async with calling(echo) as (caller, _):
        assert await caller.call({"operation": "x"}, timeout_s=5) == {"name": "a", "operation": "x"}


async def test_an_error_comes_back_as_such(autojump_clock: MockClock) -> None:
    async def refuse(*_: Any) -> Answer:
        return 403, {"error": "not you"}

    async with calling(refuse) as (caller, _):
        with pytest.raises(RemoteFailure, match="not you") as caught:
            await caller.call({}, timeout_s=5)
        assert caught.value.status == 403


async def test_answers_may_come_in_any_order(autojump_clock: MockClock) -> None:
    async def slow(peer: PeerIdentity, name: str, operation: Mapping[str, Any]) -> Answer:
        await trio.sleep(operation["takes_s"])
        return 200, operation["takes_s"]

    async with calling(slow) as (caller, _), trio.open_nursery() as nursery:
        answers: list[int] = []

        async def ask(takes_s: int) -> None:
            answers.append(await caller.call({"takes_s": takes_s}, timeout_s=60))

        for takes_s in (9, 3, 6):
            nursery.start_soon(ask, takes_s)
        await trio.sleep(20)
        assert answers == [3, 6, 9]


async def test_an_answer_that_does_not_come_in_time_is_no_longer_awaited(autojump_clock: MockClock) -> None:
    async def never(*_: Any) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    async with calling(never) as (caller, _):
        with pytest.raises(LinkLost, match="within 5 s"):
            await caller.call({}, timeout_s=5)
        assert trio.current_time() < 10


async def test_losing_the_connection_wakes_all_who_wait(autojump_clock: MockClock) -> None:
    async def never(*_: Any) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    async with calling(never) as (caller, _), trio.open_nursery() as nursery:
        woken = 0

        async def ask() -> None:
            nonlocal woken
            with pytest.raises(LinkLost):
                await caller.call({}, timeout_s=1000)
            woken += 1

        for _ in range(3):
            nursery.start_soon(ask)
        await trio.sleep(1)
        caller.close()
        await trio.sleep(1)
        assert woken == 3


async def test_a_closed_connection_takes_no_more_calls(autojump_clock: MockClock) -> None:
    async with calling(echo) as (caller, _):
        caller.close()
        with pytest.raises(LinkLost, match="closed"):
            await caller.call({}, timeout_s=5)


async def test_no_more_are_under_way_than_allowed(autojump_clock: MockClock) -> None:
    running = most = 0

    async def count(*_: Any) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(1)
        running -= 1
        return 200, None

    async with calling(count) as (caller, _), trio.open_nursery() as nursery:

        async def ask() -> None:
            await caller.call({}, timeout_s=100)

        for _ in range(3 * OUTSTANDING_MAX):
            nursery.start_soon(ask)
    assert most == OUTSTANDING_MAX


async def test_an_answer_that_cannot_be_read_is_an_error_of_the_link(autojump_clock: MockClock) -> None:
    async with linked() as ends:
        caller = Caller(ends.a, on_databases=lambda _: None)

        def answer_garbage(message: object, _: int) -> None:
            if isinstance(message, CallOperation):
                ends.b.post(OperationResult(request_id=message.request_id, status=200, body=b"\xff"))

        ends.run_a(caller.receive)
        ends.run_b(answer_garbage)
        await ends.greeted()
        with pytest.raises(LinkLost, match="cannot be read"):
            await caller.call({}, timeout_s=5)


async def test_answers_that_nobody_asked_for_are_ignored(autojump_clock: MockClock) -> None:
    async with calling(echo) as (caller, ends):
        ends.b.post(OperationResult(request_id=4711, status=200, body=b"\xf6"))
        assert await caller.call({"n": 1}, timeout_s=5) == {"name": "a", "n": 1}
        ends.a.end(Bye(code="shutting-down"))
