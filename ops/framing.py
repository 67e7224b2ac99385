"""How a list goes out in pieces: what stands before the first row, between, after the last, and where there are none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """``rows`` encodes one or more rows; pieces of one list are joined with ``separator``."""

    rows: Callable[[Sequence[Any]], bytes]
    head: bytes = b""
    separator: bytes = b""
    tail: bytes = b""
    empty: bytes = b""
    """The whole of a list without rows."""
