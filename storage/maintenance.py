"""Upkeep of a database, as functions for its commit thread: what retention, audit operations and jobs take away.

Each takes the ``WriteState`` of one LMDB transaction (``Catalog.maintain``), does one bounded chunk and tells how
much that was; its caller repeats until nothing is left, and client writes have their turn in between. None makes a
log entry: what goes is no longer visible, no longer wanted, or wanted on this node alone. Changes are put at once, so
an error ends the LMDB transaction with all of them.

The newest entry of the log always stays: it tells where the log is.
"""

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Final, NamedTuple, TypeAlias

from storage import codec
from storage.abandoned import Branch, read_branches
from storage.entry import Entry, Origin, decode_stored, encode_reduced
from storage.index import entries_of
from storage.record import Row, decode_row, encode_row
from storage.schema import Table
from storage.table_plan import TablePlan
from storage.table_planner import forget_row
from storage.transaction import HIDDEN_KEY
from storage.write_state import WriteState

CHUNK: Final = 1000
"""Rows, tombstones or entries looked at in one LMDB transaction: a few milliseconds that client writes wait."""
CHUNK_BYTES: Final = 4 << 20
"""Stored log bytes read in one LMDB transaction."""

MayTrim: TypeAlias = Callable[[Origin, int], bool]
"""Whether no other member needs this node to serve an origin's entry any more."""
MayDrop: TypeAlias = Callable[[Entry], bool]
"""Whether an entry, by what it holds, may go: one may be the only place of a record that lives on other nodes."""
IsStable: TypeAlias = Callable[[Origin, Row], bool]
"""Whether every member knows of a tombstone and no older write of its record can still arrive."""


class Progress(NamedTuple):
    """``changed`` things in this chunk; ``resume`` is where the next one goes on, None when there is no more."""

    changed: int
    resume: bytes | None


def alone(origin: Origin, position: object) -> bool:
    """What a node without peers answers to ``MayTrim`` and ``IsStable``: nobody else waits for anything."""
    return True


# -- expiry -----------------------------------------------------------------------------------------------------------


def expire_rows(state: WriteState, *, now_ms: int, limit: int = CHUNK) -> int:
    """Replace rows whose time has come by tombstones with the stamp of the row; how many, 0 when no more are due.

    The tombstone keeps the expiry, which tells it from a delete's: it keeps older versions of the record from coming
    back.
    """
    due = _due(state, now_ms, limit)
    for table_id in dict.fromkeys(table_id for _, table_id, _ in due):
        _expire(state, table_id, [(key, stored_key) for key, of, stored_key in due if of == table_id])
    return len(due)


def _due(state: WriteState, now_ms: int, limit: int) -> list[tuple[bytes, int, bytes]]:
    """``(expiry key, table id, stored primary key)``, earliest first."""
    end = (now_ms + 1).to_bytes(8)
    due: list[tuple[bytes, int, bytes]] = []
    with state.cursor("expiry") as cursor:
        for key, stored_key in cursor:
            if key >= end or len(due) >= limit:
                break
            due.append((key, int.from_bytes(key[8:]), stored_key))
    return due


def _expire(state: WriteState, table_id: int, due: list[tuple[bytes, bytes]]) -> None:
    """The row decides: an entry of the order without a row that expires then is only removed."""
    table = state.table_of(table_id)
    for expiry, stored_key in due:
        state.delete("expiry", expiry, stored_key)
    if table is None:
        return
    plan = TablePlan.empty(table)
    for expiry, stored_key in due:
        data = state.get(f"p{table.rows_id}", stored_key)
        row = None if data is None else decode_row(data)
        if row is not None and row.expires_at_ms == int.from_bytes(expiry[:8]):
            key = _plan_removal(plan, state, stored_key, row)
            tombstone = row._replace(value=codec.encode(key), residency=b"", is_resident=True)
            plan.tombstones.append((stored_key, encode_row(tombstone)))
    state.apply_plan(plan)


def _plan_removal(plan: TablePlan, state: WriteState, stored_key: bytes, row: Row) -> object:
    """Plan that a row goes, with its index entries; returns its primary key."""
    record = row.decode()
    plan.removed_rows.append(stored_key)
    forget_row(plan, state, stored_key, row)
    visible = plan.table.visible(record, row.ts)
    for name in plan.table.index_ids:
        if name in visible:
            entries = entries_of(visible[name])
            plan.index_removes[name].extend((entry, stored_key) for entry in entries)
            plan.count_entries(name, len(entries), 0)
    return record[plan.table.primary_key]


