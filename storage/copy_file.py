"""The file of a copy: all rows and tombstones of a database that may leave it, out of one read transaction.

It is for a node that logs no longer reach. The reader is closed when the file is written, so a receiver may take its
time: what waits is a file, not a snapshot that keeps LMDB from reusing pages. ``storage/copy_merge.py`` merges it.

======== ==========================================================================================
part     content; each is ``u32 length | CBOR``
======== ==========================================================================================
header   ``["logmesh copy", 1, copy id, [[number, node, store], …]]``: origins by their number here
chunk    ``[table, [key, row, key, row, …]]``: place of the table in the description, up to 256 rows
end      ``[]``: nothing is missing
======== ==========================================================================================

Tables come in the order of the description, their rows and tombstones by stored key. A row has the form in which
``storage/record.py`` stores it, without the ``lseq`` that means nothing elsewhere; one more flag, TOMBSTONE (128),
tells what has the key for its value. So nothing is decoded to write a copy, and where the receiver has the same
version already nothing is decoded there either. Expired rows are written as they are. What has no ``oseq`` is local
and stays out. The digest of the whole file is in the description.
"""

import hashlib
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from operator import lt
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple, Self

from storage import codec
from storage.copy_description import TABLES_MAX, CopiedTable, CopyDescription, checked_copy_id, checked_origin
from storage.data_file import lacks_room
from storage.database import Database
from storage.entry import DIGEST_BYTES, Origin
from storage.errors import Corrupt, DiskFailed, DiskFull, VectorBehind
from storage.keys import STORED_BYTES_MAX
from storage.marks import ORIGINS_MAX, marks_of
from storage.record import BY, EXPIRES, HEAD_BYTES, NOT_RESIDENT, RESIDENCY, Row, decode_row
from storage.schema import Table
from storage.transaction import ReadTransaction
from storage.write_state import DROPPED_KEY

MAGIC: Final = "logmesh copy"
VERSION: Final = 1
TOMBSTONE: Final = 128
CHUNK_ROWS: Final = 256
CHUNK_BYTES: Final = 1 << 20
"""A chunk ends before it would pass this, but never before one row."""
ROW_BYTES_MAX: Final = 128 << 20
"""Largest chunk that is read: beyond what an entry, and so a row, may weigh by default."""
HEADER_BYTES_MAX: Final = 16 << 20
BUFFER_BYTES: Final = 1 << 20

_FLAGS: Final = EXPIRES | BY | RESIDENCY | NOT_RESIDENT | TOMBSTONE
_LENGTH: Final = struct.Struct(">I")
_TRAVELLING_HEAD: Final = struct.Struct(">BQIQ")
_LSEQ_AT: Final = _TRAVELLING_HEAD.size
_NO_LSEQ: Final = bytes(HEAD_BYTES - _LSEQ_AT)
_OSEQ: Final = slice(_LSEQ_AT - 8, _LSEQ_AT)
_LOCAL_ONLY: Final = bytes(8)


class Chunk(NamedTuple):
    """Rows of one table. ``table`` is its place in the description; ``offset`` and ``following`` are the bytes at which
    this chunk and the next part begin.
    """

    table: int
    keys: list[bytes]
    rows: list[bytes]
    offset: int
    following: int


# -- writing ----------------------------------------------------------------------------------------------------------


def write_copy(
    database: Database, file: Path, *, copy_id: str, left_out: Collection[Origin], need: Mapping[Origin, int]
) -> CopyDescription:
    """Write a copy of ``database`` to ``file``, replacing it; not synced, as it is sent once or made anew.

    ``left_out``: origins that this node takes in part only. Raises ``VectorBehind`` where the snapshot does not cover
    ``need``, and ``Unwritable`` where the disk does not take the file; there is none then.
    """
    checked_copy_id(copy_id)
    with database.read() as tx:
        positions = tx.log.positions()
        v0 = {at.origin: (at.oseq, at.chain) for at in positions.values() if at.oseq and at.origin not in left_out}
        for origin, oseq in need.items():
            covered, _ = v0.get(origin, (0, b""))
            if covered < oseq:
                raise VectorBehind(database.name, origin.node, covered, oseq)
        tables = [table for table in tx.schema().tables.values() if not table.definition.is_local]
        with _making(file, database.name) as out:
            writer = _Writer(out)
            writer.write_header(copy_id, {number: at.origin for number, at in positions.items()})
            for number, table in enumerate(tables):
                writer.write_table(number, _rows_and_tombstones(tx, table))
            writer.write_end()
        return CopyDescription(
            copy_id=copy_id,
            publisher=database.environment.origin,
            v0=v0,
            marks=marks_of(tx),
            tables=tuple(CopiedTable(table.definition, table.complete) for table in tables),
            not_kept=_not_kept(tx, {table.name for table in tables}),
            rows=writer.rows,
            size_bytes=writer.size_bytes,
            digest=writer.digest(),
        )


