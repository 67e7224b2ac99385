"""The commit log of one database: append-only, in the order of arrival here.

``lseq`` counts the entries of *this* node's log from 1 and is never used again, not after trimming either. Every entry
also bears its origin's own gap-free number (``oseq``); the *vector* says for each origin up to which all is applied,
and moves in the commit of what it covers. The vector is kept at every 1,024th ``lseq``, so that a reader who wants
what lies behind a vector finds the place without walking the whole log.
"""

import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from storage import codec
from storage.abandoned import Branch, read_branches
from storage.entry import NO_CHAIN, Entry, Origin, decode_stored
from storage.environment import Environment
from storage.errors import Corrupt, LogTrimmed

VECTOR_EVERY: Final = 1024
_HEAD: Final = struct.Struct(">QQQ")
HEAD_KEY: Final = b"head"
"""In ``meta``."""


class Head(NamedTuple):
    """What every commit moves: version of the schema, last ``ts`` given out, last ``lseq``."""

    schema_version: int
    last_ts: int
    lseq: int

    def encoded(self) -> bytes:
        return _HEAD.pack(*self)

    @classmethod
    def decoded(cls, data: bytes | None) -> "Head":
        if data is None:
            return cls(0, 0, 0)
        try:
            return cls(*_HEAD.unpack(data))
        except struct.error as error:
            raise Corrupt(f"the head of the database is damaged: {error}") from error


class Position(NamedTuple):
    """How far an origin's entries are applied here, the chain digest there, and up to where they are trimmed."""

    origin: Origin
    oseq: int
    chain: bytes
    floor: int

    def encoded(self) -> bytes:
        return codec.encode([*self.origin, self.oseq, self.chain, self.floor])

    @classmethod
    def decoded(cls, data: bytes) -> "Position":
        node, store, oseq, chain, floor = codec.decode(data)
        return cls(Origin(node, store), oseq, chain, floor)


