"""Turning one table's staged changes into puts, deletes and log writes: the hot loop of every write.

All puts of a transaction are collected by sub-database, so that each is walked once and in order: sorted inserts
share the pages they touch. Nothing here touches LMDB; whatever is refused is refused before the first put.
"""

from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from storage import codec
from storage.clock import milliseconds
from storage.entry import DIGEST_BYTES, Stamp
from storage.merge import judge
from storage.record import Row, encode_head, encode_row
from storage.schema import Table
from storage.table_plan import Staged, TablePlan, index_only
from storage.typed_values import conform, time_value
from storage.write_state import WriteState

EXPIRY_MS_MAX: Final = (1 << 53) - 1
"""Far beyond any date, and exact in every client."""


class TablePlanner:
    """Collects the staged changes of one table in ``result``."""

    def __init__(self, state: WriteState, table: Table, ts: int, lseq: int, oseq: int) -> None:
        environment = state.environment
        self._environment = environment
        self._state = state
        self._table = table
        self._ts = ts
        self._stored_ms = milliseconds(ts)
        self._lseq = lseq
        self._oseq = oseq
        self._head = encode_head(ts, environment.origin_id, oseq, lseq)
        self._stamp = Stamp(ts, *environment.origin, oseq)
        self._stamp_bytes = state.stamp_bytes(ts, environment.origin_id, oseq)
        self._created = [(a.name, time_value(a, ts)) for a in table.created_time_attributes]
        self._updated = [(a.name, time_value(a, ts)) for a in table.updated_time_attributes]
        expiration_s = table.definition.expiration_s
        self._default_expiry_ms = None if expiration_s is None else int(ts / 1000 + expiration_s * 1000)
        self.result = TablePlan.empty(table)

    def plan(self, stored_key: bytes, staged: Staged) -> dict[str, Any]:
        """Add the change to the plan; returns it as a write of the log entry's payload."""
        write: dict[str, Any] = {"t": self._table.name, "op": "put", "k": staged.key}
        before = staged.old or staged.tombstone
        if before is not None:
            replaced = Stamp(before.ts, *self._state.origin(before.origin), before.oseq)
            assert judge(replaced, self._stamp) == "applied", "a local write beats all that it touches"
            write["p"] = list(replaced)
        if staged.record is None:
            write["op"] = "delete"
            self._plan_delete(stored_key, staged)
        else:
            self._plan_put(stored_key, staged, staged.record, write)
        return write

    def _plan_put(self, stored_key: bytes, staged: Staged, record: dict[str, Any], write: dict[str, Any]) -> None:
        old_record = staged.old_record
        codec.check_nesting(record)
        for name, now in self._created:
            record[name] = now if old_record is None else old_record.get(name, now)
        for name, now in self._updated:
            record[name] = now
        if self._table.is_typed:
            conform(self._table, record)
        value = codec.encode(record)
        write["v"] = value
        if staged.changed is not None and old_record is not None:
            write["a"] = staged.changed
        expires_at_ms = self._expiry(staged, record)
        plan = self.result
        if staged.residents and self._oseq:
            write["r"] = list(staged.residents)
            record = self._plan_resident_row(stored_key, staged, record, value, expires_at_ms)
        elif expires_at_ms is None:
            plan.rows.append((stored_key, self._head + value))
            plan.digest_change += row_hash(self._stamp_bytes, stored_key, value) if self._oseq else 0
        else:
            head = encode_head(self._ts, self._environment.origin_id, self._oseq, self._lseq, expires_at_ms)
            plan.rows.append((stored_key, head + value))
        if expires_at_ms is not None:
            write["x"] = expires_at_ms
            plan.expiry_adds.append((expiry_key(expires_at_ms, self._table.id), stored_key))
        if staged.tombstone is not None:
            plan.removed_tombstones.append(stored_key)
        if staged.old is None:
            plan.index_new(stored_key, record)
        else:
            forget_row(self.result, self._state, stored_key, staged.old)
            plan.index_replaced(stored_key, self._old_visible(staged), record)

    def _plan_resident_row(
        self, stored_key: bytes, staged: Staged, record: dict[str, Any], value: bytes, expires_at_ms: int | None
    ) -> dict[str, Any]:
        """The row of a record that some nodes hold in full; what of the record is here. The log entry has all of it."""
        row = Row(
            ts=self._ts,
            origin=self._environment.origin_id,
            oseq=self._oseq,
            lseq=self._lseq,
            value=value,
            expires_at_ms=expires_at_ms,
            residency=codec.encode(list(staged.residents)),
        )
        if self._environment.origin.node not in staged.residents:
            record, row = index_only(self._table, record, row)
        self.result.rows.append((stored_key, encode_row(row)))
        return record

    def _plan_delete(self, stored_key: bytes, staged: Staged) -> None:
        plan = self.result
        plan.tombstones.append((stored_key, self._head + codec.encode(staged.key)))
        if staged.old is not None:
            plan.removed_rows.append(stored_key)
            forget_row(self.result, self._state, stored_key, staged.old)
            plan.index_replaced(stored_key, self._old_visible(staged), {})

    def _old_visible(self, staged: Staged) -> dict[str, Any]:
        """The stored record whose index entries are there, also where it has expired and counts as absent, or where the
        whole of it came from another node, which may have dropped attributes that are indexed here.
        """
        if staged.old is None:
            return {}
        if staged.old_record is not None and staged.old.is_resident:
            return staged.old_record
        return self._table.visible(staged.old.decode(), staged.old.ts)

    def _expiry(self, staged: Staged, record: dict[str, Any]) -> int | None:
        """When the record expires; an instant outside of what can be stored is taken as the nearest that can."""
        expires_at_ms: int | float | None = staged.expires_at_ms
        if expires_at_ms is None and self._table.expires_at_attribute is not None:
            value = record.get(self._table.expires_at_attribute)
            expires_at_ms = value.timestamp() * 1000 if isinstance(value, datetime) else value
        if type(expires_at_ms) not in (int, float) or expires_at_ms is None or expires_at_ms != expires_at_ms:
            return self._default_expiry_ms
        return int(min(max(expires_at_ms, 0), EXPIRY_MS_MAX))


def expiry_key(expires_at_ms: int, table_id: int) -> bytes:
    return expires_at_ms.to_bytes(8) + table_id.to_bytes(4)


def forget_row(plan: TablePlan, state: WriteState, stored_key: bytes, row: Row) -> None:
    """Take a row that goes out of the digest, or out of the expiry order."""
    if row.expires_at_ms is not None:
        plan.expiry_removes.append((expiry_key(row.expires_at_ms, plan.table.id), stored_key))
    elif row.oseq and not row.residency:
        plan.digest_change -= row_hash(state.stamp_bytes(row.ts, row.origin, row.oseq), stored_key, row.value)


def row_hash(stamp_bytes: bytes, stored_key: bytes, value: bytes) -> int:
    """One visible row's share of its table's state digest: H(stamp, key, value) as a number; digests are sums modulo
    2^128.

    The stamp comes first as it is equal for all rows of an entry; the key's length keeps key and value apart. Rows that
    replicas may rightly hold differently have no share: local and expiring ones, and those with a residency, on their
    residents as well: else a table that only some nodes hold in full could never be found equal.
    """
    hashed = blake2b(b"".join((stamp_bytes, len(stored_key).to_bytes(2), stored_key, value)), digest_size=DIGEST_BYTES)
    return int.from_bytes(hashed.digest())