class _Writer:
    """Counts and hashes what it writes."""

    def __init__(self, out: BinaryIO) -> None:
        self.rows = 0
        self.size_bytes = 0
        self._out = out
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def digest(self) -> bytes:
        return self._hash.digest()

    def write_header(self, copy_id: str, origins: Mapping[int, Origin]) -> None:
        numbers = [[number, *origin] for number, origin in origins.items()]
        self._write([MAGIC, VERSION, copy_id, numbers])

    def write_table(self, number: int, items: Iterator[tuple[bytes, bytes]]) -> None:
        """The rows of one table, by stored key, in the form that they have in LMDB."""
        chunk: list[bytes] = []
        chunk_bytes = 0
        for key, data in items:
            if data[_OSEQ] == _LOCAL_ONLY:
                continue
            item_bytes = len(key) + len(data)
            if len(chunk) >= 2 * CHUNK_ROWS or (chunk and chunk_bytes + item_bytes > CHUNK_BYTES):
                self._write_chunk(number, chunk)
                chunk, chunk_bytes = [], 0
            chunk.append(key)
            chunk.append(data[:_LSEQ_AT] + data[HEAD_BYTES:])
            chunk_bytes += item_bytes
        if chunk:
            self._write_chunk(number, chunk)

    def write_end(self) -> None:
        self._write([])

    def _write_chunk(self, number: int, chunk: list[bytes]) -> None:
        self.rows += len(chunk) // 2
        self._write([number, chunk])

    def _write(self, part: list[Any]) -> None:
        encoded = codec.encode(part)
        for piece in (_LENGTH.pack(len(encoded)), encoded):
            self._out.write(piece)
            self._hash.update(piece)
            self.size_bytes += len(piece)


def _rows_and_tombstones(tx: ReadTransaction, table: Table) -> Iterator[tuple[bytes, bytes]]:
    """Both of a table in the order of their keys, of which no two are equal; tombstones are flagged."""
    tombstones = (
        (key, bytes((data[0] | TOMBSTONE,)) + data[1:]) for key, data in _items(tx, f"p{table.tombstones_id}")
    )
    waiting = next(tombstones, None)
    for item in _items(tx, f"p{table.rows_id}"):
        while waiting is not None and waiting[0] < item[0]:
            yield waiting
            waiting = next(tombstones, None)
        yield item
    if waiting is not None:
        yield waiting
        yield from tombstones


def _items(tx: ReadTransaction, handle: str) -> Iterator[tuple[bytes, bytes]]:
    with tx.txn.cursor(db=tx.environment.handles[handle]) as cursor:
        yield from cursor


def _meta_from(tx: ReadTransaction, key: bytes) -> Iterator[tuple[bytes, bytes]]:
    with tx.txn.cursor(db=tx.environment.handles["meta"]) as cursor:
        if cursor.set_range(key):
            yield from cursor


def _not_kept(tx: ReadTransaction, kept: Collection[str]) -> tuple[str, ...]:
    names = {name for name, table in tx.schema().tables.items() if table.definition.is_local}
    for key, _ in _meta_from(tx, DROPPED_KEY):
        if not key.startswith(DROPPED_KEY):
            break
        names.add(key[len(DROPPED_KEY) :].decode())
    return tuple(sorted(names.difference(kept)))


@contextmanager
def _making(file: Path, name: str) -> Iterator[BinaryIO]:
    """A new file to write to. Errors as ours; one that was not finished is removed."""
    try:
        with open(file, "wb", buffering=BUFFER_BYTES, opener=_open_private) as out:
            yield out
    except OSError as error:
        is_full = lacks_room(error, file)
        file.unlink(missing_ok=True)
        raise (DiskFull(name) if is_full else DiskFailed(name, str(error))) from error
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _open_private(path: str, flags: int) -> int:
    """The rows of a database are for its owner only, as the database's own file is."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


# -- reading ----------------------------------------------------------------------------------------------------------


def file_digest(file: Path) -> bytes:
    """Digest of a whole file, to be compared with the description's. Raises ``Corrupt`` where it cannot be read."""
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with open(file, "rb", buffering=0) as source:
            while piece := source.read(BUFFER_BYTES):
                hashed.update(piece)
    except OSError as error:
        raise Corrupt(f"the file of a copy cannot be read: {error}") from error
    return hashed.digest()


