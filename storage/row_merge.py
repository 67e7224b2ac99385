"""Merging rows and tombstones that were written elsewhere: the hot loop of replication, by the rule of ``merge``.

A stream brings them as the writes of an entry, a copy as the rows of a table; what becomes of them is the same. Like
``table_planner`` this only collects: puts and deletes stand in ``plan`` until ``WriteState.apply_plan``, and a
record comes only once between two of these.
"""

from typing import Any, NamedTuple

from storage.entry import Stamp
from storage.errors import Corrupt
from storage.merge import Outcome, judge
from storage.record import Row, decode_row, encode_row
from storage.schema import Table
from storage.table_plan import TablePlan
from storage.table_planner import expiry_key, forget_row, row_hash
from storage.write_state import WriteState


class Known(NamedTuple):
    """What this node has of a record: a row, live or not yet removed, or a tombstone."""

    row: Row
    is_tombstone: bool


class RowMerge:
    """Collects what incoming rows change in one table. ``table`` is as the transaction has it now."""

    def __init__(self, state: WriteState, table: Table) -> None:
        self.table = table
        self.plan = TablePlan.empty(table)
        self._state = state
        self._rows = f"p{table.rows_id}"
        self._tombstones = f"p{table.tombstones_id}"
        self._has_tombstones = state.entry_count(self._tombstones) > 0

    def known(self, stored_key: bytes) -> Known | None:
        data = self._state.get(self._rows, stored_key)
        if data is not None:
            return Known(decode_row(data), False)
        data = self._state.get(self._tombstones, stored_key) if self._has_tombstones else None
        return None if data is None else Known(decode_row(data), True)

    def stamp(self, row: Row) -> Stamp:
        return Stamp(row.ts, *self._state.origin(row.origin), row.oseq)

    def merge(
        self,
        stored_key: bytes,
        incoming: Row,
        known: Known | None,
        *,
        record: dict[str, Any] | None,
        is_restatement: bool = False,
    ) -> Outcome:
        """Collect what ``incoming`` changes, given what is ``known`` of its record now; ``record`` None: a tombstone.

        A restatement of the version that is here only notes who brought it (``incoming.by``).
        """
        outcome = self._judge(incoming, known, is_restatement)
        if outcome == "applied":
            self._replace(stored_key, incoming, known, record)
        elif outcome == "restated" and known is not None:
            self._note_restatement(stored_key, incoming, known)
        return outcome

    def remove(self, stored_key: bytes, row: Row) -> None:
        """Collect that a live row goes, leaving nothing."""
        self.plan.removed_rows.append(stored_key)
        self._forget(stored_key, row, {})

    def _judge(self, incoming: Row, known: Known | None, is_restatement: bool) -> Outcome:
        if known is None or incoming.ts > known.row.ts:
            return "applied"
        if incoming.ts < known.row.ts:
            return "lost"
        return judge(self.stamp(known.row), self.stamp(incoming), is_restatement=is_restatement)

    def _replace(self, stored_key: bytes, incoming: Row, known: Known | None, record: dict[str, Any] | None) -> None:
        plan = self.plan
        if record is None:
            plan.tombstones.append((stored_key, encode_row(incoming)))
        else:
            plan.rows.append((stored_key, encode_row(incoming)))
            self._count_in(stored_key, incoming)
        visible = {} if record is None else self.table.visible(record, incoming.ts)
        if known is None:
            plan.index_new(stored_key, visible)
        elif known.is_tombstone:
            plan.index_new(stored_key, visible)
            if record is not None:
                plan.removed_tombstones.append(stored_key)
        else:
            self._forget(stored_key, known.row, visible)
            if record is None:
                plan.removed_rows.append(stored_key)

    def _forget(self, stored_key: bytes, row: Row, record: dict[str, Any]) -> None:
        """Take a row out of digest, expiry order and indexes; ``record`` takes its place there.

        Of a damaged row nobody can tell the index entries. It goes all the same: else it could never be repaired.
        """
        forget_row(self.plan, self._state, stored_key, row)
        try:
            old = self.table.visible(row.decode(), row.ts)
        except Corrupt:
            old = {}
        self.plan.index_replaced(stored_key, old, record)

    def _count_in(self, stored_key: bytes, row: Row) -> None:
        """Put a row into the expiry order, or else into the digest of what all replicas hold alike."""
        if row.expires_at_ms is not None:
            self.plan.expiry_adds.append((expiry_key(row.expires_at_ms, self.table.id), stored_key))
        elif row.oseq and not row.residency:
            stamp = self._state.stamp_bytes(row.ts, row.origin, row.oseq)
            self.plan.digest_change += row_hash(stamp, stored_key, row.value)

    def _note_restatement(self, stored_key: bytes, incoming: Row, known: Known) -> None:
        if not self._is_newer_restatement(incoming.by, known.row.by):
            return
        noted = encode_row(known.row._replace(by=incoming.by))
        (self.plan.tombstones if known.is_tombstone else self.plan.rows).append((stored_key, noted))

    def _is_newer_restatement(self, by: tuple[int, int] | None, known_by: tuple[int, int] | None) -> bool:
        """By node name, store and position, as everywhere: the short ids of origins differ per node."""
        if by is None or known_by is None:
            return by is not None
        return (self._state.origin(by[0]), by[1]) > (self._state.origin(known_by[0]), known_by[1])
