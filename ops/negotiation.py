"""The type of an answer: the client's ``Accept`` against what this API would rather send.

Score = server quality x the client's ``q``; the highest wins, the first listed on a tie. The server qualities are the
reference's: binary formats are cheapest for both sides, CSV and plain text lose what a value holds.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ops.errors import InvalidParams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MediaType:
    """A type that answers can have; there is one object of each. ``headers`` name it to the client."""

    name: str
    headers: tuple[tuple[str, str], ...]


def _media_type(name: str, *more: tuple[str, str], parameters: str = "") -> MediaType:
    return MediaType(name=name, headers=(("content-type", name + parameters), *more))


JSON: Final = _media_type("application/json")
CBOR: Final = _media_type("application/cbor")
MESSAGE_PACK: Final = _media_type("application/x-msgpack")
CSV: Final = _media_type("text/csv", ("content-disposition", 'attachment; filename="data.csv"'))
YAML: Final = _media_type("text/yaml")
PLAIN_TEXT: Final = _media_type("text/plain", parameters="; charset=utf-8")
EVENT_STREAM: Final = _media_type("text/event-stream")

_OFFERED: Final[Mapping[str, tuple[MediaType, float]]] = {
    "application/json": (JSON, 0.8),
    "application/cbor": (CBOR, 1.0),
    "application/x-msgpack": (MESSAGE_PACK, 0.9),
    "text/csv": (CSV, 0.1),
    "text/plain": (PLAIN_TEXT, 0.2),
    "text/yaml": (YAML, 0.7),
    "text/event-stream": (EVENT_STREAM, 0.8),
    "application/*": (JSON, 0.5),
    "*/*": (JSON, 0.5),
}
"""Form encoding is left out, though the message below names it: nearly no answer is flat enough for it."""

_NOT_ACCEPTABLE: Final = (
    "No supported content types found in Accept header, supported types include: application/json, application/cbor,"
    " application/x-msgpack, text/csv, text/plain, text/yaml, text/event-stream, application/x-www-form-urlencoded,"
    " */*, "
)


def negotiate(accept: str | None) -> MediaType:
    """The best type for an ``Accept`` header; JSON where there is none. Raises ``InvalidParams`` 406 where no type
    fits.
    """
    best = _best_for(accept) if accept else JSON
    if best is None:
        body = {"statusCode": 406, "error": "Not Acceptable", "message": _NOT_ACCEPTABLE}
        raise InvalidParams(_NOT_ACCEPTABLE, status=406, body=body)
    return best


@lru_cache(maxsize=256)
def _best_for(accept: str) -> MediaType | None:
    """Kept for the few headers that the clients of a node send; the listeners bound a header's length."""
    best, best_score = None, 0.0
    for name, q in _ranges(accept.lower()):
        offered = _OFFERED.get(name)
        if offered is not None and offered[1] * q > best_score:
            best, best_score = offered[0], offered[1] * q
    return best


def _ranges(accept: str) -> Iterator[tuple[str, float]]:
    for media_range in accept.split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        yield name, next((_quality(value[2:]) for value in parameters if value.startswith("q=")), 1.0)


def _quality(text: str) -> float:
    """A ``q`` between 0 and 1; one that is no number counts as none given."""
    try:
        q = float(text)
    except ValueError:
        return 1.0
    return 1.0 if math.isnan(q) else min(max(q, 0.0), 1.0)
