"""Order-preserving keys: a value becomes bytes whose byte order is the order of the values.

One total order serves primary keys, indexes, conditions and sorting, so every comparison in this software is a
comparison of these bytes:

    null < false < true < numbers (dates as their milliseconds) < strings by code point

======== ==========================================================================================
value    bytes
======== ==========================================================================================
null     ``10``
false    ``11``
true     ``12``
number   ``20`` + the greatest IEEE double not above it, sign bit flipped (all bits if negative),
         + ``02 length remainder`` where an integer lies between two doubles
string   ``30`` + UTF-8, each byte b of 00, 01, 02 written ``02 b``
array    elements, with ``01`` after every element
======== ==========================================================================================

No byte below 02 ever begins what may follow a complete element, hence ``x < [x] < [x, y]`` and both come before
whatever is greater than ``x``. (The idea of an order-preserving tuple layer is FoundationDB's; the layout is ours.)

LMDB keys and duplicate values end at 511 bytes. A longer encoding is *stored* as its first 495 bytes and a 16-byte
digest, which is exactly 511 bytes, a length no other stored key has. Equality stays exact; among stored keys with one
prefix the order is that of the digests, so readers put such a run in order by the full value, from the row.
"""

import math
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from storage.errors import InvalidKey

NULL: Final = b"\x10"
FALSE: Final = b"\x11"
TRUE: Final = b"\x12"
NUMBER: Final = b"\x20"
STRING: Final = b"\x30"
ELEMENT_END: Final = b"\x01"
ABOVE_ALL: Final = b"\xff"
"""Greater than every encoded value."""

STORED_BYTES_MAX: Final = 511
"""LMDB's limit for keys and for values of a ``dupsort`` sub-database."""
PREFIX_BYTES: Final = 495
PRIMARY_KEY_BYTES_MAX: Final = 1978
"""Longest encoded primary key; a limit that clients know from the reference."""

_ESCAPED: Final = (b"\x02", b"\x00", b"\x01")
"""In this order: 02 first, as escaping the others brings new ones."""
_INTEGER_EXACT_MAX: Final = 1 << 53
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_NOT_A_NUMBER: Final = NUMBER + bytes(8)
_pack_double = struct.Struct(">d").pack
_pack_u64 = struct.Struct(">Q").pack
_unpack_u64 = struct.Struct(">Q").unpack


def _encode_float(value: float) -> bytes:
    if value != value:
        return _NOT_A_NUMBER
    (bits,) = _unpack_u64(_pack_double(value + 0.0))
    return NUMBER + _pack_u64(bits ^ _ALL if bits & _SIGN else bits | _SIGN)


def _encode_int(value: int) -> bytes:
    if -_INTEGER_EXACT_MAX <= value <= _INTEGER_EXACT_MAX:
        return _encode_float(float(value))
    try:
        below = float(value)
    except OverflowError:
        raise InvalidKey("Number is outside the range of a double") from None
    if math.isinf(below) or int(below) > value:
        below = math.nextafter(below, -math.inf)
    remainder = value - int(below)
    if not remainder:
        return _encode_float(below)
    tail = remainder.to_bytes((remainder.bit_length() + 7) // 8)
    return _encode_float(below) + b"\x02" + bytes((len(tail),)) + tail


def _encode_text(value: str) -> bytes:
    encoded = value.encode()
    if not value.isprintable() and min(encoded) <= 2:
        for byte in _ESCAPED:
            encoded = encoded.replace(byte, b"\x02" + byte)
    return STRING + encoded


def _encode_bool(value: bool) -> bytes:
    return TRUE if value else FALSE


def _encode_none(value: None) -> bytes:
    return NULL


def _encode_datetime(value: datetime) -> bytes:
    return _encode_float(round(value.timestamp() * 1000))


_SCALAR_ENCODERS: Final[Mapping[type, Callable[[Any], bytes]]] = {
    str: _encode_text,
    int: _encode_int,
    float: _encode_float,
    bool: _encode_bool,
    type(None): _encode_none,
    datetime: _encode_datetime,
}
scalar_encoder = _SCALAR_ENCODERS.get
"""Encoder for a scalar's exact type, or None for what has no place in the order (objects, arrays, binary)."""


def encode_scalar(value: Any) -> bytes | None:
    """Encoding of a scalar, or None where the value has no place in the order."""
    encode = scalar_encoder(type(value))
    return None if encode is None else encode(value)


def encode_elements(value: list[Any]) -> tuple[bytes, ...]:
    """Encodings of an array's scalar elements, each once, in ascending order. Others are left out."""
    encoded = {encode(element) for element in value if (encode := scalar_encoder(type(element)))}
    return tuple(sorted(encoded))


def encode_array(value: list[Any] | tuple[Any, ...]) -> bytes | None:
    """Encoding of an array as one composite value, or None where an element is no scalar."""
    parts = []
    for element in value:
        encoded = encode_scalar(element)
        if encoded is None:
            return None
        parts.append(encoded)
    return b"".join(part + ELEMENT_END for part in parts)


def encode_primary_key(value: Any) -> bytes:
    """Encoding of a primary key: string, finite number, or a non-empty array of those.

    Raises ``InvalidKey`` with the text that clients know.
    """
    kind = type(value)
    if kind is int or kind is str:
        encoded = _SCALAR_ENCODERS[kind](value)
    elif kind is float and math.isfinite(value):
        encoded = _encode_float(value)
    elif kind in (list, tuple) and value and all(_is_key_scalar(element) for element in value):
        encoded = encode_array(value) or b""
    elif value is None:
        raise InvalidKey("Invalid primary key of null")
    else:
        raise InvalidKey(f"Invalid primary key type: {_type_name(value)}")
    if len(encoded) > PRIMARY_KEY_BYTES_MAX:
        raise InvalidKey(f"Primary key size is too large: {len(encoded)}")
    return encoded


def _is_key_scalar(value: Any) -> bool:
    return type(value) in (str, int) or (type(value) is float and math.isfinite(value))


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, float) else "object"


def stored(encoded: bytes) -> bytes:
    """What LMDB keeps for an encoding: itself, or prefix and digest where it is too long."""
    if len(encoded) < PREFIX_BYTES:
        return encoded
    return encoded[:PREFIX_BYTES] + blake2b(encoded, digest_size=STORED_BYTES_MAX - PREFIX_BYTES).digest()


def is_shortened(stored_key: bytes) -> bool:
    """Whether this stored key holds a prefix only, so that the row decides."""
    return len(stored_key) == STORED_BYTES_MAX
