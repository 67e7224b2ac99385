"""What a transaction will do to one table, as values: staged records first, then puts and deletes by sub-database."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from storage import codec
from storage.index import entries_of, is_same
from storage.record import Row
from storage.schema import Table

FEW: Final = 8
"""Up to here looking through a tuple is cheaper than making a set."""
_ABSENT: Final = object()


@dataclass(slots=True)
class Staged:
    """One record's change: what stood there, and what will (``record`` None: deleted)."""

    key: Any
    record: dict[str, Any] | None
    old: Row | None
    """The row as stored, also where it has expired: its index entries have to go."""
    old_record: dict[str, Any] | None
    """The live record before this transaction."""
    tombstone: Row | None
    changed: list[str] | None
    """Attributes named by the request; None where all are new."""
    expires_at_ms: int | None
    residents: tuple[str, ...] = ()
    """The nodes that will hold the record in full, () for all."""


@dataclass(slots=True)
class TablePlan:
    """All puts and deletes of one table, collected so that each sub-database is walked once and in order."""

    table: Table
    rows: list[tuple[bytes, bytes]]
    removed_rows: list[bytes]
    tombstones: list[tuple[bytes, bytes]]
    removed_tombstones: list[bytes]
    index_adds: dict[str, list[tuple[bytes, bytes]]]
    index_removes: dict[str, list[tuple[bytes, bytes]]]
    expiry_adds: list[tuple[bytes, bytes]]
    expiry_removes: list[tuple[bytes, bytes]]
    extra_changes: dict[str, int] = field(default_factory=dict)
    """By index: how many more of its entries are second and further ones of their row."""
    digest_change: int = 0

    @classmethod
    def empty(cls, table: Table) -> "TablePlan":
        names = table.index_ids
        return cls(table, [], [], [], [], {name: [] for name in names}, {name: [] for name in names}, [], [])

    def index_new(self, stored_key: bytes, record: Mapping[str, Any]) -> None:
        """Collect the index entries of a record where there was none."""
        adds = self.index_adds
        for name, value in record.items():
            if name in adds:
                entries = entries_of(value)
                for entry in entries:
                    adds[name].append((entry, stored_key))
                if len(entries) > 1:
                    self.count_entries(name, 0, len(entries))

    def index_replaced(self, stored_key: bytes, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Collect the index entries that change where ``new`` takes the place of ``old``; {} is no record."""
        for name in self.index_adds:
            old_value, new_value = old.get(name, _ABSENT), new.get(name, _ABSENT)
            if is_same(old_value, new_value):
                continue
            before: Collection[bytes] = entries_of(old_value)
            after: Collection[bytes] = entries_of(new_value)
            self.count_entries(name, len(before), len(after))
            if len(before) > FEW or len(after) > FEW:
                before, after = frozenset(before), frozenset(after)
            self.index_removes[name].extend((entry, stored_key) for entry in before if entry not in after)
            self.index_adds[name].extend((entry, stored_key) for entry in after if entry not in before)

    def count_entries(self, name: str, before: int, after: int) -> None:
        """Note that one row's entries in an index change in number; only arrays have more than one."""
        if before > 1 or after > 1:
            change = max(after - 1, 0) - max(before - 1, 0)
            self.extra_changes[name] = self.extra_changes.get(name, 0) + change


def index_only(table: Table, record: dict[str, Any], row: Row) -> tuple[dict[str, Any], Row]:
    """What a node keeps of a record that lives elsewhere: the key and what is indexed, so that searches find it."""
    kept = {name: value for name, value in record.items() if name in table.index_ids or name == table.primary_key}
    return kept, row._replace(value=codec.encode(kept), is_resident=False)
