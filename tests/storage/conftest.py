"""Fixtures of the storage tests: real LMDB in a temporary folder. A database that a test opened this way is checked by
``storage/checker.py`` when the test ends, so every test is also a test of all invariants."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.checker import check_database
from tests.storage.opened import Opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's database lives."""
    return tmp_path / "database"


@pytest.fixture
def opened(folder: Path) -> Iterator[Opened]:
    """A new database with one dynamic table ``dog``; closed and checked at the end."""
    database = Opened.at(folder)
    database.create_table("dog")
    yield database
    database.close()
    assert check_database(folder, now_ms=database.now_us // 1000) == []


@pytest.fixture
def is_sound() -> Callable[[Path], bool]:
    """Asks for folders of stopped databases whether the checker finds nothing."""

    def ask(path: Path) -> bool:
        assert check_database(path) == []
        return True

    return ask
