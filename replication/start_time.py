"""``start_time``: from when on a new peer is to get data. Text without a zone is refused, never taken for "everything"."""

import math
import re
from datetime import datetime
from typing import Any, Final

from replication.agreements import Unfit

INVALID: Final = "{label} must be an ISO 8601 UTC timestamp, with 'Z' or an offset, or a number of milliseconds"
EPOCH_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_TEXT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T[0-9:.,]{4,20}(Z|[+-]\d{2}(:?\d{2})?)", re.ASCII)
"""A date, a time and a zone; ``fromisoformat`` alone takes much that people do not mean."""


def read_start_time(label: str, value: Any) -> int:
    """Epoch milliseconds. Raises ``Unfit``."""
    if isinstance(value, str) and _TEXT.fullmatch(value):
        try:
            epoch_ms = round(datetime.fromisoformat(value).timestamp() * 1000)
        except (ValueError, OverflowError):
            epoch_ms = -1
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        epoch_ms = round(value)
    else:
        epoch_ms = -1
    if not 0 <= epoch_ms <= EPOCH_MS_MAX:
        raise Unfit(INVALID.format(label=label))
    return epoch_ms
