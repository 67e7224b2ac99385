import json
from datetime import UTC, datetime
from typing import Any

import cbor2
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import negotiation
from ops.decoding import decode_body
from ops.encoding import ListEncoder, encode, wrap_result
from ops.negotiation import CBOR, CSV, EVENT_STREAM, JSON, MESSAGE_PACK, PLAIN_TEXT, YAML, MediaType
from tests.storage.value_strategies import message_pack_values, texts, values

ROWS = [{"id": 1, "name": "Bella"}, {"id": 3, "name": "Fern"}]
TYPES = (JSON, CBOR, MESSAGE_PACK, CSV, YAML, PLAIN_TEXT, EVENT_STREAM)


def in_pieces(media_type: MediaType, pages: list[list[Any]], columns: tuple[str, ...] | None = None) -> bytes:
    encoder = ListEncoder(media_type, columns=columns)
    return b"".join([encoder.rows(page) for page in pages] + [encoder.end()])


@pytest.mark.parametrize(
    ("result", "body"),
    [
        ({"a": 1}, {"a": 1}),
        ([], []),
        ((1, 2), (1, 2)),
        ("done", {"message": "done"}),
        ("", {"message": ""}),
        (5, {"message": 5}),
        (0, {"message": 0}),
        (True, {"message": True}),
        (False, {"message": False}),
        (None, {}),
    ],
)
def test_a_result_becomes_the_body_of_an_answer(result: Any, body: Any) -> None:
    assert wrap_result(result) == body


@pytest.mark.parametrize(
    "media_type", {media_type for media_type, _ in negotiation._OFFERED.values()}, ids=lambda t: t.name
)
def test_every_type_that_is_offered_can_be_written(media_type: MediaType) -> None:
    assert encode(ROWS, media_type) and in_pieces(media_type, [ROWS])


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (JSON, b'[{"id":1,"name":"Bella"},{"id":3,"name":"Fern"}]'),
        (CBOR, bytes.fromhex("82a262696401646e616d656542656c6c61a262696403646e616d65644665726e")),
        (MESSAGE_PACK, bytes.fromhex("9282a2696401a46e616d65a542656c6c6182a2696403a46e616d65a44665726e")),
        (CSV, b'"id","name"\n1,"Bella"\n3,"Fern"'),
        (YAML, b"- id: 1\n  name: Bella\n- id: 3\n  name: Fern\n"),
        (PLAIN_TEXT, b'{"id":1,"name":"Bella"}\n{"id":3,"name":"Fern"}\n'),
        (EVENT_STREAM, b'data: [{"id":1,"name":"Bella"},{"id":3,"name":"Fern"}]\n\n'),
    ],
    ids=lambda value: value.name if isinstance(value, MediaType) else "",
)
def test_a_whole_list_has_this_body(media_type: MediaType, body: bytes) -> None:
    assert encode(ROWS, media_type) == body


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (JSON, b'[{"id":1,"name":"Bella"},{"id":3,"name":"Fern"}]'),
        (CBOR, bytes.fromhex("9fa262696401646e616d656542656c6c61a262696403646e616d65644665726eff")),
        (MESSAGE_PACK, bytes.fromhex("82a2696401a46e616d65a542656c6c6182a2696403a46e616d65a44665726e")),
        (CSV, b'"id","name"\n1,"Bella"\n3,"Fern"'),
        (YAML, b"- id: 1\n  name: Bella\n- id: 3\n  name: Fern\n"),
        (PLAIN_TEXT, b'{"id":1,"name":"Bella"}\n{"id":3,"name":"Fern"}\n'),
        (EVENT_STREAM, b'data: {"id":1,"name":"Bella"}\n\ndata: {"id":3,"name":"Fern"}\n\n'),
    ],
    ids=lambda value: value.name if isinstance(value, MediaType) else "",
)
@pytest.mark.parametrize("pages", [[ROWS], [ROWS[:1], ROWS[1:]], [[], ROWS[:1], [], ROWS[1:], []]], ids=["1", "2", "5"])
def test_a_list_in_pieces_has_this_body(media_type: MediaType, body: bytes, pages: list[list[Any]]) -> None:
    assert in_pieces(media_type, pages) == body


@pytest.mark.parametrize(
    ("media_type", "columns", "body"),
    [
        (JSON, ("id",), b"[]"),
        (CBOR, None, b"\x9f\xff"),
        (MESSAGE_PACK, None, b""),
        (CSV, ("id", "name"), b'"id","name"'),
        (CSV, None, b""),
        (YAML, None, b"[]\n"),
        (PLAIN_TEXT, None, b""),
        (EVENT_STREAM, None, b""),
    ],
)
def test_an_empty_list_in_pieces_has_this_body(
    media_type: MediaType, columns: tuple[str, ...] | None, body: bytes
) -> None:
    assert in_pieces(media_type, [[], []], columns) == body


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (JSON, b'{"error":"no"}'),
        (CBOR, bytes.fromhex("a1656572726f72626e6f")),
        (MESSAGE_PACK, bytes.fromhex("81a56572726f72a26e6f")),
        (CSV, b'"error"\n"no"'),
        (YAML, b'error: "no"\n'),
        (PLAIN_TEXT, b"no"),
        (EVENT_STREAM, b'data: {"error":"no"}\n\n'),
    ],
    ids=lambda value: value.name if isinstance(value, MediaType) else "",
)
def test_an_error_has_this_body(media_type: MediaType, body: bytes) -> None:
    assert encode({"error": "no"}, media_type) == body


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"message": "2 records"}, "2 records"),
        ({"message": 5}, "5"),
        ({"message": "a", "job_id": "b"}, '{"message":"a","job_id":"b"}'),
        (["one", 2], "one\n2\n"),
        ({}, "{}"),
    ],
)
def test_plain_text_is_a_message_alone_or_json(value: Any, text: str) -> None:
    assert encode(value, PLAIN_TEXT).decode() == text


