"""A process that is killed while it writes: whatever it was told is written is there, whole, and all invariants hold."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from storage.checker import check_database
from storage.clock import wall_clock
from storage.database import Database
from storage.environment import Environment
from storage.transaction import stored_key_of
from tests.storage.crash.writer import KEYS, NODE, outcome_of, settings
from tests.storage.opened import structural_damage

STEPS_PER_LIFE: Final = 1_000_000


def run_and_kill(folder: Path, first: int, lines: int) -> dict[int, int]:
    """Let a process write until it has acknowledged so much, kill it; last acknowledged step by key."""
    acknowledged: dict[int, int] = {}
    command = [sys.executable, "-m", "tests.storage.crash.writer", str(folder), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(lines):
            key, step = process.stdout.readline().split()
            acknowledged[int(key)] = int(step)
        process.kill()
        for line in process.stdout:
            if line.endswith("\n"):
                key, step = line.split()
                acknowledged[int(key)] = int(step)
    return acknowledged


def found(database: Database, table: str, key: int) -> dict[str, Any] | None:
    with database.read() as tx:
        known = tx.table(table)
        row = tx.row(known, stored_key_of(key))
        if row is None:
            return None
        record = tx.record(known, row)
    return {name: value for name, value in record.items() if name != "id" and not name.startswith("__")}


def check_life(
    folder: Path, first: int, acknowledged: dict[int, int], before: dict[int, Any]
) -> tuple[str, dict[int, Any]]:
    """Store id of the database, and what stands under each key, which is what the acknowledgements say it may be."""
    path = folder / "data"
    assert structural_damage(path) == []
    assert check_database(path) == []
    environment = Environment(path, settings(folder), node=NODE, name="data")
    database = Database(environment, wall_clock)
    try:
        standing = {key: found(database, "left", key) for key in range(KEYS)}
        for key, record in standing.items():
            assert found(database, "right", key) == record
            last = acknowledged.get(key)
            allowed = [before.get(key), outcome_of(first)] if last is None else [outcome_of(last), outcome_of(last + 1)]
            assert record in allowed
        return environment.origin.store, standing
    finally:
        database.close()


def kill_again_and_again(folder: Path, lives: int, seed: int) -> None:
    chance = random.Random(seed)
    before: dict[int, Any] = {}
    stores = set()
    for life in range(1, lives + 1):
        first = life * STEPS_PER_LIFE
        acknowledged = run_and_kill(folder, first, chance.randint(1, 400))
        store, before = check_life(folder, first, acknowledged, before)
        stores.add(store)
    assert len(stores) == 1


def test_what_was_acknowledged_survives_every_kill(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, lives=5, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives_a_hundred_kills(tmp_path: Path, seed: int) -> None:
    kill_again_and_again(tmp_path, lives=100, seed=seed)
