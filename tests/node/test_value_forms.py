import math

import pytest

from node.parameters import BY_PATH
from node.value_forms import assignments, value_for, value_of_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("true", True),
        ("TRUE", True),
        ("True", "True"),
        ("false", False),
        ("null", None),
        ("undefined", None),
        ("0.5", 0.5),
        ("0", 0),
        ("-3.5", -3.5),
        (".5", 0.5),
        ("+5", 5),
        (" 7 ", 7),
        ("00123", "00123"),
        ("1e5", "1e5"),
        ("0x1F", "0x1F"),
        ("Infinity", "Infinity"),
        ("2016-01-02", "2016-01-02"),
        ('["a",1]', ["a", 1]),
        ('{"a":1}', {"a": 1}),
        ("[a]", "[a]"),
        ("1" * 400, "1" * 400),
    ],
)
def test_text_is_cast_as_the_table_says(text: str, value: object) -> None:
    result = value_of_text(text)
    assert (result, type(result)) == (value, type(value))


def test_not_a_number_stays_one() -> None:
    assert math.isnan(value_of_text("NaN"))


def test_a_parameter_of_text_takes_its_text_unchanged() -> None:
    hostname = BY_PATH["node", "hostname"]
    assert value_for(hostname, "123") == "123"
    assert value_for(hostname, "true") == "true"
    assert value_for(hostname, "undefined") is None
    assert value_for(BY_PATH["threads", "count"], "3") == 3


def test_a_list_of_databases_adds_each_key_in_its_place() -> None:
    value = [{"a": {"path": "/x"}}, {"b.c": {"path": "/y", "auditPath": "/z"}}]
    assert dict(assignments(BY_PATH["databases",], value)) == {
        ("databases", "a", "path"): "/x",
        ("databases", "b.c", "path"): "/y",
        ("databases", "b.c", "auditPath"): "/z",
    }


def test_databases_of_another_shape_are_left_for_the_check_to_refuse() -> None:
    assert list(assignments(BY_PATH["databases",], ["x"])) == [(("databases",), ["x"])]
