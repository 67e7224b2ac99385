"""Long operations: a record in ``system.hdb_job`` that tells how far the work is, and the service that does the work.

    CREATED -> IN_PROGRESS -> COMPLETE | ERROR

Whoever asked gets the job's id at once; whatever goes wrong afterwards stands in the record alone. A few jobs run at a
time, others wait as ``CREATED``. When the node stops, running jobs end between two chunks of work and say so; for those
that a crash left behind the next start says it.
"""

import logging
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import trio

from ops.context import Context, Work
from ops.errors import UNEXPECTED, AccessDenied, OperationError
from ops.log_thread import log_thread
from ops.request_log import loggable_body
from ops.system_records import find_record, put_record
from ops.system_tables import JOBS, SYSTEM
from storage.catalog import Catalog
from storage.clock import WallClock, wall_clock
from storage.errors import DatabaseError, Overloaded, StorageError, Unwritable
from storage.keys import encode_scalar, stored
from storage.log_levels import NOTIFY
from storage.transaction import ReadTransaction
from storage.write_transaction import WriteTransaction

log = logging.getLogger("job")

AT_ONCE: Final = 4
"""Jobs that work at the same time; each takes its turn at the commit queue like any client."""
UNFINISHED_MAX: Final = 1000
"""Jobs that run or wait; a request for one more is refused."""
REPORT_EVERY_S: Final = 1.0
STORE_AGAIN_S: Final = 5.0
"""Pause before a job's end is stored again that could not be stored: it must not look running for ever."""
STOP_S_MAX: Final = 10.0
"""For storing that a job was interrupted; the next start does it where this was too short."""

