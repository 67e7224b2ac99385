"""Hybrid logical clock, as pure functions. (Kulkarni et al., "Logical Physical Clocks", 2014; without a counter:
a tick is one microsecond.)

An instant is an ``int``: microseconds since 1970-01-01 UTC. The last one given out stands in the database and is read
and written inside the write transaction, so it never goes backwards, not across processes and not across restarts.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeAlias

WallClock: TypeAlias = Callable[[], int]
"""Gives the time of day in microseconds; handed in, so that tests and simulations bring their own."""

RELEASED_AT_US: Final = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""A wall clock earlier than this software is not set; writes wait until it is."""
INSTANT_US_MAX: Final = 253_402_300_799_999_999
"""The end of the year 9999. What claims to be later was never a clock's: no date shows it, and a write that has to be
later than its record could have no time left.
"""


def wall_clock() -> int:
    return time.time_ns() // 1000


def tick(*, now_us: int, last_us: int, touched_us: int, skew_us_max: int) -> tuple[int, int]:
    """``(ts, last)``: the time of a new transaction and the value to keep as the last one given out.

    ``touched_us`` is the greatest stamp among the rows and tombstones that the transaction touches: a write made after
    seeing a value always beats it, even if that value came from a clock that runs ahead. Such a stamp raises the kept
    value only up to ``now + skew``, so that one wrong clock cannot drag the others into the future.
    """
    ts = max(now_us, last_us + 1, touched_us + 1)
    return ts, max(last_us, min(ts, max(now_us, last_us + 1) + skew_us_max))


def milliseconds(ts: int) -> int | float:
    """A time as clients see it: epoch milliseconds, with a fraction only where there is one."""
    whole, fraction = divmod(ts, 1000)
    return ts / 1000 if fraction else whole
