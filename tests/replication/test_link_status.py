"""What the links show of themselves: real nodes over a network of memory, in virtual time."""

import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from replication.link_status import LinkStatus
from replication.settings import LinkSettings
from replication.wanted_links import Flow
from storage.catalog import Catalog
from storage.schema import Definition, dynamic_attributes
from storage.table_writes import write_records
from storage.write_state import WriteState
from storage.write_transaction import WriteTransaction
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode

SETTINGS = LinkSettings(ping_interval_s=5.0, ping_timeout_s=10.0, reconnect_s_max=4.0)
WAIT_S = 120.0
"""Virtual: no test waits longer for anything."""
WHAT = ("control", "database 'data'")
"""What a link between two nodes is for, as the log has it."""
Fields = dict[str, Any]


@dataclass
class Nodes:
    """Each with each, all databases."""

    network: Network
    by_name: dict[str, SimulatedNode]
    statuses: dict[str, LinkStatus]

    def catalog(self, name: str) -> Catalog:
        catalog = self.by_name[name].catalog
        assert catalog is not None
        return catalog

    def flows(self, name: str, databases: Any) -> dict[tuple[str, str], Flow]:
        return {
            (peer, database): Flow(takes=True, gives=True)
            for peer in self.by_name
            if peer != name
            for database in databases
        }

    async def socket(self, name: str, peer: str) -> Fields:
        """What ``name`` shows of its links with ``peer``, for the one database."""
        (socket,) = (await self.statuses[name].sockets())[peer]
        return socket

    async def wait_until(self, name: str, peer: str, holds: Callable[[Fields], Any]) -> Fields:
        with trio.fail_after(WAIT_S):
            while not holds(socket := await self.socket(name, peer)):
                await trio.sleep(0.05)
        return socket

    async def put(self, name: str, *keys: int, text: str = "") -> None:
        records = [{"id": key, "text": text} for key in keys]
        await self.catalog(name).write("data", lambda tx: write_records(tx, "dog", records, "upsert"))


