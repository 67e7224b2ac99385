"""Records that other nodes hold: what is here of them, and where the whole of them is.

A record with a *residency* is held in full by the nodes that it names. Every other node keeps an index-only row: key,
indexed attributes, stamp, residency. The entries of the log are whole everywhere until they are trimmed, so this node
may still have what a resident has not received yet.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from storage import codec
from storage.entry import Origin, Stamp
from storage.errors import Corrupt
from storage.record import Row
from storage.schema import Table
from storage.transaction import ReadTransaction, stored_key_of

ChooseResidents: TypeAlias = Callable[[tuple[str, ...] | None], tuple[str, ...]]
"""The nodes that shall hold a record, () for all, given those that hold it now: None where there is no such record."""


class Version(NamedTuple):
    """A whole record as one write left it."""

    stamp: Stamp
    record: dict[str, Any]


class Elsewhere(NamedTuple):
    """A record that is here as an index-only row."""

    key: Any
    stored_key: bytes
    stamp: Stamp
    residents: tuple[str, ...]
    row: Row


def residents_of(row: Row) -> tuple[str, ...]:
    """The nodes that hold a row's record in full, () where all do."""
    return tuple(codec.decode(row.residency)) if row.residency else ()


class Stamps:
    """The stamps of the rows of one snapshot; to be used while that is open."""

    def __init__(self, tx: ReadTransaction) -> None:
        self._tx = tx
        self._origins: dict[int, Origin] = {}

    def of(self, row: Row) -> Stamp:
        if not self._origins:
            self._origins = {number: position.origin for number, position in self._tx.log.positions().items()}
        return Stamp(row.ts, *self._origins[row.origin], row.oseq)


def elsewhere(stamps: Stamps, table: Table, stored_key: bytes, row: Row) -> Elsewhere:
    """What is known here of the record of an index-only row."""
    key = row.decode()[table.primary_key]
    return Elsewhere(key, stored_key, stamps.of(row), residents_of(row), row)


def logged_version(tx: ReadTransaction, table_name: str, place: Elsewhere) -> Version | None:
    """The record as the log has it: None once its entry was trimmed or reduced, or where a copy brought the row."""
    entry = tx.log.entry(place.row.lseq) if place.row.lseq else None
    if entry is None:
        return None
    for write in entry.writes():
        if write.get("t") == table_name and "v" in write and stored_key_of(write["k"]) == place.stored_key:
            record = codec.decode(write["v"])
            if not isinstance(record, dict):
                raise Corrupt(f"entry {place.row.lseq} holds no record for a put")
            return Version(place.stamp, record)
    return None
