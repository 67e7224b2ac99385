"""From a query to the walk that answers it with the least work. Pure: all it knows of the data comes from
``Statistics``.

A plan is a list of steps, run one after the other. A step walks one order (the primary table or an index) over the
ranges of a condition, checks *probes* (does another index hold this key under that value? cheaper than loading the
row), loads rows and tests the rest on them. What it guarantees:

- one condition: its index's order, then key order (without an index: key order);
- ``or``: the matches of the first condition, then new ones of the second, and so on: a step leaves out what an earlier
  member of the group let through, so nothing has to remember what was delivered;
- ``sort``: by walking the sort attribute's index and filtering, where that costs less than collecting all matches and
  sorting them. Records without a value there stand in no index: a step of their own brings them.

Estimates: single values are counted exactly; a range is counted up to ``COUNTED_MAX`` entries and guessed beyond.
Costs are in units of one row loaded and decoded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from operator import itemgetter
from typing import Any, Final, Protocol

from storage.conditions import Comparator, Condition, Group, Node, Query, Sort, all_of, conjuncts, flattened
from storage.keys import FALSE, NULL
from storage.matching import EVERYTHING, Range, ValueTest, value_test
from storage.schema import Table

COUNTED_MAX: Final = 256
"""Entries of a range that are counted before its size is guessed: about as much work as loading ten rows."""
PROBED_VALUES_MAX: Final = 8
PROBE_FROM_ROWS: Final = 16
"""Fewer rows are loaded sooner than another index is consulted."""
PROBE_SHARE_MAX: Final = 0.7
"""A value that most records have filters too little to be worth a probe."""

ENTRY_COST: Final = 0.05
PROBE_COST: Final = 0.1
KEY_COST: Final = 0.1
"""Of one row in finding those without an entry in an index."""
KEYS_COMPARED_MAX: Final = 200_000
"""Records among which those without an entry are found by comparing keys in memory; beyond, matches are sorted."""

_SHARES: Final = {
    Comparator.STARTS_WITH: 0.05,
    Comparator.TEXT_STARTS_WITH: 0.05,
    Comparator.PREFIX: 0.05,
    Comparator.BETWEEN: 0.1,
    Comparator.FROM_TO_BEFORE: 0.1,
    Comparator.ABOVE_TO_BEFORE: 0.1,
    Comparator.ABOVE_TO: 0.1,
    Comparator.GREATER_THAN: 0.3,
    Comparator.GREATER_THAN_EQUAL: 0.3,
    Comparator.LESS_THAN: 0.3,
    Comparator.LESS_THAN_EQUAL: 0.3,
    Comparator.CONTAINS: 0.5,
    Comparator.ENDS_WITH: 0.5,
    Comparator.NOT_EQUAL: 0.9,
}


def guessed_share(comparator: Comparator) -> float:
    """Share of an index that a comparator is taken to select while its value is not known."""
    return _SHARES.get(comparator, 0.01)


class Statistics(Protocol):
    """What is known of a table's data, in the snapshot that the query begins with."""

    @property
    def row_count(self) -> int: ...

    def entry_count(self, attribute: str) -> int:
        """Entries of an attribute's index."""

    def count(self, attribute: str, wanted: Range, at_most: int) -> int | None:
        """Entries in a range (for the primary key: rows); exact for one value, else None beyond ``at_most``."""

    def extra_entries(self, attribute: str) -> int:
        """How many entries of an index are second and further ones of their record (arrays)."""


class Direction(Enum):
    FORWARD = "forward"
    BACKWARD = "backward"
    VALUES_BACKWARD = "values backward"
    """Values descending, and under each value keys ascending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One walk. ``attribute`` names its order; the primary key stands for the table itself.

    ``drivers`` are the conditions that the walk's ranges answer for. ``without_value``: instead of a walk, the records
    whose sort value there is null or that have no entry, in key order.
    """

    attribute: str
    test: ValueTest
    drivers: tuple[Condition, ...] = ()
    direction: Direction = Direction.FORWARD
    without_value: bool = False
    probes: tuple[Condition, ...] = ()
    filter: Node | None = None
    excluded: tuple[Node, ...] = ()
    estimated: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``sort`` is what remains to be put in order in memory; empty where the steps deliver the order."""

    where: Node | None
    steps: tuple[Step, ...]
    sort: tuple[Sort, ...]
    offset: int
    limit: int | None
    cost: float

    @property
    def wanted(self) -> int | None:
        """Records to find before the query is answered; None: all."""
        return None if self.limit is None else self.offset + self.limit

    def described(self) -> dict[str, Any]:
        """For ``explain``: the conditions in the order in which they are used, and the steps."""
        conditions = [driver.described() for step in self.steps for driver in step.drivers]
        filtered = [step.filter.described() for step in self.steps if step.filter is not None]
        operator = self.where.operator if isinstance(self.where, Group) else "and"
        return {
            "conditions": conditions + filtered,
            "operator": operator,
            "postOrdering": self.sort[0].described() if self.sort else None,
            "plan": [_described_step(step) for step in self.steps],
        }


def plan_query(query: Query, table: Table, statistics: Statistics) -> Plan:
    """The plan of a query. Raises ``InvalidKey`` where a condition's value has no place in the order."""
    where = None if query.where is None else flattened(query.where)
    return _Planner(table, statistics).plan(where, query)


