"""Digests of ranges of a table: where do two replicas differ whose kept digests do?

What counts is what replicas hold alike: live rows that may leave this node and are held here in full. The kept digest
leaves out rows that expire, as one node may remove them before another. A scan can include them, as of one instant
that is still to come on both nodes when the scan ends: what expires until then counts as gone, removed or not.

Both nodes have to cut at the same places. One *splits* its rows evenly and tells the other where it cut, that one
*answers* for the same boundaries, and where two digests differ the range is split again, until it is small enough for
``versions``. Boundaries are stored primary keys, which are the same on every node.

A scan goes page by page, each a transaction of its own, as a reader must not stay open. To know that the digests are
those of one state all the same, it looks in each page at the table's kept digest (where expiring rows are included, at
the vector as well). While that stays as it was in the first page, the scan ``is_still``: no counted row has changed
meanwhile, however much was written to other tables. Two scans can be held against each other where both were still and
began with the kept digests that the nodes had at equal vectors. Of a table that moved they tell only where to look, and
the single versions decide: one that the other node's vector does not cover has simply not arrived there yet.
"""

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice, pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

from storage import codec
from storage.database import Database
from storage.entry import Origin, Stamp, digest
from storage.errors import Corrupt, TableNotFound
from storage.keys import STORED_BYTES_MAX
from storage.record import Row, decode_row
from storage.schema import Table
from storage.table_planner import row_hash
from storage.transaction import ReadTransaction
from storage.write_state import DIGEST_MODULUS

PARTS: Final = 256
"""Ranges of one scan at most."""
PAGE_ROWS: Final = 5000
"""Rows looked at in one transaction: some ten milliseconds."""
PAGE_BYTES: Final = 8 << 20
"""Value bytes looked at in one transaction."""


class TableDigest(NamedTuple):
    """``rows`` is all that are stored, also what the digest leaves out: to be shown, not to be compared."""

    rows: int
    digest: bytes


class RangeDigest(NamedTuple):
    """The counted rows from ``low`` on, up to but without ``high``; None is the end of the table."""

    low: bytes | None
    high: bytes | None
    rows: int
    digest: bytes


class TableState(NamedTuple):
    """What a table was in one transaction."""

    digest: bytes
    vector: Mapping[Origin, int]


class Version(NamedTuple):
    """What is here of a record. A vector that reaches ``position`` covers it: of the restatement that brought it last,
    else of its own entry. ``key`` is None where the value is damaged.

    ``content`` is a digest of the value; b"" where replicas may hold different bytes, as some have the record in part.
    """

    stored_key: bytes
    key: Any
    stamp: Stamp
    position: tuple[Origin, int]
    is_tombstone: bool
    content: bytes


def table_digest(tx: ReadTransaction, table: Table) -> TableDigest:
    """The digest that is kept in each commit, so this costs nothing. It is the one at ``read_vector`` of ``tx``."""
    rows = tx.txn.stat(tx.environment.handles[f"p{table.rows_id}"])["entries"]
    return TableDigest(int(rows), tx.state_digest(table))


def read_vector(tx: ReadTransaction) -> dict[Origin, int]:
    """How far each origin is applied, as of this transaction."""
    return {position.origin: position.oseq for position in tx.log.positions().values()}


def versions(
    tx: ReadTransaction,
    table: Table,
    *,
    low: bytes | None = None,
    high: bytes | None = None,
    after: bytes | None = None,
    limit: int = PAGE_ROWS,
) -> list[Version]:
    """Rows and tombstones of a range that other nodes may have, in key order; the next ``limit`` behind ``after``.

    What has expired as of the transaction's instant counts as a tombstone. Raises ``Corrupt`` for an impossible range.
    """
    _check_ascending(low, (), high)
    reader = VersionReader(tx, table)
    start = low if after is None else after
    rows = ((key, row, True) for key, row in _stored(tx, table.rows_id, start, high))
    tombstones = ((key, row, False) for key, row in _stored(tx, table.tombstones_id, start, high))
    known = (
        reader.version(key, row, has_record=has_record)
        for key, row, has_record in merge(rows, tombstones, key=itemgetter(0))
        if row.oseq and key != after
    )
    return list(islice(known, limit))


class VersionReader:
    """Makes versions of rows and tombstones of one table, in one transaction."""

    def __init__(self, tx: ReadTransaction, table: Table) -> None:
        self._now_ms = tx.now_ms
        self._primary_key = table.primary_key
        self._origins = {number: position.origin for number, position in tx.log.positions().items()}

    def version(self, stored_key: bytes, row: Row, *, has_record: bool) -> Version:
        origins = self._origins
        return Version(
            stored_key=stored_key,
            key=self._key(row, has_record),
            stamp=Stamp(row.ts, *origins[row.origin], row.oseq),
            position=(origins[row.origin], row.oseq) if row.by is None else (origins[row.by[0]], row.by[1]),
            is_tombstone=not has_record or row.is_expired(self._now_ms),
            content=b"" if row.residency else digest(row.value),
        )

    def _key(self, row: Row, has_record: bool) -> Any:
        try:
            value = row.decode()
        except Corrupt:
            return None
        if not has_record:
            return value
        return value.get(self._primary_key) if isinstance(value, dict) else None


