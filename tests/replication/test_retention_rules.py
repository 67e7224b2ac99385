"""What goes and what is kept on nodes with peers: E3, E9 and G7, on nodes with virtual time."""

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from replication.retention_rules import ReplicatedRetention, heard_marks
from replication.settings import LinkSettings
from replication.wanted_links import Sharing
from storage.commit_log import Position
from storage.entry import NO_CHAIN, Origin
from storage.marks import Mark
from storage.retention import Removed, RetentionRules, apply_retention
from storage.schema import Definition, dynamic_attributes
from storage.table_writes import delete_records, write_records
from storage.write_transaction import WriteTransaction
from tests.simulation.history import state_of, vector_of
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode

A, B, C = (Origin(name, f"store-{name}") for name in "abc")
SHARED = Sharing(writers=frozenset("bc"), takers=frozenset("bc"))
RETENTION_S = 300.0
MARK_S = 10.0


# -- marks that were heard ----------------------------------------------------------------------------------------


def positions(**at: int) -> list[Position]:
    return [Position(Origin(name, f"store-{name}"), oseq, NO_CHAIN, 0) for name, oseq in at.items()]


def mark(origin: Origin, oseq: int, **vector: int) -> Mark:
    return Mark(origin=origin, oseq=oseq, ts=1, vector={Origin(of, f"store-{of}"): at for of, at in vector.items()})


def heard(found: list[Mark] | None) -> set[str] | None:
    return None if found is None else {one.origin.node for one in found}


def test_every_writer_has_to_be_heard() -> None:
    marks = {"b": mark(B, 1), "c": mark(C, 1)}
    here = positions(a=1, b=1, c=1)
    assert heard(heard_marks(here, marks, SHARED, node="a")) == {"b", "c"}
    assert heard_marks(here, {"b": marks["b"]}, SHARED, node="a") is None


def test_a_node_without_others_waits_for_nobody() -> None:
    assert heard_marks(positions(a=1), {}, Sharing(), node="a") == []


def test_a_mark_that_is_ahead_of_us_in_some_origin_does_not_count() -> None:
    marks = {"b": mark(B, 1, c=2), "c": mark(C, 1)}
    assert heard_marks(positions(a=1, b=1, c=1), marks, SHARED, node="a") is None
    assert heard_marks(positions(a=1, b=1, c=2), marks, SHARED, node="a") is not None


def test_an_origin_whose_node_is_no_member_is_waited_for_until_it_is_removed() -> None:
    marks = {"b": mark(B, 1)}
    alone_with_b = replace(SHARED, writers=frozenset("b"))
    here = positions(a=1, b=1, c=1)
    assert heard_marks(here, marks, alone_with_b, node="a") is None
    assert heard(heard_marks(here, marks, replace(alone_with_b, removed=frozenset("c")), node="a")) == {"b"}


def test_what_others_have_of_a_removed_node_may_still_come() -> None:
    marks = {"b": mark(B, 1, c=5)}
    without_c = Sharing(writers=frozenset("b"), removed=frozenset("c"))
    assert heard_marks(positions(a=1, b=1, c=4), marks, without_c, node="a") is None


def test_what_others_have_of_a_barred_node_does_not_matter() -> None:
    marks = {"b": mark(B, 1, c=5)}
    without_c = Sharing(writers=frozenset("b"), barred=frozenset("c"))
    assert heard(heard_marks(positions(a=1, b=1), marks, without_c, node="a")) == {"b"}


# -- nodes --------------------------------------------------------------------------------------------------------


def make_table(tx: WriteTransaction) -> None:
    tx.create_table(Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id")))


@dataclass
class Nodes:
    """Nodes ``a``, ``b`` and ``c`` with a table that all have."""

    all: dict[str, SimulatedNode]
    network: Network

    async def put(self, name: str, key: int) -> None:
        await self.write(name, lambda tx: write_records(tx, "dog", [{"id": key}], "upsert"))

    async def delete(self, name: str, key: int) -> None:
        await self.write(name, lambda tx: delete_records(tx, "dog", [key]))

    async def write(self, name: str, function: Any) -> None:
        catalog = self.all[name].catalog
        assert catalog is not None
        await catalog.write("data", function)

    def rules_of(self, name: str, sharing: Sharing) -> ReplicatedRetention:
        supervisor = self.all[name].supervisor
        assert supervisor is not None
        return ReplicatedRetention(supervisor, lambda database: sharing)

    async def retain(self, name: str, rules: RetentionRules) -> Removed:
        node = self.all[name]
        assert node.catalog is not None
        return await apply_retention(node.catalog, "data", rules=rules, now_us=node.clock())

    def dead(self, name: str) -> list[Any]:
        """Keys of which there is a tombstone."""
        database = self.all[name].database()
        assert database is not None
        return [key for (_, key), version in state_of(database).items() if version.value is None]

    def vector(self, name: str) -> dict[Any, int]:
        database = self.all[name].database()
        return {} if database is None else vector_of(database)

    async def agree(self) -> None:
        with trio.fail_after(120):
            while not self.vector("a") or not self.vector("a") == self.vector("b") == self.vector("c"):
                await trio.sleep(0.5)

    def part(self, name: str) -> None:
        for other in set(self.all) - {name}:
            self.network.cut(name, other)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Nodes]:
    rng = random.Random(1)
    network = Network(rng)
    settings = LinkSettings(mark_interval_s=MARK_S)
    made = {
        name: SimulatedNode(
            name=name,
            folder=folder / name,
            nodes="abc",
            network=network,
            rng=rng,
            settings=settings,
            retention_s=RETENTION_S,
        )
        for name in "abc"
    }
    async with trio.open_nursery() as nursery:
        for node in made.values():
            await nursery.start(node.run)
        nodes = Nodes(made, network)
        catalog = made["a"].catalog
        assert catalog is not None
        await catalog.create("data")
        await nodes.write("a", make_table)
        await nodes.agree()
        yield nodes
        nursery.cancel_scope.cancel()


