"""Values as they arrive (text of the environment and the command line, short forms of clients) to what they mean.

The table is the one that CSV fields without a declared type follow, with what settings need beside it: ``undefined``
is null, and text that is a JSON object or array is parsed. Numbers are recognised strictly: ``00123`` and ``1e5`` stay
text, as does anything for a parameter that takes nothing but text (a host may be named ``123``).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping

from node.parameter import Json, Kind, Parameter, Path
from node.tree import leaves

DATABASES_PATH: Path = ("databases",)

_CONSTANTS: dict[str, Json] = {
    "true": True,
    "TRUE": True,
    "false": False,
    "FALSE": False,
    "null": None,
    "NULL": None,
    "undefined": None,
    "NaN": math.nan,
}
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_TEXT_KINDS = frozenset({Kind.TEXT, Kind.PATH})
_NULLS = frozenset(text for text, value in _CONSTANTS.items() if value is None)


def value_of_text(text: str) -> Json:
    """What ``text`` means by itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] in ("{}", "[]"):
        return _parsed(text)
    return _number(stripped, text)


def value_for(parameter: Parameter, text: str) -> Json:
    """What ``text`` means as the value of ``parameter``."""
    if _TEXT_KINDS.issuperset(parameter.kinds):
        return None if text in _NULLS else text
    return value_of_text(text)


def assignments(parameter: Parameter, value: Json) -> Iterator[tuple[Path, Json]]:
    """Where in the file ``value`` goes. ``databases`` takes a list of objects too, and adds to what is there."""
    entries = value if isinstance(value, list) else [value]
    if parameter.path != DATABASES_PATH or not all(isinstance(entry, Mapping) for entry in entries):
        yield parameter.path, value
        return
    for entry in entries:
        yield from leaves(entry, DATABASES_PATH)


def _parsed(text: str) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _number(stripped: str, text: str) -> Json:
    if not _NUMBER.fullmatch(stripped):
        return text
    if stripped.startswith("0") and stripped != "0" and not stripped.startswith("0."):
        return text
    number = float(stripped)
    if not math.isfinite(number):
        return text
    return int(stripped) if stripped.lstrip("+-").isdigit() else number
