"""A database at one instant, read as raw as it can be: what a check looks at.

Opens the folder for reading only, beside a running node or without one. No start counter moves, nothing is created.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from storage import codec
from storage.abandoned import Branch, read_branches
from storage.check_report import Report
from storage.commit_log import HEAD_KEY, Head, Position
from storage.copy_description import COPIED_KEY
from storage.data_file import LOCK_FILE, file_problem
from storage.environment import FIXED, FIXED_DUPLICATES, Environment
from storage.errors import Corrupt
from storage.schema import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """``handles`` by name of sub-database, ``tables`` and ``positions`` by short id; ``now_ms`` decides on expiry.

    ``copied``: by short id of an origin, the position up to which copies from peers may have decided what is here; None
    where none was ever begun. ``branches``, too, by short id: own entries that a fork left behind.
    """

    txn: Any
    handles: dict[str, Any]
    head: Head
    tables: dict[int, Table]
    positions: dict[int, Position]
    now_ms: int
    copied: dict[int, int] | None
    branches: dict[int, Branch]

    def get(self, handle: str, key: bytes) -> bytes | None:
        data: bytes | None = self.txn.get(key, db=self.handles[handle])
        return data

    def items(self, handle: str) -> Iterator[tuple[bytes, bytes]]:
        with self.txn.cursor(db=self.handles[handle]) as cursor:
            yield from cursor

    def has_pair(self, handle: str, key: bytes, value: bytes) -> bool:
        """Whether a ``dupsort`` sub-database holds exactly this pair."""
        with self.txn.cursor(db=self.handles[handle]) as cursor:
            return bool(cursor.set_key_dup(key, value))

    def entry_count(self, handle: str) -> int:
        return int(self.txn.stat(self.handles[handle])["entries"])


@contextmanager
def open_snapshot(database: Path | Environment, report: Report, now_ms: int) -> Iterator[Snapshot | None]:
    """The snapshot, or None where too little is there to go on, which is reported then. Raises ``lmdb.Error``."""
    if isinstance(database, Environment):
        txn = database.begin_read()
        try:
            yield _load(txn, dict(database.handles), report, now_ms)
        finally:
            database.end_read(txn)
        return
    problem = file_problem(database)
    if problem is not None:
        report.add("file", problem)
        yield None
        return
    with _open_for_reading(database) as environment, environment.begin() as txn:
        handles = {name: environment.open_db(name.encode(), txn=txn, create=False) for name in _names(txn)}
        yield _load(txn, handles, report, now_ms)


def _open_for_reading(path: Path) -> Any:
    """Without a lock file nobody has the folder open, and none is made."""
    has_lock = (path / LOCK_FILE).exists()
    with lmdb.open(str(path), readonly=True, create=False, lock=has_lock) as environment:
        sub_databases = environment.stat()["entries"]
    return lmdb.open(str(path), readonly=True, create=False, lock=has_lock, max_dbs=2 * sub_databases + 1000)


def _names(txn: Any) -> list[str]:
    with txn.cursor() as cursor:
        return [key.decode() for key in cursor.iternext(keys=True, values=False)]


def _load(txn: Any, handles: dict[str, Any], report: Report, now_ms: int) -> Snapshot | None:
    missing = [name for name in (*FIXED, *FIXED_DUPLICATES) if name not in handles]
    for name in missing:
        report.add("meta", f"sub-database '{name}' is missing")
    if missing:
        return None
    meta = handles["meta"]
    return Snapshot(
        txn=txn,
        handles=handles,
        head=Head.decoded(txn.get(HEAD_KEY, db=meta)),
        tables=dict(_tables(txn, handles, report)),
        positions=dict(_positions(txn, handles, report)),
        now_ms=now_ms,
        copied=_copied(txn.get(COPIED_KEY, db=meta), report),
        branches=_branches(txn, meta, report),
    )


def _copied(data: bytes | None, report: Report) -> dict[int, int] | None:
    try:
        return None if data is None else dict(codec.decode(data))
    except (Corrupt, TypeError, ValueError) as error:
        report.add("meta", f"what copies decided cannot be read: {error}")
        return None


def _branches(txn: Any, meta: Any, report: Report) -> dict[int, Branch]:
    with txn.cursor(db=meta) as cursor:
        try:
            return read_branches(cursor)
        except Corrupt as error:
            report.add("meta", str(error))
            return {}


def _tables(txn: Any, handles: dict[str, Any], report: Report) -> Iterator[tuple[int, Table]]:
    with txn.cursor(db=handles["tables"]) as cursor:
        for key, data in cursor:
            table_id = int.from_bytes(key)
            try:
                yield table_id, Table.decoded(table_id, "", codec.decode(data))
            except (Corrupt, KeyError, TypeError, AttributeError) as error:
                report.add("table", f"its definition cannot be read: {error}", key=table_id)


def _positions(txn: Any, handles: dict[str, Any], report: Report) -> Iterator[tuple[int, Position]]:
    with txn.cursor(db=handles["origins"]) as cursor:
        for key, data in cursor:
            origin_id = int.from_bytes(key)
            try:
                yield origin_id, Position.decoded(data)
            except (Corrupt, ValueError, TypeError) as error:
                report.add("position", f"it cannot be read: {error}", key=origin_id)
