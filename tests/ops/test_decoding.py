import json
import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import cbor2
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import decoding, negotiation
from ops.decoding import decode_body
from ops.encoding import encode
from ops.errors import OperationError
from storage import codec
from storage.values import NESTING_MAX
from tests.storage.value_strategies import json_values, message_pack_values, values

JSON = "application/json"
CBOR = "application/cbor"
MESSAGE_PACK = "application/x-msgpack"


def refusal(content_type: str | None, body: bytes) -> tuple[int, Any]:
    with pytest.raises(OperationError) as caught:
        decode_body(content_type, body)
    return caught.value.status, caught.value.body


@pytest.mark.parametrize(
    "content_type", [JSON, "application/json; charset=utf-8", "Application/JSON ;charset=ISO-8859-1", f" {JSON} "]
)
def test_json_is_recognised_with_any_parameters_and_case(content_type: str) -> None:
    assert decode_body(content_type, b'{"operation":"describe_all"}') == {"operation": "describe_all"}


@pytest.mark.parametrize(
    ("content_type", "shown"),
    [
        ("application/xml", "application/xml"),
        ("application/msgpack", "application/msgpack"),
        ("multipart/form-data; boundary=x", "multipart/form-data; boundary=x"),
        ("text/\xe9", "text/?"),
        ("x" * 1000, "x" * decoding.MESSAGE_CHARACTERS_MAX),
        ("", "undefined"),
        (None, "undefined"),
    ],
)
def test_another_content_type_is_unsupported(content_type: str | None, shown: str) -> None:
    assert refusal(content_type, b"{}") == (415, {"error": f"Unsupported Media Type: {shown}"})


def test_an_empty_json_body_is_named_as_such() -> None:
    message = "Body cannot be empty when content-type is set to 'application/json'"
    assert refusal("application/json; charset=utf-8", b"") == (400, {"error": message})


def test_plain_text_is_a_string() -> None:
    assert decode_body("text/plain; charset=utf-8", b'{"operation":1}\xff') == '{"operation":1}�'


def test_a_byte_order_mark_before_json_is_skipped() -> None:
    assert decode_body(JSON, b"\xef\xbb\xbf" + b'{"a":100000000000000000000}') == {"a": 10**20}


def test_only_one_byte_order_mark_is_skipped() -> None:
    assert refusal(JSON, b"\xef\xbb\xbf" * 100_000)[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b" ",
        b"{'a':1}",
        b"[1,]",
        b"01",
        b"NaN",
        b"[Infinity]",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        rb'"\ud800"',
        b'"\x01"',
        b"1 2",
        b"[1e400]",
        b"9" * 310,
        b"-" + b"9" * 1_000_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * (NESTING_MAX + 1) + b"]" * (NESTING_MAX + 1),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_bad_json_is_a_400_with_a_message(body: bytes) -> None:
    status, answer = refusal(JSON, body)
    assert status == 400 and list(answer) == ["error"] and 5 < len(answer["error"]) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4.0", "4"),
        ("-0.0", "0"),
        ("-0", "0"),
        ("4.50", "4.5"),
        ("1e2", "100"),
        ("1E+2", "100"),
        ("100e-2", "1"),
        ("4.00000000000000000001", "4"),
        ("9007199254740991.9", "9007199254740992"),
        ("1e-400", "0"),
        ("9007199254740993", "9007199254740993"),
        ("9223372036854775808", "9223372036854775808"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1" * 300, "1" * 300),
        ("9007199254740994.0", "9007199254740994"),
        ("9999999999999998.0", "9999999999999998"),
        ("-1e16", "-1e+16"),
        ("1e17", "1e+17"),
        ("1e300", "1e+300"),
    ],
)
@pytest.mark.parametrize("frame", ["%s", "[%s]", ' { "a" : [ %s , "x" ] } '])
def test_a_json_number_is_read_as_its_value(text: str, expected: str, frame: str) -> None:
    value = decode_body(JSON, (frame % text).encode())
    while not isinstance(value, int | float):
        value = value["a"] if isinstance(value, dict) else value[0]
    assert repr(value) == expected


def test_without_big_integers_those_beyond_64_bits_are_floats() -> None:
    value = decode_body(JSON, b"[18446744073709551616,18446744073709551615,4.0]", big_int=False)
    assert repr(value) == "[1.8446744073709552e+19, 18446744073709551615, 4]"


number_texts = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.(0{1,4}|[0-9]{1,25}))?([eE][-+]?[0-9]{1,2})?", fullmatch=True)


def object_text(members: list[str]) -> str:
    return "{" + ",".join(f'"{at}":{member}' for at, member in enumerate(members)) + "}"


