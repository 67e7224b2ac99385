"""JSON of answers: no spaces, dates as ISO-8601 UTC, bytes as ``{"type":"Buffer","data":[...]}``, NaN as null.

orjson does nearly all of it. Two things it does not: it refuses integers beyond 64 bits, and it writes ``4.0`` for a
float where JavaScript, and with it every client, writes ``4``. Values from storage have neither or rarely; so it runs
first, and only what it could not do is done again, record by record, after a copy with such numbers replaced.
"""

import re
from datetime import datetime
from typing import Any, Final

import orjson

from storage.values import iso_text, number

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATETIME
_INTEGRAL_FLOAT: Final = re.compile(rb"\.0(?:[,}\]]|\Z)")
"""Finds every float that is written with a fraction of zero, and now and then a text that looks like it."""
_WORD_MIN: Final = -(1 << 63)
_WORD_MAX: Final = (1 << 64) - 1


def encode_json(value: Any) -> bytes:
    """Bytes of a value of the value model; tuples are lists. Raises ``TypeError`` for anything else."""
    encoded = _directly(value)
    if encoded is not None:
        return encoded
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(_element, value)) + b"]"
    return _exactly(value)


def _element(value: Any) -> bytes:
    encoded = _directly(value)
    return _exactly(value) if encoded is None else encoded


def _directly(value: Any) -> bytes | None:
    """What orjson makes of it; None where that is not what clients should get."""
    try:
        encoded = orjson.dumps(value, _extended, _OPTIONS)
    except orjson.JSONEncodeError:
        return None
    return None if _INTEGRAL_FLOAT.search(encoded) else encoded


def _exactly(value: Any) -> bytes:
    return orjson.dumps(_with_numbers_replaced(value), _extended, _OPTIONS)


def _with_numbers_replaced(value: Any) -> Any:
    kind = value.__class__
    if kind is dict:
        return {name: _with_numbers_replaced(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return [_with_numbers_replaced(item) for item in value]
    if kind is int and not _WORD_MIN <= value <= _WORD_MAX:
        return orjson.Fragment(str(value))
    return number(value) if kind is float else value


def _extended(value: Any) -> Any:
    """What orjson should write for a value that it does not know."""
    if isinstance(value, datetime):
        return iso_text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"type": "Buffer", "data": list(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")