async def test_a_delete_goes_when_everybody_was_heard(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as nodes:
        await nodes.put("a", 1)
        await nodes.delete("b", 1)
        await nodes.agree()
        assert nodes.dead("c") == [1]
        await trio.sleep(RETENTION_S + 60)
        assert nodes.dead("a") == nodes.dead("b") == nodes.dead("c") == []


async def test_marks_come_to_rest(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as nodes:
        await nodes.put("a", 1)
        await trio.sleep(5 * MARK_S)
        before = nodes.vector("a")
        await trio.sleep(3 * RETENTION_S)
        assert nodes.vector("a") == nodes.vector("b") == nodes.vector("c") == before


async def test_a_member_that_is_away_keeps_deletes_and_its_old_writes_lose(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """E3: away for ten times the retention, with a write of that record which nobody has got."""
    async with running(tmp_path) as nodes:
        await nodes.put("a", 1)
        await nodes.agree()
        nodes.part("c")
        await nodes.put("c", 1)
        await trio.sleep(1)
        await nodes.delete("a", 1)
        await trio.sleep(10 * RETENTION_S)
        assert nodes.dead("a") == nodes.dead("b") == [1]
        nodes.network.heal()
        await nodes.agree()
        assert [nodes.dead(name) for name in "abc"] == [[1]] * 3
        await trio.sleep(RETENTION_S + 120)
        assert [nodes.dead(name) for name in "abc"] == [[]] * 3


async def test_purging_goes_on_when_the_absent_member_is_removed(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """E9."""
    async with running(tmp_path) as nodes:
        await nodes.put("a", 1)
        await nodes.agree()
        nodes.part("c")
        await nodes.delete("a", 1)
        await trio.sleep(2 * RETENTION_S)
        assert nodes.dead("a") == [1]
        without_c = Sharing(writers=frozenset("b"), takers=frozenset("b"), removed=frozenset("c"))
        await nodes.retain("a", nodes.rules_of("a", without_c).rules("data"))
        assert nodes.dead("a") == []


async def test_a_removed_node_purges_nothing(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    async with running(tmp_path) as nodes:
        await nodes.put("a", 1)
        await nodes.agree()
        nodes.part("c")
        await nodes.delete("c", 1)
        await trio.sleep(2 * RETENTION_S)
        removed = Sharing(removed=frozenset("ab"), is_removed=True)
        await nodes.retain("c", nodes.rules_of("c", removed).rules("data"))
        assert nodes.dead("c") == [1]


async def test_nothing_is_purged_from_the_moment_a_copy_is_asked_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as nodes:
        await nodes.put("a", 1)
        await nodes.agree()
        nodes.part("c")
        await nodes.delete("a", 1)
        await trio.sleep(2 * RETENTION_S)
        without_c = Sharing(writers=frozenset("b"), takers=frozenset("b"), removed=frozenset("c"))
        rules = nodes.rules_of("a", without_c).rules("data")
        supervisor = nodes.all["a"].supervisor
        assert supervisor is not None
        async with supervisor.replica("data").copying:
            await nodes.retain("a", rules)
            assert nodes.dead("a") == [1]
        await nodes.retain("a", rules)
        assert nodes.dead("a") == []


async def test_what_no_other_member_has_stays_in_the_log_and_is_reported(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as nodes:
        await trio.sleep(5 * MARK_S)
        nodes.part("c")
        with caplog.at_level(logging.WARNING, "replication"):
            await nodes.put("c", 1)
            (own,) = [(origin, at) for origin, at in nodes.vector("c").items() if origin[0] == "c"]
            await trio.sleep(3 * RETENTION_S)
        told = [record for record in caplog.records if "kept beyond retention" in record.getMessage()]
        assert len(told) == 1, "once in a while"
        database = nodes.all["c"].database()
        assert database is not None
        with database.read() as tx:
            kept = [entry.header for entry in tx.log.read_from()]
        assert next((tuple(header.origin), header.oseq) for header in kept) == own


async def test_a_node_that_nobody_takes_from_keeps_nothing_for_others(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as nodes:
        nodes.part("c")
        await nodes.put("c", 1)
        await nodes.put("c", 2)
        await trio.sleep(RETENTION_S - 100)
        rules = nodes.rules_of("c", Sharing()).rules("data")
        assert rules.may_trim(Origin("c", "any"), 10_000)


async def test_entries_of_other_members_are_theirs_to_keep(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(tmp_path) as nodes:
        rules = nodes.rules_of("a", SHARED).rules("data")
        assert rules.may_trim(Origin("b", "any"), 10_000)
        assert not rules.may_trim(Origin("gone", "any"), 10_000)
        assert not rules.may_trim(Origin("a", "an earlier life"), 10_000)
