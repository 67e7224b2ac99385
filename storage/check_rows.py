"""Checks rows and tombstones: by themselves, against indexes and expiry order in both directions, digests and log.

Both directions without a walk of the index: when every derived entry is there and their number is the index's, there is
no other. Only an index with a wrong number is walked, to name the entries that lead nowhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from storage import codec, keys
from storage.check_log import LogFindings
from storage.check_report import Report
from storage.check_snapshot import Snapshot
from storage.errors import Corrupt, InvalidKey
from storage.record import Row, decode_row
from storage.schema import Table


@dataclass(slots=True)
class _Tally:
    """What one walk over a table's rows adds up."""

    digest: int = 0
    expiring: int = 0
    in_log: int = 0
    entries: dict[str, int] = field(default_factory=dict)
    extras: dict[str, int] = field(default_factory=dict)
    """By index: entries that are second and further ones of their row."""


def check_rows(snapshot: Snapshot, report: Report, findings: LogFindings) -> None:
    expiring = 0
    for table in snapshot.tables.values():
        tally = _Tally(entries=dict.fromkeys(table.index_ids, 0), extras=dict.fromkeys(table.index_ids, 0))
        for stored_key, data in snapshot.items(f"p{table.rows_id}"):
            _check_row(snapshot, report, table, stored_key, data, tally, findings)
        for stored_key, data in snapshot.items(f"p{table.tombstones_id}"):
            _check_tombstone(snapshot, report, table, stored_key, data, tally, findings)
        _check_totals(snapshot, report, table, tally)
        if tally.in_log != findings.winners.get(table.id, 0):
            _name_unlogged(snapshot, report, table, findings)
        expiring += tally.expiring
    if expiring != snapshot.entry_count("expiry"):
        _name_stray_expiries(snapshot, report)


def _check_row(
    snapshot: Snapshot,
    report: Report,
    table: Table,
    stored_key: bytes,
    data: bytes,
    tally: _Tally,
    findings: LogFindings,
) -> None:
    row = _decoded(report, "row", table, stored_key, data)
    if row is None:
        return
    record = _value(report, "row", table, stored_key, row)
    if not isinstance(record, dict):
        report.add("row", "its value is no record", table=table.name, key=stored_key)
        return
    _check_key(report, "row", table, stored_key, record.get(table.primary_key))
    _check_stamp(snapshot, report, "row", table, stored_key, row)
    tally.in_log += findings.is_in_log(row.lseq)
    if row.expires_at_ms is None:
        tally.digest += _share(snapshot, stored_key, row)
    else:
        tally.expiring += 1
        if not snapshot.has_pair("expiry", _expiry_key(table, row.expires_at_ms), stored_key):
            report.add("expiry", "the row is not in the expiry order", table=table.name, key=stored_key)
    seen: set[str] = set()
    for name, entry in _entries(table, record, row):
        tally.entries[name] += 1
        tally.extras[name] += name in seen
        seen.add(name)
        if not snapshot.has_pair(f"i{table.index_ids[name]}", entry, stored_key):
            report.add("index", f"the index of '{name}' lacks this row", table=table.name, key=stored_key)


def _check_tombstone(
    snapshot: Snapshot,
    report: Report,
    table: Table,
    stored_key: bytes,
    data: bytes,
    tally: _Tally,
    findings: LogFindings,
) -> None:
    row = _decoded(report, "tombstone", table, stored_key, data)
    if row is None:
        return
    _check_key(report, "tombstone", table, stored_key, _value(report, "tombstone", table, stored_key, row))
    _check_stamp(snapshot, report, "tombstone", table, stored_key, row)
    tally.in_log += findings.is_in_log(row.lseq)
    if snapshot.get(f"p{table.rows_id}", stored_key) is not None:
        report.add("tombstone", "there is a row of this key as well", table=table.name, key=stored_key)


def _decoded(report: Report, kind: str, table: Table, stored_key: bytes, data: bytes) -> Row | None:
    try:
        return decode_row(data)
    except Corrupt as error:
        report.add(kind, str(error), table=table.name, key=stored_key)
        return None


def _value(report: Report, kind: str, table: Table, stored_key: bytes, row: Row) -> Any:
    try:
        return codec.decode(row.value)
    except Corrupt as error:
        report.add(kind, str(error), table=table.name, key=stored_key)
        return None


def _check_key(report: Report, kind: str, table: Table, stored_key: bytes, key: Any) -> None:
    try:
        is_right = keys.stored(keys.encode_primary_key(key)) == stored_key
    except InvalidKey:
        is_right = False
    if not is_right:
        report.add(kind, f"it stands under another key than its own, {key!r:.100}", table=table.name, key=stored_key)


