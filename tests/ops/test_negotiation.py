from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import negotiation
from ops.errors import OperationError
from ops.negotiation import negotiate

NOT_ACCEPTABLE: Final = {
    "statusCode": 406,
    "error": "Not Acceptable",
    "message": "No supported content types found in Accept header, supported types include: application/json, "
    "application/cbor, application/x-msgpack, text/csv, text/plain, text/yaml, text/event-stream, "
    "application/x-www-form-urlencoded, */*, ",
}


@pytest.mark.parametrize(
    ("accept", "headers"),
    [
        (None, (("content-type", "application/json"),)),
        ("", (("content-type", "application/json"),)),
        ("*/*", (("content-type", "application/json"),)),
        ("application/json", (("content-type", "application/json"),)),
        ("application/cbor", (("content-type", "application/cbor"),)),
        ("application/x-msgpack", (("content-type", "application/x-msgpack"),)),
        ("text/yaml", (("content-type", "text/yaml"),)),
        (
            "text/csv",
            (("content-type", "text/csv"), ("content-disposition", 'attachment; filename="data.csv"')),
        ),
        ("text/plain", (("content-type", "text/plain; charset=utf-8"),)),
        ("text/event-stream", (("content-type", "text/event-stream"),)),
    ],
)
def test_each_type_is_answered_with_its_headers(accept: str | None, headers: tuple[tuple[str, str], ...]) -> None:
    assert negotiate(accept).headers == headers


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("APPLICATION/CBOR", "application/cbor"),
        ("application/*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("application/json, application/cbor", "application/cbor"),
        ("application/json, application/x-msgpack", "application/x-msgpack"),
        ("application/x-msgpack, application/cbor;q=0.5", "application/x-msgpack"),
        ("text/csv, */*", "application/json"),
        ("text/csv, */*;q=0.1", "text/csv"),
        ("text/yaml, application/json;q=0.9", "application/json"),
        ("text/yaml, application/json;q=0.8", "text/yaml"),
        ("text/plain, text/csv", "text/plain"),
        ("text/html, text/csv ; q=0.1", "text/csv"),
        ("application/json;charset=utf-8;q=0.5 , text/yaml", "text/yaml"),
        ("application/cbor;q=0, application/json", "application/json"),
        ("application/json;q=5, application/cbor", "application/cbor"),
        ("application/cbor;q=-1, text/csv", "text/csv"),
        ("text/csv;q=high, text/plain;q=0.4", "text/csv"),
        ("text/csv;q=nan, text/plain;q=0.4", "text/csv"),
    ],
)
def test_the_highest_product_of_both_qualities_wins(accept: str, name: str) -> None:
    assert negotiate(accept).name == name


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("application/json, text/event-stream", "application/json"),
        ("text/event-stream, application/json", "text/event-stream"),
        ("application/cbor;q=0.8, application/json", "application/cbor"),
        ("application/json, application/cbor;q=0.8", "application/json"),
    ],
)
def test_the_first_listed_wins_a_tie(accept: str, name: str) -> None:
    assert negotiate(accept).name == name


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/msgpack",
        "application/x-www-form-urlencoded",
        "text/*",
        "application/json;q=0",
        ",",
        "json",
        "*",
    ],
)
def test_nothing_acceptable_is_a_406_that_lists_the_types(accept: str) -> None:
    with pytest.raises(OperationError) as caught:
        negotiate(accept)
    assert (caught.value.status, caught.value.body) == (406, NOT_ACCEPTABLE)


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from("application/cbor */* text/csv ;q= 0. 1 , ; -".split())).map("".join)
)
def test_any_header_is_answered_or_refused_with_406(accept: str) -> None:
    try:
        negotiate(accept)
    except OperationError as error:
        assert error.status == 406


def test_headers_kept_for_later_are_bounded() -> None:
    for at in range(1000):
        negotiate(f"text/csv;v={at}")
    assert negotiation._best_for.cache_info().currsize <= 256
