"""Jobs as operations: one by its id, or all that began in a window of time."""

import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import trio

from ops.context import Context
from ops.errors import InvalidParams
from ops.operation import AnyUser, Operation, SuperUser, operation
from ops.params import Anyhow
from ops.results import RecordStream
from ops.system_records import find_key
from ops.system_tables import JOBS, SYSTEM
from storage.database import Database
from storage.keys import encode_scalar, stored
from storage.schema import CREATED_TIME, UPDATED_TIME
from storage.transaction import ReadTransaction

PAGE_JOBS: Final = 500
NOT_SHOWN: Final = frozenset(("request", CREATED_TIME, UPDATED_TIME))
DATE_LENGTH_MAX: Final = 40
SEARCH_FAILED: Final = "There was an error searching jobs by date: Error: "
INVALID_FROM: Final = f"{SEARCH_FAILED}Invalid 'from' date, must be in ISO-8601 format (YYYY-MM-DD)."
INVALID_TO: Final = f"{SEARCH_FAILED}Invalid 'to' date, must be in ISO-8601 format (YYYY-MM-DD)"
_YEARS: Final = range(1, 9999)
_Place = tuple[bytes, bytes]
"""An index entry: stored value and stored primary key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetJob:
    id: Anyhow


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWindow:
    """Epoch milliseconds, both exclusive."""

    after_ms: int
    before_ms: int


def job_window(body: Mapping[str, Any]) -> JobWindow:
    """The window that a request names by dates. The reference refuses a bad one with status 500."""
    return JobWindow(
        after_ms=math.floor(_instant_ms(body.get("from_date"), INVALID_FROM)),
        before_ms=math.ceil(_instant_ms(body.get("to_date"), INVALID_TO)),
    )


@operation("get_job", needs=AnyUser(), params=GetJob)
async def get_job(ctx: Context, params: GetJob) -> list[dict[str, Any]]:
    """The job with this id, in a list that is empty where there is none."""
    if params.id is None or params.id == "":
        raise InvalidParams("Invalid job ID specified.", status=500)
    key = find_key(params.id)
    with ctx.catalog.database(SYSTEM).read() as tx:
        job = None if key is None else _job(tx, key)
    return [] if job is None else [job]


@operation("search_jobs_by_start_date", needs=SuperUser("handleGetJobsByStartDate"), read=job_window)
async def search_jobs_by_start_date(ctx: Context, params: JobWindow) -> RecordStream:
    """Jobs that began between two dates, in the order in which they began."""
    return RecordStream(pages=_pages(ctx.catalog.database(SYSTEM), params))


async def _pages(database: Database, window: JobWindow) -> AsyncGenerator[list[dict[str, Any]], None]:
    after: _Place | None = None
    while True:
        jobs, after = await trio.to_thread.run_sync(_page, database, window, after)
        yield jobs
        if after is None:
            return


def _page(database: Database, window: JobWindow, after: _Place | None) -> tuple[list[dict[str, Any]], _Place | None]:
    """The next jobs of the window, and where to go on; None behind the last one."""
    low, high = _key_of(window.after_ms + 1), _key_of(window.before_ms)
    with database.read() as tx:
        table = tx.table(JOBS)
        entries = tx.index_entries(table, "start_datetime", low=low, high=high, after=after)
        places = list(islice(entries, PAGE_JOBS))
        jobs = [_with_texts(job) for _, key in places if (job := _job(tx, key)) is not None]
    return jobs, places[-1] if len(places) == PAGE_JOBS else None


def _job(tx: ReadTransaction, stored_key: bytes) -> dict[str, Any] | None:
    table = tx.table(JOBS)
    row = tx.row(table, stored_key)
    if row is None:
        return None
    return {name: value for name, value in tx.record(table, row).items() if name not in NOT_SHOWN}


def _with_texts(job: dict[str, Any]) -> dict[str, Any]:
    """The job with its start and end as text too."""
    texts = {
        f"{name}_converted": _iso(job[name])
        for name in ("start_datetime", "end_datetime")
        if isinstance(job.get(name), int | float)
    }
    return {**job, **texts}


def _instant_ms(value: Any, problem: str) -> float:
    """An ISO 8601 date or date-time; one without offset is this machine's local time."""
    try:
        if not isinstance(value, str) or len(value) > DATE_LENGTH_MAX:
            raise ValueError(value)
        at = datetime.fromisoformat(value)
        if at.year not in _YEARS:
            raise ValueError(value)
        return at.timestamp() * 1000
    except (ValueError, OverflowError, OSError):
        raise InvalidParams(problem, status=500) from None


def _iso(at_ms: float) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _key_of(at_ms: int) -> bytes:
    return stored(encode_scalar(at_ms) or b"")


OPERATIONS: Final[tuple[Operation, ...]] = (get_job, search_jobs_by_start_date)
