"""A node that has travelled back in time, among real replicas over a network of memory."""

import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from replication.fork import Finding, base_of, differences, digests_below, judge
from replication.settings import LinkSettings
from storage.abandoned import Place
from storage.checker import check_database
from storage.commit_log import Position
from storage.entry import NO_CHAIN, Origin, digest
from storage.maintenance import trim_log
from storage.schema import Definition, dynamic_attributes
from storage.table_writes import delete_records, write_records
from storage.write_transaction import WriteTransaction
from tests.simulation.history import state_of, vector_of
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode

WAIT_S = 120.0
"""Virtual time within which nodes must agree."""
SETTINGS = LinkSettings(ping_interval_s=5.0, ping_timeout_s=10.0, reconnect_s_max=5.0)

# -- the decisions ----------------------------------------------------------------------------------------------------

A = Origin("a", "1")


def chain_of(branch: str, oseq: int) -> bytes:
    return digest(branch.encode(), oseq.to_bytes(8))


class History:
    """A log of one origin that is that of everybody up to ``common`` and its own above; trimmed up to ``floor``."""

    def __init__(self, branch: str, oseq: int, *, common: int, floor: int = 0) -> None:
        self.branch = branch
        self.common = common
        self.floor = floor
        self.position = Position(A, oseq, self.chain(oseq), floor)

    def chain(self, oseq: int) -> bytes:
        return chain_of("all" if oseq <= self.common else self.branch, oseq)

    def chain_at(self, origin: Origin, oseq: int) -> bytes | None:
        assert origin == A
        if oseq == 0:
            return NO_CHAIN
        return self.chain(oseq) if self.floor < oseq <= self.position.oseq else None


def told(publisher: History, lower: int) -> tuple[tuple[int, bytes], ...]:
    return digests_below(publisher.position, lower, publisher.chain_at)


def finding_of(here: History, there: History) -> Finding:
    return judge(here.position, told(there, here.position.oseq), here.chain_at)


def test_who_is_further_sees_another_history_in_the_digest_at_the_lower_number():
    here, there = History("mine", 20, common=10), History("theirs", 15, common=10)
    theirs = {A: (15, there.chain(15))}
    assert differences({A: here.position}, theirs, here.chain_at, peer="b") == {A: "other"}
    assert differences({A: there.position}, {A: (20, here.chain(20))}, there.chain_at, peer="b") == {}


def test_a_peer_that_is_a_prefix_differs_in_nothing():
    here, there = History("mine", 20, common=20), History("mine", 15, common=20)
    assert differences({A: here.position}, {A: (15, there.chain(15))}, here.chain_at, peer="a") == {}


def test_a_digest_that_is_gone_matters_to_the_owner_alone():
    here = History("mine", 20, common=20, floor=18)
    theirs = {A: (15, chain_of("all", 15))}
    assert differences({A: here.position}, theirs, here.chain_at, peer="a") == {A: "gone"}
    assert differences({A: here.position}, theirs, here.chain_at, peer="b") == {}


def test_digests_are_bounded_and_lie_at_doubling_distances():
    digests = told(History("mine", 10**18, common=10**18), 10**18 - 5)
    oseqs = [oseq for oseq, _ in digests]
    assert len(digests) <= 64
    assert oseqs[:5] == [10**18, 10**18 - 5, 10**18 - 6, 10**18 - 7, 10**18 - 9]
    assert oseqs[-1] < 10**18 // 2


@pytest.mark.parametrize(("mine", "other", "common"), [(20, 15, 10), (15, 20, 10), (20, 20, 19), (9, 30, 0), (1, 1, 0)])
def test_the_base_is_a_number_that_both_have_with_one_digest(mine: int, other: int, common: int):
    here, there = History("mine", mine, common=common), History("theirs", other, common=common)
    finding = finding_of(here, there)
    base, chain = base_of(here.position, finding, told(there, mine), here.chain_at, marked=0)
    assert finding.is_other
    assert base <= common
    assert chain == (here.chain(base) if base else NO_CHAIN)


def test_a_peer_that_is_only_ahead_has_no_other_history():
    here, there = History("mine", 10, common=10), History("theirs", 20, common=10)
    finding = finding_of(here, there)
    assert (finding.is_other, finding.is_unknown_above) == (False, False)


