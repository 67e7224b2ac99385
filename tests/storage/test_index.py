from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import keys
from storage.index import entries_of, is_same

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))


@given(st.one_of(scalars, st.lists(st.one_of(scalars, st.just({}), st.just([1])), max_size=6)))
def test_an_entry_stands_for_each_distinct_scalar(value: Any) -> None:
    elements = value if isinstance(value, list) else [value]
    expected = {keys.stored(data) for element in elements if (data := keys.encode_scalar(element)) is not None}
    assert entries_of(value) == tuple(sorted(expected))


@pytest.mark.parametrize("value", [{}, {"a": 1}, b"x", [], [{}], [[1]], ...])
def test_what_has_no_place_in_the_order_has_no_entry(value: Any) -> None:
    assert entries_of(value) == ()


def test_a_null_has_an_entry() -> None:
    assert entries_of(None) == (keys.NULL,)


def test_a_long_text_is_indexed_shortened() -> None:
    (entry,) = entries_of("x" * 1000)
    assert keys.is_shortened(entry)


@given(scalars, scalars)
def test_values_that_are_the_same_have_the_same_entries(left: Any, right: Any) -> None:
    if is_same(left, right):
        assert entries_of(left) == entries_of(right)


@pytest.mark.parametrize(("left", "right"), [(1, True), (0, False), (1, 1.0), ([1], [1]), ([1], [True])])
def test_values_that_python_calls_equal_are_looked_at(left: Any, right: Any) -> None:
    assert left == right
    assert not is_same(left, right)
