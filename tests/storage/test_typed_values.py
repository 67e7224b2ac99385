import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from storage.errors import InvalidValue
from storage.schema import Attribute, Definition, Table
from storage.typed_values import conform, time_value


def table(*attributes: Attribute, sealed: bool = False) -> Table:
    definition = Definition(
        name="t",
        primary_key="id",
        attributes=(Attribute(name="id", is_primary_key=True, nullable=False), *attributes),
        schema_defined=True,
        sealed=sealed,
    )
    return Table(id=1, database="data", definition=definition, rows_id=1, tombstones_id=2, index_ids={})


def stored(attribute: Attribute, value: Any) -> Any:
    """What becomes of a value of the attribute ``p``."""
    record = {"id": 1, "p": value}
    conform(table(attribute), record)
    return record["p"]


def refused(attribute: Attribute, value: Any) -> str:
    with pytest.raises(InvalidValue) as caught:
        stored(attribute, value)
    return str(caught.value)


def typed(kind: str, **said: Any) -> Attribute:
    return Attribute(name="p", type=kind, **said)


INT = "an integer (from -2147483648 to 2147483647)"
LONG = "an integer (from -9007199254740992 to 9007199254740992)"
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Int", -(1 << 31)),
        ("Int", (1 << 31) - 1),
        ("Long", -(1 << 53)),
        ("Long", 1 << 53),
        ("Float", 1),
        ("Float", 1.5),
        ("Float", -(1 << 60)),
        ("BigInt", 1 << 80),
        ("BigInt", -5),
        ("String", ""),
        ("String", "4"),
        ("ID", "a"),
        ("ID", ["a", "b"]),
        ("Boolean", True),
        ("Boolean", False),
        ("Bytes", b"\x00\xff"),
        ("Blob", b"x"),
        ("Any", {"a": [1]}),
        ("Any", 1.5),
        ("array", []),
        ("array", [1, "a", {}]),
    ],
)
def test_a_value_of_its_type_is_stored_as_it_is(kind: str, value: Any) -> None:
    result = stored(typed(kind), value)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("BigInt", "12345678901234567890123", 12345678901234567890123),
        ("BigInt", "-7", -7),
        ("BigInt", 4.0, 4),
        ("Bytes", "é", "é".encode()),
        ("Blob", "text", b"text"),
        ("Date", "2026-01-01", NEW_YEAR),
        ("Date", "2026-01-01T00:00:00Z", NEW_YEAR),
        ("Date", " 2026-01-01T02:00:00+02:00 ", NEW_YEAR),
        ("Date", 1767225600000, NEW_YEAR),
        ("Date", 1767225600000.9, NEW_YEAR),
        ("Date", -1, datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
        ("Date", datetime(2026, 1, 1, 1, 0, 0, 999, timezone(timedelta(hours=1))), NEW_YEAR),
        ("Date", datetime(2026, 1, 1), NEW_YEAR),
    ],
)
def test_a_value_that_json_cannot_write_is_converted(kind: str, value: Any, expected: Any) -> None:
    result = stored(typed(kind), value)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("Int", "4", f'Value "4" in property p must be {INT}'),
        ("Int", 1 << 31, f"Value 2147483648 in property p must be {INT}"),
        ("Int", -(1 << 31) - 1, f"Value -2147483649 in property p must be {INT}"),
        ("Int", True, f"Value true in property p must be {INT}"),
        ("Int", 4.5, f"Value 4.5 in property p must be {INT}"),
        ("Int", [1], f"Value [1] in property p must be {INT}"),
        ("Long", (1 << 53) + 1, f"Value 9007199254740993 in property p must be {LONG}"),
        ("Long", False, f"Value false in property p must be {LONG}"),
        ("Long", 1.5, f"Value 1.5 in property p must be {LONG}"),
        ("Float", "1.5", 'Value "1.5" in property p must be a number'),
        ("Float", True, "Value true in property p must be a number"),
        ("BigInt", "1.5", 'Value "1.5" in property p must be a bigint'),
        ("BigInt", "", 'Value "" in property p must be a bigint'),
        ("BigInt", "١", 'Value "١" in property p must be a bigint'),
        ("BigInt", "9" * 401, f'Value "{"9" * 401}" in property p must be a bigint'),
        ("BigInt", 1.5, "Value 1.5 in property p must be a bigint"),
        ("BigInt", math.inf, "Value Infinity in property p must be a bigint"),
        ("BigInt", True, "Value true in property p must be a bigint"),
        ("String", 4, "Value 4 in property p must be a string"),
        ("String", {"a": 1}, 'Value {"a":1} in property p must be a string'),
        ("ID", 4, "Value 4 in property p must be a string, or an array of strings"),
        ("ID", ["a", 1], 'Value ["a",1] in property p must be a string, or an array of strings'),
        ("Boolean", 1, "Value 1 in property p must be a boolean"),
        ("Boolean", "true", 'Value "true" in property p must be a boolean'),
        ("Date", "yesterday", 'Value "yesterday" in property p must be a Date'),
        ("Date", True, "Value true in property p must be a Date"),
        ("Date", 10**30, f"Value {10**30} in property p must be a Date"),
        ("Date", math.nan, "Value NaN in property p must be a Date"),
        ("Date", {}, "Value {} in property p must be a Date"),
        ("Bytes", 4, "Value 4 in property p must be a Buffer or Uint8Array"),
        ("Blob", [1], "Value [1] in property p must be a Blob"),
        ("array", "a", 'Value "a" in property p must be an Array'),
        ("array", {}, "Value {} in property p must be an Array"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, value: Any, message: str) -> None:
    assert refused(typed(kind), value) == message


