"""Runs with a short retention: nodes stay away for longer than anything is kept, or lose their disk and join again.

Deletes stay deleted, expired records stay away, and when all have been heard nothing is left of either.
"""

import os
from typing import Any

import pytest

import replication.retention_rules
from replication.marking import Marking
from storage.late_writes import LateWrites
from tests.simulation.plan import Plan, Violation
from tests.simulation.world import simulate

CHUNKS = 10
SEEDS = int(os.environ.get("SIMULATION_AGING_SEEDS", "40"))
SEEDS_MAX = 12
"""A mutation that survives so many seeds counts as not found."""


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_was_deleted_or_has_expired_stays_away_and_goes_in_the_end(chunk):
    for seed in range(chunk, SEEDS, CHUNKS):
        simulate(Plan.aging(seed))


def test_the_same_seed_does_the_same():
    assert simulate(Plan.aging(3, minutes=8.0)).trace == simulate(Plan.aging(3, minutes=8.0)).trace


def assert_found(**fields: Any) -> None:
    """One of the first seeds must end in a ``Violation``; an error of any other kind fails the test."""
    for seed in range(SEEDS_MAX):
        is_found = False
        try:
            simulate(Plan.aging(seed, nodes=3, minutes=12.0).changed(**{"rare_kinds": ("away",) * 6, **fields}))
        except* Violation:
            is_found = True
        if is_found:
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not notice")


def test_tombstones_that_go_before_everybody_was_heard_are_missed(monkeypatch):
    monkeypatch.setattr(replication.retention_rules, "heard_marks", lambda *args, **kwargs: [])
    monkeypatch.setattr(LateWrites, "restate", lambda self: 0)
    assert_found()


def test_tombstones_that_never_go_are_noticed(monkeypatch):
    def never(*args: Any, **kwargs: Any) -> None:
        return None

    monkeypatch.setattr(replication.retention_rules, "heard_marks", never)
    assert_found()


def test_a_node_that_makes_no_marks_is_noticed(monkeypatch):
    async def never(self: Marking, name: str) -> bool:
        return False

    monkeypatch.setattr(Marking, "mark_if_due", never)
    assert_found()


def test_marks_that_answer_marks_are_noticed(monkeypatch):
    monkeypatch.setattr("replication.marking.MARK", "no such kind")
    assert_found()
