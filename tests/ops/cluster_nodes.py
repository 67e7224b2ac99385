"""Several nodes in one process: real catalogs, dispatchers and memberships, linked by connections of memory."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from node.certificate_source import CertificateSource
from node.certificate_store import CertificateStore
from ops.authentication import Authenticator
from ops.context import Services
from ops.dispatch import OperationsDispatcher
from ops.first_start import ensure_first_administrator
from ops.jobs import JobRunner
from ops.node_calls import NodeCalls
from ops.passwords import Passwords
from ops.reference import OPERATIONS
from ops.settings import OpsSettings
from ops.system_tables import ensure_system_tables
from ops.tokens import Tokens
from replication.agreements import Databases
from replication.cluster import Cluster, Ports
from replication.connection import Serve
from replication.membership_changes import OwnNode
from replication.membership_watch import MembershipWatch
from replication.routes import parse_route
from replication.settings import LinkSettings
from replication.supervisor import Supervisor
from storage.catalog import Catalog, open_catalog
from storage.checker import check_database
from storage.clock import wall_clock
from storage.record import Row
from storage.settings import StorageSettings
from storage.transaction import stored_key_of
from tests.ops.conftest import ADMIN, PASSWORD, FakeConfiguration, FakeControl, Keys, Node
from tests.simulation.network import Network

PATIENCE_S = 20.0


@dataclass(frozen=True)
class MemoryListener:
    network: Network
    name: str

    async def run(self, serve: Serve, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self.network.listen(self.name, serve, task_status=task_status)


@dataclass
class ClusterNode(Node):
    """One of several nodes. It stops when ``scope`` is cancelled."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def name(self) -> str:
        return self.services.catalog.node

    @property
    def cluster(self) -> Cluster:
        assert self.services.cluster is not None
        return self.services.cluster

    def row(self, table: str, key: Any, *, database: str = "data") -> Row | None:
        """What is stored here of a record."""
        if database not in self.services.catalog.names:
            return None
        with self.services.catalog.database(database).read() as tx:
            found = tx.schema().tables.get(table)
            return None if found is None else tx.row(found, stored_key_of(key))

    def digest(self, table: str) -> bytes:
        with self.services.catalog.database("data").read() as tx:
            return tx.state_digest(tx.table(table))


@dataclass
class Nodes:
    network: Network
    by_name: dict[str, ClusterNode]

    def __getitem__(self, name: str) -> ClusterNode:
        return self.by_name[name]

    def stop(self, name: str) -> None:
        """As a crash: its connections break, nobody listens any more."""
        self.by_name[name].scope.cancel()
        self.network.vanish(name)

    def isolate(self, name: str) -> None:
        """Let nothing pass between a node and the others."""
        for other in self.by_name:
            if other != name:
                self.network.cut(name, other)

    def deafen(self, name: str) -> None:
        """A node takes nothing of database ``data`` any more; it still answers."""
        dialled = self.by_name[name].cluster.supervisor.dialled
        for (_, database), record in dialled.items():
            if database == "data":
                record.scope.cancel()

    def rejoin(self, name: str) -> None:
        for other in self.by_name:
            if other != name:
                self.network.mend(name, other)


async def eventually(holds: Callable[[], bool], what: str) -> None:
    with trio.move_on_after(PATIENCE_S) as scope:
        while not holds():
            await trio.sleep(0.01)
    assert not scope.cancelled_caught, f"not in time: {what}"


