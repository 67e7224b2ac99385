"""Result -> bytes of an answer, whole (``encode``) or row by row (``ListEncoder``).

MessagePack has no integers beyond 64 bits: there they are decimal text, which a ``BigInt`` attribute takes back,
rather than a float that has lost digits. Plain text is for people: a message or an error without its name, anything
else as JSON. An event stream has one event for a whole answer, in a streamed list one for each row.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import ormsgpack

from ops import negotiation
from ops.csv_encoding import csv_framing, encode_csv
from ops.framing import Framing
from ops.json_encoding import encode_json
from ops.negotiation import MediaType
from ops.yaml_encoding import encode_yaml, encode_yaml_rows
from storage import codec
from storage.values import at_milliseconds

_MESSAGE_PACK_OPTIONS: Final = ormsgpack.OPT_PASSTHROUGH_DATETIME | ormsgpack.OPT_PASSTHROUGH_BIG_INT
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


def wrap_result(result: Any) -> Any:
    """What the body of an answer is: objects and lists themselves, anything else in ``{"message": result}``."""
    if isinstance(result, dict | list | tuple):
        return result
    return {} if result is None else {"message": result}


def encode(value: Any, media_type: MediaType, *, columns: Sequence[str] | None = None) -> bytes:
    """The whole body of an answer. ``columns`` are the header of a list in CSV; other types do not need them."""
    if media_type is negotiation.JSON:
        return encode_json(value)
    if media_type is negotiation.CSV:
        return encode_csv(value, columns)
    return _WHOLE[media_type](value)


class ListEncoder:
    """Encodes a list piece by piece: ``rows`` for each page, then ``end``; all their bytes together are the body."""

    def __init__(self, media_type: MediaType, *, columns: Sequence[str] | None = None) -> None:
        self._media_type = media_type
        self._columns = columns
        self._framing: Framing | None = None

    def rows(self, rows: Sequence[Any]) -> bytes:
        """Bytes of the next rows, which may be none."""
        if not rows:
            return b""
        if self._framing is None:
            self._framing = self._framing_for(rows)
            return self._framing.head + self._framing.rows(rows)
        return self._framing.separator + self._framing.rows(rows)

    def failure(self, name: str, message: str) -> bytes:
        """Bytes of a last row that tells why there are no more. In CSV it is a line of one cell: under the columns of
        the list nothing of it would be seen."""
        row = {"error": name, "message": message}
        return self.rows([encode_json(row).decode() if self._media_type is negotiation.CSV else row])

    def end(self) -> bytes:
        """Bytes after the last row."""
        return self._framing_for(()).empty if self._framing is None else self._framing.tail

    def _framing_for(self, rows: Sequence[Any]) -> Framing:
        if self._media_type is negotiation.CSV:
            return csv_framing(self._columns, rows)
        return _FRAMINGS[self._media_type]


def _encode_message_pack(value: Any) -> bytes:
    return ormsgpack.packb(value, _extended_message_pack, _MESSAGE_PACK_OPTIONS)


def _extended_message_pack(value: Any) -> Any:
    if isinstance(value, datetime):
        return ormsgpack.Fragment(_timestamp(value))
    if isinstance(value, int):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no MessagePack form")


def _timestamp(moment: datetime) -> bytes:
    """Extension -1 in the shortest of its forms: 32-bit seconds, 30-bit nanoseconds with 34-bit seconds, or 96 bits.

    Not left to ormsgpack: 1.13.1 writes no fraction at all where it is 2^29 nanoseconds or more (from .537 s on).
    """
    seconds, fraction = divmod(at_milliseconds(moment) - _EPOCH, _SECOND)
    nanoseconds = fraction.microseconds * 1000
    if not 0 <= seconds < 1 << 34:
        return b"\xc7\x0c\xff" + nanoseconds.to_bytes(4) + seconds.to_bytes(8, signed=True)
    if nanoseconds or seconds >= 1 << 32:
        return b"\xd7\xff" + (nanoseconds << 34 | seconds).to_bytes(8)
    return b"\xd6\xff" + seconds.to_bytes(4)


def _text(value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1:
        value = value.get("message", value.get("error", value))
    return value if isinstance(value, str) else encode_json(value).decode()


def _text_rows(rows: Sequence[Any]) -> bytes:
    return "".join([f"{_text(row)}\n" for row in rows]).encode()


def _encode_text(value: Any) -> bytes:
    return _text_rows(value) if isinstance(value, list | tuple) else _text(value).encode()


def _event(value: Any) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"


def _one_by_one(encode_row: Callable[[Any], bytes]) -> Callable[[Sequence[Any]], bytes]:
    return lambda rows: b"".join(map(encode_row, rows))


_WHOLE: Final[Mapping[MediaType, Callable[[Any], bytes]]] = {
    negotiation.CBOR: codec.encode,
    negotiation.MESSAGE_PACK: _encode_message_pack,
    negotiation.YAML: encode_yaml,
    negotiation.PLAIN_TEXT: _encode_text,
    negotiation.EVENT_STREAM: _event,
}
_FRAMINGS: Final[Mapping[MediaType, Framing]] = {
    negotiation.JSON: Framing(
        rows=lambda rows: encode_json(rows)[1:-1], head=b"[", separator=b",", tail=b"]", empty=b"[]"
    ),
    negotiation.CBOR: Framing(rows=_one_by_one(codec.encode), head=b"\x9f", tail=b"\xff", empty=b"\x9f\xff"),
    negotiation.MESSAGE_PACK: Framing(rows=_one_by_one(_encode_message_pack)),
    negotiation.YAML: Framing(rows=encode_yaml_rows, empty=b"[]\n"),
    negotiation.PLAIN_TEXT: Framing(rows=_text_rows),
    negotiation.EVENT_STREAM: Framing(rows=_one_by_one(_event)),
}