def test_csv_has_the_columns_that_were_asked_for() -> None:
    assert encode(ROWS, CSV, columns=("name", "none")) == b'"name","none"\n"Bella",\n"Fern",'


def test_dates_are_instants_in_the_binary_types() -> None:
    moment = datetime(2013, 3, 21, 20, 4, 0, 500_000, tzinfo=UTC)
    assert encode(moment, CBOR) == bytes.fromhex("c1fb41d452d9ec200000")
    assert encode(moment, MESSAGE_PACK) == bytes.fromhex("d7ff77359400514b67b0")


@pytest.mark.parametrize(
    ("moment", "encoded"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), "d6ff00000000"),
        (datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC), "d6ffffffffff"),
        (datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC), "d7ff0000000100000000"),
        (datetime(1970, 1, 1, 0, 0, 0, 999_000, tzinfo=UTC), "d7ffee2e1f0000000000"),
        (datetime(2514, 5, 30, 1, 53, 3, tzinfo=UTC), "d7ff00000003ffffffff"),
        (datetime(2514, 5, 30, 1, 53, 4, tzinfo=UTC), "c70cff000000000000000400000000"),
        (datetime(1969, 12, 31, 23, 59, 59, 250_000, tzinfo=UTC), "c70cff0ee6b280ffffffffffffffff"),
    ],
)
def test_an_instant_has_the_shortest_timestamp_of_messagepack(moment: datetime, encoded: str) -> None:
    assert encode(moment, MESSAGE_PACK).hex() == encoded


@pytest.mark.parametrize("year", [1, 1969, 2000, 2200, 9999])
def test_every_millisecond_of_a_second_comes_back_from_messagepack(year: int) -> None:
    moments = [datetime(year, 1, 1, 0, 0, 0, at * 1000, tzinfo=UTC) for at in range(1000)]
    assert decode_body("application/x-msgpack", encode(moments, MESSAGE_PACK)) == moments


def test_integers_beyond_64_bits_are_bignums_in_cbor_and_decimal_text_in_messagepack() -> None:
    assert cbor2.loads(encode([1 << 64], CBOR)) == [1 << 64]
    assert ormsgpack.unpackb(encode([(1 << 64) - 1, 1 << 64], MESSAGE_PACK)) == [(1 << 64) - 1, "18446744073709551616"]


@pytest.mark.parametrize("media_type", TYPES, ids=lambda media_type: media_type.name)
def test_a_failure_after_some_rows_is_seen_as_a_last_row(media_type: MediaType) -> None:
    encoder = ListEncoder(media_type, columns=("id", "name"))
    body = encoder.rows(ROWS) + encoder.failure("Corrupt", "the page is damaged") + encoder.end()
    assert b"Corrupt" in body and b"the page is damaged" in body
    assert body.startswith(in_pieces(media_type, [ROWS], ("id", "name"))[:-1])


def test_a_failure_is_an_element_of_a_json_list() -> None:
    encoder = ListEncoder(JSON)
    body = encoder.failure("Corrupt", "damaged") + encoder.end()
    assert json.loads(body) == [{"error": "Corrupt", "message": "damaged"}]


def test_a_failure_is_one_cell_below_the_rows_in_csv() -> None:
    encoder = ListEncoder(CSV, columns=("id",))
    body = encoder.rows([{"id": 1}]) + encoder.failure("Corrupt", "damaged")
    assert body == b'"id"\n1\n"{""error"":""Corrupt"",""message"":""damaged""}"'


@settings(deadline=None)
@given(values)
def test_cbor_answers_read_back_as_the_same_value(value: Any) -> None:
    assert repr(decode_body("application/cbor", encode(value, CBOR))) == repr(value)


@settings(deadline=None)
@given(message_pack_values)
def test_messagepack_answers_read_back_as_the_same_value(value: Any) -> None:
    assert repr(decode_body("application/x-msgpack", encode(value, MESSAGE_PACK))) == repr(value)


rows_in_pages = st.lists(st.lists(st.dictionaries(texts, values, max_size=3), max_size=3), max_size=4)


@pytest.mark.parametrize("media_type", [JSON, YAML, PLAIN_TEXT], ids=lambda media_type: media_type.name)
@settings(deadline=None)
@given(pages=rows_in_pages)
def test_pieces_are_the_bytes_of_the_whole(media_type: MediaType, pages: list[list[Any]]) -> None:
    assert in_pieces(media_type, pages) == encode([row for page in pages for row in page], media_type)


@settings(deadline=None)
@given(rows_in_pages.filter(any))
def test_csv_pieces_are_the_bytes_of_the_whole(pages: list[list[Any]]) -> None:
    assert in_pieces(CSV, pages, ("a", "b")) == encode([row for page in pages for row in page], CSV, columns=("a", "b"))


@settings(deadline=None)
@given(rows_in_pages)
def test_cbor_pieces_read_as_the_whole(pages: list[list[Any]]) -> None:
    read = decode_body("application/cbor", in_pieces(CBOR, pages))
    assert repr(read) == repr([row for page in pages for row in page])
