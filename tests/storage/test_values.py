import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import InvalidValue
from storage.values import ABSENT, NESTING_MAX, at_milliseconds, iso_text, normalise, number, settle_floats
from tests.storage.value_strategies import instants, values


def nested_list(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (4.0, "4"),
        (-0.0, "0"),
        (0.0, "0"),
        (2.0**53, "9007199254740992"),
        (-(2.0**53), "-9007199254740992"),
        (2.0**53 + 2, "9007199254740994"),
        (9999999999999998.0, "9999999999999998"),
        (1e16, "1e+16"),
        (-1e16, "-1e+16"),
        (1.989e30, "1.989e+30"),
        (4.5, "4.5"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_a_float_is_an_integer_where_it_is_written_with_all_digits(value: float, expected: str) -> None:
    assert repr(number(value)) == expected


@settings(deadline=None)
@given(values)
def test_a_value_of_the_model_stays_as_it_is(value: Any) -> None:
    before = repr(value)
    assert repr(normalise(value)) == before


def test_floats_are_settled_in_lists_and_objects_at_any_depth() -> None:
    value = {"a": 1.0, "b": [2.0, 2.5, {"c": -0.0, "d": "3.0"}], "e": [[4.0]]}
    settle_floats(value)
    assert repr(value) == "{'a': 1, 'b': [2, 2.5, {'c': 0, 'd': '3.0'}], 'e': [[4]]}"


@pytest.mark.parametrize(
    ("value", "may_be_an_integer"),
    [(2.0**63, True), (-(2.0**63), True), (1e300, True), (2.0**62, False), (2.0**63 - 1025, False), (0.5, False)],
)
def test_settling_tells_of_a_float_that_64_bits_would_not_hold(value: float, may_be_an_integer: bool) -> None:
    assert settle_floats([1, {"a": [value]}]) is may_be_an_integer


@pytest.mark.parametrize("form", [settle_floats, normalise])
def test_the_deepest_allowed_nesting_is_accepted(form: Any) -> None:
    form(nested_list(NESTING_MAX))


@pytest.mark.parametrize("form", [settle_floats, normalise])
def test_one_level_more_is_refused(form: Any) -> None:
    with pytest.raises(InvalidValue, match=f"deeper than {NESTING_MAX} levels"):
        form(nested_list(NESTING_MAX + 1))


def test_objects_count_as_levels_too() -> None:
    with pytest.raises(InvalidValue, match="deeper"):
        normalise({"a": nested_list(NESTING_MAX)})


def test_numbers_as_member_names_become_their_text() -> None:
    assert normalise({1: "a", 2.5: "b", 3.0: "c", -(10**30): "d"}) == {
        "1": "a",
        "2.5": "b",
        "3": "c",
        "-1000000000000000000000000000000": "d",
    }


@pytest.mark.parametrize(
    "name", [None, True, b"a", (1,), math.nan, math.inf, 1 << 1024, datetime(2026, 1, 1, tzinfo=UTC)]
)
def test_other_member_names_are_refused(name: Any) -> None:
    with pytest.raises(InvalidValue):
        normalise({name: 1})


def test_an_absent_member_is_left_out() -> None:
    assert normalise({"a": ABSENT, "b": None, "c": [ABSENT, 1]}) == {"b": None, "c": [None, 1]}


@pytest.mark.parametrize("value", [Decimal(1), {1, 2}, 1j, object(), (1, 2), bytearray(b"a")])
def test_what_the_model_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(InvalidValue, match=f"Values of type {type(value).__name__} are not supported"):
        normalise([value])


@pytest.mark.parametrize("value", [1 << 1024, -(1 << 1024), 10**309])
def test_an_integer_beyond_the_range_of_a_double_is_refused(value: int) -> None:
    with pytest.raises(InvalidValue, match="beyond the range of a double"):
        normalise({"a": value})


@pytest.mark.parametrize(
    ("microsecond", "millisecond"), [(0, 0), (123_000, 123), (123_499, 123), (123_500, 124), (122_986, 123)]
)
def test_an_instant_has_its_nearest_millisecond(microsecond: int, millisecond: int) -> None:
    moment = datetime(2026, 11, 24, 8, 0, 0, microsecond, tzinfo=UTC)
    assert normalise(moment).microsecond == millisecond * 1000


def test_the_last_instant_is_not_rounded_out_of_its_year() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert iso_text(last) == "9999-12-31T23:59:59.999Z"


def test_an_instant_of_another_zone_is_the_same_in_utc() -> None:
    moment = datetime(2026, 11, 24, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert iso_text(normalise(moment)) == "2026-11-23T23:30:00.000Z"


def test_an_instant_without_a_zone_is_taken_as_utc() -> None:
    assert iso_text(datetime(2026, 11, 24, 1, 30)) == "2026-11-24T01:30:00.000Z"


def test_an_instant_that_utc_has_no_year_for_is_refused() -> None:
    with pytest.raises(InvalidValue, match="years 1 to 9999"):
        normalise([datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=2)))])


@settings(deadline=None)
@given(instants)
def test_the_text_of_an_instant_tells_the_same_instant(moment: datetime) -> None:
    assert datetime.fromisoformat(iso_text(moment)) == moment


@settings(deadline=None)
@given(st.datetimes(timezones=st.timezones(), min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)))
def test_rounding_moves_an_instant_by_half_a_millisecond_at_most(moment: datetime) -> None:
    rounded = at_milliseconds(moment)
    assert abs(rounded - moment.astimezone(UTC)) <= timedelta(microseconds=500) and rounded.microsecond % 1000 == 0
