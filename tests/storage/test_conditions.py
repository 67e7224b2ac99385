"""When a condition holds: every comparator on every pair of values against a naive rule; filter and index range
agree.
"""

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.conditions import (
    BOUNDED,
    COMPARATORS,
    Comparator,
    Condition,
    Group,
    Node,
    Sort,
    all_of,
    conjuncts,
    flattened,
)
from storage.errors import InvalidKey
from storage.keys import encode_scalar
from storage.matching import encode_key_value, predicate, value_test
from storage.text_form import decode_number, number_text, text_of
from tests.storage.naive_search import DATE_MS, NUMBER_TEXTS, TEXT_COMPARATORS, holds, key_satisfies, satisfying

DATE = datetime.fromtimestamp(DATE_MS / 1000, UTC)
LONG = "x" * 600
SCALARS = [None, False, True, DATE, *NUMBER_TEXTS, "", "a", "ab", "ba", "B", "5", "\x00", "\x02", "\x02\x00", LONG, "0"]
ARRAYS = [[], [None], [False, 5], ["a", "B"], [5, "ab"], [{"x": 1}, "a"], [[5], 1]]
OTHERS = [{"a": 1}, b"a"]
KEYS = [
    *(value for value in SCALARS if value not in (None, False, True, DATE)),
    ["a"],
    ["a", 1],
    ["a", "b"],
    [5],
    [5, "a"],
]
ONE_VALUE = [one for one in Comparator if one not in BOUNDED and one not in (Comparator.IN, Comparator.PREFIX)]


@pytest.mark.parametrize("comparator", ONE_VALUE)
def test_a_comparator_holds_where_the_naive_rule_says_so(comparator: Comparator) -> None:
    for bound in SCALARS:
        condition = Condition(attribute="a", comparator=comparator, value=bound)
        matches = predicate(condition, "id")
        for value in [*SCALARS, *ARRAYS, *OTHERS]:
            assert matches({"a": value}) == holds(condition, {"a": value}), (bound, value)
        assert not matches({"id": 1})


@pytest.mark.parametrize("comparator", [one for one in Comparator if one in BOUNDED])
def test_a_bounded_comparator_holds_where_the_naive_rule_says_so(comparator: Comparator) -> None:
    for bounds in itertools.product(SCALARS, repeat=2):
        condition = Condition(attribute="a", comparator=comparator, value=bounds)
        matches = predicate(condition, "id")
        for value in SCALARS:
            assert matches({"a": value}) == bool(satisfying(condition, value)), (bounds, value)


@pytest.mark.parametrize("comparator", [*ONE_VALUE, Comparator.PREFIX])
def test_on_a_primary_key_an_array_is_one_value(comparator: Comparator) -> None:
    takes_arrays = comparator not in TEXT_COMPARATORS
    for bound in [*SCALARS, ["a"], ["a", 1], [5]] if takes_arrays else SCALARS:
        condition = Condition(attribute="id", comparator=comparator, value=bound)
        matches = predicate(condition, "id")
        for key in KEYS:
            assert matches({"id": key}) == key_satisfies(condition, key), (bound, key)


@pytest.mark.parametrize("comparator", ONE_VALUE)
def test_index_range_and_filter_agree_on_every_value(comparator: Comparator) -> None:
    for bound, value in itertools.product(SCALARS, repeat=2):
        condition = Condition(attribute="a", comparator=comparator, value=bound)
        encoded = encode_scalar(value)
        assert encoded is not None
        assert value_test(condition, is_key=False).holds(encoded) == predicate(condition, "id")({"a": value})


def test_prefix_matches_arrays_that_begin_with_the_elements() -> None:
    def matches(wanted: Any, value: Any) -> bool:
        return predicate(Condition(attribute="a", comparator=Comparator.PREFIX, value=wanted), "id")({"a": value})

    assert matches(["x", 1], ["x", 1, 2])
    assert matches("x", ["x", 1])
    assert matches([], [])
    assert not matches(["x", 1], ["x"])
    assert not matches("x", "x")
    assert not matches(["x"], [{"x": 1}])


