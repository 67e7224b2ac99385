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
what LMDB forbids. One process opens an environment once. All handles that exist are opened at the start; new ones come
into being inside a write transaction and are known to others once it has committed.

*Incarnation*: the random ``store`` id tells one life of a database from another. A new one is made when the database
is created, and when it is found to be older than it should be: each start raises a counter in a small file beside the
environment and then in it; where they differ, an older file was put back and re-used numbers must not look like old
ones.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import lmdb

from storage import codec
from storage.entry import Origin
from storage.errors import Corrupt, DiskFailed, DiskFull, MapFull, NotOpened, TooManyTables
from storage.settings import StorageSettings

FORMAT: Final = 1
MAP_BYTES_MIN: Final = 1 << 30
"""Below this a reservation that fails is given up."""
STARTS_FILE: Final = "starts"

_FIXED: Final = ("meta", "log", "origins", "vectors", "tables", "digests", "sequences")
_FIXED_DUPLICATES: Final = ("expiry",)


class Environment:
    """An open environment. ``origin`` is this life of the database on this node; ``origin_id`` its short id."""

    def __init__(self, path: Path, settings: StorageSettings, *, node: str, name: str) -> None:
        """Open the environment in ``path``, creating it where it is missing.

        Raises ``NotOpened`` with the reason where the file cannot be used; it is left as it is.
        """
        self.path = path
        self.name = name
        self.settings = settings
        self.lmdb = _open_reserved(path, settings, name)
        self.handles: dict[str, Any] = {}
        try:
            self._open_handles()
            self.origin, self.origin_id, self.is_new_incarnation = self._identify(node)
        except BaseException:
            self.lmdb.close()
            raise

    def close(self) -> None:
        """Close after the last transaction ended; a clean end is what an unsynced database is asked for at its start."""
        with self.lmdb.begin(write=True) as txn:
            txn.put(b"clean", b"1", db=self.handles["meta"])
        self.lmdb.sync(True)
        self.lmdb.close()

    @property
    def map_bytes(self) -> int:
        return int(self.lmdb.info()["map_size"])

    def file_bytes(self) -> int:
        """Size of the data file on disk."""
        return os.stat(self.path / "data.mdb").st_size

    def open_handle(self, txn: Any, name: str) -> Any:
        """Create or open the sub-database ``name`` inside the write transaction ``txn``; private to it until
        committed.
        """
        is_duplicates = name.startswith("i") or name in _FIXED_DUPLICATES
        try:
            return self.lmdb.open_db(name.encode(), txn=txn, dupsort=is_duplicates)
        except lmdb.DbsFullError:
            raise TooManyTables(self.name) from None

    def _open_handles(self) -> None:
        with self.lmdb.begin(write=True) as txn:
            for name in (*_FIXED, *_FIXED_DUPLICATES):
                self.handles[name] = self.open_handle(txn, name)
            with txn.cursor() as cursor:
                names = [key.decode() for key in cursor.iternext(keys=True, values=False)]
            for name in names:
                if name not in self.handles:
                    self.handles[name] = self.open_handle(txn, name)
            stored_format = txn.get(b"format", db=self.handles["meta"])
            if stored_format is None:
                txn.put(b"format", str(FORMAT).encode(), db=self.handles["meta"])
                txn.put(b"name", self.name.encode(), db=self.handles["meta"])
            elif stored_format != str(FORMAT).encode():
                raise NotOpened(self.name, f"its format {stored_format.decode()} is not known to this version")

    def _identify(self, node: str) -> tuple[Origin, int, bool]:
        """Raise the start counters, and take on a new incarnation where this is not the file that was last open."""
        beside = _read_starts(self.path)
        meta = self.handles["meta"]
        with self.lmdb.begin(write=True) as txn:
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
def translated(name: str, map_bytes: int) -> Iterator[None]:
    """LMDB's errors while writing, as ours. Nothing of the transaction is on disk after any of them."""
    try:
        yield
    except lmdb.MapFullError:
        raise MapFull(name, map_bytes) from None
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError) as error:
        raise Corrupt(f"Database '{name}': {error}") from error
    except (lmdb.Error, OSError) as error:
        if "No space left" in str(error) or "Disk quota" in str(error) or "File too large" in str(error):
            raise DiskFull(name) from error
        raise DiskFailed(name, str(error)) from error


def _open_reserved(path: Path, settings: StorageSettings, name: str) -> Any:
    """Open with the wanted reservation, or with the largest that the machine still gives."""
    path.mkdir(parents=True, exist_ok=True)
    map_bytes = settings.map_size_bytes
    while True:
        try:
            return lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=settings.sub_databases_max + len(_FIXED) + len(_FIXED_DUPLICATES),
                max_readers=settings.readers_max,
                max_spare_txns=8,
                sync=settings.sync,
                metasync=settings.sync,
                readahead=settings.read_ahead,
                mode=0o600,
            )
        except (lmdb.MemoryError, OSError) as error:
            if map_bytes // 2 < MAP_BYTES_MIN:
                raise NotOpened(name, f"no address space for its map: {error}") from error
            map_bytes //= 2
        except lmdb.Error as error:
            raise NotOpened(name, str(error)) from error


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
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
