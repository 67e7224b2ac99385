"""Which way a query takes, given numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.conditions import Comparator, Condition, Group, Node, Query, Sort, all_of
from storage.matching import Range
from storage.planner import Direction, Plan, guessed_share, plan_query
from storage.schema import Attribute, Definition, Table

TABLE = Table(
    id=1,
    database="farm",
    definition=Definition(
        name="animal",
        primary_key="id",
        attributes=(
            Attribute(name="id", is_primary_key=True),
            Attribute(name="kind", indexed=True),
            Attribute(name="pen", indexed=True),
            Attribute(name="weight", indexed=True),
            Attribute(name="note"),
        ),
        schema_defined=True,
    ),
    rows_id=1,
    tombstones_id=2,
    index_ids={"kind": 1, "pen": 2, "weight": 3},
)
KIND = Condition(attribute="kind", value="goat")
PEN = Condition(attribute="pen", value=10)
HEAVY = Condition(attribute="weight", comparator=Comparator.GREATER_THAN, value=40)
LIGHT = Condition(attribute="weight", comparator=Comparator.LESS_THAN, value=100)
NOTE = Condition(attribute="note", value="x")
BY_WEIGHT = Sort(attribute="weight")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Statistics as numbers: entries of every index, and of each condition's values by attribute. Where nothing else is
    said there is one array, hence a record without the value."""

    row_count: int = 10_000
    counts: Mapping[str, int | None] = field(default_factory=dict)
    entries: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, int] = field(default_factory=dict)

    def entry_count(self, attribute: str) -> int:
        return self.entries.get(attribute, self.row_count)

    def count(self, attribute: str, wanted: Range, at_most: int) -> int | None:
        return self.counts.get(attribute)

    def extra_entries(self, attribute: str) -> int:
        return self.extra.get(attribute, 1)


def _plan(where: Node | None, *, sort: Sort | None = None, limit: int | None = None, **numbers: Any) -> Plan:
    return plan_query(Query(where=where, sort=sort, limit=limit), TABLE, Numbers(**numbers))


def _walked(plan: Plan) -> list[str]:
    return [step.attribute for step in plan.steps]


def test_one_condition_is_driven_by_its_own_index_whatever_it_selects() -> None:
    plan = _plan(Condition(attribute="weight", comparator=Comparator.NOT_EQUAL, value=1))
    assert _walked(plan) == ["weight"]
    assert plan.steps[0].filter is None


def test_the_most_selective_condition_drives_and_the_others_filter() -> None:
    plan = _plan(all_of(HEAVY, KIND, NOTE), counts={"kind": 5})
    assert _walked(plan) == ["kind"]
    assert plan.steps[0].filter == all_of(HEAVY, NOTE)


def test_a_range_that_was_counted_beats_a_guess() -> None:
    plan = _plan(all_of(KIND, HEAVY), counts={"kind": 500, "weight": 20})
    assert _walked(plan) == ["weight"]


def test_an_unindexed_condition_scans_the_table() -> None:
    plan = _plan(NOTE)
    assert _walked(plan) == ["id"]
    assert plan.steps[0].filter == NOTE


def test_another_index_is_probed_before_rows_are_loaded() -> None:
    plan = _plan(all_of(KIND, PEN, NOTE), counts={"kind": 200, "pen": 300})
    assert plan.steps[0].probes == (PEN,)
    assert plan.steps[0].filter == NOTE


def test_few_rows_are_loaded_without_probing() -> None:
    assert _plan(all_of(KIND, PEN), counts={"kind": 3, "pen": 300}).steps[0].probes == ()


def test_a_value_that_most_records_have_is_not_probed() -> None:
    assert _plan(all_of(KIND, PEN), counts={"kind": 200, "pen": 9_000}).steps[0].probes == ()


def test_conditions_that_python_calls_equal_are_kept_apart() -> None:
    one = Condition(attribute="pen", value=1)
    true = Condition(attribute="pen", value=True)
    plan = _plan(all_of(one, true), counts={"pen": 2})
    (step,) = plan.steps
    assert step.drivers[0] is one
    assert step.filter is true


def test_two_bounds_are_one_range_where_no_record_has_several_values() -> None:
    merged = _plan(all_of(HEAVY, LIGHT), extra={"weight": 0})
    assert merged.steps[0].drivers == (HEAVY, LIGHT)
    assert len(merged.steps[0].test.ranges) == 1
    assert merged.steps[0].filter is None
    unknown = _plan(all_of(HEAVY, LIGHT))
    assert len(unknown.steps[0].drivers) == 1
    assert unknown.steps[0].filter is not None


def test_an_or_runs_its_members_in_order_each_without_what_came_before() -> None:
    plan = _plan(Group(operator="or", members=(PEN, KIND, HEAVY)), counts={"kind": 5, "pen": 900})
    assert _walked(plan) == ["pen", "kind", "weight"]
    assert [step.excluded for step in plan.steps] == [(), (PEN,), (PEN, KIND)]


