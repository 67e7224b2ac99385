"""Keeps the links of a node: dials what is wanted, serves who dials in, and closes what is no longer allowed.

One *control* connection to each peer, for requests of this node, and one *stream* connection for each database that is
taken from it; the other direction is the peer's to dial. A link that ends is dialled again, at first soon and then
less often; only real progress makes that soon again. Link errors are expected here and end their link, any other error
stops the node.
"""

import logging
import math
import random
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from replication.connection import Connection, Dial, PeerIdentity, Target
from replication.copy_out import KEPT_S
from replication.credit import CreditBudget
from replication.errors import LinkLost, PeerRefused, RemoteProtocolError
from replication.figures import LinkFigures
from replication.link import Link
from replication.messages import Bye, Databases, Hello, Message, Pong
from replication.policy import Policy
from replication.remote_calls import Answerer, Caller, Handler
from replication.replica import Replica, own_hello
from replication.settings import LinkSettings
from replication.stream_in import StreamIn
from replication.stream_out import StreamOut
from replication.subscription import EVERY_TABLE
from replication.wanted_links import WantedPeer, WantedStream
from storage.catalog import Catalog
from storage.errors import AlreadyExists, DatabaseError, DiskFull, StorageError

log = logging.getLogger("replication")

SUPERSEDED_WAIT_S: Final = 2.0
RECHECK_S: Final = 60.0
"""Who is connected is looked at that often though no member changed: certificates end."""
_DATABASE_NAME: Final = re.compile(r"[^`/]{1,250}")
"""What a client can call a database. One that a peer calls otherwise is nothing to follow it in."""

Wanted: TypeAlias = WantedPeer | WantedStream
Key: TypeAlias = tuple[str, str]
"""Peer, and database; "" for control."""


@dataclass(slots=True)
class LinkRecord:
    """What the status tells of one link that this node dials, across its connections."""

    wanted: Wanted
    url: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    link: Link | None = None
    stream: StreamIn | None = None
    caller: Caller | None = None
    connected_at_us: int | None = None
    """Since when the link is up: the peer takes it, and answers."""
    last_error: tuple[str, int, str] | None = None
    """Code, time in µs, text."""
    reported: str | None = None
    """What the log has said of the link since it was last up."""
    retry: trio.Event = field(default_factory=trio.Event)
    """Set when the peer turns out to be there: the next attempt need not wait."""

    @property
    def has_progressed(self) -> bool:
        """Whether more than a greeting came of the connection."""
        if self.stream is not None:
            return self.stream.is_subscribed
        return self.link is not None and self.link.has_progressed


@dataclass(slots=True, eq=False)
class ServedLink:
    """A connection that a peer dialled."""

    link: Link
    scope: trio.CancelScope
    key: Key
    stream: StreamOut | None = None
    since_us: int = 0


