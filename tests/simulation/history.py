"""What clients were promised, and whether it was kept: independent of the code that it checks.

The ledger holds every acknowledged write with its stamp. In the end all nodes must hold the same rows and tombstones,
and for each record the stamp there must be that of an acknowledged write or of a greater one. A write whose answer was
lost in a crash may have happened or not; it may supersede, it may not corrupt.
"""

import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cbor2

from storage.database import Database
from storage.transaction import ReadTransaction


class Stamp(NamedTuple):
    ts: int
    node: str
    store: str
    oseq: int


class Version(NamedTuple):
    """What a node holds of a record."""

    stamp: Stamp
    value: bytes | None


@dataclass(frozen=True)
class Promise:
    """One acknowledged write. ``value`` None: a delete."""

    table: str
    key: Any
    ts: int
    node: str
    store: str
    value: Any


@dataclass
class Ledger:
    promises: list[Promise] = field(default_factory=list)
    unanswered: int = 0
    refused: int = 0

    def acknowledged(self, table: str, key: Any, ts: int, origin: tuple[str, str], value: Any) -> None:
        self.promises.append(Promise(table, key, ts, *origin, value))


def state_of(database: Database) -> dict[tuple[str, Any], Version]:
    """Every row and tombstone of a database, read from the raw bytes."""
    with database.read() as tx:
        origins = {int.from_bytes(key): tuple(cbor2.loads(value)[:2]) for key, value in _items(tx, "origins")}
        state: dict[tuple[str, Any], Version] = {}
        for table in tx.schema().tables.values():
            for _, data in _items(tx, f"p{table.rows_id}"):
                stamp, value = _parse(data, origins)
                state[(table.name, cbor2.loads(value)["id"])] = Version(stamp, value)
            for _, data in _items(tx, f"p{table.tombstones_id}"):
                stamp, value = _parse(data, origins)
                state[(table.name, cbor2.loads(value))] = Version(stamp, None)
        return state


def vector_of(database: Database) -> dict[tuple[str, str], int]:
    with database.read() as tx:
        found = (cbor2.loads(value) for _, value in _items(tx, "origins"))
        return {(node, store): oseq for node, store, oseq, *_ in found if oseq}


def _items(tx: ReadTransaction, name: str) -> list[tuple[bytes, bytes]]:
    with tx.txn.cursor(db=tx.environment.handles[name]) as cursor:
        return list(cursor)


def _parse(data: bytes, origins: dict[int, tuple[str, str]]) -> tuple[Stamp, bytes]:
    flags, ts, origin, oseq, _ = struct.unpack_from(">BQIQQ", data)
    at = 29 + (8 if flags & 1 else 0) + (12 if flags & 2 else 0)
    if flags & 4:
        at += 2 + struct.unpack_from(">H", data, at)[0]
    return Stamp(ts, *origins[origin], oseq), data[at:]


def broken_promises(ledger: Ledger, states: dict[str, dict[tuple[str, Any], Version]]) -> list[str]:
    """What is wrong with the final states, in words; empty when all is as promised."""
    problems: list[str] = []
    names = sorted(states)
    reference = states[names[0]]
    for name in names[1:]:
        other = states[name]
        for key in sorted(reference.keys() ^ other.keys(), key=repr):
            problems.append(f"{key} is on one of {names[0]}, {name} only")
        for key in sorted(reference.keys() & other.keys(), key=repr):
            if reference[key] != other[key]:
                problems.append(f"{key} differs: {names[0]} {reference[key]}, {name} {other[key]}")
    for promise in ledger.promises:
        version = reference.get((promise.table, promise.key))
        promised = (promise.ts, promise.node, promise.store)
        if version is None:
            problems.append(f"nothing is left of {promise}")
        elif version.stamp[:3] < promised:
            problems.append(f"{promise} was lost: {version}")
        elif version.stamp[:3] == promised and not _is_value(version, promise.value):
            problems.append(f"{promise} was changed: {version}")
    return problems


def _is_value(version: Version, value: Any) -> bool:
    if value is None or version.value is None:
        return value is None and version.value is None
    return bool(cbor2.loads(version.value).get("w") == value)
