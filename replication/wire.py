"""Messages as bytes, and back: CBOR arrays ``[code, body]``, one per websocket message (RFC 8949).

One ``Wire`` per connection: it gives out the short numbers of origins of what this side sends, and learns those of
what the peer sends. Whatever a peer may send, decoding ends in a message, in None (a code that this version does not
know, to be ignored) or in ``RemoteProtocolError``.
"""

from dataclasses import fields
from typing import Any, Final

import cbor2

from replication.errors import RemoteProtocolError
from replication.fields import FieldKind, expect
from replication.messages import CODES, Message, Origins
from storage.entry import Origin

NUMBERS_MAX: Final = 10_000
"""Origins that one connection may introduce."""
FRAME_OVERHEAD_BYTES: Final = 1 << 16
"""What a frame may hold beside the entries of its batch."""

_CODE_OF: Final = {kind: code for code, kind in CODES.items()}
_FIELDS: Final[dict[type[Any], list[tuple[str, str, FieldKind, bool, Any]]]] = {
    kind: [
        (spec.name, spec.metadata["key"], spec.metadata["kind"], spec.metadata["is_required"], spec.default)
        for spec in fields(kind)
    ]
    for kind in CODES.values()
}


class Wire:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self._given: dict[Origin, int] = {}
        self._announced = 0
        self._learned: dict[int, Origin] = {}

    def encode(self, message: Message) -> list[bytes]:
        """Frames to send, in order: one, and before it one that introduces origins where there are new ones."""
        frame = self._encode(message)
        if len(self._given) == self._announced:
            return [frame]
        new = {number: origin for origin, number in self._given.items() if number > self._announced}
        self._announced = len(self._given)
        return [self._encode(Origins(numbers=new)), frame]

    def decode(self, frame: bytes) -> Message | None:
        """Raises ``RemoteProtocolError``. Introductions of origins are taken note of and give None."""
        code, body = self._parts(frame)
        kind = CODES.get(code)
        if kind is None:
            return None
        values = {
            name: decoded
            for name, key, field_kind, is_required, default in _FIELDS[kind]
            for decoded in (self._field(body, key, field_kind, is_required, default),)
        }
        message: Message = kind(**values)
        if isinstance(message, Origins):
            self._learned.update(message.numbers)
            expect(len(self._learned) <= NUMBERS_MAX, "more origins than a cluster has")
            return None
        return message

    # -- short numbers of origins ---------------------------------------------------------------------------------

    def number(self, origin: Origin) -> int:
        return self._given.setdefault(origin, len(self._given) + 1)

    def origin(self, number: Any) -> Origin:
        origin = self._learned.get(number) if type(number) is int else None
        if origin is None:
            raise RemoteProtocolError("the peer sent the number of an origin that it never introduced")
        return origin

    # -- parts ----------------------------------------------------------------------------------------------------

    def _encode(self, message: Message) -> bytes:
        body: dict[str, Any] = {}
        for name, key, kind, is_required, default in _FIELDS[type(message)]:
            value = getattr(message, name)
            if is_required or (value is not None and value != default):
                body[key] = kind.encode(value, self)
        return cbor2.dumps([_CODE_OF[type(message)], body])

    def _parts(self, frame: bytes) -> tuple[int, dict[str, Any]]:
        try:
            decoded = cbor2.loads(frame)
        except Exception as error:  # whatever a decoder makes of hostile bytes
            raise RemoteProtocolError(f"the peer sent a frame that is no CBOR: {error!r}") from error
        expect(type(decoded) is list and len(decoded) == 2, "a frame that is no pair")
        code, body = decoded
        expect(type(code) is int and type(body) is dict, "a frame without code or body")
        return code, body

    def _field(self, body: dict[str, Any], key: str, kind: FieldKind, is_required: bool, default: Any) -> Any:
        value = body.get(key)
        if value is None:
            expect(not is_required, f"a message without '{key}'")
            return default
        return kind.decode(value, self)
