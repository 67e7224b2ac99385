"""The state of the links as clients see it: one value for each peer and each database that is exchanged with it.

Such a *socket* has two directions, each with a connection of its own: the one that this node dials brings entries, the
one that the peer dials takes them. It is connected where every direction that is agreed works. Names and forms are
those of ``cluster_status``; what has no value is left out, and nothing claims more than is durable.

It is asked often, so it reads counters, and one short transaction per database. Only the age of the oldest entry that
a peer lacks has to be looked for in the log; it is remembered until the peer has confirmed that entry.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from replication import backlog
from replication.figures import Inbox, LinkFigures
from replication.link import Link
from replication.replica import Replica
from replication.stream_in import StreamIn
from replication.stream_out import StreamOut
from replication.supervisor import Key, LinkRecord, Supervisor
from replication.wanted_links import Flow
from storage.catalog import Catalog
from storage.clock import milliseconds
from storage.copy_merge import MergeCursor, read_merge_cursor
from storage.database import Database
from storage.entry import Origin
from storage.errors import DatabaseClosed, DatabaseNotFound

COPYING: Final = "Copying"
LOOK_UPS_S: Final = 0.5
"""For all looks into logs of one answer together; what was not found by then is left out of it."""
REASONS: Final[Mapping[str, str]] = {"too large": "entry too large", "chain": "fork"}
"""What clients know a problem as, where that is not its own name."""

Flows: TypeAlias = Callable[[Collection[str]], Mapping[Key, Flow]]
Fields: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """What one snapshot of a database says."""

    positions: Mapping[Origin, int]
    entry_bytes: float
    """Mean size of an entry of the log."""
    merge: MergeCursor | None
    confirmed: Mapping[str, Mapping[Origin, int]]
    """By peer, for those that are sent something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Socket:
    """One peer and one database, with both connections as far as they are there."""

    peer: str
    replica: Replica
    flow: Flow
    figures: LinkFigures
    record: LinkRecord | None
    control: LinkRecord | None
    served: Link | None
    served_since_us: int
    stream_out: StreamOut | None
    here: _Here
    now_us: int

    @property
    def stream_in(self) -> StreamIn | None:
        return None if self.record is None else self.record.stream

    @property
    def dialled(self) -> Link | None:
        return None if self.record is None else self.record.link

    @property
    def is_copying(self) -> bool:
        """Whether a copy of this peer's is on its way in, or being merged."""
        progress = self.replica.incoming_copy.progress
        is_coming = self.stream_in is not None and self.stream_in.mode == "copy"
        return is_coming or (self.here.merge is not None and progress is not None and progress.source == self.peer)

    @property
    def connected_since_us(self) -> int | None:
        """None where a direction that is agreed does not work, or the peer has been silent for too long."""
        since: list[int] = []
        if self.flow.takes:
            is_up = self.record is not None and self.dialled is not None and self.dialled.is_alive()
            if not is_up or self.record is None or self.record.connected_at_us is None:
                return None
            since.append(self.record.connected_at_us)
        if self.flow.gives:
            if self.served is None or self.stream_out is None or not self.served.is_alive():
                return None
            since.append(self.served_since_us)
        return max(since, default=None)


