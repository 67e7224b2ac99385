"""Merging a copy: a peer's rows into ours, for a node that logs no longer reach. It never replaces, never truncates.

Record by record the greater stamp wins, as everywhere. What the file does not say has to be told apart: deleted and
purged, or never seen? The vectors tell. ``V0`` is the publisher's at the instant of the copy; a row is *covered* by a
vector that reaches the position in ``by``, else the one of its stamp.

- A live local row that ``V0`` covers and the file lacks, or has older, goes: the publisher has seen that write and it
  is gone there. Not in a table that its publisher holds incompletely.
- A live row of the file that our vector covers and we lack, or have older, is not taken: we have seen it go. Not where
  our own table is incomplete, or the copy is forced.

An expired record counts as a tombstone in both; tombstones only merge. One that beats a write which the other side has
not seen may be gone on third nodes: it is restated (``storage/late_writes.py``). A row that goes by the first rule
leaves no tombstone: we do not know the stamp of the delete, and none of ours may be made up. Nothing is needed to keep
the row away, as when the merge has ended our vector covers the write: its entry is a duplicate for any stream, and an
older copy that still has the row meets the second rule. *Until* the end our vector may be behind ``V0``, and an entry
that ``V0`` covers would put such a row back behind the cursor, where nothing looks again. So from ``begin_merge`` to
the end no entries of other nodes are applied here, and no rows are removed for this node alone; and from the request
of the copy on no tombstone is purged, as the file may hold what it keeps out. Local writes are ahead of every ``V0``.

Each step is one bounded chunk, run between writes (``database.Maintenance``); the place where the next one goes on is
put in the transaction of the rows. After a crash merging goes on from the file, which has to be whole then: ask for its
digest again. The last step moves the positions to ``V0``, in one transaction with what the copy proves.

In ``meta``: ``copy:description``; ``copy:plan``, what every step needs of it; ``copy:place``. ``copied`` stays: the
highest position of each origin up to which a copy may have decided what is here, for the checker.
"""

import logging
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from storage import codec
from storage.commit_log import CommitLog, Position
from storage.copy_description import COPIED_KEY, CopyDescription
from storage.copy_file import Chunk, CopyReader, read_row
from storage.entry import Origin
from storage.errors import Corrupt, InvalidKey, RolledBack
from storage.keys import encode_primary_key, stored
from storage.late_writes import LateWrites
from storage.marks import Mark, mark_key
from storage.received_schema import merge_definitions
from storage.record import Row, decode_row
from storage.row_merge import Known, RowMerge
from storage.table_plan import index_only
from storage.table_planner import EXPIRY_MS_MAX
from storage.transaction import ReadTransaction
from storage.write_state import WriteState

log = logging.getLogger("storage")

STEP_ROWS: Final = 256
"""Rows of the file and of this node looked at in one LMDB transaction: a few milliseconds that client writes wait."""
STEP_BYTES: Final = 1 << 20
"""Bytes of the file, after which a step takes no further chunk."""
PAGE_BYTES: Final = 4 << 20
"""Bytes of local rows held at once."""

DESCRIPTION_KEY: Final = b"copy:description"
PLAN_KEY: Final = b"copy:plan"
PLACE_KEY: Final = b"copy:place"


class Place(NamedTuple):
    """Where a merge goes on: behind the stored key ``key`` of a table, and in the file behind ``skip`` rows of the chunk
    at ``offset``. ``rows`` of the file are behind it.
    """

    table: int = 0
    key: bytes = b""
    offset: int = 0
    skip: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeCursor:
    """A merge that was begun and has not ended."""

    description: CopyDescription
    file_name: str
    is_forced: bool
    place: Place


class MergeProgress(NamedTuple):
    """What one step did: rows of the file that it passed, rows and tombstones taken, rows that went."""

    rows: int
    taken: int
    removed: int
    is_done: bool


class _Plan(NamedTuple):
    """What every step needs. ``v0`` by our short ids; ``tables``: our id of each table of the file, 0 where it is left
    alone, and whether its publisher has it completely.
    """

    copy_id: str
    file_name: str
    is_forced: bool
    may_complete: bool
    v0: dict[int, int]
    tables: list[tuple[int, bool]]


