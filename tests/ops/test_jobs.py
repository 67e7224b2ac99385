"""The service of long operations: states, progress, bounds, ends of all kinds. Time is virtual where it matters."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from ops import jobs
from ops.context import Context, Progress, Services, User
from ops.errors import UNEXPECTED, AccessDenied, OperationError
from ops.http import Peer, Request
from ops.jobs import INTERRUPTED, JobRunner, start_job
from ops.log_thread import current_log_thread
from ops.system_tables import JOBS, SYSTEM, ensure_system_tables
from storage.catalog import Catalog, open_catalog
from storage.errors import DiskFull, Overloaded
from storage.settings import StorageSettings
from storage.transaction import stored_key_of

Record = dict[str, Any]
BODY = {"operation": "csv_data_load", "table": "otter", "data": "id\n1", "s3": {"aws_secret_access_key": "wet"}}


class Running:
    """A runner over a real catalog, and what it stored."""

    def __init__(self, catalog: Catalog, runner: JobRunner, nursery: trio.Nursery) -> None:
        self.catalog = catalog
        self.runner = runner
        self.nursery = nursery

    async def start(self, work: Any, *, body: Mapping[str, Any] = BODY) -> str:
        return await self.runner.start(self.context(body), "csv_data_load", work)

    def context(self, body: Mapping[str, Any] = BODY) -> Context:
        services = cast(Services, SimpleNamespace(jobs=self.runner, catalog=self.catalog))
        request = Request(method="POST", target="/", headers={}, body=b"", peer=Peer())
        user = User(name="keeper", role={})
        return Context(services=services, user=user, request=request, body=body, operation="csv_data_load")

    def find(self, job_id: str) -> Record | None:
        with self.catalog.database(SYSTEM).read() as tx:
            table = tx.table(JOBS)
            row = tx.row(table, stored_key_of(job_id))
            return None if row is None else tx.record(table, row)

    def get(self, job_id: str) -> Record:
        record = self.find(job_id)
        assert record is not None
        return record

    async def ended(self, job_id: str) -> Record:
        """The job's record, once it is over."""
        with trio.fail_after(10):
            while self.get(job_id)["status"] in (jobs.CREATED, jobs.IN_PROGRESS):
                await trio.sleep(0.002)
        return self.get(job_id)


@asynccontextmanager
async def open_runner(path: Path, **options: Any) -> AsyncIterator[Running]:
    async with open_catalog(StorageSettings(path=path, map_size_bytes=1 << 30, sync=False), node="n1") as catalog:
        await ensure_system_tables(catalog)
        runner = JobRunner(catalog, **options)
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            yield Running(catalog, runner, nursery)
            nursery.cancel_scope.cancel()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with open_runner(tmp_path) as opened:
        yield opened


def returns(value: Any) -> Any:
    async def work(progress: Progress) -> Any:
        return value

    return work


def raises(error: Exception) -> Any:
    async def work(progress: Progress) -> None:
        raise error

    return work


async def forever(progress: Progress) -> None:
    await trio.sleep_forever()


# -- ends -------------------------------------------------------------------------------------------------------------


async def test_a_job_that_runs_has_no_message_and_no_end(running: Running) -> None:
    record = running.get(await running.start(forever))
    assert record["status"] == "IN_PROGRESS"
    assert record["type"] == "csv_data_load"
    assert record["user"] == "keeper"
    assert record["created_datetime"] <= record["start_datetime"]
    assert not {"message", "end_datetime", "result", "progress"} & record.keys()


async def test_a_text_that_the_work_returns_is_the_message(running: Running) -> None:
    record = await running.ended(await running.start(returns("successfully loaded 3 of 3 records")))
    assert (record["status"], record["message"]) == ("COMPLETE", "successfully loaded 3 of 3 records")
    assert record["end_datetime"] >= record["start_datetime"]
    assert "result" not in record


async def test_work_that_returns_nothing_ends_with_the_usual_message(running: Running) -> None:
    job_id = await running.start(returns(None))
    record = await running.ended(job_id)
    assert (record["status"], record["message"]) == ("COMPLETE", f"Successfully completed job: {job_id}")
    assert "result" not in record


@pytest.mark.parametrize("value", [{"path": "/x"}, [1], 5, False, {}], ids=str)
async def test_anything_else_that_the_work_returns_is_the_result(running: Running, value: Any) -> None:
    job_id = await running.start(returns(value))
    record = await running.ended(job_id)
    assert (record["message"], record["result"]) == (f"Successfully completed job: {job_id}", value)


