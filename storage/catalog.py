"""The databases of a node: found on disk, created, dropped, and closed with the node.

A database's folder has an escaped form of its name: lower-case letters, digits, ``-`` and ``_`` stand for themselves,
any other byte is ``%xx``, and a long name is cut and ends in a digest. So ``.``, ``..`` and pairs that differ in case
only are folders of their own everywhere. The true name is stored inside.

A new database is made in a folder beside and renamed into place, a dropped one renamed away before it is removed: a
crash leaves it wholly there or not at all.
"""

import logging
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote

import trio

from storage.clock import WallClock, wall_clock
from storage.commit_queue import CommitQueue, Queue
from storage.data_file import sync_folder
from storage.database import Database, Maintenance, MaintenanceFunction, Write, WriteFunction
from storage.environment import Environment
from storage.errors import BeingCopied, DatabaseError, DatabaseExists, DatabaseNotFound, NotOpened
from storage.settings import StorageSettings

log = logging.getLogger("storage")

FOLDER_NAME_MAX: Final = 120
NAME_FILE: Final = "name"
"""Beside the environment: the true name, as the folder's is escaped."""
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_")
DROPS_FOLDER: Final = ".drops"
"""Beside the databases: one small file per name that was ever dropped, with the time."""
_NEW: Final = ".new-"
_DROPPED: Final = ".dropped-"


def folder_of(name: str) -> str:
    """The folder name of a database."""
    escaped = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in name.encode())
    if len(escaped) <= FOLDER_NAME_MAX:
        return escaped
    return f"{escaped[:FOLDER_NAME_MAX]}~{blake2b(name.encode(), digest_size=12).hexdigest()}"


class Offload(Protocol):
    """Runs blocking work off the event loop, like ``trio.to_thread.run_sync``."""

    async def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


@dataclass(slots=True, eq=False)
class _Opened:
    database: Database
    queue: Queue
    scope: trio.CancelScope
    done: trio.Event


