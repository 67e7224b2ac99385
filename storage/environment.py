"""One LMDB environment: a database's folder, its identity, and the handles of its sub-databases.

======================= ================================================================================
sub-database            key -> value
======================= ================================================================================
``meta``                name -> bytes: true name, store id, start counter, head, free sub-databases
``log``                 lseq (u64) -> entry, see ``storage/entry.py``
``origins``             short id (u32) -> CBOR of an origin's name, position, chain digest and floor
``vectors``             every 1,024th lseq -> CBOR vector at that point
``tables``              table id (u32) -> CBOR of the table
``digests``             table id (u32) -> state digest of its visible rows, 16 bytes
``sequences``           table id (u32) -> next generated key (u64)
``extras``              index number (u32) -> how many of its entries are second and further ones of their row (u64)
``expiry``              (expiry in ms, u64, table id, u32) -> stored primary keys (``dupsort``)
``p0``, ``p1``, …       stored primary key -> row, or tombstone
``i0``, ``i1``, …       stored value -> stored primary keys (``dupsort``)
======================= ================================================================================

Sub-databases are emptied and used again, never closed: closing a handle that a reader in another thread still uses is
what LMDB forbids. All handles that exist are opened at the start; new ones come into being inside a write transaction
and are known to others once it has committed. A lock on the folder keeps a second process from opening it: the two
would take each other for a restored file, and not know each other's handles.

*Incarnation*: the random ``store`` id tells one life of a database from another. A new one is made when the database
is created, and when it is found to be older than it should be: each start raises a counter in a small file beside the
environment and then in it; where they differ, an older file was put back and re-used numbers must not look like old
ones.
"""

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb

from storage import codec
from storage.data_file import (
    DATA_FILE,
    STARTS_FILE,
    allocate_lock_file,
    file_problem,
    lacks_room,
    lock_folder,
    read_starts,
    write_starts,
)
from storage.entry import Origin
from storage.errors import (
    Corrupt,
    DatabaseClosed,
    DiskFailed,
    DiskFull,
    MapFull,
    NotOpened,
    Overloaded,
    TooManyTables,
    Unwritable,
)
from storage.settings import StorageSettings

log = logging.getLogger("storage")

FORMAT: Final = 1
CREATED_KEY: Final = b"created"
"""In ``meta``: when the database was created, on whichever node that was; microseconds (u64)."""
FILLING_KEY: Final = b"filling"
"""In ``meta`` of a database that came here by announcement, until it has caught up once."""
MAP_BYTES_MIN: Final = 1 << 30
"""Below this a reservation that fails is given up."""
READERS_WAIT_S: Final = 60.0
"""How long closing waits for the snapshots that are still open: one ends with the page that its scan is at."""
RESIZE_WAIT_S: Final = 5.0
OUR_MISTAKES: Final = (
    lmdb.BadValsizeError,
    lmdb.BadDbiError,
    lmdb.BadTxnError,
    lmdb.InvalidParameterError,
    lmdb.KeyExistsError,
    lmdb.NotFoundError,
    lmdb.IncompatibleError,
)
FIXED: Final = ("meta", "log", "origins", "vectors", "tables", "digests", "sequences", "extras")
FIXED_DUPLICATES: Final = ("expiry",)


