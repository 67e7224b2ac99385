"""Rotation by size and age, on real files with the time handed in."""

import gzip
import logging
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.log_file import LogFile
from node.log_line import make_line
from node.log_rotation import is_rotating, rotate_if_due
from tests.node.log_settings import rotation_settings

BEGUN_S = datetime(2026, 11, 23, 8, 0, tzinfo=UTC).timestamp()
ROTATED_S = datetime(2026, 11, 23, 8, 36, 47, 391_200, tzinfo=UTC).timestamp()
ROTATED_NAME = "HDB-2026-11-23T08-36-47.391Z.log"
DAY_S = 86_400.0


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LogFile]:
    """A log of two lines, the first one written at ``BEGUN_S``."""
    file = LogFile(tmp_path / "log" / "hdb.log")
    for number in range(2):
        file.write([make_line(f"line {number}", level=logging.INFO, created_s=BEGUN_S + number)])
    yield file
    file.close()


@pytest.fixture
def folder(file: LogFile) -> Path:
    return file.path.parent


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("changes", "rotates"),
    [
        ({}, False),
        ({"retention_s": 1.0}, False),
        ({"interval_s": 1.0}, True),
        ({"size_bytes_max": 1}, True),
        ({"size_bytes_max": 1, "enabled": False}, False),
    ],
)
def test_logs_are_checked_only_where_a_size_or_an_interval_is_set(
    tmp_path: Path, changes: dict[str, float | bool], rotates: bool
) -> None:
    assert is_rotating(rotation_settings(tmp_path, **changes)) is rotates


def test_a_log_that_reached_its_size_is_moved_and_a_new_one_says_so(file: LogFile, folder: Path) -> None:
    old = file.path.read_text()
    settings = rotation_settings(folder, size_bytes_max=len(old))
    assert rotate_if_due(file, settings, now_s=ROTATED_S) == folder / ROTATED_NAME
    assert (folder / ROTATED_NAME).read_text() == old
    assert file.path.read_text().endswith(
        f"Z [main/0] [notify]: hdb.log rotated, old log moved to {folder / ROTATED_NAME}\n"
    )
    assert len(file.path.read_text().splitlines()) == 1


def test_a_log_below_its_size_stays(file: LogFile, folder: Path) -> None:
    settings = rotation_settings(folder, size_bytes_max=len(file.path.read_text()) + 1)
    assert rotate_if_due(file, settings, now_s=ROTATED_S) is None
    assert names(folder) == ["hdb.log"]


@pytest.mark.parametrize(("age_s", "rotates"), [(3599.0, False), (3600.0, True)])
def test_the_age_of_a_log_is_that_of_its_first_line(file: LogFile, folder: Path, age_s: float, rotates: bool) -> None:
    os.utime(file.path, (BEGUN_S + 9000, BEGUN_S + 9000))
    rotated = rotate_if_due(file, rotation_settings(folder, interval_s=3600.0), now_s=BEGUN_S + age_s)
    assert (rotated is not None) is rotates


def test_the_age_of_a_log_that_begins_with_no_timestamp_is_that_of_its_last_change(folder: Path) -> None:
    file = LogFile(folder / "odd.log")
    file.path.write_text("no timestamp here, but long enough")
    os.utime(file.path, (BEGUN_S, BEGUN_S))
    settings = rotation_settings(folder, interval_s=3600.0)
    assert rotate_if_due(file, settings, now_s=BEGUN_S + 3599) is None
    assert rotate_if_due(file, settings, now_s=BEGUN_S + 3601) is not None
    file.close()


@pytest.mark.parametrize("content", [None, ""], ids=["missing", "empty"])
def test_there_is_nothing_to_rotate_in_a_log_without_lines(folder: Path, content: str | None) -> None:
    file = LogFile(folder / "other.log")
    if content is not None:
        file.path.write_text(content)
    settings = rotation_settings(folder, size_bytes_max=1, interval_s=1.0)
    assert rotate_if_due(file, settings, now_s=ROTATED_S) is None


