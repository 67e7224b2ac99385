"""Durations in settings and requests, as numbers or texts (``1d``, ``20h``), to float seconds."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

_TEXT: Final = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?) *([A-Za-z]{0,2})", re.ASCII)
SECONDS_MAX: Final = 1e12
"""Some thirty thousand years: whatever is longer is a mistake."""


def duration_s(value: Any, units: Mapping[str, float]) -> float:
    """Seconds of ``value``. A number counts in seconds, a text in the unit it ends with; ``units[""]`` is that of bare
    digits. Raises ``ValueError`` for what is no duration.
    """
    if type(value) in (int, float) and math.isfinite(value):
        seconds = float(value)
    else:
        match = _TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or match[2] not in units:
            raise ValueError(f"{str(value)[:40]!r} is not a duration")
        seconds = float(match[1]) * units[match[2]]
    if abs(seconds) > SECONDS_MAX:
        raise ValueError("the duration is out of range")
    return seconds