def make_table(tx: WriteTransaction) -> None:
    tx.create_table(Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id")))


@asynccontextmanager
async def running(folder: Path, names: str = "ab", **settings: LinkSettings) -> AsyncIterator[Nodes]:
    """Nodes that are up; ``a`` has the database already, nobody else."""
    rng = random.Random(1)
    network = Network(rng)
    nodes = {
        name: SimulatedNode(
            name=name,
            folder=folder / name,
            nodes=names,
            network=network,
            rng=rng,
            settings=settings.get(name, SETTINGS),
        )
        for name in names
    }
    async with trio.open_nursery() as nursery:
        for node in nodes.values():
            await nursery.start(node.run)
        made = Nodes(network, nodes, {})
        for name, node in nodes.items():
            assert node.supervisor is not None
            assert node.catalog is not None
            made.statuses[name] = LinkStatus(
                node.supervisor, node.catalog, lambda databases, name=name: made.flows(name, databases)
            )
        await made.catalog("a").create("data")
        await made.catalog("a").write("data", make_table)
        yield made
        nursery.cancel_scope.cancel()


async def wait_for_database(nodes: Nodes, name: str) -> None:
    with trio.fail_after(WAIT_S):
        while "data" not in nodes.catalog(name).names:
            await trio.sleep(0.05)


async def all_connected(nodes: Nodes) -> None:
    for name in nodes.by_name:
        await wait_for_database(nodes, name)
    for name in nodes.by_name:
        for peer in nodes.by_name.keys() - {name}:
            await nodes.wait_until(name, peer, lambda socket: socket["connected"] and not socket["behindEntries"])


def instant(text: str) -> float:
    assert text.endswith(" GMT")
    return parsedate_to_datetime(text).timestamp()


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with running(tmp_path) as nodes:
        await all_connected(nodes)
        yield nodes


async def test_a_quiet_pair_is_connected_and_behind_in_nothing(two: Nodes, autojump_clock: MockClock) -> None:
    await two.put("a", 1)
    socket = await two.wait_until("b", "a", lambda socket: socket["receivedEntries"])
    assert socket["database"] == "data"
    assert socket["connected"] is True
    assert socket["mode"] == "log"
    assert socket["nodes"] == ["a"]
    assert socket["thread_id"] == 1
    assert 0 < socket["latency"] < 100
    assert "lastConnectionError" not in socket
    assert "blockedReason" not in socket
    socket = await two.wait_until("b", "a", lambda socket: socket["lastReceivedStatus"] == "Waiting")
    assert (socket["remoteBehindEntries"], socket["remoteBehindSeconds"]) == (0, 0)


async def test_times_are_those_of_the_entry_and_of_its_arrival(two: Nodes, autojump_clock: MockClock) -> None:
    await trio.sleep(100)
    await two.put("a", 1)
    version = two.by_name["a"].clock() / 1000
    there = await two.wait_until("b", "a", lambda socket: socket.get("lastReceivedVersion", 0) > version - 1000)
    await trio.sleep(1)
    here = await two.socket("a", "b")
    times = [there["lastReceivedRemoteTime"], there["lastReceivedLocalTime"]]
    for text in (*times, here["lastCommitConfirmed"], here["lastSendTime"], here["lastLiveness"]):
        assert abs(instant(text) - version / 1000) <= 10
    assert "sendingMessage" not in here
    assert here["sentEntries"] >= 1
    assert here["sentBytes"] > 0


async def test_an_idle_pair_falls_behind_in_nothing_however_long_it_lasts(
    two: Nodes, autojump_clock: MockClock
) -> None:
    await two.put("a", 1)
    await trio.sleep(3600)
    for name, peer in ("ab", "ba"):
        socket = await two.socket(name, peer)
        assert socket["connected"]
        assert socket["lastReceivedStatus"] == "Waiting"
        assert socket["behindEntries"] == socket["behindSeconds"] == socket["remoteBehindEntries"] == 0


async def test_what_an_absent_peer_has_not_confirmed_is_counted_with_its_age(
    two: Nodes, autojump_clock: MockClock
) -> None:
    two.network.cut("a", "b")
    await two.put("a", 1)
    await trio.sleep(100)
    await two.put("a", 2)
    socket = await two.socket("a", "b")
    assert socket["connected"] is False
    assert socket["behindEntries"] >= 2
    assert socket["behindBytes"] > 0
    assert 100 <= socket["behindSeconds"] < 110
    assert abs(instant(socket["oldestUnconfirmed"]) - (two.by_name["a"].clock() / 1e6 - 100)) < 10
    assert "remoteBehindEntries" not in socket
    assert "lastReceivedStatus" not in socket


async def test_a_lost_link_tells_why_and_when_and_how_often_it_came_back(two: Nodes, autojump_clock: MockClock) -> None:
    two.network.cut("a", "b")
    socket = await two.wait_until("a", "b", lambda socket: not socket["connected"])
    await trio.sleep(20)
    error = (await two.socket("a", "b"))["lastConnectionError"]
    assert error["code"] == "lost"
    assert error["message"] == "connection refused"
    assert abs(instant(error["time"]) - two.by_name["a"].clock() / 1e6) < 10
    assert "connectedSince" not in socket
    two.network.heal()
    socket = await two.wait_until("a", "b", lambda socket: socket["connected"] and not socket["behindEntries"])
    assert socket["reconnects"] == 1
    assert abs(instant(socket["connectedSince"]) - two.by_name["a"].clock() / 1e6) < 10


async def test_counters_go_on_over_a_new_connection(two: Nodes, autojump_clock: MockClock) -> None:
    await two.put("a", 1)
    before = await two.wait_until("b", "a", lambda socket: socket["receivedEntries"])
    two.network.reset("a", "b")
    await two.wait_until("b", "a", lambda socket: not socket["connected"])
    await two.put("a", 2)
    await two.wait_until("b", "a", lambda socket: socket["receivedEntries"] > before["receivedEntries"])


async def test_a_peer_that_only_falls_silent_is_not_connected(two: Nodes, autojump_clock: MockClock) -> None:
    two.network.blackhole("b", "a")
    await trio.sleep(SETTINGS.ping_timeout_s + 0.1)
    socket = await two.socket("a", "b")
    assert socket["connected"] is False
    silent_s = two.by_name["a"].clock() / 1e6 - instant(socket["lastLiveness"])
    assert silent_s >= SETTINGS.ping_timeout_s


async def test_one_direction_that_does_not_work_is_no_connection(two: Nodes, autojump_clock: MockClock) -> None:
    supervisor = two.by_name["a"].supervisor
    assert supervisor is not None
    supervisor.dialled["b", "data"].scope.cancel()
    await trio.sleep(1)
    assert not (await two.socket("a", "b"))["connected"]


async def test_a_peer_that_comes_back_is_dialled_at_once(two: Nodes, autojump_clock: MockClock) -> None:
    two.network.cut("a", "b")
    supervisor = two.by_name["a"].supervisor
    assert supervisor is not None
    await trio.sleep(60)
    record = supervisor.dialled["b", "data"]
    two.network.heal()
    dials = two.network.dials
    await two.wait_until("b", "a", lambda socket: socket["connected"])
    assert record.link is not None
    assert two.network.dials - dials <= 8


# -- agreement of tables ----------------------------------------------------------------------------------------------


async def test_tables_are_compared_after_some_pings(two: Nodes, autojump_clock: MockClock) -> None:
    assert "tablesEqual" not in await two.socket("b", "a")
    await two.put("a", 1)
    await two.wait_until("b", "a", lambda socket: socket.get("tablesEqual") is True)


def damage(state: WriteState) -> None:
    state.put("digests", state.tables["dog"].id.to_bytes(4), b"\1" * 16)


async def test_tables_that_differ_are_shown_and_logged_once(
    two: Nodes, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await two.catalog("a").maintain("data", damage)
    await two.wait_until("b", "a", lambda socket: socket.get("tablesEqual") is False)
    await trio.sleep(100)
    assert caplog.messages.count("database 'data' differs from that of 'a': dog") == 1


async def test_an_incomplete_table_says_nothing(two: Nodes, autojump_clock: MockClock) -> None:
    def damage_and_empty(state: WriteState) -> None:
        damage(state)
        state.mark_incomplete(state.tables["dog"])

    await two.catalog("a").maintain("data", damage_and_empty)
    await trio.sleep(100)
    assert (await two.socket("b", "a")).get("tablesEqual") is not False


# -- copies and blocked links -----------------------------------------------------------------------------------------


async def test_a_copy_is_shown_on_both_sides_while_it_lasts(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as nodes:
        nodes.network.cut("a", "b")
        await nodes.put("a", *range(200), text="x" * 5000)
        nodes.network.heal()
        nodes.network.slow("a", "b", 50_000)
        await wait_for_database(nodes, "b")
        there = await nodes.wait_until("b", "a", lambda socket: socket.get("copy", {}).get("bytesDone"))
        here = await nodes.socket("a", "b")
        assert there["mode"] == "copy"
        assert there["lastReceivedRemoteTime"] == "Copying"
        assert there["lastReceivedStatus"] == "Receiving"
        assert here["sendingMessage"] == "Copying"
        assert (there["copy"]["source"], there["copy"]["total"], there["copy"]["done"]) == ("a", 200, 0)
        later = await nodes.wait_until("b", "a", lambda socket: "etaSeconds" in socket.get("copy", {}))
        assert 0 < later["copy"]["etaSeconds"] < 100
        nodes.network.heal()
        done = await nodes.wait_until("b", "a", lambda socket: socket["mode"] == "log" and socket["connected"])
        assert "copy" not in done
        await nodes.wait_until("a", "b", lambda socket: socket["behindEntries"] == 0)


async def test_an_entry_that_the_peer_does_not_take_blocks_the_link(tmp_path: Path, autojump_clock: MockClock) -> None:
    small = LinkSettings(ping_interval_s=5.0, ping_timeout_s=10.0, entry_bytes_max=1000)
    async with running(tmp_path, b=small) as nodes:
        await all_connected(nodes)
        await nodes.put("a", 1, text="x" * 2000)
        for name, peer in ("ab", "ba"):
            socket = await nodes.wait_until(name, peer, lambda socket: socket["mode"] == "blocked")
            assert socket["blockedReason"] == "entry too large"
        assert (await nodes.socket("a", "b"))["behindEntries"] >= 1
        assert (await nodes.socket("b", "a"))["remoteBehindEntries"] >= 1


# -- three nodes ------------------------------------------------------------------------------------------------------


async def test_what_a_peer_gets_elsewhere_is_no_backlog(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path, "abc") as nodes:
        await all_connected(nodes)
        await nodes.put("c", 1, 2)
        await nodes.put("c", 3)
        await nodes.wait_until("b", "c", lambda socket: socket["receivedEntries"] >= 2)
        await trio.sleep(20)
        assert (await nodes.socket("a", "b"))["behindEntries"] == 0
        taken = await nodes.socket("b", "a")
        assert taken["lastReceivedStatus"] == "Waiting"
        assert taken["nodes"] == ["a"]


async def test_a_relayed_origin_is_named_and_is_backlog_of_who_relays(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with running(tmp_path, "abc") as nodes:
        await all_connected(nodes)
        nodes.network.cut("b", "c")
        await nodes.put("c", 1)
        socket = await nodes.wait_until("b", "a", lambda socket: socket["nodes"] == ["a", "c"])
        assert socket["connected"]
        await trio.sleep(10)
        nodes.network.cut("a", "b")
        await nodes.wait_until("a", "b", lambda socket: not socket["connected"])
        before = (await nodes.socket("a", "b"))["behindEntries"]
        await nodes.put("c", 2)
        await nodes.wait_until("a", "b", lambda socket: socket["behindEntries"] > before)


# -- the log ----------------------------------------------------------------------------------------------------------


async def test_a_link_is_logged_when_it_comes_up_and_when_it_goes(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path) as nodes:
        await all_connected(nodes)
        nodes.network.cut("a", "b")
        await trio.sleep(100)
        ups = [text for text in caplog.messages if text.endswith("is up")]
        assert sorted(ups) == sorted(f"link to '{peer}' ({what}) is up" for peer in "ab" for what in WHAT)
        refused = [text for text in caplog.messages if text == "link to 'b' (control) is down: connection refused"]
        assert len(refused) == 1
        caplog.clear()
    assert not caplog.records


async def test_a_clock_that_is_far_off_is_shown_and_reported_once(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as nodes:
        nodes.by_name["b"].skew_us = 90_000_000
        await all_connected(nodes)
        await trio.sleep(100)
        assert abs((await nodes.socket("a", "b"))["clockSkewMs"] - 90_000) < 1000
        assert abs((await nodes.socket("b", "a"))["clockSkewMs"] + 90_000) < 1000
        reports = [text for text in caplog.messages if text.startswith("the clock of 'b' is +90.")]
        assert len(reports) == 1