async def test_a_failure_is_told_in_its_own_words(running: Running) -> None:
    error = OperationError("database 'nodb' does not exist", status=404)
    record = await running.ended(await running.start(raises(error)))
    assert (record["status"], record["message"]) == ("ERROR", "database 'nodb' does not exist")


async def test_missing_permissions_are_told_as_the_whole_refusal(running: Running) -> None:
    error = AccessDenied(invalid_schema_items=["Attribute 'x' does not exist on 'zoo.otter'"])
    record = await running.ended(await running.start(raises(error)))
    assert (record["status"], record["message"]) == ("ERROR", dict(error.body))


async def test_a_failure_of_ours_is_told_without_its_inside_and_ends_that_job_alone(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    record = await running.ended(await running.start(raises(ZeroDivisionError("secret inside"))))
    assert (record["status"], record["message"]) == ("ERROR", UNEXPECTED)
    assert "ZeroDivisionError" in caplog.text
    assert (await running.ended(await running.start(returns("fine"))))["message"] == "fine"


async def test_start_and_end_stand_in_the_log_under_the_jobs_own_thread(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(progress: Progress) -> str:
        return current_log_thread()

    first, second = await running.start(work), await running.start(work)
    assert {(await running.ended(job))["message"] for job in (first, second)} == {"job/1", "job/2"}
    assert f"Starting job: {first}" in caplog.messages
    assert f"Successfully completed job: {second}" in caplog.messages
    assert current_log_thread() != "job/1"


async def test_a_record_that_was_deleted_meanwhile_stays_deleted(running: Running) -> None:
    go_on = trio.Event()

    async def work(progress: Progress) -> None:
        await go_on.wait()

    job_id = await running.start(work)
    await running.catalog.write(SYSTEM, lambda tx: tx.delete(tx.table(JOBS), job_id, stored_key_of(job_id)))
    go_on.set()
    await running.ended(await running.start(returns(None)))
    assert running.find(job_id) is None


async def test_the_answer_names_the_job(running: Running) -> None:
    answer = await start_job(running.context(), returns(None))
    assert answer == {"message": f"Starting job with id {answer['job_id']}", "job_id": answer["job_id"]}
    assert running.get(answer["job_id"])["type"] == "csv_data_load"


# -- requests ---------------------------------------------------------------------------------------------------------


async def test_the_request_is_kept_without_its_secrets_and_cleared_when_done(running: Running) -> None:
    go_on = trio.Event()

    async def work(progress: Progress) -> None:
        await go_on.wait()

    job_id = await running.start(work)
    kept = str(running.get(job_id)["request"])
    assert "otter" in kept
    assert "wet" not in kept
    assert "id\n1" not in kept
    go_on.set()
    assert "request" not in await running.ended(job_id)


# -- progress ---------------------------------------------------------------------------------------------------------


async def test_progress_is_stored_at_once_and_then_no_more_than_once_a_second(
    running: Running, mock_clock: trio.testing.MockClock
) -> None:
    stored: list[int] = []
    is_done = trio.Event()
    ids: list[str] = []

    async def work(progress: Progress) -> None:
        await trio.lowlevel.checkpoint()
        for done, passes_s in enumerate((0.0, 0.4, 0.5, 0.2, 0.8, 0.3), start=1):
            mock_clock.jump(passes_s)
            await progress.report(done, 1000, "records")
            stored.append(running.get(ids[0])["progress"]["done"])
        is_done.set()

    ids.append(await running.start(work))
    await is_done.wait()
    assert stored == [1, 1, 1, 4, 4, 6]


async def test_the_last_progress_is_there_when_the_job_is_over(running: Running) -> None:
    async def work(progress: Progress) -> None:
        for done in range(10):
            await progress.report(done, None, "bytes")

    record = await running.ended(await running.start(work))
    assert record["progress"] == {"done": 9, "total": None, "unit": "bytes"}


# -- bounds -----------------------------------------------------------------------------------------------------------


async def test_a_few_jobs_work_at_a_time_and_the_others_wait_in_order(tmp_path: Path) -> None:
    begun: list[int] = []
    gates = [trio.Event() for _ in range(4)]

    def job(number: int) -> Any:
        async def work(progress: Progress) -> None:
            begun.append(number)
            await gates[number].wait()

        return work

    async with open_runner(tmp_path, at_once=2) as running:
        ids = [await running.start(job(number)) for number in range(4)]
        await trio.testing.wait_all_tasks_blocked()
        statuses = [running.get(job_id)["status"] for job_id in ids]
        assert statuses == ["IN_PROGRESS", "IN_PROGRESS", "CREATED", "CREATED"]
        assert "start_datetime" not in running.get(ids[2])
        for gate, job_id in zip(gates, ids, strict=True):
            gate.set()
            assert (await running.ended(job_id))["status"] == "COMPLETE"
    assert begun == [0, 1, 2, 3]


async def test_more_jobs_than_may_wait_are_refused_and_leave_no_record(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "UNFINISHED_MAX", 3)
    ids = [await running.start(returns(None)) for _ in range(2)]
    for job_id in ids:
        await running.ended(job_id)
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(3):
        await running.start(forever)
    with pytest.raises(Overloaded):
        await running.start(forever)
    with running.catalog.database(SYSTEM).read() as tx:
        assert tx.record_count(tx.table(JOBS)) == 5


async def test_an_end_that_cannot_be_stored_is_stored_later(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "STORE_AGAIN_S", 0.01)
    write = running.catalog.write
    failures = iter(range(3))

    async def write_on_a_full_disk(*args: Any, **kwargs: Any) -> Any:
        if next(failures, None) is not None:
            raise DiskFull(SYSTEM)
        return await write(*args, **kwargs)

    async def work(progress: Progress) -> str:
        monkeypatch.setattr(running.catalog, "write", write_on_a_full_disk)
        return "done"

    assert (await running.ended(await running.start(work)))["message"] == "done"
    assert caplog.text.count("is not stored yet") == 3


# -- stop and start ---------------------------------------------------------------------------------------------------


async def test_a_stop_ends_jobs_between_two_chunks_and_says_how_much_was_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chunks: list[int] = []

    async with open_runner(tmp_path) as opened:

        async def work(progress: Progress) -> None:
            async with trio.open_nursery():
                while True:
                    await opened.catalog.write(SYSTEM, lambda tx: chunks.append(1))
                    await progress.report(len(chunks), None, "records")

        job_id = await opened.start(work)
        with trio.fail_after(10):
            while len(chunks) < 5:
                await trio.lowlevel.checkpoint()
    async with open_runner(tmp_path) as again:
        record = again.get(job_id)
    assert (record["status"], record["message"]) == ("ERROR", INTERRUPTED)
    assert record["progress"]["done"] == len(chunks)
    assert "request" not in record
    assert "interrupted by the last end" not in caplog.text


async def test_jobs_that_wait_when_the_node_stops_are_told_as_interrupted(tmp_path: Path) -> None:
    async with open_runner(tmp_path, at_once=1) as running:
        ids = [await running.start(forever) for _ in range(2)]
    async with open_runner(tmp_path) as again:
        assert [again.get(job_id)["message"] for job_id in ids] == [INTERRUPTED] * 2
        assert [again.get(job_id)["status"] for job_id in ids] == ["ERROR"] * 2


async def test_jobs_of_a_process_that_was_killed_are_told_as_interrupted_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_catalog(StorageSettings(path=tmp_path, map_size_bytes=1 << 30), node="n1") as catalog:
        await ensure_system_tables(catalog)
        left = [("a", "CREATED"), ("b", "IN_PROGRESS"), ("c", "COMPLETE"), ("d", "ERROR")]
        records = [{"id": name, "status": status, "request": {"body": "x"}} for name, status in left]

        def put(tx: Any) -> None:
            for record in records:
                tx.put(tx.table(JOBS), record["id"], stored_key_of(record["id"]), dict(record))

        await catalog.write(SYSTEM, put)
    async with open_runner(tmp_path) as running:
        found = {name: running.get(name) for name, _ in left}
    assert [found[name]["status"] for name, _ in left] == ["ERROR", "ERROR", "COMPLETE", "ERROR"]
    assert [found[name].get("message") for name, _ in left] == [INTERRUPTED, INTERRUPTED, None, None]
    assert [name for name, _ in left if "request" in found[name]] == ["c", "d"]
    assert "2 jobs were interrupted" in caplog.text


async def test_a_runner_that_is_not_running_takes_no_job(running: Running) -> None:
    stopped = Running(running.catalog, JobRunner(running.catalog), running.nursery)
    with pytest.raises(OperationError, match="stopping") as caught:
        await stopped.start(returns(None))
    assert caught.value.status == 503
    with running.catalog.database(SYSTEM).read() as tx:
        assert tx.record_count(tx.table(JOBS)) == 0


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
