"""The text that a value shows to ``contains``, ``ends_with`` and wildcards, made from its key encoding.

Numbers read as JavaScript writes them, as that is what clients of the reference search for: ``5``, ``0.1``, ``1e-7``,
``1e+21``; integers below 10^21 with all their digits. A date reads as its milliseconds: an index does not know it
from a number. The text is a function of the encoding alone, so ``4`` and ``4.0``, one value, have one text.
"""

import math
import struct
from decimal import Decimal
from typing import Final

from storage.keys import FALSE, NULL, NUMBER, STRING, TRUE

_WORDS: Final = {FALSE: "false", TRUE: "true"}
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_DIGITS_MAX: Final = 21
"""From 10^21 on, and below 10^-6, a number is written with an exponent."""
_LEADING_ZEROS_MAX: Final = 6
_pack_u64 = struct.Struct(">Q").pack
_unpack_double = struct.Struct(">d").unpack
_NUMBER_BYTES: Final = 9


def text_of(encoded: bytes) -> str | None:
    """Text of an encoded scalar; None for null, which has none."""
    tag = encoded[:1]
    if tag == STRING:
        return _decode_text(encoded)
    if tag == NUMBER:
        return number_text(decode_number(encoded))
    return None if encoded == NULL else _WORDS.get(encoded)


def decode_number(encoded: bytes) -> int | float:
    """The number whose encoding this is: a float, or an integer that lies between two floats."""
    bits = int.from_bytes(encoded[1:_NUMBER_BYTES])
    if not bits:
        return math.nan
    (below,) = _unpack_double(_pack_u64(bits ^ _SIGN if bits & _SIGN else bits ^ _ALL))
    if len(encoded) == _NUMBER_BYTES:
        return float(below)
    return int(below) + int.from_bytes(encoded[_NUMBER_BYTES + 2 :])


def number_text(value: int | float) -> str:
    """A number as JavaScript writes it, but for integers: never rounded."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")
    if value.is_integer() and abs(value) < 10.0**_DIGITS_MAX:
        return str(int(value))
    sign, digit_values, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, digit_values))
    point = len(digits) + int(exponent)
    return ("-" if sign else "") + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    """``digits`` with the decimal point after the first ``point`` of them, in the shortest of the usual forms."""
    if len(digits) <= point <= _DIGITS_MAX:
        return digits + "0" * (point - len(digits))
    if 0 < point <= _DIGITS_MAX:
        return f"{digits[:point]}.{digits[point:]}"
    if -_LEADING_ZEROS_MAX < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"


def _decode_text(encoded: bytes) -> str:
    text = encoded[1:]
    if b"\x02" in text:
        for byte in (b"\x01", b"\x00", b"\x02"):
            text = text.replace(b"\x02" + byte, byte)
    return text.decode()
