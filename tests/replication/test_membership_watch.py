"""The membership while it changes: what counts when, who stays, and what a check asks."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ops.system_tables import definition_of
from replication.connection import PeerIdentity
from replication.membership import NODE_FACTS, NODE_LINKS, NODES
from replication.membership_changes import add_member, remove_member
from replication.subscription import EVERY_TABLE
from tests.replication.watched import Watched, watched

SERIAL = 0x1234
CERTIFIED = PeerIdentity(name="b", address="192.0.2.7", serial=SERIAL)
JOINING = PeerIdentity(name=None, address="192.0.2.7", is_super_user=True)


def code(node: Watched, peer: PeerIdentity = CERTIFIED, name: str = "b", kind: str = "stream") -> str | None:
    """Why a peer is turned away, None where it is not."""
    refusal = node.watch.refusal(peer, name, kind)
    return None if refusal is None else refusal.code


def wanted(node: Watched) -> list[str]:
    return [peer.name for peer in node.watch.wanted(("data",), {"b": ("data",)}).peers]


# -- changes ----------------------------------------------------------------------------------------------------------


async def test_a_peer_is_wanted_soon_after_its_row_was_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        assert (wanted(node), code(node)) == ([], "unknown-node")
        await node.add("b")
        assert (wanted(node), code(node)) == (["b"], None)
        await node.until(lambda: bool(node.changes))


async def test_a_write_that_changes_no_member_is_no_change(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        await trio.sleep(5)
        before = len(node.changes)
        await node.put(NODES, {**await row(node, "b"), "system_info": {"cpus": 4}})
        await trio.sleep(5)
        assert len(node.changes) == before


async def row(node: Watched, name: str) -> dict[str, Any]:
    with node.catalog.database("system").read() as tx:
        table = tx.table(NODES)
        rows = [tx.record(table, found) for _, found in tx.rows(table)]
    return next(record for record in rows if record["name"] == name)


async def test_what_peers_trust_is_known_before_anybody_hears_of_a_change(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    known_at: list[float] = []

    async def before_change() -> None:
        await trio.sleep(1)
        known_at.append(trio.current_time())

    async with watched(tmp_path, before_change=before_change) as node:
        await node.add("b")
        await trio.sleep(5)
        assert known_at and node.changes == known_at


async def test_changes_that_follow_each_other_closely_all_count(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def slow() -> None:
        await trio.sleep(1)

    async with watched(tmp_path, before_change=slow) as node:
        for name in ("b", "c", "d"):
            await node.write(lambda tx, name=name: add_member(tx, name, url=f"wss://{name}:9933"))
            await trio.sleep(0.3)
        await trio.sleep(5)
        assert wanted(node) == ["b", "c", "d"]


async def test_the_own_row_is_repaired_when_somebody_has_overwritten_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path) as node:
        await node.put(NODES, {**await row(node, "a"), "url": "wss://elsewhere:1"})
        await trio.sleep(1)
        assert (await row(node, "a"))["url"] == "wss://a:9933"


async def test_the_routes_of_the_configuration_make_members_at_the_start(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path, "b") as node:
        assert wanted(node) == ["b"]


async def test_a_removed_node_does_not_come_back_by_a_route_at_the_next_start(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path, "b") as node:
        await node.remove("b")
    async with watched(tmp_path, "b") as node:
        assert (wanted(node), code(node)) == ([], "removed")
        assert "the route to 'b' has no effect" in caplog.text
        await node.add("b")
        assert (wanted(node), code(node)) == (["b"], None)


async def test_a_node_that_was_renamed_takes_no_part_under_its_new_name(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path, "b") as node:
        await node.put("hdb_nodes", {"name": "c", "url": "wss://c:1", "replicates": True, "epoch": 1})
    async with watched(tmp_path, "b", name="z") as node:
        assert node.watch.renamed_from == "a"
        assert (wanted(node), code(node)) == ([], "not-permitted")
        assert "was renamed from 'a' to 'z'" in caplog.text


# -- rows that cannot be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [NODES, NODE_LINKS])
@pytest.mark.parametrize("length", [5, 40], ids=["head", "record"])
async def test_a_row_that_cannot_be_decoded_drops_nobody(
    table: str, length: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path) as node:
        await node.add("b", verify_tls=False)
        before = (wanted(node), node.watch.may_subscribe("b", "data", EVERY_TABLE))
        node.damage(table, "b", length=length)
        await node.put(NODE_FACTS, {"id": ["c", "revoked", "5"]})
        await node.until(lambda: "c" in node.watch.membership.facts.revoked)
        assert code(node) is None
        assert (wanted(node), node.watch.may_subscribe("b", "data", EVERY_TABLE)) == before


@pytest.mark.parametrize(
    "fields",
    [
        {"replicates": "perhaps"},
        {"url": 5},
        {"shard": "one"},
        {"epoch": -1},
        {"epoch": "1"},
        {"revoked_certificates": "all"},
        {"databases": 7},
        {"name": "b", "url": None},
        {"ca": []},
    ],
    ids=lambda fields: repr(fields)[:30],
)
async def test_a_strange_field_of_a_patched_row_drops_nobody(
    fields: dict[str, Any], tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        await node.put(NODES, {**await row(node, "b"), **fields})
        await trio.sleep(1)
        assert (wanted(node), code(node)) == (["b"], None)
        assert node.watch.may_subscribe("b", "data", EVERY_TABLE) is None


async def test_a_row_with_the_name_alone_takes_no_connection_away(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What it was said to be is no longer said, so nothing flows; it was not removed."""
    async with watched(tmp_path) as node:
        await node.add("b")
        await node.put(NODES, {"name": "b"})
        await trio.sleep(1)
        assert code(node) is None


