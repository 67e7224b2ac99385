"""Makes marks (``storage/marks.py``): how the others hear how far this node is.

A database is marked when its vector has moved by anything but marks since the last one, and not more often than the
interval. Marks alone are no news: so a cluster in which nobody writes comes to rest.
"""

import logging
from dataclasses import dataclass, field
from typing import Final

import trio

from replication.wanted_links import SharingOf
from storage.catalog import Catalog
from storage.entry import Origin
from storage.errors import DatabaseError
from storage.marks import mark_of
from storage.transaction import ReadTransaction
from storage.write_transaction import WriteTransaction

log = logging.getLogger("replication")

MARK: Final = "mark"


@dataclass(slots=True)
class _Told:
    """What the last mark said, moved on by the marks that came since: up to ``place`` the log has no news."""

    place: int
    vector: dict[Origin, int] = field(default_factory=dict)


class Marking:
    """``run`` marks all databases of a node that others take from it."""

    def __init__(self, catalog: Catalog, sharing: SharingOf, *, interval_s: float) -> None:
        self._catalog = catalog
        self._sharing = sharing
        self._interval_s = interval_s
        self._told: dict[str, _Told] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. A database that takes no writes now has its turn in the next round."""
        task_status.started()
        while True:
            for name in self._catalog.names:
                try:
                    await self.mark_if_due(name)
                except DatabaseError as error:
                    log.debug("database '%s' is not marked now: %s", name, error)
            await trio.sleep(self._interval_s)

    async def mark_if_due(self, name: str) -> bool:
        """Whether the database was marked. Raises ``DatabaseError`` where that cannot be now."""
        sharing = self._sharing(name)
        if sharing.is_removed or not sharing.takers:
            return False
        with self._catalog.database(name).read() as tx:
            told = self._told.get(name) or _told_before(tx)
            self._told[name] = told
            if not _has_news(tx, told):
                return False
            head = tx.head().lseq
        await self._catalog.write(name, WriteTransaction.mark)
        with self._catalog.database(name).read() as tx:
            self._told[name] = _told_of(tx, head)
        return True


def _told_before(tx: ReadTransaction) -> _Told:
    """What an earlier life of the node told."""
    told = _told_of(tx, 0)
    told.place = tx.log.place_behind(told.vector)
    return told


def _told_of(tx: ReadTransaction, place: int) -> _Told:
    mark = mark_of(tx, tx.environment.origin.node)
    return _Told(place) if mark is None else _Told(place, {**mark.vector, mark.origin: mark.oseq})


def _has_news(tx: ReadTransaction, told: _Told) -> bool:
    """Whether more than marks came since; moves ``told`` on where not. A copy moves positions without entries."""
    vector = told.vector
    for entry in tx.log.read_from(told.place + 1):
        header = entry.header
        known = vector.get(header.origin, 0)
        if header.oseq > known:
            if header.kind != MARK or header.oseq != known + 1:
                return True
            vector[header.origin] = header.oseq
        told.place = entry.lseq
    return any(position.oseq > vector.get(position.origin, 0) for position in tx.log.positions().values())
