"""CSV of answers: a header of quoted names, then a line for each record, ``\\n`` between lines and none at the end.

Texts and dates stand in quotes (a quote inside is doubled), numbers and booleans bare; null, missing and NaN are empty;
lists, objects and bytes are their JSON in quotes. A row that is no object is one cell; a list that begins with one has
no header unless its columns are given.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ops.framing import Framing
from ops.json_encoding import encode_json
from storage.values import iso_text


def csv_framing(columns: Sequence[str] | None, rows: Sequence[Any]) -> Framing:
    """Framing of a list with these columns; without them, the names of the first of ``rows`` are the columns."""
    if columns is None and rows and isinstance(rows[0], dict):
        columns = tuple(rows[0])
    if columns is None:
        return Framing(rows=_lines, separator=b"\n")
    header = ",".join(map(_quoted, columns)).encode()
    return Framing(rows=partial(_lines, columns=columns), head=header + b"\n", separator=b"\n", empty=header)


def encode_csv(value: Any, columns: Sequence[str] | None = None) -> bytes:
    """A whole answer. An object is one row under its own names; an empty list or object is an empty body."""
    if isinstance(value, list | tuple):
        rows: Sequence[Any] = value
    else:
        rows, columns = ([value] if value != {} else []), None
    if not rows:
        return b""
    framing = csv_framing(columns, rows)
    return framing.head + framing.rows(rows)


def _lines(rows: Sequence[Any], columns: Sequence[str] = ()) -> bytes:
    return "\n".join([_line(row, columns) for row in rows]).encode()


def _line(row: Any, columns: Sequence[str]) -> str:
    if row.__class__ is not dict:
        return _cell(row)
    member = row.get
    return ",".join([_cell(member(name)) for name in columns])


def _cell(value: Any) -> str:
    kind = value.__class__
    if kind is str:
        return _quoted(value)
    if kind is int:
        return str(value)
    if value is None or (kind is float and not math.isfinite(value)):
        return ""
    if kind is datetime:
        return f'"{iso_text(value)}"'
    text = encode_json(value).decode()
    return text if kind is float or kind is bool else _quoted(text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
