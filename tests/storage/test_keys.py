import math
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage import keys
from storage.errors import InvalidKey

BIG = 1 << 1023
integers = st.one_of(st.integers(), st.integers(min_value=-BIG, max_value=BIG))
numbers = st.one_of(integers, st.floats(allow_nan=False))
texts = st.one_of(st.text(), st.text(alphabet="\x00\x01\x02\x03a\x7f\xff"))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
key_scalars = st.one_of(integers, st.floats(allow_nan=False, allow_infinity=False), texts)


def rank(value: Any) -> tuple[int, Any]:
    """The order that keys must have, told without bytes."""
    if value is None:
        return 0, 0
    if isinstance(value, bool):
        return 1, value
    if isinstance(value, int | float):
        if math.isinf(value):
            return (2, 0) if value < 0 else (4, 0)
        return 3, Fraction(value)
    return 5, [ord(character) for character in value]


def encoded(value: Any) -> bytes:
    data = keys.encode_scalar(value)
    assert data is not None
    return data


@given(scalars, scalars)
@example(1, 1.0)
@example(0.0, -0.0)
@example((1 << 53) + 1, float(1 << 53))
@example(-(1 << 53) - 1, -float(1 << 53))
@example(True, 1)
@example("", "\x00")
@example("a", "a\x00")
@example("a\x01", "a\x02")
def test_bytes_of_scalars_have_the_order_of_the_values(left: Any, right: Any) -> None:
    assert (encoded(left) < encoded(right)) == (rank(left) < rank(right))
    assert (encoded(left) == encoded(right)) == (rank(left) == rank(right))


@given(st.integers(min_value=-(1 << 60), max_value=1 << 60), st.integers(min_value=-3, max_value=3))
def test_neighbouring_integers_beyond_doubles_keep_their_order(value: int, step: int) -> None:
    near = value * (1 << 40)
    assert (encoded(near) < encoded(near + step)) == (step > 0)


@given(st.lists(key_scalars, min_size=1, max_size=4), st.lists(key_scalars, min_size=1, max_size=4))
@example(["a"], ["a\x00"])
@example(["a", "b"], ["a\x01b"])
@example([1], [1, 0])
@example([1 << 60], [(1 << 60) + 1])
def test_composite_keys_are_ordered_element_by_element(left: list[Any], right: list[Any]) -> None:
    order = [rank(element) for element in left], [rank(element) for element in right]
    left_bytes, right_bytes = keys.encode_array(left), keys.encode_array(right)
    assert left_bytes is not None
    assert right_bytes is not None
    assert (left_bytes < right_bytes) == (order[0] < order[1])
    assert (left_bytes == right_bytes) == (order[0] == order[1])


@given(key_scalars, st.lists(key_scalars, max_size=3))
def test_a_scalar_stands_right_before_the_arrays_that_begin_with_it(first: Any, rest: list[Any]) -> None:
    composite = keys.encode_array([first, *rest])
    assert composite is not None
    assert encoded(first) < composite < encoded(first) + b"\x02"


@given(scalars)
def test_every_value_is_between_null_and_the_end(value: Any) -> None:
    assert keys.NULL <= encoded(value) < keys.ABOVE_ALL


@given(texts)
def test_texts_of_any_length_are_stored_in_what_lmdb_takes(text: str) -> None:
    assert 0 < len(keys.stored(encoded(text * 100))) <= keys.STORED_BYTES_MAX


@given(st.text(min_size=600, max_size=700), st.text(min_size=1, max_size=5))
def test_long_texts_that_differ_at_the_end_only_are_stored_apart(text: str, end: str) -> None:
    assert keys.stored(encoded(text)) != keys.stored(encoded(text + end))


@pytest.mark.parametrize("length", [492, 493, 494, 495, 510, 511, 600])
def test_a_stored_key_says_whether_it_is_whole(length: int) -> None:
    whole = b"\x30" + b"a" * (length - 1)
    stored = keys.stored(whole)
    assert keys.is_shortened(stored) == (length >= keys.PREFIX_BYTES)
    assert (stored == whole) == (not keys.is_shortened(stored))
    assert whole.startswith(stored[: keys.PREFIX_BYTES])


def test_a_text_that_looks_like_a_shortened_key_is_not_taken_for_one() -> None:
    text = "b" * 510
    assert keys.stored(encoded(text)) != encoded(text)
    assert keys.is_shortened(keys.stored(encoded(text)))


def test_dates_are_their_milliseconds() -> None:
    instant = datetime(2026, 11, 24, 12, 30, 0, 123000, tzinfo=UTC)
    assert encoded(instant) == encoded(int(instant.timestamp() * 1000))


def test_not_a_number_stands_before_all_numbers_and_equals_itself() -> None:
    assert encoded(math.nan) == encoded(-math.nan)
    assert encoded(True) < encoded(math.nan) < encoded(-math.inf)


@pytest.mark.parametrize("value", [{}, {"a": 1}, [], [1], b"x", (1,), object()])
def test_what_has_no_place_in_the_order_has_no_encoding(value: Any) -> None:
    assert keys.encode_scalar(value) is None


@given(st.lists(st.one_of(scalars, st.just({}), st.just([1])), max_size=8))
def test_elements_of_an_array_are_distinct_and_ascending(values: list[Any]) -> None:
    elements = keys.encode_elements(values)
    assert list(elements) == sorted(set(elements))
    assert set(elements) == {data for value in values if (data := keys.encode_scalar(value)) is not None}


def test_an_array_with_something_unordered_is_no_composite() -> None:
    assert keys.encode_array([1, {}]) is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "Invalid primary key of null"),
        (True, "Invalid primary key type: boolean"),
        (False, "Invalid primary key type: boolean"),
        (math.nan, "Invalid primary key type: number"),
        (math.inf, "Invalid primary key type: number"),
        ({}, "Invalid primary key type: object"),
        ([], "Invalid primary key type: object"),
        ([True], "Invalid primary key type: object"),
        ([None], "Invalid primary key type: object"),
        ([[1]], "Invalid primary key type: object"),
        ([math.nan], "Invalid primary key type: object"),
        (b"x", "Invalid primary key type: object"),
        (datetime(2026, 1, 1, tzinfo=UTC), "Invalid primary key type: object"),
        ("a" * 1978, "Primary key size is too large: 1979"),
        (10**400, "Number is outside the range of a double"),
    ],
)
def test_what_cannot_be_a_primary_key_is_refused(value: Any, message: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        keys.encode_primary_key(value)
    assert str(caught.value) == message


def test_the_longest_primary_key_is_taken() -> None:
    assert len(keys.encode_primary_key("a" * 1977)) == keys.PRIMARY_KEY_BYTES_MAX


def test_one_and_one_point_zero_are_one_key_and_text_one_is_another() -> None:
    assert keys.encode_primary_key(1) == keys.encode_primary_key(1.0)
    assert keys.encode_primary_key(1) != keys.encode_primary_key("1")
