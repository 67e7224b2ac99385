"""The receiver's side of a copy: the file comes first, whole, and only then it is merged, in small transactions.

A file that was not finished is gone on with at its last byte, if the publisher still has it. A merge goes on from its
cursor after a crash, whether or not the publisher is still there: what was received is a snapshot of one moment, and
merging half of it would leave rows here that no log holds.
"""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from replication.errors import RemoteProtocolError
from storage.catalog import Catalog
from storage.copy_description import CopyDescription
from storage.copy_file import CopyReader, file_digest
from storage.copy_merge import (
    STEP_ROWS,
    MergeCursor,
    MergeProgress,
    abandon_merge,
    begin_merge,
    merge_step,
    read_merge_cursor,
)
from storage.data_file import lacks_room
from storage.entry import Origin
from storage.errors import Corrupt, DiskFailed, DiskFull

log = logging.getLogger("replication")

INCOMING_FOLDER: Final = "copies-in"
FILLING_STEP_ROWS: Final = 4096


@dataclass(slots=True)
class CopyProgress:
    """What the status shows of a copy that comes in."""

    source: str
    rows: int = 0
    rows_done: int = 0
    size_bytes: int = 0
    received_bytes: int = 0
    began_at: float = field(default_factory=trio.current_time)
    """``trio.current_time()``, of receiving or else of merging; with what was done by then."""
    began_bytes: int = 0
    began_rows: int | None = None
    """None while the file is still coming."""

    def remaining_s(self) -> float | None:
        """How long the present stage takes if it goes on as it did: first the file comes, then it is merged."""
        if self.began_rows is None:
            done, left = self.received_bytes - self.began_bytes, self.size_bytes - self.received_bytes
        else:
            done, left = self.rows_done - self.began_rows, self.rows - self.rows_done
        return None if done <= 0 else max(0, left) * (trio.current_time() - self.began_at) / done

    def begin_merge(self, rows_done: int) -> None:
        self.began_at, self.began_rows, self.rows_done = trio.current_time(), rows_done, rows_done