def begin_merge(
    state: WriteState,
    description: CopyDescription,
    file_name: str,
    *,
    is_forced: bool,
    asked_at: Mapping[Origin, int] | None = None,
) -> None:
    """Bring in the definitions and note that the file is to be merged; ``merge_step`` does it. The file is whole and has
    the digest that its description names. No other merge is under way.

    ``asked_at`` is our vector when the copy was asked for, by default that of now: only a copy that covers it can make
    an incomplete table complete, as what was removed here before then may be missing in an older one.

    For an origin that has another history at the publisher than here the copy proves nothing: it is taken out of the
    copy's vector, and rows of both histories stay.

    Raises ``RolledBack`` where the copy knows more of our current incarnation than we do, and ``TooManyTables``.
    """
    assert state.get("meta", PLAN_KEY) is None, "one copy at a time is merged"
    _refuse_rollback(state, description)
    description = replace(description, v0=_of_one_history(state, description.v0))
    if asked_at is None:
        asked_at = {position.origin: position.oseq for position in state.positions().values()}
    standings = merge_definitions(state, [definition for definition, _ in description.tables])
    plan = _Plan(
        copy_id=description.copy_id,
        file_name=file_name,
        is_forced=is_forced,
        may_complete=description.covers(asked_at),
        v0={state.origin_id(origin): oseq for origin, (oseq, _) in description.v0.items()},
        tables=[
            (state.tables[definition.name].id if standings[definition.name] == "here" else 0, is_complete)
            for definition, is_complete in description.tables
        ],
    )
    state.put("meta", DESCRIPTION_KEY, codec.encode(description.encoded()))
    state.put("meta", PLAN_KEY, codec.encode(list(plan)))
    state.put("meta", PLACE_KEY, codec.encode(list(Place())))
    _note_covered(state, plan.v0)


def _of_one_history(state: WriteState, v0: Mapping[Origin, tuple[int, bytes]]) -> dict[Origin, tuple[int, bytes]]:
    """The origins of a copy's vector whose chain digests do not contradict ours."""
    log_ = CommitLog(state.environment, state.txn)
    kept = {}
    for origin, (oseq, chain) in v0.items():
        position = state.find_position(origin)
        if position is not None and oseq <= position.oseq:
            here = position.chain if oseq == position.oseq else log_.chain_at(origin, oseq)
            is_other = here is not None and here != chain
        else:
            is_other = position is not None and log_.left_chain_at(origin, oseq) == chain
        if is_other:
            log.error("a copy has another history of '%s' (%s) than this node: it proves nothing for it", *origin)
        else:
            kept[origin] = (oseq, chain)
    return kept


def _note_covered(state: WriteState, v0: Mapping[int, int]) -> None:
    known = state.get("meta", COPIED_KEY)
    copied: dict[int, int] = {} if known is None else codec.decode(known)
    raised = {origin_id: max(oseq, copied.get(origin_id, 0)) for origin_id, oseq in v0.items()}
    state.put("meta", COPIED_KEY, codec.encode({**copied, **raised}))


def merge_step(state: WriteState, reader: CopyReader, *, now_us: int, limit: int = STEP_ROWS) -> MergeProgress:
    """Merge about ``limit`` rows more, and end the merge with the last ones. ``now_us`` decides what has expired.

    Raises ``Corrupt`` where the file does not fit, and ``RolledBack``; nothing of the step has happened then.
    """
    return _Step(state, reader, now_us, limit).run()


def read_merge_cursor(tx: ReadTransaction) -> MergeCursor | None:
    """The merge that is under way, also where it was begun before a crash; its file is to be found by its name."""
    meta = tx.environment.handles["meta"]
    data = [tx.txn.get(key, db=meta) for key in (DESCRIPTION_KEY, PLAN_KEY, PLACE_KEY)]
    if data[0] is None:
        return None
    description, plan, place = (codec.decode(value) for value in data)
    return MergeCursor(
        description=CopyDescription.decoded(description),
        file_name=_Plan(*plan).file_name,
        is_forced=_Plan(*plan).is_forced,
        place=Place(*place),
    )


def is_merging(state: WriteState) -> bool:
    """Whether a merge was begun and has not ended."""
    return state.get("meta", PLAN_KEY) is not None


def abandon_merge(state: WriteState) -> None:
    """Give up a merge whose file is gone or damaged. Rows merged so far stay, and no position moves: another copy has to
    follow, as what this one brought in part may be in nobody's log.
    """
    for key in (DESCRIPTION_KEY, PLAN_KEY, PLACE_KEY):
        if state.get("meta", key) is not None:
            state.delete("meta", key)