json_texts = st.recursive(
    st.one_of(number_texts, st.sampled_from(("null", "true", '"1.0"', '"1e5,"', '".0]"', '"é"'))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6).map(lambda items: f"[ {' , '.join(items)} ]"),
        st.lists(inner, max_size=6).map(object_text),
    ),
)


def literal_float(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 10**16 else value


@settings(max_examples=200, deadline=None)
@given(json_texts)
def test_json_reads_as_a_literal_reading_of_each_number_says(text: str) -> None:
    assert repr(decode_body(JSON, text.encode())) == repr(json.loads(text, parse_float=literal_float))


@settings(deadline=None)
@given(json_values)
def test_json_of_a_value_is_read_as_that_value(value: Any) -> None:
    assert repr(decode_body(JSON, json.dumps(value).encode())) == repr(value)


@settings(deadline=None)
@given(values)
def test_cbor_of_a_value_is_read_as_that_value(value: Any) -> None:
    assert repr(decode_body(CBOR, codec.encode(value))) == repr(value)


@settings(deadline=None)
@given(message_pack_values)
def test_messagepack_of_a_value_is_read_as_that_value(value: Any) -> None:
    assert repr(decode_body(MESSAGE_PACK, encode(value, negotiation.MESSAGE_PACK))) == repr(value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("d9d9f78101", [1]),
        ("9f0102ff", [1, 2]),
        ("bf6161fb4010000000000000ff", {"a": 4}),
        ("7f61616162ff", "ab"),
        ("c249010000000000000000", 1 << 64),
        ("c349010000000000000000", -(1 << 64) - 1),
        ("c074323031332d30332d32315432303a30343a30305a", datetime(2013, 3, 21, 20, 4, tzinfo=UTC)),
        ("c1fb41d452d9ec0fbe77", datetime(2013, 3, 21, 20, 4, 0, 246_000, tzinfo=UTC)),
        ("c11a514b67b0", datetime(2013, 3, 21, 20, 4, tzinfo=UTC)),
        ("d84043010203", b"\x01\x02\x03"),
        ("a26161f76162f6", {"b": None}),
        ("82f701", [None, 1]),
        ("a2010263313a3203", {"1": 2, "1:2": 3}),
        ("a1fb3ff8000000000000f5", {"1.5": True}),
    ],
)
def test_cbor_forms_are_read(body: str, expected: Any) -> None:
    assert decode_body(CBOR, bytes.fromhex(body)) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "premature end"),
        ("8201", "premature end"),
        ("0102", "Body has 1 bytes after its CBOR item"),
        ("9bffffffffffffffff01", "premature end"),
        ("7bffffffffffffffff61", "premature end"),
        ("61ff", "error decoding text string"),
        ("63eda080", "error decoding text string"),
        ("ff", "break"),
        ("f820", "Values of type CBORSimpleValue are not supported"),
        ("c1fb7ff8000000000000", "error decoding epoch-form datetime"),
        ("c11bffffffffffffffff", "error decoding epoch-form datetime"),
        ("c063616263", "error decoding string-form datetime"),
        ("a1416102", "Names of an object's members must be strings or finite numbers"),
        ("a1f402", "Names of an object's members must be strings or finite numbers"),
        ("a1f97e0002", "Names of an object's members must be strings or finite numbers"),
        ("a1810102", "Names of an object's members must be strings or finite numbers"),
        ("d84001", "CBOR tag 64 is for byte strings"),
        ("c25881" + "01" + "00" * 128, "Integers beyond the range of a double are not supported"),
        ("81" * 100_000, "nesting depth"),
        ("c6" * 100_000, "CBOR tag 6 is not supported"),
    ],
)
def test_bad_cbor_is_a_400_that_names_the_reason(body: str, message: str) -> None:
    status, answer = refusal(CBOR, bytes.fromhex(body))
    assert status == 400 and message in answer["error"]