class IncomingCopy:
    """The file of one database's copy, from request to the end of its merge."""

    def __init__(self, catalog: Catalog, database: str) -> None:
        self.progress: CopyProgress | None = None
        self._catalog = catalog
        self._database = database
        self._folder = catalog.database(database).environment.path / INCOMING_FOLDER
        self._description: CopyDescription | None = None
        self._size_bytes = 0

    # -- receiving ------------------------------------------------------------------------------------------------

    def unfinished(self) -> tuple[str, int] | None:
        """Copy id and size of a file that was begun, None where there is none."""
        files = sorted(self._folder.glob("*.copy")) if self._folder.is_dir() else []
        return (files[0].stem, files[0].stat().st_size) if len(files) == 1 else None

    def discard_stale(self, older_than_s: float) -> None:
        """Remove a file that was begun and not gone on with: its publisher has none any more, and it keeps tombstones."""
        for file in self._folder.glob("*.copy") if self._folder.is_dir() else ():
            if time.time() - file.stat().st_mtime > older_than_s:
                self.discard()

    def start(self, description: Mapping[str, object], at: int, *, source: str) -> None:
        """A publisher begins to send, from byte ``at`` on. Raises ``RemoteProtocolError`` where that cannot be."""
        try:
            described = CopyDescription.decoded(description)
        except Corrupt as error:
            raise RemoteProtocolError(str(error)) from error
        begun = self.unfinished()
        if at and begun != (described.copy_id, at):
            raise RemoteProtocolError("the peer goes on with a copy at a byte that was not asked for")
        if not at:
            self.discard()
            self._folder.mkdir(exist_ok=True)
        self._description = described
        self._size_bytes = at
        self.progress = CopyProgress(
            source=source, rows=described.rows, size_bytes=described.size_bytes, received_bytes=at, began_bytes=at
        )

    async def append(self, at: int, data: bytes) -> None:
        """The next piece of the file. Raises ``RemoteProtocolError`` for one that does not fit, ``Unwritable`` where the
        disk does not take it.
        """
        description = self._expected()
        if at != self._size_bytes or at + len(data) > description.size_bytes:
            raise RemoteProtocolError("a piece of a copy does not follow the one before")
        await self._write(self._file(description), data)
        self._size_bytes += len(data)
        if self.progress is not None:
            self.progress.received_bytes = self._size_bytes

    async def finish(self, digest: bytes) -> CopyDescription:
        """The last byte has come: check the file. Raises ``RemoteProtocolError`` where it is damaged; it is gone then."""
        description = self._expected()
        file = self._file(description)
        if not file.exists():
            await self._write(file, b"")
        actual = await self._catalog.offload(file_digest, file)
        if self._size_bytes != description.size_bytes or not actual == digest == description.digest:
            self.discard()
            raise RemoteProtocolError("a copy arrived damaged", code="corrupt")
        return description

    async def _write(self, file: Path, data: bytes) -> None:
        try:
            await self._catalog.offload(_append, file, data)
        except OSError as error:
            if lacks_room(error, file):
                raise DiskFull(self._database) from error
            raise DiskFailed(self._database, str(error)) from error

    def discard(self) -> None:
        """Remove whatever was received."""
        self._description = None
        self.progress = None
        if self._folder.is_dir():
            for name in os.listdir(self._folder):
                (self._folder / name).unlink(missing_ok=True)

    def _expected(self) -> CopyDescription:
        if self._description is None:
            raise RemoteProtocolError("the peer sends a copy that it did not announce")
        return self._description

    def _file(self, description: CopyDescription) -> Path:
        return self._folder / f"{description.copy_id}.copy"

    # -- merging --------------------------------------------------------------------------------------------------

    def cursor(self) -> MergeCursor | None:
        """The merge that was begun and has not ended."""
        with self._catalog.database(self._database).read() as tx:
            return read_merge_cursor(tx)

    async def merge(
        self, description: CopyDescription, *, is_forced: bool = False, asked_at: Mapping[Origin, int] | None = None
    ) -> None:
        """Merge a file that ``finish`` has found whole. Raises ``RolledBack`` where it knows more of us than we do, and
        ``RemoteProtocolError`` where it came as its publisher made it and still cannot be read.
        """
        begin = partial(
            begin_merge,
            description=description,
            file_name=self._file(description).name,
            is_forced=is_forced,
            asked_at=asked_at,
        )
        await self._catalog.maintain(self._database, begin)
        if not await self.resume_merge(is_checked=True):
            raise RemoteProtocolError("the peer sent a copy that cannot be read")

    async def resume_merge(self, *, is_checked: bool = False) -> bool:
        """Go on with a merge that was begun, if there is one; ends when it has ended. Whether the file was usable.

        Unless it ``is_checked``, the file may have suffered since its merge began: it was never synced.
        """
        cursor = self.cursor()
        if cursor is None:
            return True
        is_usable = True
        name = cursor.file_name
        try:
            file = self._folder / Path(name).name
            if not is_checked:
                await self._check(file, cursor.description)
            with CopyReader(file, row_bytes_max=self._catalog.settings.entry_bytes_max) as reader:
                await self._merge_steps(reader, cursor)
        except Corrupt as error:
            log.error("database '%s': the copy that was being merged is unusable: %s", self._database, error)
            await self._catalog.maintain(self._database, abandon_merge)
            is_usable = False
        self.discard()
        return is_usable

    async def _check(self, file: Path, description: CopyDescription) -> None:
        try:
            digest = await self._catalog.offload(file_digest, file)
        except OSError as error:
            raise Corrupt(str(error)) from error
        if digest != description.digest:
            raise Corrupt("it is not as it was received")

    async def _merge_steps(self, reader: CopyReader, cursor: MergeCursor) -> None:
        progress = self.progress or CopyProgress(
            source=cursor.description.publisher.node,
            rows=cursor.description.rows,
            size_bytes=cursor.description.size_bytes,
            received_bytes=cursor.description.size_bytes,
        )
        self.progress = progress
        progress.begin_merge(cursor.place.rows)
        while True:
            step = partial(merge_step, reader=reader, now_us=self._catalog.clock(), limit=self._step_rows())
            done: MergeProgress = await self._catalog.maintain(self._database, step)
            progress.rows_done += done.rows
            if done.is_done:
                log.info("database '%s': a copy of %d rows was merged", self._database, progress.rows)
                return
            await trio.lowlevel.checkpoint()

    def _step_rows(self) -> int:
        """Rows per transaction. Where clients write meanwhile, they wait for each; a database that is being filled takes
        no writes, and larger steps cost it fewer syncs.
        """
        is_filling = self._catalog.database(self._database).environment.is_filling
        return FILLING_STEP_ROWS if is_filling else STEP_ROWS


def _append(file: Path, data: bytes) -> None:
    with open(file, "ab") as out:
        out.write(data)
