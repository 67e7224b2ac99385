"""Backups: a database, or some of its tables, out of one read transaction into one file, and back.

A backup is a data file of our own storage format, so to restore is to put it at its place: ``restore_database``
checks it, makes the folder ``<databases>/<escaped name>/`` around it and renames that into place; the node finds it
at its next start. By hand, on a stopped node: make a new folder there, put the file into it as ``data.mdb`` and the
database's name into ``name``. The database then begins a new incarnation, as a backup says of itself that it was
never started: numbers that were given out after it was made will not look like old ones.

- A *whole* backup is LMDB's compact copy: everything, the log included.
- A *table* backup is a fresh file with these tables only. Their history goes with them where that is asked: entries
  keep their headers, so the chain can be checked, and lose the writes of other tables.

Nothing here awaits: the caller runs it in a worker thread, and sends the file once the reader is closed, as a slow
client must not keep LMDB from reusing pages.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import lmdb
from lmdb.verify import VerifyError, verify

from storage import codec
from storage.catalog import folder_of, make_folder
from storage.commit_log import HEAD_KEY
from storage.copy_description import COPIED_KEY
from storage.data_file import DATA_FILE, lacks_room
from storage.database import Database
from storage.entry import decode_stored, encode_reduced
from storage.environment import FIXED, FIXED_DUPLICATES, FORMAT
from storage.errors import Corrupt, DatabaseExists, DiskFailed, DiskFull
from storage.schema import Table
from storage.transaction import HIDDEN_KEY, ReadTransaction

CHUNK_ITEMS: Final = 5000
CHUNK_BYTES: Final = 16 << 20
"""What is read and put at once: bounds memory and the dirty pages of the new file, whatever single entries weigh."""
ROOM_BYTES: Final = 64 << 20
"""Address space beyond what is there already, for the notes that a file gets at the end."""
NEVER_STARTED: Final = b"0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What a backup file holds: the state after entry ``lseq``, as of ``taken_at_ms``."""

    taken_at_ms: int
    lseq: int


def backup_database(database: Database, file: Path) -> Backup:
    """Write the whole database to ``file``, replacing it. Raises ``Unwritable`` where the disk does not take it."""
    with _making(file, database.name), database.read() as tx:
        backup = Backup(taken_at_ms=tx.now_ms, lseq=tx.head().lseq)
        with open(file, "wb") as out:
            database.environment.lmdb.copyfd(out.fileno(), compact=True, txn=tx.txn)
    with _making(file, database.name), _opened(file, room_bytes=file.stat().st_size + ROOM_BYTES) as environment:
        _note(environment, {b"starts": NEVER_STARTED})
    return backup


def backup_tables(database: Database, file: Path, names: Sequence[str], *, include_audit: bool = False) -> Backup:
    """Write these tables to ``file``, which is new or empty, with their history where ``include_audit`` is set.

    Raises ``TableNotFound``, and ``Unwritable`` where the disk does not take it.
    """
    room_bytes = 2 * database.environment.file_bytes() + ROOM_BYTES
    with database.read() as tx:
        tables = [tx.table(name) for name in dict.fromkeys(names)]
        sub_databases = sum(2 + len(table.index_ids) for table in tables)
        with (
            _making(file, database.name),
            _opened(file, room_bytes=room_bytes, sub_databases=sub_databases) as environment,
        ):
            writer = _TableWriter(tx, environment, tables)
            writer.write_tables()
            if include_audit:
                writer.write_log()
            return Backup(taken_at_ms=tx.now_ms, lseq=tx.head().lseq)


def restore_database(file: Path, databases: Path, name: str) -> Path:
    """Make database ``name`` in the folder ``databases`` from a backup file; returns its folder.

    For a stopped node, or a name that a running one does not have: it opens what it finds at its next start. The file
    may come from anywhere, so its structure is checked before it is trusted. Raises ``DatabaseExists``, ``Corrupt``
    where the file is no backup, and ``Unwritable`` where the disk does not take it.
    """
    path = databases / folder_of(name)
    if path.exists():
        raise DatabaseExists(name)
    _check_backup(file)
    make_folder(path, name, partial(_fill_folder, file=file, name=name))
    return path


def _check_backup(file: Path) -> None:
    try:
        problems = verify(str(file), subdir=False)  # type: ignore[no-untyped-call]  # lmdb's only untyped module
    except VerifyError as error:
        raise Corrupt(f"'{file}' is no backup: {error}") from error
    if problems:
        raise Corrupt(f"'{file}' is damaged: {problems[0]}")
    with (
        lmdb.open(str(file), subdir=False, readonly=True, lock=False, max_dbs=1) as environment,
        environment.begin() as txn,
    ):
        try:
            stored_format = txn.get(b"format", db=environment.open_db(b"meta", txn=txn, create=False))
        except lmdb.NotFoundError:
            stored_format = None
    if stored_format != str(FORMAT).encode():
        raise Corrupt(f"'{file}' is no backup of a version that this one knows")


def _fill_folder(folder: Path, *, file: Path, name: str) -> None:
    data_file = folder / DATA_FILE
    with _making(data_file, name):
        shutil.copyfile(file, data_file)
        data_file.chmod(0o600)
        with _opened(data_file, room_bytes=data_file.stat().st_size + ROOM_BYTES) as environment:
            _note(environment, {b"name": name.encode(), b"starts": NEVER_STARTED})