class Environment:
    """An open environment. ``origin`` is this life of the database on this node; ``origin_id`` its short id."""

    def __init__(
        self,
        path: Path,
        settings: StorageSettings,
        *,
        node: str,
        name: str,
        created_us: int = 0,
        is_filling: bool = False,
    ) -> None:
        """Open the environment in ``path``, creating it where it is missing, as of ``created_us``.

        ``is_filling``: a new one takes no writes of clients before it has what its peers have.

        Raises ``NotOpened`` with the reason where the file cannot be used; it is left as it is.
        """
        self.path = path
        self.name = name
        self.settings = settings
        self.created_us = created_us
        self.is_filling = is_filling
        self.handles: dict[str, Any] = {}
        self._gate_lock = threading.Lock()
        self._gate = threading.Condition(self._gate_lock)
        self._readers = 0
        self._is_quiet_awaited = False
        self._is_closing = False
        with _not_opened(name):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path, name)
            try:
                self._open(node)
            except BaseException:
                os.close(self._lock)
                raise

    def _open(self, node: str) -> None:
        problem = file_problem(self.path)
        if problem is not None:
            raise NotOpened(self.name, problem)
        allocate_lock_file(self.path, self.settings.readers_max)
        self.lmdb = _open_reserved(self.path, self.settings, self.name)
        try:
            self._open_handles()
            self.origin, self.origin_id, self.is_new_incarnation = self._identify(node)
        except BaseException:
            self.lmdb.close()
            raise

    def close(self) -> None:
        """Close once the last snapshot ended; no new one begins from now on. Blocks, so not for the event loop.

        A clean end is what a database written without syncs is asked for at its next start. One that cannot be noted
        (the disk is full) makes that start take a new incarnation, no worse.
        """
        with self._gate:
            self._is_closing = True
            is_unused = self._wait_quiet(READERS_WAIT_S)
        if not self.settings.sync:
            self._note_clean_end()
        if is_unused:
            self.lmdb.close()
        else:
            log.error("database '%s' stays mapped: a snapshot of it is still open", self.name)
        os.close(self._lock)

    def _note_clean_end(self) -> None:
        try:
            self.lmdb.sync(True)
            with self.lmdb.begin(write=True) as txn:
                txn.put(b"clean", b"1", db=self.handles["meta"])
            self.lmdb.sync(True)
        except lmdb.Error as error:
            log.error("the clean end of database '%s' could not be noted: %s", self.name, error)

    @property
    def map_bytes(self) -> int:
        return int(self.lmdb.info()["map_size"])

    def file_bytes(self) -> int:
        """Size of the data file on disk."""
        return os.stat(self.path / DATA_FILE).st_size

    def begin_read(self) -> Any:
        """An LMDB snapshot, all of whose sub-databases have a handle here; to be ended by ``end_read``.

        Raises ``DatabaseClosed`` once closing began: a map must not go while somebody reads it.
        """
        with self._gate_lock:
            if self._is_closing:
                raise DatabaseClosed(f"Database '{self.name}' is closed")
            try:
                txn = self.lmdb.begin()
            except lmdb.ReadersFullError:
                raise Overloaded from None
            self._readers += 1
        return txn

    def end_read(self, txn: Any) -> None:
        txn.abort()
        with self._gate_lock:
            self._readers -= 1
            if self._is_quiet_awaited and not self._readers:
                self._gate.notify_all()

    def resize_map(self, map_bytes: int) -> bool:
        """Reserve another size of address space, not less than the file uses; whether that was possible.

        For the thread that writes, between transactions: no snapshot may be open meanwhile, so it waits for a moment
        without one, though not for long.
        """
        with self._gate:
            if not self._wait_quiet(RESIZE_WAIT_S):
                return False
            try:
                self.lmdb.set_mapsize(map_bytes)
            except lmdb.Error as error:
                log.error("database '%s' cannot have a map of %d bytes: %s", self.name, map_bytes, error)
                return False
            return True

    def _wait_quiet(self, timeout_s: float) -> bool:
        """Whether a moment without snapshots came; the gate is held from then on."""
        self._is_quiet_awaited = True
        try:
            return self._gate.wait_for(lambda: not self._readers, timeout_s)
        finally:
            self._is_quiet_awaited = False

    def commit(self, txn: Any, new_handles: Mapping[str, Any]) -> None:
        """Commit, and make the handles of new sub-databases known.

        Snapshots wait for that: one that began between the two would show tables it could not read.
        """
        if not new_handles:
            txn.commit()
            return
        with self._gate:
            txn.commit()
            self.handles.update(new_handles)

    def open_handle(self, txn: Any, name: str) -> Any:
        """Create or open the sub-database ``name`` inside the write transaction ``txn``; private to it until
        committed.
        """
        is_duplicates = name.startswith("i") or name in FIXED_DUPLICATES
        try:
            return self.lmdb.open_db(name.encode(), txn=txn, dupsort=is_duplicates)
        except lmdb.DbsFullError:
            raise TooManyTables(self.name) from None

    def _open_handles(self) -> None:
        with self.lmdb.begin(write=True) as txn:
            for name in (*FIXED, *FIXED_DUPLICATES):
                self.handles[name] = self.open_handle(txn, name)
            with txn.cursor() as cursor:
                names = [key.decode() for key in cursor.iternext(keys=True, values=False)]
            for name in names:
                if name not in self.handles:
                    self.handles[name] = self.open_handle(txn, name)
            stored_format = txn.get(b"format", db=self.handles["meta"])
            if stored_format is None:
                if (self.path / STARTS_FILE).exists():
                    raise NotOpened(self.name, "its data file holds no database")
                txn.put(b"format", str(FORMAT).encode(), db=self.handles["meta"])
                txn.put(b"name", self.name.encode(), db=self.handles["meta"])
                txn.put(CREATED_KEY, self.created_us.to_bytes(8), db=self.handles["meta"])
                if self.is_filling:
                    txn.put(FILLING_KEY, b"1", db=self.handles["meta"])
            elif stored_format != str(FORMAT).encode():
                raise NotOpened(self.name, f"its format {stored_format.decode()} is not known to this version")
            self.created_us = int.from_bytes(txn.get(CREATED_KEY, default=b"", db=self.handles["meta"]))
            self.is_filling = txn.get(FILLING_KEY, db=self.handles["meta"]) is not None

    def _identify(self, node: str) -> tuple[Origin, int, bool]:
        """Raise the start counters, and take on a new incarnation where this is not the file that was last open."""
        meta = self.handles["meta"]
        with self.lmdb.begin(write=True) as txn:
            beside = read_starts(self.path)
            inside = int(txn.get(b"starts", default=b"0", db=meta))
            store = (txn.get(b"store", db=meta) or b"").decode()
            was_unsynced = txn.get(b"unsynced", db=meta) == b"1" and txn.get(b"clean", db=meta) != b"1"
            is_new = not store or beside != inside or was_unsynced
            if is_new:
                store = self.settings.new_store_id()
            starts = max(beside or 0, inside) + 1
            write_starts(self.path, starts)
            txn.put(b"starts", str(starts).encode(), db=meta)
            txn.put(b"store", store.encode(), db=meta)
            txn.put(b"clean", b"0", db=meta)
            txn.put(b"unsynced", b"0" if self.settings.sync else b"1", db=meta)
            origin = Origin(node, store)
            return origin, self._register(txn, origin), is_new

    def _register(self, txn: Any, origin: Origin) -> int:
        """The short id of ``origin``, given out at its first appearance."""
        origins = self.handles["origins"]
        with txn.cursor(db=origins) as cursor:
            for key, value in cursor:
                if Origin(*codec.decode(value)[:2]) == origin:
                    return int.from_bytes(key)
            next_id = int.from_bytes(cursor.key()) + 1 if cursor.last() else 1
        txn.put(next_id.to_bytes(4), codec.encode([*origin, 0, bytes(16), 0]), db=origins)
        return next_id


