"""The history of tables as clients read it, what a deleted history leaves, and the jobs that delete it."""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import Answer, ask, with_keys_of

REPOSITORY = Path(__file__).parents[2]
OTTER: dict[str, Any] = {"schema": "zoo", "table": "otter"}
WAIT_S = 20.0
TIMES = ("__createdtime__", "__updatedtime__")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("audit") / "root"
    with NodeProcess(root, options=["--set", "authentication.hashFunction=sha256"]) as running:
        running.post(operation="create_table", database="zoo", table="otter", primary_key="id")
        running.post(operation="add_role", role="keeper", permission={"structure_user": ["zoo"]})
        running.post(operation="add_user", username="tarka", password="x", role="keeper", active=True)
        running.post(operation="create_table", database="zoo", table="vole", primary_key="id")
        running.post(operation="insert", **OTTER, records=[{"id": 1, "name": "Tarka"}, {"id": 2, "name": "Ring"}])
        running.post(operation="insert", database="zoo", table="vole", records=[{"id": 1}])
        ask(running, "update", user=("tarka", "x"), **OTTER, records=[{"id": 1, "age": 3}])
        running.post(operation="upsert", **OTTER, records=[{"id": "2", "age": 4}, {"id": 2, "age": 5}])
        running.post(operation="delete", **OTTER, ids=[2])
        yield running
        assert running.stop() == 0


def history(node: NodeProcess, **fields: Any) -> Any:
    return node.post(operation="read_audit_log", **OTTER, **fields)


def plain(records: list[Any]) -> list[Any]:
    return [record and {name: value for name, value in record.items() if name not in TIMES} for record in records]


def finished_job(node: NodeProcess, job: str) -> dict[str, Any]:
    give_up_at = time.monotonic() + WAIT_S
    while True:
        (record,) = node.post(operation="get_job", id=job)
        if record["status"] not in ("CREATED", "IN_PROGRESS"):
            return dict(record)
        assert time.monotonic() < give_up_at, record