def _check_stamp(snapshot: Snapshot, report: Report, kind: str, table: Table, stored_key: bytes, row: Row) -> None:
    """A restatement may bring a row whose own entry never arrives here, so then its position counts instead. What a copy
    brings is ahead of the vector until all of it is merged, and where its publisher takes an origin in part.
    """
    may_be_ahead = snapshot.copied is not None and (not row.lseq or row.by is not None)
    may_be_ahead = may_be_ahead or _is_to_be_restated(snapshot, row)
    for origin_id, oseq in ((row.origin, 0), row.by) if row.by else ((row.origin, row.oseq),):
        position = snapshot.positions.get(origin_id)
        if position is None:
            report.add(kind, f"its origin {origin_id} is not known", table=table.name, key=stored_key)
        elif oseq > position.oseq and not may_be_ahead:
            message = f"position {oseq} of '{position.origin.node}' is ahead of the vector ({position.oseq})"
            report.add(kind, message, table=table.name, key=stored_key)
    if row.lseq > snapshot.head.lseq:
        message = f"lseq {row.lseq} is behind the end of the log ({snapshot.head.lseq})"
        report.add(kind, message, table=table.name, key=stored_key)


def _is_to_be_restated(snapshot: Snapshot, row: Row) -> bool:
    """A fork took the position of this row's entry back, and restating has not come to the row yet."""
    branch = snapshot.branches.get((row.by or (row.origin, 0))[0])
    return branch is not None and branch.place is not None


def _share(snapshot: Snapshot, stored_key: bytes, row: Row) -> int:
    """A row's part of the state digest: nothing where replicas may differ in it."""
    position = snapshot.positions.get(row.origin)
    if not row.oseq or row.residency or position is None:
        return 0
    hashed = blake2b(digest_size=16)
    hashed.update(
        row.ts.to_bytes(8) + row.oseq.to_bytes(8) + codec.encode([position.origin.node, position.origin.store])
    )
    hashed.update(len(stored_key).to_bytes(2) + stored_key + row.value)
    return int.from_bytes(hashed.digest())


def _entries(table: Table, record: dict[str, Any], row: Row) -> Iterator[tuple[str, bytes]]:
    """``(attribute, stored value)`` of every index entry that the row must have."""
    for name in table.index_ids:
        if name in record and row.ts > table.dropped.get(name, 0):
            value = record[name]
            elements = value if isinstance(value, list) else [value]
            encoded = {keys.encode_scalar(element) for element in elements}
            yield from ((name, keys.stored(entry)) for entry in encoded if entry is not None)


def _expiry_key(table: Table, expires_at_ms: int) -> bytes:
    return expires_at_ms.to_bytes(8) + table.id.to_bytes(4)


def _check_totals(snapshot: Snapshot, report: Report, table: Table, tally: _Tally) -> None:
    stored = int.from_bytes(snapshot.get("digests", table.id.to_bytes(4)) or b"")
    if stored != tally.digest % (1 << 128):
        report.add("digest", "the state digest is not that of the rows", table=table.name)
    for name, count in tally.entries.items():
        if snapshot.entry_count(f"i{table.index_ids[name]}") != count:
            _name_stray_entries(snapshot, report, table, name)
        noted = int.from_bytes(snapshot.get("extras", table.index_ids[name].to_bytes(4)) or b"")
        if noted != tally.extras[name]:
            report.add("index", f"the count of further entries of '{name}' is not that of the rows", table=table.name)


def _name_stray_entries(snapshot: Snapshot, report: Report, table: Table, name: str) -> None:
    for value, stored_key in snapshot.items(f"i{table.index_ids[name]}"):
        data = snapshot.get(f"p{table.rows_id}", stored_key)
        try:
            row = None if data is None else decode_row(data)
            is_derived = row is not None and (name, value) in _entries(table, row.decode(), row)
        except (Corrupt, TypeError):
            continue
        if not is_derived:
            message = f"an entry of '{name}' leads to no row that has the value"
            report.add("index", message, table=table.name, key=stored_key)


def _name_stray_expiries(snapshot: Snapshot, report: Report) -> None:
    for key, stored_key in snapshot.items("expiry"):
        table = snapshot.tables.get(int.from_bytes(key[8:]))
        data = None if table is None else snapshot.get(f"p{table.rows_id}", stored_key)
        try:
            is_right = data is not None and decode_row(data).expires_at_ms == int.from_bytes(key[:8])
        except Corrupt:
            continue
        if not is_right:
            name = None if table is None else table.name
            message = "an entry of the expiry order leads to no row that expires then"
            report.add("expiry", message, table=name, key=stored_key)


def _name_unlogged(snapshot: Snapshot, report: Report, table: Table, findings: LogFindings) -> None:
    """The log was found to agree with fewer rows than say that they come from it."""
    for handle in (f"p{table.rows_id}", f"p{table.tombstones_id}"):
        for stored_key, data in snapshot.items(handle):
            try:
                row = decode_row(data)
            except Corrupt:
                continue
            if findings.is_in_log(row.lseq) and not findings.holds(snapshot, table, stored_key, row):
                message = f"entry {row.lseq}, which it says it comes from, does not hold it"
                report.add("fold", message, table=table.name, key=stored_key)