@contextmanager
def translated(environment: Environment) -> Iterator[None]:
    """LMDB's errors while writing, as ours. Nothing of the transaction is on disk after any of them.

    What LMDB says of a call that was wrong in itself tells nothing of the disk and passes as it is.
    """
    name = environment.name
    try:
        yield
    except lmdb.MapFullError:
        raise MapFull(name, environment.map_bytes) from None
    except lmdb.TxnFullError:
        raise Unwritable(name, "the transaction changes too many pages") from None
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError) as error:
        raise Corrupt(f"Database '{name}': {error}") from error
    except OUR_MISTAKES:
        raise
    except (lmdb.Error, OSError) as error:
        if lacks_room(error, environment.path / DATA_FILE):
            raise DiskFull(name) from error
        raise DiskFailed(name, str(error)) from error


@contextmanager
def _not_opened(name: str) -> Iterator[None]:
    """Whatever keeps a database from being opened, as ``NotOpened``: the other databases work without it."""
    try:
        yield
    except (lmdb.Error, OSError, ValueError, Corrupt) as error:
        raise NotOpened(name, str(error)) from error


def _open_reserved(path: Path, settings: StorageSettings, name: str) -> Any:
    """Open with the wanted reservation, or with the largest that the machine still gives."""
    map_bytes = settings.map_size_bytes
    while True:
        try:
            return lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=settings.sub_databases_max + len(FIXED) + len(FIXED_DUPLICATES),
                max_readers=settings.readers_max,
                max_spare_txns=8,
                sync=settings.sync,
                metasync=settings.sync,
                readahead=settings.read_ahead,
                mode=0o600,
            )
        except lmdb.MemoryError as error:
            if map_bytes // 2 < MAP_BYTES_MIN:
                raise NotOpened(name, f"no address space for its map: {error}") from error
            map_bytes //= 2