def verified(node: NodeProcess) -> str:
    command = [sys.executable, "-m", "node", "verify", "--root-path", str(node.root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY)
    assert ended.returncode == 0, ended
    return ended.stdout


# Reading


def test_the_history_of_a_table_oldest_first(node: NodeProcess) -> None:
    elements = history(node)
    shown = [
        (element["operation"], element["user_name"], element["hash_values"], plain(element["records"]))
        for element in elements
    ]
    assert shown == [
        ("insert", "admin", [1, 2], [{"id": 1, "name": "Tarka"}, {"id": 2, "name": "Ring"}]),
        ("update", "tarka", [1], [{"id": 1, "name": "Tarka", "age": 3}]),
        ("upsert", "admin", ["2", 2], [{"id": "2", "age": 4}, {"id": 2, "name": "Ring", "age": 5}]),
        ("delete", "admin", [2], [None]),
    ]
    timestamps = [element["timestamp"] for element in elements]
    assert timestamps == sorted(timestamps)
    for element in elements[:3]:
        assert all(record["__updatedtime__"] == element["timestamp"] for record in element["records"])


def test_database_is_accepted_as_well_as_schema(node: NodeProcess) -> None:
    assert node.post(operation="read_audit_log", database="zoo", table="otter") == history(node)


@pytest.mark.parametrize("fields", [{"search_type": "timestamp"}, {"search_type": "timestamp", "search_values": []}])
def test_no_bounds_are_everything(node: NodeProcess, fields: dict[str, Any]) -> None:
    assert history(node, **fields) == history(node)


def test_a_window_of_time_includes_its_start_and_not_its_end(node: NodeProcess) -> None:
    first, second, third, fourth = history(node)
    windows: list[tuple[list[float], list[Any]]] = [
        ([0], [first, second, third, fourth]),
        ([second["timestamp"]], [second, third, fourth]),
        ([second["timestamp"] + 0.5], [third, fourth]),
        ([second["timestamp"], third["timestamp"] - 0.5], [second]),
        ([0, first["timestamp"]], []),
        ([fourth["timestamp"] + 60_000], []),
    ]
    for values, expected in windows:
        assert history(node, search_type="timestamp", search_values=values) == expected, values


def test_the_history_of_users(node: NodeProcess) -> None:
    first, second, third, fourth = history(node)
    by_user = history(node, search_type="username", search_values=["tarka", "nobody", "admin"])
    assert by_user == {"tarka": [second], "admin": [first, third, fourth]}


def test_the_history_of_keys_covers_one_key_each_and_every_key_asked_for(node: NodeProcess) -> None:
    by_key = history(node, search_type="hash_value", search_values=[1, 2, 99])
    assert list(by_key) == ["1", "2", "99"]
    assert by_key["99"] == []
    shown = {
        key: [(e["operation"], e["hash_values"], plain(e["records"])) for e in found] for key, found in by_key.items()
    }
    assert shown["1"] == [
        ("upsert", [1], [{"id": 1, "name": "Tarka"}]),
        ("upsert", [1], [{"id": 1, "name": "Tarka", "age": 3}]),
    ]
    assert shown["2"] == [
        ("upsert", [2], [{"id": 2, "name": "Ring"}]),
        ("upsert", [2], [{"id": 2, "name": "Ring", "age": 5}]),
        ("delete", [2], [None]),
    ]


def test_a_limit_counts_elements_of_lists(node: NodeProcess) -> None:
    assert history(node, limit=2) == history(node)[:2]
    by_user = history(node, search_type="username", search_values=["admin"], limit=1)
    assert len(by_user["admin"]) == 3


INVALID_READS: list[tuple[dict[str, Any], Answer]] = [
    ({}, (500, {"error": "database is required"})),
    ({"table": "otter"}, (500, {"error": "database is required"})),
    ({"schema": "zoo"}, (500, {"error": "table is required"})),
    ({"schema": "zoo", "table": "x"}, (404, {"error": "Table 'zoo.x' does not exist"})),
    ({"schema": "moon", "table": "x"}, (404, {"error": "database 'moon' does not exist"})),
    (OTTER | {"search_type": "colour"}, (500, {"error": "Invalid searchType 'colour'"})),
    (OTTER | {"search_type": "username"}, (400, {"error": "'search_values' is required"})),
    (OTTER | {"search_type": "hash_value"}, (400, {"error": "'search_values' is required"})),
]


@pytest.mark.parametrize(("fields", "expected"), INVALID_READS)
def test_a_history_that_cannot_be_read(node: NodeProcess, fields: dict[str, Any], expected: Answer) -> None:
    assert ask(node, "read_audit_log", **fields) == expected


def test_the_transaction_log_is_the_same_history_in_a_window(node: NodeProcess) -> None:
    first, second, third, fourth = history(node)
    read: dict[str, Any] = {"operation": "read_transaction_log", **OTTER}
    assert node.post(**read) == [first, second, third, fourth]
    start, end = second["timestamp"], fourth["timestamp"] - 0.5
    assert node.post(**read, **{"from": start, "to": end}) == [second, third]
    assert node.post(**read, to=end, limit=1) == [first]
    assert node.post(operation="read_transaction_log", database="zoo", table="otter", limit=1) == [first]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schema": "zoo"}, (400, {"error": "'table' is required"})),
        (
            OTTER | {"from": "yesterday"},
            (400, {"error": "'from' must be in timestamp or number of milliseconds format"}),
        ),
        (OTTER | {"to": "now"}, (400, {"error": "'to' must be in timestamp or number of milliseconds format"})),
        (OTTER | {"limit": 0}, (400, {"error": "'limit' must be greater than or equal to 1"})),
        ({"schema": "zoo", "table": "x"}, (404, {"error": "Table 'zoo.x' does not exist"})),
        ({"table": "otter"}, (404, {"error": "database 'data' does not exist"})),
    ],
)
def test_a_transaction_log_that_cannot_be_read(node: NodeProcess, fields: dict[str, Any], expected: Answer) -> None:
    assert ask(node, "read_transaction_log", **fields) == expected


def test_a_table_without_audit_shows_no_history(node: NodeProcess) -> None:
    node.post(operation="create_table", database="zoo", table="quiet", primary_key="id", audit=False)
    node.post(operation="insert", database="zoo", table="quiet", records=[{"id": 1}])
    assert node.post(operation="read_audit_log", schema="zoo", table="quiet") == []


