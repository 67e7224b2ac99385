"""Branches that a fork left behind: own entries whose numbers somebody else knows with other contents.

Of two entries with one number only one can be served. The node that made both keeps its own for the audit and takes the
others' like those of any origin, so its log holds the numbers above ``base`` twice: up to ``last_lseq`` its own, which
nobody is ever sent, and behind it what peers sent back. ``storage/fork.py`` tells how that comes about.

In ``meta``: ``fork:<short id of the origin, u32>`` -> CBOR ``[base, last_lseq, place]``.
"""

from typing import Any, Final, NamedTuple

from storage import codec
from storage.errors import Corrupt

FORK_KEY: Final = b"fork:"


class Place(NamedTuple):
    """Where restating goes on: behind the stored key ``key`` of a table's rows, or then of its tombstones."""

    table_id: int = 0
    is_in_tombstones: bool = False
    key: bytes = b""


class Branch(NamedTuple):
    """The own entries of one origin above position ``base`` and up to ``last_lseq`` of the log. There may be none.

    ``place``: where restating what they wrote goes on, None once all of it is restated.
    """

    base: int
    last_lseq: int
    place: Place | None

    def holds(self, lseq: int, oseq: int) -> bool:
        """Whether an entry of this origin is of the branch that was left."""
        return lseq <= self.last_lseq and oseq > self.base

    def encoded(self) -> bytes:
        return codec.encode([self.base, self.last_lseq, None if self.place is None else list(self.place)])

    @classmethod
    def decoded(cls, data: bytes) -> "Branch":
        try:
            base, last_lseq, place = codec.decode(data)
            return cls(base, last_lseq, None if place is None else Place(*place))
        except (TypeError, ValueError) as error:
            raise Corrupt(f"what a fork left is damaged: {error}") from error


def not_forked(oseq: int, lseq: int) -> Branch:
    """What is noted of a life that has proven to be the beginning of what others have: a branch without entries."""
    return Branch(oseq, lseq, None)


def fork_key(origin_id: int) -> bytes:
    return FORK_KEY + origin_id.to_bytes(4)


def read_branches(meta: Any) -> dict[int, Branch]:
    """By short id of the origin, with a cursor of ``meta``."""
    branches: dict[int, Branch] = {}
    if meta.set_range(FORK_KEY):
        for key, data in meta:
            if not key.startswith(FORK_KEY):
                break
            branches[int.from_bytes(key[len(FORK_KEY) :])] = Branch.decoded(data)
    return branches
