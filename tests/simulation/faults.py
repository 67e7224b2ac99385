"""What goes wrong in a run. Each fault is drawn whole before it is done, so that leaving one out changes no other."""

import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from storage.errors import StorageError
from storage.maintenance import trim_log
from tests.simulation.disks import Disks
from tests.simulation.history import Ledger, OriginKey, vector_of
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode
from tests.simulation.oracles import Oracles
from tests.simulation.plan import KINDS, Plan, Report

CRASH_WAIT_S: Final = 60.0
"""How long a node that is to crash at a commit is given to make one."""


class Faults:
    """Breaks nodes and network until ``run`` is cancelled; what lasts is mended in tasks of ``nursery``."""

    def __init__(
        self,
        plan: Plan,
        nodes: dict[str, SimulatedNode],
        network: Network,
        ledger: Ledger,
        oracles: Oracles,
        report: Report,
        *,
        rng: random.Random,
        nursery: trio.Nursery,
        note: Callable[..., None],
        is_peace: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._nodes = nodes
        self._network = network
        self._ledger = ledger
        self._oracles = oracles
        self._report = report
        self._rng = rng
        self._nursery = nursery
        self._note = note
        self._is_peace = is_peace
        self._disks = Disks(nodes, network, ledger, oracles, report, note=note, is_peace=is_peace, start=self._start)

    async def run(self) -> None:
        kinds = (*KINDS, *self._plan.rare_kinds)
        number = 0
        while self._plan.faults_max is None or number < self._plan.faults_max:
            number += 1
            await trio.sleep(self._rng.expovariate(1 / self._plan.fault_every_s))
            kind = self._rng.choice(kinds)
            a, b = self._rng.sample(sorted(self._nodes), 2)
            lasts_s = self._rng.choice((0.5, 3.0, 15.0, 60.0)) * self._rng.uniform(0.5, 1.5)
            rng = random.Random(self._rng.getrandbits(64))
            if kind not in self._plan.without:
                self._report.faults[kind] = self._report.faults.get(kind, 0) + 1
                self._note(kind, a, b)
                self._do(kind, a, b, lasts_s, rng)
        await trio.sleep_forever()

    def _do(self, kind: str, a: str, b: str, lasts_s: float, rng: random.Random) -> None:
        network, node = self._network, self._nodes[a]
        mend = partial(network.mend, a, b)
        match kind:
            case "cut":
                network.cut(a, b)
                self._nursery.start_soon(_later, lasts_s, mend)
            case "isolate":
                for other in sorted(self._nodes.keys() - {a}):
                    network.cut(a, other)
                    self._nursery.start_soon(_later, lasts_s, partial(network.mend, a, other))
            case "reset":
                network.reset(a, b)
            case "blackhole":
                network.blackhole(a, b)
                self._nursery.start_soon(_later, lasts_s, mend)
            case "slow":
                network.slow(a, b, rng.choice((1_000, 20_000)))
                self._nursery.start_soon(_later, lasts_s, mend)
            case "damage":
                network.damage_probability = 0.02
                self._nursery.start_soon(_later, lasts_s, self._stop_damage)
            case "clock":
                node.skew_us += int(rng.uniform(-1, 1) * self._plan.skew_s * 1e6)
            case "trim":
                self._nursery.start_soon(self._trim, node, rng.choice((0.0, 30.0)))
            case "crash" if node.is_up:
                node.crash()
                self._nursery.start_soon(self._restart, node, lasts_s)
            case "crash at" if node.is_up:
                node.crash_at = rng.choice(("before commit", "after commit"))
                self._nursery.start_soon(self._restart_when_down, node, lasts_s)
            case "put back" if node.is_up:
                self._nursery.start_soon(partial(self._disks.rewind, node, lasts_s, rng=rng, is_whole=False))
            case "power loss" if node.is_up:
                self._nursery.start_soon(self._disks.lose_power, node, lasts_s)
            case "rewind" if node.is_up:
                self._nursery.start_soon(partial(self._disks.rewind, node, lasts_s, rng=rng))
            case "away" if node.is_up:
                self._nursery.start_soon(self._away, node, lasts_s, rng)
            case "wipe" if node.is_up:
                self._nursery.start_soon(self._alone, self._wipe, node, lasts_s)
            case _:
                pass

    def _stop_damage(self) -> None:
        self._network.damage_probability = 0.0

    async def _trim(self, node: SimulatedNode, kept_s: float) -> None:
        """The log loses its oldest entries, whoever may still need them: then a copy has to help."""
        if node.database() is None or node.catalog is None or node is self._disks.rewound:
            return
        before_us = node.clock() - int(kept_s * 1e6)
        try:
            await node.catalog.maintain("data", partial(trim_log, before_us=before_us))
        except StorageError:
            pass  # it crashed meanwhile

    async def _restart(self, node: SimulatedNode, after_s: float) -> None:
        await trio.sleep(after_s)
        while node.is_up:
            await trio.sleep(0.1)
        await self._start(node)

    async def _restart_when_down(self, node: SimulatedNode, after_s: float) -> None:
        with trio.move_on_after(CRASH_WAIT_S):
            while node.is_up:
                await trio.sleep(0.5)
        node.crash_at = None
        if not node.is_up:
            await self._restart(node, after_s)

    async def _alone(self, fault: Callable[..., Awaitable[None]], node: SimulatedNode, lasts_s: float) -> None:
        """One node at a time loses something of its disk."""
        async with self._disks.lock:
            if node.is_up and not self._is_peace():
                await fault(node, lasts_s)

    async def _away(self, node: SimulatedNode, lasts_s: float, rng: random.Random) -> None:
        """The node is down, or reaches nobody, for longer than anything is kept."""
        lasts_s += (self._plan.retention_s or 0.0) * rng.uniform(1.0, 3.0)
        if rng.random() < 0.3:
            node.crash()
            with trio.move_on_after(lasts_s):
                while not self._is_peace():
                    await trio.sleep(1.0)
            await self._restart(node, 0.0)
            return
        others = sorted(self._nodes.keys() - {node.name})
        with trio.move_on_after(lasts_s):
            while not self._is_peace():
                for other in others:
                    self._network.cut(node.name, other)
                await trio.sleep(1.0)
        for other in others:
            self._network.mend(node.name, other)

    async def _wipe(self, node: SimulatedNode, after_s: float) -> None:
        """The node loses its disk and joins again under its name; all others are there to tell what they have."""
        others = [other.database() for other in self._nodes.values() if other is not node]
        if None in others or node.is_starting:
            return
        node.crash()
        while node.is_up:
            await trio.sleep(0.1)
        if node.is_starting:
            return
        node.is_starting = True
        elsewhere: dict[OriginKey, int] = {}
        for other in self._nodes.values():
            database = other.database()
            for origin, oseq in ({} if database is None else vector_of(database)).items():
                elsewhere[origin] = max(oseq, elsewhere.get(origin, 0))
        self._ledger.excuse_lost(node.name, elsewhere)
        self._disks.excuse(node, None)
        self._oracles.was_put_back(node.name)
        node.wipe()
        self._note("wiped", node.name)
        await trio.sleep(after_s)
        await self._nursery.start(node.run)
        node.is_starting = False

    async def _start(self, node: SimulatedNode) -> None:
        if not node.is_starting:
            node.is_starting = True
            await self._nursery.start(node.run)
            node.is_starting = False
            self._oracles.look()


async def _later(after_s: float, what: Callable[[], None]) -> None:
    await trio.sleep(after_s)
    what()
