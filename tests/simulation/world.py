"""One seeded run: nodes, clients, faults, then peace, and the checks.

``simulate(seed)`` is repeatable: the same seed gives the same trace, to the last commit. What differs from seed to seed:
the number of nodes, how often what goes wrong, how fast the network is, how skewed the clocks are.
"""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import trio
import trio.testing
from trio._core import _run as trio_run

from replication.settings import LinkSettings
from storage.checker import check_database
from storage.errors import StorageError
from storage.schema import Definition, dynamic_attributes
from storage.table_writes import delete_records, write_records
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.simulation.history import Ledger, broken_promises, state_of, vector_of
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode

TABLES = ("left", "right")
KEYS = 30
QUIET_S_MAX = 600.0
"""Within this (virtual) time after the last fault all nodes must agree."""
MEMORY_DISK = Path("/dev/shm")


class Violation(AssertionError):
    """An invariant did not hold; the message says which, and the seed that shows it."""


@dataclass
class Plan:
    """What a seed chooses."""

    seed: int
    nodes: int
    minutes: float
    write_every_s: float
    fault_every_s: float
    latency_s: float
    skew_s: float
    damage: bool

    @classmethod
    def of(cls, seed: int, *, nodes: int | None = None, minutes: float = 10.0) -> "Plan":
        rng = random.Random(seed)
        return cls(
            seed=seed,
            nodes=nodes or rng.choice((3, 3, 4, 5)),
            minutes=minutes,
            write_every_s=rng.choice((2.0, 4.0, 8.0)),
            fault_every_s=rng.choice((8.0, 15.0, 30.0)),
            latency_s=rng.choice((0.0005, 0.005, 0.05)),
            skew_s=rng.choice((0.0, 0.5, 30.0, 600.0)),
            damage=rng.random() < 0.3,
        )


@dataclass
class Report:
    """What a run did; ``trace`` is equal for equal seeds."""

    plan: Plan
    trace: str = ""
    writes: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    quiet_after_s: float = 0.0
    virtual_s: float = 0.0