class _Step:
    """One step, in one LMDB transaction."""

    def __init__(self, state: WriteState, reader: CopyReader, now_us: int, limit: int) -> None:
        plan, place = state.get("meta", PLAN_KEY), state.get("meta", PLACE_KEY)
        assert plan is not None and place is not None, "a merge was begun"
        self._plan = _Plan(*codec.decode(plan))
        self._place = Place(*codec.decode(place))
        if reader.copy_id != self._plan.copy_id:
            raise Corrupt(f"this is copy '{reader.copy_id}', not '{self._plan.copy_id}'")
        self._state = state
        self._reader = reader
        self._now_us = now_us
        self._now_ms = now_us // 1000
        self._limit = limit
        self._bytes = 0
        self._local_rows = 0
        self._rows_before = self._place.rows
        self._taken = 0
        self._removed = 0
        self._newest_ts = 0
        self._merge: RowMerge | None = None
        self._late = LateWrites(state, now_us)
        self._node = state.environment.origin.node
        self._origins: dict[int, int] = {}
        self._ours = {origin_id: position.oseq for origin_id, position in state.positions().items()}
        self._proves_absence = False
        """Whether what this table's part of the file lacks is gone at its publisher."""
        self._have_seen_all = False
        """Whether what is not in this table here, and covered by our vector, has gone."""

    def run(self) -> MergeProgress:
        is_done = self._merge_chunks() and self._leave_tables(len(self._plan.tables))
        self._apply()
        self._late.restate()
        if is_done:
            self._end()
        else:
            self._state.put("meta", PLACE_KEY, codec.encode(list(self._place)))
        self._state.advance_clock(self._newest_ts, self._now_us)
        return MergeProgress(self._place.rows - self._rows_before, self._taken, self._removed, is_done)

    def _is_full(self) -> bool:
        looked_at = self._place.rows - self._rows_before + self._local_rows
        return looked_at >= self._limit or self._bytes >= STEP_BYTES

    # -- places ---------------------------------------------------------------------------------------------------

    def _merge_chunks(self) -> bool:
        """Whether all chunks are merged."""
        for chunk in self._reader.chunks(self._place.offset or None):
            if not self._leave_tables(chunk.table) or not self._take(chunk) or self._is_full():
                return False
        return True

    def _leave_tables(self, following: int) -> bool:
        """Go on to table ``following``; whether the ends of all before it are dealt with."""
        if not self._place.table <= following <= len(self._plan.tables):
            raise Corrupt(f"table {following} of a copy is out of order")
        while self._place.table < following:
            self._enter_table()
            if not self._leave_table():
                return False
            self._apply()
            self._place = self._place._replace(table=self._place.table + 1, key=b"")
        return True

    def _leave_table(self) -> bool:
        """Deal with local rows behind the last one of the file; whether that is done."""
        while self._merge is not None and self._proves_absence:
            rows, through = self._local(f"p{self._merge.table.rows_id}", None)
            for key, data in rows.items():
                self._miss(self._merge, key, data)
            self._local_rows += len(rows)
            if through is None:
                break
            self._place = self._place._replace(key=through)
            if self._is_full():
                return False
        return True

    def _enter_table(self) -> None:
        """Be ready to merge into the table of the place, or to leave it alone."""
        if self._merge is not None or self._place.table >= len(self._plan.tables):
            return
        table_id, is_complete = self._plan.tables[self._place.table]
        table = self._state.table_of(table_id)
        if table is not None:
            self._merge = RowMerge(self._state, table)
            self._proves_absence = is_complete
            self._have_seen_all = table.complete and not self._plan.is_forced

    def _apply(self) -> None:
        if self._merge is not None:
            self._state.apply_plan(self._merge.plan)
            self._merge = None

    # -- rows -----------------------------------------------------------------------------------------------------

    def _take(self, chunk: Chunk) -> bool:
        """Merge a chunk with the local rows and tombstones in its range of keys; whether all of it."""
        place = self._place
        keys, rows = chunk.keys[place.skip :], chunk.rows[place.skip :]
        if chunk.table >= len(self._plan.tables) or not keys or keys[0] <= place.key:
            raise Corrupt(f"rows at byte {chunk.offset} of a copy are out of order")
        self._enter_table()
        self._bytes += chunk.following - chunk.offset
        through = keys[-1] if self._merge is None else self._merge_range(self._merge, keys, rows)
        if through < keys[-1]:
            passed = bisect_right(keys, through)
            self._place = place._replace(
                key=through, offset=chunk.offset, skip=place.skip + passed, rows=place.rows + passed
            )
            return False
        self._place = place._replace(key=through, offset=chunk.following, skip=0, rows=place.rows + len(keys))
        return True

    def _merge_range(self, merge: RowMerge, keys: list[bytes], rows: list[bytes]) -> bytes:
        """Merge up to the returned key: the last one, unless too much is here in between."""
        local_rows, cut = self._local(f"p{merge.table.rows_id}", keys[-1])
        local_tombstones, cut_again = self._local(f"p{merge.table.tombstones_id}", cut or keys[-1])
        through = cut_again or cut or keys[-1]
        self._local_rows += len(local_rows) + len(local_tombstones)
        for key, data in zip(keys, rows, strict=True):
            if key > through:
                break
            known: Known | None
            here = local_rows.pop(key, None)
            if here is not None:
                known = Known(decode_row(here), False)
            else:
                tombstone = local_tombstones.get(key)
                known = None if tombstone is None else Known(decode_row(tombstone), True)
            self._merge_row(merge, key, data, known)
        if self._proves_absence:
            for key, data in local_rows.items():
                if key <= through:
                    self._miss(merge, key, data)
        return through

    def _local(self, handle: str, through: bytes | None) -> tuple[dict[bytes, bytes], bytes | None]:
        """What is here behind the place, up to ``through``; and the last key of it where there is more than is good to
        hold at once.
        """
        after = self._place.key
        items: dict[bytes, bytes] = {}
        items_bytes = 0
        with self._state.cursor(handle) as cursor:
            if cursor.set_range(after):
                for key, data in cursor:
                    if through is not None and key > through:
                        break
                    if len(items) >= self._limit or items_bytes >= PAGE_BYTES:
                        return items, next(reversed(items))
                    if key != after:
                        items[key] = data
                        items_bytes += len(data)
        return items, None

    def _merge_row(self, merge: RowMerge, key: bytes, data: bytes, known: Known | None) -> None:
        incoming, is_tombstone = self._incoming(data)
        order = 1 if known is None else _order(merge, incoming, known.row)
        if order == 0:
            if incoming.by is not None:
                merge.merge(key, incoming, known, record=None, is_restatement=True)
            return
        if order < 0:
            if known is not None and not _is_covered(incoming, self._ours):
                self._late.note(merge.table.name, key, known)
            # What the publisher has takes the place of what it has seen go. The puts of a plan follow its removals.
            if known is None or not (self._proves_absence and self._is_gone(known)):
                return
            self._remove(merge, key, known.row)
            known = None
        elif self._have_seen_all and _is_covered(incoming, self._ours):
            is_live = not is_tombstone and not incoming.is_expired(self._now_ms)
            if is_live:
                return
        record: dict[str, Any] | None = None
        if is_tombstone:
            _check_key(key, codec.decode(incoming.value))
        else:
            record = _record(merge, key, incoming)
            if incoming.residency and incoming.is_resident and self._node not in codec.decode(incoming.residency):
                record, incoming = index_only(merge.table, record, incoming)
        if known is not None and not _is_covered(known.row, self._plan.v0):
            self._late.note(merge.table.name, key, Known(incoming, is_tombstone))
        merge.merge(key, incoming, known, record=record)
        self._taken += 1
        self._newest_ts = max(self._newest_ts, incoming.ts)

    def _incoming(self, data: bytes) -> tuple[Row, bool]:
        """A row of the file with our short ids; whether it is a tombstone."""
        row, is_tombstone = read_row(data)
        origin = self._origin(row.origin, row.oseq)
        if row.by is None and row.expires_at_ms is None and not row.residency:
            return row._replace(origin=origin), is_tombstone
        if row.expires_at_ms is not None and row.expires_at_ms > EXPIRY_MS_MAX:
            raise Corrupt("the expiry of a row of a copy is damaged")
        if row.residency:
            names = codec.decode(row.residency)
            if type(names) is not list or not all(type(name) is str for name in names):
                raise Corrupt("the residency of a row of a copy is damaged")
        by = None if row.by is None else (self._origin(*row.by), row.by[1])
        return row._replace(origin=origin, by=by), is_tombstone

    def _origin(self, number: int, oseq: int) -> int:
        """Our short id of an origin of the file, one of whose writes has this position."""
        origin_id = self._origins.get(number)
        if origin_id is None:
            origin = self._reader.origins.get(number)
            if origin is None:
                raise Corrupt(f"a row of a copy has an origin {number} that the copy does not name")
            origin_id = self._origins[number] = self._state.origin_id(origin)
        if not oseq:
            raise Corrupt("a copy has a row that should not have left its node")
        if origin_id == self._state.environment.origin_id and oseq > self._state.oseq:
            raise RolledBack(self._state.environment.name, self._state.oseq, oseq)
        return origin_id

    def _miss(self, merge: RowMerge, key: bytes, data: bytes) -> None:
        """A local row that the file lacks."""
        known = Known(decode_row(data), False)
        if self._is_gone(known):
            self._remove(merge, key, known.row)

    def _is_gone(self, known: Known) -> bool:
        """Whether a record is live here by a write that the publisher has seen."""
        is_live = not known.is_tombstone and not known.row.is_expired(self._now_ms)
        return is_live and _is_covered(known.row, self._plan.v0)

    def _remove(self, merge: RowMerge, key: bytes, row: Row) -> None:
        merge.remove(key, row)
        self._removed += 1

    # -- end ------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """All that the copy proves, at once: positions, marks, which tables are complete."""
        state = self._state
        description = CopyDescription.decoded(codec.decode(state.get("meta", DESCRIPTION_KEY) or b""))
        if self._place.rows != description.rows:
            raise Corrupt(f"a copy of {description.rows} rows had {self._place.rows}")
        _refuse_rollback(state, description)
        is_ahead = _raise_positions(state, description)
        _take_marks(state, description)
        self._settle_tables(description, is_ahead)
        abandon_merge(state)

    def _settle_tables(self, description: CopyDescription, is_ahead: bool) -> None:
        """Which tables are complete now.

        Where our vector moved on, it covers writes that we only have if the publisher had their rows. A table that it
        never heard of has no such writes; of one that it does not keep, or that we left alone, they are missing.
        """
        merged = {table_id: is_complete for table_id, is_complete in self._plan.tables if table_id}
        named = {*description.not_kept, *(definition.name for definition, _ in description.tables)}
        for table in list(self._state.tables.values()):
            if table.definition.is_local:
                continue
            has_all = merged.get(table.id, table.name not in named)
            if is_ahead and not has_all:
                self._state.mark_incomplete(table)
            elif table.id in merged and has_all and self._plan.may_complete and not table.complete:
                self._state.replace_table(replace(table, complete=True))


