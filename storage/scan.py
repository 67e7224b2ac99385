"""Walks over the primary table and the indexes in chunks, each chunk whole within the snapshot of the moment.

A walk keeps its place as the last entry it met, never a cursor: between two chunks the snapshot may be exchanged.
Chunks hold ``(stored value, stored key)`` in the order of the walk.

LMDB's order is that of the stored bytes. Where encodings had to be shortened, entries with one prefix stand in the
order of their digests: such a *run* is read as a whole and put in order by the full value and key, from the rows.
"""

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

from storage import codec
from storage.errors import AttributeNotFound, TableNotFound
from storage.keys import PREFIX_BYTES, STORED_BYTES_MAX, encode_elements, encode_scalar, is_shortened, stored
from storage.matching import Range, ValueTest, encode_key_value
from storage.planner import Direction
from storage.record import HEAD_BYTES, decode_row
from storage.schema import Table
from storage.transaction import ReadTransaction

CHUNK_MAX: Final = 512
CHUNK_MIN: Final = 16

Entry: TypeAlias = tuple[bytes, bytes]
Found: TypeAlias = tuple[bytes, dict[str, Any], bytes]
"""``(stored key, record, stored row)``."""

_ABOVE_DIGESTS: Final = b"\xff" * (STORED_BYTES_MAX - PREFIX_BYTES + 1)
_by_first = itemgetter(0)


class Window(NamedTuple):
    """Stored keys from ``low`` on, up to but without ``high``."""

    low: bytes
    high: bytes


