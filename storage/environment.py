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
``expiry``              (expiry in ms, u64, table id, u32) -> stored primary keys (``dupsort``)
``p0``, ``p1``, …       stored primary key -> row, or tombstone
``i0``, ``i1``, …       stored value -> stored primary keys (``dupsort``)
======================= ================================================================================

Sub-databases are emptied and used again, never closed: closing a handle that a reader in another thread still uses is
what LMDB forbids. All handles that exist are opened at the start; new ones come into being inside a write transaction
and are known to others once it has committed. A lock on the folder keeps a second process from opening it: the two would
take each other for a restored file, and not know each other's handles.

*Incarnation*: the random ``store`` id tells one life of a database from another. A new one is made when the database
is created, and when it is found to be older than it should be: each start raises a counter in a small file beside the
environment and then in it; where they differ, an older file was put back and re-used numbers must not look like old
ones.
"""

import errno
import fcntl
import logging
import os
import resource
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb
from lmdb.verify import verify

from storage import codec
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
MAP_BYTES_MIN: Final = 1 << 30
"""Below this a reservation that fails is given up."""
STARTS_FILE: Final = "starts"
DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
LOCK_SLOT_BYTES: Final = 64
LOCK_HEAD_SLOTS: Final = 16
"""Room for the head of the table of readers, in slots: more than LMDB takes."""
READERS_WAIT_S: Final = 60.0
"""How long closing waits for the snapshots that are still open: one ends with the page that its scan is at."""
RESIZE_WAIT_S: Final = 5.0
PROBE_BYTES: Final = 1 << 20
"""What a disk must still take for a failed write not to be put down to lack of room."""

FIXED: Final = ("meta", "log", "origins", "vectors", "tables", "digests", "sequences")
FIXED_DUPLICATES: Final = ("expiry",)


class Environment:
    """An open environment. ``origin`` is this life of the database on this node; ``origin_id`` its short id."""

    def __init__(self, path: Path, settings: StorageSettings, *, node: str, name: str) -> None:
        """Open the environment in ``path``, creating it where it is missing.

        Raises ``NotOpened`` with the reason where the file cannot be used; it is left as it is.
        """
        self.path = path
        self.name = name
        self.settings = settings
        self.handles: dict[str, Any] = {}
        self._gate = threading.Condition()
        self._readers = 0
        self._is_closing = False
        with _not_opened(name):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _lock_folder(path, name)
            try:
                self._open(node)
            except BaseException:
                os.close(self._lock)
                raise

    def _open(self, node: str) -> None:
        problem = file_problem(self.path)
        if problem is not None:
            raise NotOpened(self.name, problem)
        _allocate_lock_file(self.path, self.settings.readers_max)
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
            is_unused = self._gate.wait_for(lambda: not self._readers, READERS_WAIT_S)
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
        with self._gate:
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
        with self._gate:
            self._readers -= 1
            if not self._readers:
                self._gate.notify_all()

    def resize_map(self, map_bytes: int) -> bool:
        """Reserve another size of address space, not less than the file uses; whether that was possible.

        For the thread that writes, between transactions: no snapshot may be open meanwhile, so it waits for a moment
        without one, though not for long.
        """
        with self._gate:
            if not self._gate.wait_for(lambda: not self._readers, RESIZE_WAIT_S):
                return False
            try:
                self.lmdb.set_mapsize(map_bytes)
            except lmdb.Error as error:
                log.error("database '%s' cannot have a map of %d bytes: %s", self.name, map_bytes, error)
                return False
            return True

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
            elif stored_format != str(FORMAT).encode():
                raise NotOpened(self.name, f"its format {stored_format.decode()} is not known to this version")

    def _identify(self, node: str) -> tuple[Origin, int, bool]:
        """Raise the start counters, and take on a new incarnation where this is not the file that was last open."""
        meta = self.handles["meta"]
        with self.lmdb.begin(write=True) as txn:
            beside = _read_starts(self.path)
            inside = int(txn.get(b"starts", default=b"0", db=meta))
            store = (txn.get(b"store", db=meta) or b"").decode()
            was_unsynced = txn.get(b"unsynced", db=meta) == b"1" and txn.get(b"clean", db=meta) != b"1"
            is_new = not store or beside != inside or was_unsynced
            if is_new:
                store = uuid.uuid4().hex
            starts = max(beside or 0, inside) + 1
            _write_starts(self.path, starts)
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
    """LMDB's errors while writing, as ours. Nothing of the transaction is on disk after any of them."""
    name = environment.name
    try:
        yield
    except lmdb.MapFullError:
        raise MapFull(name, environment.map_bytes) from None
    except lmdb.TxnFullError:
        raise Unwritable(name, "the transaction changes too many pages") from None
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError) as error:
        raise Corrupt(f"Database '{name}': {error}") from error
    except (lmdb.Error, OSError) as error:
        if lacks_room(error, environment.path / DATA_FILE):
            raise DiskFull(name) from error
        raise DiskFailed(name, str(error)) from error


