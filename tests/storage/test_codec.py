import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import codec
from storage.errors import Corrupt, InvalidValue

instants = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)).map(
    lambda instant: instant.replace(microsecond=instant.microsecond // 1000 * 1000)
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), instants
)
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4))
)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@given(values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    decoded = codec.decode(codec.encode(value))
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize("value", [True, 1, 1.0, -0.0, 1 << 80, -(1 << 80)])
def test_types_that_python_calls_equal_stay_apart(value: Any) -> None:
    decoded = codec.decode(codec.encode(value))
    assert (type(decoded), repr(decoded)) == (type(value), repr(value))


def test_not_a_number_comes_back() -> None:
    assert math.isnan(codec.decode(codec.encode(math.nan)))


def test_the_order_of_attributes_stays() -> None:
    assert list(codec.decode(codec.encode({"b": 1, "a": 2, "c": 3}))) == ["b", "a", "c"]


@given(instants)
def test_instants_keep_their_millisecond_in_every_year(instant: datetime) -> None:
    assert codec.decode(codec.encode(instant)) == instant


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_corrupt(data: bytes) -> None:
    try:
        codec.decode(data)
    except Corrupt:
        pass


@given(values, st.data())
def test_a_value_with_one_byte_changed_is_a_value_or_corrupt(value: Any, data: st.DataObject) -> None:
    stored = bytearray(codec.encode(value))
    stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    try:
        codec.decode(bytes(stored))
    except Corrupt:
        pass


@pytest.mark.parametrize("data", [b"", b"\xc1\x61a", b"\x9b" + b"\xff" * 8, b"\x81" * 500 + b"\x01"])
def test_cut_or_hostile_bytes_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        codec.decode(data)


def test_the_deepest_record_that_is_let_in_can_be_read() -> None:
    record = {"a": nested(codec.NESTING_MAX - 1)}
    codec.check_nesting(record)
    assert codec.decode(codec.encode(record)) == record


@pytest.mark.parametrize("inner", [nested(codec.NESTING_MAX), {"b": nested(codec.NESTING_MAX - 1)}])
def test_a_deeper_record_is_refused(inner: Any) -> None:
    with pytest.raises(InvalidValue, match="deeper than 200 levels"):
        codec.check_nesting({"a": inner})


def test_a_wide_record_is_not_taken_for_a_deep_one() -> None:
    codec.check_nesting({str(number): [[number], {"a": number}] for number in range(1000)})
