"""The list of conflicts: writes that lost to one that had not seen them, read from the log.

Where two writes of a record meet, what was found of them is noted beside the entry that came second
(``storage/conflicts.py``), so the list is a read of the log and reaches as far back. It is read in two steps: *finding*
walks the log, newest first, a bounded part of it in one transaction, and yields places; *reading* looks up what stands
at a place. So an offset costs no decoding of records.

As in ``storage/history.py``, entries of an older table of the same name and history that was deleted are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NamedTuple

from storage import codec
from storage.entry import Conflict, Entry, Stamp
from storage.schema import Table
from storage.transaction import HIDDEN_KEY, ReadTransaction, stored_key_of

EXAMINED_MAX: Final = 2000
"""Log entries that one transaction looks at: most have no conflict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictFilter:
    """Which conflicts are wanted; a time is the commit time here of the entry that came second, microseconds."""

    table: str | None = None
    stored_key: bytes | None = None
    committed_from: int = 0
    committed_before: int | None = None


class ConflictPlace(NamedTuple):
    """The ``write``-th write of entry ``lseq`` met another. ``decided_at`` is when it came, microseconds."""

    lseq: int
    write: int
    decided_at: int


class ConflictPage(NamedTuple):
    """``resume`` is the ``lseq`` to go on before, None at the end of the log."""

    places: list[ConflictPlace]
    resume: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictingWrite:
    """One of the two. ``user`` and ``record`` are None where the log does not hold the write (``is_known`` tells);
    ``record`` is None for a delete as well.
    """

    stamp: Stamp
    is_known: bool
    user: str | None = None
    record: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedConflict:
    table: str
    key: Any
    winner: ConflictingWrite
    loser: ConflictingWrite
    decided_at: int


def find_conflicts(
    tx: ReadTransaction,
    wanted: ConflictFilter,
    *,
    before: int | None = None,
    limit: int,
    examined_max: int = EXAMINED_MAX,
) -> ConflictPage:
    """Places of wanted conflicts in entries before ``lseq`` ``before``, newest entry first.

    A page ends with the entry that brings it to ``limit``, so it may hold a few more. Commit times of one log may run
    backwards with the wall clock, so the whole log is looked through, whatever times are wanted.
    """
    shown = _ShownTables(tx)
    places: list[ConflictPlace] = []
    last: int | None = None
    for entry in islice(tx.log.read_before(before), examined_max):
        last = entry.lseq
        if entry.conflicts and _is_in_window(entry, wanted):
            places += _places_in(entry, wanted, shown)
        if len(places) >= limit:
            break
    return ConflictPage(places, last if last is not None and last > tx.log.first() else None)


def read_conflicts(tx: ReadTransaction, places: Sequence[ConflictPlace]) -> Iterator[DecidedConflict]:
    """What stands at ``places``, in their order; one whose entry is no longer in the log is left out."""
    shown = _ShownTables(tx)
    for place in places:
        entry = tx.log.entry(place.lseq)
        conflict = None if entry is None else next((c for c in entry.conflicts if c.write == place.write), None)
        if entry is not None and conflict is not None:
            write = entry.writes()[conflict.write]
            if shown.shows(entry, write["t"]):
                yield _decided(tx, shown, entry, write, conflict)


class _ShownTables:
    """Tables as one transaction has them, and what of their history is shown."""

    def __init__(self, tx: ReadTransaction) -> None:
        self._tx = tx
        self._tables = tx.schema().tables
        self._hidden_before: dict[str, int] = {}

    def shows(self, entry: Entry, name: str) -> bool:
        """Whether an entry's writes of a table are history of the one that is there now, and not deleted."""
        table = self._tables.get(name)
        if table is None or entry.header.ts < table.definition.created:
            return False
        return entry.committed_at >= self._hidden(table)

    def _hidden(self, table: Table) -> int:
        if table.name not in self._hidden_before:
            key = HIDDEN_KEY + table.id.to_bytes(4)
            data = self._tx.txn.get(key, db=self._tx.environment.handles["meta"])
            self._hidden_before[table.name] = 0 if data is None else int.from_bytes(data)
        return self._hidden_before[table.name]


def _is_in_window(entry: Entry, wanted: ConflictFilter) -> bool:
    return wanted.committed_from <= entry.committed_at and (
        wanted.committed_before is None or entry.committed_at < wanted.committed_before
    )


def _places_in(entry: Entry, wanted: ConflictFilter, shown: _ShownTables) -> Iterator[ConflictPlace]:
    writes = entry.writes()
    for conflict in entry.conflicts:
        write = writes[conflict.write]
        is_wanted = wanted.table in (None, write["t"]) and (
            wanted.stored_key is None or stored_key_of(write["k"]) == wanted.stored_key
        )
        if is_wanted and shown.shows(entry, write["t"]):
            yield ConflictPlace(entry.lseq, conflict.write, entry.committed_at)


def _decided(
    tx: ReadTransaction, shown: _ShownTables, entry: Entry, write: dict[str, Any], conflict: Conflict
) -> DecidedConflict:
    came_second = _known(entry, write)
    came_first = _other(tx, shown, write, conflict)
    loser, winner = sorted((came_first, came_second), key=lambda side: side.stamp)
    return DecidedConflict(table=write["t"], key=write["k"], winner=winner, loser=loser, decided_at=entry.committed_at)


def _other(tx: ReadTransaction, shown: _ShownTables, write: dict[str, Any], conflict: Conflict) -> ConflictingWrite:
    """The write that was here, from its own entry: gone, perhaps, or never there where a copy brought the row."""
    entry = tx.log.entry(conflict.lseq) if conflict.lseq else None
    if entry is not None and shown.shows(entry, write["t"]):
        for other in entry.writes():
            if other["t"] == write["t"] and other["k"] == write["k"]:
                known = _known(entry, other)
                if known.stamp == conflict.other:
                    return known
    return ConflictingWrite(stamp=conflict.other, is_known=False)


def _known(entry: Entry, write: dict[str, Any]) -> ConflictingWrite:
    """Of a restatement the log does not tell who wrote it in the first place."""
    header = entry.header
    is_restated = "s" in write
    return ConflictingWrite(
        stamp=Stamp(*write["s"]) if is_restated else Stamp(header.ts, *header.origin, header.oseq),
        is_known=True,
        user=None if is_restated else header.user,
        record=codec.decode(write["v"]) if write["op"] == "put" else None,
    )
