"""Restatements: what is here of a record, told again by an own entry under the stamp that it has.

They bring a version to nodes that its first entry cannot reach any more: it was lost to a fork, was purged elsewhere,
or a repair found that it is missing. A new stamp would do that too, but would make a newer write out of an old one and
could beat what nobody has seen yet. The writes of such an entry bear the old stamp in ``s``; where they are merged, a
value that has this stamp stays as it is, here as elsewhere, and its row only notes who said it again (``by``).

``WriteTransaction.restate`` stages them; here is what they mean.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from storage import codec
from storage.entry import decode_stored
from storage.record import Row
from storage.row_merge import Known, RowMerge
from storage.schema import Table
from storage.table_plan import TablePlan
from storage.transaction import stored_key_of
from storage.write_state import WriteState


def is_restatable(row: Row) -> bool:
    """Whether other nodes may have a row or tombstone, and all of it is here."""
    return row.oseq > 0 and row.is_resident


def plan_restatements(
    state: WriteState, table: Table, versions: Mapping[bytes, Known], *, oseq: int
) -> tuple[TablePlan, list[dict[str, Any]]]:
    """What restating ``versions`` (by stored key) at the own position ``oseq`` changes here, and the writes of its entry.

    Neither digest nor indexes change. A row that notes a greater ``by`` keeps it, as it does everywhere.
    """
    merge = RowMerge(state, table)
    by = (state.environment.origin_id, oseq)
    replaced = dict(_replaced(state, table, versions))
    writes: list[dict[str, Any]] = []
    for stored_key, version in versions.items():
        outcome = merge.merge(stored_key, version.row._replace(by=by), version, record=None, is_restatement=True)
        assert outcome == "restated", "a restatement bears the stamp of what is here"
        write = {**_write(table, version), "s": list(merge.stamp(version.row))}
        if stored_key in replaced:
            write["p"] = replaced[stored_key]
        writes.append(write)
    return merge.plan, writes


def _write(table: Table, version: Known) -> dict[str, Any]:
    """A tombstone that an expired record left keeps the expiry, which tells it from a delete's."""
    row = version.row
    write: dict[str, Any] = {"t": table.name}
    if version.is_tombstone:
        write |= {"op": "delete", "k": row.decode()}
    else:
        write |= {"op": "put", "k": row.decode()[table.primary_key], "v": row.value}
    if row.expires_at_ms is not None:
        write["x"] = row.expires_at_ms
    if row.residency:
        write["r"] = codec.decode(row.residency)
    return write


def _replaced(state: WriteState, table: Table, versions: Mapping[bytes, Known]) -> Iterator[tuple[bytes, Any]]:
    """What each version replaced at its origin, as long as the log knows: without it, it would look as if it had seen
    nothing, and its arrival like a conflict.
    """
    wanted: dict[int, set[bytes]] = {}
    for stored_key, version in versions.items():
        wanted.setdefault(version.row.lseq, set()).add(stored_key)
    for lseq, stored_keys in wanted.items():
        data = state.get("log", lseq.to_bytes(8))
        for write in () if data is None else decode_stored(lseq, data).writes():
            if "p" in write and write["t"] == table.name and (stored_key := stored_key_of(write["k"])) in stored_keys:
                yield stored_key, write["p"]
