"""Loss of power, simulated on copies of the data file: what of a commit reached the disk is for the disk to choose.

A synced commit writes its pages in any order, syncs, and then writes one meta page. So before that page any part of the
others may be there, and the state must be the one before. Without syncs only what was synced counts.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.checker import check_database
from storage.data_file import DATA_FILE, STARTS_FILE
from tests.storage.opened import Opened, structural_damage

PAGE_BYTES = 4096
META_PAGES = 2


def pages_of(data: bytes) -> list[bytes]:
    return [data[at : at + PAGE_BYTES] for at in range(0, len(data), PAGE_BYTES)]


def cut_commit(before: bytes, after: bytes, chance: random.Random) -> bytes:
    """The file when the power went before the meta page: any of the changed pages are there, others as before."""
    old, new = pages_of(before), pages_of(after)
    old += [bytes(PAGE_BYTES)] * (len(new) - len(old))
    share = chance.random()
    return b"".join(
        fresh if number >= META_PAGES and chance.random() < share else stale
        for number, (stale, fresh) in enumerate(zip(old, new, strict=True))
    )


def placed(folder: Path, name: str, data: bytes, starts: str) -> Path:
    path = folder / name
    path.mkdir()
    (path / DATA_FILE).write_bytes(data)
    (path / STARTS_FILE).write_text(starts)
    return path


def write_something(opened: Opened, step: int) -> None:
    opened.put("dog", *({"id": key, "step": step, f"a{step}": step} for key in range(step % 7, 300, 7)))
    opened.delete("dog", *range(step % 11, 300, 11))


@pytest.mark.parametrize("seed", range(3))
def test_a_commit_that_was_cut_leaves_the_state_before_it(folder: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    opened = Opened.at(folder, sync=True)
    opened.create_table("dog")
    starts = (folder / STARTS_FILE).read_text()
    for step in range(8):
        if step == 4:
            opened.write(lambda tx: tx.drop_table(tx.table("dog")))
            opened.create_table("dog")
        write_something(opened, step)
        records, before = opened.all("dog"), (folder / DATA_FILE).read_bytes()
        opened.put("dog", *({"id": key, "new": [step, "x" * 5000]} for key in range(0, 300, 3)))
        after = (folder / DATA_FILE).read_bytes()
        path = placed(tmp_path, f"cut{step}", cut_commit(before, after, chance), starts)
        assert structural_damage(path) == []
        assert check_database(path, now_ms=opened.now_us // 1000) == []
        again = Opened.at(path, sync=True)
        assert again.all("dog") == records
        assert not again.environment.is_new_incarnation
        again.now_us = opened.now_us
        again.put("dog", {"id": 1, "after": 1})
        again.close()
        assert check_database(path, now_ms=again.now_us // 1000) == []
    opened.close()


def test_what_was_not_synced_is_lost_and_the_rest_is_a_new_incarnation(
    folder: Path, tmp_path: Path, is_sound: Callable[[Path], bool]
) -> None:
    opened = Opened.at(folder, sync=False)
    opened.create_table("dog")
    opened.put("dog", {"id": 1})
    opened.environment.lmdb.sync(True)
    synced = (folder / DATA_FILE).read_bytes()
    starts = (folder / STARTS_FILE).read_text()
    opened.put("dog", {"id": 2})
    lost = opened.environment.origin
    opened.close()

    path = placed(tmp_path, "after", synced, starts)
    again = Opened.at(path, sync=False)
    again.now_us = opened.now_us
    assert again.ids("dog") == [1]
    assert again.environment.origin.store != lost.store
    again.put("dog", {"id": 3})
    with again.database.read() as tx:
        positions = {position.origin: position.oseq for position in tx.log.positions().values()}
    assert positions == {lost: 2, again.environment.origin: 1}
    again.close()
    assert is_sound(path)


def test_a_start_that_was_lost_with_the_power_is_noticed(folder: Path, tmp_path: Path) -> None:
    opened = Opened.at(folder, sync=False)
    opened.create_table("dog")
    opened.close()
    shutil.copy(folder / DATA_FILE, tmp_path / "before")
    first = opened.environment.origin.store
    second = Opened.at(folder, sync=False)
    second.put("dog", {"id": 1})
    second.close()
    shutil.copy(tmp_path / "before", folder / DATA_FILE)
    third = Opened.at(folder, sync=False)
    assert third.environment.origin.store != first
    assert third.ids("dog") == []
    third.close()