@asynccontextmanager
async def cluster_nodes(
    folder: Path,
    names: Sequence[str],
    *,
    shards: Mapping[str, int] = {},
    databases: Databases = None,
    replicate_to: int | None = None,
    confirmation_timeout_s: float = 20.0,
) -> AsyncIterator[Nodes]:
    """Nodes that all know each other, with their links up; their databases are checked at the end."""
    network = Network(random.Random(1), latency_s=0.0005, frames_per_s_max=None)
    settings = LinkSettings(
        reconnect_s_min=0.05, reconnect_s_max=0.2, copy_patience_s=0.1, confirmation_timeout_s=confirmation_timeout_s
    )
    nodes = Nodes(network, {})
    async with AsyncExitStack() as stack:
        for name in names:
            own = OwnNode(name=name, url=f"wss://{name}:9933", shard=shards.get(name), databases=databases)
            others = [other for other in names if other != name]
            nodes.by_name[name] = await stack.enter_async_context(
                _running(folder / name, own, others, network, settings, replicate_to)
            )
        await eventually(lambda: all(_is_linked(node, names) for node in nodes.by_name.values()), "links are up")
        yield nodes
        for node in nodes.by_name.values():
            for database in node.services.catalog.names:
                environment = node.services.catalog.database(database).environment
                problems = check_database(environment, now_ms=wall_clock() // 1000)
                assert problems == [], f"{node.name}: {problems}"


def _is_linked(node: ClusterNode, names: Sequence[str]) -> bool:
    return len(node.cluster.supervisor.nearest(names)) == len(names) - 1


@asynccontextmanager
async def _running(
    folder: Path,
    own: OwnNode,
    others: Sequence[str],
    network: Network,
    settings: LinkSettings,
    replicate_to: int | None,
) -> AsyncIterator[ClusterNode]:
    storage = StorageSettings(path=folder / "database", map_size_bytes=1 << 30)
    async with open_catalog(storage, node=own.name) as catalog, trio.open_nursery() as nursery:
        services = await _services(catalog, folder, own.name)
        await nursery.start(services.jobs.run)  # type: ignore[attr-defined]
        watch = MembershipWatch(
            catalog,
            own,
            [
                parse_route({"hostname": name, "url": f"wss://{name}:9933"}, secure_port=9933, port=None)
                for name in others
            ],
            databases=own.databases,
        )
        supervisor = Supervisor(
            catalog=catalog,
            policy=watch,
            dial=network.dialer(own.name),
            handler=NodeCalls(lambda: services, OPERATIONS),
            settings=settings,
            url=own.url,
            shard=own.shard,
            rng=random.Random(own.name),
        )
        cluster = Cluster(
            catalog=catalog,
            watch=watch,
            supervisor=supervisor,
            listener=MemoryListener(network, own.name),
            dial=network.dialer(own.name),
            ports=Ports(secure=9933, plain=None),
            shard=own.shard,
            replicate_to=replicate_to,
        )
        services = replace(services, cluster=cluster)
        authenticator = Authenticator(
            catalog=catalog, settings=services.settings, passwords=services.passwords, tokens=services.tokens
        )
        dispatcher = OperationsDispatcher(services, OPERATIONS, authenticator)
        node = ClusterNode(services, dispatcher, FakeControl())
        await nursery.start(_replicate, node)
        yield node
        nursery.cancel_scope.cancel()


async def _replicate(node: ClusterNode, *, task_status: trio.TaskStatus[None]) -> None:
    with node.scope:
        await node.cluster.run(task_status=task_status)


async def _services(catalog: Catalog, folder: Path, name: str) -> Services:
    settings = OpsSettings(
        node=name,
        version="0",
        root_path=folder,
        keys_path=folder / "keys",
        log_path=folder / "log",
        hash_function="sha256",
    )
    await ensure_system_tables(catalog)
    await ensure_first_administrator(catalog, settings, ADMIN, PASSWORD)
    return Services(
        catalog=catalog,
        certificates=CertificateStore(catalog, CertificateSource(catalog, keys=settings.keys_path, node=name)),
        configuration=FakeConfiguration(),
        control=FakeControl(),
        jobs=JobRunner(catalog),
        passwords=Passwords(function="sha256"),
        tokens=Tokens(Keys()),
        settings=settings,
        clock=wall_clock,
    )
