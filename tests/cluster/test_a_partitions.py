"""Partition and heal: group A of the reliability scenarios."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.comparison import contents, wait_until, wait_until_equal
from tests.cluster.ledger import Ledger, Load, watching_pairs, writing
from tests.node_process import NodeProcess

ANSWER_S_MAX = 5.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("a"), "ab") as running:
        yield running


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("a"), "abc") as running:
        yield running


def test_a1_disjoint_writes_during_a_cut_are_united(cluster: Cluster) -> None:
    """A1: steady disjoint writes on both; cut, heal. Union on both; no copy, only log catch-up."""
    a, b = cluster
    load = Load(table="a1")
    ledger = Ledger()
    cluster.make_tables("a1", "a1_ballast")
    a.upsert("a1_ballast", *({"id": n, "text": f"{n}" * 300} for n in range(5000)))
    wait_until_equal([a, b], "a1_ballast", count=5000)
    copy_bytes = cluster.traffic("a", "b")
    with writing(ledger, [a, b], load) as writers, watching_pairs([a, b], load):
        writers.wait_for(50, a, b)
        cluster.network.cut("a", "b")
        before = cluster.traffic("a", "b")
        writers.wait_for(100, a, b)
        assert cluster.traffic("a", "b") == before
    cluster.network.heal("a", "b")
    wait_until_equal([a, b], "a1", ledger=ledger)
    assert cluster.traffic("a", "b") - before < copy_bytes / 2, "so many bytes are those of a copy"


def test_a2_both_sides_of_a_cut_write_the_same_keys(cluster: Cluster) -> None:
    """A2: same keys written on both sides; cut, heal. Same winner everywhere; loser readable in both audit logs."""
    a, b = cluster
    load = Load(table="a2", pairs=50, shared=True)
    ledger = Ledger()
    cluster.make_tables("a2")
    with writing(ledger, [a, b], load) as writers, watching_pairs([a, b], load):
        writers.wait_for(50, a, b)
        cluster.network.cut("a", "b")
        writers.wait_for(100, a, b)
    cluster.network.heal("a", "b")
    wait_until_equal([a, b], "a2", ledger=ledger)


@pytest.mark.xfail(
    strict=True,
    reason="read_audit_log by hash_value leaves out a write that had lost when it arrived; without keys it is listed",
)
def test_a2_the_loser_of_a_conflict_is_in_the_history_of_its_record_on_both(cluster: Cluster) -> None:
    """A2: ... loser readable in both audit logs."""
    a, b = cluster
    cluster.make_tables("a2_history")
    cluster.network.cut("a", "b")
    a.upsert("a2_history", {"id": 1, "value": "loser"})
    b.upsert("a2_history", {"id": 1, "value": "winner"})
    cluster.network.heal("a", "b")
    assert [record["value"] for record in wait_until_equal([a, b], "a2_history").values()] == ["winner"]
    wait_until(lambda: len(log_of(b, "a2_history")) == 2, "the loser has arrived")
    assert logged(a, "a2_history") == logged(b, "a2_history") == ["loser", "winner"]


def log_of(node: NodeProcess, table: str) -> list[dict[str, Any]]:
    return list(node.post(operation="read_audit_log", database="data", table=table))


def logged(node: NodeProcess, table: str) -> list[str]:
    """Every value that was written to record 1 of the table, sorted."""
    history = node.post(
        operation="read_audit_log", database="data", table=table, search_type="hash_value", search_values=[1]
    )
    return sorted(record["value"] for entry in history["1"] for record in entry["records"])


def test_a3_two_nodes_that_are_cut_off_exchange_through_a_third(mesh: Cluster) -> None:
    """A3: only A-B cut, C sees both. A and B keep exchanging through C; on heal each entry is applied once."""
    a, b, c = mesh
    load = Load(table="a3")
    ledger = Ledger()
    mesh.make_tables("a3", "a3_single")
    with writing(ledger, [a, b, c], load) as writers, watching_pairs([a, b, c], load):
        writers.wait_for(50, a, b)
        mesh.network.cut("a", "b")
        writers.wait_for(50, a, b, c)
    a.upsert("a3_single", {"id": 1, "value": "through c"})
    wait_until_equal([a, b, c], "a3", ledger=ledger)
    mesh.network.heal("a", "b")
    wait_until_equal([a, b, c], "a3_single", count=1)
    for node in mesh:
        assert logged(node, "a3_single") == ["through c"], f"{node.name} has it in its log once"


def test_a4_one_direction_loses_everything(cluster: Cluster) -> None:
    """A4: one direction loses everything. Both sides drop within pingTimeout; status false on both; nothing
    lost.
    """
    a, b = cluster
    load = Load(table="a4", pause_s=0.005)
    ledger = Ledger()
    cluster.make_tables("a4")
    with writing(ledger, [a, b], load) as writers, watching_pairs([a, b], load):
        writers.wait_for(20, a, b)
        heard = {node.name: len(node.log()) for node in cluster}
        cluster.network.lose("a", "b")
        for node, other in ((a, "b"), (b, "a")):
            wait_until(
                lambda node=node, other=other: f"link to '{other}'" in node.log()[heard[node.name] :],
                f"{node.name} drops {other}",
            )
            wait_until(
                lambda node=node, other=other: not any(is_connected(node, other)),
                f"{node.name} says that {other} is gone",
            )
        writers.wait_for(20, a, b)
        cluster.network.heal("a", "b")
        writers.wait_for(20, a, b)
    wait_until_equal([a, b], "a4", ledger=ledger)
    wait_until(lambda: all(is_connected(a, "b") + is_connected(b, "a")), "both say that they are linked")


def is_connected(node: NodeProcess, other: str) -> list[bool]:
    """What a node says of its links to another one, a word for each database."""
    connections = {one["name"]: one for one in node.post(operation="cluster_status")["connections"]}
    return [one["connected"] for one in connections[other]["database_sockets"]]


def test_a5_a_peer_vanishes_without_a_word(mesh: Cluster) -> None:
    """A5: peer vanishes without FIN (blackhole) while busy. Detection within pingTimeout, even with full send buffer;
    other links and HTTP unaffected.
    """
    a, b, c = mesh
    mesh.make_tables("a5")
    heard = len(a.log())
    for other in "ac":
        mesh.network.blackhole("b", other)
    for n in range(20):
        began = time.monotonic()
        a.upsert("a5", *({"id": f"{n}-{m}", "text": "x" * 50_000} for m in range(20)))
        assert time.monotonic() - began < ANSWER_S_MAX
    wait_until_equal([a, c], "a5", count=400)
    wait_until(lambda: "link to 'b'" in a.log()[heard:], "a drops b")
    assert "link to 'c'" not in a.log()[heard:]
    mesh.network.heal_all()
    wait_until_equal([a, b, c], "a5", count=400)


def test_a6_a_link_that_flaps_still_moves_on(cluster: Cluster) -> None:
    """A6 in short: link flaps. Position grows, no full copy, no growth of files and connections."""
    a, b = cluster
    load = Load(table="a6", pause_s=0.002)
    ledger = Ledger()
    cluster.make_tables("a6")
    with writing(ledger, [a, b], load) as writers, watching_pairs([a, b], load):
        for _ in range(6):
            writers.wait_for(30, a, b)
            cluster.network.reset("a", "b")
    wait_until_equal([a, b], "a6", ledger=ledger)
    wait_until(lambda: cluster.network.open_connections("a", "b") <= 5, "old connections end")


def test_a8_leaves_behind_a_hub_get_each_others_writes(new_cluster: Callable[..., Cluster]) -> None:
    """A8: hub and leaves, system not replicated; hub killed while leaves write, returns. All equal through relaying,
    also a later new node behind the hub.
    """
    cluster = new_cluster("hxyz", replication__databases='["data"]')
    cluster.start("h", "x", "y")
    for leaf in "xy":
        assert cluster.join(leaf, "h")[0] == 200
    cluster["h"].create_table("a8")
    nodes = [cluster[name] for name in "hxy"]
    wait_until_equal(nodes, "a8", count=0)
    load = Load(table="a8")
    ledger = Ledger()
    with writing(ledger, [cluster["x"], cluster["y"]], load) as writers, watching_pairs(nodes, load):
        writers.wait_for(50, cluster["x"], cluster["y"])
        cluster["h"].kill()
        writers.wait_for(50, cluster["x"], cluster["y"])
        cluster["h"].start()
    wait_until_equal(nodes, "a8", ledger=ledger)
    cluster.start("z")
    assert cluster.join("z", "h")[0] == 200
    wait_until_equal(list(cluster), "a8", ledger=ledger)
    cluster["z"].upsert("a8", {"id": -1, "from": "z"})
    wait_until(lambda: -1 in (contents(cluster["x"], "a8") or {}), "a leaf has what the newest wrote")
    cluster.finish("a8")


def test_http_is_answered_while_every_peer_is_silent(mesh: Cluster) -> None:
    """A5: ... HTTP unaffected: no request waits for a peer."""
    mesh.make_tables("a5_http")
    for other in "bc":
        mesh.network.blackhole("a", other)
    with httpx.Client(verify=False, auth=(mesh["a"].username, mesh["a"].password), timeout=ANSWER_S_MAX) as http:
        for n in range(50):
            body = {"operation": "upsert", "database": "data", "table": "a5_http", "records": [{"id": n}]}
            assert http.post(mesh["a"].url(), json=body).status_code == 200
    mesh.network.heal_all()
    wait_until_equal(list(mesh), "a5_http", count=50)
