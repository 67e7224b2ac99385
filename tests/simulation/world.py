"""One seeded run: nodes, clients, faults, then peace, and the checks.

``simulate(plan)`` is repeatable: the same plan gives the same trace, to the last commit.
"""

import logging
import random
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final
from unittest import mock

import trio
import trio.testing
from trio._core import _run as trio_run

import storage.check_log
import storage.write_state
from storage.errors import AlreadyExists, StorageError
from storage.schema import Attribute, Definition, dynamic_attributes
from storage.table_writes import delete_records, write_records
from storage.write_transaction import WriteTransaction
from tests.simulation.faults import Faults
from tests.simulation.history import Ledger
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode
from tests.simulation.oracles import PAIR_KEYS, TABLES, Oracles
from tests.simulation.plan import Plan, Report, Violation

QUIET_S_MAX: Final = 600.0
"""Within this (virtual) time after the last fault all nodes must agree."""
PAIR_EVERY_S: Final = 40.0
LATE_TABLE: Final = "late"
"""A table that some node creates in the middle of it all, and others perhaps too."""
VECTOR_EVERY: Final = 16
"""Entries between two kept vectors: with so few, streams begin behind one of them, as those of large logs do."""
MEMORY_DISK: Final = Path("/dev/shm")
EXPIRES_S_MAX: Final = 120.0
AGING_SLACK_S: Final = 120.0
"""For clocks that are apart, and for rounds of retention."""
DOUBT_US: Final = 60_000_000
"""How far the stamp of an unanswered request may be ahead of its node's clock."""
LOG_LINES_KEPT: Final = 60


class World:
    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.report = Report(plan)
        self.ledger = Ledger()
        self._rng = random.Random(plan.seed)
        self._faults_rng = self._random()
        self._peace = trio.Event()
        self._trace = blake2b(digest_size=8)
        self.network = Network(self._random(), latency_s=plan.latency_s)
        names = [f"n{number}" for number in range(1, plan.nodes + 1)]
        self.nodes = {
            name: SimulatedNode(
                name=name,
                folder=folder / name,
                nodes=names,
                network=self.network,
                rng=self._random(),
                settings=plan.settings,
                retention_s=plan.retention_s,
                syncs="power loss" not in plan.rare_kinds,
                skew_us=int(self._rng.uniform(-1, 1) * plan.skew_s * 1e6),
                commit_s=plan.commit_s,
            )
            for name in names
        }
        self.oracles = Oracles(self.nodes, self.ledger, trusts_frames="damage" not in plan.rare_kinds)

    def _random(self) -> random.Random:
        return random.Random(self._rng.getrandbits(64))

    def note(self, *what: Any) -> None:
        self._trace.update(repr((round(trio.current_time(), 6), *what)).encode())

    # -- a run ----------------------------------------------------------------------------------------------------

    async def run(self) -> Report:
        async with trio.open_nursery() as nursery:
            for node in self.nodes.values():
                await nursery.start(node.run)
            first = self.nodes["n1"]
            assert first.catalog is not None
            await first.catalog.create("data")
            await first.catalog.write("data", _make_tables)
            for node in self.nodes.values():
                nursery.start_soon(self._clients, node, self._random())
                nursery.start_soon(self._pairs, node, self._random())
            await self._break_things(nursery)
            await self._agree()
            if self.plan.retention_s is None:
                self.note("end", *self.oracles.conclude())
            else:
                self.oracles.conclude_aged(self.plan)
                await self._rest(self.plan.retention_s)
                self.note("end", *self.oracles.conclude_at_rest())
            self.report.virtual_s = trio.current_time()
            nursery.cancel_scope.cancel()
        self.report.trace = self._trace.hexdigest()
        self.report.writes = len(self.ledger.promises)
        return self.report

    async def _break_things(self, nursery: trio.Nursery) -> None:
        faults = Faults(
            self.plan,
            self.nodes,
            self.network,
            self.ledger,
            self.oracles,
            self.report,
            rng=self._faults_rng,
            nursery=nursery,
            note=self.note,
            is_peace=self._peace.is_set,
        )
        with trio.move_on_after(self.plan.minutes * 60):
            await faults.run()
        self._peace.set()
        self.network.heal()

    async def _agree(self) -> None:
        """Wait until all nodes are up and hold the same positions."""
        began = trio.current_time()
        with trio.move_on_after(QUIET_S_MAX) as scope:
            while not self.oracles.have_agreed():
                await trio.sleep(1.0)
        if scope.cancelled_caught:
            raise Violation(f"no agreement within {QUIET_S_MAX:g} s: {self.oracles.vectors()}")
        self.oracles.look()
        self.report.quiet_after_s = trio.current_time() - began

    async def _rest(self, retention_s: float) -> None:
        """Wait until all that may go is old enough; by then marks have ended as well."""
        mark_s = self.plan.settings.mark_interval_s
        await trio.sleep(retention_s + EXPIRES_S_MAX + AGING_SLACK_S + 4 * mark_s)
        before = self.oracles.vectors()
        await trio.sleep(3 * mark_s)
        if self.oracles.vectors() != before:
            raise Violation(f"marks go on and on: {before}, {self.oracles.vectors()}")

    # -- clients --------------------------------------------------------------------------------------------------

    async def _clients(self, node: SimulatedNode, rng: random.Random) -> None:
        number = 0
        while not self._peace.is_set():
            await trio.sleep(rng.expovariate(1 / self.plan.write_every_s) * self.plan.burst)
            for _ in range(rng.randint(1, 2 * self.plan.burst - 1)):
                if node.database() is not None and not self._peace.is_set():
                    number += 1
                    await self._write(node, rng, f"{node.name}-{number}")

    async def _write(self, node: SimulatedNode, rng: random.Random, value: str) -> None:
        """One client's request, and what it was told."""
        assert node.catalog is not None
        if rng.random() < 0.02:
            await self._create_late_table(node, rng)
        keys = rng.sample(range(self.plan.keys), rng.choice((1, 1, 1, 3)))
        is_delete = rng.random() < 0.2
        tables = TABLES if rng.random() < 0.5 else (rng.choice((*TABLES, LATE_TABLE)),)
        expires_ms = None
        if self.plan.retention_s is not None and not is_delete and rng.random() < 0.3:
            expires_ms = node.clock() // 1000 + int(rng.uniform(1.0, EXPIRES_S_MAX) * 1000)
        filling = "x" * rng.randrange(self.plan.value_bytes + 1)
        seen: list[WriteTransaction] = []

        def change(tx: WriteTransaction) -> tuple[str, str]:
            seen[:] = [tx]
            for table in tables:
                if is_delete:
                    delete_records(tx, table, keys)
                else:
                    records = [{"id": key, "w": value, "n": len(value), "filling": filling} for key in keys]
                    write_records(tx, table, records, "upsert", expires_at_ms=expires_ms)
            return tx.origin

        try:
            origin = await node.catalog.write("data", change, operation="upsert")
        except StorageError as error:
            self.ledger.unanswered += 1
            self.note("unanswered", node.name, type(error).__name__)
            for table in tables if is_delete or expires_ms is not None else ():
                for key in keys:
                    self.ledger.doubt(table, key, node.clock() + DOUBT_US)
            return
        self.note("written", node.name, value, seen[0].ts)
        position = seen[0].position
        for table in tables:
            for key in keys:
                self.ledger.acknowledged(
                    table,
                    key,
                    seen[0].ts,
                    origin,
                    None if is_delete else value,
                    expires_ms=expires_ms,
                    oseq=position[1] if position else 0,
                )

    async def _create_late_table(self, node: SimulatedNode, rng: random.Random) -> None:
        own = f"only-{node.name}"
        definition = Definition(
            name=LATE_TABLE, primary_key="id", attributes=(*dynamic_attributes("id"), Attribute(name=own))
        )
        assert node.catalog is not None
        try:
            await node.catalog.write("data", lambda tx: tx.create_table(definition))
            self.note("created", node.name)
        except (AlreadyExists, StorageError):
            pass

    async def _pairs(self, node: SimulatedNode, rng: random.Random) -> None:
        """Write keys that are equal in both tables at any moment, and look whether that and all else holds."""
        number = 0
        while not self._peace.is_set():
            await trio.sleep(rng.expovariate(1 / PAIR_EVERY_S))
            if node.database() is None or node.catalog is None or self._peace.is_set():
                continue
            number += 1
            key, value = rng.choice(PAIR_KEYS), f"{node.name}-pair-{number}"

            def both(tx: WriteTransaction, key: str = key, value: str = value) -> None:
                for table in TABLES:
                    write_records(tx, table, [{"id": key, "w": value}], "upsert")

            try:
                await node.catalog.write("data", both)
            except StorageError:
                continue
            self.oracles.look()


