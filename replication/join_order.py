"""Which comes first where nodes that have no peers yet ask each other at the same moment. Pure.

A join may give the asking node a certificate of another authority. Whoever it answered meanwhile has been told of the old
authority, cannot verify it any more, and knows nobody else who could tell: so a node that joins by itself either asks
or answers. Two that ask each other are both refused, and try again at times of their own.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class JoinOrder:
    """Both yield whether it may be done now."""

    def __init__(self) -> None:
        self._answering = 0
        self._is_asking = False

    @contextmanager
    def answering(self) -> Iterator[bool]:
        if self._is_asking:
            yield False
            return
        self._answering += 1
        try:
            yield True
        finally:
            self._answering -= 1

    @contextmanager
    def asking(self) -> Iterator[bool]:
        """By one task at a time."""
        if self._answering:
            yield False
            return
        self._is_asking = True
        try:
            yield True
        finally:
            self._is_asking = False
