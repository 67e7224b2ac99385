"""The subscriber's side of a stream connection: takes entries and applies them.

Receiving only decodes and takes note; applying is a task of its own, several batches in one commit where they wait.
Credit is the only brake. Positions move in the commit of what they cover, so the connection may end anywhere: the
next one goes on from there.
"""

import logging
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from replication.copy_in import IncomingCopy
from replication.credit import CreditBudget, CreditWindow
from replication.errors import LinkLost, RemoteProtocolError
from replication.fields import Item, SentEntry
from replication.figures import Inbox
from replication.fork import differences
from replication.fork_watch import ForkWatch
from replication.intake import Provider, choose_source, is_fresh
from replication.link import Link
from replication.messages import (
    Ack,
    Batch,
    CopyData,
    CopyEnd,
    CopyStart,
    Error,
    Message,
    Pong,
    Resubscribe,
    Schema,
    Subscribe,
    Subscribed,
    Void,
)
from replication.replica import Replica, positions_of
from replication.subscription import EVERY_TABLE, TableSelection
from replication.table_digests import differing_tables
from storage.clock import WallClock
from storage.copy_description import CopyDescription
from storage.entry import Origin
from storage.errors import Corrupt, RolledBack, StorageError
from storage.received_entries import Applied, Received, ReceivedSkip, apply_received, origin_of, read_received
from storage.received_schema import merge_definitions

log = logging.getLogger("replication")

SYSTEM: Final = "system"
"""Taken from the log alone: it is small, and a replay of it drops nothing."""
APPLIED_AT_ONCE_BYTES: Final = 2 << 20
"""Received bytes that share a transaction: bounds how long clients' writes wait."""
COPY_PATIENCE_S_MAX: Final = 3600.0
TRIES_WITHOUT_PROGRESS: Final = 5
"""Times an origin may be asked for anew before the connection is given up, to be dialled again later."""


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """Something to apply, in the order in which it came."""

    message: Batch | Schema | CopyStart | CopyData | CopyEnd
    size_bytes: int

    @property
    def items(self) -> tuple[Item, ...]:
        return self.message.items if isinstance(self.message, Batch) else ()