def test_in_holds_for_one_of_its_values_by_type() -> None:
    matches = predicate(Condition(attribute="a", comparator=Comparator.IN, value=(1, "b", None)), "id")
    assert [matches({"a": value}) for value in (1, 1.0, True, "1", "b", None, ["b", 7], 2)] == [
        True,
        True,
        False,
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_number_equals_neither_the_truth_value_nor_the_text_like_it() -> None:
    matches = predicate(Condition(attribute="a", value=1), "id")
    assert [matches({"a": value}) for value in (1, 1.0, True, "1")] == [True, True, False, False]


def test_an_object_cannot_be_compared_with() -> None:
    with pytest.raises(InvalidKey, match="Unable to serialize object as a key"):
        predicate(Condition(attribute="a", value={"x": 1}), "id")


@given(st.text(alphabet="\x00\x01\x02a", max_size=8), st.text(alphabet="\x00\x01\x02a", max_size=4))
def test_text_is_searched_in_its_escaped_form_without_false_finds(text: str, needle: str) -> None:
    record = {"a": text}
    for comparator, expected in (
        (Comparator.CONTAINS, needle in text),
        (Comparator.STARTS_WITH, text.startswith(needle)),
        (Comparator.ENDS_WITH, text.endswith(needle)),
    ):
        assert predicate(Condition(attribute="a", comparator=comparator, value=needle), "id")(record) == expected


@given(st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_from_its_encoding(number: float) -> None:
    encoded = encode_scalar(number)
    assert encoded is not None
    assert decode_number(encoded) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (5, "5"),
        (5.0, "5"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-12.5, "-12.5"),
        (123456789.25, "123456789.25"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.25e-9, "1.25e-9"),
        (2**53 + 1, "9007199254740993"),
        (10**30 + 1, "1000000000000000000000000000001"),
    ],
)
def test_a_number_reads_as_javascript_writes_it(number: float, text: str) -> None:
    encoded = encode_scalar(number)
    assert encoded is not None
    assert text_of(encoded) == text


def test_what_is_no_finite_number_has_a_text_too() -> None:
    encoded = encode_scalar(float("nan"))
    assert encoded is not None
    assert text_of(encoded) == "NaN"
    assert number_text(float("-inf")) == "-Infinity"
    assert text_of(encode_scalar(None) or b"") is None


@given(st.text(max_size=20))
def test_a_text_is_read_back_from_its_encoding(text: str) -> None:
    assert text_of(encode_scalar(text) or b"") == text


def test_the_accepted_names_are_these_and_no_others() -> None:
    assert sorted(COMPARATORS) == sorted(
        "equals equal eq not_equal notEqual ne greater_than greaterThan gt > greater_than_equal greaterThanEqual ge >= "
        "less_than lessThan lt < less_than_equal lessThanEqual le <= contains ct starts_with startsWith sw ends_with "
        "endsWith ew between gele gelt gtlt gtle ... prefix".split()
    )


def test_groups_are_flattened_in_order() -> None:
    one, two, three, four = (Condition(attribute=name) for name in ("a", "b", "c", "d"))
    nested: Node = Group(
        members=(
            Group(operator="or", members=(one,)),
            Group(members=(two, Group(operator="or", members=(three, Group(operator="or", members=(four, one)))))),
        )
    )
    assert flattened(nested) == Group(members=(one, two, Group(operator="or", members=(three, four, one))))
    assert all_of(None) is None
    assert all_of(one, None) is one
    assert conjuncts(all_of(one, two)) == (one, two)
    assert conjuncts(None) == ()


def test_a_sort_lists_its_links_in_order() -> None:
    sort = Sort(attribute="a", next=Sort(attribute="b", descending=True))
    assert [link.attribute for link in sort.chain()] == ["a", "b"]
    assert sort.described() == {
        "attribute": "a",
        "descending": False,
        "next": {"attribute": "b", "descending": True},
    }


def test_a_key_has_its_encoding_whatever_its_kind() -> None:
    assert encode_key_value(["a", 1]) != encode_key_value("a")
    assert encode_key_value({"no": "key"}) is None
