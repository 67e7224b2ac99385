"""The commit queue of a simulated node: the real commits, without a thread, at a time that the run decides."""

from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio

from storage.commit_queue import LogWatch
from storage.database import Database, Maintenance, Outcome, Write
from storage.errors import DatabaseClosed

Hook = Callable[[str], Awaitable[None]]
"""Called with the name of a moment at which a node may crash."""


class SimulatedQueue:
    """Implements ``storage.commit_queue.Queue``. ``hook`` may take (virtual) time, and may never return."""

    def __init__(self, database: Database, hook: Hook) -> None:
        self.log_watch = LogWatch(database)
        self._database = database
        self._hook = hook
        self._waiting: list[tuple[Write | Maintenance, trio.lowlevel.Task]] = []
        self._filled = trio.Event()
        self._is_closing = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                await self._filled.wait()
                await self._hook("before commit")
                self._filled = trio.Event()
                group, self._waiting = self._waiting, []
                outcomes = self._database.commit([write for write, _ in group])
                self.log_watch.wake()
                try:
                    await self._hook("after commit")
                except trio.Cancelled:
                    self._answer(group, [Outcome(error=DatabaseClosed("the node crashed")) for _ in group])
                    raise
                self._answer(group, outcomes)
        finally:
            self._is_closing = True
            left, self._waiting = self._waiting, []
            self._answer(left, [Outcome(error=DatabaseClosed("the node stopped")) for _ in left])

    async def write(self, write: Write | Maintenance) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closing:
            raise DatabaseClosed("the database is closed")
        item = (write, trio.lowlevel.current_task())
        self._waiting.append(item)
        self._filled.set()

        def withdraw(_: object) -> trio.lowlevel.Abort:
            if item in self._waiting:
                self._waiting.remove(item)
                return trio.lowlevel.Abort.SUCCEEDED
            return trio.lowlevel.Abort.FAILED

        return await trio.lowlevel.wait_task_rescheduled(withdraw)

    @staticmethod
    def _answer(group: list[tuple[Write | Maintenance, trio.lowlevel.Task]], outcomes: list[Outcome]) -> None:
        for (_, task), result in zip(group, outcomes, strict=True):
            value = outcome.Value(result.value) if result.error is None else outcome.Error(result.error)
            trio.lowlevel.reschedule(task, value)