class StreamIn:
    """One publisher of one database. ``receive`` and ``run`` are for ``Link.run``."""

    def __init__(
        self,
        replica: Replica,
        link: Link,
        *,
        budget: CreditBudget,
        clock: WallClock,
        tables: TableSelection = EVERY_TABLE,
        except_nodes: Collection[str] = (),
        figures: Inbox | None = None,
    ) -> None:
        """``tables`` other than all are those of explicit subscriptions: then only the peer's own entries are taken.
        Nothing of ``except_nodes`` may come here, whoever relays it.
        """
        self.replica = replica
        self.link = link
        self.figures = figures or Inbox()
        self.figures.begin()
        self.mode = "log"
        self._clock = clock
        self._asked_tables = tables
        self._except_nodes = frozenset(except_nodes)
        self._left_out_tables: frozenset[str] = frozenset()
        self._window = CreditWindow(budget, link.settings)
        self._waiting: deque[_Waiting] = deque()
        self._arrived = trio.Event()
        self._subscribed = trio.Event()
        self._id = 0
        self._without: frozenset[Origin] = frozenset()
        self._tries: dict[Origin, int] = {}
        self._wants_copy = False
        self._copy_patience_s = link.settings.copy_patience_s
        self._moved_at = trio.current_time()
        self._provider: Provider | None = None
        self._applying: list[_Waiting] = []
        self.is_subscribed = False
        """Whether the publisher has answered a subscription."""
        self._unserved_at: dict[Origin, int] = {}
        """Up to which position, at least, origins cannot be had here."""
        self._forks = ForkWatch(replica, link, on_blocked=lambda origin: self._note_unserved({origin: "fork"}, {}))

    # -- receiving ------------------------------------------------------------------------------------------------

    def receive(self, message: Message, frame_bytes: int) -> None:
        """Take note of a message; never waits."""
        match message:
            case Subscribed() if message.id == self._id:
                self._note_unserved(dict.fromkeys(message.unavailable, "trimmed"), message.unavailable)
                self.figures.note_place(message.head, message.place, self._clock())
                self._subscribed.set()
                self.is_subscribed = True
            case Batch() if message.id == self._id:
                self._note_batch(message, frame_bytes)
            case Schema() | CopyStart() | CopyEnd() if message.id == self._id:
                self._put(_Waiting(message=message, size_bytes=0))
            case CopyData() if message.id == self._id:
                self._use_credit(len(message.data))
                self._put(_Waiting(message=message, size_bytes=len(message.data)))
            case Void() if message.id == self._id:
                self._note_unserved({message.origin: message.reason}, {message.origin: message.at})
            case Error(code="fork"):
                self._forks.note(message)
            case Error():
                self._refused(message)
            case Pong():
                self._note_pong(message)
            case _:
                pass

    def _note_batch(self, batch: Batch, frame_bytes: int) -> None:
        size_bytes = sum(len(item.data) for item in batch.items if isinstance(item, SentEntry))
        self._use_credit(size_bytes)
        self._moved_at = trio.current_time()
        figures = self.figures
        figures.note_place(batch.head, batch.place, self._clock())
        if not batch.items:
            return
        figures.received_entries += sum(isinstance(item, SentEntry) for item in batch.items)
        figures.received_bytes += frame_bytes
        figures.received_us = self._clock()
        figures.newest_ts = max(figures.newest_ts, batch.newest_ts)
        self._put(_Waiting(message=batch, size_bytes=size_bytes))

    def _use_credit(self, size_bytes: int) -> None:
        """Credit may be overdrawn by one message. Raises ``RemoteProtocolError`` for the next: it bounds our memory."""
        if size_bytes and self._window.open_bytes <= 0:
            raise RemoteProtocolError("the peer sends more than it has credit for", code="too-large")
        self._window.arrived(size_bytes)

    def _note_pong(self, pong: Pong) -> None:
        if pong.head and self.is_subscribed:
            self.figures.note_place(pong.head, pong.place, self._clock())
        if pong.positions is None or pong.digests is None or self._asked_tables != EVERY_TABLE:
            return
        with self.replica.read() as tx:
            differing = differing_tables(tx, pong.positions, pong.digests, left_out=self._left_out_tables)
        if differing is None:
            return
        if differing and self.figures.tables_equal is not False:
            names = ", ".join(differing)
            log.error("database '%s' differs from that of '%s': %s", self.replica.name, self.link.peer.name, names)
        self.figures.tables_equal = not differing

    def _put(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._arrived.set()

    def _note_unserved(self, reasons: Mapping[Origin, str], has: Mapping[Origin, int]) -> None:
        """Origins that this publisher cannot go on with; ``has``: how far it is with them at least."""
        if self._provider is not None and reasons:
            self._provider.unserved.update(reasons)
            self._unserved_at.update(has)
            for origin, oseq in has.items():
                self._provider.vector[origin] = max(oseq, self._provider.vector.get(origin, 0))
            self.replica.intake_changed()

    def _refused(self, error: Error) -> None:
        if error.id is not None and error.id != self._id:
            return
        raise RemoteProtocolError(error.message, code=error.code)

    # -- subscribing ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Raises ``LinkLost`` where the publisher does not keep its part."""
        hello = self.link.peer
        await self._forks.meet()
        if hello.store is None or hello.vector is None:
            raise RemoteProtocolError("the hello of a stream says what its publisher has")
        provider = Provider(
            peer=hello.name,
            origin=Origin(hello.name, hello.store),
            vector={origin: oseq for origin, (oseq, _) in hello.vector.items()},
            takes_all=self._asked_tables == EVERY_TABLE,
        )
        self._provider = provider
        self.replica.intake.open(provider)
        self.replica.intake_changed()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forks.run)
                await self.replica.restate()
                await self._begin(provider)
                nursery.start_soon(self._follow_intake, provider)
                nursery.start_soon(self._apply, provider)
                nursery.start_soon(self._watch_progress)
        finally:
            self._window.close()
            self.replica.intake.close(provider)
            self.replica.intake_changed()

    async def _begin(self, provider: Provider) -> None:
        """Begin with the log, or with a copy where this database has nothing of what the publisher has."""
        if self.replica.is_merging:
            await self.replica.resume_merge()
        if self._may_copy and is_fresh(self._durable(), provider.vector):
            async with self.replica.copying:
                await self.replica.incoming_copy.resume_merge()
                if is_fresh(self._durable(), provider.vector):
                    await self._copy(provider)
        await self.replica.note_progress(provider.vector)
        await self._subscribe(provider)

    @property
    def _may_copy(self) -> bool:
        return (
            self.link.settings.copies_to_catch_up
            and self.replica.name != SYSTEM
            and self._asked_tables == EVERY_TABLE
            and not self._except_nodes
        )

    @property
    def _tables(self) -> TableSelection:
        if self._asked_tables.mode == "only":
            return TableSelection("only", self._asked_tables.names - self._left_out_tables)
        left_out = self._asked_tables.names | self._left_out_tables
        return TableSelection("except", left_out) if left_out else EVERY_TABLE

    async def _subscribe(self, provider: Provider, **copy: Any) -> None:
        self._id += 1
        self._without = self._left_out(provider)
        self._subscribed = trio.Event()
        self._serve_all_but_forks(provider)
        self.replica.intake_changed()  # what this one does not serve, another may now be stuck with
        self.link.post(
            Subscribe(
                id=self._id,
                want=self._durable(),
                without=self._without,
                tables=self._tables,
                credit_bytes=self._window.begin(),
                **copy,
            )
        )
        with trio.move_on_after(self.link.settings.ping_timeout_s) as scope:
            await self._subscribed.wait()
        if scope.cancelled_caught:
            raise LinkLost("the peer did not answer the subscription")

    async def _copy(self, provider: Provider) -> None:
        """Take a copy and merge it; the caller holds ``replica.copying`` and subscribes anew behind it."""
        self.mode = "copy"
        incoming = self.replica.incoming_copy
        begun = incoming.unfinished()
        asked_at = self._durable()
        log.info("database '%s': taking a copy from '%s'", self.replica.name, provider.peer)
        try:
            await self._subscribe(
                provider,
                copy=True,
                copy_resume=begun[0] if begun else None,
                copy_at=begun[1] if begun else 0,
            )
            description = await self._receive_copy(incoming)
            if description.publisher != provider.origin:
                raise RemoteProtocolError("the peer sends a copy of somebody else")
            await self._check_copy(description)
            try:
                await incoming.merge(description, asked_at=asked_at)
            except RolledBack as error:
                await self._check_copy(description)
                raise LinkLost(str(error)) from error
        finally:
            self.mode = "log"
            self._waiting.clear()
        self.replica.intake_changed()

    async def _check_copy(self, description: CopyDescription) -> None:
        """A copy may know more than its publisher's hello did. Raises ``LinkLost`` where it does not fit our own log."""
        peer = self.link.peer.name
        has_begun = await self.replica.meet(peer, description.v0)
        with self.replica.read() as tx:
            found = differences(positions_of(tx), description.v0, tx.log.chain_at, peer=peer)
        if has_begun or "other" in found.values():
            raise LinkLost("a copy does not fit what is here")

    async def _receive_copy(self, incoming: IncomingCopy) -> CopyDescription:
        timeout_s = 2 * self.link.settings.ping_timeout_s
        while True:
            waiting = None
            with trio.move_on_after(timeout_s):
                waiting = await self._next_waiting()
            if waiting is None:
                raise LinkLost(f"no part of the copy came for {timeout_s:g} s")
            match waiting.message:
                case CopyStart() as start:
                    incoming.start(start.description, start.at, source=self.link.peer.name)
                case CopyData() as piece if piece.data:
                    await incoming.append(piece.at, piece.data)
                    grant = self._window.applied(waiting.size_bytes)
                    self.link.post(
                        Ack(id=self._id, positions={}, credit_bytes=grant, copy=piece.copy, copy_at=piece.at)
                    )
                case CopyEnd() as end:
                    return await incoming.finish(end.digest)
                case _:
                    pass

    async def _next_waiting(self) -> _Waiting:
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()
        return self._waiting.popleft()

    def _durable(self) -> dict[Origin, int]:
        return {origin: at.oseq for origin, at in self.replica.positions().items() if at.oseq}

    def _left_out(self, provider: Provider) -> frozenset[Origin]:
        """Origins that this stream is not to bring, as far as the peer has told of them."""
        barred = frozenset(origin for origin in provider.vector if not self._is_taken(origin))
        return self.replica.intake.left_out(provider.peer) | barred | self._forks.left_out()

    def _is_taken(self, origin: Origin) -> bool:
        if origin.node in self._except_nodes:
            return False
        return self._asked_tables.mode != "only" or origin.node == self.link.peer.name

    async def _follow_intake(self, provider: Provider) -> None:
        """Take origins over, or leave them out, as other streams come and go; find out when only a copy helps."""
        while True:
            if self.mode == "log" and self._left_out(provider) != self._without:
                self._resubscribe(provider)
            if self._is_copy_needed(provider):
                with trio.move_on_after(self._copy_patience_s):
                    while self._is_copy_needed(provider):
                        await self.replica.wait_for_intake_change()
                if self._is_copy_needed(provider):
                    self._wants_copy = True
                    self._arrived.set()
            await self.replica.wait_for_intake_change()

    async def _watch_progress(self) -> None:
        """Give up a publisher that has more, may send it, and does not: whatever it waits for will not come.

        What our own side holds back (batches that wait to be applied, a copy) does not count, however long it takes.
        """
        timeout_s = 2 * self.link.settings.ping_timeout_s
        while True:
            await trio.sleep(timeout_s / 4)
            figures = self.figures
            is_held_here = bool(self._waiting or self._applying) or self.mode == "copy" or self._window.open_bytes <= 0
            if is_held_here or figures.place >= figures.head:
                self._moved_at = trio.current_time()
            elif trio.current_time() - self._moved_at > timeout_s:
                raise LinkLost(f"the peer has more, and nothing came for {timeout_s:g} s")

    def _is_copy_needed(self, provider: Provider) -> bool:
        """Whether some origin is stuck everywhere, and this peer is the one whose copy is to be taken."""
        if not self._may_copy or self.mode == "copy":
            return False
        stuck = self.replica.intake.stuck(self._durable())
        helpers = {peer for peers in stuck.values() for peer in peers}
        return choose_source(helpers, latency={}) == provider.peer

    def _resubscribe(self, provider: Provider) -> None:
        """Go on from what is durable; what waits here to be applied comes again and is dropped then."""
        self._without = self._left_out(provider)
        want = self._durable()
        self.link.post(Resubscribe(id=self._id, want=want, without=self._without, tables=self._tables))
        still = {origin: why for origin, why in provider.unserved.items() if self._is_ahead(origin, want)}
        self._serve_all_but_forks(provider)
        provider.unserved.update(still)

    def _is_ahead(self, origin: Origin, want: Mapping[Origin, int]) -> bool:
        """Whether what the publisher lacks of an origin is still ahead of us. Asking for it again and again would have
        each stream hand the origin to the others and back, without end.
        """
        return want.get(origin, 0) < self._unserved_at.get(origin, 0)

    def _serve_all_but_forks(self, provider: Provider) -> None:
        """The publisher is asked anew: nothing is known to be missing there."""
        provider.unserved = dict.fromkeys(self._forks.left_out(), "fork")

    # -- applying -------------------------------------------------------------------------------------------------

    async def _apply(self, provider: Provider) -> None:
        while True:
            while not self._waiting and not self._wants_copy:
                self._arrived = trio.Event()
                await self._arrived.wait()
            if self._wants_copy:
                await self._catch_up_by_copy(provider)
                continue
            first = self._waiting[0].message
            if isinstance(first, Schema):
                self._waiting.popleft()
                await self._merge_schema(first)
            elif isinstance(first, Batch):
                await self._apply_batches()
            else:
                raise RemoteProtocolError("the peer sends a copy that was not asked for")

    async def _catch_up_by_copy(self, provider: Provider) -> None:
        async with self.replica.copying:
            self._wants_copy = False
            await self.replica.incoming_copy.resume_merge()  # the stream that began one may have ended in its midst
            stuck = self.replica.intake.stuck(self._durable()).keys()
            if self._is_copy_needed(provider):
                await self._copy(provider)
                self._note_use_of_copy(stuck)
        await self._subscribe_anew()

    def _note_use_of_copy(self, stuck: Collection[Origin]) -> None:
        """Where a copy has brought nothing of what was stuck the next one hardly will: wait longer for each."""
        if stuck == self.replica.intake.stuck(self._durable()).keys():
            self._copy_patience_s = min(2 * self._copy_patience_s, COPY_PATIENCE_S_MAX)
        else:
            self._copy_patience_s = self.link.settings.copy_patience_s

    async def _merge_schema(self, schema: Schema) -> None:
        standing = await self.replica.maintain(partial(merge_definitions, definitions=schema.tables))
        left_out = frozenset(name for name, what in standing.items() if what in ("local", "key conflict"))
        for name, what in standing.items():
            if what == "key conflict" and name not in self._left_out_tables:
                log.error(
                    "table '%s.%s' of '%s' has another primary key here: it is left out until that is settled",
                    self.replica.name,
                    name,
                    self.link.peer.name,
                )
        if left_out - self._left_out_tables and self._provider is not None:
            self._left_out_tables |= left_out
            self._resubscribe(self._provider)

    async def _apply_batches(self) -> None:
        taken: list[_Waiting] = []
        size_bytes = 0
        while self._waiting and isinstance(self._waiting[0].message, Batch) and size_bytes < APPLIED_AT_ONCE_BYTES:
            waiting = self._waiting.popleft()
            taken.append(waiting)
            size_bytes += waiting.size_bytes
        received = (received_of(item) for waiting in taken for item in waiting.items)
        items = [item for item in received if self._is_taken(origin_of(item))]
        self._applying = taken
        applied: Applied = await self.replica.maintain(partial(apply_received, items=items, now_us=self._clock()))
        self._applying = []
        self._note_held(applied.positions)
        self.figures.conflicts_lost += sum(applied.conflicts.values())
        self.figures.applied_ts = max(self.figures.applied_ts, applied.newest_ts)
        self.link.post(
            Ack(
                id=self._id,
                positions=applied.positions,
                newest_ts=applied.newest_ts,
                credit_bytes=self._window.applied(size_bytes),
            )
        )
        for origin in applied.positions.keys() - applied.stopped.keys():
            self._tries.pop(origin, None)
        await self._deal_with(applied)
        if self._provider is not None:
            await self.replica.note_progress(self._provider.vector)

    def _note_held(self, positions: Mapping[Origin, int]) -> None:
        """A publisher has what it sent, also of origins that it had nothing of when it said hello."""
        if self._provider is not None:
            vector = self._provider.vector
            vector.update({origin: max(oseq, vector.get(origin, 0)) for origin, oseq in positions.items()})

    async def _deal_with(self, applied: Applied) -> None:
        """What to do about origins that could not go on: nothing of them is lost, they wait at their position."""
        again = False
        for origin, (problem, text) in applied.stopped.items():
            match problem:
                case "corrupt":
                    raise RemoteProtocolError(text, code="corrupt")
                case "merging":
                    await self.replica.resume_merge()
                    again = True
                case "gap" | "unknown table" | "own":
                    self._tries[origin] = self._tries.get(origin, 0) + 1
                    if self._tries[origin] > TRIES_WITHOUT_PROGRESS:
                        raise RemoteProtocolError(text, code="gap")
                    again = True
                case "chain":
                    self._forks.doubt(origin, applied.positions[origin])
                case _:
                    self._note_unserved({origin: problem}, {origin: applied.positions[origin] + 1})
                    log.error("database '%s', from '%s': %s", self.replica.name, self.link.peer.name, text)
        if again and self._provider is not None:
            await self._subscribe_anew()

    async def _subscribe_anew(self) -> None:
        """Begin anew from what is durable; what still waits here is dropped and comes again, behind definitions."""
        assert self._provider is not None
        self._waiting.clear()
        await self._subscribe(self._provider)

    # -- what the status asks -------------------------------------------------------------------------------------

    def taken(self) -> dict[Origin, int]:
        """The origins that this stream is to bring, each with how much of it the publisher is known to have."""
        vector = {} if self._provider is None else self._provider.vector
        return {origin: oseq for origin, oseq in vector.items() if origin not in self._without}

    def unserved(self) -> Mapping[Origin, str]:
        """Origins that do not go on over this stream, and why."""
        return {} if self._provider is None else self._provider.unserved

    def waiting(self) -> tuple[int, int]:
        """Entries that came and are not durable here yet, and the commit time of the oldest of these batches."""
        batches = [waiting.message for waiting in (*self._applying, *self._waiting)]
        entries = sum(len(batch.items) for batch in batches if isinstance(batch, Batch))
        return entries, next((batch.newest_ts for batch in batches if isinstance(batch, Batch)), 0)


def received_of(item: Item) -> Received:
    """An item of a batch as storage applies it. Raises ``RemoteProtocolError`` for an entry that cannot be read."""
    if not isinstance(item, SentEntry):
        return ReceivedSkip(origin=item.origin, first=item.first, last=item.last, chain=item.chain)
    try:
        return read_received(item.data, is_reduced=item.is_reduced)
    except (Corrupt, StorageError) as error:
        raise RemoteProtocolError(str(error), code="corrupt") from error
