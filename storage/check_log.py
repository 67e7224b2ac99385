"""Checks the commit log: entries by themselves, gap-free and chained per origin, and folded against rows and
tombstones.

The fold keeps no state per record. For every write of the log, the row (or tombstone) must have a stamp that is not
smaller, and where it is the same, the same bytes: so no write of the log is missing. ``check_rows`` counts that every
row that says it comes from an entry was met here: so no row comes from nowhere. Together that is the fold.

What a node rightly removed is allowed for: entries before the first, reduced entries, rows of tables that are
incomplete, records whose expiry passed, and a foreign write so old that the tombstone which beat it may be gone. So is
what a fork left: own entries whose numbers peers fill with others, chained among themselves. So is
what a copy did: entries of its origins that never came, up to their floor; records whose last write its publisher had
seen go; own writes as old, as the tombstone which beat them may have come without an entry.
"""

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

from storage import codec, keys
from storage.check_marks import check_mark_entry, check_noted_marks
from storage.check_report import Report
from storage.check_snapshot import Snapshot
from storage.commit_log import VECTOR_EVERY
from storage.entry import Entry, Origin, decode_stored
from storage.errors import Corrupt, InvalidKey
from storage.record import Row, decode_row
from storage.schema import Table

SKEW_US: Final = 60_000_000
"""How far apart the clocks of members may be."""
DECODED_MAX: Final = 8
"""Entries kept decoded for the links of later ones: the writes of one request tend to come from one entry."""
_NO_CHAIN: Final = bytes(16)

Stamp: TypeAlias = tuple[int, str, str, int]
Writes: TypeAlias = dict[tuple[str, bytes], Stamp]


class _Absent(NamedTuple):
    """Newest write in the log of a record that its table does not know."""

    stamp: Stamp
    lseq: int
    expires_at_ms: int | None
    may_be_purged: bool


@dataclass(slots=True)
class LogFindings:
    """What rows are compared with. ``winners``: table id -> rows and tombstones met as the outcome of an entry."""

    first: int
    last: int
    reduced: set[int] = field(default_factory=set)
    winners: dict[int, int] = field(default_factory=dict)

    def is_in_log(self, lseq: int) -> bool:
        """Whether a row with this ``lseq`` has to be found in the log."""
        return 0 < self.first <= lseq <= self.last and lseq not in self.reduced

    def holds(self, snapshot: Snapshot, table: Table, stored_key: bytes, row: Row) -> bool:
        """Whether the entry of the row's ``lseq`` holds exactly this write."""
        writes = _writes_at(snapshot, row.lseq)
        return writes is not None and writes.get((table.name, stored_key)) == _row_stamp(snapshot, row)


@dataclass(slots=True)
class _Progress:
    """Where the walk is with one origin."""

    oseq: int
    chain: bytes | None


def check_log(snapshot: Snapshot, report: Report) -> LogFindings:
    return _LogWalk(snapshot, report).run()


