"""Durations as people write them (``1d``, ``45s``, ``1.5 h``) to float seconds.

Text without a unit is milliseconds; what a bare number means differs by setting, so the caller says it.
"""

import math
import re

DAY_S = 86400.0
_UNIT_S = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": DAY_S,
    "w": 7 * DAY_S,
    "M": 30 * DAY_S,
    "y": 365.25 * DAY_S,
}
_TEXT = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>ms|[smhdwMy])?")
_TEXT_LENGTH_MAX = 40


def duration_s(value: str | float, *, number_unit_s: float) -> float:
    """Seconds of ``value``; a bare number counts in ``number_unit_s``. Raises ``ValueError`` for what is no duration."""
    if isinstance(value, str):
        match = _TEXT.fullmatch(value.strip()) if len(value) <= _TEXT_LENGTH_MAX else None
        if match is None:
            raise ValueError(f"{value[:_TEXT_LENGTH_MAX]!r} is not a duration")
        return float(match["number"]) * _UNIT_S[match["unit"] or "ms"]
    if isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a duration")
    return value * number_unit_s
