"""A fixed number of seeds, the same ones each time; ``scripts/simulate`` runs as many others as one likes."""

import os

import pytest

from tests.simulation.plan import Plan
from tests.simulation.shrink import shrink
from tests.simulation.world import simulate

CHUNKS = 20
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "300"))
"""A whole run of the tests is to stay within minutes; more are a matter of patience."""


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_what_clients_were_promised_holds_whatever_breaks(chunk):
    for seed in range(chunk, SEEDS, CHUNKS):
        simulate(seed)


def test_the_same_seed_does_the_same_to_the_last_commit():
    plan = Plan.of(7, minutes=3.0)
    assert simulate(plan).trace == simulate(plan).trace


def test_another_seed_does_something_else():
    assert simulate(Plan.of(7, minutes=1.0)).trace != simulate(Plan.of(8, minutes=1.0)).trace


def test_leaving_a_fault_out_leaves_the_others_as_they_were():
    plan = Plan.of(3, minutes=5.0)
    whole = simulate(plan).faults
    fewer = simulate(plan.changed(without=frozenset(("cut",)))).faults
    assert "cut" in whole
    assert fewer == {kind: count for kind, count in whole.items() if kind != "cut"}


def test_a_failing_plan_is_shrunk_to_what_makes_it_fail():
    plan = Plan.of(3, nodes=5)

    def fails(candidate: Plan) -> bool:
        return candidate.nodes >= 3 and candidate.minutes >= 2 and "crash" not in candidate.without

    smallest = shrink(plan, fails)
    assert (smallest.nodes, smallest.minutes, smallest.faults_max) == (3, 2.5, 0)
    assert "crash" not in smallest.without and "cut" in smallest.without
