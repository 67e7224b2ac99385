import csv
import io
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.csv_encoding import csv_framing, encode_csv
from tests.storage.value_strategies import texts, values


def test_the_sample_of_the_reference() -> None:
    rows = [{"id": 1, "name": "Bella", "tags": ["milk", "calm"]}, {"id": 3, "name": "Fern"}]
    assert encode_csv(rows, ("id", "name", "tags")).decode() == (
        '"id","name","tags"\n1,"Bella","[""milk"",""calm""]"\n3,"Fern",'
    )


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("plain", '"plain"'),
        ("", '""'),
        ('say "no"', '"say ""no"""'),
        ("a,b\nc", '"a,b\nc"'),
        (5, "5"),
        (-0.5, "-0.5"),
        (180.0, "180"),
        (1e-7, "1e-7"),
        (10**30, "1" + "0" * 30),
        (True, "true"),
        (False, "false"),
        (None, ""),
        (math.nan, ""),
        (math.inf, ""),
        (datetime(2026, 11, 24, tzinfo=UTC), '"2026-11-24T00:00:00.000Z"'),
        ({"a": "b"}, '"{""a"":""b""}"'),
        ([], '"[]"'),
        (b"\x01", '"{""type"":""Buffer"",""data"":[1]}"'),
    ],
)
def test_a_value_has_this_cell(value: Any, cell: str) -> None:
    assert encode_csv([{"x": 0, "v": value}]).decode() == f'"x","v"\n0,{cell}'


@pytest.mark.parametrize(
    ("value", "columns", "text"),
    [
        ([], None, ""),
        ([], ("id",), ""),
        ({}, None, ""),
        ({"message": "ok", "n": 2}, None, '"message","n"\n"ok",2'),
        ({"error": "no"}, ("id", "name"), '"error"\n"no"'),
        ([{"b": 1}, {"b": 2, "a": 3}, {"a": 4}], None, '"b"\n1\n2\n'),
        ([{"b": 1, "c": 2}], ("c", "d", "b"), '"c","d","b"\n2,,1'),
        ([{}], ("a", "b"), '"a","b"\n,'),
        (['"', 1, None, [1]], None, '""""\n1\n\n"[1]"'),
        ([{"é,": 1}], None, '"é,"\n1'),
    ],
)
def test_an_answer_has_this_csv(value: Any, columns: tuple[str, ...] | None, text: str) -> None:
    assert encode_csv(value, columns).decode() == text


def test_a_list_in_pieces_without_rows_is_its_header_alone() -> None:
    assert csv_framing(("id", 'a"b'), ()).empty == b'"id","a""b"'


cells = st.lists(texts.filter(bool), min_size=3, max_size=3)


@settings(deadline=None)
@given(cells.filter(lambda names: len(set(names)) == 3), st.lists(cells, min_size=1, max_size=5))
def test_texts_are_read_back_by_another_reader(names: list[str], rows: list[list[str]]) -> None:
    answer = encode_csv([dict(zip(names, row, strict=True)) for row in rows]).decode()
    assert list(csv.reader(io.StringIO(answer, newline=""))) == [names, *rows]


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), values), min_size=1, max_size=4))
def test_every_record_has_a_cell_for_every_column(rows: list[Any]) -> None:
    read = list(csv.reader(io.StringIO(encode_csv(rows, ("a", "b", "c")).decode(), newline="")))
    assert [len(cells) for cells in read] == [3] * (len(rows) + 1)
