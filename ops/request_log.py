"""A request's body as the log may show it: without secrets, cut short, and at a cost that does not grow with the body.

Named secrets are left out, and so are names that look like one, at every depth. Each value is cut at 1 KiB while it is
turned into text, so that the rest of a large list is never visited.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final

VALUE_LENGTH_MAX: Final = 1024
BODY_LENGTH_MAX: Final = 16 * 1024
"""A body may have any number of fields."""
_FIELDS_MAX: Final = 1000
"""Fields of one object that are looked at; secret ones cost time without taking room."""
_NAME_LENGTH_MAX: Final = 250
"""No attribute has a longer name."""
_DEPTH_MAX: Final = 16
_INTEGER_BITS_MAX: Final = 1024
_SQL_CHECKED_MAX: Final = 64 * 1024
"""A longer statement is not searched for what it touches, but left out."""

_NEVER: Final = frozenset(("hdb_user", "hdbauthheader", "payload", "key", "license", "data"))
"""Left out of a body."""
_SECRET: Final = frozenset(("password", "private_key", "authorization", "refresh_token", "s3", "passthrough_headers"))
"""Left out wherever they stand."""
_SECRET_LOOKING: Final = re.compile(r"passw|passphrase|secret|credential|private_?key|_token$", re.IGNORECASE)
_OF_SYSTEM: Final = ("records", "sql")
"""Left out where they touch the database ``system``: they carry password hashes and the like."""
_SYSTEM: Final = "system"
_SYSTEM_NAMED: Final = re.compile(rf"\b{_SYSTEM}\b", re.IGNORECASE)
_URL_CREDENTIALS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s\"']*@")
_URL_QUERY: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^?\s\"']*)\?\S*")
_ELLIPSIS: Final = "…"
_json_text: Final = json.JSONEncoder(ensure_ascii=False).encode


def loggable_body(body: Mapping[str, Any]) -> str:
    """``body`` in the form of JSON; where a value was cut it ends with an ellipsis and the text is no valid JSON."""
    is_system = _SYSTEM in (body.get("database"), body.get("schema"))
    fields = (
        _field(name, value)
        for name, value in islice(body.items(), _FIELDS_MAX)
        if name.lower() not in _NEVER and not (is_system and name in _OF_SYSTEM) and not _is_secret(name, value)
    )
    return _cut(_joined(fields), BODY_LENGTH_MAX)


def _is_secret(name: str, value: Any) -> bool:
    if _is_secret_name(name[:_NAME_LENGTH_MAX]):
        return True
    return name == "sql" and _may_touch_system(value)


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return name.lower() in _SECRET or _SECRET_LOOKING.search(name) is not None


def _may_touch_system(statement: Any) -> bool:
    """Statements are not parsed yet when they are logged; one that mentions the word anywhere may."""
    if not isinstance(statement, str) or len(statement) > _SQL_CHECKED_MAX:
        return True
    return _SYSTEM_NAMED.search(statement) is not None


def _field(name: str, value: Any) -> str:
    text = _cut(_value(value, _DEPTH_MAX), VALUE_LENGTH_MAX)
    if name.lower().endswith("url"):
        text = _URL_QUERY.sub(rf"\1?{_ELLIPSIS}", text)
    text = _URL_CREDENTIALS.sub(r"\1", text)
    return f"{_scalar(name)}:{text}"


def _value(value: Any, depth: int) -> Iterator[str]:
    """The text of ``value`` in pieces, made only as far as they are asked for."""
    if isinstance(value, Mapping):
        yield from _mapping(value, depth)
    elif isinstance(value, list | tuple):
        yield from _list(value, depth)
    else:
        yield _scalar(value)


def _mapping(value: Mapping[Any, Any], depth: int) -> Iterator[str]:
    if depth == 0:
        yield _ELLIPSIS
        return
    yield "{"
    separator = ""
    for name, item in islice(value.items(), _FIELDS_MAX):
        if isinstance(name, str) and _is_secret(name, item):
            continue
        yield f"{separator}{_scalar(name)}:"
        yield from _value(item, depth - 1)
        separator = ","
    yield "}"


def _list(value: Iterable[Any], depth: int) -> Iterator[str]:
    if depth == 0:
        yield _ELLIPSIS
        return
    yield "["
    separator = ""
    for item in value:
        yield separator
        yield from _value(item, depth - 1)
        separator = ","
    yield "]"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _json_text(value[: VALUE_LENGTH_MAX + 1])
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _INTEGER_BITS_MAX else f"<integer of {value.bit_length()} bits>"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "null"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return f"<{type(value).__name__}>"


def _joined(fields: Iterable[str]) -> Iterator[str]:
    yield "{"
    separator = ""
    for field in fields:
        yield f"{separator}{field}"
        separator = ","
    yield "}"


def _cut(pieces: Iterable[str], length_max: int) -> str:
    """The pieces as one text of ``length_max`` characters at most, with an ellipsis in place of what is left out."""
    taken: list[str] = []
    room = length_max
    for piece in pieces:
        if len(piece) > room:
            return "".join((*taken, piece[:room], _ELLIPSIS))
        taken.append(piece)
        room -= len(piece)
    return "".join(taken)