@settings(deadline=None)
@given(
    st.integers(0, (1 << 64) - 1) | st.integers(0, 300) | st.just(43000) | st.just(1004),
    st.sampled_from((1, "a", b"a", [1, 2], {"a": 1})),
)
def test_no_other_cbor_tag_becomes_a_value(tag: int, content: Any) -> None:
    if tag in (0, 1, 2, 3, 64):
        return
    status, answer = refusal(CBOR, cbor2.dumps([cbor2.CBORTag(tag, content)]))
    assert status == 400 and f"CBOR tag {tag} is not supported" in answer["error"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("cb4010000000000000", 4),
        ("cfffffffffffffffff", (1 << 64) - 1),
        ("c403010203", b"\x01\x02\x03"),
        ("d6ff514b67b0", datetime(2013, 3, 21, 20, 4, tzinfo=UTC)),
        ("92d4000001", [None, 1]),
        ("82a161d40000a162c0", {"b": None}),
        ("8201020304", {"1": 2, "3": 4}),
        ("81cb3ff8000000000000c3", {"1.5": True}),
    ],
)
def test_messagepack_forms_are_read(body: str, expected: Any) -> None:
    assert decode_body(MESSAGE_PACK, bytes.fromhex(body)) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "unexpected end of file"),
        ("c1", "invalid type"),
        ("92", "unexpected end of file"),
        ("9201", "unexpected end of file"),
        ("c412", "unexpected end of file"),
        ("0102", "Body has bytes after its MessagePack item"),
        ("80c0", "Body has bytes after its MessagePack item"),
        ("dd7fffffff", "unexpected end of file"),
        ("a1ff", "invalid UTF-8 string"),
        ("d40102", "Values of type Ext are not supported"),
        ("c70cff000000017fffffffffffffff", "invalid value"),
        ("81c002", "Names of an object's members must be strings or finite numbers"),
        ("81c2c2", "Names of an object's members must be strings or finite numbers"),
        ("91" * (NESTING_MAX + 1) + "c0", "nested deeper"),
        ("91" * 100_000, "Recursion limit"),
    ],
)
def test_bad_messagepack_is_a_400_that_names_the_reason(body: str, message: str) -> None:
    status, answer = refusal(MESSAGE_PACK, bytes.fromhex(body))
    assert status == 400 and message in answer["error"]


@pytest.mark.parametrize(
    ("content_type", "encoded"),
    [(CBOR, cbor2.dumps), (MESSAGE_PACK, lambda value: ormsgpack.packb(value, option=ormsgpack.OPT_NON_STR_KEYS))],
)
def test_numbers_as_member_names_are_refused_in_a_body_large_enough_for_collisions(
    content_type: str, encoded: Any
) -> None:
    body = encoded({(1 << 40) + number: 0 for number in range(decoding.NUMERIC_NAMES_BODY_BYTES_MAX // 9)})
    assert len(body) > decoding.NUMERIC_NAMES_BODY_BYTES_MAX
    assert refusal(content_type, body)[0] == 400


def test_every_millisecond_of_messagepack_timestamps_is_read() -> None:
    seconds = 946_684_800
    body = (
        b"\xdc"
        + (1000).to_bytes(2)
        + b"".join(b"\xd7\xff" + (at * 1_000_000 << 34 | seconds).to_bytes(8) for at in range(1000))
    )
    assert decode_body(MESSAGE_PACK, body) == [
        datetime(2000, 1, 1, 0, 0, 0, at * 1000, tzinfo=UTC) for at in range(1000)
    ]


def test_not_a_number_and_infinities_are_kept() -> None:
    value = decode_body(CBOR, cbor2.dumps([math.nan, math.inf, -math.inf]))
    assert math.isnan(value[0]) and value[1:] == [math.inf, -math.inf]


content_types = st.sampled_from((JSON, CBOR, MESSAGE_PACK, "text/plain")) | st.none() | st.text(max_size=10)


@settings(max_examples=500, deadline=None)
@given(content_types, st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_value_or_refused(content_type: str | None, body: bytes, big_int: bool) -> None:
    try:
        decode_body(content_type, body, big_int=big_int)
    except OperationError as error:
        assert error.status in (400, 415)


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    CBOR: codec.encode,
    MESSAGE_PACK: lambda value: encode(value, negotiation.MESSAGE_PACK),
    JSON: lambda value: json.dumps(value, default=str).encode(),
}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from((CBOR, MESSAGE_PACK, JSON)),
    message_pack_values,
    st.lists(st.tuples(st.integers(0), st.binary(max_size=3)), min_size=1, max_size=4),
)
def test_damaged_encodings_are_a_value_or_refused(
    content_type: str, value: Any, damages: list[tuple[int, bytes]]
) -> None:
    body = ENCODERS[content_type](value)
    for place, inserted in damages:
        at = place % (len(body) + 1)
        body = body[:at] + inserted + body[at + 1 :]
    try:
        decode_body(content_type, body)
    except OperationError as error:
        assert error.status == 400


def test_a_double_of_cbor_in_single_precision_keeps_its_value() -> None:
    assert decode_body(CBOR, b"\xfa" + struct.pack(">f", 0.1)) == struct.unpack(">f", struct.pack(">f", 0.1))[0]
