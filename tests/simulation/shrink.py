"""Looks for a smaller plan that still fails: fewer nodes, less time, fewer faults, fewer kinds of them."""

from collections.abc import Callable, Iterator

from tests.simulation.plan import KINDS, Plan

Fails = Callable[[Plan], bool]


def shrink(plan: Plan, fails: Fails) -> Plan:
    """A plan no smaller neighbour of which fails. ``plan`` itself does."""
    while True:
        smaller = next((candidate for candidate in _smaller(plan) if fails(candidate)), None)
        if smaller is None:
            return plan
        plan = smaller


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with a little less, those that save most first."""
    for nodes in range(2, plan.nodes):
        yield plan.changed(nodes=nodes)
    if plan.minutes > 0.5:
        yield plan.changed(minutes=plan.minutes / 2)
    faults_max = _faults_max(plan)
    for fewer in (0, faults_max // 2, faults_max - 1):
        if 0 <= fewer < faults_max:
            yield plan.changed(faults_max=fewer)
    for kind in sorted({*KINDS, *plan.rare_kinds} - plan.without):
        yield plan.changed(without=plan.without | {kind})


def _faults_max(plan: Plan) -> int:
    expected = int(2 * plan.minutes * 60 / plan.fault_every_s) + 10
    return expected if plan.faults_max is None else plan.faults_max
