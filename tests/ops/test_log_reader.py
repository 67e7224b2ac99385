"""Reading log files: forwards, backwards, over block borders, and against what is not a log at all."""

import random
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ops.log_reader import ENTRY_BYTES_MAX, read_entries

BEGAN = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
BLOCK_BYTES = 64 * 1024


def stamp(second: float) -> str:
    at = BEGAN + timedelta(seconds=second)
    return f"{at.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def entry(second: float, message: str = "x", *, level: str = "info", thread: str = "http/1", tags: str = "") -> str:
    return f"{stamp(second)} [{thread}] [{level}]{tags}: {message}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hdb.log"


def messages(path: Path, **asked: Any) -> list[str]:
    return [found["message"] for found in read_entries(path, **asked)]


def test_an_entry_is_taken_apart(path: Path) -> None:
    path.write_text(
        "2026-11-23T08:31:10.020Z [http/1] [error] [operation] [zoo.otter]: Error: Operation 'nope': not found\n"
    )
    assert read_entries(path) == [
        {
            "timestamp": "2026-11-23T08:31:10.020Z",
            "thread": "http/1",
            "level": "error",
            "tags": ["operation", "zoo.otter"],
            "message": "Error: Operation 'nope': not found",
        }
    ]


def test_an_entry_without_tags_has_an_empty_list(path: Path) -> None:
    path.write_text(entry(0, "Starting job: 1", level="notify", thread="job/3"))
    assert read_entries(path)[0]["tags"] == []


@pytest.mark.parametrize("order", [None, "asc", "desc"])
def test_a_message_goes_on_up_to_the_next_entry(path: Path, order: Any) -> None:
    path.write_text(entry(0, "one\n  two\n\n[http/1] [info]: three") + entry(1, "next"))
    found = messages(path, order=order)
    assert sorted(found) == ["next", "one\n  two\n\n[http/1] [info]: three"]


@pytest.mark.parametrize("order", [None, "desc"])
def test_lines_before_the_first_entry_belong_to_none(path: Path, order: Any) -> None:
    path.write_text("the end of something\nthat was cut\n" + entry(0, "first"))
    assert messages(path, order=order) == ["first"]


@pytest.mark.parametrize("order", [None, "asc", "desc"])
def test_an_empty_file_has_no_entries(path: Path, order: Any) -> None:
    path.touch()
    assert read_entries(path, order=order) == []


def test_a_missing_file_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_entries(path)


@pytest.mark.parametrize(
    ("order", "start", "limit", "found"),
    [
        (None, 0, 3, "012"),
        ("asc", 0, 3, "012"),
        ("asc", 8, 3, "89"),
        ("asc", 20, 3, ""),
        ("desc", 0, 3, "987"),
        ("desc", 2, 3, "765"),
        ("desc", 8, 3, "10"),
        ("desc", 0, 10**30, "9876543210"),
        (None, 10**30, 1, ""),
    ],
)
def test_start_and_limit_count_from_the_end_that_the_order_begins_with(
    path: Path, order: Any, start: int, limit: int, found: str
) -> None:
    path.write_text("".join(entry(number, str(number)) for number in range(10)))
    assert "".join(messages(path, order=order, start=start, limit=limit)) == found


@pytest.mark.parametrize("order", [None, "desc"])
def test_a_level_means_exactly_that_level(path: Path, order: Any) -> None:
    path.write_text("".join(entry(0, level, level=level) for level in ("info", "warn", "error", "notify")))
    assert messages(path, order=order, level="warn") == ["warn"]


@pytest.mark.parametrize(
    ("from_", "to", "found"),
    [
        (BEGAN + timedelta(seconds=2), None, "234"),
        (None, BEGAN + timedelta(seconds=2), "012"),
        (BEGAN + timedelta(seconds=1), BEGAN + timedelta(seconds=3), "123"),
        (BEGAN + timedelta(seconds=2, microseconds=1), None, "34"),
        (None, BEGAN + timedelta(seconds=2, microseconds=-1), "01"),
        ((BEGAN + timedelta(seconds=2)).astimezone(timezone(timedelta(hours=5))), None, "234"),
        (BEGAN + timedelta(days=1), None, ""),
    ],
)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_both_bounds_are_inclusive(path: Path, order: Any, from_: Any, to: Any, found: str) -> None:
    path.write_text("".join(entry(number, str(number)) for number in range(5)))
    assert "".join(sorted(messages(path, order=order, from_=from_, to=to))) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Otter", ["Otter\nriver"]),
        ("otter", []),
        ("river", ["Otter\nriver"]),
        ("[job/3]", ["job"]),
        (stamp(2), ["job"]),
    ],
)
def test_a_filter_is_looked_for_in_the_whole_entry(path: Path, text: str, found: list[str]) -> None:
    path.write_text(entry(0, "badger") + entry(1, "Otter\nriver") + entry(2, "job", thread="job/3"))
    assert messages(path, filter=text) == found