def first_condition(where: Node | None, attribute: str) -> Condition | None:
    """The first condition on ``attribute`` among those that must hold for every record."""
    on_it = (node for node in conjuncts(where) if isinstance(node, Condition) and node.attribute == attribute)
    return next(on_it, None)


class _Planner:
    def __init__(self, table: Table, statistics: Statistics) -> None:
        self._table = table
        self._statistics = statistics
        self._rows = statistics.row_count

    def plan(self, where: Node | None, query: Query) -> Plan:
        wanted = None if query.limit is None else query.offset + query.limit
        if query.sort is None:
            direction = Direction.BACKWARD if query.reverse else Direction.FORWARD
            steps = [replace(step, direction=direction) for step in self._driven(where)]
            cost = min(_cost(steps), _first_rows_cost(steps, wanted))
            chain: tuple[Sort, ...] = ()
        else:
            steps, chain, cost = self._sorted(where, tuple(query.sort.chain()), wanted)
        return Plan(
            where=where, steps=tuple(steps), sort=chain, offset=query.offset, limit=query.limit, cost=round(cost, 2)
        )

    # -- conditions ---------------------------------------------------------------------------------------------------

    def _driven(self, node: Node | None) -> list[Step]:
        """The cheapest steps that deliver the records for which ``node`` holds, each once."""
        if node is None:
            return [self._whole_table()]
        if isinstance(node, Condition):
            return [self._step_of(node)]
        if node.operator == "or":
            return self._union(node.members)
        return self._intersection(node.members)

    def _union(self, members: Sequence[Node]) -> list[Step]:
        return [
            replace(step, excluded=(*step.excluded, *members[:position]))
            for position, member in enumerate(members)
            for step in self._driven(member)
        ]

    def _intersection(self, members: Sequence[Node]) -> list[Step]:
        """Driven by the member that costs least, or by several bounds on one attribute together; the others filter."""
        options: list[tuple[list[Step], tuple[Node, ...]]] = [(self._driven(member), (member,)) for member in members]
        options.extend(([self._merged(bounds)], bounds) for bounds in self._mergeable(members))
        steps, used = min(options, key=lambda option: _cost(option[0]))
        if _cost(steps) > self._rows:
            return [self._filtered(self._whole_table(), members)]
        return [self._filtered(step, _without(members, used)) for step in steps]

    def _mergeable(self, members: Sequence[Node]) -> list[tuple[Condition, ...]]:
        """Bounds on one attribute that one range answers: only where no record has several values there, as each bound
        may be met by another element of an array."""
        bounds: dict[str, list[Condition]] = {}
        for member in members:
            if isinstance(member, Condition) and self._has_one_value(member.attribute):
                test = self._test(member)
                if test.accepts is None and not test.needs_record and not test.covers_all:
                    bounds.setdefault(member.attribute, []).append(member)
        return [tuple(conditions) for conditions in bounds.values() if len(conditions) > 1]

    def _merged(self, bounds: tuple[Condition, ...]) -> Step:
        ranges = self._test(bounds[0]).ranges
        for condition in bounds[1:]:
            ranges = _common(ranges, self._test(condition).ranges)
        share = min(guessed_share(condition.comparator) for condition in bounds) / 2
        return self._range_step(bounds[0].attribute, ValueTest(ranges=ranges), bounds, share)

    def _has_one_value(self, attribute: str) -> bool:
        if attribute == self._table.primary_key:
            return True
        return attribute in self._table.index_ids and self._statistics.extra_entries(attribute) == 0

    def _filtered(self, step: Step, others: Sequence[Node]) -> Step:
        """The step with ``others`` as probes where an index answers, and as a filter of rows."""
        probes = [] if step.estimated < PROBE_FROM_ROWS else sorted(self._probes(others), key=itemgetter(0))
        probed = tuple(condition for _, condition in probes)
        return replace(step, probes=probed, filter=all_of(step.filter, *_without(others, probed)))

    def _probes(self, nodes: Sequence[Node]) -> list[tuple[int, Condition]]:
        """Conditions that another index answers for a key, each with the number of its entries."""
        found: list[tuple[int, Condition]] = []
        for node in nodes:
            if isinstance(node, Condition) and node.attribute in self._table.index_ids:
                test = self._test(node)
                if test.is_exact_set and len(test.ranges) <= PROBED_VALUES_MAX:
                    count = self._count_points(node.attribute, test)
                    if count <= self._rows * PROBE_SHARE_MAX:
                        found.append((count, node))
        return found

    def _step_of(self, condition: Condition) -> Step:
        """The walk that answers one condition, in the order that it promises."""
        attribute = condition.attribute
        test = self._test(condition)
        is_known = attribute == self._table.primary_key or attribute in self._table.index_ids
        if not is_known or test.covers_all:
            return replace(self._whole_table(), filter=condition)
        return self._range_step(attribute, test, (condition,), guessed_share(condition.comparator))

    def _range_step(self, attribute: str, test: ValueTest, drivers: tuple[Condition, ...], share: float) -> Step:
        entries = self._entries(attribute)
        if test.is_exact_set:
            estimated = walked = self._count_points(attribute, test)
        else:
            counts = [self._statistics.count(attribute, wanted, COUNTED_MAX) for wanted in test.ranges]
            counted = sum(count for count in counts if count is not None)
            is_counted = None not in counts
            estimated = counted if is_counted else min(entries, max(int(entries * share), counted + COUNTED_MAX))
            walked = counted if is_counted else (estimated if test.accepts is None else entries)
            if test.accepts is not None and is_counted:
                estimated = int(counted * share) + 1
        rows = walked if attribute == self._table.primary_key else estimated
        cost = rows + walked * ENTRY_COST
        return Step(attribute=attribute, test=test, drivers=drivers, estimated=estimated, cost=cost)

    def _whole_table(self) -> Step:
        test = ValueTest(ranges=(EVERYTHING,))
        return Step(attribute=self._table.primary_key, test=test, estimated=self._rows, cost=float(self._rows))

    def _count_points(self, attribute: str, test: ValueTest) -> int:
        return sum(self._statistics.count(attribute, wanted, COUNTED_MAX) or 0 for wanted in test.ranges)

    def _entries(self, attribute: str) -> int:
        return self._rows if attribute == self._table.primary_key else self._statistics.entry_count(attribute)

    def _test(self, condition: Condition) -> ValueTest:
        return value_test(condition, is_key=condition.attribute == self._table.primary_key)

    # -- order --------------------------------------------------------------------------------------------------------

    def _sorted(
        self, where: Node | None, chain: tuple[Sort, ...], wanted: int | None
    ) -> tuple[list[Step], tuple[Sort, ...], float]:
        """Steps, what is left to sort in memory, and the cost."""
        collected = self._collected(where)
        matches = self._matches(collected)
        collecting = _cost(collected) + (matches if wanted is None else min(matches, wanted))
        first = chain[0]
        if first.attribute == self._table.primary_key:
            chain = (first,)
            if self._is_in_key_order(collected):
                steps = [replace(step, direction=_key_direction(first)) for step in collected]
                return steps, (), min(_cost(steps), _first_rows_cost(steps, wanted))
        if len(chain) == 1:
            walk = self._walk(where, first, matches, wanted)
            if walk is not None and walk[1] <= collecting:
                return walk[0], (), walk[1]
        return collected, chain, collecting

    def _collected(self, where: Node | None) -> list[Step]:
        """Steps in any order: one walk of the table, where a member of an ``or`` would need one anyway."""
        steps = self._driven(where)
        if len(steps) > 1 and _cost(steps) >= self._rows:
            return [self._filtered(self._whole_table(), conjuncts(where))]
        return steps

    def _matches(self, steps: list[Step]) -> int:
        """Records expected behind drivers and probes, the probes taken as independent."""
        total = 0.0
        for step in steps:
            expected = float(step.estimated)
            for probe in step.probes:
                expected *= self._count_points(probe.attribute, self._test(probe)) / max(self._rows, 1)
            total += expected
        return math.ceil(total)

    def _is_in_key_order(self, steps: list[Step]) -> bool:
        if len(steps) != 1:
            return False
        (step,) = steps
        return step.attribute == self._table.primary_key or (step.test.is_exact_set and len(step.test.ranges) == 1)

    def _walk(
        self, where: Node | None, sort: Sort, matches: int, wanted: int | None
    ) -> tuple[list[Step], float] | None:
        """Steps that deliver the order by walking the attribute's own, and their cost; None where nothing has it."""
        attribute = sort.attribute
        is_key = attribute == self._table.primary_key
        if not is_key and attribute not in self._table.index_ids:
            return None
        walk, others = self._walk_over(where, attribute)
        walk = replace(walk, direction=_key_direction(sort) if is_key else _value_direction(sort))
        rows = walk.estimated
        visited = rows if wanted is None or not matches else min(rows, wanted * max(rows, 1) / matches)
        walk = self._filtered(walk, others)
        cost = visited * (ENTRY_COST + (PROBE_COST if walk.probes else 1.0)) + (wanted or matches)
        if is_key or walk.drivers:
            return [walk], cost
        return self._with_missing(walk, sort, cost)

    def _walk_over(self, where: Node | None, attribute: str) -> tuple[Step, Sequence[Node]]:
        """The attribute's order over the ranges of the first condition on it, and what else must hold."""
        members = conjuncts(where)
        for bounds in self._mergeable(members):
            if bounds[0].attribute == attribute:
                return self._merged(bounds), _without(members, bounds)
        condition = first_condition(where, attribute)
        if condition is not None and not self._test(condition).covers_all:
            return self._step_of(condition), _without(members, (condition,))
        step = Step(attribute=attribute, test=ValueTest(ranges=(EVERYTHING,)), estimated=self._entries(attribute))
        return step, members

    def _with_missing(self, walk: Step, sort: Sort, cost: float) -> tuple[list[Step], float] | None:
        """The walk, before or behind it the records without a value there, which no index lists."""
        with_value = self._statistics.entry_count(sort.attribute) - self._statistics.extra_entries(sort.attribute)
        if with_value == self._rows:
            return [walk], cost
        if self._rows > KEYS_COMPARED_MAX:
            return None
        valued = replace(walk, test=ValueTest(ranges=(Range(FALSE, EVERYTHING.high),)))
        missing = Step(
            attribute=sort.attribute,
            test=ValueTest(ranges=(Range(NULL, FALSE),)),
            without_value=True,
            probes=walk.probes,
            filter=walk.filter,
            estimated=max(0, self._rows - with_value),
        )
        if sort.descending:
            return [valued, missing], cost
        return [missing, valued], cost + self._rows * KEY_COST


