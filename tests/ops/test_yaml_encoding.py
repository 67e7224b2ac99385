import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ops.yaml_encoding import BLOCK_NESTING_MAX, encode_yaml, encode_yaml_rows
from tests.storage.value_strategies import texts, values

SAMPLE = """\
- id: 1
  name: Bella
  tags:
    - milk
    - "no"
  home:
    row: 2
  lists:
    - - 1
      - []
    - a: {}
- id: 3
  name: "3"
  born: 2026-11-24T08:00:00.000Z
  image: !!binary "AAEC"
  weights:
    - 4.5
    - 1.0e+22
    - .nan
    - -.inf
  note: null
"""
RECORDS = [
    {
        "id": 1,
        "name": "Bella",
        "tags": ["milk", "no"],
        "home": {"row": 2},
        "lists": [[1, []], {"a": {}}],
    },
    {
        "id": 3,
        "name": "3",
        "born": datetime(2026, 11, 24, 8, tzinfo=UTC),
        "image": b"\x00\x01\x02",
        "weights": [4.5, 1e22, math.nan, -math.inf],
        "note": None,
    },
]
INDICATORS = (
    "null Null ~ yes OFF y N 1 1_000 0x1f 1:30 1e5 .5 - -- --- ... #a &a *a !a %a @a `a [a {a = << \\ ' .nan .inf nan"
    " true. a/b e-mail _ 0.1.2 v1.0 2026-11-24 2026-11-24T08:00:00Z"
).split()
SPACED = ("", " a", "a ", "a  b", "a\tb", "a\r\nb", "- a", "? a", "a: b", "a #b", "no one")
UNPRINTABLE = ("\x00", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", "😀")


def read_by_another_reader(text: bytes, version: tuple[int, int] = (1, 2)) -> Any:
    reader = YAML(typ="safe", pure=True)
    reader.version = version
    return in_utc(reader.load(text))


def in_utc(value: Any) -> Any:
    """The reader gives every instant a zone of its own making."""
    if isinstance(value, dict):
        return {name: in_utc(item) for name, item in value.items()}
    if isinstance(value, list):
        return [in_utc(item) for item in value]
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def test_records_are_written_as_a_block_list() -> None:
    assert encode_yaml(RECORDS).decode() == SAMPLE


def test_items_of_several_pages_are_one_list() -> None:
    assert b"".join(encode_yaml_rows([record]) for record in RECORDS).decode() == SAMPLE


@pytest.mark.parametrize(
    ("value", "text"),
    [([], "[]\n"), ({}, "{}\n"), ({"message": "all good"}, "message: all good\n"), ("a: b", '"a: b"\n')],
)
def test_an_answer_has_this_yaml(value: Any, text: str) -> None:
    assert encode_yaml(value).decode() == text


@pytest.mark.parametrize("version", [(1, 1), (1, 2)])
@settings(max_examples=50, deadline=None)
@given(value=values)
def test_another_reader_reads_the_same_value(version: tuple[int, int], value: Any) -> None:
    assert repr(read_by_another_reader(encode_yaml(value), version)) == repr(value)


@pytest.mark.parametrize("version", [(1, 1), (1, 2)])
@pytest.mark.parametrize("text", (*INDICATORS, *SPACED, *UNPRINTABLE, "x" * 3000))
def test_a_text_that_means_something_in_yaml_stays_a_text(text: str, version: tuple[int, int]) -> None:
    value = {text: text, "list": [text], "map": {"name": text}}
    assert read_by_another_reader(encode_yaml(value), version) == value


@pytest.mark.parametrize("levels", [BLOCK_NESTING_MAX - 1, BLOCK_NESTING_MAX, BLOCK_NESTING_MAX + 1, 100])
def test_deep_nesting_reads_the_same_and_is_not_blown_up_by_indentation(levels: int) -> None:
    value: Any = ["x", {"k" * 1200: "y", "born": datetime(2026, 1, 1, tzinfo=UTC)}] + ["item"] * 1000
    for _ in range(levels):
        value = {"a b": value}
    text = encode_yaml(value)
    assert read_by_another_reader(text) == value
    assert len(text) < 1300 * 2 + 1000 * (len("- item\n") + 2 * (BLOCK_NESTING_MAX + 1)) + 1000


@settings(max_examples=50, deadline=None)
@given(st.lists(st.dictionaries(texts, values, max_size=3), min_size=1, max_size=4))
def test_items_written_alone_read_as_one_list(rows: list[Any]) -> None:
    text = b"".join(encode_yaml_rows([row]) for row in rows)
    assert repr(read_by_another_reader(text)) == repr(rows)
