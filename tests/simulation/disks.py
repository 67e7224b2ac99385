"""Faults that take a node back in time: what is on its disk is replaced by what was there some time ago.

- *power loss*: the node does not sync, and what it wrote since some moment is gone. Its next start knows that.
- *put back*: its data file is an older one. The start counter tells that, if the node was started since.
- *rewind*: its whole folder is put back, start counter included, so that nothing tells. It may be cut off then, and
  give out numbers again that its peers have.

The ledger has to know exactly what such a fault itself loses: a promise of which neither a disk elsewhere nor the one
that was put back holds a version as new. That is asked when the node has been down for a moment, so that nothing of it is
on its way any more.

One such fault at a time, to its end: where a third node had neither branch of a fork and gets one of them first, it
takes a repair to bring it the other. So the node is not rewound either to a point that only some of its peers have passed.
"""

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import trio

from storage.check_report import Report as CheckReport
from storage.check_snapshot import open_snapshot
from storage.entry import Origin
from tests.simulation.history import Ledger, OriginKey, Version, state_in, state_of, vector_in, vector_of
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode
from tests.simulation.oracles import Oracles
from tests.simulation.plan import Report

SETTLE_S: Final = 1.0
"""A node that has been down for so long has nothing on its way."""
CUT_AGAIN_S: Final = 0.5

State = dict[tuple[str, Any], Version]


class Disks:
    """``lock`` is held by whoever takes a node back in time."""

    def __init__(
        self,
        nodes: Mapping[str, SimulatedNode],
        network: Network,
        ledger: Ledger,
        oracles: Oracles,
        report: Report,
        *,
        note: Callable[..., None],
        is_peace: Callable[[], bool],
        start: Callable[[SimulatedNode], Any],
    ) -> None:
        self.lock = trio.Lock()
        self.rewound: SimulatedNode | None = None
        """The node that may be giving out numbers again. Were it to trim those unconfirmed, nobody could notice."""
        self._nodes = nodes
        self._network = network
        self._ledger = ledger
        self._oracles = oracles
        self._report = report
        self._note = note
        self._is_peace = is_peace
        self._start = start

    async def lose_power(self, node: SimulatedNode, after_s: float) -> None:
        """Everything written from now on, for ``after_s``, is lost."""
        async with self.lock:
            saved = self._saved(node)
            await trio.sleep(after_s)
            if saved is None or not await self._take_down(node):
                return
            self.excuse(node, saved)
            node.put_back((saved / "data" / "data.mdb").read_bytes())
            await self._come_back(node, "lost power")

    async def rewind(self, node: SimulatedNode, after_s: float, *, rng: random.Random, is_whole: bool = True) -> None:
        """The whole folder, or its data file alone, is put back to where it is now, ``after_s`` later."""
        async with self.lock:
            saved = self._saved(node)
            database = node.database()
            await trio.sleep(after_s)
            if saved is None or database is None or not await self._take_down(node):
                return
            origin = database.environment.origin
            known = [vector.get(tuple(origin), 0) for vector in self._vectors_elsewhere(node)]
            there = _on_disk(saved / "data", vector_in).get(tuple(origin), 0)
            if any(oseq > there for oseq in known) and not all(oseq > there for oseq in known):
                await self._come_back(node, "not rewound")
                return
            self.excuse(node, saved)
            if is_whole:
                shutil.rmtree(node.folder)
                shutil.copytree(saved, node.folder)
            else:
                node.put_back((saved / "data" / "data.mdb").read_bytes())
            self.rewound = node
            await self._come_back(node, "rewound")
            if rng.random() < 0.7:
                await self._keep_apart(node, rng.choice((5.0, 20.0, 60.0)))
            if all(oseq > there for oseq in known):
                await self._wait_for_new_life(node, origin, there)
            self.rewound = None

    def excuse(self, node: SimulatedNode, saved: Path | None) -> None:
        """Take out of the ledger what only the present disk of ``node``, which is down, holds."""
        survivors: list[State] = [] if saved is None else [_on_disk(saved / "data", state_in)]
        for other in self._nodes.values():
            if other is not node:
                database, folder = other.database(), other.folder / "data"
                if database is not None:
                    survivors.append(state_of(database))
                elif (folder / "data.mdb").exists():
                    survivors.append(_on_disk(folder, state_in))
        for number, promise in enumerate(self._ledger.promises):
            versions = [state.get((promise.table, promise.key)) for state in survivors]
            if not any(version is not None and version.stamp[:3] >= promise.stamp for version in versions):
                self._ledger.excused.add(number)

    def _saved(self, node: SimulatedNode) -> Path | None:
        """A copy of the folder as it is between two commits."""
        if node.database() is None:
            return None
        saved = node.folder.with_name(f"{node.name}-saved")
        shutil.rmtree(saved, ignore_errors=True)
        shutil.copytree(node.folder, saved)
        return saved

    def _vectors_elsewhere(self, node: SimulatedNode) -> list[dict[OriginKey, int]]:
        vectors = []
        for other in self._nodes.values():
            if other is not node:
                database, folder = other.database(), other.folder / "data"
                if database is not None:
                    vectors.append(vector_of(database))
                else:
                    vectors.append(_on_disk(folder, vector_in) if (folder / "data.mdb").exists() else {})
        return vectors

    async def _take_down(self, node: SimulatedNode) -> bool:
        """Whether the node is down now, for nobody else to start."""
        if not node.is_up or node.is_starting or self._is_peace():
            return False
        node.is_starting = True
        node.crash_at = None
        node.crash()
        while node.is_up:
            await trio.sleep(0.1)
        await trio.sleep(SETTLE_S)
        return True

    async def _come_back(self, node: SimulatedNode, what: str) -> None:
        self._oracles.was_put_back(node.name)
        self._note(what, node.name)
        node.is_starting = False
        await self._start(node)

    async def _keep_apart(self, node: SimulatedNode, lasts_s: float) -> None:
        others = sorted(self._nodes.keys() - {node.name})
        with trio.move_on_after(lasts_s):
            while not self._is_peace():
                for other in others:
                    self._network.cut(node.name, other)
                await trio.sleep(CUT_AGAIN_S)
        for other in others:
            self._network.mend(node.name, other)

    async def _wait_for_new_life(self, node: SimulatedNode, origin: Origin, there: int) -> None:
        while not self._is_peace():
            database = node.database()
            if database is not None:
                if database.environment.origin != origin:
                    return
                if vector_of(database).get(tuple(origin), 0) > there:
                    self._report.faults["fork"] = self._report.faults.get("fork", 0) + 1
                    there = 1 << 62
            await trio.sleep(0.2)


def _on_disk(folder: Path, read: Callable[..., Any]) -> Any:
    """What ``read`` finds in a database that nobody has open."""
    with open_snapshot(folder, CheckReport(), 0) as snapshot:
        assert snapshot is not None, f"{folder} is whole"
        return read(lambda name: list(snapshot.items(name)), snapshot.tables.values())