def test_entries_that_two_processes_wrote_out_of_order_are_put_in_order(path: Path) -> None:
    path.write_text(entry(1, "b") + entry(0, "a") + entry(2, "c"))
    assert messages(path, order="asc") == ["a", "b", "c"]
    assert messages(path, order="desc") == ["c", "b", "a"]
    assert messages(path) == ["b", "a", "c"]


def test_entries_of_one_moment_keep_their_order_and_turn_it_with_desc(path: Path) -> None:
    path.write_text("".join(entry(0, text) for text in "abc"))
    assert messages(path, order="asc") == ["a", "b", "c"]
    assert messages(path, order="desc") == ["c", "b", "a"]


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 2, 30])
def test_an_entry_that_begins_at_a_block_border_is_read_from_both_ends(path: Path, offset: int) -> None:
    last = entry(2, "c" * (BLOCK_BYTES + offset - len(entry(2, ""))))
    path.write_text(entry(0, "a") + entry(1, "b") + last)
    assert len(last) == BLOCK_BYTES + offset
    assert messages(path, order="desc")[1:] == ["b", "a"]
    assert messages(path)[:2] == ["a", "b"]


@pytest.mark.parametrize("seed", range(20))
def test_reading_from_the_end_finds_what_reading_from_the_beginning_finds(path: Path, seed: int) -> None:
    """Messages of all lengths, many of them over block borders, with lines that look almost like entries."""
    chooser = random.Random(seed)
    lengths = [chooser.choice([0, 1, 50, 1000, BLOCK_BYTES - 40, BLOCK_BYTES, 3 * BLOCK_BYTES]) for _ in range(60)]
    almost = [f"\n{stamp(0)} [x]: y", f" {stamp(0)} [http/1] [info]: y", "\n\n", "\nö"]
    texts = [entry(number, "m" * length + chooser.choice(almost)) for number, length in enumerate(lengths)]
    path.write_text("".join(texts))
    forwards = read_entries(path)
    assert len(forwards) == len(texts)
    assert read_entries(path, order="desc") == forwards[::-1]
    assert read_entries(path, order="desc", limit=7, start=3) == forwards[::-1][3:10]


@pytest.mark.parametrize("order", [None, "desc"])
def test_a_line_without_an_end_is_read_up_to_a_bound(path: Path, order: Any) -> None:
    path.write_text(entry(0, "first") + entry(1, "m" * (3 * ENTRY_BYTES_MAX)) + entry(2, "last"))
    found = sorted(messages(path, order=order), key=len)
    assert found[:2] == ["last", "first"]
    assert len(found[2]) == ENTRY_BYTES_MAX - len(entry(1, "")) + 1


@pytest.mark.parametrize("order", [None, "desc"])
def test_bytes_that_are_no_log_are_read_without_an_answer(path: Path, order: Any) -> None:
    path.write_bytes(random.Random(1).randbytes(1_000_000))
    assert read_entries(path, order=order) == []


def test_bytes_that_are_no_utf8_are_shown_as_replacement_characters(path: Path) -> None:
    path.write_bytes(entry(0, "a").encode() + b"\xff\n")
    assert messages(path) == ["a\n�"]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_memory_is_that_of_the_answer_and_not_of_the_file(path: Path, order: Any) -> None:
    with path.open("w") as stream:
        for number in range(100_000):
            stream.write(entry(number, "m" * 100))
    tracemalloc.start()
    found = read_entries(path, order=order, limit=10, level="error")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == []
    assert peak_bytes < 2_000_000


def test_the_newest_entries_are_found_without_reading_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("wb") as stream:
        stream.seek(1 << 40)
        stream.write(b"\n" + entry(0, "newest").encode())
    assert messages(path, order="desc", limit=1) == ["newest"]
