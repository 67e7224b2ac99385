"""What must hold at every moment of a run, and what at its end. Reads what is in the databases, never the status."""

from collections.abc import Mapping
from typing import Any

from storage.checker import check_database
from storage.database import Database
from storage.transaction import stored_key_of
from tests.simulation.aging import broken_at_rest, broken_when_aged
from tests.simulation.history import Ledger, OriginKey, Version, broken_promises, state_of, vector_of
from tests.simulation.node import RETENTION_EVERY_S, SimulatedNode
from tests.simulation.plan import Plan, Violation

TABLES = ("left", "right")
"""The tables of every run."""
PAIR_KEYS = ("pair-0", "pair-1", "pair-2")
"""Keys that are only ever written to both tables in one transaction."""


class Oracles:
    """Watches the nodes of one run. ``look`` at any moment; ``conclude`` once all is quiet."""

    def __init__(self, nodes: Mapping[str, SimulatedNode], ledger: Ledger, *, trusts_frames: bool = True) -> None:
        """``trusts_frames`` is False where frames are damaged: digests protect entries, but nothing what a peer says of
        itself; that is for TLS to do.
        """
        self._trusts_frames = trusts_frames
        self._nodes = nodes
        self._ledger = ledger
        self._reached: dict[str, dict[OriginKey, int]] = {}
        self._put_back: set[str] = set()

    def look(self) -> None:
        """Raises ``Violation``."""
        vectors: dict[str, dict[OriginKey, int]] = {}
        for name, node in self._nodes.items():
            database = node.database()
            if database is not None:
                vectors[name] = vector_of(database)
                self._check_progress(name, vectors[name])
                if not node.is_merging:
                    self._check_pairs(name, database)
        if self._trusts_frames:
            for name, node in self._nodes.items():
                self._check_confirmations(name, node, vectors)

    def was_put_back(self, name: str) -> None:
        """What this node had reached is not expected of it any more, nor of what others know of it."""
        self._reached.pop(name, None)
        self._put_back.add(name)

    def _check_progress(self, name: str, vector: dict[OriginKey, int]) -> None:
        """A position is durable: it survives every crash, and only grows; but for own numbers that were used twice."""
        before = self._reached.get(name, {})
        fallen = {
            origin: (oseq, vector.get(origin, 0))
            for origin, oseq in before.items()
            if vector.get(origin, 0) < oseq and not (origin[0] == name and name in self._put_back)
        }
        if fallen:
            raise Violation(f"{name} fell back: {fallen}")
        self._reached[name] = vector

    def _check_pairs(self, name: str, database: Database) -> None:
        """A reader sees all of a transaction or none."""
        with database.read() as tx:
            tables = tx.schema().tables
            if not set(TABLES) <= tables.keys():
                return
            for key in PAIR_KEYS:
                rows = [tx.row(tables[table], stored_key_of(key)) for table in TABLES]
                values = [None if row is None else row.decode()["w"] for row in rows]
                if values[0] != values[1]:
                    raise Violation(f"{name} shows half of a transaction: {values}")

    def _check_confirmations(self, name: str, node: SimulatedNode, vectors: Mapping[str, dict[OriginKey, int]]) -> None:
        """What a node believes to be durable elsewhere is durable there."""
        replica = None if node.supervisor is None else node.supervisor.replicas.get("data")
        if replica is None:
            return
        for peer, vector in vectors.items():
            if peer in self._put_back:
                continue
            for origin, oseq in replica.confirmations.of(peer).items():
                if vector.get((origin.node, origin.store), 0) < oseq:
                    raise Violation(f"{name} believes that {peer} has {origin} up to {oseq}: {vector}")

    # -- the end --------------------------------------------------------------------------------------------------

    def vectors(self) -> dict[str, dict[OriginKey, int] | None]:
        databases = {name: node.database() for name, node in self._nodes.items()}
        return {name: None if database is None else vector_of(database) for name, database in databases.items()}

    def have_agreed(self) -> bool:
        """Whether all nodes are up and hold the same positions."""
        first, *others = self.vectors().values()
        is_quiet = not any(node.is_merging for node in self._nodes.values())
        return first is not None and is_quiet and all(vector == first for vector in others)

    def conclude(self) -> list[Any]:
        """Check the final states; what to remember of them in the trace. Raises ``Violation``."""
        states = self._checked_states()
        _refuse(broken_promises(self._ledger, states))
        return _stamps(states["n1"])

    def conclude_aged(self, plan: Plan) -> None:
        """Check states that have agreed, while some of what may go is still there. Raises ``Violation``."""
        assert plan.retention_s is not None, "the run has a retention"
        skews_us = [node.skew_us for node in self._nodes.values()]
        now_us = self._nodes["n1"].clock()
        skew_s = (max(skews_us) - min(skews_us)) / 1e6 + RETENTION_EVERY_S
        _refuse(
            broken_when_aged(
                self._ledger, self._checked_states(), now_us=now_us, retention_s=plan.retention_s, skew_s=skew_s
            )
        )

    def conclude_at_rest(self) -> list[Any]:
        """Check states in which all that may go has gone, as for ``conclude``."""
        states = self._checked_states()
        _refuse(broken_at_rest(self._ledger, states, now_us=self._nodes["n1"].clock()))
        return _stamps(states["n1"])

    def _checked_states(self) -> dict[str, dict[tuple[str, Any], Version]]:
        states = {}
        definitions = {}
        for name, node in self._nodes.items():
            database = node.database()
            assert database is not None
            states[name] = state_of(database)
            definitions[name] = _definitions(database)
            problems = check_database(database.environment, now_ms=node.clock() // 1000)
            if problems:
                raise Violation(f"the checker finds at {name}: {problems[:5]}")
        if any(definition != definitions["n1"] for definition in definitions.values()):
            raise Violation(f"the definitions differ: {definitions}")
        return states


def _refuse(problems: list[str]) -> None:
    if problems:
        raise Violation("\n".join(problems[:10]))


def _stamps(state: dict[tuple[str, Any], Version]) -> list[Any]:
    return sorted((repr(key), version.stamp) for key, version in state.items())


def _definitions(database: Database) -> dict[str, list[str]]:
    with database.read() as tx:
        return {name: sorted(table.attributes) for name, table in tx.schema().tables.items()}