class Supervisor:
    """All links of one node."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        policy: Policy,
        dial: Dial,
        handler: Handler,
        settings: LinkSettings,
        url: str | None,
        rng: random.Random,
        shard: int | None = None,
    ) -> None:
        self.node = catalog.node
        self.settings = settings
        self.replicas: dict[str, Replica] = {}
        self.dialled: dict[Key, LinkRecord] = {}
        self.served: dict[Key, ServedLink] = {}
        self.announced: dict[str, dict[str, int]] = {}
        """Peer -> its databases, each with the time of its creation."""
        self.figures: dict[Key, LinkFigures] = {}
        """What the links counted since the node started."""
        self._catalog = catalog
        self._policy = policy
        self._dial = dial
        self._handler = handler
        self._url = url
        self._rng = rng
        self._shard = shard
        self._budget = CreditBudget(settings.receive_memory_bytes)
        self._changed = trio.Event()
        self._skewed: set[str] = set()

    # -- what others ask ------------------------------------------------------------------------------------------

    def replica(self, name: str) -> Replica:
        """The replica of a database that is here. Raises ``DatabaseNotFound``."""
        self._catalog.database(name)
        replica = self.replicas.get(name)
        if replica is None:
            replica = self.replicas[name] = Replica(
                self._catalog, name, self.settings, new_copy_id=lambda: f"{self._rng.getrandbits(64):016x}"
            )
        return replica

    async def call(self, peer: str, operation: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Have a peer carry out an operation. Raises ``RemoteFailure``, ``LinkLost``."""
        record = self.dialled.get((peer, ""))
        if record is None or record.caller is None:
            raise LinkLost(f"'{peer}' is not connected")
        return await record.caller.call(operation, timeout_s=timeout_s)

    def nearest(self, names: Collection[str]) -> list[str]:
        """The connected peers of these names, the one that answers soonest first."""
        found: list[tuple[float, str]] = []
        for name in names:
            record = self.dialled.get((name, ""))
            if record is not None and record.caller is not None and record.link is not None:
                latency_s = record.link.session.liveness.latency_s
                if record.link.session.peer is not None:
                    found.append((math.inf if latency_s is None else latency_s, name))
        return [name for _, name in sorted(found)]

    def databases_changed(self) -> None:
        """A database came or went: tell the peers."""
        databases = Databases(databases=self._own_databases())
        for record in self.dialled.values():
            if record.caller is not None and record.link is not None:
                record.link.post(databases)
        for served in self.served.values():
            if not served.key[1]:
                served.link.post(databases)
        self._wake()

    # -- tasks ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_policy)
            nursery.start_soon(self._follow_databases)
            nursery.start_soon(self._drop_unused_copies)
            for name in self._catalog.names:
                nursery.start_soon(self._resume_merge, name)
            task_status.started()
            while True:
                self._changed = trio.Event()
                await self._create_announced()
                self._adjust(nursery)
                await self._changed.wait()

    async def _drop_unused_copies(self) -> None:
        while True:
            await trio.sleep(KEPT_S / 10)
            for replica in self.replicas.values():
                replica.outgoing_copies.drop_unused(trio.current_time())
                if not replica.copying.locked() and not replica.is_merging:
                    replica.incoming_copy.discard_stale(KEPT_S)

    async def _resume_merge(self, name: str) -> None:
        """Finish what an earlier life began. Where that cannot be now, the next stream of the database tries again."""
        try:
            await self.replica(name).resume_merge()
        except DatabaseError as error:
            log.error("database '%s': a copy cannot be merged now: %s", name, error)

    def _wake(self) -> None:
        self._changed.set()

    async def _follow_policy(self) -> None:
        while True:
            with trio.move_on_after(RECHECK_S) as scope:
                await self._policy.wait_for_change()
            self._turn_away()
            if not scope.cancelled_caught:
                self._wake()

    async def _follow_databases(self) -> None:
        known = self._catalog.names
        while True:
            await self._catalog.wait_for_change(known)
            known = self._catalog.names
            for name in self.replicas.keys() - set(known):
                del self.replicas[name]
            self.databases_changed()

    def _adjust(self, nursery: trio.Nursery) -> None:
        """Begin links that are wanted and end those that are not, or that are wanted otherwise."""
        remote = {peer: list(databases) for peer, databases in self.announced.items()}
        links = self._policy.wanted(self._catalog.names, remote)
        urls = {peer.name: peer.url for peer in links.peers}
        wanted: dict[Key, Wanted] = {(peer.name, ""): peer for peer in links.peers}
        wanted |= {
            (stream.peer, stream.database): stream
            for stream in links.streams
            if stream.database in self._catalog.names and stream.peer in urls
        }
        for key, record in list(self.dialled.items()):
            if wanted.get(key) != record.wanted or urls[key[0]] != record.url:
                record.scope.cancel()
                del self.dialled[key]
        for key, link in wanted.items():
            if key not in self.dialled:
                record = self.dialled[key] = LinkRecord(wanted=link, url=urls[key[0]])
                nursery.start_soon(self._keep, key, record)

    async def _create_announced(self) -> None:
        """Create databases that peers have and this node should."""
        remote = {peer: list(databases) for peer, databases in self.announced.items()}
        for stream in self._policy.wanted(self._catalog.names, remote).streams:
            name, created = stream.database, self.announced[stream.peer].get(stream.database, 0)
            is_missing = stream.is_new and name not in self._catalog.names and _DATABASE_NAME.fullmatch(name)
            if is_missing and self._policy.may_create(name, created):
                try:
                    is_filling = stream.tables == EVERY_TABLE and not stream.except_nodes
                    await self._catalog.create(name, created_us=created, is_filling=is_filling)
                except AlreadyExists:
                    continue
                except (StorageError, OSError) as error:
                    log.error("database '%s', which '%s' has, cannot be created: %s", name, stream.peer, error)
                    continue
                log.info("database '%s' was created, as '%s' has it", name, stream.peer)

    # -- dialling -------------------------------------------------------------------------------------------------

    async def _keep(self, key: Key, record: LinkRecord) -> None:
        """Dial again and again, until the link is no longer wanted."""
        delay_s = self.settings.reconnect_s_min
        with record.scope:
            while True:
                error: DatabaseError | None = None
                try:
                    await self._connect(key, record)
                except DatabaseError as raised:
                    error = raised
                    self._note_error(key, record, error)
                finally:
                    had_progress = record.has_progressed
                    self._note_end(key, record.link)
                    record.link = record.stream = record.caller = None
                    record.connected_at_us = None
                # What ends a connection by what came over it, or by a refusal, would end the next one as soon.
                if had_progress and (error is None or isinstance(error, LinkLost)):
                    delay_s = self.settings.reconnect_s_min
                if isinstance(error, PeerRefused) and error.after_s is not None:
                    if error.after_s < 0:
                        await self._policy.wait_for_change()
                    else:
                        delay_s = max(delay_s, error.after_s)
                record.retry = trio.Event()
                with trio.move_on_after(delay_s * self._rng.uniform(0.5, 1.5)):
                    await record.retry.wait()
                delay_s = min(delay_s * 2, self.settings.reconnect_s_max)

    def _note_error(self, key: Key, record: LinkRecord, error: Exception) -> None:
        code = "disk-full" if isinstance(error, DiskFull) else getattr(error, "code", "lost")
        record.last_error = (code, self._catalog.clock(), str(error))
        is_one_of_many = bool(key[1]) and not self._is_controlled(key[0])
        level = logging.INFO if is_one_of_many else logging.WARNING
        level = logging.DEBUG if record.reported == str(error) else level
        record.reported = str(error)
        log.log(level, "link to '%s' (%s) is down: %s", key[0], _what(key), error)

    def _is_controlled(self, peer: str) -> bool:
        """Whether the control link is up; while it is not, that is the news, and not each database's link."""
        control = self.dialled.get((peer, ""))
        return control is not None and control.connected_at_us is not None

    def _note_progress(self, key: Key, record: LinkRecord) -> None:
        """Something came over a link: it is up once the peer has taken it and answered."""
        if record.connected_at_us is None and record.has_progressed:
            record.connected_at_us = self._catalog.clock()
            record.reported = None
            self._figures_of(key).inbox.connections += 1
            log.info("link to '%s' (%s) is up", key[0], _what(key))

    def _note_end(self, key: Key, link: Link | None) -> None:
        silent_s = None if link is None else link.silent_s()
        if silent_s is not None:
            figures = self._figures_of(key)
            figures.alive_us = max(figures.alive_us, self._catalog.clock() - int(silent_s * 1_000_000))

    def _note_skew(self, peer: str, link: Link) -> None:
        """Report a peer whose clock is far from ours, once; nothing is refused for its time."""
        skew_s = link.session.liveness.clock_skew_s
        if abs(skew_s) <= self.settings.clock_skew_s_max:
            self._skewed.discard(peer)
        elif peer not in self._skewed:
            self._skewed.add(peer)
            log.error("the clock of '%s' is %+.1f s from that of this node", peer, skew_s)

    def _figures_of(self, key: Key) -> LinkFigures:
        return self.figures.setdefault(key, LinkFigures())

    async def _connect(self, key: Key, record: LinkRecord) -> None:
        peer, database = key
        authorization = record.wanted.authorization if isinstance(record.wanted, WantedPeer) else None
        connection = await self._dial(Target(url=record.url, name=peer, authorization=authorization))
        try:
            self._check_allowed(key, connection.peer)
        except PeerRefused as error:
            await connection.close(str(error))
            raise
        replica = self.replica(database) if database else None
        link = Link(
            connection,
            partial(self._hello, replica),
            name=self.node,
            expected=peer,
            is_dialler=True,
            settings=self.settings,
            clock=self._catalog.clock,
            head=(lambda: 0) if replica is None else replica.head,
        )
        record.link = link

        def receive(message: Message, size_bytes: int) -> None:
            part.receive(message, size_bytes)
            if record.connected_at_us is None:
                self._note_progress(key, record)
            if isinstance(message, Pong) and not database:
                self._note_skew(peer, link)

        part: Caller | StreamIn
        if replica is None:
            part = caller = record.caller = Caller(link, on_databases=partial(self._note_databases, peer))
            try:
                await link.run(receive, partial(self._hold_control, link))
            finally:
                caller.close()
        else:
            assert isinstance(record.wanted, WantedStream)
            part = stream = record.stream = StreamIn(
                replica,
                link,
                budget=self._budget,
                clock=self._catalog.clock,
                tables=record.wanted.tables,
                except_nodes=record.wanted.except_nodes,
                figures=self._figures_of(key).inbox,
            )
            await link.run(receive, stream.run)
        self._check_allowed(key, connection.peer)  # it may have ended because of that

    def _check_allowed(self, key: Key, identity: PeerIdentity) -> None:
        """Raises ``PeerRefused`` for a peer that this node may not deal with, though it dials it: revoked, for one."""
        refusal = self._policy.refusal(identity, key[0], _kind(key))
        if refusal is not None:
            raise PeerRefused(refusal.reason, code=refusal.code, after_s=-1 if refusal.is_final else None)

    async def _hold_control(self, link: Link) -> None:
        self._note_databases(link.peer.name, link.peer.databases or {})
        await trio.sleep_forever()

    # -- serving --------------------------------------------------------------------------------------------------

    async def serve(self, connection: Connection) -> None:
        """Serve a connection that a peer dialled, until it ends."""
        served: list[ServedLink] = []
        early: list[tuple[Message, int]] = []
        role: list[StreamOut | Answerer] = []

        def receive(message: Message, size_bytes: int) -> None:
            if role:
                role[0].receive(message, size_bytes)
            else:
                early.append((message, size_bytes))

        async def body() -> None:
            part = await self._begin(link, served)
            role.append(part)
            for message, size_bytes in early:
                part.receive(message, size_bytes)
            await part.run()

        link = Link(
            connection,
            self._answer_hello,
            name=self.node,
            expected=connection.peer.name,
            is_dialler=False,
            settings=self.settings,
            clock=self._catalog.clock,
        )
        try:
            with trio.CancelScope() as scope:
                served.append(ServedLink(link=link, scope=scope, key=("", ""), since_us=self._catalog.clock()))
                await link.run(receive, body)
        except DatabaseError as error:
            log.info("a connection from '%s' ended: %s", connection.peer.name or connection.peer.address, error)
        finally:
            if self.served.get(served[0].key) is served[0]:
                del self.served[served[0].key]
                self._note_end(served[0].key, link)

    def _answer_hello(self, hello: Hello | None) -> Hello:
        assert hello is not None, "who is dialled answers"
        if hello.kind == "control":
            return self._hello(None, hello)
        if hello.kind != "stream" or not hello.database:
            raise RemoteProtocolError("a connection is for control, or names its database", code="unsupported")
        if hello.database not in self._catalog.names:
            raise RemoteProtocolError(f"there is no database '{hello.database}' here", code="not-permitted")
        return self._hello(self.replica(hello.database), hello)

    async def _begin(self, link: Link, served: list[ServedLink]) -> StreamOut | Answerer:
        """Check who it is, end an older connection of the same dialler for the same thing, and take up the role."""
        hello, identity = link.peer, link.connection.peer
        refusal = self._policy.refusal(identity, hello.name, hello.kind)
        if refusal is not None:
            link.post(Bye(code=refusal.code, reason=refusal.reason, after_ms=-1 if refusal.is_final else 0))
            await link.flush()
            raise PeerRefused(refusal.reason, code=refusal.code)
        (own,) = served
        own.key = (hello.name, hello.database or "")
        older = self.served.get(own.key)
        self.served[own.key] = own
        self._figures_of(own.key).outbox.connections += 1
        if older is not None:
            try:
                older.link.post(Bye(code="superseded"))
                with trio.move_on_after(SUPERSEDED_WAIT_S):
                    await older.link.flush()
            except LinkLost:
                pass  # it takes nothing, and will not hear of it
            older.scope.cancel()
        if hello.kind == "control":
            self._note_databases(hello.name, hello.databases or {})
            self._retry(hello.name)
            return Answerer(link, self._handler, on_databases=partial(self._note_databases, hello.name))
        assert hello.database is not None
        stream = own.stream = StreamOut(
            self.replica(hello.database),
            link,
            self._policy,
            clock=self._catalog.clock,
            figures=self._figures_of(own.key).outbox,
        )
        return stream

    def _retry(self, peer: str) -> None:
        """A peer has come (back): dial it now, and not when the grown delays end."""
        for key, record in self.dialled.items():
            if key[0] == peer:
                record.retry.set()

    def _turn_away(self) -> None:
        """End the connections of peers that are no longer allowed."""
        for served in list(self.served.values()):
            hello = served.link.session.peer
            if hello is None:
                continue
            refusal = self._policy.refusal(served.link.connection.peer, hello.name, hello.kind)
            if refusal is not None:
                log.warning("the connection from '%s' is closed: %s", hello.name, refusal.reason)
                served.link.end(Bye(code=refusal.code, reason=refusal.reason, after_ms=-1 if refusal.is_final else 0))
            elif served.stream is not None:
                served.stream.check_permission()
        for key, record in self.dialled.items():
            if record.link is not None:
                refusal = self._policy.refusal(record.link.connection.peer, key[0], _kind(key))
                if refusal is not None:
                    record.link.end(Bye(code=refusal.code, reason=refusal.reason))

    # -- hellos and databases -------------------------------------------------------------------------------------

    def _hello(self, replica: Replica | None, _: Hello | None) -> Hello:
        now_us = self._catalog.clock()
        if replica is None:
            return own_hello(
                node=self.node,
                url=self._url,
                kind="control",
                database=None,
                settings=self.settings,
                now_us=now_us,
                databases=self._own_databases(),
                shard=self._shard,
            )
        with replica.read() as tx:
            return own_hello(
                node=self.node,
                url=self._url,
                kind="stream",
                database=replica.name,
                settings=self.settings,
                now_us=now_us,
                shard=self._shard,
                **replica.hello(tx),
            )

    def _own_databases(self) -> dict[str, int]:
        return {name: self._catalog.database(name).environment.created_us for name in self._catalog.names}

    def _note_databases(self, peer: str, databases: Mapping[str, int]) -> None:
        if self.announced.get(peer) != databases:
            self.announced[peer] = dict(databases)
            self._wake()


def _kind(key: Key) -> str:
    return "stream" if key[1] else "control"


def _what(key: Key) -> str:
    return f"database '{key[1]}'" if key[1] else "control"
