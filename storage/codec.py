"""CBOR, in one place: the only module that turns values into stored bytes and back (RFC 8949).

A record is encoded once, at its origin. The same bytes are its row, its part of the log entry, the wire form and
the replica's row, so whoever only passes a record on never decodes it.

The value model: None, bool, int, float, str, bytes, datetime (UTC, milliseconds), list, and dict with text keys.
"""

from datetime import UTC
from functools import partial
from typing import Any

import cbor2

from storage.errors import Corrupt

encode = partial(cbor2.dumps, datetime_as_timestamp=True, timezone=UTC)
"""Bytes of a value of the value model."""


def decode(data: bytes | memoryview) -> Any:
    """The value whose bytes these are. Raises ``Corrupt``: what is stored was written by ``encode``."""
    try:
        return cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError) as error:
        raise Corrupt(f"stored value cannot be decoded: {error}") from error