def test_numbers_given_out_since_the_hello_are_found_to_be_used_twice():
    at_hello, now = History("mine", 10, common=10), History("mine", 12, common=10)
    there = History("theirs", 20, common=10)
    finding = judge(now.position, told(there, at_hello.position.oseq), now.chain_at)
    assert finding.is_unknown_above
    assert finding.common == (10, chain_of("all", 10))


def test_without_a_common_digest_the_mark_of_the_peer_decides():
    here, there = History("mine", 10, common=6), History("theirs", 20, common=6, floor=15)
    finding = finding_of(here, there)
    assert finding.is_unknown_above and finding.common is None
    digests = told(there, 10)
    assert base_of(here.position, finding, digests, here.chain_at, marked=4) == (4, chain_of("all", 4))
    assert base_of(here.position, finding, digests, here.chain_at, marked=0) == (0, NO_CHAIN)


# -- real replicas ----------------------------------------------------------------------------------------------------


class Cluster:
    """Nodes over a network that can be cut; ``nodes`` by name."""

    def __init__(self, folder: Path, names: str, nursery: trio.Nursery, *, syncs: bool) -> None:
        rng = random.Random(1)
        self.network = Network(rng)
        self.nursery = nursery
        self.nodes = {
            name: SimulatedNode(
                name=name,
                folder=folder / name,
                nodes=names,
                network=self.network,
                rng=rng,
                settings=SETTINGS,
                syncs=syncs,
            )
            for name in names
        }

    async def start(self, name: str) -> None:
        await self.nursery.start(self.nodes[name].run)

    async def stop(self, name: str) -> None:
        node = self.nodes[name]
        node.crash()
        while node.is_up:
            await trio.sleep(0.1)
        await trio.sleep(1.0)

    def save(self, name: str) -> Path:
        folder = self.nodes[name].folder
        saved = folder.with_name(f"{name}-saved")
        shutil.copytree(folder, saved, dirs_exist_ok=True)
        return saved

    async def put_back(self, name: str, saved: Path) -> None:
        """Replace all that is on disk, start counter included, unnoticed: and start again."""
        await self.stop(name)
        folder = self.nodes[name].folder
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        await self.start(name)

    def cut(self, name: str, *others: str) -> None:
        for other in others or self.nodes.keys() - {name}:
            self.network.cut(name, other)

    def mend(self, name: str, *others: str) -> None:
        for other in others or self.nodes.keys() - {name}:
            self.network.mend(name, other)

    async def put(self, name: str, *keys: object, value: str) -> None:
        """A transaction each."""
        for key in keys:
            await self.write(name, lambda tx, key=key: write_records(tx, "dog", [{"id": key, "w": value}], "upsert"))

    async def write(self, name: str, function: Callable[[WriteTransaction], object]) -> None:
        catalog = self.nodes[name].catalog
        assert catalog is not None
        await catalog.write("data", function)

    def origin(self, name: str) -> Origin:
        database = self.nodes[name].database()
        assert database is not None
        return database.environment.origin

    def rows(self, name: str) -> dict[object, object]:
        database = self.nodes[name].database()
        assert database is not None
        with database.read() as tx:
            table = tx.table("dog")
            return {record["id"]: record["w"] for record in (tx.record(table, row) for _, row in tx.rows(table))}

    def places(self, name: str) -> list[Place | None]:
        """Where restating goes on, of each life that forked."""
        database = self.nodes[name].database()
        assert database is not None
        with database.read() as tx:
            return [branch.place for branch in tx.log.branches().values()]

    def have_agreed(self, names: Iterable[str]) -> bool:
        databases = [self.nodes[name].database() for name in names]
        states = [None if database is None else (vector_of(database), state_of(database)) for database in databases]
        return states[0] is not None and all(state == states[0] for state in states)

    async def agree(self, names: Iterable[str] = ()) -> None:
        chosen = tuple(names) or tuple(self.nodes)
        await self.until(lambda: self.have_agreed(chosen))
        self.check()

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(WAIT_S):
            while not condition():
                await trio.sleep(0.2)

    def check(self) -> None:
        for node in self.nodes.values():
            database = node.database()
            if database is not None:
                problems = check_database(database.environment, now_ms=node.clock() // 1000)
                assert problems == [], (node.name, problems)


@asynccontextmanager
async def cluster(folder: Path, names: str, *, syncs: bool = True) -> AsyncIterator[Cluster]:
    """Nodes that have a table and one record of the first each."""
    async with trio.open_nursery() as nursery:
        made = Cluster(folder, names, nursery, syncs=syncs)
        for name in names:
            await made.start(name)
        catalog = made.nodes[names[0]].catalog
        assert catalog is not None
        await catalog.create("data")
        definition = Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id"))
        await made.write(names[0], lambda tx: tx.create_table(definition))
        await made.put(names[0], "first", value="all")
        await made.agree()
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
def virtual(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return autojump_clock


async def test_what_a_node_lost_comes_back_from_its_peer(tmp_path: Path, virtual: trio.testing.MockClock) -> None:
    async with cluster(tmp_path, "ab") as nodes:
        saved = nodes.save("a")
        before = nodes.origin("a")
        await nodes.put("a", 1, 2, 3, value="lost")
        await nodes.agree()
        await nodes.put_back("a", saved)
        await nodes.agree()
        assert nodes.origin("a") != before
        assert nodes.rows("a") == {"first": "all", 1: "lost", 2: "lost", 3: "lost"}


async def test_a_tail_that_was_not_synced_comes_back_from_peers(
    tmp_path: Path, virtual: trio.testing.MockClock
) -> None:
    async with cluster(tmp_path, "ab", syncs=False) as nodes:
        written = nodes.nodes["a"].data_file()
        assert written is not None
        before = nodes.origin("a")
        await nodes.put("a", 1, 2, value="lost")
        await nodes.put("b", 3, value="lost")
        await nodes.agree()
        await nodes.stop("a")
        nodes.nodes["a"].put_back(written)
        await nodes.start("a")
        assert nodes.origin("a") != before, "the start knows that the file may be older"
        await nodes.put("a", 4, value="later")
        await nodes.agree()
        assert nodes.rows("b") == {"first": "all", 1: "lost", 2: "lost", 3: "lost", 4: "later"}


async def test_later_writes_of_a_node_that_went_back_reach_its_peers(
    tmp_path: Path, virtual: trio.testing.MockClock
) -> None:
    async with cluster(tmp_path, "abc") as nodes:
        saved = nodes.save("a")
        await nodes.put("a", 1, 2, value="lost")
        await nodes.agree()
        await nodes.put_back("a", saved)
        await nodes.agree()
        await nodes.put("a", 4, value="later")
        await nodes.agree()
        assert nodes.rows("c")[4] == "later"


@pytest.mark.parametrize("again", [1, 3, 5], ids=["fewer", "as many", "more"])
@pytest.mark.parametrize("names", ["ab", "abc"])
async def test_both_branches_survive_when_numbers_were_used_twice(
    tmp_path: Path, virtual: trio.testing.MockClock, again: int, names: str
) -> None:
    async with cluster(tmp_path, names) as nodes:
        before = nodes.origin("a")
        await nodes.put("a", *range(10, 20), value="common")
        await nodes.agree()
        saved = nodes.save("a")
        await nodes.put("a", "x", "y", "z", value="theirs")
        await nodes.agree()
        nodes.cut("a")
        await nodes.put_back("a", saved)
        await nodes.put("a", *range(again), value="mine")
        assert nodes.origin("a") == before, "nothing tells the node that it went back"
        nodes.mend("a")
        await nodes.agree()
        assert nodes.origin("a") != before
        rows = nodes.rows("b")
        assert {key for key, value in rows.items() if value == "mine"} == set(range(again))
        assert {key for key, value in rows.items() if value == "theirs"} == {"x", "y", "z"}
        await nodes.put("a", "later", value="mine")
        await nodes.put("b", "elsewhere", value="theirs")
        await nodes.agree()


async def test_a_delete_on_the_branch_that_was_left_is_told_again(
    tmp_path: Path, virtual: trio.testing.MockClock
) -> None:
    async with cluster(tmp_path, "ab") as nodes:
        await nodes.put("a", "gone", value="common")
        await nodes.agree()
        saved = nodes.save("a")
        await nodes.put("a", "x", "y", value="theirs")
        await nodes.agree()
        nodes.cut("a")
        await nodes.put_back("a", saved)
        await nodes.write("a", lambda tx: delete_records(tx, "dog", ["gone"]))
        nodes.mend("a")
        await nodes.agree()
        assert nodes.rows("b") == {"first": "all", "x": "theirs", "y": "theirs"}


async def test_a_fork_is_settled_by_a_copy_where_the_peer_has_trimmed_its_log(
    tmp_path: Path, virtual: trio.testing.MockClock
) -> None:
    async with cluster(tmp_path, "ab") as nodes:
        saved = nodes.save("a")
        await nodes.put("a", "x", "y", "z", value="theirs")
        await nodes.agree()
        nodes.cut("a")
        catalog = nodes.nodes["b"].catalog
        assert catalog is not None
        assert await catalog.maintain("data", partial(trim_log, before_us=nodes.nodes["b"].clock() + 1)) > 0
        await nodes.put_back("a", saved)
        await nodes.put("a", 1, 2, value="mine")
        nodes.mend("a")
        await nodes.agree()
        assert nodes.rows("b") == {"first": "all", "x": "theirs", "y": "theirs", "z": "theirs", 1: "mine", 2: "mine"}


async def test_a_node_that_stops_while_it_restates_goes_on_when_it_comes_back(
    tmp_path: Path, virtual: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.fork.STEP_ROWS", 2)
    async with cluster(tmp_path, "ab") as nodes:
        saved = nodes.save("a")
        before = nodes.origin("a")
        await nodes.put("a", "x", "y", value="theirs")
        await nodes.agree()
        nodes.cut("a")
        await nodes.put_back("a", saved)
        await nodes.put("a", *range(20), value="mine")
        nodes.mend("a")
        with trio.fail_after(WAIT_S):
            while nodes.places("a") in ([], [Place()]):
                await trio.sleep(0.0001)
        await nodes.stop("a")
        await nodes.start("a")
        assert nodes.origin("a") != before
        assert None not in nodes.places("a"), "it was stopped before it was done"
        nodes.check()
        await nodes.agree()
        assert set(nodes.rows("b")) == {"first", "x", "y", *range(20)}


async def test_other_origins_flow_between_nodes_that_differ_in_one(
    tmp_path: Path, virtual: trio.testing.MockClock
) -> None:
    async with cluster(tmp_path, "abc") as nodes:
        forked = nodes.origin("a")
        saved = nodes.save("a")
        nodes.cut("c")
        await nodes.put("a", "x", "y", value="of b")
        await nodes.agree("ab")
        nodes.cut("a")
        await nodes.put_back("a", saved)
        nodes.mend("c", "a")
        await nodes.put("a", 1, 2, value="of c")
        await nodes.agree("ac")
        nodes.cut("a")
        nodes.mend("c", "b")
        await nodes.put("b", "of b", value="b")
        await nodes.put("c", "of c", value="c")
        await nodes.until(lambda: "of b" in nodes.rows("c") and "of c" in nodes.rows("b"))
        supervisor = nodes.nodes["c"].supervisor
        assert supervisor is not None
        stream = supervisor.dialled["b", "data"].stream
        assert stream is not None
        assert stream.unserved() == {forked: "fork"}
        nodes.check()
        assert "x" not in nodes.rows("c") and 1 not in nodes.rows("b")


async def test_a_node_is_not_brought_back_onto_the_branch_that_it_left(
    tmp_path: Path, virtual: trio.testing.MockClock
) -> None:
    async with cluster(tmp_path, "abc") as nodes:
        saved = nodes.save("a")
        nodes.cut("c")
        await nodes.put("a", "x", "y", value="of b")
        await nodes.agree("ab")
        nodes.cut("a")
        await nodes.put_back("a", saved)
        nodes.mend("c", "a")
        await nodes.put("a", 1, 2, value="of c")
        await nodes.agree("ac")
        nodes.mend("a")
        nodes.mend("c", "b")
        await nodes.until(lambda: all(key in nodes.rows(name) for name in "ab" for key in ("x", "y", 1, 2)))
        nodes.check()
