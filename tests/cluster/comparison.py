"""Replicas compared: what clients are shown by running nodes, and what stands in the files of stopped ones.

Contents are compared in full, key sets and values, in both directions: counts agree with each other while data is
missing. What a node says about its links is never asked here.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from node.verify import database_folders
from storage.check_report import Report
from storage.check_snapshot import Snapshot, open_snapshot
from storage.checker import check_database
from storage.record import decode_row
from storage.schema import Table
from tests.cluster.ledger import Ledger
from tests.node_process import NodeProcess

EQUAL_S_MAX: Final = 60.0
_PAUSES_S: Final = (0.02, 0.05, 0.1, 0.2)
_SHOWN: Final = 10

Contents = dict[Any, dict[str, Any]]
T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, *, within_s: float = EQUAL_S_MAX) -> T:
    """The first true answer of ``condition``, asked again and again."""
    deadline = time.monotonic() + within_s
    for attempt in range(1_000_000):
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSES_S[min(attempt // 10, len(_PAUSES_S) - 1)])
    raise AssertionError(f"not within {within_s:g} s: {what}")


def contents(node: NodeProcess, table: str, *, database: str = "data", key: str = "id") -> Contents | None:
    """All records by their key; a key that is no text or number by its JSON. None where the table is not there."""
    response = node.request(
        {
            "operation": "search_by_value",
            "database": database,
            "table": table,
            "attribute": key,
            "value": "*",
            "get_attributes": ["*"],
        }
    )
    if response.status_code in (400, 404):
        return None
    assert response.status_code == 200, response.text
    records = response.json()
    found = {_as_key(record[key]): record for record in records}
    assert len(found) == len(records), "a record was listed twice"
    return found


def record_count(node: NodeProcess, table: str, database: str = "data") -> int | None:
    """None where the table is not there. Cheap, and says nothing of what the records are."""
    response = node.request({"operation": "describe_table", "database": database, "table": table})
    return response.json()["record_count"] if response.status_code == 200 else None


def _as_key(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else json.dumps(value, sort_keys=True)


def wait_until_equal(
    nodes: Sequence[NodeProcess],
    table: str,
    *,
    ledger: Ledger | None = None,
    count: int | None = None,
    database: str = "data",
    key: str = "id",
    within_s: float = EQUAL_S_MAX,
) -> Contents:
    """What all nodes show in the end: the same records, fit for the ledger, and so many of them where that is known."""
    if count is not None:
        what = f"all have {count} records in {table}"
        wait_until(lambda: {record_count(node, table, database) for node in nodes} == {count}, what, within_s=within_s)
    deadline = time.monotonic() + within_s
    for attempt in range(1_000_000):
        shown = [contents(node, table, database=database, key=key) for node in nodes]
        problems = list(_differences(nodes, shown, ledger))
        if not problems:
            assert shown[0] is not None
            return shown[0]
        if time.monotonic() > deadline:
            break
        time.sleep(_PAUSES_S[min(attempt // 10, len(_PAUSES_S) - 1)])
    raise AssertionError(f"{table} is not equal within {within_s:g} s:\n" + "\n".join(problems[:_SHOWN]))


def _differences(
    nodes: Sequence[NodeProcess], shown: Sequence[Contents | None], ledger: Ledger | None
) -> Iterator[str]:
    names = [getattr(node, "name", node.address) for node in nodes]
    yield from (f"{name} has no such table" for name, records in zip(names, shown, strict=True) if records is None)
    first = shown[0]
    if first is None:
        return
    for name, records in zip(names[1:], shown[1:], strict=True):
        for key in [] if records is None else sorted(first.keys() | records.keys(), key=str):
            if first.get(key) != records.get(key):
                yield f"[{key}] {names[0]}: {first.get(key)!r:.300} {name}: {records.get(key)!r:.300}"
    if ledger is not None:
        yield from ledger.problems(first)


class _Stored(NamedTuple):
    """A row or tombstone as every replica has to have it."""

    stamp: tuple[int, str, str, int]
    value: bytes
    expires_at_ms: int | None


class _Replica(NamedTuple):
    rows: dict[bytes, _Stored]
    tombstones: dict[bytes, _Stored]
    digest: bytes
    is_complete: bool


def check_files(roots: Mapping[str, Path], *, unequal: Collection[str] = ()) -> None:
    """Every database of these stopped nodes is in order by itself, and equal to the others' of its name but for those
    that need not be.
    """
    replicas: dict[tuple[str, str], dict[str, _Replica]] = {}
    problems: list[str] = []
    for name, root in roots.items():
        for database, folder in database_folders(root):
            problems += [f"{name} {database}: {problem}" for problem in check_database(folder)]
            for table, replica in () if database in unequal else _replicas(folder):
                replicas.setdefault((database, table), {})[name] = replica
    for (database, table), by_node in replicas.items():
        problems += [f"{database}.{table} {problem}" for problem in _compare(by_node)]
    assert not problems, "\n".join(problems[: 3 * _SHOWN])


def _replicas(folder: Path) -> Iterator[tuple[str, _Replica]]:
    report = Report()
    with open_snapshot(folder, report, time.time_ns() // 1_000_000) as snapshot:
        assert snapshot is not None, report.problems
        for table in snapshot.tables.values():
            if not table.definition.is_local and table.definition.replicate is not False:
                yield table.name, _replica(snapshot, table)


def _replica(snapshot: Snapshot, table: Table) -> _Replica:
    return _Replica(
        rows=dict(_stored(snapshot, f"p{table.rows_id}")),
        tombstones=dict(_stored(snapshot, f"p{table.tombstones_id}")),
        digest=snapshot.get("digests", table.id.to_bytes(4)) or bytes(16),
        is_complete=table.complete,
    )


def _stored(snapshot: Snapshot, handle: str) -> Iterator[tuple[bytes, _Stored]]:
    """Without what was written for its node alone."""
    for key, data in snapshot.items(handle):
        row = decode_row(data)
        if row.oseq and row.is_resident:
            origin = snapshot.positions[row.origin].origin
            yield key, _Stored((row.ts, origin.node, origin.store, row.oseq), row.value, row.expires_at_ms)


def _compare(by_node: Mapping[str, _Replica]) -> Iterator[str]:
    """Rows have to be the same, tombstones where both have one: they are let go at different times."""
    complete = {name: replica for name, replica in by_node.items() if replica.is_complete}
    if not complete:
        return
    first, *others = complete
    for other in others:
        one, two = complete[first], complete[other]
        for key in _unequal(one.rows, two.rows, one.rows.keys() | two.rows.keys()):
            yield f"row {key.hex()}: {first} {one.rows.get(key)} {other} {two.rows.get(key)}"
        for key in _unequal(one.tombstones, two.tombstones, one.tombstones.keys() & two.tombstones.keys()):
            yield f"tombstone {key.hex()}: {first} {one.tombstones[key]} {other} {two.tombstones[key]}"
        if one.digest != two.digest:
            yield f"digest: {first} {one.digest.hex()} {other} {two.digest.hex()}"


def _unequal(one: Mapping[bytes, _Stored], two: Mapping[bytes, _Stored], keys: Collection[bytes]) -> list[bytes]:
    return [key for key in sorted(keys) if one.get(key) != two.get(key)]
