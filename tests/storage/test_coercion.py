"""Values of conditions become what their attribute holds."""

from datetime import UTC, datetime
from typing import Any

import pytest

from storage.coercion import AUTO_CAST_NAMES, auto_cast, coerced
from storage.errors import InvalidValue
from storage.schema import Attribute

INSTANT = datetime(2026, 11, 23, 8, 35, 16, 871000, tzinfo=UTC)


def _typed(kind: str, value: Any, comparator: str = "equals") -> Any:
    return coerced(Attribute(name="n", type=kind), comparator, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("TRUE", True),
        ("True", "True"),
        ("false", False),
        ("FALSE", False),
        ("null", None),
        ("NULL", None),
        ("undefined", None),
        ("38", 38),
        ("-7", -7),
        ("0", 0),
        ("0.5", 0.5),
        ("38.0", 38),
        ("007", "007"),
        ("00", "00"),
        ("1e5", "1e5"),
        ("+5", "+5"),
        (" 5", " 5"),
        ("5.", "5."),
        (".5", ".5"),
        ("١", "١"),
        ("", ""),
        ("9007199254740993", 9007199254740993),
        ("9" * 400, "9" * 400),
        ("2026-11-23T08:35:16.871Z", INSTANT),
        ("2026-11-23T10:35:16.871+02:00", INSTANT),
        ("2026-11-23T08:35:16.871", "2026-11-23T08:35:16.871"),
        ("2026-11-23", "2026-11-23"),
        ("2026-13-99T08:35:16Z", "2026-13-99T08:35:16Z"),
        ("goat", "goat"),
    ],
)
def test_text_is_cast_only_where_it_reads_as_something_else(text: str, value: Any) -> None:
    cast = auto_cast(text)
    assert cast == value
    assert isinstance(cast, bool) == isinstance(value, bool)


def test_what_is_no_text_is_not_cast() -> None:
    assert auto_cast(5) == 5
    assert auto_cast(["5"]) == ["5"]


@pytest.mark.parametrize("name", ["eq", "ne", "gt", "ge", "lt", "le"])
def test_short_names_cast_on_untyped_attributes(name: str) -> None:
    assert coerced(Attribute(name="n"), name, "38") == 38
    assert coerced(None, name, "38") == 38


@pytest.mark.parametrize("name", ["equals", "not_equal", "greater_than", ">", "sw", "between", "..."])
def test_other_names_take_values_as_sent_on_untyped_attributes(name: str) -> None:
    assert name not in AUTO_CAST_NAMES
    value: Any = ("38", "true") if name in ("between", "...") else "38"
    assert coerced(Attribute(name="n"), name, value) == value


@pytest.mark.parametrize(
    ("kind", "sent", "value"),
    [
        ("Int", "4", 4),
        ("Int", "-04", -4),
        ("Int", 4, 4),
        ("Int", 4.5, 4.5),
        ("Int", "", None),
        ("Int", "null", None),
        ("Int", None, None),
        ("Long", "9007199254740992", 9007199254740992),
        ("Float", "4.5", 4.5),
        ("Float", "1e3", 1000.0),
        ("Float", "null", None),
        ("BigInt", "123456789012345678901", 123456789012345678901),
        ("Boolean", "TRUE", True),
        ("Boolean", "False", False),
        ("Boolean", True, True),
        ("Boolean", "", None),
        ("Date", "2026-11-23T08:35:16.871", INSTANT),
        ("Date", "2026-11-23T08:35:16.871Z", INSTANT),
        ("Date", "1000", 1000),
        ("Date", 1000, 1000),
        ("Date", INSTANT, INSTANT),
        ("Date", "null", None),
        ("String", "5", "5"),
        ("String", 5, 5),
        ("String", "", ""),
        ("String", "null", "null"),
        ("ID", "7", "7"),
        ("Any", "7", 7),
        ("Any", "", ""),
    ],
)
def test_a_typed_attribute_gets_values_of_its_type(kind: str, sent: Any, value: Any) -> None:
    converted = _typed(kind, sent)
    assert converted == value
    assert isinstance(converted, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("kind", "sent", "shown"),
    [
        ("Int", "4.5", "4.5"),
        ("Int", "x", "x"),
        ("Int", "4\n", "4\n"),
        ("Int", True, "true"),
        ("Long", "1e3", "1e3"),
        ("Float", "x", "x"),
        ("Float", "1e999", "1e999"),
        ("Float", "nan", "nan"),
        ("Boolean", "yes", "yes"),
        ("Boolean", 1, "1"),
        ("Date", "soon", "soon"),
        ("BigInt", "1.5", "1.5"),
    ],
)
def test_text_that_does_not_fit_the_type_is_refused(kind: str, sent: Any, shown: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        _typed(kind, sent)
    assert str(refusal.value) == f'Invalid value for attribute n: "{shown}", expecting {kind}'


def test_both_bounds_are_converted() -> None:
    assert _typed("Int", ("1", "9"), "between") == (1, 9)
    with pytest.raises(InvalidValue):
        _typed("Int", ("1", "x"), "gtlt")


def test_the_elements_of_a_typed_array_decide() -> None:
    attribute = Attribute(name="n", type="array", elements="Int")
    assert coerced(attribute, "equals", "4") == 4
    assert coerced(attribute, "prefix", ["4", "5"]) == [4, 5]


@pytest.mark.parametrize("kind", ["Bytes", "Address", "array"])
def test_types_without_a_conversion_take_values_as_sent(kind: str) -> None:
    assert _typed(kind, "4") == "4"