class Catalog:
    """Open databases by name. Made by ``open_catalog``, whose nursery owns the commit threads."""

    def __init__(
        self,
        settings: StorageSettings,
        *,
        node: str,
        nursery: trio.Nursery,
        clock: WallClock,
        new_queue: Callable[[Database], Queue] = CommitQueue,
        offload: Offload = trio.to_thread.run_sync,
    ) -> None:
        """``new_queue`` and ``offload`` are where threads come in; a simulation brings some without."""
        self.settings = settings
        self.node = node
        self.clock = clock
        self.offload = offload
        self._nursery = nursery
        self._new_queue = new_queue
        self._opened: dict[str, _Opened] = {}
        self._unopened: dict[str, str] = {}
        self._changing = trio.Lock()
        self._changed = trio.Event()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._opened)

    @property
    def unopened(self) -> Mapping[str, str]:
        """Databases that are there but could not be opened, with the reason."""
        return self._unopened

    def database(self, name: str) -> Database:
        """Raises ``DatabaseNotFound``, or ``NotOpened`` with the reason."""
        return self._get(name).database

    async def write(
        self,
        name: str,
        function: WriteFunction,
        *,
        user: str | None = None,
        operation: str | None = None,
        is_local: bool = False,
    ) -> Any:
        """Run ``function`` as one transaction of database ``name``; its value, once that is durable.

        Raises ``BeingCopied`` where the database has not been filled yet: an upsert would put a part of a record in the
        place of one that it cannot see. ``is_local`` keeps it on this node, whatever tables it touches.
        """
        opened = self._get(name)
        if opened.database.environment.is_filling:
            raise BeingCopied(name)
        write = Write(function=function, user=user, operation=operation, is_local=is_local)
        return await opened.queue.write(write)

    async def maintain(self, name: str, function: MaintenanceFunction) -> Any:
        """Run a chunk of upkeep of database ``name`` in its next commit; its value, once that is durable."""
        return await self._get(name).queue.write(Maintenance(function=function))

    async def wait_for_sequence(self, name: str, after: int) -> int:
        """Wait until the log of database ``name`` holds an entry behind ``after``; its last ``lseq`` then.

        Raises ``DatabaseNotFound``, ``DatabaseClosed`` where the database goes away.
        """
        return await self._get(name).queue.log_watch.wait_for_sequence(after)

    async def wait_for_change(self, known: tuple[str, ...]) -> None:
        """Wait until the databases that are open are others than ``known``."""
        while self.names == known:
            await self._changed.wait()

    async def create(self, name: str, *, created_us: int | None = None, is_filling: bool = False) -> Database:
        """``created_us`` is given for a database that came into being elsewhere, and that has to be filled from there
        (``is_filling``) before it takes writes. Raises ``DatabaseExists``.
        """
        async with self._changing:
            if name in self._opened or name in self._unopened:
                raise DatabaseExists(name)
            home = self.settings.database_paths.get(name, self.settings.path)
            path = home / folder_of(name)
            created_us = self.clock() if created_us is None else created_us
            of_new: dict[str, Any] = {
                "node": self.node,
                "name": name,
                "created_us": created_us,
                "is_filling": is_filling,
            }
            await self.offload(make_folder, path, name, partial(_make_environment, settings=self.settings, **of_new))
            return await self._open(name, path)

    def dropped_at(self, name: str) -> int:
        """When a database of this name was last dropped here, in microseconds; 0 for never."""
        try:
            return int(self._drop_note(name).read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _drop_note(self, name: str) -> Path:
        return self.settings.path / DROPS_FOLDER / folder_of(name)

    async def drop(self, name: str) -> None:
        """Close the database and remove it; what peers still have of it does not bring it back.

        Raises ``DatabaseNotFound``.
        """
        async with self._changing:
            opened = self._get(name)
            await self.offload(write_note, self._drop_note(name), str(self.clock()))
            await self._close(opened)
            del self._opened[name]
            self._note_change()
            path = opened.database.environment.path
            doomed = path.parent / f"{_DROPPED}{uuid.uuid4().hex}"
            os.rename(path, doomed)
            sync_folder(path.parent)
            await self.offload(shutil.rmtree, doomed)

    async def open_all(self) -> None:
        """Open what is on disk. One that cannot be opened is reported and kept out; the others work."""
        for home in dict.fromkeys((self.settings.path, *self.settings.database_paths.values())):
            home.mkdir(parents=True, exist_ok=True)
            await self._open_all_in(home)

    async def _open_all_in(self, home: Path) -> None:
        for folder in sorted(home.iterdir()):
            if folder.name.startswith((_NEW, _DROPPED)):
                await self.offload(shutil.rmtree, folder)
            elif (folder / "data.mdb").exists():
                name = read_name(folder)
                try:
                    await self._open(name, folder)
                except DatabaseError as error:
                    reason = error.reason if isinstance(error, NotOpened) else str(error)
                    log.error("database '%s' was not opened: %s", name, reason)
                    self._unopened[name] = reason

    def _get(self, name: str) -> _Opened:
        opened = self._opened.get(name)
        if opened is None:
            if name in self._unopened:
                raise NotOpened(name, self._unopened[name])
            raise DatabaseNotFound(name)
        return opened

    async def _open(self, name: str, path: Path) -> Database:
        if name in self._opened:
            raise NotOpened(name, f"there is another of this name in {self._opened[name].database.environment.path}")
        environment = Environment(path, self.settings, node=self.node, name=name)
        database = Database(environment, self.clock)
        opened = _Opened(database, self._new_queue(database), trio.CancelScope(), trio.Event())
        await self._nursery.start(self._serve, opened)
        self._opened[name] = opened
        self._note_change()
        return database

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _close(self, opened: _Opened) -> None:
        opened.scope.cancel()
        with trio.CancelScope(shield=True):
            await opened.done.wait()
        opened.queue.log_watch.wake()

    async def _serve(self, opened: _Opened, *, task_status: trio.TaskStatus[None]) -> None:
        """Run a database's commit queue; close the database behind it."""
        try:
            with opened.scope:
                await opened.queue.run(task_status=task_status)
        finally:
            try:
                with trio.CancelScope(shield=True):
                    await self.offload(opened.database.close)
            finally:
                opened.done.set()


@asynccontextmanager
async def open_catalog(
    settings: StorageSettings,
    *,
    node: str,
    clock: WallClock = wall_clock,
    new_queue: Callable[[Database], Queue] = CommitQueue,
    offload: Offload = trio.to_thread.run_sync,
) -> AsyncIterator[Catalog]:
    """The node's databases, open; all are closed at the end, after what was waiting has been committed."""
    async with trio.open_nursery() as nursery:
        catalog = Catalog(settings, node=node, nursery=nursery, clock=clock, new_queue=new_queue, offload=offload)
        try:
            await catalog.open_all()
            yield catalog
        finally:
            nursery.cancel_scope.cancel()


def read_name(folder: Path) -> str:
    """A database's true name, from the file beside its environment; without one, what the folder's name stands for."""
    try:
        return (folder / NAME_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return unquote(folder.name)


def write_note(path: Path, text: str) -> None:
    """Write a small file durably, and in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def _make_environment(path: Path, *, settings: StorageSettings, **of_new: Any) -> None:
    Environment(path, settings, **of_new).close()


def make_folder(path: Path, name: str, fill: Callable[[Path], None]) -> None:
    """A database's folder at ``path``: made beside and filled by ``fill``, durable, then renamed into place."""
    temporary = path.parent / f"{_NEW}{uuid.uuid4().hex}"
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        with open(temporary / NAME_FILE, "w", encoding="utf-8") as file:
            file.write(name)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(temporary)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)