class World:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.report = Report(plan)
        self.ledger = Ledger()
        self.network = Network(random.Random(self.rng.getrandbits(64)), latency_s=plan.latency_s)
        self.peace = trio.Event()
        self._trace = blake2b(digest_size=8)
        names = [f"n{number}" for number in range(1, plan.nodes + 1)]
        settings = LinkSettings(ping_interval_s=5.0, ping_timeout_s=10.0, reconnect_s_max=10.0)
        self.nodes = {
            name: SimulatedNode(
                name=name,
                folder=folder / name,
                nodes=names,
                network=self.network,
                rng=random.Random(self.rng.getrandbits(64)),
                settings=settings,
                skew_us=int(self.rng.uniform(-1, 1) * plan.skew_s * 1e6),
            )
            for name in names
        }

    def note(self, *what: Any) -> None:
        self._trace.update(repr((round(trio.current_time(), 6), *what)).encode())

    # -- a run ----------------------------------------------------------------------------------------------------

    async def run(self) -> Report:
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                await nursery.start(node.run)
            first = next(iter(self.nodes.values()))
            assert first.catalog is not None
            await first.catalog.create("data")
            await first.catalog.write("data", _make_tables)
            for node in self.nodes.values():
                nursery.start_soon(self._clients, node)
                nursery.start_soon(self._reader, node)
            await self._break_things(nursery)
            await self._agree()
            self._check()
            self.report.virtual_s = trio.current_time()
            nursery.cancel_scope.cancel()
        self.report.trace = self._trace.hexdigest()
        self.report.writes = len(self.ledger.promises)
        return self.report

    async def _clients(self, node: SimulatedNode) -> None:
        rng = random.Random(self.rng.getrandbits(64))
        number = 0
        while not self.peace.is_set():
            await trio.sleep(rng.expovariate(1 / self.plan.write_every_s))
            if node.catalog is None or "data" not in node.catalog.names:
                continue
            number += 1
            await self._write(node, rng, f"{node.name}-{number}")

    async def _write(self, node: SimulatedNode, rng: random.Random, value: str) -> None:
        """One client's request, and what it was told."""
        keys = rng.sample(range(KEYS), rng.choice((1, 1, 1, 3)))
        is_delete = rng.random() < 0.2
        tables = TABLES if rng.random() < 0.5 else (rng.choice(TABLES),)
        seen: list[WriteTransaction] = []

        def change(tx: WriteTransaction) -> tuple[str, str]:
            seen[:] = [tx]
            for table in tables:
                if is_delete:
                    delete_records(tx, table, keys)
                else:
                    write_records(tx, table, [{"id": key, "w": value, "n": rng_free(value)} for key in keys], "upsert")
            return tx.origin

        assert node.catalog is not None
        try:
            origin = await node.catalog.write("data", change, operation="upsert")
        except StorageError as error:
            self.ledger.unanswered += 1
            self.note("unanswered", node.name, type(error).__name__)
            return
        self.note("written", node.name, value, seen[0].ts)
        for table in tables:
            for key in keys:
                self.ledger.acknowledged(table, key, seen[0].ts, origin, None if is_delete else value)

    async def _reader(self, node: SimulatedNode) -> None:
        """Keys that are only ever written to both tables in one transaction are equal in both, at any moment."""
        rng = random.Random(self.rng.getrandbits(64))
        number = 0
        while not self.peace.is_set():
            await trio.sleep(rng.expovariate(1 / 10.0))
            if node.catalog is None or "data" not in node.catalog.names:
                continue
            number += 1
            key, value = f"pair-{rng.randrange(3)}", f"{node.name}-pair-{number}"

            def both(tx: WriteTransaction, key: str = key, value: str = value) -> None:
                for table in TABLES:
                    write_records(tx, table, [{"id": key, "w": value}], "upsert")

            try:
                await node.catalog.write("data", both)
            except StorageError:
                continue
            for other in self.nodes.values():
                self._check_pairs(other)

    def _check_pairs(self, node: SimulatedNode) -> None:
        if node.catalog is None or "data" not in node.catalog.names or node.is_merging:
            return
        with node.catalog.database("data").read() as tx:
            tables = tx.schema().tables
            if not set(TABLES) <= tables.keys():
                return
            for key in ("pair-0", "pair-1", "pair-2"):
                rows = [tx.row(tables[name], stored_key_of(key)) for name in TABLES]
                values = [None if row is None else row.decode()["w"] for row in rows]
                if values[0] != values[1]:
                    raise Violation(f"{node.name} shows half of a transaction: {values}")

    # -- faults ---------------------------------------------------------------------------------------------------

    async def _break_things(self, nursery: trio.Nursery) -> None:
        with trio.move_on_after(self.plan.minutes * 60):
            while True:
                await trio.sleep(self.rng.expovariate(1 / self.plan.fault_every_s))
                await self._fault(nursery)
        self.peace.set()
        self.network.heal()

    async def _fault(self, nursery: trio.Nursery) -> None:
        kinds = ["cut", "cut", "reset", "blackhole", "crash", "crash", "crash at", "slow", "clock"]
        kind = self.rng.choice([*kinds, "damage"] if self.plan.damage else kinds)
        a, b = self.rng.sample(sorted(self.nodes), 2)
        lasts_s = self.rng.choice((0.5, 3.0, 15.0, 60.0)) * self.rng.uniform(0.5, 1.5)
        self.report.faults[kind] = self.report.faults.get(kind, 0) + 1
        self.note(kind, a, b)
        match kind:
            case "cut":
                self.network.cut(a, b)
                nursery.start_soon(self._later, lasts_s, lambda: self.network.mend(a, b))
            case "reset":
                self.network.reset(a, b)
            case "blackhole":
                self.network.blackhole(a, b)
                nursery.start_soon(self._later, lasts_s, lambda: self.network.mend(a, b))
            case "slow":
                self.network.slow(a, b, self.rng.choice((1_000, 20_000)))
                nursery.start_soon(self._later, lasts_s, lambda: self.network.mend(a, b))
            case "crash" if self.nodes[a].is_up:
                self.nodes[a].crash()
                nursery.start_soon(self._restart, self.nodes[a], lasts_s, nursery)
            case "crash at" if self.nodes[a].is_up:
                self.nodes[a].crash_at = self.rng.choice(("before commit", "after commit"))
                nursery.start_soon(self._restart_when_down, self.nodes[a], lasts_s, nursery)
            case "clock":
                self.nodes[a].skew_us += int(self.rng.uniform(-1, 1) * self.plan.skew_s * 1e6)
            case "damage":
                self.network.damage_probability = 0.02
                nursery.start_soon(self._later, lasts_s, self._stop_damage)
            case _:
                pass

    def _stop_damage(self) -> None:
        self.network.damage_probability = 0.0

    async def _later(self, after_s: float, what: Any) -> None:
        await trio.sleep(after_s)
        what()

    async def _restart(self, node: SimulatedNode, after_s: float, nursery: trio.Nursery) -> None:
        await trio.sleep(after_s)
        while node.is_up:
            await trio.sleep(0.1)
        if not node.is_starting:
            node.is_starting = True
            await nursery.start(node.run)
            node.is_starting = False

    async def _restart_when_down(self, node: SimulatedNode, after_s: float, nursery: trio.Nursery) -> None:
        with trio.move_on_after(60):
            while node.is_up:
                await trio.sleep(0.5)
        node.crash_at = None
        if not node.is_up:
            await self._restart(node, after_s, nursery)

    # -- peace ----------------------------------------------------------------------------------------------------

    async def _agree(self) -> None:
        """Wait until all nodes are up and hold the same positions."""
        began = trio.current_time()
        with trio.move_on_after(QUIET_S_MAX) as scope:
            while not self._has_converged():
                await trio.sleep(1.0)
        if scope.cancelled_caught:
            raise Violation(f"no agreement within {QUIET_S_MAX:g} s: {self._vectors()}")
        self.report.quiet_after_s = trio.current_time() - began

    def _vectors(self) -> dict[str, Any]:
        return {
            name: vector_of(node.catalog.database("data"))
            if node.catalog is not None and "data" in node.catalog.names
            else None
            for name, node in self.nodes.items()
        }

    def _has_converged(self) -> bool:
        vectors = list(self._vectors().values())
        return None not in vectors and all(vector == vectors[0] for vector in vectors)

    def _check(self) -> None:
        states = {}
        for name, node in self.nodes.items():
            assert node.catalog is not None
            database = node.catalog.database("data")
            states[name] = state_of(database)
            problems = check_database(database.environment, now_ms=node.clock() // 1000)
            if problems:
                raise Violation(f"the checker finds at {name}: {problems[:5]}")
        problems = broken_promises(self.ledger, states)
        if problems:
            raise Violation("\n".join(problems[:10]))
        self.note(
            "end", sorted((key, version.stamp) for key, version in states["n1"].items() if isinstance(key[1], int))
        )


def rng_free(value: str) -> int:
    """Something to index that depends on the value alone."""
    return sum(value.encode()) % 10


def _make_tables(tx: WriteTransaction) -> None:
    for name in TABLES:
        tx.create_table(Definition(name=name, primary_key="id", attributes=dynamic_attributes("id")))


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Trio shuffles which task runs first; that too has to come from the seed."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before


def simulate(seed: int, *, nodes: int | None = None, minutes: float = 10.0) -> Report:
    """Run one seed. Raises ``Violation``, or whatever escaped, with a note of how to replay it."""
    plan = Plan.of(seed, nodes=nodes, minutes=minutes)
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder, _repeatable(seed):

        async def main() -> Report:
            return await World(plan, Path(folder)).run()

        try:
            return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"seed {seed}: scripts/simulate --seed {seed} --nodes {plan.nodes} --minutes {minutes:g}")
            raise