def remove_rows(state: WriteState, table_id: int, stored_keys: Iterable[bytes]) -> int:
    """Remove rows from this node alone, without tombstone or log entry; the table is incomplete from then on.

    How many were there; none once the table was dropped. They come back by a copy from a peer, never by a stream.
    """
    table = state.table_of(table_id)
    if table is None:
        return 0
    plan = TablePlan.empty(table)
    for stored_key in dict.fromkeys(stored_keys):
        data = state.get(f"p{table.rows_id}", stored_key)
        if data is not None:
            _plan_removal(plan, state, stored_key, decode_row(data))
    if plan.removed_rows:
        state.apply_plan(plan)
        state.mark_incomplete(table)
    return len(plan.removed_rows)


# -- tombstones -------------------------------------------------------------------------------------------------------


def purge_tombstones(
    state: WriteState,
    table_id: int,
    *,
    before_us: int,
    is_stable: IsStable = alone,
    after: bytes | None = None,
    limit: int = CHUNK,
) -> Progress:
    """Remove tombstones that are older than ``before_us``, gone from the log, and stable.

    One that an expired row left needs to be stable only. Goes on behind the stored key ``after``.
    """
    table = state.table_of(table_id)
    if table is None:
        return Progress(0, None)
    seen = _page(state, f"p{table.tombstones_id}", after, limit)
    first = _first_lseq(state)
    doomed: list[bytes] = []
    for stored_key, data in seen:
        row = decode_row(data)
        is_old = row.expires_at_ms is not None or (row.ts < before_us and _is_gone(state, row, first))
        if is_old and (not row.oseq or is_stable(Origin(*state.origin(row.origin)), row)):
            doomed.append(stored_key)
    for stored_key in doomed:
        state.delete(f"p{table.tombstones_id}", stored_key)
    return Progress(len(doomed), seen[-1][0] if len(seen) == limit else None)


def _is_gone(state: WriteState, row: Row, first: int) -> bool:
    """Whether no entry of the log holds this write any more; one that a copy brought may stand in a later entry."""
    is_first_gone = row.lseq < first if row.lseq else row.oseq <= state.floor(row.origin)
    return is_first_gone and (row.by is None or row.by[1] <= state.floor(row.by[0]))


