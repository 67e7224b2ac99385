"""The publisher's side of a stream connection: reads the log as it grows and sends what the subscriber wants.

The decisions are ``outbound.Publisher``'s; this brings it snapshots, waits for the log, for credit and for what the
subscriber says.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from replication.copy_out import CopySender
from replication.errors import RemoteProtocolError
from replication.figures import Outbox
from replication.fork_watch import ForkWatch
from replication.link import Link
from replication.messages import Ack, Bye, Error, Message, Pong, Resubscribe, Subscribe
from replication.outbound import Publisher
from replication.policy import Policy
from replication.replica import Replica
from replication.subscription import TableSelection
from replication.table_digests import digests_of
from storage.clock import WallClock
from storage.entry import Origin

SAID_MAX: Final = 1000
DIGESTS_EVERY: Final = 3
"""Of so many pongs one brings the digests of the tables."""


class StreamOut:
    """One subscriber of one database. ``receive`` and ``run`` are for ``Link.run``."""

    def __init__(
        self, replica: Replica, link: Link, policy: Policy, *, clock: WallClock, figures: Outbox | None = None
    ) -> None:
        self.replica = replica
        self.link = link
        self.figures = figures or Outbox()
        self._clock = clock
        self._pongs = 0
        self._policy = policy
        self._tables: TableSelection | None = None
        self._copy: CopySender | None = None
        self.publisher: Publisher | None = None
        self._said: deque[Subscribe | Resubscribe | Ack] = deque()
        self._wake = trio.Event()
        self._forks = ForkWatch(replica, link)
        link.complete_pong = self._complete_pong

    @property
    def is_copying(self) -> bool:
        return self._copy is not None

    @property
    def waiting_messages(self) -> int:
        """What the subscriber said and nobody has looked at yet."""
        return len(self._said)

    def receive(self, message: Message, _: int) -> None:
        match message:
            case Ack() if self._copy is not None and message.copy is not None:
                self._copy.acknowledge(message)
            case Subscribe() | Resubscribe() | Ack():
                self._note(message)
            case Error(code="fork"):
                self._forks.note(message)
            case _:
                pass

    def _note(self, message: Subscribe | Resubscribe | Ack) -> None:
        """Keep for the next step what was said. It may be long in coming: acknowledgements add up, and of the others an
        honest subscriber has few to say before it is answered.
        """
        last = self._said[-1] if self._said else None
        if isinstance(message, Ack) and isinstance(last, Ack) and last.id == message.id:
            self._said[-1] = last.followed_by(message)
        elif len(self._said) < SAID_MAX:
            self._said.append(message)
        else:
            raise RemoteProtocolError("the peer subscribes on and on, and does not wait for an answer")
        self._wake.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        hello = self.link.peer
        await self._forks.meet()
        self.replica.confirmations.meet(
            hello.name, {origin: oseq for origin, (oseq, _) in (hello.vector or {}).items()}
        )
        self.publisher = Publisher(
            self.link.settings,
            entry_bytes_max=hello.entry_bytes_max,
            figures=self.figures,
            on_partial=partial(self.replica.confirmations.note_partial, hello.name),
        )
        self.publisher.barred = self._forks.blocked
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._forks.run)
            nursery.start_soon(self.replica.restate)
            nursery.start_soon(self._watch_log)
            try:
                await self._serve(self.publisher)
            finally:
                nursery.cancel_scope.cancel()

    async def _serve(self, publisher: Publisher) -> None:
        while True:
            self._wake = trio.Event()
            for message in self._answers(publisher):
                await self.link.send(message)
            if self._copy is not None:
                await self._send_copy(publisher, self._copy)
            messages = self._next(publisher)
            await self._send(messages)
            if not messages and not self._said and not self._has_more(publisher):
                await self._wake.wait()
            await trio.lowlevel.checkpoint()

    async def _send(self, messages: list[Message]) -> None:
        figures = self.figures
        try:
            for message in messages:
                await self.link.send(message)
                if figures.sending_ts:
                    figures.sent_us = self._clock()
        finally:
            figures.sending_ts = 0

    def _complete_pong(self, pong: Pong) -> Pong:
        """Add where this side stands; now and then the vector and the digests of the tables, too."""
        self._pongs += 1
        publisher = self.publisher
        if publisher is None or not publisher.id or self.figures.sending_ts:
            return pong  # what is under way is not sent yet
        with self.replica.read() as tx:
            head = tx.head().lseq
            publisher.told_in_pong(head)
            positions = digests = None
            if self._pongs % DIGESTS_EVERY == 0 and not self.is_copying:
                positions, digests = digests_of(tx) or (None, None)
        return replace(pong, head=head, place=publisher.place, positions=positions, digests=digests)

    def _answers(self, publisher: Publisher) -> list[Message]:
        """Take note of what the subscriber said meanwhile."""
        answers: list[Message] = []
        while self._said:
            match self._said.popleft():
                case Subscribe() as message:
                    self._check(message.tables)
                    self._note_durable(message.want)
                    with self.replica.read() as tx:
                        answers += publisher.subscribe(message, tx)
                    if message.copy:
                        replica = self.replica
                        self._copy = CopySender(replica.outgoing_copies, replica.catalog, self.link, message)
                case Resubscribe() as message:
                    self._check(message.tables)
                    self._note_durable(message.want)
                    with self.replica.read() as tx:
                        answers += publisher.resubscribe(message, tx)
                case Ack() as message:
                    publisher.acknowledge(message)
                    self._note_durable(message.positions)
        return answers

    def _note_durable(self, positions: Mapping[Origin, int]) -> None:
        """A subscriber names what it has in its tables and its log; a copy that it merged is acknowledged by this alone.

        Raises ``RemoteProtocolError`` where that is more of this node's entries than there are: they are not confirmed
        before they are made.
        """
        own = self.replica.origin
        claimed = positions.get(own, 0)
        if claimed > self.replica.confirmations.of(self.link.peer.name).get(own, 0):
            position = self.replica.positions().get(own)
            if position is None or claimed > position.oseq:
                raise RemoteProtocolError(
                    f"the peer claims to have entry {claimed} of this node, which there is not yet"
                )
        self.replica.confirmations.note(self.link.peer.name, positions)

    async def _send_copy(self, publisher: Publisher, copy: CopySender) -> None:
        """Send a copy, and nothing else, until it is sent or the subscriber wants something else."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wait_for_other_wish, nursery.cancel_scope)
            forked = self._forks.blocked | self._forks.differing | self._forks.kept_off.keys()
            await copy.run(left_out=forked, wait_until_idle=self.replica.resume_merge)
            nursery.cancel_scope.cancel()
        self._copy = None
        publisher.pause()

    async def _wait_for_other_wish(self, scope: trio.CancelScope) -> None:
        while not any(isinstance(said, Subscribe | Resubscribe) for said in self._said):
            self._wake = trio.Event()
            await self._wake.wait()
        scope.cancel()

    def _check(self, tables: TableSelection) -> None:
        """Raises ``RemoteProtocolError`` where the peer may not take these tables."""
        reason = self._policy.may_subscribe(self.link.peer.name, self.replica.name, tables)
        if reason is not None:
            raise RemoteProtocolError(reason, code="not-permitted")
        self._tables = tables

    def check_permission(self) -> None:
        """Members changed: end the stream where it is no longer allowed."""
        if self._tables is not None:
            reason = self._policy.may_subscribe(self.link.peer.name, self.replica.name, self._tables)
            if reason is not None:
                self.link.end(Bye(code="not-permitted", reason=reason))

    def _next(self, publisher: Publisher) -> list[Message]:
        if not publisher.may_send:
            return []
        with self.replica.read() as tx:
            messages = publisher.next_messages(tx, self.replica.definitions(tx))
            return messages or publisher.place_to_tell(tx)

    def _has_more(self, publisher: Publisher) -> bool:
        """Whether a step that sent nothing has to be followed by another: it may have looked at a part only."""
        return publisher.may_send and self.replica.head() > publisher.place

    async def _watch_log(self) -> None:
        seen = 0
        while True:
            seen = await self.replica.wait_for_sequence(seen)
            self._wake.set()
