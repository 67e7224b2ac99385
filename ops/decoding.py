"""Request body -> value of the value model, by its content type.

All of it runs before anybody has logged in, on the event loop: whatever the bytes are, the time is linear in their
number and the only error is an ``OperationError``. What the libraries leave open is closed here. Both binary decoders
ignore bytes after the item; CBOR tags can build cycles and compile patterns; and names of members that are numbers can
be chosen so that they collide in a dict (strings cannot: their hash is seeded).
"""

import io
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import cbor2
import orjson
import ormsgpack

from ops.errors import InvalidParams
from storage.errors import InvalidValue
from storage.values import ABSENT, NESTING_MAX, normalise, settle_floats

NUMERIC_NAMES_BODY_BYTES_MAX: Final = 16 * 1024
"""Largest body whose objects may have numbers as names: with so few of them even full collision costs milliseconds."""
MESSAGE_CHARACTERS_MAX: Final = 200
"""Length at which a decoder's message, or a content type sent by a client, is cut before it is sent back."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_EMPTY_JSON: Final = "Body cannot be empty when content-type is set to 'application/json'"


def decode_body(content_type: str | None, body: bytes, *, big_int: bool = True) -> Any:
    """The value that ``body`` stands for. Without ``big_int``, integers beyond 64 bits in JSON become floats.

    Raises ``InvalidParams``: 415 for a content type that is not taken, 400 for bytes that are not of that type.
    """
    decode = _DECODERS.get(content_type or "") or _DECODERS.get(_essence(content_type))
    if decode is None:
        shown = (content_type or "undefined")[:MESSAGE_CHARACTERS_MAX].encode("ascii", "replace").decode()
        raise InvalidParams(f"Unsupported Media Type: {shown}", status=415)
    try:
        return decode(body, big_int)
    except InvalidValue as error:
        raise InvalidParams(str(error)) from None


def _essence(content_type: str | None) -> str:
    """The media type alone, in lower case, without parameters."""
    return (content_type or "").partition(";")[0].strip().lower()


def _decode_json(body: bytes, big_int: bool) -> Any:
    holder = [_parsed_json(body)]
    if settle_floats(holder, depth=0) and big_int:
        holder = [_exact_json(body)]
        settle_floats(holder, depth=0)
    return holder[0]


def _parsed_json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body:
            raise InvalidParams(_EMPTY_JSON) from None
        if not body.startswith(_BYTE_ORDER_MARK):
            raise InvalidParams(str(error)) from None
    try:
        return orjson.loads(body[len(_BYTE_ORDER_MARK) :])
    except orjson.JSONDecodeError as error:
        raise InvalidParams(str(error)) from None


def _exact_json(body: bytes) -> Any:
    """The same once more with every integer exact: orjson reads one beyond 64 bits as a float.

    Only for bodies that orjson took, and whose nesting is checked: it is the stricter parser, and it refuses numbers
    beyond the range of a double, so that no integer has more than 309 digits here.
    """
    return json.loads(body.decode("utf-8-sig"))


def _decode_text(body: bytes, big_int: bool) -> str:
    return body.decode(errors="replace")


def _decode_cbor(body: bytes, big_int: bool) -> Any:
    return normalise(_decoded_item(_one_cbor_item, body.removeprefix(_SELF_DESCRIBED)))


def _decode_messagepack(body: bytes, big_int: bool) -> Any:
    return normalise(_decoded_item(_one_messagepack_item, body))


def _decoded_item(decode: Callable[[bytes, bool], Any], body: bytes) -> Any:
    """The item that ``decode(body, numeric_names)`` finds; numbers are allowed as names where the body is small."""
    try:
        return decode(body, False)
    except _UNDECODABLE as error:
        if len(body) > NUMERIC_NAMES_BODY_BYTES_MAX:
            raise _undecodable(error) from None
    try:
        return decode(body, True)
    except _UNDECODABLE as error:
        raise _undecodable(error) from None


def _undecodable(error: Exception) -> InvalidParams:
    message = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
    return InvalidParams(message[:MESSAGE_CHARACTERS_MAX])


class _Tags(dict[int, Callable[[Any, bool], Any]]):
    """How tags are decoded that are not left to the library: a date as text or seconds (0, 1), a big integer (2, 3).

    A mapping without an end rather than a list of tags to refuse: that list would miss what the library learns later.
    """

    LEFT_TO_LIBRARY: Final = frozenset((0, 1, 2, 3))

    def __missing__(self, tag: int) -> Callable[[Any, bool], Any]:
        if tag in self.LEFT_TO_LIBRARY:
            raise KeyError(tag)
        raise ValueError(f"CBOR tag {tag} is not supported")


def _bytes_of_typed_array(value: Any, immutable: bool) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("CBOR tag 64 is for byte strings")
    return value


_TAGS: Final = _Tags({64: _bytes_of_typed_array})
_SELF_DESCRIBED: Final = b"\xd9\xd9\xf7"
"""A tag around the whole body that only says "this is CBOR"."""


def _one_cbor_item(body: bytes, numeric_names: bool) -> Any:
    """Nesting may be one level deeper here than ``normalise`` lets pass: to the library a tag is a level too."""
    source = io.BytesIO(body)
    value = cbor2.CBORDecoder(
        source, semantic_decoders=_TAGS, max_depth=NESTING_MAX + 1, strict_hashable_types=not numeric_names
    ).decode()
    after = len(body) - source.tell()
    if after:
        raise InvalidParams(f"Body has {after} bytes after its CBOR item")
    return value


_PAIR: Final = b"\x92"
_NONCE: Final = secrets.token_bytes(16)
_END: Final = b"\xc4\x10" + _NONCE


def _one_messagepack_item(body: bytes, numeric_names: bool) -> Any:
    """Read as a pair of the body and something that only this process knows: it comes second where nothing is
    between.
    """
    options = ormsgpack.OPT_DATETIME_AS_TIMESTAMP_EXT | (ormsgpack.OPT_NON_STR_KEYS if numeric_names else 0)
    value, end = ormsgpack.unpackb(b"".join((_PAIR, body, _END)), ext_hook=_extension, option=options)
    if end != _NONCE:
        raise InvalidParams("Body has bytes after its MessagePack item")
    return value


def _extension(kind: int, data: bytes) -> Any:
    """Kind 0 is what JavaScript's encoders write for ``undefined``. Any other is refused with its place in the model."""
    return ABSENT if kind == 0 and data == b"\0" else ormsgpack.Ext(kind, data)


_UNDECODABLE: Final = (cbor2.CBORDecodeError, ormsgpack.MsgpackDecodeError)
_DECODERS: Final[Mapping[str, Callable[[bytes, bool], Any]]] = {
    "application/json": _decode_json,
    "application/cbor": _decode_cbor,
    "application/x-msgpack": _decode_messagepack,
    "text/plain": _decode_text,
}
