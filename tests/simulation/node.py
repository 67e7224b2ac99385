"""One simulated node: its databases on a memory disk, its supervisor, its clock; it can crash and start again."""

import random
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from replication.connection import PeerIdentity
from replication.marking import Marking
from replication.policy import Refusal
from replication.retention_rules import ReplicatedRetention
from replication.settings import LinkSettings
from replication.subscription import TableSelection
from replication.supervisor import Supervisor
from replication.wanted_links import Sharing, WantedLinks, WantedPeer, WantedStream
from storage.catalog import Catalog, open_catalog
from storage.database import Database
from storage.errors import DatabaseClosed
from storage.retention import run_retention
from storage.settings import StorageSettings
from tests.simulation.network import Network
from tests.simulation.queue import SimulatedQueue

START_US = 1_800_000_000_000_000
RETENTION_EVERY_S = 10.0
DAY_S = 86_400.0


class EverybodyWithEverybody:
    """A policy without a membership: all nodes, all databases."""

    def __init__(self, node: str, nodes: Collection[str]) -> None:
        self.others = sorted(set(nodes) - {node})
        self.changed = trio.Event()

    def wanted(self, local: Collection[str], remote: Mapping[str, Collection[str]]) -> WantedLinks:
        return WantedLinks(
            peers=tuple(WantedPeer(name=name, url=f"wss://{name}:9933") for name in self.others),
            streams=tuple(
                WantedStream(peer=name, database=database, is_new=database not in local)
                for name in self.others
                for database in sorted(remote.get(name, ()))
            ),
        )

    def refusal(self, peer: PeerIdentity, name: str, kind: str) -> Refusal | None:
        return None if name in self.others else Refusal(code="unknown-node", reason=f"no entry for {name}")

    def may_subscribe(self, peer: str, database: str, tables: TableSelection) -> str | None:
        return None

    def may_create(self, database: str, created: int) -> bool:
        return True

    def sharing(self, database: str) -> Sharing:
        return Sharing(writers=frozenset(self.others), takers=frozenset(self.others))

    async def wait_for_change(self) -> None:
        await self.changed.wait()


async def no_operations(peer: PeerIdentity, name: str, operation: Mapping[str, Any]) -> tuple[int, Any]:
    return 404, {"error": f"no operation '{operation.get('operation')}' in this simulation"}


async def run_inline(function: Callable[..., Any], /, *args: Any) -> Any:
    """What a worker thread does elsewhere."""
    await trio.lowlevel.checkpoint()
    return function(*args)


@dataclass(eq=False)
class SimulatedNode:
    """``run`` is one life of it, from start to crash or stop."""

    name: str
    folder: Path
    nodes: Collection[str]
    network: Network
    rng: random.Random
    settings: LinkSettings
    skew_us: int = 0
    retention_s: float | None = None
    """Where given, what is older goes, by the rules."""
    syncs: bool = True
    commit_s: float = 0.002
    catalog: Catalog | None = None
    supervisor: Supervisor | None = None
    starts: int = 0
    is_starting: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    crash_at: str | None = None
    """The moment at which the node crashes next."""

    def clock(self) -> int:
        """Wall clock, in microseconds."""
        return START_US + int(trio.current_time() * 1_000_000) + self.skew_us

    @property
    def is_up(self) -> bool:
        return self.supervisor is not None

    @property
    def is_merging(self) -> bool:
        """Whether a copy is being merged: the one time when transactions may be visible in part."""
        replica = None if self.supervisor is None else self.supervisor.replicas.get("data")
        return replica is not None and replica.is_merging

    def database(self) -> Database | None:
        """The database of the run, where this node is up and has it."""
        if self.catalog is None or "data" not in self.catalog.names:
            return None
        return self.catalog.database("data")

    def data_file(self) -> bytes | None:
        """The database as it is on disk now: between two commits it is whole."""
        file = self.folder / "data" / "data.mdb"
        return file.read_bytes() if file.exists() else None

    def put_back(self, content: bytes) -> None:
        """Replace the database on disk; the node must be down."""
        (self.folder / "data" / "data.mdb").write_bytes(content)

    def wipe(self) -> None:
        """Remove all that is on disk; the node must be down."""
        shutil.rmtree(self.folder)

    async def hook(self, moment: str) -> None:
        """A moment at which a crash makes a difference; commits take their time here."""
        if moment == "before commit":
            await trio.sleep(self.rng.uniform(0.2, 2.0) * self.commit_s)
        if moment == self.crash_at:
            self.crash_at = None
            self.crash()
            await trio.lowlevel.checkpoint()

    def crash(self) -> None:
        """End this life at once: nothing that was not committed remains."""
        self.network.vanish(self.name)
        self.scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.starts += 1
        self.scope = trio.CancelScope()
        settings = StorageSettings(
            path=self.folder,
            map_size_bytes=256 << 20,
            sub_databases_max=64,
            sync=self.syncs,
            audit_retention_s=self.retention_s or 3 * 86400.0,
            new_store_id=lambda: f"{self.rng.getrandbits(64):016x}",
            clock_skew_us_max=int(self.settings.clock_skew_s_max * 1_000_000),
        )
        try:
            with self.scope:
                async with (
                    open_catalog(
                        settings,
                        node=self.name,
                        clock=self.clock,
                        new_queue=partial(SimulatedQueue, hook=self.hook),
                        offload=run_inline,
                    ) as catalog,
                    self._replicating(catalog),
                ):
                    task_status.started()
                    await trio.sleep_forever()
        except* DatabaseClosed:
            if not self.scope.cancel_called:
                raise
        finally:
            self.network.vanish(self.name)
            self.catalog = self.supervisor = None

    @asynccontextmanager
    async def _replicating(self, catalog: Catalog) -> AsyncIterator[None]:
        self.catalog = catalog
        policy = EverybodyWithEverybody(self.name, self.nodes)
        self.supervisor = supervisor = Supervisor(
            catalog=catalog,
            policy=policy,
            dial=self.network.dialer(self.name),
            handler=no_operations,
            settings=self.settings,
            url=f"wss://{self.name}:9933",
            rng=self.rng,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            await nursery.start(self.network.listen, self.name, supervisor.serve)
            marking = Marking(catalog, policy.sharing, interval_s=self.settings.mark_interval_s)
            await nursery.start(marking.run)
            if self.retention_s is not None:
                rules = ReplicatedRetention(supervisor, policy.sharing).rules
                retain = partial(run_retention, catalog, rules=rules, clock=self.clock, interval_s=RETENTION_EVERY_S)
                await nursery.start(retain)
            yield
            nursery.cancel_scope.cancel()