def lacks_room(error: lmdb.Error | OSError, data_file: Path) -> bool:
    """Whether writing ``data_file`` failed for lack of room. LMDB calls a write that was cut short an I/O error, whatever
    the reason, so the disk is asked whether it takes a little more."""
    code = error.errno if isinstance(error, OSError) else getattr(error, "code", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return code == errno.EIO and not (_takes_more(data_file.parent) and _may_grow(data_file))


def _takes_more(path: Path) -> bool:
    probe = path / f"probe-{uuid.uuid4().hex}"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
        return True
    except OSError as error:
        return error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    finally:
        probe.unlink(missing_ok=True)


def _may_grow(data_file: Path) -> bool:
    """Whether the limit on the size of files leaves this one some room."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return limit == resource.RLIM_INFINITY or data_file.stat().st_size + PROBE_BYTES < limit


@contextmanager
def _not_opened(name: str) -> Iterator[None]:
    """Whatever keeps a database from being opened, as ``NotOpened``: the other databases work without it."""
    try:
        yield
    except (lmdb.Error, OSError, ValueError, Corrupt) as error:
        raise NotOpened(name, str(error)) from error


def _lock_folder(path: Path, name: str) -> int:
    """Descriptor of the folder, locked until it is closed. Raises ``NotOpened`` where another opening has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NotOpened(name, "it is open already, here or in another process") from None
    return descriptor


def file_problem(path: Path) -> str | None:
    """Why the data file in folder ``path`` cannot be mapped, None where nothing is wrong with it or it is not there.

    A file that ends before its last page kills the process that reads there. It may rightly be a little short, as LMDB
    does not write free pages at the end, so one that is short is looked through, by code that does not map it.
    """
    data_file = path / DATA_FILE
    if not data_file.exists():
        return None
    with lmdb.open(str(path), readonly=True, create=False, lock=False) as environment:
        wanted = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if not data_file.stat().st_size or data_file.stat().st_size >= wanted:
        return None
    problems = verify(str(path))  # type: ignore[no-untyped-call]  # lmdb's only untyped module
    return f"its data file is cut short ({problems[0]})" if problems else None


def _allocate_lock_file(path: Path, readers_max: int) -> None:
    """Give LMDB's table of readers its room on the disk: a hole in it that a full disk cannot fill kills the process that
    writes there. Raises ``OSError`` where there is no room."""
    descriptor = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, (readers_max + LOCK_HEAD_SLOTS) * LOCK_SLOT_BYTES)
    finally:
        os.close(descriptor)


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


def _read_starts(path: Path) -> int | None:
    try:
        return int((path / STARTS_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None


def _write_starts(path: Path, starts: int) -> None:
    """Replace the counter file durably: a torn one would look like a file put back."""
    temporary = path / (STARTS_FILE + ".new")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(starts))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path / STARTS_FILE)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make what was created, renamed or removed in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
