"""What clients were promised, and whether it was kept: independent of the code that it checks.

The ledger holds every acknowledged write with its stamp. In the end all nodes must hold the same rows and tombstones,
and for each record the stamp there must be that of an acknowledged write or of a greater one. A write whose answer was
lost in a crash may have happened or not; it may supersede, it may not corrupt.
"""

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import cbor2

from storage.database import Database
from storage.schema import Table
from storage.transaction import ReadTransaction

OriginKey: TypeAlias = tuple[str, str]
"""Node and store."""
Items: TypeAlias = Callable[[str], list[tuple[bytes, bytes]]]


class Stamp(NamedTuple):
    ts: int
    node: str
    store: str
    oseq: int


class Version(NamedTuple):
    """What a node holds of a record."""

    stamp: Stamp
    value: bytes | None
    expires_ms: int | None = None

    def is_dead(self, now_ms: int) -> bool:
        return self.value is None or (self.expires_ms is not None and self.expires_ms <= now_ms)


@dataclass(frozen=True)
class Promise:
    """One acknowledged write. ``value`` None: a delete."""

    table: str
    key: Any
    ts: int
    node: str
    store: str
    value: Any
    expires_ms: int | None = None
    oseq: int = 0

    @property
    def stamp(self) -> tuple[int, str, str]:
        return (self.ts, self.node, self.store)


@dataclass
class Ledger:
    promises: list[Promise] = field(default_factory=list)
    excused: set[int] = field(default_factory=set)
    doubts: dict[tuple[str, Any], int] = field(default_factory=dict)
    """Records that an unanswered request may have taken away, and when at the latest."""
    unanswered: int = 0

    def acknowledged(
        self,
        table: str,
        key: Any,
        ts: int,
        origin: tuple[str, str],
        value: Any,
        *,
        expires_ms: int | None = None,
        oseq: int = 0,
    ) -> None:
        self.promises.append(Promise(table, key, ts, *origin, value, expires_ms, oseq))

    def doubt(self, table: str, key: Any, until_us: int) -> None:
        self.doubts[table, key] = max(until_us, self.doubts.get((table, key), 0))

    def excuse_lost(self, node: str, elsewhere: dict[OriginKey, int]) -> None:
        """All that ``node`` had is lost: what is kept of its promises is what others have, up to these positions."""
        for number, promise in enumerate(self.promises):
            if promise.node == node and promise.oseq > elsewhere.get((node, promise.store), 0):
                self.excused.add(number)


def state_of(database: Database) -> dict[tuple[str, Any], Version]:
    """Every row and tombstone of a database, read from the raw bytes."""
    with database.read() as tx:
        return state_in(partial(_items, tx), tx.schema().tables.values())


def vector_of(database: Database) -> dict[OriginKey, int]:
    with database.read() as tx:
        return vector_in(partial(_items, tx))


def state_in(items: Items, tables: Iterable[Table]) -> dict[tuple[str, Any], Version]:
    """Every row and tombstone; ``items`` gives all of a sub-database."""
    origins = {int.from_bytes(key): tuple(cbor2.loads(value)[:2]) for key, value in items("origins")}
    state: dict[tuple[str, Any], Version] = {}
    for table in tables:
        for _, data in items(f"p{table.rows_id}"):
            stamp, value, expires_ms = _parse(data, origins)
            state[(table.name, cbor2.loads(value)["id"])] = Version(stamp, value, expires_ms)
        for _, data in items(f"p{table.tombstones_id}"):
            stamp, value, expires_ms = _parse(data, origins)
            state[(table.name, cbor2.loads(value))] = Version(stamp, None, expires_ms)
    return state


def vector_in(items: Items, tables: Iterable[Table] = ()) -> dict[OriginKey, int]:
    found = (cbor2.loads(value) for _, value in items("origins"))
    return {(node, store): oseq for node, store, oseq, *_ in found if oseq}


def _items(tx: ReadTransaction, name: str) -> list[tuple[bytes, bytes]]:
    with tx.txn.cursor(db=tx.environment.handles[name]) as cursor:
        return list(cursor)


def _parse(data: bytes, origins: dict[int, tuple[str, str]]) -> tuple[Stamp, bytes, int | None]:
    """Stamp, value and expiry."""
    flags, ts, origin, oseq, _ = struct.unpack_from(">BQIQQ", data)
    at = 29 + (8 if flags & 1 else 0) + (12 if flags & 2 else 0)
    if flags & 4:
        at += 2 + struct.unpack_from(">H", data, at)[0]
    expires_ms = struct.unpack_from(">Q", data, 29)[0] if flags & 1 else None
    return Stamp(ts, *origins[origin], oseq), data[at:], expires_ms


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
    for number, promise in enumerate(ledger.promises):
        if number in ledger.excused:
            continue
        version = reference.get((promise.table, promise.key))
        if version is None:
            problems.append(f"nothing is left of {promise}")
        elif version.stamp[:3] < promise.stamp:
            problems.append(f"{promise} was lost: {version}")
        elif version.stamp[:3] == promise.stamp and not is_value(version, promise):
            problems.append(f"{promise} was changed: {version}")
    return problems


def is_value(version: Version, promise: Promise) -> bool:
    if version.expires_ms != promise.expires_ms:
        return False
    if version.value is None:
        return promise.value is None or promise.expires_ms is not None
    return promise.value is not None and bool(cbor2.loads(version.value).get("w") == promise.value)