class LinkStatus:
    """Asks the supervisor's links. ``flows`` says what is agreed for the databases of given names."""

    def __init__(self, supervisor: Supervisor, catalog: Catalog, flows: Flows) -> None:
        self._supervisor = supervisor
        self._catalog = catalog
        self._flows = flows
        self._oldest: dict[Key, backlog.Unconfirmed] = {}

    async def sockets(self) -> dict[str, list[Fields]]:
        """By peer, in the order of the databases' names."""
        agreed = self._flows(self._catalog.names)
        by_peer: dict[str, list[Fields]] = {}
        deadline = trio.current_time() + LOOK_UPS_S
        for database in sorted({database for _, database in agreed}):
            flows = {peer: flow for (peer, of), flow in agreed.items() if of == database and self._has(peer, database)}
            try:
                here = self._here(database, flows)
                for peer, flow in flows.items():
                    socket = self._socket(peer, database, flow, here)
                    fields = {"database": database, **_of_socket(socket), **_of_intake(socket)}
                    if flow.gives:
                        fields |= _of_output(socket) | await self._backlog((peer, database), socket, deadline)
                    by_peer.setdefault(peer, []).append(
                        {name: value for name, value in fields.items() if value is not None}
                    )
            except (DatabaseNotFound, DatabaseClosed):
                continue  # dropped meanwhile
            await trio.lowlevel.checkpoint()
        return by_peer

    def _has(self, peer: str, database: str) -> bool:
        """Whether the peer has the database too, as far as it was heard."""
        announced = self._supervisor.announced.get(peer)
        return announced is None or database in announced or (peer, database) in self._supervisor.served

    def _here(self, name: str, flows: Mapping[str, Flow]) -> _Here:
        replica = self._supervisor.replica(name)
        with replica.read() as tx:
            stored = tx.txn.stat(tx.environment.handles["log"])["entries"]
            return _Here(
                positions={at.origin: at.oseq for at in tx.log.positions().values()},
                entry_bytes=tx.log.size_bytes() / max(1, stored),
                merge=read_merge_cursor(tx),
                confirmed={
                    peer: backlog.confirmed_by(tx, peer, replica.confirmations.of(peer))
                    for peer, flow in flows.items()
                    if flow.gives
                },
            )

    def _socket(self, peer: str, database: str, flow: Flow, here: _Here) -> _Socket:
        supervisor = self._supervisor
        served = supervisor.served.get((peer, database))
        return _Socket(
            peer=peer,
            replica=supervisor.replica(database),
            flow=flow,
            figures=supervisor.figures.get((peer, database)) or LinkFigures(),
            record=supervisor.dialled.get((peer, database)),
            control=supervisor.dialled.get((peer, "")),
            served=None if served is None else served.link,
            served_since_us=0 if served is None else served.since_us,
            stream_out=None if served is None else served.stream,
            here=here,
            now_us=self._catalog.clock(),
        )

    async def _backlog(self, key: Key, socket: _Socket, deadline: float) -> Fields:
        """What the peer has not confirmed. Its bytes are an estimate: mean size of an entry of the log, times entries."""
        lacks = backlog.lacking(
            socket.here.positions,
            socket.here.confirmed[socket.peer],
            node=self._catalog.node,
            peer=socket.peer,
            left_out=socket.figures.outbox.left_out,
        )
        entries = backlog.count(lacks)
        if not entries:
            self._oldest.pop(key, None)
            return {"behindEntries": 0, "behindBytes": 0, "behindSeconds": 0}
        oldest = self._oldest.get(key)
        if not backlog.is_still_oldest(oldest, lacks):
            oldest = None
            if trio.current_time() < deadline:
                database = self._catalog.database(key[1])
                oldest = await self._catalog.offload(partial(_look_up, database, lacks))
            self._oldest.pop(key, None)
            if oldest is not None:
                self._oldest[key] = oldest
        return {
            "behindEntries": entries,
            "behindBytes": round(entries * socket.here.entry_bytes),
            "behindSeconds": None if oldest is None else _age_s(oldest.ts, socket.now_us),
            "oldestUnconfirmed": None if oldest is None else http_date(oldest.ts),
        }


def http_date(at_us: int) -> str | None:
    """An instant as RFC 7231 has it; None for one that never was."""
    return formatdate(at_us / 1_000_000, usegmt=True) if at_us else None


def _look_up(database: Database, lacks: Mapping[Origin, backlog.Lack]) -> backlog.Unconfirmed | None:
    with database.read() as tx:
        return backlog.oldest(tx, lacks)


def _age_s(ts: int, now_us: int) -> float:
    return round(max(0, now_us - ts) / 1_000_000, 3)


# -- both directions --------------------------------------------------------------------------------------------------


def _of_socket(socket: _Socket) -> Fields:
    since_us = socket.connected_since_us
    reason = _blocked_reason(socket)
    mode = "copy" if socket.is_copying else "blocked" if reason is not None else "log"
    connections = max(socket.figures.inbox.connections, socket.figures.outbox.connections)
    return {
        "connected": since_us is not None,
        "connectedSince": None if since_us is None else http_date(since_us),
        "reconnects": max(0, connections - 1),
        "latency": _latency_ms(socket),
        "thread_id": 1,
        "clockSkewMs": _clock_skew_ms(socket),
        "lastLiveness": http_date(_alive_us(socket)),
        "lastConnectionError": _connection_error(socket),
        "mode": mode,
        "blockedReason": reason if mode == "blocked" else None,
        "tablesEqual": socket.figures.inbox.tables_equal if socket.stream_in is not None else None,
        "copy": _copy(socket),
    }


def _links(socket: _Socket) -> list[Link]:
    """The open connections, the one whose figures count first."""
    return [link for link in (socket.dialled, socket.served) if link is not None]


def _latency_ms(socket: _Socket) -> float | None:
    measured = (link.session.liveness.latency_s for link in _links(socket))
    latency_s = next((one for one in measured if one is not None), None)
    return None if latency_s is None else round(latency_s * 1000, 3)


def _clock_skew_ms(socket: _Socket) -> float | None:
    """That of the control connection, which always is: one clock, one value."""
    control = None if socket.control is None else socket.control.link
    for link in ([] if control is None else [control]) + _links(socket):
        if link.session.peer is not None:
            return round(link.session.liveness.clock_skew_s * 1000, 1)
    return None


def _alive_us(socket: _Socket) -> int:
    silent = [silent_s for link in _links(socket) if (silent_s := link.silent_s()) is not None]
    return max([socket.figures.alive_us, *(socket.now_us - int(silent_s * 1_000_000) for silent_s in silent)])


def _connection_error(socket: _Socket) -> Fields | None:
    """Of this database's link; where that never was dialled, of the control link that has to be there first."""
    for record in (socket.record, socket.control):
        if record is not None and record.last_error is not None:
            code, at_us, message = record.last_error
            return {"code": code, "time": http_date(at_us), "message": message}
    return None


