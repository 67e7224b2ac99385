"""Late writes: older than a delete, or than an expired record, that some nodes may have forgotten already.

A tombstone is purged when every member has been heard, and a node that joins, or is added again, was no member then. An
old write that it brings counts as new where the tombstone is gone, and loses where it is not. So that all end the
same, a node where a tombstone old enough to be gone elsewhere beats a write that is new restates the tombstone
(``storage/restatement.py``), in the LMDB transaction of that write. If everybody has purged it, the write counts.

Nobody is asked what was purged elsewhere: one restatement too many changes no record.
"""

from typing import Final

from storage.record import Row
from storage.row_merge import Known, RowMerge
from storage.write_state import WriteState
from storage.write_transaction import WriteTransaction

ENTRY_BYTES: Final = 1 << 20
"""Values of restated versions, after which another entry is begun."""


class LateWrites:
    """What one LMDB transaction has to restate: ``note`` while it merges, ``restate`` once all of it is put."""

    def __init__(self, state: WriteState, now_us: int) -> None:
        settings = state.environment.settings
        skew_us = settings.clock_skew_us_max
        self._state = state
        self._now_us = now_us
        self._old_us = now_us - int(settings.audit_retention_s * 1_000_000) + skew_us
        self._expired_ms = (now_us + skew_us) // 1000
        self._noted: dict[str, dict[bytes, None]] = {}

    def note(self, table: str, stored_key: bytes, winner: Known) -> None:
        """``winner`` beat a write that is new to this node, or may be to where the winner comes from: an expired record
        leaves the tables of a node before its entry leaves the log.
        """
        if self._may_be_gone_elsewhere(winner.row, winner.is_tombstone):
            self._noted.setdefault(table, {})[stored_key] = None

    def restate(self) -> int:
        """Restate what was noted and still stands; how many records."""
        restated = 0
        transaction, size_bytes = self._transaction(), 0
        for name, stored_keys in self._noted.items():
            table = self._state.tables[name]
            merge = RowMerge(self._state, table)
            for stored_key in stored_keys:
                known = merge.known(stored_key)
                if known is None or not self._may_be_gone_elsewhere(known.row, known.is_tombstone):
                    continue
                value_bytes = transaction.restate(table, stored_key)
                restated += value_bytes > 0
                size_bytes += value_bytes
                if size_bytes >= ENTRY_BYTES:
                    _finish(transaction)
                    transaction, size_bytes = self._transaction(), 0
        _finish(transaction)
        return restated

    def _may_be_gone_elsewhere(self, row: Row, is_tombstone: bool) -> bool:
        """By the clock of any member: they may be apart by as much as is not reported."""
        if row.expires_at_ms is not None:
            return row.expires_at_ms <= self._expired_ms
        return is_tombstone and row.ts < self._old_us

    def _transaction(self) -> WriteTransaction:
        return WriteTransaction(self._state, user=None, operation=None, now_us=self._now_us)


def _finish(transaction: WriteTransaction) -> None:
    transaction.seal()
    transaction.apply()
