"""The log as history: what happened to a table, and to one record. The audit and transaction log operations read this.

It is a view of the commit log, so it reaches back as far as the log does; history that was deleted is left out, also
while a peer still needs its entries. Entries of an older table of the same name are not history of this one. Times
are microseconds; pages are by ``lseq``, which never changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from storage import codec
from storage.entry import Entry
from storage.record import decode_row
from storage.schema import Table
from storage.transaction import HIDDEN_KEY, ReadTransaction, stored_key_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One write of a record: the whole resulting record, None for a delete.

    ``changed`` names the attributes that the request gave, None where all were new. ``previous_lseq`` is the entry that
    wrote the record before, 0 where there is none on this node.
    """

    key: Any
    record: dict[str, Any] | None
    changed: tuple[str, ...] | None
    expires_at_ms: int | None
    previous_lseq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """One transaction's changes of one table. ``operation`` is the one that was requested, None for writes without
    one.
    """

    lseq: int
    ts: int
    committed_at: int
    node: str
    user: str | None
    operation: str | None
    changes: tuple[Change, ...]


def table_history(
    tx: ReadTransaction,
    table: Table,
    *,
    newest_first: bool = False,
    committed_from: int = 0,
    committed_before: int | None = None,
    beyond: int | None = None,
    through: int | None = None,
    limit: int | None = None,
) -> Iterator[TableEntry]:
    """Entries with changes of ``table``, oldest first, whose commit time here is in ``[committed_from,
    committed_before)``.

    ``beyond`` goes on behind an ``lseq`` met earlier, in the direction of reading; ``through`` is the last one that is
    looked at, to bound how long ``tx`` stays open where most of the log is other tables'. Valid while ``tx`` is open.
    Commit times of one log may run backwards with the wall clock, so the whole log is looked through.
    """
    committed_from = max(committed_from, _hidden_before(tx, table))
    entries = tx.log.read_before(beyond) if newest_first else tx.log.read_from(0 if beyond is None else beyond + 1)
    given = 0
    for entry in entries:
        is_in_window = committed_from <= entry.committed_at and (
            committed_before is None or entry.committed_at < committed_before
        )
        if limit is not None and given >= limit:
            return
        if through is not None and (entry.lseq < through if newest_first else entry.lseq > through):
            return
        found = _of_table(entry, table) if is_in_window else None
        if found is not None:
            given += 1
            yield found


def record_history(
    tx: ReadTransaction, table: Table, stored_key: bytes, *, limit: int | None = None
) -> Iterator[TableEntry]:
    """What made the record as it stands here, newest first, each with this record's change alone.

    A walk along the links between entries: it costs what it yields, whatever else the log holds. Writes that lost
    against a newer one changed nothing and are not among them. Ends where the log, or this table's part of it, ends.
    """
    lseq = _last_write(tx, table, stored_key)
    hidden_before = _hidden_before(tx, table)
    given = 0
    while lseq and (limit is None or given < limit):
        entry = tx.log.entry(lseq)
        if entry is None or entry.committed_at < hidden_before:
            return
        found = _of_table(entry, table, stored_key)
        if found is None:
            return
        given += 1
        yield found
        previous = found.changes[0].previous_lseq
        lseq = previous if previous < lseq else 0


def original_record(tx: ReadTransaction, table: Table, change: Change) -> dict[str, Any] | None:
    """The record as it was before ``change``: None where it was not there, or is no longer known."""
    entry = tx.log.entry(change.previous_lseq) if change.previous_lseq else None
    if entry is None or entry.committed_at < _hidden_before(tx, table):
        return None
    found = _of_table(entry, table, stored_key_of(change.key))
    return found.changes[0].record if found else None


def _last_write(tx: ReadTransaction, table: Table, stored_key: bytes) -> int:
    """The entry that wrote the row or the tombstone; 0 where there is neither, or a copy brought it."""
    for number in (table.rows_id, table.tombstones_id):
        data = tx.txn.get(stored_key, db=tx.environment.handles[f"p{number}"])
        if data is not None:
            return decode_row(data).lseq
    return 0


def _of_table(entry: Entry, table: Table, stored_key: bytes | None = None) -> TableEntry | None:
    """What ``entry`` holds of ``table`` (and of one record only, where that is asked), None where it holds nothing."""
    header = entry.header
    if header.kind != "tx" or header.ts < table.definition.created:
        return None
    changes = tuple(
        _change(write, previous)
        for write, previous in zip(entry.writes(), entry.previous, strict=True)
        if write["t"] == table.name and (stored_key is None or stored_key_of(write["k"]) == stored_key)
    )
    if not changes:
        return None
    return TableEntry(
        lseq=entry.lseq,
        ts=header.ts,
        committed_at=entry.committed_at,
        node=header.origin.node,
        user=header.user,
        operation=header.operation,
        changes=changes,
    )


def _change(write: dict[str, Any], previous: int) -> Change:
    return Change(
        key=write["k"],
        record=codec.decode(write["v"]) if write["op"] == "put" else None,
        changed=tuple(write["a"]) if "a" in write else None,
        expires_at_ms=write.get("x"),
        previous_lseq=previous,
    )


def _hidden_before(tx: ReadTransaction, table: Table) -> int:
    data = tx.txn.get(HIDDEN_KEY + table.id.to_bytes(4), db=tx.environment.handles["meta"])
    return 0 if data is None else int.from_bytes(data)