def _page(state: WriteState, handle: str, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
    page: list[tuple[bytes, bytes]] = []
    with state.cursor(handle) as cursor:
        if not (cursor.first() if after is None else cursor.set_range(after)):
            return page
        for key, value in cursor:
            if key != after:
                page.append((key, value))
            if len(page) >= limit:
                break
    return page


# -- log --------------------------------------------------------------------------------------------------------------


def holds_nothing_else(entry: Entry) -> bool:
    """What a node answers to ``MayDrop`` whose tables hold all that its log does."""
    return True


def trim_log(
    state: WriteState,
    *,
    before_us: int,
    may_trim: MayTrim = alone,
    may_drop: MayDrop = holds_nothing_else,
    limit: int = CHUNK,
) -> int:
    """Drop the oldest entries, up to the first that was committed here at or after ``before_us`` or is still needed.

    Raises the floors of their origins; how many went, 0 when no more may go now.
    """
    floors: dict[Origin, int] = {}
    doomed: list[int] = []
    branches = _branches(state)
    for entry in _entries_from(state, 1, limit):
        if entry.lseq == state.lseq or entry.committed_at >= before_us:
            break
        origin, oseq = entry.header.origin, _served_oseq(branches, entry)
        if oseq:
            if not (may_trim(origin, oseq) and may_drop(entry)):
                break
            floors[origin] = oseq
        doomed.append(entry.lseq)
    if doomed:
        _drop_entries(state, doomed)
        state.raise_floors(floors)
    return len(doomed)


def _branches(state: WriteState) -> dict[Origin, Branch]:
    with state.cursor("meta") as meta:
        return {Origin(*state.origin(of)): branch for of, branch in read_branches(meta).items()}


def _served_oseq(branches: dict[Origin, Branch], entry: Entry) -> int:
    """The position at which others may want this entry; 0 for one that they never get."""
    branch = branches.get(entry.header.origin)
    return 0 if branch is not None and branch.holds(entry.lseq, entry.header.oseq) else entry.header.oseq


def _drop_entries(state: WriteState, doomed: list[int]) -> None:
    """Also the kept vectors from which nothing can be read on any more."""
    for lseq in doomed:
        state.delete("log", lseq.to_bytes(8))
    last = doomed[-1].to_bytes(8)
    with state.cursor("vectors") as cursor:
        stale = list(takewhile(lambda key: key < last, cursor.iternext(keys=True, values=False)))
    for key in stale:
        state.delete("vectors", key)


def hide_history(state: WriteState, table_id: int, before_us: int) -> None:
    """Show the table's history from before this commit time no longer; ``reduce_history`` removes it where it may."""
    table = state.table_of(table_id)
    if table is None:
        return
    key = HIDDEN_KEY + table_id.to_bytes(4)
    if before_us > int.from_bytes(state.get("meta", key) or b""):
        state.put("meta", key, before_us.to_bytes(8))


def forget_hidden(state: WriteState, table_id: int, before_us: int) -> None:
    """Drop the note of ``hide_history`` once all it hid is removed, unless it was moved on meanwhile."""
    key = HIDDEN_KEY + table_id.to_bytes(4)
    if int.from_bytes(state.get("meta", key) or b"") == before_us:
        state.delete("meta", key)


def hidden_tables(state: WriteState) -> dict[int, int]:
    """Table id -> commit time before which its history is hidden but not known to be removed."""
    hidden: dict[int, int] = {}
    with state.cursor("meta") as cursor:
        if cursor.set_range(HIDDEN_KEY):
            for key, value in cursor:
                if not key.startswith(HIDDEN_KEY):
                    break
                hidden[int.from_bytes(key[len(HIDDEN_KEY) :])] = int.from_bytes(value)
    return hidden


def reduce_history(
    state: WriteState,
    table_id: int,
    *,
    may_trim: MayTrim = alone,
    may_drop: MayDrop = holds_nothing_else,
    after: bytes | None = None,
    limit: int = CHUNK,
) -> Progress:
    """Take the table's writes out of the entries that ``hide_history`` hid; from behind lseq ``after`` (u64) on.

    Header and chain of an entry stay. A reduced entry cannot be served any more, so it raises its origin's floor; one
    that a peer still needs is left as it is.
    """
    table = state.table_of(table_id)
    before_us = hidden_tables(state).get(table_id)
    if table is None or before_us is None:
        return Progress(0, None)
    floors: dict[Origin, int] = {}
    changed = 0
    last: bytes | None = None
    branches = _branches(state)
    for entry in _entries_from(state, 1 if after is None else int.from_bytes(after) + 1, limit):
        if entry.committed_at >= before_us:
            return _reduced(state, floors, changed, None)
        last = entry.lseq.to_bytes(8)
        origin, oseq = entry.header.origin, _served_oseq(branches, entry)
        may_go = not oseq or (may_trim(origin, oseq) and may_drop(entry))
        stored = _without_table(entry, table) if may_go else None
        if stored is not None:
            state.put("log", last, stored)
            changed += 1
            floors[origin] = max(oseq, floors.get(origin, 0))
    return _reduced(state, floors, changed, None if last == state.lseq.to_bytes(8) else last)


def _reduced(state: WriteState, floors: dict[Origin, int], changed: int, resume: bytes | None) -> Progress:
    state.raise_floors(floors)
    return Progress(changed, resume)


def _without_table(entry: Entry, table: Table) -> bytes | None:
    """The entry without the writes of this table (or an older one of its name), None where it has none."""
    if entry.header.kind != "tx":
        return None
    return encode_reduced(entry, lambda write: write["t"] != table.name)


def _entries_from(state: WriteState, lseq: int, limit: int) -> list[Entry]:
    """Entries in order, at least one where there is one, up to ``limit`` of them or about ``CHUNK_BYTES``."""
    entries: list[Entry] = []
    read_bytes = 0
    with state.cursor("log") as cursor:
        if cursor.set_range(lseq.to_bytes(8)):
            for key, data in cursor:
                entries.append(decode_stored(int.from_bytes(key), data))
                read_bytes += len(data)
                if len(entries) >= limit or read_bytes >= CHUNK_BYTES:
                    break
    return entries


def _first_lseq(state: WriteState) -> int:
    with state.cursor("log") as cursor:
        return int.from_bytes(cursor.key()) if cursor.first() else state.lseq + 1
