"""One database as replication sees it: what all its streams share.

The positions and the log are in the database; here stands only what is lost without harm when the node stops: who is
connected, what each peer confirmed, why something does not move.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import trio

from replication.confirmation import Confirmations
from replication.copy_in import IncomingCopy
from replication.copy_out import OutgoingCopies
from replication.intake import Intake
from replication.messages import PROTOCOL_VERSION, Hello
from replication.settings import LinkSettings
from storage.catalog import Catalog
from storage.commit_log import Position
from storage.database import MaintenanceFunction
from storage.entry import Origin
from storage.fork import Restated, leave_branch, restate_step
from storage.incarnation import end_filling, mint_incarnation
from storage.marks import Mark, mark_key
from storage.schema import Definition
from storage.transaction import ReadTransaction

log = logging.getLogger("replication")


class Replica:
    """Shared by all streams of one database, in both directions."""

    def __init__(self, catalog: Catalog, name: str, settings: LinkSettings, *, new_copy_id: Callable[[], str]) -> None:
        self.name = name
        self.settings = settings
        self.confirmations = Confirmations()
        self.intake = Intake(fail_over=settings.fail_over)
        self.copying = trio.Lock()
        """Held from the request of a copy until it is merged: one at a time per database."""
        self.incoming_copy = IncomingCopy(catalog, name)
        self.outgoing_copies = OutgoingCopies(catalog, name, new_id=new_copy_id)
        self._catalog = catalog
        self._changed = trio.Event()
        self._restating = trio.Lock()
        self.life = trio.Event()
        """Set when a new incarnation begins, or an old one goes back to where it forked. Another one takes its place."""
        self.unfit: dict[tuple[str, Origin], int] = {}
        """Peer and origin -> our position, at which an entry from there did not follow. Damage on the way passes; where
        the next connection brings another such entry, there are two histories.
        """
        self.intake.own = self.origin

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    @property
    def is_merging(self) -> bool:
        """Whether a copy is being merged: transactions may be visible in part."""
        return self.incoming_copy.cursor() is not None

    async def resume_merge(self) -> None:
        """Wait until no copy is being merged: finish what an earlier life or a stream that ended began, if nobody does.

        A node that merges a copy makes none for others, and applies no entries.
        """
        if self.is_merging:
            async with self.copying:
                await self.incoming_copy.resume_merge()
            self.intake_changed()

    @property
    def origin(self) -> Origin:
        return self._catalog.database(self.name).environment.origin

    def read(self) -> ReadTransaction:
        return self._catalog.database(self.name).read()

    async def maintain(self, function: MaintenanceFunction) -> Any:
        return await self._catalog.maintain(self.name, function)

    async def wait_for_sequence(self, after: int) -> int:
        return await self._catalog.wait_for_sequence(self.name, after)

    def head(self) -> int:
        with self.read() as tx:
            return tx.head().lseq

    def positions(self) -> dict[Origin, Position]:
        with self.read() as tx:
            return positions_of(tx)

    def hello(self, tx: ReadTransaction) -> dict[str, Any]:
        """What a stream's hello says of this database."""
        positions = positions_of(tx)
        return {
            "store": self.origin.store,
            "vector": {origin: (at.oseq, at.chain) for origin, at in positions.items() if at.oseq},
            "floor": {origin: at.floor for origin, at in positions.items() if at.floor},
        }

    def definitions(self, tx: ReadTransaction) -> list[Definition]:
        """Tables whose records may leave this node."""
        return [table.definition for table in tx.schema().tables.values() if not table.definition.is_local]

    # -- what streams tell each other -----------------------------------------------------------------------------

    def intake_changed(self) -> None:
        """Wake the streams: one of them may have to take over an origin, or leave one out."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for_intake_change(self) -> None:
        await self._changed.wait()

    async def note_progress(self, vector: Mapping[Origin, int]) -> None:
        """A peer that was at ``vector`` when it was met has sent more: are we as far as it was then?"""
        if not self._catalog.database(self.name).environment.is_filling or self.is_merging:
            return
        positions = self.positions()
        if all(origin in positions and oseq <= positions[origin].oseq for origin, oseq in vector.items() if oseq):
            await self.maintain(end_filling)
            log.info("database '%s' has caught up for the first time", self.name)

    async def meet(self, peer: str, vector: Mapping[Origin, tuple[int, bytes]]) -> bool:
        """Compare with what a peer knows of our own current incarnation: is it more than we do ourselves?

        Then this is an older file put back, or a tail was lost: numbers that were given out must not be used again, so
        a new incarnation begins before anything else is written, and what was lost comes back from the peer. Whether
        one began.
        """
        own = self.origin
        known = vector.get(own)
        if known is None:
            return False
        oseq, chain = known
        minted = await self.maintain(partial(mint_incarnation, known_as=own, known_oseq=oseq, known_chain=chain))
        if minted:
            log.warning(
                "database '%s': '%s' knows more of this node's entries than the node itself; incarnation '%s' is ended, "
                "'%s' begins",
                self.name,
                peer,
                own.store,
                self.origin.store,
            )
            self._begin_life()
        return bool(minted)

    async def settle_fork(self, origin: Origin, base: int, chain: bytes, *, judged_at: int, peer: str) -> None:
        """Give way: numbers of ``origin`` above ``base`` were used twice, and ``peer`` has the others.

        A merge that was begun ends first. It goes by our position, which it must not find taken back.
        """
        await self.resume_merge()
        async with self.copying:
            if self.is_merging:
                return  # another one began meanwhile; the next connection finds the fork again
            leave = partial(leave_branch, origin=origin, base=base, chain=chain, judged_at=judged_at)
            if not await self.maintain(leave):
                return
        log.error(
            "database '%s': numbers of incarnation '%s' above %d were used twice, as '%s' knows them with other contents: "
            "what this node wrote under them is told again by incarnation '%s'",
            self.name,
            origin.store,
            base,
            peer,
            self.origin.store,
        )
        self._begin_life()

    async def restate(self) -> None:
        """Finish what a fork left to do. No stream brings anything before."""
        async with self._restating:
            rows = 0
            while self._has_to_restate():
                step: Restated = await self.maintain(partial(restate_step, now_us=self._catalog.clock()))
                rows += step.rows
                await trio.lowlevel.checkpoint()
            if rows:
                log.info("database '%s': %d rows of a branch that was left were told again", self.name, rows)

    def _has_to_restate(self) -> bool:
        with self.read() as tx:
            return any(branch.place is not None for branch in tx.log.branches().values())

    def mark_of(self, node: str, tx: ReadTransaction) -> Mark | None:
        """The last mark of another node that is applied here."""
        data = tx.txn.get(mark_key(node), db=tx.environment.handles["meta"])
        return None if data is None else Mark.decoded(node, data)

    def _begin_life(self) -> None:
        """All streams end and greet anew: their hellos told of another life."""
        self.intake.own = self.origin
        self.intake_changed()
        self.life.set()
        self.life = trio.Event()


def positions_of(tx: ReadTransaction) -> dict[Origin, Position]:
    return {position.origin: position for position in tx.log.positions().values()}


def own_hello(
    *, node: str, url: str | None, kind: str, database: str | None, settings: LinkSettings, now_us: int, **more: Any
) -> Hello:
    """A hello of this node; ``more``: what the kind of connection adds."""
    return Hello(
        version_min=PROTOCOL_VERSION,
        version_max=PROTOCOL_VERSION,
        name=node,
        kind=kind,
        url=url,
        database=database,
        now_ms=now_us / 1000,
        clock_us=now_us,
        frame_bytes_max=settings.frame_bytes_max,
        entry_bytes_max=settings.entry_bytes_max,
        **more,
    )
