"""``read_log``: its parameters with their texts, and its answers from real files."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops.context import Context, Services
from ops.errors import InvalidParams
from ops.http import Peer, Request
from ops.sections.logs import read_log, read_log_params
from ops.settings import OpsSettings

LINES = (
    "2026-11-23T08:30:01.381Z [job/3] [notify]: Starting job: 7c2f\n"
    "2026-11-23T08:31:10.020Z [http/1] [error] [operation]: Operation 'nope' not found\n"
)


def context(folder: Path) -> Context:
    """The settings are all that ``read_log`` has to do with."""
    settings = OpsSettings(node="n1", version="0", root_path=folder, keys_path=folder, log_path=folder)
    services = cast(Services, SimpleNamespace(settings=settings))
    request = Request(method="POST", target="/", headers={}, body=b"", peer=Peer())
    return Context(services=services, user=None, request=request, body={}, operation="read_log")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"level": "loud"}, "'level' must be one of [notify, fatal, error, warn, info, debug, trace]"),
        ({"order": "up"}, "'order' must be one of [asc, desc]"),
        ({"limit": 0}, "'limit' must be greater than or equal to 1"),
        ({"limit": "many"}, "'limit' must be a number"),
        ({"limit": True}, "'limit' must be a number"),
        ({"start": -1}, "'start' must be greater than or equal to 0"),
        ({"start": []}, "'start' must be a number"),
        ({"from": "bad"}, "'from' date 'bad' is invalid."),
        ({"to": "2026-13-01"}, "'to' date '2026-13-01' is invalid."),
        ({"until": "bad"}, "'until' date 'bad' is invalid."),
        ({"from": "0001-01-01"}, "'from' date '0001-01-01' is invalid."),
        ({"from": 10**400}, "'from' date 'int' is invalid."),
        ({"from": {"a": 1}}, "'from' date 'dict' is invalid."),
        ({"filter": 5}, "'filter' must be a string"),
        ({"log_name": "x"}, "'log_name' 'x' is invalid."),
        ({"log_name": "../hdb.log"}, "'log_name' '../hdb.log' is invalid."),
        ({"limit": 0, "order": "up"}, "'limit' must be greater than or equal to 1. 'order' must be one of [asc, desc]"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_parameter_is_told_in_the_documented_words(body: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        read_log_params(body)
    assert (str(caught.value), caught.value.status) == (text, 400)


def test_a_field_that_is_null_counts_as_absent() -> None:
    names = ("level", "from", "to", "until", "order", "limit", "start", "filter", "log_name")
    assert read_log_params(dict.fromkeys(names)) == read_log_params({})


def test_the_defaults_are_the_first_thousand_entries_of_the_log() -> None:
    params = read_log_params({})
    assert (params.start, params.limit, params.order, params.log_name) == (0, 1000, None, "hdb.log")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T08:31", datetime(2026, 11, 23, 8, 31, tzinfo=UTC)),
        ("2026-11-23T08:31:10.020Z", datetime(2026, 11, 23, 8, 31, 10, 20_000, tzinfo=UTC)),
        ("2026-11-23T10:31:10+02:00", datetime(2026, 11, 23, 8, 31, 10, tzinfo=UTC)),
    ],
)
def test_dates_are_iso_8601_and_utc_where_they_do_not_say(text: str, at: datetime) -> None:
    assert read_log_params({"from": text}).from_ == at


@pytest.mark.parametrize(
    ("body", "day"), [({"until": "2026-11-22"}, 22), ({"until": "2026-11-22", "to": "2026-11-23"}, 23)]
)
def test_until_is_used_when_there_is_no_to(body: dict[str, Any], day: int) -> None:
    assert read_log_params(body).to == datetime(2026, 11, day, tzinfo=UTC)


async def test_entries_are_answered_as_a_list(tmp_path: Path) -> None:
    (tmp_path / "hdb.log").write_text(LINES)
    assert await read_log.handler(context(tmp_path), read_log_params({"level": "error"})) == [
        {
            "timestamp": "2026-11-23T08:31:10.020Z",
            "thread": "http/1",
            "level": "error",
            "tags": ["operation"],
            "message": "Operation 'nope' not found",
        }
    ]


async def test_the_order_and_the_limit_reach_the_reader(tmp_path: Path) -> None:
    (tmp_path / "hdb.log").write_text(LINES)
    found = await read_log.handler(context(tmp_path), read_log_params({"order": "desc", "limit": 1}))
    assert [entry["level"] for entry in found] == ["error"]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_the_largest_numbers_are_no_error(tmp_path: Path, order: str) -> None:
    (tmp_path / "hdb.log").write_text(LINES)
    params = read_log_params({"start": 0.5, "limit": 1e300, "order": order})
    assert len(await read_log.handler(context(tmp_path), params)) == 2


@pytest.mark.parametrize("name", ["install.log", "hdb.log"])
async def test_a_log_that_does_not_exist_is_told_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        await read_log.handler(context(tmp_path), read_log_params({"log_name": name}))
    assert str(caught.value) == f"'log_name' '{name}' does not exist."


async def test_rotated_files_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "hdb.log").write_text("")
    (tmp_path / "HDB-2026-11-23T08-36-47.391Z.log").write_text(LINES)
    assert await read_log.handler(context(tmp_path), read_log_params({})) == []
