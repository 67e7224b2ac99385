"""Levels of the application log, on top of Python's own: what every layer needs in order to log.

Layers log through ``logging.getLogger("<layer>")`` and know nothing of files or of the process; the node routes the
records (``node/observability.py``). Two levels have no counterpart in the ``logging`` module: ``TRACE`` below debug,
and ``NOTIFY`` above all, for what must stand in the log whatever its level (a job's start and end, the start of the
node).
"""

import logging
from collections.abc import Mapping
from typing import Final

TRACE: Final = 5
NOTIFY: Final = 60

LEVELS: Final[Mapping[str, int]] = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "notify": NOTIFY,
}
"""Name -> number, least severe first. A log of one level includes all more severe ones."""

logging.addLevelName(TRACE, "TRACE")
logging.addLevelName(NOTIFY, "NOTIFY")


def level_name(number: int) -> str:
    """The most severe level that ``number`` reaches; libraries are free to use numbers between two levels."""
    name = "trace"
    for candidate, at_least in LEVELS.items():
        if number < at_least:
            break
        name = candidate
    return name
