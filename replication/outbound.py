"""What a publisher sends next to one subscriber: the log in its own order, filtered, under credit. Sans-IO: it is
given a snapshot to read and returns messages.

There is no queue. The log is read on demand, so a slow subscriber costs nothing here but its place in it. Per origin
the stream has no gaps: where an entry is not here in full, the origin stops on this stream with a *void*, and the
subscriber looks elsewhere; it is never stepped over.

Entries with records that only some nodes hold go to everybody whole, and who does not hold one cuts its row down. That
costs bandwidth; entries cut down here could not be passed on to a resident by who got them.

States: created, then ``subscribe`` (any number of times), then ``next_messages`` and ``acknowledge`` in turn.
"""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from replication.errors import RemoteProtocolError
from replication.fields import Item, SentEntry, SkipRange
from replication.figures import Outbox
from replication.messages import Ack, Batch, Message, Resubscribe, Schema, Subscribe, Subscribed, Void
from replication.settings import LinkSettings
from replication.subscription import EVERY_TABLE, TableSelection
from storage.entry import Entry, Origin, encode_travelling
from storage.schema import Definition
from storage.transaction import ReadTransaction


@dataclass(slots=True)
class _Step:
    """What one step of reading the log collects."""

    items: list[Item] = field(default_factory=list)
    voids: list[Void] = field(default_factory=list)
    size_bytes: int = 0
    newest_ts: int = 0
    scanned: int = 0


