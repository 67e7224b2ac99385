"""``get_job`` and ``search_jobs_by_start_date``."""

from datetime import datetime
from typing import Any

import pytest

from ops.sections.jobs import INVALID_FROM, INVALID_TO, PAGE_JOBS
from ops.system_records import put_record
from ops.system_tables import JOBS, SYSTEM
from storage.write_transaction import WriteTransaction
from tests.ops.conftest import Node

ONE: dict[str, Any] = {
    "id": "7c2f",
    "type": "csv_data_load",
    "status": "COMPLETE",
    "user": "admin",
    "created_datetime": 1795422600052,
    "start_datetime": 1795422600087,
    "end_datetime": 1795422601442,
    "message": "successfully loaded 3 of 3 records",
}
MORNING = {"from_date": "2026-11-23T08:30:00.000Z", "to_date": "2026-11-23T08:31:00.000Z"}


async def store(node: Node, *records: dict[str, Any]) -> None:
    def put(tx: WriteTransaction) -> None:
        for record in records:
            put_record(tx, tx.table(JOBS), {**record, "request": {"body": "{}"}})

    await node.services.catalog.write(SYSTEM, put)


async def found(node: Node, **window: Any) -> list[str]:
    answer = await node.ok(operation="search_jobs_by_start_date", **window)
    return [job["id"] for job in answer]


# -- get_job ----------------------------------------------------------------------------------------------------------


async def test_a_job_is_a_list_of_one_without_request_and_times(node: Node) -> None:
    await store(node, ONE)
    assert await node.ok(operation="get_job", id="7c2f") == [ONE]


@pytest.mark.parametrize("job_id", ["nothing", 5, True, [], {}, "x" * 5000], ids=lambda value: str(value)[:20])
async def test_an_id_that_no_job_has_gives_an_empty_list(node: Node, job_id: Any) -> None:
    await store(node, ONE)
    assert await node.ok(operation="get_job", id=job_id) == []


@pytest.mark.parametrize("job_id", ["", None])
async def test_an_empty_id_is_invalid(node: Node, job_id: Any) -> None:
    assert await node.post({"operation": "get_job", "id": job_id}) == (500, {"error": "Invalid job ID specified."})


async def test_an_id_is_required(node: Node) -> None:
    assert await node.post({"operation": "get_job"}) == (400, {"error": "'id' is required"})


async def test_every_user_may_read_every_job(node: Node) -> None:
    await store(node, ONE)
    await node.ok(operation="add_role", role="keeper", permission={})
    await node.ok(operation="add_user", username="keeper", password="Keeper-1", role="keeper", active=True)
    status, answer = await node.post({"operation": "get_job", "id": "7c2f"}, user=("keeper", "Keeper-1"))
    assert (status, answer) == (200, [ONE])


async def test_a_submitted_job_is_found_by_the_id_that_its_answer_tells(node: Node) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")
    answer = await node.ok(operation="delete_audit_logs_before", database="zoo", table="otter", timestamp=1)
    assert answer["message"] == f"Starting job with id {answer['job_id']}"
    (job,) = await node.ok(operation="get_job", id=answer["job_id"])
    assert (job["id"], job["type"], job["user"]) == (answer["job_id"], "delete_audit_logs_before", "admin")


# -- search_jobs_by_start_date ----------------------------------------------------------------------------------------


async def test_jobs_are_found_with_their_times_as_text(node: Node) -> None:
    await store(node, ONE)
    texts = {
        "start_datetime_converted": "2026-11-23T08:30:00.087Z",
        "end_datetime_converted": "2026-11-23T08:30:01.442Z",
    }
    assert await node.ok(operation="search_jobs_by_start_date", **MORNING) == [{**ONE, **texts}]


async def test_a_job_that_runs_has_no_end_as_text(node: Node) -> None:
    await store(node, {name: value for name, value in ONE.items() if name != "end_datetime"})
    (job,) = await node.ok(operation="search_jobs_by_start_date", **MORNING)
    assert "end_datetime_converted" not in job


async def test_both_bounds_are_exclusive_and_the_order_is_that_of_the_starts(node: Node) -> None:
    begins = int(datetime.fromisoformat("2026-11-23T08:30:00+00:00").timestamp() * 1000)
    ends = int(datetime.fromisoformat("2026-11-23T08:31:00+00:00").timestamp() * 1000)
    starts = {"f": ends, "e": ends - 1, "b": begins + 1, "a": begins, "d": begins + 9000, "c": begins + 80}
    await store(node, *({**ONE, "id": name, "start_datetime": at} for name, at in starts.items()))
    assert await found(node, **MORNING) == ["b", "c", "d", "e"]


async def test_jobs_that_wait_have_not_begun(node: Node) -> None:
    await store(node, {"id": "waits", "status": "CREATED", "created_datetime": 1795422600052})
    assert await found(node, from_date="1970-01-01", to_date="9998-01-01") == []


async def test_any_number_of_jobs_is_found_across_pages(node: Node) -> None:
    first = ONE["start_datetime"]
    count = 2 * PAGE_JOBS
    await store(node, *({**ONE, "id": f"{n:05}", "start_datetime": first + n // 3} for n in range(count)))
    assert await found(node, **MORNING) == [f"{n:05}" for n in range(count)]


@pytest.mark.parametrize(
    "text", ["2026-11-23T10:30:00.000+0200", "2026-11-23T08:30:00Z", "2026-11-23T08:30:00.000+00:00"]
)
async def test_offsets_are_understood(node: Node, text: str) -> None:
    await store(node, ONE)
    assert await found(node, from_date=text, to_date="2026-11-24T00:00:00Z") == ["7c2f"]


@pytest.mark.parametrize("date", [None, "", "yesterday", 5, "2026-13-01", ["2026-01-01"], "2026-01-01" * 100])
async def test_a_date_that_is_none_is_refused(node: Node, date: Any) -> None:
    request = {"operation": "search_jobs_by_start_date", **MORNING}
    assert await node.post({**request, "from_date": date}) == (500, {"error": INVALID_FROM})
    assert await node.post({**request, "to_date": date}) == (500, {"error": INVALID_TO})


async def test_the_texts_are_those_that_clients_know(node: Node) -> None:
    searching = "There was an error searching jobs by date: Error: Invalid "
    assert await node.post({"operation": "search_jobs_by_start_date"}) == (
        500,
        {"error": f"{searching}'from' date, must be in ISO-8601 format (YYYY-MM-DD)."},
    )
    assert await node.post({"operation": "search_jobs_by_start_date", "from_date": "2026-01-01"}) == (
        500,
        {"error": f"{searching}'to' date, must be in ISO-8601 format (YYYY-MM-DD)"},
    )
