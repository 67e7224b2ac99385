"""Durations as people write them (``1d``, ``45s``, ``1.5 h``) to float seconds.

Text without a unit is milliseconds; what a bare number means differs by setting, so the caller says it.
"""

from ops.durations import duration_s as read_duration_s

DAY_S = 86400.0
_UNIT_S = {
    "": 0.001,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": DAY_S,
    "w": 7 * DAY_S,
    "M": 30 * DAY_S,
    "y": 365.25 * DAY_S,
}


def duration_s(value: str | float, *, number_unit_s: float) -> float:
    """Seconds of ``value``; a bare number counts in ``number_unit_s``. Raises ``ValueError`` for what is no duration."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration")
    seconds = read_duration_s(value, _UNIT_S)
    if seconds < 0:
        raise ValueError(f"{value!r} is not a duration")
    return seconds if isinstance(value, str) else seconds * number_unit_s
