"""The queue between those who log and the thread that writes: order, bounds, failures and the end."""

import logging
import threading
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from node.log_line import LogLine, make_line
from node.log_writer import FLUSH_S_MAX, LogWriter

THREAD_S_MAX = 10.0


def line(message: str) -> LogLine:
    return make_line(message, level=logging.INFO, created_s=0.0)


class Target:
    """Collects lines; may be told to block or to fail."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.error: OSError | None = None
        self.is_entered = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def write(self, lines: Sequence[LogLine]) -> None:
        self.is_entered.set()
        assert self.may_go_on.wait(THREAD_S_MAX)
        if self.error is not None:
            raise self.error
        self.texts += [line.text.rpartition(": ")[2] for line in lines]


async def test_lines_are_written_in_order_and_to_the_last_one() -> None:
    target = Target()
    writer = LogWriter("target", target.write)
    writer.put(line("before the start"))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        for number in range(1000):
            writer.put(line(str(number)))
        nursery.cancel_scope.cancel()
    assert target.texts == ["before the start", *map(str, range(1000))]


async def test_lines_of_several_threads_all_arrive() -> None:
    target = Target()
    writer = LogWriter("target", target.write)

    def log_some(name: str) -> None:
        for number in range(200):
            writer.put(line(f"{name}{number}"))

    async with trio.open_nursery() as outer:
        await outer.start(writer.run)
        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(trio.to_thread.run_sync, log_some, name)
        outer.cancel_scope.cancel()
    assert sorted(target.texts) == sorted(f"{name}{number}" for name in "abcd" for number in range(200))


def test_lines_after_the_end_are_written_by_draining() -> None:
    target = Target()
    writer = LogWriter("target", target.write)
    writer.put(line("last words"))
    writer.drain()
    assert target.texts == ["last words"]


def test_what_finds_no_room_is_dropped_and_the_log_says_how_much() -> None:
    target = Target()
    writer = LogWriter("target", target.write, waiting_bytes_max=3 * line("0").size_bytes)
    for number in range(10):
        writer.put(line(str(number)))
    assert writer.statistics().lines_dropped == 7
    writer.drain()
    assert target.texts[:3] == ["0", "1", "2"]
    assert target.texts[3:] == ["they came faster than they could be written"]
    assert writer.statistics().waiting_bytes == 0


def test_there_is_room_again_once_lines_are_written() -> None:
    target = Target()
    writer = LogWriter("target", target.write, waiting_bytes_max=line("0").size_bytes)
    for text in "ab":
        writer.put(line(text))
        writer.drain()
    assert target.texts == ["a", "b"]


async def test_logging_does_not_wait_for_a_target_that_blocks() -> None:
    target = Target()
    target.may_go_on.clear()
    writer = LogWriter("target", target.write)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        writer.put(line("first"))
        assert await trio.to_thread.run_sync(target.is_entered.wait, THREAD_S_MAX)
        writer.put(line("second"))
        assert writer.statistics().waiting_bytes > 0
        target.may_go_on.set()
        nursery.cancel_scope.cancel()
    assert target.texts == ["first", "second"]


async def test_a_stop_does_not_wait_for_ever_for_a_target_that_blocks(
    autojump_clock: trio.testing.MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target()
    target.may_go_on.clear()
    writer = LogWriter("target", target.write)
    began_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        writer.put(line("stuck"))
        await trio.to_thread.run_sync(target.is_entered.wait, THREAD_S_MAX)
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began_s <= FLUSH_S_MAX + 1
    assert target.texts == []
    target.may_go_on.set()
    writer.drain()


def test_a_target_that_fails_costs_lines_that_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[str] = []
    monkeypatch.setattr("node.log_writer._complain", complaints.append)
    target = Target()
    writer = LogWriter("the target", target.write)
    target.error = OSError(28, "No space left on device")
    for text in "ab":
        writer.put(line(text))
        writer.drain()
    assert (writer.statistics().lines_dropped, writer.statistics().lines_written) == (2, 0)
    assert complaints == ["the target cannot be written: [Errno 28] No space left on device"]


def test_a_target_that_works_again_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.log_writer._complain", lambda _: None)
    target = Target()
    writer = LogWriter("the target", target.write)
    target.error = OSError(28, "No space left on device")
    writer.put(line("lost"))
    writer.drain()
    target.error = None
    writer.put(line("kept"))
    writer.drain()
    writer.drain()
    assert target.texts == ["kept", "the log can be written again, 1 lines are missing so far"]