class CommitLog:
    """The log as one transaction sees it."""

    __slots__ = ("_handles", "_txn")

    def __init__(self, environment: Environment, txn: Any) -> None:
        self._handles = environment.handles
        self._txn = txn

    def first(self) -> int:
        """Lowest ``lseq`` that is still here, 0 in an empty log."""
        with self._txn.cursor(db=self._handles["log"]) as cursor:
            return int.from_bytes(cursor.key()) if cursor.first() else 0

    def last(self) -> int:
        """Highest ``lseq`` that is still here, 0 in an empty log."""
        with self._txn.cursor(db=self._handles["log"]) as cursor:
            return int.from_bytes(cursor.key()) if cursor.last() else 0

    def entry(self, lseq: int) -> Entry | None:
        """The entry, or None where it was trimmed or never was."""
        data = self._txn.get(lseq.to_bytes(8), db=self._handles["log"])
        return None if data is None else decode_stored(lseq, data)

    def read_after(self, after: int, *, bytes_max: int | None = None) -> Iterator[Entry]:
        """Entries with ``lseq > after``, oldest first.

        Ends after ``bytes_max`` stored bytes but never before one entry: an oversized entry must not stall a reader.
        Raises ``LogTrimmed`` when entries behind ``after`` are gone.
        """
        with self._txn.cursor(db=self._handles["log"]) as cursor:
            following = int.from_bytes(cursor.key()) if cursor.set_range((after + 1).to_bytes(8)) else self._end() + 1
            if following > after + 1:
                raise LogTrimmed(f"the log begins at {following}, behind {after}")
        read_bytes = 0
        for entry, stored_bytes in self._walk(after + 1):
            yield entry
            read_bytes += stored_bytes
            if bytes_max is not None and read_bytes >= bytes_max:
                return

    def place_behind(self, positions: Mapping[Origin, int], *, ignored: Collection[Origin] = ()) -> int:
        """An ``lseq`` up to which nothing is left to read for who is at ``positions``, as late as is known.

        Origins that are not named are at 0; ``ignored`` ones do not matter. Read on from there, and leave out what is
        covered: vectors are kept only every so often.
        """
        with self._txn.cursor(db=self._handles["vectors"]) as cursor:
            if cursor.last():
                for key, data in cursor.iterprev():
                    vector = {Origin(node, store): oseq for node, store, oseq in codec.decode(data)}
                    if all(oseq <= positions.get(of, 0) or of in ignored for of, oseq in vector.items()):
                        return int.from_bytes(key)
        return max(self.first() - 1, 0)

    def branches(self) -> dict[Origin, Branch]:
        """What forks left behind, by own incarnation: entries that are in the log and are nobody's to have."""
        with self._txn.cursor(db=self._handles["meta"]) as cursor:
            branches = read_branches(cursor)
        if not branches:
            return {}
        positions = self.positions()
        return {positions[origin_id].origin: branch for origin_id, branch in branches.items()}

    def chain_at(self, origin: Origin, oseq: int) -> bytes | None:
        """The chain digest of an origin's entry, None where it is not here (any more).

        That of what others may have: entries of a branch that a fork left do not count.
        """
        if oseq == 0:
            return NO_CHAIN
        branch = self.branches().get(origin)
        for entry in self.read_from(self._place_before(origin, oseq) + 1):
            header = entry.header
            if header.origin != origin or header.oseq < oseq or (branch and branch.holds(entry.lseq, header.oseq)):
                continue
            return header.chain if header.oseq == oseq else None
        return None

    def left_chain_at(self, origin: Origin, oseq: int) -> bytes | None:
        """The chain digest of an entry of the branch that a fork left, None where there is none."""
        branch = self.branches().get(origin)
        if branch is None:
            return None
        for entry in self.read_from(self._place_before(origin, oseq, through=branch.last_lseq) + 1):
            header = entry.header
            if entry.lseq > branch.last_lseq:
                return None
            if header.origin == origin and header.oseq == oseq > branch.base:
                return header.chain
        return None

    def _place_before(self, origin: Origin, oseq: int, *, through: int | None = None) -> int:
        """The last ``lseq`` (of those up to ``through``) at which the kept vector has this position still ahead."""
        with self._txn.cursor(db=self._handles["vectors"]) as cursor:
            if cursor.last():
                for key, data in cursor.iterprev():
                    lseq = int.from_bytes(key)
                    vector = {Origin(node, store): at for node, store, at in codec.decode(data)}
                    if vector.get(origin, 0) < oseq and (through is None or lseq <= through):
                        return lseq
        return 0

    def read_from(self, lseq: int = 0) -> Iterator[Entry]:
        """Entries with this ``lseq`` or a greater one, oldest first, as far back as there are any."""
        return (entry for entry, _ in self._walk(lseq))

    def read_before(self, before: int | None = None) -> Iterator[Entry]:
        """Entries with ``lseq < before`` (all where None), newest first."""
        with self._txn.cursor(db=self._handles["log"]) as cursor:
            if before is not None and cursor.set_range(before.to_bytes(8)):
                is_placed = cursor.prev()
            else:
                is_placed = cursor.last()
            if is_placed:
                for key, data in cursor.iterprev():
                    yield decode_stored(int.from_bytes(key), data)

    def _walk(self, lseq: int) -> Iterator[tuple[Entry, int]]:
        """Entries from ``lseq`` on, each with its stored bytes."""
        with self._txn.cursor(db=self._handles["log"]) as cursor:
            if cursor.set_range(lseq.to_bytes(8)):
                for key, data in cursor:
                    yield decode_stored(int.from_bytes(key), data), len(data)

    def _end(self) -> int:
        """The last ``lseq`` given out, whether or not its entry is still here."""
        head = self._txn.get(HEAD_KEY, db=self._handles["meta"])
        return Head.decoded(head).lseq

    def positions(self) -> dict[int, Position]:
        """Short id -> position, of every origin known here."""
        with self._txn.cursor(db=self._handles["origins"]) as cursor:
            return {int.from_bytes(key): Position.decoded(value) for key, value in cursor}

    def size_bytes(self) -> int:
        """Bytes of the pages that hold the log."""
        stat = self._txn.stat(self._handles["log"])
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages * stat["psize"])