class _LogWalk:
    """One walk, oldest entry first."""

    def __init__(self, snapshot: Snapshot, report: Report) -> None:
        self._snapshot = snapshot
        self._report = report
        self._tables = {table.name: table for table in snapshot.tables.values()}
        self._floors = {position.origin: position.floor for position in snapshot.positions.values()}
        self._ends = {position.origin: position for position in snapshot.positions.values()}
        copied = snapshot.copied or {}
        self._copied = {position.origin: copied.get(of, 0) for of, position in snapshot.positions.items()}
        self._own = Origin(self._own_node(), (snapshot.get("meta", b"store") or b"").decode())
        self._branches = {
            snapshot.positions[of].origin: b for of, b in snapshot.branches.items() if of in snapshot.positions
        }
        self._progress: dict[Origin, _Progress] = {}
        self._left: dict[Origin, _Progress] = {}
        """Where the walk is on branches that forks left."""
        self._unseen_vectors: dict[Origin, list[tuple[int, int]]] = {}
        self._absent: dict[tuple[int, bytes], _Absent] = {}
        self._decoded: OrderedDict[int, Writes | None] = OrderedDict()
        self._marks: dict[str, int] = {}
        self._findings = LogFindings(first=0, last=0)
        self._first_committed_at = 0

    def run(self) -> LogFindings:
        expected = 0
        for key, data in self._snapshot.items("log"):
            lseq = int.from_bytes(key)
            if expected and lseq != expected:
                self._report.add("log", f"entries {expected} to {lseq - 1} are missing", key=expected)
            expected = lseq + 1
            self._findings.first = self._findings.first or lseq
            self._findings.last = lseq
            try:
                entry = decode_stored(lseq, data)
            except (Corrupt, TypeError, ValueError) as error:
                self._report.add("log", str(error), key=lseq)
                continue
            self._first_committed_at = self._first_committed_at or entry.committed_at
            self._check_entry(entry)
        self._check_end()
        self._check_positions()
        self._check_vectors()
        self._check_absent()
        check_noted_marks(self._snapshot, self._marks, self._report)
        return self._findings

    # -- one entry ------------------------------------------------------------------------------------------------

    def _check_entry(self, entry: Entry) -> None:
        header = entry.header
        if entry.is_reduced:
            self._findings.reduced.add(entry.lseq)
            if header.oseq > self._floors.get(header.origin, 0) and not self._is_left(entry):
                self._report.add("position", "a reduced entry is above the floor of its origin", key=entry.lseq)
        elif _digest(entry.payload) != header.payload_digest:
            self._report.add("payload", "it does not have the digest that its header names", key=entry.lseq)
            return
        if header.oseq:
            self._check_chain(entry)
        elif header.chain != _NO_CHAIN:
            self._report.add("chain", "a local entry stands in a chain", key=entry.lseq)
        if header.kind == "tx":
            self._check_writes(entry)
        elif header.kind == "mark":
            self._check_mark(entry)
        self._check_vector(entry.lseq)

    def _check_mark(self, entry: Entry) -> None:
        """Marks of earlier lives of this node are noted nowhere."""
        check_mark_entry(entry, self._report)
        origin = entry.header.origin
        if origin == self._own or origin.node != self._own.node:
            self._marks[origin.node] = max(entry.header.ts, self._marks.get(origin.node, 0))

    def _is_left(self, entry: Entry) -> bool:
        """Whether a fork left this entry behind."""
        branch = self._branches.get(entry.header.origin)
        return branch is not None and branch.holds(entry.lseq, entry.header.oseq)

    def _check_left(self, entry: Entry) -> None:
        """A branch that was left goes on from what was served before it, or from what was trimmed."""
        origin = entry.header.origin
        progress = self._left.get(origin)
        if progress is None:
            before = self._progress.get(origin)
            progress = _Progress(entry.header.oseq - 1, None) if before is None else replace(before)
            self._left[origin] = progress
        self._follow(entry, progress)

    def _check_chain(self, entry: Entry) -> None:
        header = entry.header
        if self._is_left(entry):
            self._check_left(entry)
            return
        progress = self._progress.get(header.origin)
        if progress is None:
            floor = self._floors.get(header.origin, 0)
            progress = _Progress(min(floor, header.oseq - 1), _NO_CHAIN if header.oseq == 1 else None)
            self._progress[header.origin] = progress
            self._check_unseen_vectors(header.origin, header.oseq)
        if header.kind == "skip" or progress.oseq + 1 < header.oseq <= self._floors.get(header.origin, 0) + 1:
            progress.oseq, progress.chain = header.oseq, header.chain
        else:
            self._follow(entry, progress)

    def _follow(self, entry: Entry, progress: _Progress) -> None:
        header = entry.header
        if header.oseq != progress.oseq + 1:
            message = f"position {header.oseq} of '{header.origin.node}' follows position {progress.oseq}"
            self._report.add("chain", message, key=entry.lseq)
        elif progress.chain is not None and _chain(progress.chain, header.raw) != header.chain:
            self._report.add("chain", "its digest does not follow from the entry before and its header", key=entry.lseq)
        progress.oseq, progress.chain = header.oseq, header.chain

    def _check_writes(self, entry: Entry) -> None:
        try:
            writes = entry.writes()
            stamps = _stamps(entry, writes)
        except (Corrupt, KeyError, TypeError, ValueError, InvalidKey) as error:
            self._report.add("payload", f"its writes cannot be read: {error!r}", key=entry.lseq)
            return
        if len(entry.previous) != len(writes) or len(stamps) != len(writes):
            self._report.add("log", "its links or keys do not fit its writes one to one", key=entry.lseq)
            return
        self._check_clock(entry, writes)
        is_copied = 0 < entry.header.oseq <= self._copied.get(entry.header.origin, 0)
        for write, previous, ((name, stored_key), stamp) in zip(writes, entry.previous, stamps.items(), strict=True):
            table = self._tables.get(name)
            if table is not None and entry.header.ts >= table.definition.created:
                self._check_link(entry, write, previous, name, stored_key)
                self._fold(entry.lseq, table, stored_key, stamp, write, is_copied)

    def _check_clock(self, entry: Entry, writes: list[dict[str, Any]]) -> None:
        """An own entry is no newer than the last time given out, unless it had to beat a stamp from a clock ahead."""
        ts = entry.header.ts
        if entry.header.origin == self._own and ts > self._snapshot.head.last_ts:
            touched = max((write["p"][0] for write in writes if "p" in write), default=0)
            if ts != touched + 1:
                message = f"its time {ts} is ahead of the last one given out ({self._snapshot.head.last_ts})"
                self._report.add("clock", message, key=entry.lseq)

    def _check_link(self, entry: Entry, write: dict[str, Any], previous: int, name: str, stored_key: bytes) -> None:
        """The link leads back to the entry that wrote what this write replaced."""
        if previous >= entry.lseq:
            self._report.add("link", f"entry {entry.lseq} links forward to {previous}", table=name, key=stored_key)
        elif previous and "p" not in write and entry.header.origin == self._own:
            self._report.add("link", f"entry {entry.lseq} has a link but replaced nothing", table=name, key=stored_key)
        elif previous >= self._findings.first and previous not in self._findings.reduced:
            before = self._writes_of(previous)
            stamp = None if before is None else before.get((name, stored_key))
            is_own = entry.header.origin == self._own
            if stamp is None or (is_own and stamp != tuple(write["p"])):
                message = f"entry {entry.lseq} links to entry {previous}, which did not write what it replaced"
                self._report.add("link", message, table=name, key=stored_key)

    def _writes_of(self, lseq: int) -> Writes | None:
        if lseq not in self._decoded:
            self._decoded[lseq] = _writes_at(self._snapshot, lseq)
            if len(self._decoded) > DECODED_MAX:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(lseq)
        return self._decoded[lseq]

    # -- fold -----------------------------------------------------------------------------------------------------

    def _fold(
        self, lseq: int, table: Table, stored_key: bytes, stamp: Stamp, write: dict[str, Any], is_copied: bool
    ) -> None:
        """``is_copied``: a copy covered the entry, so its publisher may have seen this write go."""
        live = self._snapshot.get(f"p{table.rows_id}", stored_key)
        data = live if live is not None else self._snapshot.get(f"p{table.tombstones_id}", stored_key)
        if data is None:
            known = self._absent.get((table.id, stored_key))
            if known is None or stamp >= known.stamp:
                # Of several restatements of a tombstone it keeps the one of the greatest origin, and goes with that.
                may_be_purged = is_copied or (write["op"] == "delete" and "s" in write)
                self._absent[(table.id, stored_key)] = _Absent(stamp, lseq, write.get("x"), may_be_purged)
            return
        try:
            row = decode_row(data)
        except Corrupt:
            return
        current = _row_stamp(self._snapshot, row)
        has_gone = is_copied or write.get("x", self._snapshot.now_ms + 1) <= self._snapshot.now_ms
        if current is None or current > stamp or (current < stamp and has_gone):
            return
        if current < stamp:
            self._report.add("fold", f"it is older than its write in entry {lseq}", table=table.name, key=stored_key)
        elif not _is_outcome(write, row, is_live=live is not None):
            self._report.add("fold", f"it differs from its write in entry {lseq}", table=table.name, key=stored_key)
        elif row.lseq == lseq:
            self._findings.winners[table.id] = self._findings.winners.get(table.id, 0) + 1
        elif row.lseq and "s" not in write and row.by is None:
            # A restatement may bring a version before its own entry comes.
            message = f"entry {lseq} wrote it, not entry {row.lseq}"
            self._report.add("fold", message, table=table.name, key=stored_key)

    def _check_absent(self) -> None:
        """A record that the log knows is there, unless there is a reason why it is not."""
        for (table_id, stored_key), absent in self._absent.items():
            table = self._snapshot.tables[table_id]
            has_expired = absent.expires_at_ms is not None and absent.expires_at_ms <= self._snapshot.now_ms
            may_come_late = absent.stamp[1] != self._own.node or self._snapshot.copied is not None
            may_have_lost = may_come_late and absent.stamp[0] < self._first_committed_at + SKEW_US
            if table.complete and not has_expired and not may_have_lost and not absent.may_be_purged:
                message = f"neither row nor tombstone is left of its write in entry {absent.lseq}"
                self._report.add("fold", message, table=table.name, key=stored_key)

    # -- positions ------------------------------------------------------------------------------------------------

    def _own_node(self) -> str:
        store = (self._snapshot.get("meta", b"store") or b"").decode()
        own = [position.origin.node for position in self._snapshot.positions.values() if position.origin.store == store]
        return own[-1] if own else ""

    def _check_end(self) -> None:
        last, end = self._findings.last, self._snapshot.head.lseq
        if last > end:
            self._report.add("log", f"it goes on to {last}, behind the last number given out ({end})")
        elif last and last < end:
            self._report.add("log", f"it ends at {last}, before the last number given out ({end})")

    def _check_positions(self) -> None:
        for origin in self._progress.keys() - self._ends.keys():
            self._report.add("position", f"origin '{origin.node}' has entries but no position")
        for origin, end in self._ends.items():
            progress = self._progress.get(origin)
            if end.floor > end.oseq:
                self._report.add("position", f"the floor of '{origin.node}' is above its position", key=end.oseq)
            if progress is None:
                if end.floor < end.oseq:
                    self._report.add("position", f"no entry of '{origin.node}' is left above its floor", key=end.oseq)
            elif progress.oseq < end.oseq == end.floor:
                continue
            elif progress.oseq != end.oseq:
                message = f"the log ends with position {progress.oseq} of '{origin.node}', the vector says {end.oseq}"
                self._report.add("position", message, key=end.oseq)
            elif progress.chain != end.chain:
                self._report.add(
                    "position", f"the chain digest of '{origin.node}' is not its last entry's", key=end.oseq
                )

    # -- kept vectors ---------------------------------------------------------------------------------------------

    def _check_vector(self, lseq: int) -> None:
        if lseq % VECTOR_EVERY:
            return
        data = self._snapshot.get("vectors", lseq.to_bytes(8))
        if data is None:
            self._report.add("vector", "none is kept here", key=lseq)
            return
        try:
            vector = {Origin(node, store): oseq for node, store, oseq in codec.decode(data)}
        except (Corrupt, TypeError, ValueError) as error:
            self._report.add("vector", f"it cannot be read: {error}", key=lseq)
            return
        for origin in self._progress.keys() - vector.keys():
            self._report.add("vector", f"origin '{origin.node}' is not in it", key=lseq)
        for origin, oseq in vector.items():
            branch = self._branches.get(origin)
            if branch is not None and lseq <= branch.last_lseq:
                self._check_left_vector(lseq, origin, oseq)
                continue
            progress = self._progress.get(origin)
            if progress is None:
                self._unseen_vectors.setdefault(origin, []).append((lseq, oseq))
            elif progress.oseq != oseq and not progress.oseq < oseq <= self._floors.get(origin, 0):
                message = f"it says {oseq} for '{origin.node}' where the log is at {progress.oseq}"
                self._report.add("vector", message, key=lseq)

    def _check_left_vector(self, lseq: int, origin: Origin, oseq: int) -> None:
        """Before a fork was found a vector said where its branch was; with its entries trimmed nothing tells."""
        progress = self._left.get(origin) or self._progress.get(origin)
        if progress is not None and progress.oseq != oseq and not progress.oseq < oseq <= self._floors.get(origin, 0):
            message = f"it says {oseq} for '{origin.node}' where the branch that was left is at {progress.oseq}"
            self._report.add("vector", message, key=lseq)

    def _check_unseen_vectors(self, origin: Origin, first_oseq: int) -> None:
        """Vectors kept before an origin's first entry here say the position before that entry."""
        for lseq, oseq in self._unseen_vectors.pop(origin, []):
            if oseq != first_oseq - 1 and not oseq < first_oseq <= self._floors.get(origin, 0) + 1:
                message = f"it says {oseq} for '{origin.node}', whose next entry has {first_oseq}"
                self._report.add("vector", message, key=lseq)

    def _check_vectors(self) -> None:
        for origin, kept in self._unseen_vectors.items():
            for lseq, oseq in kept:
                end = self._ends.get(origin)
                if end is None or oseq > end.oseq:
                    self._report.add("vector", f"it says {oseq} for '{origin.node}', which is not there yet", key=lseq)
        for key, _ in self._snapshot.items("vectors"):
            lseq = int.from_bytes(key)
            if lseq % VECTOR_EVERY or lseq > self._snapshot.head.lseq or lseq < self._findings.first - 1:
                self._report.add("vector", "one is kept at a number where none belongs", key=lseq)


