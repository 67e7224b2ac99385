"""A disk without room: the write is refused and leaves nothing, reads work, and it goes on once there is room."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.checker import check_database
from storage.errors import DiskFull, NotOpened
from tests.storage.opened import Opened, structural_damage


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB; only who may mount one can run these tests."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no right to mount a file system here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def fill(opened: Opened, first: int = 0) -> int:
    """Write until it is refused; the key that was."""
    for key in range(first, first + 100_000):
        try:
            opened.put("dog", {"id": key, "text": str(key) * 300})
        except DiskFull:
            return key
    raise AssertionError("the disk never got full")


def fill_up(disk: Path) -> None:
    """Take the last bytes of the disk."""
    with (disk / "more").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(512))


def test_a_full_disk_refuses_writes_until_there_is_room(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    opened = Opened.at(small_disk / "database", sync=True)
    opened.create_table("dog")
    refused = fill(opened)
    assert refused > 50
    assert fill(opened, refused) == refused
    assert opened.ids("dog") == list(range(refused))
    (small_disk / "ballast").unlink()
    assert fill(opened, refused) > refused + 50
    opened.close()
    assert structural_damage(small_disk / "database") == []
    assert check_database(small_disk / "database") == []


@pytest.mark.parametrize("sync", [True, False])
def test_a_database_can_be_closed_while_the_disk_is_full(small_disk: Path, sync: bool) -> None:
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    opened = Opened.at(small_disk / "database", sync=sync)
    opened.create_table("dog")
    fill(opened)
    fill_up(small_disk)
    opened.close()
    (small_disk / "ballast").unlink()
    again = Opened.at(small_disk / "database", sync=sync)
    assert again.ids("dog")
    again.close()


def test_a_database_cannot_be_opened_or_made_on_a_full_disk_and_nothing_is_lost(small_disk: Path) -> None:
    opened = Opened.at(small_disk / "database", sync=True)
    opened.create_table("dog")
    opened.put("dog", {"id": 1})
    opened.close()
    fill_up(small_disk)
    for name in ("database", "other"):
        with pytest.raises(NotOpened, match="No space left"):
            Opened.at(small_disk / name, sync=True)
    (small_disk / "more").unlink()
    again = Opened.at(small_disk / "database", sync=True)
    assert again.ids("dog") == [1]
    again.close()


def test_a_limit_on_the_size_of_files_is_a_full_disk(tmp_path: Path, is_sound: Callable[[Path], bool]) -> None:
    folder = tmp_path / "database"
    run = subprocess.run(
        [sys.executable, "-m", "tests.storage.crash.filler", str(folder), str(300_000)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["ids_while_full"] == list(range(seen["refused"]))
    assert seen["refused"] in seen["ids_at_the_end"] or seen["ids_at_the_end"][:-1] == seen["ids_while_full"]
    assert structural_damage(folder) == []
    assert is_sound(folder)