class _TableWriter:
    """Writes tables of one snapshot to a new file, with numbers of sub-databases that begin anew."""

    def __init__(self, tx: ReadTransaction, environment: Any, tables: Sequence[Table]) -> None:
        self._tx = tx
        self._environment = environment
        self._tables = tables
        self._table_keys = {table.id.to_bytes(4) for table in tables}
        self._handles = {name: environment.open_db(name.encode()) for name in FIXED}
        self._handles |= {name: environment.open_db(name.encode(), dupsort=True) for name in FIXED_DUPLICATES}

    def write_tables(self) -> None:
        numbers = {"p": 0, "i": 0}
        for table in self._tables:
            self._write_table(table, _renumbered(table, numbers))
        for name in ("digests", "sequences"):
            self._put(name, ((key, value) for key, value in self._items(name) if key in self._table_keys))
        self._put("expiry", ((key, value) for key, value in self._items("expiry") if key[8:] in self._table_keys))
        positions = self._tx.log.positions().items()
        # What is left of the log is no longer served to anybody, as entries may lack writes.
        self._put("origins", ((i.to_bytes(4), p._replace(floor=p.oseq).encoded()) for i, p in positions))
        self._put("meta", self._meta(numbers))

    def _write_table(self, table: Table, renumbered: Table) -> None:
        self._put("tables", [(table.id.to_bytes(4), codec.encode(renumbered.encoded()))])
        self._copy(f"p{table.rows_id}", f"p{renumbered.rows_id}")
        self._copy(f"p{table.tombstones_id}", f"p{renumbered.tombstones_id}")
        for name, number in table.index_ids.items():
            self._copy(f"i{number}", f"i{renumbered.index_ids[name]}")
            extra = self._tx.txn.get(number.to_bytes(4), db=self._tx.environment.handles["extras"])
            if extra is not None:
                self._put("extras", [(renumbered.index_ids[name].to_bytes(4), extra)])

    def _meta(self, numbers: dict[str, int]) -> Iterator[tuple[bytes, bytes]]:
        last_table = max((table.id for table in self._tables), default=0)
        yield b"format", str(FORMAT).encode()
        yield b"name", self._tx.environment.name.encode()
        yield b"starts", NEVER_STARTED
        yield b"store", self._tx.environment.origin.store.encode()
        yield HEAD_KEY, self._tx.head().encoded()
        yield b"pool", codec.encode({"p": [numbers["p"], []], "i": [numbers["i"], []], "table": [last_table]})
        for key, value in self._items("meta"):
            if key == COPIED_KEY or (key.startswith(HIDDEN_KEY) and key[len(HIDDEN_KEY) :] in self._table_keys):
                yield key, value

    def write_log(self) -> None:
        names = {table.name for table in self._tables}
        self._put("log", ((key, _of_tables(key, data, names)) for key, data in self._items("log")))
        self._put("vectors", self._items("vectors"))

    def _copy(self, source: str, target: str) -> None:
        self._handles[target] = self._environment.open_db(target.encode(), dupsort=target.startswith("i"))
        self._put(target, self._items(source))

    def _items(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        with self._tx.txn.cursor(db=self._tx.environment.handles[name]) as cursor:
            yield from cursor

    def _put(self, name: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        is_in_order = name.startswith("p") or name in ("log", "vectors")
        for chunk in _chunks(items):
            with self._environment.begin(write=True) as txn, txn.cursor(db=self._handles[name]) as cursor:
                cursor.putmulti(chunk, append=is_in_order)


def _chunks(items: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    chunk: list[tuple[bytes, bytes]] = []
    chunk_bytes = 0
    for key, value in items:
        chunk.append((key, value))
        chunk_bytes += len(key) + len(value)
        if len(chunk) >= CHUNK_ITEMS or chunk_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, chunk_bytes = [], 0
    if chunk:
        yield chunk


def _renumbered(table: Table, numbers: dict[str, int]) -> Table:
    def take(kind: str) -> int:
        numbers[kind] += 1
        return numbers[kind]

    return replace(
        table, rows_id=take("p"), tombstones_id=take("p"), index_ids={name: take("i") for name in table.index_ids}
    )


def _of_tables(key: bytes, data: bytes, names: set[str]) -> bytes:
    entry = decode_stored(int.from_bytes(key), data)
    if entry.header.kind not in ("tx", "schema"):
        return data
    return encode_reduced(entry, lambda write: write["t"] in names) or data


@contextmanager
def _making(file: Path, name: str) -> Iterator[None]:
    """Errors as ours; a file that was not finished is removed."""
    try:
        yield
    except (lmdb.Error, OSError) as error:
        is_full = lacks_room(error, file)
        file.unlink(missing_ok=True)
        raise (DiskFull(name) if is_full else DiskFailed(name, str(error))) from error
    except BaseException:
        file.unlink(missing_ok=True)
        raise


@contextmanager
def _opened(file: Path, *, room_bytes: int, sub_databases: int = 0) -> Iterator[Any]:
    """A data file that nobody else knows yet, open for writing; durable at the end."""
    environment = lmdb.open(
        str(file),
        subdir=False,
        map_size=room_bytes,
        max_dbs=sub_databases + len(FIXED) + len(FIXED_DUPLICATES),
        lock=False,
        sync=False,
        mode=0o600,
    )
    try:
        yield environment
        environment.sync(True)
    finally:
        environment.close()


def _note(environment: Any, notes: dict[bytes, bytes]) -> None:
    meta = environment.open_db(b"meta", create=False)
    with environment.begin(write=True) as txn:
        for key, value in notes.items():
            txn.put(key, value, db=meta)