async def test_a_reload_of_the_whole_table_drops_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        rows = [await row(node, name) for name in ("a", "b")]

        await node.write(lambda tx: tx.drop_table(tx.table(NODES)))
        await trio.sleep(1)
        assert (wanted(node), code(node)) == (["b"], None)
        await node.write(lambda tx: tx.create_table(definition_of(NODES)))
        for one in rows:
            await node.put(NODES, one)
        await trio.sleep(1)
        assert (wanted(node), code(node)) == (["b"], None)


# -- checks -----------------------------------------------------------------------------------------------------------


async def test_a_revoked_certificate_is_turned_away_and_may_come_back_with_another(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        before = len(node.changes)
        await node.revoke("b", SERIAL)
        await node.until(lambda: len(node.changes) > before)
        refusal = node.watch.refusal(CERTIFIED, "b", "control")
        assert refusal is not None
        assert (refusal.code, refusal.reason, refusal.is_final) == (
            "revoked",
            "certificate 1234 of b is revoked",
            False,
        )
        assert code(node, PeerIdentity(name="b", address="192.0.2.7", serial=SERIAL + 1)) is None


async def test_a_row_that_no_longer_lists_a_serial_number_revokes_it_still(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        await node.revoke("b", SERIAL)
        await node.put(NODES, {**await row(node, "b"), "revoked_certificates": []})
        await trio.sleep(1)
        assert code(node) == "revoked"


async def test_a_removed_peer_is_turned_away_for_good(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        await node.remove("b")
        refusal = node.watch.refusal(CERTIFIED, "b", "stream")
        assert refusal is not None and (refusal.code, refusal.is_final) == ("removed", True)
        assert node.watch.may_subscribe("b", "data", EVERY_TABLE) is not None


async def test_an_older_row_does_not_bring_a_removed_peer_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        old = await row(node, "b")
        await node.remove("b")
        await node.put(NODES, old)
        await trio.sleep(1)
        assert (wanted(node), code(node)) == ([], "removed")


async def test_a_fact_alone_removes_a_peer(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        await node.put(NODE_FACTS, {"id": ["b", "removed", 1]})
        await node.until(lambda: code(node) == "removed")


async def test_a_certificate_counts_until_it_ends(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        now_s = node.catalog.clock() / 1e6
        peer = PeerIdentity(name="b", address="192.0.2.7", serial=SERIAL, not_after_s=now_s + 100)
        assert code(node, peer) is None
        await trio.sleep(101)
        assert code(node, peer) == "auth"


async def test_a_join_gets_a_control_connection_and_no_stream(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        assert code(node, JOINING, "new", "control") is None
        assert code(node, JOINING, "new", "stream") == "unknown-node"


async def test_a_peer_with_retained_credentials_is_who_its_greeting_names_if_there_is_a_row(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        assert code(node, JOINING, "b", "stream") is None
        await node.write(lambda tx: remove_member(tx, "b"))
        await node.until(lambda: code(node, JOINING, "b", "stream") == "removed")


async def test_without_certificate_or_credentials_there_is_no_connection_of_any_kind(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with watched(tmp_path) as node:
        await node.add("b")
        nobody = PeerIdentity(name=None, address="192.0.2.7")
        assert {code(node, nobody, "b", kind) for kind in ("control", "stream")} == {"auth"}


async def test_the_node_itself_is_no_peer(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with watched(tmp_path) as node:
        assert code(node, PeerIdentity(name="a", address="192.0.2.7"), "a") == "unknown-node"