# Deleting


DELETES = ("delete_audit_logs_before", "delete_transaction_logs_before")


@pytest.mark.parametrize("operation", DELETES)
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"table": "otter"}, "'timestamp' is required"),
        ({"timestamp": 5}, "'table' is required"),
        ({}, "'table' is required. 'timestamp' is required"),
        ({"table": "otter", "timestamp": "soon"}, None),
    ],
)
def test_a_history_is_deleted_of_a_table_before_a_time(
    node: NodeProcess, operation: str, fields: dict[str, Any], error: str | None
) -> None:
    invalid = {
        "delete_audit_logs_before": "'timestamp' is invalid",
        "delete_transaction_logs_before": "'timestamp' must be in timestamp or number of milliseconds format",
    }
    assert ask(node, operation, schema="zoo", **fields) == (400, {"error": error or invalid[operation]})


@pytest.mark.parametrize("operation", DELETES)
def test_deleting_the_history_of_an_unknown_table_is_a_failed_job(node: NodeProcess, operation: str) -> None:
    started = node.post(operation=operation, schema="zoo", table="x", timestamp=5)
    job = finished_job(node, started["job_id"])
    assert (job["status"], job["message"]) == ("ERROR", "Table 'zoo.x' does not exist")


@pytest.mark.parametrize("operation", DELETES)
def test_what_was_before_is_gone_and_all_else_stays(node: NodeProcess, operation: str) -> None:
    table: dict[str, Any] = {"schema": "zoo", "table": operation}
    node.post(operation="create_table", database="zoo", table=operation, primary_key="id")
    for key in (1, 2, 3):
        node.post(operation="insert", **table, records=[{"id": key, "note": f"secret-{operation}-{key}"}])
    neighbour = node.post(operation="read_audit_log", schema="zoo", table="vole")
    elements = node.post(operation="read_audit_log", **table)
    started = node.post(operation=operation, **table, timestamp=elements[2]["timestamp"])
    assert started == {"message": f"Starting job with id {started['job_id']}", "job_id": started["job_id"]}
    job = finished_job(node, started["job_id"])
    assert (job["status"], job["message"]) == ("COMPLETE", f"Successfully completed job: {job['id']}")
    assert node.post(operation="read_audit_log", **table) == elements[2:]
    assert node.post(operation="read_transaction_log", **table) == elements[2:]
    assert node.post(operation="read_audit_log", schema="zoo", table="vole") == neighbour
    search = {"operation": "search_by_id", "database": "zoo", "table": operation, "ids": [1, 2, 3]}
    assert len(node.post(**search, get_attributes=["*"])) == 3
    assert verified(node) == "system: ok\nzoo: ok\n"


# Jobs


def test_a_job_tells_who_asked_for_what_and_when(node: NodeProcess) -> None:
    before = time.time() * 1000
    started = node.post(operation="delete_audit_logs_before", **OTTER, timestamp=5)
    assert uuid.UUID(started["job_id"]).version == 4
    job = finished_job(node, started["job_id"])
    assert job.keys() == {
        *("id", "type", "status", "user", "message"),
        *("created_datetime", "start_datetime", "end_datetime"),
    }
    assert (job["type"], job["user"]) == ("delete_audit_logs_before", "admin")
    times = [job[name] for name in ("created_datetime", "start_datetime", "end_datetime")]
    assert all(isinstance(moment, int) for moment in times)
    assert times == sorted(times)
    assert int(before) <= times[0]
    assert times[2] <= time.time() * 1000
    assert ask(node, "get_job", user=("tarka", "x"), id=job["id"]) == (200, [job]), "any user may read any job"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"id": "none"}, (200, [])),
        ({"id": 5}, (200, [])),
        ({}, (400, {"error": "'id' is required"})),
        ({"id": ""}, (500, {"error": "Invalid job ID specified."})),
        ({"id": None}, (500, {"error": "Invalid job ID specified."})),
    ],
)
def test_a_job_that_is_none(node: NodeProcess, fields: dict[str, Any], expected: Answer) -> None:
    assert ask(node, "get_job", **fields) == expected


