"""Group commit: the writes of many tasks, one thread, one LMDB commit, one sync, one wake-up.

A database has one dedicated commit thread, as LMDB ties a write transaction to its thread. It takes everything that
waits, commits it together and answers all through a single wake-up of the event loop: the latency of one writer is
one sync, the throughput of many is not bound by it. (The one file of this layer that awaits.)
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

import outcome
import trio

from storage.database import Database, Maintenance, Outcome, Write
from storage.errors import DatabaseClosed, Overloaded

log = logging.getLogger("storage")

GROUP_WRITES_MAX: Final = 1000
"""Writes that share a commit at most: bounds how long the first waits for the last."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A write and the task that waits for it."""

    write: Write | Maintenance
    task: trio.lowlevel.Task
    since_s: float


class LogWatch:
    """Wakes who waits for the log to grow. Losing a wake-up would cost latency, so whoever commits tells it after."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._grew = trio.Event()

    def wake(self) -> None:
        self._grew.set()
        self._grew = trio.Event()

    async def wait_for_sequence(self, after: int) -> int:
        """Wait until the log holds an entry behind ``after``; its last ``lseq`` then."""
        while True:
            grew = self._grew
            with self._database.read() as tx:
                lseq = tx.head().lseq
            if lseq > after:
                return lseq
            await grew.wait()


class Queue(Protocol):
    """How writes get to the commits of one database."""

    log_watch: LogWatch

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None: ...

    async def write(self, write: Write | Maintenance) -> Any: ...


class CommitQueue:
    """``await write(...)`` from any task of the loop that runs ``run``."""

    def __init__(self, database: Database) -> None:
        self.log_watch = LogWatch(database)
        self._database = database
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._unclaimed: dict[_Waiting, None] = {}
        """What no commit has taken yet, oldest first. Taking out of it is atomic: commit thread or canceller, not
        both.
        """
        self._is_closing = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; what waits by then is committed first, then the thread ends."""
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_thread, token)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._is_closing = True
                self._queue.put(None)

    async def write(self, write: Write | Maintenance) -> Any:
        """Run ``write`` in the next commit; returns its function's value once that is durable.

        Raises what refused it, ``Overloaded`` where the queue is too long, ``DatabaseClosed`` when the node is
        stopping. Cancelling withdraws a write that no commit has taken; one that was taken finishes.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_closing:
            raise DatabaseClosed(f"Database '{self._database.name}' is closed")
        now_s = trio.current_time()
        if now_s - self._oldest_since_s(now_s) > self._database.environment.settings.queue_wait_s_max:
            raise Overloaded
        waiting = _Waiting(write, trio.lowlevel.current_task(), now_s)
        self._unclaimed[waiting] = None
        self._queue.put(waiting)

        def withdraw(_: object) -> trio.lowlevel.Abort:
            is_ours = self._unclaimed.pop(waiting, waiting) is None
            return trio.lowlevel.Abort.SUCCEEDED if is_ours else trio.lowlevel.Abort.FAILED

        return await trio.lowlevel.wait_task_rescheduled(withdraw)

    def _oldest_since_s(self, now_s: float) -> float:
        """Since when the oldest write waits; now where none does."""
        try:
            oldest = next(iter(self._unclaimed), None)
        except RuntimeError:
            return now_s  # the commit thread took some between the two calls, so the queue moves
        return now_s if oldest is None else oldest.since_s

    async def _run_thread(self, token: trio.lowlevel.TrioToken) -> None:
        """One thread for the life of the queue, with a limiter of its own: no other work can take its place."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._commit_until_closed, token, limiter=trio.CapacityLimiter(1))

    def _commit_until_closed(self, token: trio.lowlevel.TrioToken) -> None:
        is_open = True
        while is_open:
            group, is_open = self._take_group()
            if group:
                token.run_sync_soon(self._answer, list(zip(group, self._commit(group), strict=True)))

    def _commit(self, group: list[_Waiting]) -> list[Outcome]:
        """Outcomes for all, whatever happens: nobody may wait for an answer that does not come."""
        try:
            return self._database.commit([waiting.write for waiting in group])
        except Exception as error:
            log.exception("commit of database '%s' failed", self._database.name)
            return [Outcome(error=error) for _ in group]

    def _take_group(self) -> tuple[list[_Waiting], bool]:
        """Everything that waits, at least one; and whether more may come."""
        group: list[_Waiting] = []
        item = self._queue.get()
        while True:
            if item is None:
                return group, False
            if self._unclaimed.pop(item, item) is None:
                group.append(item)
            if len(group) >= GROUP_WRITES_MAX:
                return group, True
            try:
                item = self._queue.get_nowait()
            except Empty:
                return group, True

    def _answer(self, answered: Sequence[tuple[_Waiting, Outcome]]) -> None:
        for waiting, result in answered:
            value = outcome.Value(result.value) if result.error is None else outcome.Error(result.error)
            trio.lowlevel.reschedule(waiting.task, value)
        self.log_watch.wake()
