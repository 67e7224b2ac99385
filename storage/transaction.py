"""Reading: one consistent snapshot of a database. ``storage/write_transaction.py`` is the other half.

A read transaction is short: it is opened, used and closed without an ``await`` between, as a reader that stays open
keeps LMDB from reusing pages and makes the file grow. A long scan reads a page, closes, and goes on from its cursor.

The schema is cached by its version number, which is read in the same snapshot as the rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from storage import codec, keys
from storage.commit_log import HEAD_KEY, CommitLog, Head
from storage.environment import Environment
from storage.errors import TableNotFound
from storage.record import Row, decode_row
from storage.schema import Table

HIDDEN_KEY: Final = b"hidden:"
"""In ``meta``, with a table id behind it: commit time (u64) before which the table's history is not shown any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """All tables of a database at one version."""

    version: int
    tables: Mapping[str, Table]
    by_id: Mapping[int, Table] = field(repr=False)

    @classmethod
    def of(cls, version: int, tables: Iterator[Table]) -> "Schema":
        by_id = {table.id: table for table in tables}
        return cls(version=version, tables={table.name: table for table in by_id.values()}, by_id=by_id)


def load_schema(environment: Environment, txn: Any, version: int) -> Schema:
    """Decode the tables as they stand in this transaction, in the order they were created."""
    with txn.cursor(db=environment.handles["tables"]) as cursor:
        stored = [(int.from_bytes(key), codec.decode(value)) for key, value in cursor]
    return Schema.of(version, (Table.decoded(table_id, environment.name, plain) for table_id, plain in stored))


class SchemaCache:
    """The newest schema that a transaction has seen."""

    __slots__ = ("newest",)

    def __init__(self) -> None:
        self.newest: Schema | None = None

    def get(self, environment: Environment, txn: Any, version: int) -> Schema:
        newest = self.newest
        if newest is None or newest.version != version:
            newest = load_schema(environment, txn, version)
            self.newest = newest
        return newest


class ReadTransaction:
    """A snapshot. Use as a context manager; iterators end with it.

    ``now_ms`` is the instant as of which records are expired: the same for the whole transaction.
    """

    __slots__ = ("_cache", "environment", "now_ms", "txn")

    def __init__(self, environment: Environment, cache: SchemaCache, now_ms: int) -> None:
        self.environment = environment
        self.now_ms = now_ms
        self._cache = cache
        self.txn = environment.begin_read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.environment.end_read(self.txn)

    def head(self) -> Head:
        return Head.decoded(self.txn.get(HEAD_KEY, db=self.environment.handles["meta"]))

    def schema(self) -> Schema:
        return self._cache.get(self.environment, self.txn, self.head().schema_version)

    def table(self, name: str) -> Table:
        """Raises ``TableNotFound``."""
        table = self.schema().tables.get(name)
        if table is None:
            raise TableNotFound(self.environment.name, name)
        return table

    @property
    def log(self) -> CommitLog:
        return CommitLog(self.environment, self.txn)

    def row(self, table: Table, stored_key: bytes) -> Row | None:
        """The live row under a stored primary key: None where there is none or it has expired."""
        data = self.txn.get(stored_key, db=self.environment.handles[f"p{table.rows_id}"])
        if data is None:
            return None
        row = decode_row(data)
        return None if row.is_expired(self.now_ms) else row

    def record(self, table: Table, row: Row) -> dict[str, Any]:
        """The record of a row, without attributes dropped since it was written."""
        return table.visible(row.decode(), row.ts)

    def rows(
        self, table: Table, *, low: bytes | None = None, high: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Row]]:
        """Live rows in the order of their stored keys, from ``low`` on, up to but without ``high``."""
        for key, data in self._walk(f"p{table.rows_id}", low, high, reverse):
            row = decode_row(data)
            if not row.is_expired(self.now_ms):
                yield key, row

    def index_entries(
        self,
        table: Table,
        attribute: str,
        *,
        low: bytes | None = None,
        high: bytes | None = None,
        reverse: bool = False,
        after: tuple[bytes, bytes] | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """``(stored value, stored primary key)`` of an index, in that order, from ``low`` on, without ``high``.

        ``after`` goes on behind (in ``reverse``: before) an entry met earlier, whether or not it still exists. The rows
        that the entries lead to may have expired.
        """
        yield from self._walk(f"i{table.index_ids[attribute]}", low, high, reverse, after)

    def record_count(self, table: Table) -> int:
        """Number of live records, exact: all rows less those that have expired and wait for removal."""
        stored = int(self.txn.stat(self.environment.handles[f"p{table.rows_id}"])["entries"])
        return stored - sum(1 for _ in self.expired(table))

    def expired(self, table: Table | None = None) -> Iterator[tuple[int, bytes]]:
        """``(table id, stored primary key)`` of rows whose time has come, earliest first."""
        end = (self.now_ms + 1).to_bytes(8)
        with self.txn.cursor(db=self.environment.handles["expiry"]) as cursor:
            for key, stored_key in cursor:
                if key >= end:
                    return
                table_id = int.from_bytes(key[8:])
                if table is None or table.id == table_id:
                    yield table_id, stored_key

    def state_digest(self, table: Table) -> bytes:
        """Order-independent digest of the table's visible rows, 16 bytes."""
        data: bytes = self.txn.get(table.id.to_bytes(4), default=bytes(16), db=self.environment.handles["digests"])
        return data

    def _walk(
        self,
        handle: str,
        low: bytes | None,
        high: bytes | None,
        reverse: bool,
        after: tuple[bytes, bytes] | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        with self.txn.cursor(db=self.environment.handles[handle]) as cursor:
            if reverse:
                if not _seek_last(cursor, high, after):
                    return
                for key, value in cursor.iterprev():
                    if low is not None and key < low:
                        return
                    yield key, value
            else:
                if not _seek_first(cursor, low, after):
                    return
                for key, value in cursor.iternext():
                    if high is not None and key >= high:
                        return
                    yield key, value


def _seek_first(cursor: Any, low: bytes | None, after: tuple[bytes, bytes] | None) -> bool:
    """Put ``cursor`` on the first item at or behind ``low``, or strictly behind ``after``."""
    if after is None:
        return bool(cursor.set_range(low) if low is not None else cursor.first())
    key, value = after
    if cursor.set_key(key):
        if cursor.set_range_dup(key, value):
            return bool(cursor.value() != value or cursor.next())
        return bool(cursor.set_key(key) and cursor.next_nodup())
    return bool(cursor.set_range(key))


def _seek_last(cursor: Any, high: bytes | None, after: tuple[bytes, bytes] | None) -> bool:
    """Put ``cursor`` on the last item before ``high``, or strictly before ``after``."""
    if after is not None:
        key, value = after
        if cursor.set_key(key):
            if cursor.set_range_dup(key, value):
                return bool(cursor.prev())
            return bool(cursor.set_key(key) and cursor.last_dup())
        high = key
    if high is None:
        return bool(cursor.last())
    return bool(cursor.prev()) if cursor.set_range(high) else bool(cursor.last())


def stored_key_of(value: Any) -> bytes:
    """Where a record with this primary key stands. Raises ``InvalidKey``."""
    return keys.stored(keys.encode_primary_key(value))
