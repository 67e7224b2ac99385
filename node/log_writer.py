"""From the tasks that log to a file or stream: a bounded queue of lines and the thread that writes them.

Whoever logs never waits for a disk or a terminal. When lines come faster than they can be written, the newest are
dropped and counted, and the log itself says how many: a gap is always visible. A target that fails costs lines, never
the node.
"""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from node.log_line import LogLine, make_line
from ops.log_thread import MAIN_THREAD

WAITING_BYTES_MAX: Final = 16 * 1024 * 1024
"""Room for a burst while the disk is busy with something else, small beside what a node needs anyway."""
FLUSH_S_MAX: Final = 5.0
"""How long a stop waits for a target that does not take lines any more (a terminal on hold, a full pipe)."""

WriteLines: TypeAlias = Callable[[Sequence[LogLine]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatistics:
    lines_written: int
    lines_dropped: int
    """Because the queue was full, or the target refused them."""
    waiting_bytes: int


class LogWriter:
    """Lines put before ``run`` wait for it; ``drain`` writes what is left when no thread is there to do it."""

    def __init__(self, name: str, write: WriteLines, *, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        """``write`` may block and may raise ``OSError``; it is called by one thread at a time. ``name`` is for
        messages.
        """
        self.name = name
        self._write = write
        self._waiting_bytes_max = waiting_bytes_max
        self._has_lines = threading.Condition()
        self._writing = threading.Lock()
        self._lines: deque[LogLine] = deque()
        self._waiting_bytes = 0
        self._dropped_unreported = 0
        self._dropped = 0
        self._written = 0
        self._is_closed = False
        self._has_failed = False

    def put(self, line: LogLine) -> None:
        """From any thread. Never blocks for longer than another ``put`` takes."""
        with self._has_lines:
            if self._waiting_bytes + line.size_bytes > self._waiting_bytes_max:
                self._dropped_unreported += 1
                return
            self._lines.append(line)
            self._waiting_bytes += line.size_bytes
            if len(self._lines) == 1:
                self._has_lines.notify()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled, and then what waits still, for at most ``FLUSH_S_MAX``."""
        self._is_closed = False
        grace = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_thread, grace)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                grace.deadline = trio.current_time() + FLUSH_S_MAX
                with self._has_lines:
                    self._is_closed = True
                    self._has_lines.notify()

    def drain(self) -> None:
        """Write what waitshere, for the time after ``run``. Gives up where a stuck thread still writes."""
        if not self._writing.acquire(timeout=FLUSH_S_MAX):
            _complain(f"{self.name} takes no lines; the last ones are lost")
            return
        try:
            self._write_batch(self._take_nowait())
        finally:
            self._writing.release()

    def statistics(self) -> LogStatistics:
        with self._has_lines:
            dropped = self._dropped + self._dropped_unreported
            return LogStatistics(lines_written=self._written, lines_dropped=dropped, waiting_bytes=self._waiting_bytes)

    async def _run_thread(self, grace: trio.CancelScope) -> None:
        """A thread of its own, left behind where even the grace ends: a stop must not hang on a terminal."""
        with grace:
            await trio.to_thread.run_sync(
                self._write_until_closed, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )

    def _write_until_closed(self) -> None:
        while True:
            with self._has_lines:
                self._has_lines.wait_for(lambda: self._lines or self._is_closed)
                if not self._lines and self._is_closed:
                    return
            with self._writing:
                self._write_batch(self._take_nowait())

    def _take_nowait(self) -> deque[LogLine]:
        """All that waits, and a line that tells what did not find room since the last time."""
        with self._has_lines:
            lines, self._lines = self._lines, deque()
            self._waiting_bytes = 0
            dropped, self._dropped_unreported = self._dropped_unreported, 0
            self._dropped += dropped
        if dropped:
            lines.append(_note(f"{dropped} log lines were dropped: they came faster than they could be written"))
        return lines

    def _write_batch(self, lines: Sequence[LogLine]) -> None:
        if not lines:
            return
        try:
            self._write(lines)
        except OSError as error:
            self._fail(len(lines), error)
        else:
            self._written += len(lines)
            if self._has_failed:
                self._has_failed = False
                self.put(_note(f"the log can be written again, {self._dropped} lines are missing so far"))

    def _fail(self, count: int, error: OSError) -> None:
        """Count, and complain once per failure: the terminal is the only place left."""
        self._dropped += count
        if not self._has_failed:
            self._has_failed = True
            _complain(f"{self.name} cannot be written: {error}")


def _note(message: str) -> LogLine:
    return make_line(message, level=logging.WARNING, created_s=time.time(), thread=MAIN_THREAD)


def _complain(message: str) -> None:
    """Tell whoever watches the process; the log itself cannot."""
    try:
        sys.__stderr__.write(f"logmesh: {message}\n")  # type: ignore[union-attr]
    except (OSError, ValueError, AttributeError):
        return  # no terminal either: the counters in ``statistics`` remain
