"""Entries of other origins, applied: checked against the position of their origin, merged, logged as they came.

An entry is applied if it is the next one of its origin: a lower number is a duplicate and dropped, a higher one a gap.
Its rows, its log entry and the new position are puts of the same LMDB transaction. What cannot be applied stops its
origin *before* it, with a reason; nothing is left out and nothing is overtaken.

Where one write of a record meets another and neither had seen the other, that is a *conflict*: noted beside the entry
that came second, so that the list of conflicts is a read of the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from storage import codec
from storage.abandoned import fork_key, not_forked, read_branches
from storage.clock import INSTANT_US_MAX
from storage.conflicts import ConflictSearch
from storage.copy_merge import is_merging
from storage.entry import (
    DIGEST_BYTES,
    NO_CHAIN,
    Conflict,
    Header,
    Origin,
    Stamp,
    decode_travelling,
    digest,
    encode_header,
    encode_stored,
    follows,
)
from storage.errors import Corrupt, InvalidKey, TooManyTables
from storage.keys import encode_primary_key, stored
from storage.late_writes import LateWrites
from storage.marks import Mark, decode_mark, mark_key
from storage.received_schema import apply_schema_entry
from storage.record import RESIDENCY_BYTES_MAX, Row
from storage.row_merge import Known, RowMerge
from storage.schema import Table
from storage.table_plan import index_only
from storage.table_planner import EXPIRY_MS_MAX
from storage.write_state import WriteState

Problem: TypeAlias = Literal[
    "gap", "chain", "corrupt", "unknown table", "too many tables", "needs newer version", "own", "merging"
]
"""Why an origin stops. ``chain``: the entry does not follow from the one before it, so one of two logs is another."""

_OPS: Final = ("put", "delete")
_OSEQ_MAX: Final = (1 << 64) - 1
_NAME_LENGTH_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEntry:
    """An entry as it came: its header bytes and payload, of which a reduced one lost a part on its way."""

    header: Header
    payload: bytes = field(repr=False)
    is_reduced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSkip:
    """A range of positions that holds nothing for this node, told by one who had its entries in full."""

    origin: Origin
    first: int
    last: int
    chain: bytes
    """The chain digest at ``last``."""


Received: TypeAlias = ReceivedEntry | ReceivedSkip


@dataclass(slots=True, kw_only=True)
class Applied:
    """What became of a batch. ``positions`` holds the origins that it was about, as they stand afterwards.

    ``stopped``: origins that could not go on, with the reason and a text for people; later items of them were not
    tried.
    """

    entries: int = 0
    writes: int = 0
    positions: dict[Origin, int] = field(default_factory=dict)
    newest_ts: int = 0
    conflicts: dict[str, int] = field(default_factory=dict)
    """By table: writes that lost to a concurrent one."""
    restated: int = 0
    """Tombstones that this node has told of again, as a write that came late lost to them."""
    stopped: dict[Origin, tuple[Problem, str]] = field(default_factory=dict)


class _CannotApply(Exception):
    """Why an entry must wait. Nothing of it was put."""

    def __init__(self, problem: Problem, text: str) -> None:
        super().__init__(text)
        self.problem: Problem = problem


def origin_of(item: Received) -> Origin:
    return item.origin if isinstance(item, ReceivedSkip) else item.header.origin


def read_received(data: bytes, *, is_reduced: bool = False) -> ReceivedEntry:
    """An entry out of the form in which entries travel. Raises ``Corrupt`` for one that nobody can have made."""
    header, payload = decode_travelling(data)
    _check_header(header)
    return ReceivedEntry(header=header, payload=payload, is_reduced=is_reduced)


def _check_header(header: Header) -> None:
    """It comes from a peer: every field that is stored, compared or shown has to be what it should be."""
    is_fit = (
        all(type(name) is str and 0 < len(name) <= _NAME_LENGTH_MAX for name in header.origin)
        and type(header.oseq) is int
        and 0 < header.oseq <= _OSEQ_MAX
        and type(header.ts) is int
        and 0 <= header.ts <= INSTANT_US_MAX
        and isinstance(header.kind, str)
        and all(text is None or type(text) is str for text in (header.user, header.operation))
        and all(type(one) is bytes and len(one) == DIGEST_BYTES for one in (header.payload_digest, header.chain))
    )
    if not is_fit:
        raise Corrupt("the header of an entry from elsewhere is damaged")


def apply_received(state: WriteState, items: Sequence[Received], *, now_us: int) -> Applied:
    """Apply what can be applied, in order; each entry wholly or not at all.

    Nothing is, while a copy is merged: an entry that the copy covers could bring a row back behind its cursor.
    """
    if is_merging(state):
        waits: tuple[Problem, str] = ("merging", "a copy is being merged")
        return Applied(stopped=dict.fromkeys(map(origin_of, items), waits))
    application = _Application(state, now_us)
    for item in items:
        application.take(item)
    return application.finish()


class _Application:
    """One batch in one LMDB transaction."""

    def __init__(self, state: WriteState, now_us: int) -> None:
        self.applied = Applied()
        self._state = state
        self._now_us = now_us
        self._node = state.environment.origin.node
        self._conflicts = ConflictSearch(state)
        self._late = LateWrites(state, now_us)
        with state.cursor("meta") as meta:
            branches = read_branches(meta)
        self._settled = set(branches)
        self._restating = {Origin(*state.origin(of)) for of, branch in branches.items() if branch.place is not None}

    def take(self, item: Received) -> None:
        origin = origin_of(item)
        if origin in self.applied.stopped:
            return
        try:
            if isinstance(item, ReceivedSkip):
                self._skip(item)
            else:
                self._entry(item)
        except _CannotApply as error:
            self.applied.stopped[origin] = (error.problem, str(error))
        except (Corrupt, InvalidKey) as error:
            self.applied.stopped[origin] = ("corrupt", str(error))
        except TooManyTables as error:
            self.applied.stopped[origin] = ("too many tables", str(error))
        position = self._state.find_position(origin)
        self.applied.positions[origin] = 0 if position is None else position.oseq

    def finish(self) -> Applied:
        self.applied.restated = self._late.restate()
        return self.applied

    # -- one item -------------------------------------------------------------------------------------------------

    def _entry(self, entry: ReceivedEntry) -> None:
        header = entry.header
        chain = self._expect(header.origin, header.oseq, header.oseq)
        if chain is None:
            return
        if not follows(header, chain):
            raise _CannotApply("chain", f"entry {header.oseq} of '{header.origin.node}' does not follow the one before")
        self._note_no_fork(header.origin)
        if not entry.is_reduced and digest(entry.payload) != header.payload_digest:
            raise Corrupt(f"entry {header.oseq} of '{header.origin.node}' does not have the digest of its header")
        previous: list[int] = []
        conflicts: list[Conflict] = []
        if header.kind == "tx":
            previous, conflicts = self._writes(entry)
        elif header.kind == "schema":
            missing = apply_schema_entry(self._state, entry.payload, header.ts)
            if missing is not None:
                raise _CannotApply("unknown table", f"table '{missing}' is not known here")
        elif header.kind == "mark":
            self._mark(entry)
        else:
            raise _CannotApply("needs newer version", f"an entry of kind '{header.kind}' needs a newer version")
        stored_form = encode_stored(
            committed_at=self._now_us,
            previous=previous,
            header=header.raw,
            payload=entry.payload,
            is_reduced=entry.is_reduced,
            conflicts=conflicts,
        )
        self._append(header.origin, header.oseq, header.chain, stored_form)
        self._state.advance_clock(header.ts, self._now_us)
        if entry.is_reduced:
            self._state.raise_floors({header.origin: header.oseq})
        self.applied.entries += 1
        self.applied.newest_ts = max(self.applied.newest_ts, header.ts)

    def _skip(self, skip: ReceivedSkip) -> None:
        """Log that a range holds nothing for this node; what of it is applied already counts as such."""
        if self._expect(skip.origin, skip.first, skip.last) is None:
            return
        header, _ = encode_header(
            origin=skip.origin,
            oseq=skip.last,
            ts=0,
            kind="skip",
            user=None,
            operation=None,
            payload=b"",
            previous_chain=NO_CHAIN,
            chain=skip.chain,
        )
        stored_form = encode_stored(committed_at=self._now_us, previous=[], header=header, payload=b"")
        self._append(skip.origin, skip.last, skip.chain, stored_form)
        self._state.raise_floors({skip.origin: skip.last})

    def _expect(self, origin: Origin, first: int, last: int) -> bytes | None:
        """The chain digest that an item ``[first, last]`` of ``origin`` has to follow; None: it is here already."""
        if origin == self._state.environment.origin:
            raise _CannotApply("own", f"entry {first} bears this node's own current name")
        if origin in self._restating:
            raise _CannotApply("own", f"entry {first} has to wait until this node has restated its own of that number")
        position = self._state.find_position(origin)
        oseq, chain = (0, NO_CHAIN) if position is None else (position.oseq, position.chain)
        if last <= oseq:
            return None
        if first > oseq + 1:
            raise _CannotApply("gap", f"entry {first} of '{origin.node}' follows entry {oseq}")
        return chain

    def _note_no_fork(self, origin: Origin) -> None:
        """An entry follows the last one of an old life of this node: others have all of that life, and more."""
        if origin.node != self._node:
            return
        origin_id = self._state.origin_id(origin)
        if origin_id not in self._settled:
            self._settled.add(origin_id)
            proof = not_forked(self._state.position(origin_id).oseq, self._state.lseq)
            self._state.put("meta", fork_key(origin_id), proof.encoded())

    def _append(self, origin: Origin, oseq: int, chain: bytes, stored_form: bytes) -> None:
        self._state.append_received(self._state.origin_id(origin), oseq, chain, stored_form)

    def _mark(self, entry: ReceivedEntry) -> None:
        header = entry.header
        vector = decode_mark(entry.payload)
        if header.origin.node == self._node:
            return  # said in a life that has lost what it vouches for
        mark = Mark(origin=header.origin, oseq=header.oseq, ts=header.ts, vector=vector)
        key = mark_key(header.origin.node)
        known = self._state.get("meta", key)
        if known is None or Mark.decoded(header.origin.node, known).ts < mark.ts:
            self._state.put("meta", key, mark.encoded())

    # -- the writes of an entry -----------------------------------------------------------------------------------

    def _writes(self, entry: ReceivedEntry) -> tuple[list[int], list[Conflict]]:
        """Merge all writes, or none; the links and the conflicts to note beside the entry."""
        writes = _decoded_writes(entry)
        origin_id = self._state.origin_id(entry.header.origin)
        merges: dict[str, RowMerge | None] = {}
        for write in writes:
            if write["t"] not in merges:
                table = self._table(write["t"])
                merges[write["t"]] = None if table is None else RowMerge(self._state, table)
        previous = [0] * len(writes)
        conflicts: list[Conflict] = []
        for at, write in enumerate(writes):
            merge = merges[write["t"]]
            if merge is not None:
                previous[at] = self._write(entry.header, origin_id, at, write, merge, conflicts)
        for merge in merges.values():
            if merge is not None:
                self._state.apply_plan(merge.plan)
        self.applied.writes += len(writes)
        for conflict in conflicts:
            name = writes[conflict.write]["t"]
            self.applied.conflicts[name] = self.applied.conflicts.get(name, 0) + 1
        return previous, conflicts

    def _table(self, name: str) -> Table | None:
        """The table that takes writes of this name, None where they change nothing here but the log."""
        table = self._state.tables.get(name)
        if table is None:
            if self._state.dropped_at(name):
                return None
            raise _CannotApply("unknown table", f"table '{name}' is not known here")
        return None if table.definition.is_local else table

    def _write(
        self,
        header: Header,
        origin_id: int,
        at: int,
        write: dict[str, Any],
        merge: RowMerge,
        conflicts: list[Conflict],
    ) -> int:
        """Merge one write; the entry that wrote the record before, where this write has won."""
        key = write["k"]
        stored_key = stored(encode_primary_key(key))
        restated = write.get("s")
        stamp = Stamp(header.ts, *header.origin, header.oseq) if restated is None else Stamp(*restated)
        record = _record(write, merge.table) if write["op"] == "put" else None
        residency = write.get("r")
        incoming = Row(
            ts=stamp.ts,
            origin=origin_id if restated is None else self._state.origin_id(Origin(stamp.node, stamp.store)),
            oseq=stamp.oseq,
            lseq=self._state.lseq + 1,
            value=codec.encode(key) if record is None else write["v"],
            expires_at_ms=write.get("x"),
            by=None if restated is None else (origin_id, header.oseq),
            residency=codec.encode(residency) if residency else b"",
        )
        if record is not None and residency and self._node not in residency:
            record, incoming = index_only(merge.table, record, incoming)
        known = merge.known(stored_key)
        outcome = merge.merge(stored_key, incoming, known, record=record, is_restatement=restated is not None)
        if known is None:
            return 0
        known_stamp = merge.stamp(known.row)
        if stamp < known_stamp:
            self._late.note(merge.table.name, stored_key, known)
        replaced = write.get("p")
        conflict = self._conflicts.find(
            merge.table.name,
            stored_key,
            write=at,
            incoming=stamp,
            replaced=None if replaced is None else Stamp(*replaced),
            known=known,
            known_stamp=known_stamp,
            outcome=outcome,
        )
        if conflict is not None:
            conflicts.append(conflict)
            if outcome == "applied":
                self._late.note(merge.table.name, stored_key, Known(incoming, record is None))
        return known.row.lseq if outcome == "applied" else 0


def _record(write: dict[str, Any], table: Table) -> dict[str, Any]:
    record = codec.decode(write["v"])
    if type(record) is not dict or record.get(table.primary_key) != write["k"]:
        raise Corrupt(f"a record of an entry for table '{table.name}' does not have the key that its write names")
    return record


def _decoded_writes(entry: ReceivedEntry) -> list[dict[str, Any]]:
    """The writes of an entry, each of a shape that can be merged. Raises ``Corrupt``, ``_CannotApply``."""
    writes = codec.decode(entry.payload)
    if type(writes) is not list:
        raise Corrupt("the payload of an entry is no list of writes")
    for write in writes:
        if type(write) is not dict or type(write.get("t")) is not str or "k" not in write:
            raise Corrupt("a write of an entry names no record")
        if write.get("op") not in _OPS:
            raise _CannotApply("needs newer version", f"a write of kind '{write.get('op')}' needs a newer version")
        if write["op"] == "put" and type(write.get("v")) is not bytes:
            raise Corrupt("a put of an entry has no value")
        if not all(_is_stamp(write[name]) for name in ("p", "s") if name in write):
            raise Corrupt("a stamp of an entry is damaged")
        if not _is_expiry(write.get("x", 0)) or not _is_names(write.get("r", [])):
            raise Corrupt("expiry or residency of an entry is damaged")
    return writes


def _is_expiry(value: Any) -> bool:
    return type(value) is int and 0 <= value <= EXPIRY_MS_MAX


def _is_names(value: Any) -> bool:
    is_list = type(value) is list and all(type(name) is str for name in value)
    return is_list and len(codec.encode(value)) <= RESIDENCY_BYTES_MAX


def _is_stamp(value: Any) -> bool:
    return (
        type(value) is list
        and [type(part) for part in value] == [int, str, str, int]
        and 0 <= value[0] <= INSTANT_US_MAX
        and 0 <= value[3] <= _OSEQ_MAX
    )
