"""Walks in chunks: values and keys that LMDB keeps shortened, windows, and places to go on from."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from storage.conditions import Comparator, Condition, Node, Query, Sort
from storage.keys import PREFIX_BYTES, encode_scalar, stored
from storage.matching import Range, point, value_test
from storage.query import pages
from storage.scan import chunk_sizes, stored_window, windows_of
from storage.schema import Attribute
from tests.storage.naive_search import promised_order
from tests.storage.small_database import SmallDatabase, small_database

LONG = "x" * 700


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDatabase]:
    with small_database(tmp_path_factory.mktemp("scan")) as opened:
        yield opened


_names = (f"t{number}" for number in itertools.count())


def _searched(small: SmallDatabase, table: str, query: Query, page_records: int) -> list[dict[str, Any]]:
    return [record for page in pages(small.database, table, query, page_records=page_records) for record in page]


def _encoded(value: Any) -> bytes:
    return encode_scalar(value) or b""


def test_a_single_long_value_is_found_by_its_digest_alone() -> None:
    key = stored(_encoded(LONG))
    assert stored_window(point(_encoded(LONG)), is_alone=True) == (key, key + b"\x00")


def test_a_long_bound_takes_in_every_key_with_its_prefix() -> None:
    window = stored_window(Range(_encoded(LONG + "a"), _encoded(LONG + "b")), is_alone=True)
    for text in (LONG, LONG + "a", LONG + "zzz"):
        assert window.low <= stored(_encoded(text)) < window.high
    assert not window.low <= stored(_encoded("x" * (PREFIX_BYTES - 2))) < window.high


def test_windows_that_overlap_are_one() -> None:
    but_one = Condition(attribute="a", comparator=Comparator.NOT_EQUAL, value=LONG)
    assert len(windows_of(value_test(but_one, is_key=False))) == 1
    short = Condition(attribute="a", comparator=Comparator.NOT_EQUAL, value="x")
    assert len(windows_of(value_test(short, is_key=False))) == 2


def test_chunks_begin_small_where_little_is_wanted() -> None:
    assert list(itertools.islice(chunk_sizes(3, 100), 5)) == [16, 32, 64, 100, 100]
    assert next(chunk_sizes(None, 100)) == 100


LONG_VALUES = [{"id": number, "a": LONG + str(number * 37 % 100), "b": LONG} for number in range(100)]
LONG_KEYS = [
    {"id": LONG + str(number * 37 % 100), "a": number % 2, "b": [LONG + "1", LONG + "0"]} for number in range(100)
]


@pytest.mark.parametrize("contents", [LONG_VALUES, LONG_KEYS])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "where",
    [
        Condition(attribute="a", comparator=Comparator.GREATER_THAN, value=-1),
        Condition(attribute="a", comparator=Comparator.GREATER_THAN, value=LONG + "5"),
        Condition(attribute="a", comparator=Comparator.IN, value=(LONG + "71", LONG + "7", LONG + "12", 1)),
        Condition(attribute="a", comparator=Comparator.NOT_EQUAL, value=LONG + "40"),
        Condition(attribute="a", value=1),
        Condition(attribute="b", value=LONG),
        Condition(attribute="b", comparator=Comparator.STARTS_WITH, value=LONG),
        Condition(attribute="id", comparator=Comparator.LESS_THAN, value=LONG + "33"),
        None,
    ],
)
def test_long_values_and_keys_stand_in_the_order_of_the_whole_value(
    small: SmallDatabase, contents: list[dict[str, Any]], where: Node | None, reverse: bool
) -> None:
    table = next(_names)
    small.create(table, Attribute(name="a", indexed=True), Attribute(name="b", indexed=True))
    small.put(table, contents)
    for query in (Query(where=where, reverse=reverse), Query(where=where, reverse=reverse, offset=7, limit=30)):
        for page_records in (7, 1000):
            assert _searched(small, table, query, page_records) == promised_order(query, contents)
    by_a = Query(where=where, sort=Sort(attribute="a", descending=reverse), limit=5)
    assert _searched(small, table, by_a, 1000) == promised_order(by_a, contents)
