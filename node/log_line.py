"""One line of the application log: ``<timestamp> [<thread>/<id>] [<level>] [<tag>]…: <message>``.

A message may go on over several lines, up to the next line that starts with a timestamp. Much of what is logged comes
from outside, so no message can make such a start itself, move a terminal's cursor, or grow without limit.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from ops.log_thread import current_log_thread
from storage.log_levels import level_name

MESSAGE_LENGTH_MAX: Final = 64 * 1024
"""Longest message in characters; the rest is counted and dropped."""
UNTAGGED: Final = frozenset(("root", "node", "job"))
"""Loggers whose name says nothing beyond what the thread says; every other logger's name is a tag."""
_TAG_LENGTH_MAX: Final = 64
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_FORGED_START: Final = re.compile(r"\n(?=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")
_NO_TAG: Final = re.compile(r"[\s\[\]:]+")
_exceptions: Final = logging.Formatter()


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """``text`` is the line without its timestamp and without a line end."""

    timestamp: str
    level: int
    text: str

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory: a bound on queues, not a length on disk."""
        return len(self.text) + 100

    def encoded(self) -> bytes:
        """As it stands in the file."""
        return f"{self.timestamp} {self.text}\n".encode("utf-8", "backslashreplace")


def line_of(record: logging.LogRecord, *, tag: str | None = None) -> LogLine:
    """The line of a record, tagged with ``tag`` instead of the logger's name, and with the record's own ``tags``.

    To be called where the record was made: the thread's name belongs to the running task.
    """
    own_tag = tag or (None if record.name in UNTAGGED else record.name)
    tags = [own_tag] if own_tag else []
    tags += getattr(record, "tags", ())
    return make_line(_message_of(record), level=record.levelno, tags=tags, created_s=record.created)


def make_line(
    message: str, *, level: int, created_s: float, tags: Sequence[str] = (), thread: str | None = None
) -> LogLine:
    """A line made without a record. ``created_s`` counts from the epoch."""
    marks = "".join(f" [{_clean_tag(tag)}]" for tag in tags)
    text = f"[{thread or current_log_thread()}] [{level_name(level)}]{marks}: {_clean_message(message)}"
    return LogLine(timestamp=timestamp(created_s), level=level, text=text)


def timestamp(at_s: float) -> str:
    """ISO 8601, UTC, milliseconds: 24 characters, whose order is that of time."""
    second, millisecond = divmod(int(at_s * 1000), 1000)
    return f"{_second_text(second)}.{millisecond:03d}Z"


@lru_cache(maxsize=4)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _message_of(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        message += f"\n{_exceptions.formatException(record.exc_info)}"
    if record.stack_info:
        message += f"\n{record.stack_info}"
    return message


def _clean_message(message: str) -> str:
    if len(message) > MESSAGE_LENGTH_MAX:
        message = f"{message[:MESSAGE_LENGTH_MAX]}… ({len(message) - MESSAGE_LENGTH_MAX} characters more)"
    message = message.replace("\r\n", "\n")
    message = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], message)
    return _FORGED_START.sub("\n ", message)


def _clean_tag(tag: str) -> str:
    return _NO_TAG.sub("-", _CONTROLS.sub("-", tag[:_TAG_LENGTH_MAX]))
