"""Durations as numbers and texts."""

from typing import Any

import pytest

from ops.durations import duration_s

UNITS_S = {"": 0.001, "s": 1.0, "h": 3600.0}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(60, 60), (1.5, 1.5), (0, 0), (-1, -1), ("2h", 7200), ("1.5 h", 5400), ("500", 0.5), ("-1s", -1), (" 3s ", 3)],
)
def test_a_duration_is_read(value: Any, seconds: float) -> None:
    assert duration_s(value, UNITS_S) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "h", "1x", "1 hour", "1h2", "1e3", "١s", "1s\n1s", "9" * 16, True, None, [], float("nan"), float("inf"), 1e13],
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        duration_s(value, UNITS_S)