def _writes_at(snapshot: Snapshot, lseq: int) -> Writes | None:
    data = snapshot.get("log", lseq.to_bytes(8))
    if data is None:
        return None
    try:
        entry = decode_stored(lseq, data)
        return _stamps(entry, entry.writes()) if entry.header.kind == "tx" else {}
    except (Corrupt, KeyError, TypeError, ValueError, InvalidKey):
        return None


def _stamps(entry: Entry, writes: list[dict[str, Any]]) -> Writes:
    """``(table name, stored key) -> stamp`` of each write, in their order."""
    header = entry.header
    own = (header.ts, header.origin.node, header.origin.store, header.oseq)
    stamps: Writes = {}
    for write in writes:
        restated = write.get("s")
        stamp = own if restated is None else (int(restated[0]), str(restated[1]), str(restated[2]), int(restated[3]))
        stamps[(write["t"], keys.stored(keys.encode_primary_key(write["k"])))] = stamp
    return stamps


def _row_stamp(snapshot: Snapshot, row: Row) -> Stamp | None:
    position = snapshot.positions.get(row.origin)
    return None if position is None else (row.ts, position.origin.node, position.origin.store, row.oseq)


def _is_outcome(write: dict[str, Any], row: Row, *, is_live: bool) -> bool:
    """Whether a row or tombstone is what a write of its stamp leaves; one with an expiry is what became of a put, and so
    is a delete with one, which restates what was left of it elsewhere.
    """
    if write["op"] == "delete":
        return row.expires_at_ms == write["x"] if "x" in write else not is_live and row.expires_at_ms is None
    if write["op"] != "put" or row.expires_at_ms != write.get("x"):
        return False
    if not is_live:
        return row.expires_at_ms is not None
    if row.residency != (codec.encode(write["r"]) if write.get("r") else b""):
        return False
    return row.value == write["v"] if row.is_resident else _is_part(row, codec.decode(write["v"]))


def _is_part(row: Row, record: dict[str, Any]) -> bool:
    """Whether an index-only row holds nothing that the record does not."""
    kept = row.decode()
    return kept.keys() <= record.keys() and row.value == codec.encode({name: record[name] for name in kept})


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=16).digest()


def _chain(before: bytes, header: bytes) -> bytes:
    fields = codec.decode(header)
    del fields["ch"]
    return _digest(before, codec.encode(fields))