CREATED: Final = "CREATED"
IN_PROGRESS: Final = "IN_PROGRESS"
COMPLETE: Final = "COMPLETE"
ERROR: Final = "ERROR"
INTERRUPTED: Final = "Job interrupted by a restart of the node"
STOPPING: Final = "The node is stopping"


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A job of this process. ``progress`` is the newest that was reported, stored or not."""

    id: str
    number: int
    user: str | None
    work: Work
    runner: "JobRunner"
    has_place: bool
    progress: dict[str, Any] | None = None
    report_again_at: float = 0.0

    async def report(self, done: int, total: int | None, unit: str) -> None:
        self.progress = {"done": done, "total": total, "unit": unit}
        now_s = trio.current_time()
        if now_s < self.report_again_at:
            await trio.lowlevel.checkpoint()
            return
        self.report_again_at = now_s + REPORT_EVERY_S
        await self.runner.update(self, {"progress": self.progress})


class JobRunner:
    """``await nursery.start(runner.run)``, then ``start`` takes jobs. Cancelling ``run`` is the graceful stop."""

    def __init__(self, catalog: Catalog, *, clock: WallClock = wall_clock, at_once: int = AT_ONCE) -> None:
        self._catalog = catalog
        self._clock = clock
        self._places = trio.CapacityLimiter(at_once)
        self._numbers = count(1)
        self._unfinished = 0
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled, after telling the truth about the jobs of a process that ended without a stop."""
        await self._end_interrupted()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def start(self, context: Context, kind: str, work: Work) -> str:
        """Store the job's record, begin ``work`` in the background as soon as there is a place, and return its id.

        Raises ``Overloaded``; what storage raises where the record cannot be stored. Once begun it is not cancelled.
        """
        if self._nursery is None:
            raise OperationError(STOPPING, status=503)
        if self._unfinished >= UNFINISHED_MAX:
            raise Overloaded
        self._unfinished += 1
        job = Job(
            id=str(uuid.uuid4()),
            number=next(self._numbers),
            user=context.user_name,
            work=work,
            runner=self,
            has_place=False,
        )
        job.has_place = self._take_place(job)
        try:
            with trio.CancelScope(shield=True):
                await self._create(job, kind, context.body)
            if self._nursery is None:
                raise OperationError(STOPPING, status=503)
            self._nursery.start_soon(self._run_job, job)
        except BaseException:
            self._let_go(job)
            self._unfinished -= 1
            raise
        return job.id

    async def update(self, job: Job, changes: Mapping[str, Any], *, without: Iterable[str] = ()) -> None:
        """Change the job's record; one that was deleted by hand stays deleted."""

        def change(tx: WriteTransaction) -> None:
            _change_record(tx, job.id, changes, without)

        await self._catalog.write(SYSTEM, change, user=job.user)

    # -- one job --------------------------------------------------------------------------------------------------

    async def _run_job(self, job: Job) -> None:
        end = _failed(INTERRUPTED)
        is_stored = False
        try:
            with log_thread("job", job.number):
                end = await self._work(job)
                self._let_go(job)
                await self._store_end(job, end)
                is_stored = True
        finally:
            self._let_go(job)
            if not is_stored:
                with trio.move_on_after(STOP_S_MAX, shield=True):
                    await self._store_end(job, end)
            self._unfinished -= 1

    async def _work(self, job: Job) -> dict[str, Any]:
        """Do the work; what its end changes in the record."""
        try:
            if not job.has_place:
                await self._places.acquire_on_behalf_of(job)
                job.has_place = True
                await self.update(job, {"status": IN_PROGRESS, "start_datetime": self._now_ms()})
            log.log(NOTIFY, "Starting job: %s", job.id)
            result = await job.work(job)
        except DatabaseError as error:
            log.error("Job %s failed: %s", job.id, error)
            return _failed(dict(error.body) if isinstance(error, AccessDenied) else str(error))
        except Exception:
            log.exception("Job %s failed unexpectedly", job.id)
            return _failed(UNEXPECTED)
        message = f"Successfully completed job: {job.id}"
        log.log(NOTIFY, "%s", message)
        if isinstance(result, str):
            return {"status": COMPLETE, "message": result}
        more = {} if result is None else {"result": result}
        return {"status": COMPLETE, "message": message, **more}

    async def _store_end(self, job: Job, end: Mapping[str, Any]) -> None:
        progress = {} if job.progress is None else {"progress": job.progress}
        changes = {**progress, **end, "end_datetime": self._now_ms()}
        while True:
            try:
                await self.update(job, changes, without=("request",))
                return
            except (Unwritable, Overloaded) as error:
                log.error("the end of job %s is not stored yet: %s", job.id, error)
                await trio.sleep(STORE_AGAIN_S)
            except StorageError as error:
                log.error("the end of job %s is not stored: %s", job.id, error)
                return

    def _take_place(self, job: Job) -> bool:
        try:
            self._places.acquire_on_behalf_of_nowait(job)
        except trio.WouldBlock:
            return False
        return True

    def _let_go(self, job: Job) -> None:
        """Give the job's place, where it has one, to the next."""
        if job.has_place:
            job.has_place = False
            self._places.release_on_behalf_of(job)

    # -- records --------------------------------------------------------------------------------------------------

    async def _create(self, job: Job, kind: str, body: Mapping[str, Any]) -> None:
        """One commit also where the work begins at once. The request is kept as the log may show it, without secrets."""
        now_ms = self._now_ms()
        record = {
            "id": job.id,
            "type": kind,
            "status": IN_PROGRESS if job.has_place else CREATED,
            "user": job.user,
            "created_datetime": now_ms,
            "request": {"body": loggable_body(body)},
        }
        if job.has_place:
            record["start_datetime"] = now_ms
        await self._catalog.write(SYSTEM, lambda tx: put_record(tx, tx.table(JOBS), record), user=job.user)

    async def _end_interrupted(self) -> None:
        with self._catalog.database(SYSTEM).read() as tx:
            ids = [*_ids_with_status(tx, CREATED), *_ids_with_status(tx, IN_PROGRESS)]
        end = {**_failed(INTERRUPTED), "end_datetime": self._now_ms()}

        def change(tx: WriteTransaction) -> None:
            for job_id in ids:
                _change_record(tx, job_id, end, ("request",))

        if ids:
            log.warning("%d jobs were interrupted by the last end of the node", len(ids))
            await self._catalog.write(SYSTEM, change)

    def _now_ms(self) -> int:
        return self._clock() // 1000


async def start_job(ctx: Context, work: Work, *, message: str | None = None) -> dict[str, str]:
    """Start ``work`` as a job of the request's operation; the answer that tells its id."""
    job_id = await ctx.services.jobs.start(ctx, ctx.operation, work)
    return {"message": message or f"Starting job with id {job_id}", "job_id": job_id}


def _failed(message: Any) -> dict[str, Any]:
    return {"status": ERROR, "message": message}


def _change_record(tx: WriteTransaction, job_id: str, changes: Mapping[str, Any], without: Iterable[str] = ()) -> None:
    table = tx.table(JOBS)
    record = find_record(tx, table, job_id)
    if record is not None:
        kept = {name: value for name, value in record.items() if name not in without}
        put_record(tx, table, {**kept, **changes}, changed=[*changes, *without])


def _ids_with_status(tx: ReadTransaction, status: str) -> list[str]:
    """Ids of the jobs with this status, which is indexed."""
    table = tx.table(JOBS)
    value = stored(encode_scalar(status) or b"")
    entries = tx.index_entries(table, "status", low=value, high=value + b"\0")
    rows = (tx.row(table, stored_key) for _, stored_key in entries)
    return [tx.record(table, row)["id"] for row in rows if row is not None]