class CopyReader:
    """Reads a file that came from a peer: whatever does not fit is ``Corrupt``, and a length is never believed beyond
    what the file holds. So is a file that cannot be read; its disk is no concern of the database. To be closed.
    """

    def __init__(self, file: Path, *, row_bytes_max: int = ROW_BYTES_MAX) -> None:
        self._part_bytes_max = row_bytes_max + CHUNK_BYTES
        try:
            self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Corrupt(f"the file of a copy cannot be read: {error}") from error
        try:
            self._size_bytes = os.fstat(self._descriptor).st_size
            self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> None:
        header, self.first = self._part(0, HEADER_BYTES_MAX)
        if type(header) is not list or len(header) != 4 or header[:2] != [MAGIC, VERSION]:
            raise Corrupt("this is no file of a copy, or one of a newer version")
        self.copy_id = checked_copy_id(header[2])
        self.origins = _checked_origins(header[3])
        """Number in this file -> origin."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def chunks(self, offset: int | None = None) -> Iterator[Chunk]:
        """The chunks from byte ``offset`` on, by default all. Raises ``Corrupt``, also where the end is missing."""
        offset = self.first if offset is None else offset
        if offset < self.first:
            raise Corrupt(f"no part of a copy begins at byte {offset}")
        while True:
            part, following = self._part(offset, self._part_bytes_max)
            if part == [] and following == self._size_bytes:
                return
            yield _checked_chunk(part, offset, following)
            offset = following

    def _part(self, offset: int, bytes_max: int) -> tuple[Any, int]:
        """The part at ``offset``, and where the next one begins."""
        (length,) = _LENGTH.unpack(self._read(offset, _LENGTH.size))
        if length > bytes_max:
            raise Corrupt(f"the part at byte {offset} of a copy has {length} bytes, more than {bytes_max}")
        return codec.decode(self._read(offset + _LENGTH.size, length)), offset + _LENGTH.size + length

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length > self._size_bytes:
            raise Corrupt(f"a copy ends at byte {self._size_bytes}, in the middle of a part")
        try:
            data = os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise Corrupt(f"the file of a copy cannot be read: {error}") from error
        if len(data) < length:
            raise Corrupt("the file of a copy was cut short")
        return data


def read_row(data: bytes) -> tuple[Row, bool]:
    """A row of a chunk, and whether it is a tombstone; its origins are numbers of the file. Raises ``Corrupt``."""
    flags, ts, origin, oseq = _TRAVELLING_HEAD.unpack_from(data)
    if not flags:
        return Row(ts, origin, oseq, 0, data[_LSEQ_AT:]), False
    if flags & ~_FLAGS:
        raise Corrupt("a row of a copy needs a newer version")
    stored = bytes((flags & ~TOMBSTONE,)) + data[1:_LSEQ_AT] + _NO_LSEQ + data[_LSEQ_AT:]
    return decode_row(stored), bool(flags & TOMBSTONE)


def _checked_chunk(part: Any, offset: int, following: int) -> Chunk:
    if type(part) is not list or [type(member) for member in part] != [int, list]:
        raise Corrupt(f"the part at byte {offset} of a copy is damaged")
    table, items = part
    keys, rows = items[::2], items[1::2]
    is_sound = (
        table in range(TABLES_MAX)
        and len(rows) == len(keys) <= CHUNK_ROWS
        and set(map(type, items)) == {bytes}
        and min(map(len, keys), default=0) > 0
        and max(map(len, keys)) <= STORED_BYTES_MAX
        and min(map(len, rows)) >= _LSEQ_AT
        and all(map(lt, keys, keys[1:]))
    )
    if not is_sound:
        raise Corrupt(f"the rows at byte {offset} of a copy are damaged")
    return Chunk(table, keys, rows, offset, following)


def _checked_origins(plain: Any) -> dict[int, Origin]:
    if type(plain) is not list or len(plain) > ORIGINS_MAX:
        raise Corrupt("the origins of a copy are damaged")
    try:
        origins = {number: checked_origin(node, store) for number, node, store in plain}
    except (TypeError, ValueError) as error:
        raise Corrupt(f"the origins of a copy are damaged: {error!r}") from error
    if len(origins) < len(plain) or not all(type(number) is int for number in origins):
        raise Corrupt("the origins of a copy are damaged")
    return origins