def test_a_rotated_log_may_be_compressed(file: LogFile, folder: Path) -> None:
    old = file.path.read_bytes()
    rotated = rotate_if_due(file, rotation_settings(folder, size_bytes_max=1, compress=True), now_s=ROTATED_S)
    assert rotated == folder / f"{ROTATED_NAME}.gz"
    assert gzip.decompress(rotated.read_bytes()) == old
    assert stat.S_IMODE(rotated.stat().st_mode) == 0o600
    assert names(folder) == [rotated.name, "hdb.log"]
    assert str(rotated) in file.path.read_text()


def test_rotated_logs_may_have_a_folder_of_their_own(file: LogFile, folder: Path, tmp_path: Path) -> None:
    rotate_if_due(file, rotation_settings(tmp_path / "old", size_bytes_max=1), now_s=ROTATED_S)
    assert names(tmp_path / "old") == [ROTATED_NAME]
    assert names(folder) == ["hdb.log"]


def test_rotated_logs_may_go_to_another_disk(file: LogFile, folder: Path, tmp_path: Path) -> None:
    other_disk = Path("/dev/shm")
    if not other_disk.is_dir() or other_disk.stat().st_dev == folder.stat().st_dev:
        pytest.skip("needs a second file system")
    target = other_disk / tmp_path.name
    target.mkdir()
    try:
        old = file.path.read_bytes()
        rotated = rotate_if_due(file, rotation_settings(target, size_bytes_max=1), now_s=ROTATED_S)
        assert rotated == target / ROTATED_NAME
        assert rotated.read_bytes() == old
        assert names(folder) == ["hdb.log"]
    finally:
        for path in target.iterdir():
            path.unlink()
        target.rmdir()


def test_two_rotations_in_one_millisecond_do_not_overwrite_each_other(file: LogFile, folder: Path) -> None:
    settings = rotation_settings(folder, size_bytes_max=1)
    first, second = (rotate_if_due(file, settings, now_s=ROTATED_S) for _ in range(2))
    assert first != second
    assert {path.name for path in folder.glob("HDB-*")} == {getattr(first, "name", ""), getattr(second, "name", "")}


def test_rotated_logs_older_than_their_retention_are_deleted(file: LogFile, folder: Path) -> None:
    kept = [
        "HDB-2026-11-22T08-36-48.000Z.log",
        "notes-2020-01-01.log",
        "HDB-2020.log",
        "OTHER-2020-01-01T00-00-00.000Z.log",
    ]
    gone = ["HDB-2026-11-22T08-36-46.000Z.log", "HDB-2020-01-01T00-00-00.000Z.log.gz"]
    for name in (*kept, *gone):
        (folder / name).touch()
    rotate_if_due(file, rotation_settings(folder, interval_s=10 * DAY_S, retention_s=DAY_S), now_s=ROTATED_S)
    assert names(folder) == sorted([*kept, "hdb.log"])


def test_rotated_logs_stay_for_ever_without_a_retention(file: LogFile, folder: Path) -> None:
    (folder / "HDB-2020-01-01T00-00-00.000Z.log").touch()
    rotate_if_due(file, rotation_settings(folder, interval_s=10 * DAY_S), now_s=ROTATED_S)
    assert "HDB-2020-01-01T00-00-00.000Z.log" in names(folder)


def test_a_compression_that_was_cut_short_leaves_the_whole_log_and_no_part(
    file: LogFile, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old = file.path.read_bytes()
    settings = rotation_settings(folder, size_bytes_max=len(old), compress=True)

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("node.log_rotation.shutil.copyfileobj", fail)
        assert rotate_if_due(file, settings, now_s=ROTATED_S) is None
    assert "cannot be rotated: No space left on device" in caplog.text
    file.path.write_bytes(b"")
    rotate_if_due(file, settings, now_s=ROTATED_S + 60)
    assert names(folder) == [ROTATED_NAME, "hdb.log"]
    assert (folder / ROTATED_NAME).read_bytes() == old


def test_a_section_log_is_rotated_under_its_own_name(folder: Path) -> None:
    file = LogFile(folder / "replication.log")
    file.write([make_line("x", level=logging.INFO, created_s=BEGUN_S)])
    rotate_if_due(file, rotation_settings(folder, size_bytes_max=1), now_s=ROTATED_S)
    file.close()
    assert ROTATED_NAME.replace("HDB", "REPLICATION") in names(folder)
    assert "replication.log rotated, old log moved to" in file.path.read_text()