class Reader:
    """The snapshot that a running query reads from; ``use`` exchanges it."""

    __slots__ = ("_whole_only", "chunk_max", "examined", "table", "tx")

    def __init__(
        self, tx: ReadTransaction, table: Table, *, chunk_max: int = CHUNK_MAX, whole_only: bool = False
    ) -> None:
        self.tx = tx
        self.table = table
        self.chunk_max = chunk_max
        self._whole_only = whole_only
        self.examined = 0
        """Entries met so far: what a page of a query that finds little is measured by."""

    def use(self, tx: ReadTransaction) -> None:
        """Read from ``tx`` from now on. Raises ``TableNotFound`` where the table has gone or is another one."""
        table = tx.table(self.table.name)
        if table.id != self.table.id:
            raise TableNotFound(table.database, table.name)
        self.tx = tx
        self.table = table

    def cursor(self, name: str) -> Any:
        return self.tx.txn.cursor(db=self.tx.environment.handles[name])

    def rows_handle(self) -> str:
        return f"p{self.table.rows_id}"

    def index_handle(self, attribute: str) -> str:
        """Raises ``AttributeNotFound`` where the index was dropped while the query ran."""
        index_id = self.table.index_ids.get(attribute)
        if index_id is None:
            raise AttributeNotFound(attribute)
        return f"i{index_id}"

    def record_of(self, data: bytes) -> dict[str, Any] | None:
        """The record of a stored row, None where it has expired, or is to be left out as other nodes hold it."""
        if not data[0] and not self.table.dropped:
            record: dict[str, Any] = codec.decode(data[HEAD_BYTES:])
            return record
        row = decode_row(data)
        if self._whole_only and not row.is_resident:
            return None
        return None if row.is_expired(self.tx.now_ms) else self.table.visible(row.decode(), row.ts)

    def stored_rows(self, stored_keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The stored rows under these keys, as far as there are."""
        with self.cursor(self.rows_handle()) as cursor:
            return dict(cursor.getmulti(stored_keys))


# -- windows ----------------------------------------------------------------------------------------------------------


def stored_window(wanted: Range, *, is_alone: bool) -> Window:
    """The stored keys that may belong to a range: exactly its own, but for shortened keys that share a bound's prefix.

    A single value is found by its digest, but only where it ``is_alone``: among others its run has to be put in order.
    """
    if wanted.is_point and (is_alone or len(wanted.low) < PREFIX_BYTES):
        key = stored(wanted.low)
        return Window(key, key + b"\x00")
    high = wanted.high if len(wanted.high) < PREFIX_BYTES else wanted.high[:PREFIX_BYTES] + _ABOVE_DIGESTS
    return Window(wanted.low[:PREFIX_BYTES], high)


def windows_of(test: ValueTest) -> list[Window]:
    """Ascending and disjoint windows that hold all entries of a test."""
    merged: list[Window] = []
    for wanted in test.ranges:
        window = stored_window(wanted, is_alone=len(test.ranges) == 1)
        if merged and window.low < merged[-1].high:
            merged[-1] = Window(merged[-1].low, max(merged[-1].high, window.high))
        else:
            merged.append(window)
    return merged


# -- chunks -----------------------------------------------------------------------------------------------------------


def chunk_sizes(wanted: int | None, chunk_max: int) -> Iterator[int]:
    """Sizes of successive chunks: small at first where few records are wanted."""
    size = chunk_max if wanted is None else min(chunk_max, max(CHUNK_MIN, wanted))
    while True:
        yield size
        size = min(chunk_max, size * 2)


def index_chunks(
    reader: Reader, attribute: str, test: ValueTest, direction: Direction, sizes: Iterator[int]
) -> Iterator[list[Entry]]:
    """Entries of an index in ``direction``; equal prefixes are in order."""
    windows = windows_of(test)
    for window in windows if direction is Direction.FORWARD else reversed(windows):
        yield from _window_chunks(reader, attribute, window, direction, sizes)


def primary_chunks(
    reader: Reader, test: ValueTest, direction: Direction, sizes: Iterator[int]
) -> Iterator[list[Entry]]:
    """``(stored key, stored row)`` of the table in key order. In a run the rows are read again when it is delivered."""
    windows = windows_of(test)
    for window in windows if direction is Direction.FORWARD else reversed(windows):
        yield from _window_chunks(reader, None, window, direction, sizes)


def _window_chunks(
    reader: Reader, attribute: str | None, window: Window, direction: Direction, sizes: Iterator[int]
) -> Generator[list[Entry], None, None]:
    read = _READERS[direction]
    after: Entry | None = None
    while True:
        size = next(sizes)
        name = reader.rows_handle() if attribute is None else reader.index_handle(attribute)
        with reader.cursor(name) as cursor:
            entries = read(cursor, window, after, size, attribute is not None)
        reader.examined += len(entries)
        run_at = _first_shortened(entries, is_index=attribute is not None)
        if run_at is not None:
            if run_at:
                yield entries[:run_at]
            run = _Run(reader, attribute, window, direction)
            yield from run.chunks(entries[run_at], size)
            after = run.last
        elif entries:
            after = entries[-1]
            yield entries
        if run_at is None and len(entries) < size:
            return


def _first_shortened(entries: list[Entry], *, is_index: bool) -> int | None:
    if is_index:
        for position, (value, key) in enumerate(entries):
            if len(key) == STORED_BYTES_MAX or len(value) == STORED_BYTES_MAX:
                return position
        return None
    return next((position for position, entry in enumerate(entries) if len(entry[0]) == STORED_BYTES_MAX), None)


# -- cursors ----------------------------------------------------------------------------------------------------------


def _read_forward(cursor: Any, window: Window, after: Entry | None, size: int, is_index: bool) -> list[Entry]:
    if after is None:
        is_there = cursor.set_range(window.low) if window.low else cursor.first()
    else:
        is_there = _seek_behind(cursor, after, is_index)
    entries = list(islice(cursor.iternext(), size)) if is_there else []
    if entries and entries[-1][0] >= window.high:
        del entries[bisect_left(entries, window.high, key=_by_first) :]
    return entries


def _read_backward(cursor: Any, window: Window, after: Entry | None, size: int, is_index: bool) -> list[Entry]:
    if after is None:
        is_there = cursor.prev() if cursor.set_range(window.high) else cursor.last()
    else:
        is_there = _seek_before(cursor, after, is_index)
    entries: list[Entry] = list(islice(cursor.iterprev(), size)) if is_there else []
    while entries and entries[-1][0] < window.low:
        entries.pop()
    return entries


def _read_values_backward(cursor: Any, window: Window, after: Entry | None, size: int, is_index: bool) -> list[Entry]:
    """Values descending, keys ascending under each."""
    assert is_index, "a table has one row under a key"
    entries: list[Entry] = []
    if after is None:
        is_there = cursor.prev() if cursor.set_range(window.high) else cursor.last()
    else:
        if _seek_in_value(cursor, after):
            entries.extend(islice(cursor.iternext_dup(keys=True), size))
        is_there = cursor.prev() if cursor.set_range(after[0]) else cursor.last()
    while is_there and len(entries) < size:
        value = cursor.key()
        if value < window.low:
            break
        cursor.first_dup()
        entries.extend(islice(cursor.iternext_dup(keys=True), size - len(entries)))
        is_there = cursor.set_key(value) and cursor.prev_nodup()
    return entries


def _seek_behind(cursor: Any, after: Entry, is_index: bool) -> bool:
    """Put the cursor on the first item behind ``after``, which need not exist any more."""
    key, value = after
    if not is_index:
        return bool(cursor.set_range(key) and (cursor.key() != key or cursor.next()))
    if not cursor.set_key(key):
        return bool(cursor.set_range(key))
    if cursor.set_range_dup(key, value):
        return bool(cursor.value() != value or cursor.next())
    return bool(cursor.set_key(key) and cursor.next_nodup())


def _seek_before(cursor: Any, after: Entry, is_index: bool) -> bool:
    """Put the cursor on the last item before ``after``."""
    key, value = after
    if is_index and cursor.set_key(key):
        if cursor.set_range_dup(key, value):
            return bool(cursor.prev())
        return bool(cursor.set_key(key) and cursor.last_dup())
    return bool(cursor.prev() if cursor.set_range(key) else cursor.last())


def _seek_in_value(cursor: Any, after: Entry) -> bool:
    """Put the cursor on the next key under the same value, if there is one."""
    key, value = after
    if not cursor.set_range_dup(key, value):
        return False
    return bool(cursor.value() != value or cursor.next_dup())


_READERS: Final[dict[Direction, Callable[[Any, Window, Entry | None, int, bool], list[Entry]]]] = {
    Direction.FORWARD: _read_forward,
    Direction.BACKWARD: _read_backward,
    Direction.VALUES_BACKWARD: _read_values_backward,
}


# -- runs of shortened keys -------------------------------------------------------------------------------------------


def in_key_order(reader: Reader, stored_keys: list[bytes]) -> list[bytes]:
    """Stored keys, whose runs are in no order, by their full keys. Those whose record has gone are left out."""
    full: dict[bytes, bytes] = {}
    shortened = [key for key in stored_keys if is_shortened(key)]
    for start in range(0, len(shortened), reader.chunk_max):
        for key, data in reader.stored_rows(shortened[start : start + reader.chunk_max]).items():
            record = reader.record_of(data)
            if record is not None:
                full[key] = encode_key_value(record.get(reader.table.primary_key)) or key
    return sorted(stored_keys, key=lambda key: full.get(key, key)) if full else stored_keys


class _Run:
    """Neighbours whose stored bytes do not tell their order. Kept in memory while it is delivered: its stored keys;
    while it is put in order: its values and keys in full.
    """

    def __init__(self, reader: Reader, attribute: str | None, window: Window, direction: Direction) -> None:
        self._reader = reader
        self._attribute = attribute
        self._window = window
        self._direction = direction
        self.last: Entry = (b"", b"")
        """The last entry of the run in stored order, from which the walk goes on."""

    def chunks(self, first: Entry, size: int) -> Iterator[list[Entry]]:
        entries = self._in_order(self._members(first, size))
        for start in range(0, len(entries), size):
            yield entries[start : start + size]

    def _members(self, first: Entry, size: int) -> list[Entry]:
        """All entries of the run, without the rows."""
        is_index = self._attribute is not None
        name = self._reader.rows_handle() if self._attribute is None else self._reader.index_handle(self._attribute)
        members = [first if is_index else (first[0], b"")]
        self.last = first
        read = _READERS[self._direction]
        while True:
            with self._reader.cursor(name) as cursor:
                entries = read(cursor, self._window, self.last, size, is_index)
            for entry in entries:
                if not _is_same_run(first, entry, is_index=is_index):
                    return members
                members.append(entry if is_index else (entry[0], b""))
                self.last = entry
            self._reader.examined += len(entries)
            if len(entries) < size:
                return members

    def _in_order(self, members: list[Entry]) -> list[Entry]:
        is_index = self._attribute is not None
        placed: list[tuple[bytes, bytes, Entry]] = []
        for start in range(0, len(members), self._reader.chunk_max):
            part = members[start : start + self._reader.chunk_max]
            rows = self._reader.stored_rows([entry[1] if is_index else entry[0] for entry in part])
            for entry in part:
                record = self._record(rows.get(entry[1] if is_index else entry[0]))
                if record is not None:
                    key = encode_key_value(record.get(self._reader.table.primary_key)) or b""
                    placed.append((self._full_value(entry, record), key, entry))
        placed.sort(key=itemgetter(1), reverse=self._direction is Direction.BACKWARD)
        placed.sort(key=itemgetter(0), reverse=self._direction is not Direction.FORWARD)
        return [entry for _, _, entry in placed]

    def _record(self, data: bytes | None) -> dict[str, Any] | None:
        return None if data is None else self._reader.record_of(data)

    def _full_value(self, entry: Entry, record: dict[str, Any]) -> bytes:
        """The encoding behind a stored value."""
        if self._attribute is None or not is_shortened(entry[0]):
            return b""
        value = record.get(self._attribute)
        encoded = encode_elements(value) if type(value) is list else (encode_scalar(value),)
        return next((one for one in encoded if one is not None and stored(one) == entry[0]), entry[0])


def _is_same_run(first: Entry, entry: Entry, *, is_index: bool) -> bool:
    if is_shortened(first[0]) or not is_index:
        return is_shortened(entry[0]) and entry[0][:PREFIX_BYTES] == first[0][:PREFIX_BYTES]
    return entry[0] == first[0] and is_shortened(entry[1]) and entry[1][:PREFIX_BYTES] == first[1][:PREFIX_BYTES]