def _blocked_reason(socket: _Socket) -> str | None:
    """Why an origin does not move, in either direction, though the connection is there."""
    stream = socket.stream_in
    if stream is not None:
        taken, unserved = stream.taken(), stream.unserved()
        if "fork" in unserved.values():
            return "fork"
        stuck = socket.replica.intake.stuck(socket.here.positions)
        for origin in sorted(stuck.keys() & unserved.keys() & taken.keys()):
            return REASONS.get(unserved[origin], unserved[origin])
    publisher = None if socket.stream_out is None else socket.stream_out.publisher
    if publisher is not None and "too large" in publisher.stopped.values():
        return REASONS["too large"]
    return None


def _copy(socket: _Socket) -> Fields | None:
    """How far a copy of this peer's is. The time that is left is that of the present stage, receiving or merging."""
    progress = socket.replica.incoming_copy.progress
    if progress is None or progress.source != socket.peer or not socket.is_copying:
        return None
    merge = socket.here.merge
    tables = () if merge is None else merge.description.tables
    remaining_s = progress.remaining_s()
    fields = {
        "table": tables[merge.place.table].definition.name if merge and merge.place.table < len(tables) else None,
        "done": progress.rows_done,
        "total": progress.rows,
        "bytesDone": progress.received_bytes,
        "etaSeconds": None if remaining_s is None else round(remaining_s, 1),
        "source": progress.source,
    }
    return {name: value for name, value in fields.items() if value is not None}


# -- what comes in ----------------------------------------------------------------------------------------------------


def _of_intake(socket: _Socket) -> Fields:
    inbox, stream = socket.figures.inbox, socket.stream_in
    is_copying = socket.is_copying
    fields: Fields = {
        "lastReceivedRemoteTime": COPYING if is_copying else http_date(inbox.newest_ts),
        "lastReceivedLocalTime": http_date(inbox.received_us),
        "lastReceivedVersion": milliseconds(inbox.newest_ts) if inbox.newest_ts else None,
        "receivedEntries": inbox.received_entries,
        "receivedBytes": inbox.received_bytes,
        "conflictsLost": inbox.conflicts_lost,
    }
    if not socket.flow.takes or stream is None or not stream.is_subscribed:
        return {**fields, "nodes": []}
    behind = _remote_behind(socket, stream)
    is_receiving = is_copying or behind > 0
    return {
        **fields,
        "nodes": sorted({origin.node for origin in stream.taken() if origin not in stream.unserved()} | {socket.peer}),
        "lastReceivedStatus": "Receiving" if is_receiving else "Waiting",
        "remoteBehindEntries": behind,
        "remoteBehindSeconds": _remote_behind_s(stream, inbox, socket) if behind else 0,
    }


def _remote_behind(socket: _Socket, stream: StreamIn) -> int:
    """Entries of the peer's log that are not durable here. Both counts may be too small: the peer's vector is that of the
    last time it was told, and what is not sent yet says nothing of origins that stand still.
    """
    by_vector = sum(max(0, oseq - socket.here.positions.get(origin, 0)) for origin, oseq in stream.taken().items())
    unapplied, _ = stream.waiting()
    return max(by_vector, socket.figures.inbox.unsent + unapplied)


def _remote_behind_s(stream: StreamIn, inbox: Inbox, socket: _Socket) -> float:
    """The age of the oldest of them, about. One that was not sent yet is younger than the newest that was, and older than
    our news of it.
    """
    _, waiting_ts = stream.waiting()
    if waiting_ts:
        return _age_s(waiting_ts, socket.now_us)
    if inbox.newest_ts and inbox.received_us >= inbox.behind_since_us:
        return _age_s(inbox.newest_ts, socket.now_us)
    return _age_s(inbox.behind_since_us or socket.now_us, socket.now_us)


# -- what goes out ----------------------------------------------------------------------------------------------------


def _of_output(socket: _Socket) -> Fields:
    outbox, stream = socket.figures.outbox, socket.stream_out
    is_copying = stream is not None and stream.is_copying
    is_sending = stream is not None and outbox.sending_ts
    return {
        "lastCommitConfirmed": http_date(outbox.confirmed_ts),
        "lastSendTime": http_date(outbox.sent_us),
        "sendingMessage": COPYING if is_copying else http_date(outbox.sending_ts) if is_sending else None,
        "backPressurePercent": _back_pressure(socket),
        "sentEntries": outbox.sent_entries,
        "sentBytes": outbox.sent_bytes,
    }


def _back_pressure(socket: _Socket) -> int:
    """How much of what the peer allows to be under way is under way."""
    publisher = None if socket.stream_out is None else socket.stream_out.publisher
    window_bytes = socket.figures.outbox.window_bytes
    if publisher is None or not window_bytes or (socket.stream_out is not None and socket.stream_out.is_copying):
        return 0
    return round(100 * (1 - min(max(publisher.credit_bytes, 0), window_bytes) / window_bytes))
