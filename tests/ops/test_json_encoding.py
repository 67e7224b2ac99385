import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings

from ops.decoding import decode_body
from ops.json_encoding import encode_json
from storage.values import NESTING_MAX
from tests.storage.value_strategies import json_values, values

MOMENT = datetime(2026, 11, 24, 8, 0, 0, 120_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [True, None, "é"]}, '{"a":1,"b":[true,null,"é"]}'),
        (MOMENT, '"2026-11-24T08:00:00.120Z"'),
        (datetime(2026, 11, 24, tzinfo=UTC), '"2026-11-24T00:00:00.000Z"'),
        (datetime(33, 1, 2, tzinfo=UTC), '"0033-01-02T00:00:00.000Z"'),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))), '"2025-12-31T23:00:00.000Z"'),
        (b"\x00\x01\xff", '{"type":"Buffer","data":[0,1,255]}'),
        (b"", '{"type":"Buffer","data":[]}'),
        ([math.nan, math.inf, -math.inf], "[null,null,null]"),
        ([180.0, -0.0, 4.5, 1e-7], "[180,0,4.5,1e-7]"),
        (180.0, "180"),
        ({"a": 2.0}, '{"a":2}'),
        ({"a": [2.0, {"b": 3.0}], "c": 1 << 64}, '{"a":[2,{"b":3}],"c":18446744073709551616}'),
        (9007199254740994.0, "9007199254740994"),
        ((1 << 64) - 1, "18446744073709551615"),
        (1 << 64, "18446744073709551616"),
        (-(1 << 63) - 1, "-9223372036854775809"),
        ([{"id": 10**299}, {"id": 1}], '[{"id":1' + "0" * 299 + '},{"id":1}]'),
        (((1, 2.0), [10**30]), "[[1,2],[1" + "0" * 30 + "]]"),
        ({"text": "1.0, 2.0]", "n": 1}, '{"text":"1.0, 2.0]","n":1}'),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_a_value_has_this_json(value: Any, text: str) -> None:
    assert encode_json(value).decode() == text


@settings(deadline=None)
@given(json_values)
def test_json_reads_back_as_the_same_value(value: Any) -> None:
    assert repr(decode_body("application/json", encode_json(value))) == repr(value)


def as_standard_json(value: Any) -> Any:
    """What ``json.dumps`` can take, in the forms promised for the rest."""
    if isinstance(value, dict):
        return {name: as_standard_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [as_standard_json(item) for item in value]
    if isinstance(value, bytes):
        return {"type": "Buffer", "data": list(value)}
    if isinstance(value, datetime):
        return value.strftime("%Y").zfill(4) + value.strftime("-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@settings(max_examples=200, deadline=None)
@given(values)
def test_json_means_the_same_as_the_standard_encoder_writes(value: Any) -> None:
    expected = json.loads(json.dumps(as_standard_json(value)))
    assert repr(json.loads(encode_json(value))) == repr(expected)


@settings(deadline=None)
@given(values)
def test_floats_with_an_integral_value_are_written_as_the_integers(value: Any) -> None:
    assert encode_json(with_floats(value)) == encode_json(value)


def with_floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: with_floats(item) for name, item in value.items()}
    if isinstance(value, list):
        return [with_floats(item) for item in value]
    is_certain = type(value) is int and abs(value) <= 1 << 53
    return float(value) if is_certain else value


def test_the_deepest_value_that_is_accepted_can_be_answered_in_a_list_of_records() -> None:
    body = b"[" * NESTING_MAX + b"1.5,100000000000000000000" + b"]" * NESTING_MAX
    value = decode_body("application/json", body)
    assert encode_json({"records": [value]}) == b'{"records":[' + body + b"]}"


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {1, 2}}, [1 << 64, 1j]])
def test_what_has_no_json_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_json(value)
