"""Costly work in threads: fair between clients, bounded in number and time."""

import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing

from ops.turns import Turns
from storage.errors import Overloaded


class Work:
    """Work that blocks its thread until it is released; tells when it has begun, and how often."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._release = threading.Event()
        self.began = trio.Event()
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        self._token.run_sync_soon(self.began.set)
        assert self._release.wait(10)
        return "done"

    def release(self) -> None:
        self._release.set()


async def run(turns: Turns, client: str, work: Callable[[], str], results: list[str]) -> None:
    try:
        results.append(await turns.run(client, work))
    except Overloaded:
        results.append("refused")


async def test_work_returns_its_value() -> None:
    assert await Turns(at_once=1).run("a", "abc".upper) == "ABC"


async def test_an_error_of_the_work_is_its_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        await Turns(at_once=1).run("a", divmod, 1, 0)


async def test_a_client_with_much_work_leaves_a_place_to_others() -> None:
    turns = Turns(at_once=2)
    work = Work()
    results: list[str] = []
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(run, turns, "busy", work, results)
        await work.began.wait()
        assert await turns.run("other", lambda: "at once") == "at once"
        assert work.count == 1
        work.release()
    assert results == ["done"] * 5


async def test_a_client_with_too_much_waiting_is_refused_and_others_are_not() -> None:
    turns = Turns(at_once=2, of_client_max=2)
    work = Work()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(run, turns, "busy", work, [])
        await work.began.wait()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await turns.run("busy", lambda: "never")
        assert await turns.run("other", lambda: "fine") == "fine"
        work.release()


async def test_all_clients_together_are_bounded() -> None:
    turns = Turns(at_once=1, count_max=1)
    work = Work()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, turns, "a", work, [])
        await work.began.wait()
        with pytest.raises(Overloaded):
            await turns.run("b", lambda: "never")
        work.release()
    assert await turns.run("b", lambda: "now") == "now"


async def test_waiting_is_bounded_in_time_and_running_is_not(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(at_once=1, wait_s_max=20)
    work, late = Work(), Work()
    results: list[str] = []
    autojump_clock.autojump_threshold = float("inf")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, turns, "a", work, results)
        await work.began.wait()
        nursery.start_soon(run, turns, "b", late, results)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.jump(21)
        await trio.testing.wait_all_tasks_blocked()
        assert results == ["refused"]
        work.release()
    assert results == ["refused", "done"]


async def test_a_cancelled_wait_gives_its_place_back() -> None:
    turns = Turns(at_once=1, count_max=2)
    work = Work()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, turns, "a", work, [])
        await work.began.wait()
        with trio.move_on_after(0):
            await turns.run("b", lambda: "never")
        work.release()
    assert await turns.run("b", lambda: "now") == "now"
