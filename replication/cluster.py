"""A node's part in a cluster: its members, its links and its port, as one service.

``node/assembly.py`` builds it where replication is configured; operations reach the other nodes through it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from replication.agreements import Unfit
from replication.connection import Dial, Listener, Target
from replication.join_order import JoinOrder
from replication.link import Link
from replication.link_status import LinkStatus
from replication.marking import Marking
from replication.membership_watch import SYSTEM, MembershipWatch
from replication.remote_calls import Caller
from replication.replica import own_hello
from replication.residency import Placement, Wish, configured_count
from replication.retention_rules import ReplicatedRetention
from replication.subscription import TableSelection
from replication.supervisor import Supervisor
from storage.catalog import Catalog
from storage.entry import Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """This node's own replication ports; None for one that is closed."""

    secure: int | None
    plain: int | None


class Cluster:
    """``run`` serves until cancelled."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        watch: MembershipWatch,
        supervisor: Supervisor,
        listener: Listener,
        dial: Dial,
        ports: Ports,
        shard: int | None,
        replicate_to: int | None = None,
    ) -> None:
        """``replicate_to`` is how many other nodes hold a record where nothing more particular is said; None: all."""
        self.watch = watch
        self.supervisor = supervisor
        self.status = LinkStatus(supervisor, catalog, watch.flows)
        self.ports = ports
        self.join_order = JoinOrder()
        self.shard = shard
        self._replicate_to = replicate_to
        self._catalog = catalog
        self._listener = listener
        self._dial = dial
        self._marking = Marking(catalog, watch.sharing, interval_s=supervisor.settings.mark_interval_s)
        self.retention = ReplicatedRetention(supervisor, watch.sharing)
        """What retention has to leave for the others."""

    @property
    def name(self) -> str:
        return self.watch.own.name

    @property
    def url(self) -> str | None:
        return self.watch.own.url

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started once the port is open."""
        await self.watch.prepare()
        async with trio.open_nursery() as nursery:
            await nursery.start(self.watch.run)
            await nursery.start(self.supervisor.run)
            await nursery.start(self._listener.run, self.supervisor.serve)
            await nursery.start(self._marking.run)
            task_status.started()

    async def call(self, peer: str, operation: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Have a connected peer carry out an operation. Raises ``RemoteFailure``, ``LinkLost``."""
        return await self.supervisor.call(peer, operation, timeout_s=timeout_s)

    def peers_sent_to(self, database: str, table: str) -> tuple[str, ...]:
        """The members that may take this table from here, in the order of names."""
        tables = TableSelection("only", frozenset((table,)))
        return tuple(peer for peer in self.watch.membership.peers if self._may_take(peer, database, tables))

    def _may_take(self, peer: str, database: str, tables: TableSelection) -> bool:
        return self.watch.may_subscribe(peer, database, tables) is None

    def placement(self, database: str, table: str, wish: Wish) -> Placement:
        """What chooses the nodes that hold the records of a write. Raises ``Unfit`` where it names nodes that get none."""
        peers = self.peers_sent_to(database, table)
        if database == SYSTEM:
            if wish is not None:
                raise Unfit("Records of database 'system' are held by every node")
            return Placement(node=self.name, peers=peers)
        unknown = set(wish).difference(peers, (self.name,)) if isinstance(wish, tuple) else set()
        if unknown:
            raise Unfit(f"Table '{database}.{table}' is not sent to {', '.join(sorted(unknown))}")
        configured = configured_count(database, self.watch.own.databases, self._replicate_to)
        return Placement(node=self.name, peers=peers, wish=wish, configured=configured)

    def is_copying(self) -> bool:
        """Whether a database here shows less than it should: a copy is under way, or it came by announcement and has
        not caught up once.
        """
        streams = (record.stream for record in self.supervisor.dialled.values())
        return any(stream is not None and stream.mode == "copy" for stream in streams) or any(
            self._catalog.database(name).environment.is_filling or self.supervisor.replica(name).is_merging
            for name in self._catalog.names
        )

    async def confirm(self, database: str, origin: Origin, oseq: int, count: int) -> None:
        """Wait until ``count`` peers have an entry, durably. Raises ``NotConfirmed`` where that takes too long."""
        confirmations = self.supervisor.replica(database).confirmations
        await confirmations.wait(origin, oseq, count=count, timeout_s=self.supervisor.settings.confirmation_timeout_s)

    async def ask(self, target: Target, operation: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Have a node that need not be a member carry out an operation, over a connection for this alone.

        Raises ``RemoteFailure`` for its error, ``PeerRefused``, ``LinkLost`` or ``RemoteProtocolError``.
        """
        results: list[Any] = []
        with trio.move_on_after(timeout_s):
            link = Link(
                await self._dial(target),
                lambda _: own_hello(
                    node=self.name,
                    url=self.url,
                    kind="control",
                    database=None,
                    settings=self.supervisor.settings,
                    now_us=self._catalog.clock(),
                    databases={},
                    shard=self.shard,
                ),
                name=self.name,
                expected=target.name if target.verifies else None,
                is_dialler=True,
                settings=self.supervisor.settings,
                clock=self._catalog.clock,
            )
            caller = Caller(link, on_databases=lambda _: None)

            async def call() -> None:
                results.append(await caller.call(operation, timeout_s=timeout_s))

            await link.run(caller.receive, call)
        if not results:
            raise trio.TooSlowError(f"no answer came within {timeout_s:g} s")
        return results[0]
