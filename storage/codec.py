"""CBOR, in one place: the only module that turns values into stored bytes and back (RFC 8949).

A record is encoded once, at its origin. The same bytes are its row, its part of the log entry, the wire form and
the replica's row, so whoever only passes a record on never decodes it.

The value model: None, bool, int, float, str, bytes, datetime (UTC, milliseconds), list, and dict with text keys.
"""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import cbor2

from storage.errors import Corrupt, InvalidValue

NESTING_MAX: Final = 200
"""Levels of arrays and objects in a record. Readers end earlier than writers: CBOR at 400 levels, JSON at 254, the
answer around a record included; what they could not read again must not be stored.
"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

encode = partial(cbor2.dumps, datetime_as_timestamp=True, timezone=UTC)
"""Bytes of a value of the value model."""


def check_nesting(record: dict[str, Any]) -> None:
    """Raises ``InvalidValue`` for a record with more than ``NESTING_MAX`` levels, itself counted."""
    level = [value for value in record.values() if type(value) is list or type(value) is dict]
    depth = 1
    while level:
        depth += 1
        if depth > NESTING_MAX:
            raise InvalidValue(f"Records cannot be nested deeper than {NESTING_MAX} levels")
        members = (value.values() if type(value) is dict else value for value in level)
        level = [member for group in members for member in group if type(member) is list or type(member) is dict]


def decode(data: bytes | memoryview) -> Any:
    """The value whose bytes these are. Raises ``Corrupt``: what is stored was written by ``encode``."""
    try:
        return cbor2.loads(data, semantic_decoders=_DECODERS)
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError) as error:
        raise Corrupt(f"stored value cannot be decoded: {error}") from error


def _decode_instant(seconds: Any, immutable: bool = False) -> datetime:
    """Stored as seconds in a double, which in far years is off by microseconds: the millisecond is what was meant."""
    if type(seconds) not in (int, float):
        raise TypeError("an instant is a number")
    return _EPOCH + timedelta(milliseconds=round(seconds * 1000))


_DECODERS: Final = {1: _decode_instant}
