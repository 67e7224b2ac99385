"""Reads entries out of a log file for ``read_log``, forwards or from the end, in memory that the answer's length
bounds.

An entry is a line ``<timestamp> [<thread>/<id>] [<level>] [<tag>]…: <message>`` and what follows up to the next such
line. The order of the file is taken for the order of time: lines are appended as they are made, and those of several
processes differ by moments. The entries of an answer are put in exact order.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeAlias

Order: TypeAlias = Literal["asc", "desc"]
ENTRY_BYTES_MAX: Final = 1024 * 1024
"""A longer entry is cut: a damaged file may be one endless line."""
_BLOCK_BYTES: Final = 64 * 1024
_COUNT_MAX: Final = 1 << 53
_HEAD_BYTES_MAX: Final = 4096
_HEAD: Final = re.compile(
    rb"^(?P<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"
    rb" \[(?P<thread>[^\]\n]{1,200})\] \[(?P<level>[a-z]{1,16})\](?P<tags>(?: \[[^\]\n]{0,200}\]){0,10}): ",
    re.MULTILINE,
)
"""Shorter than ``_HEAD_BYTES_MAX``, by its bounds."""


def read_entries(
    path: Path,
    *,
    start: int = 0,
    limit: int = 1000,
    level: str | None = None,
    from_: datetime | None = None,
    to: datetime | None = None,
    order: Order | None = None,
    filter: str | None = None,
) -> list[dict[str, Any]]:
    """``limit`` matching entries after ``start`` others: the oldest ones, or, with ``desc``, the newest ones, newest
    first.

    Blocks for as much of the file as it takes to find them. Raises ``OSError`` where the file cannot be read. What is
    appended meanwhile is not read; a file that is rotated meanwhile is read to its end. ``level`` is exact, the
    bounds are inclusive, ``filter`` must occur somewhere in the entry.
    """
    matches = _Matcher(level=level, from_=from_, to=to, text=filter)
    with path.open("rb", buffering=_BLOCK_BYTES) as stream:
        size_bytes = stream.seek(0, 2)
        entries = _backwards(stream, size_bytes) if order == "desc" else _forwards(stream, size_bytes)
        chosen = islice(matches.only(entries), min(start, _COUNT_MAX), min(start + limit, _COUNT_MAX))
        page = [_described(entry) for entry in chosen]
    if order is not None:
        page.sort(key=lambda entry: str(entry["timestamp"]), reverse=order == "desc")
    return page


class _Matcher:
    """What is asked for, made ready for the bytes of a file: comparisons without decoding."""

    def __init__(self, *, level: str | None, from_: datetime | None, to: datetime | None, text: str | None) -> None:
        self._level = None if level is None else level.encode()
        self._text = None if text is None else text.encode("utf-8", "backslashreplace")
        self._from = None if from_ is None else _bound(from_ + timedelta(microseconds=999))
        self._to = None if to is None else _bound(to)

    def only(self, entries: Iterable[bytes]) -> Iterator[tuple[bytes, re.Match[bytes]]]:
        for entry in entries:
            head = _HEAD.match(entry)
            if head is not None and self._fits(entry, head):
                yield entry, head

    def _fits(self, entry: bytes, head: re.Match[bytes]) -> bool:
        at = head["timestamp"]
        return (
            (self._level is None or head["level"] == self._level)
            and (self._from is None or at >= self._from)
            and (self._to is None or at <= self._to)
            and (self._text is None or self._text in entry)
        )


def _bound(at: datetime) -> bytes:
    """As the log writes it, cut to milliseconds: texts of one length, whose order is that of time."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z".encode()


def _described(found: tuple[bytes, re.Match[bytes]]) -> dict[str, Any]:
    entry, head = found
    tags = head["tags"].decode("utf-8", "replace").strip()
    return {
        "timestamp": head["timestamp"].decode(),
        "thread": head["thread"].decode("utf-8", "replace"),
        "level": head["level"].decode(),
        "tags": tags[1:-1].split("] [") if tags else [],
        "message": entry[head.end() :].removesuffix(b"\n").decode("utf-8", "replace"),
    }


def _forwards(stream: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    """Entries from the beginning. Lines before the first head belong to a file that was cut, and to no entry."""
    stream.seek(0)
    entry = bytearray()
    is_line_start = True
    while size_bytes > 0:
        piece = stream.readline(min(size_bytes, _BLOCK_BYTES))
        if not piece:
            break
        size_bytes -= len(piece)
        if is_line_start and _HEAD.match(piece):
            if entry:
                yield bytes(entry)
            entry = bytearray(piece)
        elif entry and len(entry) < ENTRY_BYTES_MAX:
            entry += piece[: ENTRY_BYTES_MAX - len(entry)]
        is_line_start = piece.endswith(b"\n")
    if entry:
        yield bytes(entry)


def _backwards(stream: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    """Entries from the end, block by block. ``rest`` is what was read of an entry whose head is further in front."""
    rest = b""
    while size_bytes > 0:
        begins = max(0, size_bytes - _BLOCK_BYTES)
        stream.seek(begins)
        block = stream.read(size_bytes - begins)
        data = block + rest
        heads = list(_heads(data, len(block), is_file_start=begins == 0))
        ends = len(data)
        for at in reversed(heads):
            yield data[at : min(ends, at + ENTRY_BYTES_MAX)]
            ends = at
        rest = data[: min(ends, ENTRY_BYTES_MAX)]
        size_bytes = begins


def _heads(data: bytes, before: int, *, is_file_start: bool) -> Iterator[int]:
    """Where entries begin in a block of ``before`` bytes, or right behind it.

    Whether the very first byte begins a line is known only at the start of the file. Elsewhere it is looked at again,
    as the byte behind the next block.
    """
    for head in _HEAD.finditer(data, 0, min(len(data), before + _HEAD_BYTES_MAX)):
        if head.start() > before:
            return
        if head.start() > 0 or is_file_start:
            yield head.start()