class Publisher:
    """One subscriber's place in the log of one database."""

    def __init__(
        self,
        settings: LinkSettings,
        *,
        entry_bytes_max: int,
        figures: Outbox | None = None,
        on_partial: Callable[[Origin, int], None] = lambda origin, oseq: None,
    ) -> None:
        """``entry_bytes_max`` is the largest payload that the subscriber takes. ``on_partial`` hears of each entry that
        it gets without some writes, or as a skip, before it can confirm that position.
        """
        self.figures = figures or Outbox()
        self.barred: AbstractSet[Origin] = frozenset()
        """Origins that this subscriber must not get, whatever it asks for."""
        self.confirmed: dict[Origin, int] = {}
        """What the subscriber said is durable there."""
        self.id = 0
        self.place = 0
        """Last ``lseq`` that was looked at."""
        self.credit_bytes = 0
        self._on_partial = on_partial
        self._settings = settings
        self._entry_bytes_max = entry_bytes_max
        self._sent: dict[Origin, int] = {}
        self._without: frozenset[Origin] = frozenset()
        self._stopped: dict[Origin, str] = {}
        self._tables: TableSelection = EVERY_TABLE
        self._skipping: dict[Origin, SkipRange] = {}
        self._schema_version: int | None = None
        self._batch = 0
        self._told = (0, 0)

    # -- what the subscriber says ---------------------------------------------------------------------------------

    def subscribe(self, message: Subscribe, tx: ReadTransaction, *, mode: str = "log") -> list[Message]:
        """Begin, or begin anew: the answer."""
        self.id = message.id
        self.credit_bytes = self.figures.window_bytes = message.credit_bytes
        self._schema_version = None
        return [self._begun(message, tx, mode)]

    def resubscribe(self, message: Resubscribe, tx: ReadTransaction) -> list[Message]:
        """Go on from other positions, or with other origins and tables."""
        self._check_id(message.id)
        return [self._begun(message, tx, "log")]

    def _begun(self, message: Subscribe | Resubscribe, tx: ReadTransaction, mode: str) -> Subscribed:
        unavailable = self._start(message, tx)
        self._told = (tx.head().lseq, self.place)
        return Subscribed(id=self.id, mode=mode, head=self._told[0], place=self.place, unavailable=unavailable)

    def acknowledge(self, message: Ack) -> None:
        self._check_id(message.id)
        self.credit_bytes += message.credit_bytes
        self.figures.window_bytes = max(self.figures.window_bytes, self.credit_bytes)
        self.figures.confirmed_ts = max(self.figures.confirmed_ts, message.newest_ts)
        for origin, oseq in message.positions.items():
            self.confirmed[origin] = max(oseq, self.confirmed.get(origin, 0))

    def _check_id(self, number: int) -> None:
        if not self.id:
            raise RemoteProtocolError("the peer acknowledges before it subscribed")
        if number > self.id:
            raise RemoteProtocolError("the peer names a subscription that it never made")

    def _start(self, message: Subscribe | Resubscribe, tx: ReadTransaction) -> dict[Origin, int]:
        """Find the place in the log; the origins that cannot be served, with their floors."""
        self._sent = dict(message.want)
        self._without = self.figures.left_out = message.without
        self._tables = message.tables
        self._stopped = {}
        self._skipping = {}
        unavailable: dict[Origin, int] = {}
        for position in tx.log.positions().values():
            wanted_from = self._sent.get(position.origin, 0)
            if position.origin not in self._without and wanted_from < position.floor:
                unavailable[position.origin] = position.floor
                self._stopped[position.origin] = "trimmed"
        self.place = tx.log.place_behind(self._sent, ignored={*self._without, *self._stopped, *self.barred})
        return unavailable

    def pause(self) -> None:
        """Send nothing until the next subscription: a copy was sent, and the subscriber has to merge it first."""
        self.credit_bytes = 0

    # -- what is sent ---------------------------------------------------------------------------------------------

    @property
    def may_send(self) -> bool:
        return bool(self.id) and self.credit_bytes > 0

    def next_messages(self, tx: ReadTransaction, definitions: Iterable[Definition]) -> list[Message]:
        """One step further in the log: a batch at most, and what has to come before it.

        Nothing to send is no messages; ``place`` then says how far the log was looked at. ``definitions`` are those
        of the tables that may be sent.
        """
        if not self.may_send:
            return []
        step = self._read(tx)
        messages = self._schema_if_changed(tx, definitions)
        if step.items:
            self._batch += 1
            self.credit_bytes -= step.size_bytes
            self.figures.sending_ts = step.newest_ts
            messages.append(self._tell(tx, items=tuple(step.items), newest_ts=step.newest_ts))
        return [*messages, *step.voids]

    def place_to_tell(self, tx: ReadTransaction) -> list[Message]:
        """At the end of the log: a batch without entries, where the subscriber has to think that it lacks some."""
        head, place = self._told
        return [self._tell(tx)] if self.may_send and place < head <= self.place else []

    def _tell(self, tx: ReadTransaction, *, items: tuple[Item, ...] = (), newest_ts: int = 0) -> Batch:
        self._told = (tx.head().lseq, self.place)
        return Batch(
            id=self.id, number=self._batch, items=items, head=self._told[0], place=self.place, newest_ts=newest_ts
        )

    def told_in_pong(self, head: int) -> None:
        """The subscriber has heard of ``head`` and of our place beside it."""
        self._told = (head, self.place)

    @property
    def stopped(self) -> Mapping[Origin, str]:
        """Origins that this stream cannot go on with, and why."""
        return self._stopped

    def _schema_if_changed(self, tx: ReadTransaction, definitions: Iterable[Definition]) -> list[Message]:
        version = tx.head().schema_version
        if version == self._schema_version:
            return []
        self._schema_version = version
        wanted = tuple(definition for definition in definitions if self._tables.takes(definition.name))
        return [Schema(id=self.id, tables=wanted)] if wanted else []

    def _read(self, tx: ReadTransaction) -> _Step:
        settings = self._settings
        step = _Step()
        branches = tx.log.branches()
        for entry in tx.log.read_from(self.place + 1):
            self.place = entry.lseq
            branch = branches.get(entry.header.origin)
            if branch is None or not branch.holds(entry.lseq, entry.header.oseq):
                self._take(entry, step)
            step.scanned += 1
            is_full = step.size_bytes >= min(settings.batch_bytes, max(self.credit_bytes, 1))
            if is_full or len(step.items) >= settings.batch_items or step.scanned >= settings.scan_entries:
                break
        for skipped in self._skipping.values():
            step.items.append(skipped)
        self._skipping = {}
        return step

    def _take(self, entry: Entry, step: _Step) -> None:
        header = entry.header
        origin, oseq = header.origin, header.oseq
        sent = self._sent.get(origin, 0)
        if not oseq or origin in self._without or origin in self._stopped or oseq <= sent or origin in self.barred:
            return
        if header.kind == "skip" or oseq != sent + 1:
            self._stop(origin, sent + 1, "filtered" if header.kind == "skip" else "trimmed", step)
        elif entry.is_reduced:
            self._stop(origin, oseq, "reduced", step)
        else:
            self._send(entry, step)

    def _send(self, entry: Entry, step: _Step) -> None:
        header = entry.header
        payload = self._tables.select(entry)
        if payload is not None and len(payload) > self._entry_bytes_max:
            self._stop(header.origin, header.oseq, "too large", step)
            return
        self._sent[header.origin] = header.oseq
        if payload is not entry.payload:
            self._on_partial(header.origin, header.oseq)
        if payload is None:
            self._skip(header.origin, header.oseq, header.chain)
            return
        skipped = self._skipping.pop(header.origin, None)
        if skipped is not None:
            step.items.append(skipped)
        data = encode_travelling(header.raw, payload)
        step.items.append(SentEntry(data=data, is_reduced=payload is not entry.payload))
        step.size_bytes += len(data)
        step.newest_ts = max(step.newest_ts, header.ts)
        self.figures.sent_entries += 1
        self.figures.sent_bytes += len(data)

    def _skip(self, origin: Origin, oseq: int, chain: bytes) -> None:
        """Only who holds an entry in full and has looked at it may let a subscriber pass it."""
        before = self._skipping.get(origin)
        first = oseq if before is None else before.first
        self._skipping[origin] = SkipRange(origin=origin, first=first, last=oseq, chain=chain)
        self.figures.skipped_entries += 1

    def _stop(self, origin: Origin, at: int, reason: str, step: _Step) -> None:
        self._stopped[origin] = reason
        step.voids.append(Void(id=self.id, origin=origin, at=at, reason=reason))