@pytest.mark.parametrize("kind", ["Int", "Long"])
def test_a_number_with_an_integral_value_is_an_integer(kind: str) -> None:
    result = stored(typed(kind), 4.0)
    assert (result, type(result)) == (4, int)


@pytest.mark.parametrize("kind", ["Int", "Long", "Float", "BigInt", "String", "Date", "array", "Boolean", "Any"])
def test_null_is_fine_unless_it_is_said_otherwise(kind: str) -> None:
    assert stored(typed(kind), None) is None
    assert refused(typed(kind, nullable=False), None) == "Property p is required (and not does not allow null values)"


def test_a_required_value_that_is_not_sent_is_missed() -> None:
    with pytest.raises(InvalidValue, match="Property p is required"):
        conform(table(typed("Int", nullable=False)), {"id": 1})


def test_the_primary_key_is_not_asked_for_here() -> None:
    conform(table(), {"p": 1})


def test_elements_are_checked_each_at_its_place() -> None:
    numbers = typed("array", elements="Int")
    assert stored(numbers, [1, None, 2]) == [1, None, 2]
    assert refused(numbers, [1, "a", True]) == (
        f'Value "a" in property p[*] must be {INT}. Value true in property p[*] must be {INT}'
    )


def test_elements_are_converted() -> None:
    assert stored(typed("array", elements="Date"), ["2026-01-01", 1767225600000]) == [NEW_YEAR, NEW_YEAR]


ADDRESS = (
    Attribute(name="zip", type="String", nullable=False),
    Attribute(name="since", type="Date"),
    Attribute(name="geo", type="Geo", properties=(Attribute(name="x", type="Float"),)),
)


def test_members_of_an_object_are_checked_and_converted() -> None:
    address = typed("Address", properties=ADDRESS)
    sent = {"zip": "1", "since": "2026-01-01", "geo": {"x": 1.5}, "other": 1}
    assert stored(address, sent) == {**sent, "since": NEW_YEAR}
    assert refused(address, {"zip": 1, "geo": {"x": "a"}}) == (
        'Value 1 in property p.zip must be a string. Value "a" in property p.geo.x must be a number'
    )
    assert refused(address, {}) == "Property p.zip is required (and not does not allow null values)"
    assert refused(address, [1]) == "Value [1] in property p must be an object (Address)"


def test_what_was_sent_is_not_changed_by_converting_its_members() -> None:
    sent = {"zip": "1", "since": "2026-01-01"}
    stored(typed("Address", properties=ADDRESS), sent)
    assert sent["since"] == "2026-01-01"


def test_a_sealed_object_takes_its_own_members_only() -> None:
    sealed = typed("Address", properties=ADDRESS, sealed=True)
    assert refused(sealed, {"zip": "1", "x": 1}) == "Property x is not allowed within object in property p"


def test_a_sealed_table_takes_declared_attributes_only() -> None:
    with pytest.raises(InvalidValue) as caught:
        conform(table(typed("Int"), sealed=True), {"id": 1, "p": 1, "x": 1, "y": None})
    assert str(caught.value) == "Property x is not allowed. Property y is not allowed"


def test_all_failures_are_told_at_once() -> None:
    both = table(Attribute(name="a", type="Int"), Attribute(name="b", type="Boolean", nullable=False))
    with pytest.raises(InvalidValue) as caught:
        conform(both, {"id": 1, "a": "x"})
    assert str(caught.value) == (
        f'Value "x" in property a must be {INT}. Property b is required (and not does not allow null values)'
    )


def test_an_attribute_without_a_type_takes_anything() -> None:
    assert stored(Attribute(name="p"), {"a": [b"x"]}) == {"a": [b"x"]}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Date", datetime(2026, 1, 1, 0, 0, 0, 123000, tzinfo=UTC)),
        ("String", "2026-01-01T00:00:00.123Z"),
        ("Long", 1767225600123),
        ("Float", 1767225600123.456),
        (None, 1767225600123.456),
    ],
)
def test_a_time_that_the_node_keeps_has_the_form_of_its_type(kind: str | None, expected: Any) -> None:
    value = time_value(Attribute(name="p", type=kind), 1767225600123456)
    assert (value, type(value)) == (expected, type(expected))
