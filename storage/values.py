"""The value model: what a record may hold, whatever format it came in.

None, bool, int, float, str, bytes, datetime, list, and dict with text keys. What decoders give is brought to one form
here, so that one value has one representation:

- A float with an integral value is an int (``4.0`` is ``4``, ``-0.0`` is ``0``) below 10^16. From there on a float is
  written with an exponent and stays one: it stands for a range of integers, whose digits nobody wrote (``1.989e30``).
- An integer lies within the range of a double, as the order of keys is that of numbers.
- A datetime is UTC and has whole milliseconds.
- Lists and objects are nested ``NESTING_MAX`` deep at most.
"""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import cbor2

from storage import codec
from storage.errors import InvalidValue
from storage.text_form import number_text

NESTING_MAX: Final = codec.NESTING_MAX + 8
"""Levels of lists and objects in one decoded value, the outermost counted: a record's and those of a request around
it.
"""
EXPONENT_FROM: Final = 1e16
"""Floats below are written with all their digits. One limit for reading and writing, so that JSON reads back the
same.
"""
ABSENT: Final = cbor2.undefined
"""What decoders give for JavaScript's ``undefined``: a member that is not there."""

_WORD_MAX: Final = 1 << 63
_WORD_MIN: Final = -_WORD_MAX
_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST_MOMENT: Final = datetime.max.replace(microsecond=999_000, tzinfo=UTC)


def number(value: float) -> int | float:
    """A float in the form of the value model."""
    if value.is_integer() and -EXPONENT_FROM < value < EXPONENT_FROM:
        return int(value)
    return value


def at_milliseconds(moment: datetime) -> datetime:
    """The same instant in UTC, at the nearest millisecond; one without a zone is taken as UTC.

    The nearest and not the one before: a double, in which CBOR carries seconds, is microseconds off in far years.
    Raises ``OverflowError`` where UTC has no such year.
    """
    if moment.tzinfo is UTC:
        utc = moment
    else:
        utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    excess_us = utc.microsecond % 1000
    if not excess_us:
        return utc
    before = utc.replace(microsecond=utc.microsecond - excess_us)
    if excess_us < 500 or before == _LAST_MOMENT:
        return before
    return before + _MILLISECOND


def iso_text(moment: datetime) -> str:
    """ISO-8601 in UTC with exactly three digits of milliseconds: ``2026-11-24T08:00:00.000Z``."""
    return at_milliseconds(moment).isoformat(timespec="milliseconds")[:-6] + "Z"


def settle_floats(container: Any, depth: int = 1) -> bool:
    """Give the numbers of decoded JSON their form, in place; the rest of the model JSON cannot miss.

    True where a float is so great that it may have been written as an integer of more than 64 bits. Raises
    ``InvalidValue`` for what is nested too deeply. Every bulk write passes here: a thousand records of ten attributes
    take 0.4 ms, as long as orjson needs for them. (A search of the bytes for such numbers is no faster.)
    """
    if depth > NESTING_MAX:
        raise _too_deep()
    found = False
    for place, value in container.items() if container.__class__ is dict else enumerate(container):
        kind = value.__class__
        if kind is str or kind is int:
            continue
        if kind is float:
            if value.is_integer():
                if -EXPONENT_FROM < value < EXPONENT_FROM:
                    container[place] = int(value)
                elif value >= _WORD_MAX or value <= _WORD_MIN:
                    found = True
        elif (kind is dict or kind is list) and settle_floats(value, depth + 1):
            found = True
    return found


def normalise(value: Any, depth: int = 1) -> Any:
    """A decoded value in the form of the model; objects are made anew.

    Numbers as member names become their decimal text. A member that is ``ABSENT`` is left out, in a list it is None.
    Raises ``InvalidValue`` for what the model does not have.
    """
    kind = value.__class__
    if kind is str or kind is bool or value is None or kind is bytes:
        return value
    if kind is int:
        return value if _WORD_MIN <= value <= _WORD_MAX else _checked_integer(value)
    if kind is float:
        return number(value)
    if kind is dict or kind is list:
        return _normalised_container(value, depth)
    if kind is datetime:
        return _normalised_datetime(value)
    if value is ABSENT:
        return None
    raise InvalidValue(f"Values of type {kind.__name__} are not supported")


def _normalised_container(value: dict[Any, Any] | list[Any], depth: int) -> dict[str, Any] | list[Any]:
    if depth > NESTING_MAX:
        raise _too_deep()
    inside = depth + 1
    if isinstance(value, list):
        return [item if item.__class__ is str else normalise(item, inside) for item in value]
    return {
        (name if name.__class__ is str else _member_name(name)): (
            item if item.__class__ is str else normalise(item, inside)
        )
        for name, item in value.items()
        if item is not ABSENT
    }


def _member_name(name: Any) -> str:
    if name.__class__ is int:
        return str(_checked_integer(name))
    if name.__class__ is float and math.isfinite(name):
        return number_text(name)
    raise InvalidValue("Names of an object's members must be strings or finite numbers")


def _checked_integer(value: int) -> int:
    try:
        float(value)
    except OverflowError:
        raise InvalidValue("Integers beyond the range of a double are not supported") from None
    return value


def _normalised_datetime(value: datetime) -> datetime:
    try:
        return at_milliseconds(value)
    except OverflowError:
        raise InvalidValue("Dates must lie in the years 1 to 9999 of UTC") from None


def _too_deep() -> InvalidValue:
    return InvalidValue(f"Values are nested deeper than {NESTING_MAX} levels")