def _refuse_rollback(state: WriteState, description: CopyDescription) -> None:
    known, _ = description.v0.get(state.environment.origin, (0, b""))
    if known > state.oseq:
        raise RolledBack(state.environment.name, state.oseq, known)


def _raise_positions(state: WriteState, description: CopyDescription) -> bool:
    """Move to ``V0`` what is behind it; whether anything was. Up to there our log serves these origins no more."""
    is_ahead = False
    for origin, (oseq, chain) in description.v0.items():
        origin_id = state.origin_id(origin)
        if oseq > state.position(origin_id).oseq:
            state.set_position(origin_id, Position(origin, oseq, chain, oseq))
            is_ahead = True
    return is_ahead


def _take_marks(state: WriteState, description: CopyDescription) -> None:
    """Newer marks, as if applied: those that our vector covers now."""
    for node, mark in description.marks.items():
        position = state.find_position(mark.origin)
        if node == state.environment.origin.node or position is None or position.oseq < mark.oseq:
            continue
        key = mark_key(node)
        known = state.get("meta", key)
        if known is None or Mark.decoded(node, known).ts < mark.ts:
            state.put("meta", key, mark.encoded())


def _order(merge: RowMerge, incoming: Row, here: Row) -> int:
    """Above 0 where the incoming write is the newer one, below where it is the older one."""
    if incoming.ts != here.ts:
        return incoming.ts - here.ts
    if incoming.origin == here.origin:
        return incoming.oseq - here.oseq
    return 1 if merge.stamp(incoming) > merge.stamp(here) else -1


def _is_covered(row: Row, vector: Mapping[int, int]) -> bool:
    origin_id, oseq = row.by or (row.origin, row.oseq)
    return row.oseq > 0 and oseq <= vector.get(origin_id, 0)


def _record(merge: RowMerge, key: bytes, row: Row) -> dict[str, Any]:
    record = row.decode()
    if type(record) is not dict:
        raise Corrupt("a row of a copy is no record")
    _check_key(key, record.get(merge.table.primary_key))
    return record


def _check_key(key: bytes, value: Any) -> None:
    try:
        is_right = stored(encode_primary_key(value)) == key
    except InvalidKey:
        is_right = False
    if not is_right:
        raise Corrupt(f"a record of a copy stands under another key than its own, {value!r:.100}")