class RangeScan:
    """Gathers the ``digests`` of consecutive ranges of a table, page by page. Made by ``split`` or ``between``."""

    def __init__(
        self,
        table: str,
        *,
        low: bytes | None,
        high: bytes | None,
        as_of_ms: int,
        includes_expiring: bool,
        boundaries: Sequence[bytes] = (),
        rows_per_range: int = 0,
        parts: int = 0,
    ) -> None:
        self.digests: list[RangeDigest] = []
        self.began: TableState | None = None
        self.is_still = True
        self.is_done = False
        self._table = table
        self._table_id = 0
        self._as_of_ms = as_of_ms
        self._includes_expiring = includes_expiring
        self._boundaries = list(reversed(boundaries))
        self._rows_per_range = rows_per_range
        self._cuts_left = parts - 1
        self._resume = low
        self._low = low
        self._high = high
        self._rows = 0
        self._sum = 0

    @classmethod
    def split(
        cls,
        table: str,
        *,
        rows: int,
        low: bytes | None = None,
        high: bytes | None = None,
        as_of_ms: int,
        includes_expiring: bool = False,
        parts: int = PARTS,
    ) -> "RangeScan":
        """Cut into ``parts`` ranges at most, even ones where ``rows`` is what there is between ``low`` and ``high``."""
        return cls(
            table,
            low=low,
            high=high,
            as_of_ms=as_of_ms,
            includes_expiring=includes_expiring,
            rows_per_range=max(-(-rows // parts), 1),
            parts=parts,
        )

    @classmethod
    def between(
        cls,
        table: str,
        boundaries: Sequence[bytes],
        *,
        low: bytes | None = None,
        high: bytes | None = None,
        as_of_ms: int,
        includes_expiring: bool = False,
    ) -> "RangeScan":
        """Cut where another node did. Raises ``Corrupt`` where nobody can have cut there."""
        _check_ascending(low, boundaries, high)
        return cls(
            table,
            low=low,
            high=high,
            as_of_ms=as_of_ms,
            includes_expiring=includes_expiring,
            boundaries=boundaries,
        )

    @property
    def boundaries(self) -> list[bytes]:
        """Where the scan has cut, for ``between`` elsewhere."""
        return [found.low for found in self.digests[1:] if found.low is not None]

    def read_page(self, database: Database) -> None:
        """Go on, in a transaction of its own; for a worker thread, until ``is_done``.

        Raises ``TableNotFound`` once this table is not there any more.
        """
        with database.read(now_ms=self._as_of_ms) as tx:
            table = self._find_table(tx, database.name)
            self._note_state(tx, table)
            stamp_bytes = _StampBytes(tx)
            value_bytes = 0
            for rows, (stored_key, row) in enumerate(_stored(tx, table.rows_id, self._resume, self._high)):
                if rows >= PAGE_ROWS or value_bytes >= PAGE_BYTES:
                    self._resume = stored_key
                    return
                value_bytes += len(row.value)
                if self._counts(row):
                    while (cut := self._next_cut(stored_key)) is not None:
                        self._end_range(cut)
                    self._rows += 1
                    self._sum += row_hash(stamp_bytes.of(row), stored_key, row.value)
        while self._boundaries:
            self._end_range(self._boundaries.pop())
        self._end_range(self._high)
        self.is_done = True

    def _find_table(self, tx: ReadTransaction, database: str) -> Table:
        table = tx.table(self._table)
        if table.id != (self._table_id or table.id):
            raise TableNotFound(database, self._table)
        self._table_id = table.id
        return table

    def _note_state(self, tx: ReadTransaction, table: Table) -> None:
        state = TableState(tx.state_digest(table), read_vector(tx))
        if self.began is None:
            self.began = state
        elif state.digest != self.began.digest or (self._includes_expiring and state.vector != self.began.vector):
            self.is_still = False

    def _counts(self, row: Row) -> bool:
        if not row.oseq or row.residency:
            return False
        return row.expires_at_ms is None or (self._includes_expiring and row.expires_at_ms > self._as_of_ms)

    def _next_cut(self, stored_key: bytes) -> bytes | None:
        """Where a range has to end before this key is counted."""
        if self._boundaries:
            return self._boundaries.pop() if self._boundaries[-1] <= stored_key else None
        if self._rows < self._rows_per_range or self._cuts_left <= 0:
            return None
        self._cuts_left -= 1
        return stored_key

    def _end_range(self, high: bytes | None) -> None:
        digest = (self._sum % DIGEST_MODULUS).to_bytes(16)
        self.digests.append(RangeDigest(self._low, high, self._rows, digest))
        self._low, self._rows, self._sum = high, 0, 0


class _StampBytes:
    """Stamps as bytes that are the same on every node, as ``WriteState.stamp_bytes`` has them."""

    def __init__(self, tx: ReadTransaction) -> None:
        self._origins = {number: codec.encode(list(position.origin)) for number, position in tx.log.positions().items()}

    def of(self, row: Row) -> bytes:
        return b"".join((row.ts.to_bytes(8), row.oseq.to_bytes(8), self._origins[row.origin]))


def _stored(tx: ReadTransaction, number: int, low: bytes | None, high: bytes | None) -> Iterator[tuple[bytes, Row]]:
    """What stands in a sub-database, expired or not, so that a page has an end where everything has."""
    with tx.txn.cursor(db=tx.environment.handles[f"p{number}"]) as cursor:
        if cursor.first() if low is None else cursor.set_range(low):
            for stored_key, data in cursor:
                if high is not None and stored_key >= high:
                    return
                yield stored_key, decode_row(data)


def _check_ascending(low: bytes | None, boundaries: Sequence[bytes], high: bytes | None) -> None:
    places = [place for place in (low, *boundaries, high) if place is not None]
    if len(boundaries) >= PARTS:
        raise Corrupt(f"a table is asked for in more than {PARTS} ranges")
    if not all(0 < len(place) <= STORED_BYTES_MAX for place in places) or any(a >= b for a, b in pairwise(places)):
        raise Corrupt("the boundaries of ranges are not stored keys in ascending order")
