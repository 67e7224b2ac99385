"""Values of conditions as their attribute wants them: text from a URL or a form becomes a number, a date, a boolean.

A typed attribute's value is converted to its type. On an untyped one only text is touched, and only where the condition
used one of the short names of ``AUTO_CAST_NAMES``: ``eq "38"`` finds the number, ``equals "38"`` the text.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from storage.conditions import BOUNDED, COMPARATORS, Comparator
from storage.errors import InvalidValue
from storage.schema import Attribute
from storage.typed_values import Unfit, parse_date

AUTO_CAST_NAMES: Final = frozenset(("eq", "ne", "gt", "ge", "lt", "le"))
DIGITS_MAX: Final = 300
"""Longest integer that is read as one: what an answer can show."""

_WORDS: Final[Mapping[str, Any]] = {
    "true": True,
    "TRUE": True,
    "false": False,
    "FALSE": False,
    "null": None,
    "NULL": None,
    "undefined": None,
}
_INTEGER: Final = re.compile(rf"-?[0-9]{{1,{DIGITS_MAX}}}", re.ASCII)
_PLAIN_NUMBER: Final = re.compile(rf"-?(?:0|[1-9][0-9]{{0,{DIGITS_MAX - 1}}})(\.[0-9]+)?", re.ASCII)
_DECIMAL: Final = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?\s*", re.ASCII)
_ZONED_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z|[-+][0-9]{2}:?[0-9]{2})", re.ASCII
)


def coerced(attribute: Attribute | None, comparator_name: str, value: Any) -> Any:
    """The value to compare with. ``comparator_name`` is as the client sent it; bounds are converted each.

    Raises ``InvalidValue`` where the text does not fit the attribute's type.
    """
    comparator = COMPARATORS.get(comparator_name)
    if comparator in BOUNDED or (comparator is Comparator.PREFIX and isinstance(value, list | tuple)):
        return type(value)(_coerced_one(attribute, comparator_name, bound) for bound in value)
    return _coerced_one(attribute, comparator_name, value)


def auto_cast(value: Any) -> Any:
    """Text that reads as a boolean, null, plain decimal number or zoned instant as that; anything else unchanged."""
    if not isinstance(value, str):
        return value
    if value in _WORDS:
        return _WORDS[value]
    number = _PLAIN_NUMBER.fullmatch(value)
    if number is not None:
        return float(value) if number[1] else int(value)
    if _ZONED_INSTANT.fullmatch(value):
        try:
            return parse_date(value)
        except Unfit:
            return value
    return value


def _coerced_one(attribute: Attribute | None, comparator_name: str, value: Any) -> Any:
    kind = _scalar_type(attribute)
    if kind is None:
        return auto_cast(value) if comparator_name in AUTO_CAST_NAMES else value
    if value is None or isinstance(value, list):
        return value
    if value == "" and kind not in ("String", "Any"):
        return None
    try:
        return _CONVERTERS[kind](value)
    except Unfit:
        name = attribute.name if attribute else ""
        raise InvalidValue(f'Invalid value for attribute {name}: "{_shown(value)}", expecting {kind}') from None


def _scalar_type(attribute: Attribute | None) -> str | None:
    """The declared type of what is compared (of an array its elements); None where conditions take values as sent."""
    if attribute is None:
        return None
    kind = attribute.elements if attribute.type == "array" else attribute.type
    return kind if kind in _CONVERTERS else None


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _integer(value: Any) -> Any:
    if isinstance(value, str):
        if value == "null":
            return None
        if not _INTEGER.fullmatch(value):
            raise Unfit
        return int(value)
    return _number_as_sent(value)


def _float(value: Any) -> Any:
    if not isinstance(value, str):
        return _number_as_sent(value)
    if value == "null":
        return None
    if not _DECIMAL.fullmatch(value):
        raise Unfit
    number = float(value)
    if not math.isfinite(number):
        raise Unfit
    return number


def _number_as_sent(value: Any) -> Any:
    if type(value) in (int, float):
        return value
    raise Unfit


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise Unfit


def _date(value: Any) -> Any:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        return _number_as_sent(value)
    if value == "null":
        return None
    return float(value) if _DECIMAL.fullmatch(value) else parse_date(value)


def _unchanged(value: Any) -> Any:
    return value


_CONVERTERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "Int": _integer,
    "Long": _integer,
    "BigInt": _integer,
    "Float": _float,
    "Boolean": _boolean,
    "Date": _date,
    "String": _unchanged,
    "ID": _unchanged,
    "Any": auto_cast,
}