def _make_tables(tx: WriteTransaction) -> None:
    for name in TABLES:
        tx.create_table(Definition(name=name, primary_key="id", attributes=dynamic_attributes("id")))


# -- running a plan -----------------------------------------------------------------------------------------------


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


@contextmanager
def _frequent_vectors() -> Iterator[None]:
    with (
        mock.patch.object(storage.write_state, "VECTOR_EVERY", VECTOR_EVERY),
        mock.patch.object(storage.check_log, "VECTOR_EVERY", VECTOR_EVERY),
    ):
        yield


class _LastLines(logging.Handler):
    """Keeps the newest log records of a run, unformatted: only a failing run prints them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: deque[tuple[float, logging.LogRecord]] = deque(maxlen=LOG_LINES_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((trio.current_time(), record))

    def lines(self) -> str:
        return "\n".join(f"{at:9.3f} {record.levelname:7} {record.getMessage()}" for at, record in self.records)


@contextmanager
def _quiet_logs() -> Iterator[_LastLines]:
    kept = _LastLines()
    loggers = [logging.getLogger(name) for name in ("replication", "storage")]
    before = [(logger.propagate, logger.level) for logger in loggers]
    for logger in loggers:
        logger.addHandler(kept)
        logger.propagate = False
        logger.setLevel(logging.INFO)
    try:
        yield kept
    finally:
        for logger, (propagate, level) in zip(loggers, before, strict=True):
            logger.removeHandler(kept)
            logger.propagate = propagate
            logger.setLevel(level)


def simulate(plan: Plan | int) -> Report:
    """Run a plan, or that of a seed. Raises ``Violation``, or whatever escaped, with a note of how to run it again."""
    chosen = Plan.of(plan) if isinstance(plan, int) else plan
    with (
        tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None) as folder,
        _repeatable(chosen.seed),
        _frequent_vectors(),
        _quiet_logs() as logs,
    ):

        async def main() -> Report:
            return await World(chosen, Path(folder)).run()

        try:
            return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except BaseException as error:
            error.add_note(f"to run it again: {chosen.command}\n{logs.lines()}")
            raise
