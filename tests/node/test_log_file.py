"""Appending to a log file that others write and move too."""

import errno
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.log_file import LogFile
from node.log_line import LogLine, make_line


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LogFile]:
    file = LogFile(tmp_path / "log" / "hdb.log")
    yield file
    file.close()


def line(message: str) -> LogLine:
    return make_line(message, level=logging.INFO, created_s=0.0)


def messages(path: Path) -> list[str]:
    return [text.rpartition(": ")[2] for text in path.read_text().splitlines()]


def test_making_a_log_file_touches_nothing(file: LogFile) -> None:
    assert not file.path.parent.exists()


def test_a_log_file_is_for_its_owner_alone(file: LogFile) -> None:
    file.write([line("one")])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_lines_are_appended_to_what_is_there(file: LogFile) -> None:
    file.write([line("one"), line("two")])
    file.close()
    file.write([line("three")])
    assert messages(file.path) == ["one", "two", "three"]


def test_two_writers_of_one_file_lose_nothing(file: LogFile) -> None:
    other = LogFile(file.path)
    for number in range(50):
        (file, other)[number % 2].write([line(str(number))])
    other.close()
    assert messages(file.path) == [str(number) for number in range(50)]


@pytest.mark.parametrize("how", ["renamed", "removed"])
def test_a_new_file_begins_when_the_old_one_is_gone_from_its_path(file: LogFile, how: str) -> None:
    file.write([line("old")])
    if how == "renamed":
        file.path.rename(file.path.with_name("old.log"))
    else:
        file.path.unlink()
    file.write([line("new")])
    assert messages(file.path) == ["new"]


def test_moving_begins_a_new_file_with_the_given_line(file: LogFile, tmp_path: Path) -> None:
    file.write([line("old")])
    file.move(tmp_path / "moved.log", lambda: line("begun"))
    file.write([line("new")])
    assert messages(tmp_path / "moved.log") == ["old"]
    assert messages(file.path) == ["begun", "new"]


def test_a_move_that_fails_leaves_the_file_in_use(file: LogFile, tmp_path: Path) -> None:
    file.write([line("old")])
    with pytest.raises(FileNotFoundError):
        file.move(tmp_path / "no" / "folder.log", lambda: line("begun"))
    file.write([line("new")])
    assert messages(file.path) == ["old", "new"]


def test_a_line_after_a_torn_one_stands_on_a_line_of_its_own(file: LogFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes a part of a write and refuses the rest."""
    calls = iter([True, False])
    real_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if next(calls):
            return real_write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("node.log_file.os.write", write)
        with pytest.raises(OSError, match="No space"):
            file.write([line("torn")])
    file.write([line("whole")])
    assert file.path.read_text().splitlines() == ["1970-01-01", "1970-01-01T00:00:00.000Z [main/0] [info]: whole"]
