"""Order made in memory: of many matches the first are kept, and they are the right ones."""

import random
from typing import Any

import pytest

from storage.conditions import Comparator, Condition, Sort
from storage.keys import NULL, encode_scalar
from storage.sorting import KEPT_MIN, Sorter, sort_value
from storage.transaction import stored_key_of

MANY = KEPT_MIN * 3


def _found(records: list[dict[str, Any]]) -> list[tuple[bytes, dict[str, Any], bytes]]:
    return [(stored_key_of(record["id"]), record, b"") for record in records]


def _records() -> list[dict[str, Any]]:
    numbers = random.Random(7)
    return [
        {"id": number, "a": numbers.randrange(40), "b": numbers.choice(["x", "xy", "", None, "\x00"])}
        for number in range(MANY)
    ]


@pytest.mark.parametrize("wanted", [1, 10, KEPT_MIN, None])
@pytest.mark.parametrize("descending", [False, True])
def test_the_first_of_many_are_those_of_the_whole_order(wanted: int | None, descending: bool) -> None:
    records = _records()
    chain = (Sort(attribute="b", descending=descending), Sort(attribute="a", descending=not descending))
    sorter = Sorter(chain, None, "id", wanted)
    for start in range(0, MANY, 100):
        sorter.add(_found(records[start : start + 100]))
    expected = sorted(records, key=lambda record: record["a"], reverse=not descending)
    expected.sort(key=lambda record: encode_scalar(record["b"]) or b"", reverse=descending)
    assert sorter.stored_keys() == [stored_key_of(record["id"]) for record in expected[:wanted]]


def test_with_a_limit_no_more_is_kept_than_could_be_wanted() -> None:
    sorter = Sorter((Sort(attribute="a"),), None, "id", 10)
    for record in _found(_records()):
        sorter.add([record])
        assert len(sorter._kept) <= KEPT_MIN + 1


@pytest.mark.parametrize(
    ("value", "ascending", "descending"),
    [
        (5, 5, 5),
        ([7, 2, 9], 2, 9),
        ([None, 4], 4, 4),
        ([None], None, None),
        ([], None, None),
        ({"x": 1}, None, None),
        (b"x", None, None),
        (None, None, None),
    ],
)
def test_an_array_sorts_by_its_smallest_element_descending_by_its_greatest(
    value: Any, ascending: Any, descending: Any
) -> None:
    assert sort_value(Sort(attribute="a"), None, "id")({"a": value}) == encode_scalar(ascending)
    assert sort_value(Sort(attribute="a", descending=True), None, "id")({"a": value}) == encode_scalar(descending)


def test_only_elements_that_satisfy_the_condition_on_the_attribute_count() -> None:
    above = Condition(attribute="a", comparator=Comparator.GREATER_THAN, value=3)
    assert sort_value(Sort(attribute="a"), above, "id")({"a": [1, 9, 5]}) == encode_scalar(5)


def test_absent_is_null() -> None:
    assert sort_value(Sort(attribute="a"), None, "id")({}) == NULL