def test_an_or_drives_an_and_where_it_selects_less() -> None:
    either = Group(operator="or", members=(KIND, PEN))
    plan = _plan(all_of(HEAVY, either), counts={"kind": 2, "pen": 3})
    assert _walked(plan) == ["kind", "pen"]
    assert [step.filter for step in plan.steps] == [HEAVY, HEAVY]


def test_a_sort_in_memory_reads_the_table_once_for_an_or_that_needs_it() -> None:
    either = Group(operator="or", members=(KIND, NOTE))
    plan = _plan(either, sort=Sort(attribute="note"), counts={"kind": 5})
    assert _walked(plan) == ["id"]
    assert plan.steps[0].filter == either


def test_a_limit_makes_the_sort_index_drive() -> None:
    plan = _plan(PEN, sort=Sort(attribute="weight", descending=True), limit=10, counts={"pen": 5_000})
    assert _walked(plan) == ["weight", "weight"]
    assert plan.steps[0].direction is Direction.VALUES_BACKWARD
    assert plan.steps[1].without_value
    assert plan.sort == ()


def test_few_matches_are_sorted_in_memory() -> None:
    plan = _plan(PEN, sort=Sort(attribute="weight", descending=True), limit=10, counts={"pen": 20})
    assert _walked(plan) == ["pen"]
    assert plan.sort == (Sort(attribute="weight", descending=True),)


def test_ascending_begins_with_the_records_without_a_value() -> None:
    plan = _plan(None, sort=BY_WEIGHT, limit=10)
    assert [step.without_value for step in plan.steps] == [True, False]


def test_where_every_record_has_one_value_the_walk_is_the_whole_answer() -> None:
    plan = _plan(None, sort=BY_WEIGHT, limit=10, extra={"weight": 0})
    assert [step.without_value for step in plan.steps] == [False]


def test_where_records_lack_the_value_they_are_brought_in_although_it_is_single() -> None:
    plan = _plan(None, sort=BY_WEIGHT, limit=10, extra={"weight": 0}, entries={"weight": 9_999})
    assert [step.without_value for step in plan.steps] == [True, False]


def test_the_rows_of_a_very_large_table_are_not_compared_in_memory() -> None:
    plan = _plan(None, sort=BY_WEIGHT, limit=10, row_count=10_000_000)
    assert plan.sort == (BY_WEIGHT,)


def test_a_condition_on_the_sort_attribute_limits_the_walk() -> None:
    plan = _plan(all_of(HEAVY, NOTE), sort=BY_WEIGHT, limit=10)
    (step,) = plan.steps
    assert step.drivers == (HEAVY,)
    assert step.filter == NOTE
    assert plan.sort == ()


def test_the_primary_key_order_comes_free_with_one_value_of_an_index() -> None:
    plan = _plan(KIND, sort=Sort(attribute="id", descending=True, next=BY_WEIGHT), counts={"kind": 900})
    assert _walked(plan) == ["kind"]
    assert plan.steps[0].direction is Direction.BACKWARD
    assert plan.sort == ()


def test_a_limit_makes_the_table_drive_a_sort_by_primary_key() -> None:
    plan = _plan(HEAVY, sort=Sort(attribute="id"), limit=10)
    assert _walked(plan) == ["id"]
    assert plan.sort == ()


def test_ties_broken_by_another_attribute_are_sorted_in_memory() -> None:
    chain = Sort(attribute="kind", next=BY_WEIGHT)
    assert _plan(None, sort=chain, limit=10).sort == (chain, BY_WEIGHT)


def test_stopping_early_is_cheap() -> None:
    assert _plan(HEAVY, limit=10).cost < 20
    assert _plan(HEAVY).cost > 1000


def test_a_plan_tells_what_it_does() -> None:
    plan = _plan(all_of(KIND, NOTE), sort=BY_WEIGHT, counts={"kind": 5})
    assert plan.described() == {
        "conditions": [
            {"attribute": "kind", "comparator": "equals", "value": "goat"},
            {"attribute": "note", "comparator": "equals", "value": "x"},
        ],
        "operator": "and",
        "postOrdering": {"attribute": "weight", "descending": False},
        "plan": [
            {
                "index": "kind",
                "range": [{"attribute": "kind", "comparator": "equals", "value": "goat"}],
                "estimated": 5,
                "filter": {"attribute": "note", "comparator": "equals", "value": "x"},
            }
        ],
    }


def test_an_unknown_value_is_guessed_by_its_comparator() -> None:
    assert (
        guessed_share(Comparator.EQUALS)
        < guessed_share(Comparator.STARTS_WITH)
        < guessed_share(Comparator.BETWEEN)
        < guessed_share(Comparator.LESS_THAN)
    )