def iso(epoch_ms: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_ms // 1000)) + f".{int(epoch_ms) % 1000:03d}Z"


def test_jobs_are_found_by_their_start_without_the_bounds(node: NodeProcess) -> None:
    jobs = []
    for _ in range(2):
        started = node.post(operation="delete_audit_logs_before", **OTTER, timestamp=5)
        jobs.append(finished_job(node, started["job_id"]))
    first, last = jobs[0]["start_datetime"], jobs[1]["start_datetime"]
    search: dict[str, Any] = {"operation": "search_jobs_by_start_date"}
    found = node.post(**search, from_date=iso(first - 1), to_date=iso(last + 1))
    assert [job["start_datetime"] for job in found] == sorted(job["start_datetime"] for job in found)
    by_id = {job["id"]: job for job in found}
    for job in jobs:
        assert by_id[job["id"]] == job | {
            "start_datetime_converted": iso(job["start_datetime"]),
            "end_datetime_converted": iso(job["end_datetime"]),
        }
    inside = node.post(**search, from_date=iso(first), to_date=iso(last))
    assert all(first < job["start_datetime"] < last for job in inside)
    assert node.post(**search, from_date="2020-01-01", to_date="2020-01-02") == []
    with_offset = iso(first - 1).replace("Z", "+0000")
    assert node.post(**search, from_date=with_offset, to_date="2100-01-01") == node.post(
        **search, from_date=iso(first - 1), to_date="2100-01-01T00:00:00.000Z"
    )


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"to_date": "2026-01-01"}, "Invalid 'from' date, must be in ISO-8601 format (YYYY-MM-DD)."),
        (
            {"from_date": "soon", "to_date": "2026-01-01"},
            "Invalid 'from' date, must be in ISO-8601 format (YYYY-MM-DD).",
        ),
        ({"from_date": "2026-01-01"}, "Invalid 'to' date, must be in ISO-8601 format (YYYY-MM-DD)"),
        (
            {"from_date": "2026-01-01", "to_date": "later"},
            "Invalid 'to' date, must be in ISO-8601 format (YYYY-MM-DD)",
        ),
    ],
)
def test_jobs_are_not_found_by_what_is_no_date(node: NodeProcess, fields: dict[str, Any], problem: str) -> None:
    error = f"There was an error searching jobs by date: Error: {problem}"
    assert ask(node, "search_jobs_by_start_date", **fields) == (500, {"error": error})


# Whole nodes


def test_expired_records_leave_the_table_and_the_history_and_files_stay_sound(node: NodeProcess) -> None:
    node.post(operation="create_table", database="zoo", table="brief", primary_key="id", expiration=1)
    node.post(operation="insert", database="zoo", table="brief", records=[{"id": 1, "name": "Tarka"}])
    search: dict[str, Any] = {
        "operation": "search_by_id",
        "database": "zoo",
        "table": "brief",
        "ids": [1],
        "get_attributes": ["name"],
    }
    assert node.post(**search) == [{"name": "Tarka"}]
    give_up_at = time.monotonic() + WAIT_S
    while node.post(**search):
        assert time.monotonic() < give_up_at, "it does not expire"
    shown = node.post(operation="read_audit_log", schema="zoo", table="brief")
    assert (shown[0]["operation"], plain(shown[0]["records"])) == ("insert", [{"id": 1, "name": "Tarka"}])
    assert all(element["operation"] == "delete" for element in shown[1:])
    assert verified(node) == "system: ok\nzoo: ok\n"


def test_without_the_audit_log_there_is_no_history_to_read_but_one_to_come_back(
    node: NodeProcess, tmp_path: Path
) -> None:
    off = (400, {"error": "To use this operation audit log must be enabled in logmesh.yaml"})
    root = with_keys_of(node, tmp_path / "root")
    with NodeProcess(root, options=["--set", "logging.auditLog=false"]) as other:
        other.post(operation="create_table", database="zoo", table="otter", primary_key="id")
        other.post(operation="insert", **OTTER, records=[{"id": 1}])
        assert ask(other, "read_audit_log", **OTTER) == off
        other.stop()
    with NodeProcess(root, options=["--set", "logging.auditLog=true"]) as other:
        assert [element["hash_values"] for element in history(other)] == [[1]]