def _without(members: Sequence[Node], used: Sequence[Node]) -> list[Node]:
    """Members that are none of ``used``: the same objects, as to Python ``1 == True``."""
    return [member for member in members if not any(member is one for one in used)]


def _common(left: Sequence[Range], right: Sequence[Range]) -> tuple[Range, ...]:
    """What two lists of ranges share."""
    shared = (Range(max(a.low, b.low), min(a.high, b.high)) for a in left for b in right)
    return tuple(wanted for wanted in shared if wanted.low < wanted.high)


def _cost(steps: Sequence[Step]) -> float:
    return sum(step.cost for step in steps)


def _first_rows_cost(steps: Sequence[Step], wanted: int | None) -> float:
    """What it costs to stop after ``wanted`` records, where nothing filters them."""
    if wanted is None or any(step.filter or step.probes or step.excluded or step.test.accepts for step in steps):
        return _cost(steps)
    return wanted * (1 + ENTRY_COST)


def _key_direction(sort: Sort) -> Direction:
    return Direction.BACKWARD if sort.descending else Direction.FORWARD


def _value_direction(sort: Sort) -> Direction:
    return Direction.VALUES_BACKWARD if sort.descending else Direction.FORWARD


def _described_step(step: Step) -> dict[str, Any]:
    filtered = all_of(*step.probes, step.filter)
    return {
        "index": step.attribute,
        "range": "without value" if step.without_value else [driver.described() for driver in step.drivers] or "all",
        "estimated": step.estimated,
        "filter": None if filtered is None else filtered.described(),
    }
