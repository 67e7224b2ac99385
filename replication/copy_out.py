"""The publisher's side of a copy: one file per database, made when somebody asks, sent under credit, shared.

The file is written from one read transaction that ends with it, so however slow a receiver is, LMDB may go on reusing
pages. It is kept for receivers that come back, for an hour after the last one; a start removes what an earlier life
left.
"""

import logging
import os
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from replication.link import Link
from replication.messages import Ack, CopyData, CopyEnd, CopyStart, Subscribe
from storage.catalog import Catalog
from storage.copy_description import CopyDescription
from storage.copy_file import write_copy
from storage.entry import Origin
from storage.errors import VectorBehind

log = logging.getLogger("replication")

PIECE_BYTES: Final = 256 * 1024
KEPT_S: Final = 3600.0
"""How long a file waits for a receiver that went away."""
SIGN_OF_LIFE_S: Final = 5.0
"""While a file is being written the receiver hears that often that it is still coming."""
OUTGOING_FOLDER: Final = "copies-out"


@dataclass(eq=False)
class OutgoingCopy:
    """A file that is whole."""

    file: Path
    description: CopyDescription
    left_out: frozenset[Origin] = frozenset()
    receivers: int = 0
    unused_since: float = field(default_factory=trio.current_time)


class OutgoingCopies:
    """The files of one database. One is made at a time; receivers whose needs it covers share it."""

    def __init__(
        self, catalog: Catalog, database: str, *, new_id: Callable[[], str] = lambda: secrets.token_hex(8)
    ) -> None:
        self._catalog = catalog
        self._database = database
        self._new_id = new_id
        self._making = trio.Lock()
        self._ready: OutgoingCopy | None = None
        self._folder = catalog.database(database).environment.path / OUTGOING_FOLDER
        _empty(self._folder)

    def find(self, copy_id: str) -> OutgoingCopy | None:
        """The file that a receiver wants to go on with, if it is still here."""
        ready = self._ready
        return ready if ready is not None and ready.description.copy_id == copy_id else None

    async def make(self, *, need: Mapping[Origin, int], left_out: Collection[Origin]) -> OutgoingCopy:
        """A file that covers ``need``: one that others are being sent, or a new one. Waits until this node has what is
        needed. Raises ``Unwritable`` where the disk does not take it.
        """
        async with self._making:
            ready = self._ready
            is_fit = ready is not None and ready.description.covers(need) and ready.left_out == frozenset(left_out)
            if ready is not None and ready.receivers and is_fit:
                return ready
            self._drop()
            self._folder.mkdir(exist_ok=True)
            copy_id = self._new_id()
            file = self._folder / f"{copy_id}.copy"
            database = self._catalog.database(self._database)
            write = partial(write_copy, database, file, copy_id=copy_id, left_out=left_out, need=need)
            while True:
                try:
                    description = await self._catalog.offload(write)
                    break
                except VectorBehind:
                    with database.read() as tx:
                        place = tx.head().lseq
                    await self._catalog.wait_for_sequence(self._database, place)
            self._ready = OutgoingCopy(file, description, frozenset(left_out))
            log.info("database '%s': a copy of %d rows is ready to be sent", self._database, description.rows)
            return self._ready

    def drop_unused(self, now_s: float) -> None:
        """Remove the file once nobody has wanted it for long enough."""
        ready = self._ready
        if ready is not None and not ready.receivers and now_s - ready.unused_since > KEPT_S:
            self._drop()

    def _drop(self) -> None:
        if self._ready is not None:
            self._ready.file.unlink(missing_ok=True)
            self._ready = None


class CopySender:
    """Sends one copy to one subscriber, from its request to the last byte."""

    def __init__(self, copies: OutgoingCopies, catalog: Catalog, link: Link, request: Subscribe) -> None:
        self._copies = copies
        self._catalog = catalog
        self._link = link
        self._request = request
        self._credit_bytes = request.credit_bytes
        self._may_send = trio.Event()

    def acknowledge(self, ack: Ack) -> None:
        self._credit_bytes += ack.credit_bytes
        self._may_send.set()

    async def run(self, *, left_out: Collection[Origin], wait_until_idle: Callable[[], Awaitable[None]]) -> None:
        """``wait_until_idle``: a node that is merging a copy itself makes none for others."""
        request = self._request
        found = self._copies.find(request.copy_resume) if request.copy_resume else None
        is_resumed = (
            found is not None
            and request.copy_at <= found.description.size_bytes
            and found.left_out == frozenset(left_out)
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show_life)
            await wait_until_idle()
            copy = found if is_resumed else None
            if copy is None:
                copy = await self._copies.make(need=request.copy_need or {}, left_out=left_out)
            copy.receivers += 1
            nursery.cancel_scope.cancel()
        try:
            await self._send(copy, request.copy_at if is_resumed else 0)
        finally:
            copy.receivers -= 1
            copy.unused_since = trio.current_time()

    async def _show_life(self) -> None:
        while True:
            await trio.sleep(SIGN_OF_LIFE_S)
            await self._link.send(CopyData(id=self._request.id, copy="", at=0, data=b""))

    async def _send(self, copy: OutgoingCopy, at: int) -> None:
        description, number = copy.description, self._request.id
        await self._link.send(CopyStart(id=number, copy=description.copy_id, description=description.encoded(), at=at))
        with open(copy.file, "rb") as file:
            file.seek(at)
            while at < description.size_bytes:
                while self._credit_bytes <= 0:
                    self._may_send = trio.Event()
                    await self._may_send.wait()
                data = await self._catalog.offload(file.read, PIECE_BYTES)
                await self._link.send(CopyData(id=number, copy=description.copy_id, at=at, data=data))
                at += len(data)
                self._credit_bytes -= len(data)
        await self._link.send(CopyEnd(id=number, copy=description.copy_id, size_bytes=at, digest=description.digest))


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for name in os.listdir(folder):
            (folder / name).unlink(missing_ok=True)
