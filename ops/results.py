"""What a handler may return beside plain values."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordList:
    """A whole list with the columns it was asked for, which CSV needs for its header."""

    records: Sequence[Any]
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordStream:
    """A list in pages. Status and head go out before the last record is known; a failure afterwards becomes an
    element.
    """

    pages: AsyncGenerator[Sequence[Any], None]
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """Bytes as they are, whatever the client accepts; ``headers`` include the content type."""

    chunks: AsyncIterator[bytes]
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WithHeaders:
    """A result with response headers of its own (a session cookie)."""

    result: Any
    headers: tuple[tuple[str, str], ...] = field(default=())
