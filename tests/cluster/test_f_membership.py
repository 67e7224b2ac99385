"""Membership: group F of the reliability scenarios."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.cluster.cluster import PORT, Cluster, members
from tests.cluster.comparison import contents, wait_until, wait_until_equal
from tests.cluster.ledger import Ledger, Load, watching_pairs, writing
from tests.node_process import NodeProcess

NewCluster = Callable[..., Cluster]
ADDED = "Successfully added '{}' to cluster"


def flows(cluster: Cluster, table: str, *names: str) -> None:
    """Each of these nodes writes a row, and all show all of them."""
    nodes = [cluster[name] for name in names] or list(cluster)
    for node in nodes:
        node.upsert(table, {"id": f"from {node.name}"})
    wait_until(
        lambda: all((contents(node, table) or {}).keys() >= {f"from {it.name}" for it in nodes} for node in nodes),
        f"writes of {[node.name for node in nodes]} are everywhere",
    )


def test_f1_two_nodes_that_add_each_other_at_once_are_linked_once(new_cluster: NewCluster) -> None:
    """F1: A and B fresh, both run add_node for each other at once. One record each, one stream per direction and
    database, one copy.
    """
    cluster = new_cluster("ab")
    cluster.start()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(cluster.join, "ab", "ba"))
    assert {status for status, _ in answers} == {200}, answers
    for node in cluster:
        assert members(node) == {"a", "b"}
    cluster["a"].create_table("f1")
    wait_until_equal(list(cluster), "f1", count=0)
    flows(cluster, "f1")
    cluster.wait_until_linked()
    cluster.finish("f1")


def test_f2_a_join_whose_answer_is_lost_can_be_repeated(new_cluster: NewCluster) -> None:
    """F2: answer lost, target dies. The joining node unchanged or complete; repeat works."""
    cluster = new_cluster("ab")
    cluster.start()
    a, b = cluster
    a.create_table("f2")
    for count in (0, 1000, 2500, 4000, 6000):
        cluster.network.cut_after("a", "b", count)
        status, body = cluster.join("b", "a")
        assert status in (200, 500), body
        assert members(b) in (set(), {"b"}, {"a", "b"}), "nothing half"
        assert status == 500 or members(b) == {"a", "b"}
    a.kill()
    status, body = cluster.join("b", "a")
    assert status == 500 or " but there was an error updating target node" in body["message"], body
    a.start()
    cluster.network.heal_all()
    assert cluster.join("b", "a") == (200, {"message": ADDED.format("a")})
    wait_until_equal([a, b], "f2", count=0)
    flows(cluster, "f2")
    cluster.finish("f2")


def test_f3_a_node_that_was_removed_while_it_was_down_is_refused(new_cluster: NewCluster) -> None:
    """F3: remove_node while B is down; B returns. Refused with reason; no data either way; re-add without restart."""
    cluster = new_cluster("abc")
    a, b, c = cluster.form()
    cluster.make_tables("f3")
    flows(cluster, "f3")
    b.kill()
    assert a.post(operation="remove_node", hostname="b") == {"message": "Successfully removed 'b' from cluster"}
    wait_until(lambda: "b" not in members(c), "c has heard of it")
    heard = len(b.log())
    b.start()
    a.upsert("f3", {"id": "after it, on a"})
    b.upsert("f3", {"id": "after it, on b"})
    wait_until(
        lambda: all(f"link to '{other}'" in b.log()[heard:] for other in "ac"), "b is refused by both and says so"
    )
    wait_until_equal([a, c], "f3", count=4)
    assert "after it, on b" not in (contents(a, "f3") or {})
    assert "after it, on a" not in (contents(b, "f3") or {})
    assert "b" not in members(a) | members(c)
    assert cluster.join("b", "a") == (200, {"message": ADDED.format("a")})
    wait_until_equal([a, b, c], "f3", count=5)
    cluster.finish("f3")


def test_f4_removing_one_of_three_leaves_the_others_alone(new_cluster: NewCluster) -> None:
    """F4: 3 nodes, heavy stream, remove_node of one. Other link not disturbed; survives restart; not resurrected."""
    cluster = new_cluster("abc")
    a, b, c = cluster.form()
    cluster.make_tables("f4")
    load = Load(table="f4")
    ledger = Ledger()
    with writing(ledger, [a, b], load) as writers, watching_pairs([a, b], load):
        writers.wait_for(50, a, b)
        heard = (len(a.log()), len(b.log()))
        a.post(operation="remove_node", hostname="c")
        writers.wait_for(100, a, b)
        wait_until(lambda: "c" not in members(b), "b has heard of it")
    wait_until_equal([a, b], "f4", ledger=ledger)
    assert "link to 'b'" not in a.log()[heard[0] :]
    assert "link to 'a'" not in b.log()[heard[1] :]
    wait_until(lambda: not any(cluster.network.open_connections(one, other) for one, other in ("ac", "bc")), "no link")
    for node in (a, b, c):
        node.restart()
    c.upsert("f4", {"id": -1})
    a.upsert("f4", {"id": -2})
    wait_until_equal([a, b], "f4")
    assert (-1 in (contents(a, "f4") or {}), -2 in (contents(c, "f4") or {})) == (False, False)
    assert members(a) == members(b) == {"a", "b"}


def test_f5_nodes_added_each_through_another_make_a_full_mesh(new_cluster: NewCluster) -> None:
    """F5: 5 nodes, each added via another member. Full mesh by gossip in bounded time, no storm."""
    cluster = new_cluster("abcde")
    cluster.start()
    cluster["a"].create_table("f5")
    for name, via in ("ba", "cb", "dc", "ed"):
        assert cluster.join(name, via) == (200, {"message": ADDED.format(via)})
    cluster.wait_until_known()
    wait_until_equal(list(cluster), "f5", count=0)
    cluster.wait_until_linked()
    flows(cluster, "f5")
    assert sum(cluster.network.dialled(name) for name in "abcde") < 5 * 20, "a storm"
    cluster.finish("f5")


def test_f6_a_node_that_was_renamed_does_not_take_part_and_says_so(new_cluster: NewCluster) -> None:
    """F6: hostname in config changed; restart. Loud refusal to run under an unknown identity."""
    cluster = new_cluster("ab")
    a, b = cluster.form()
    cluster.make_tables("f6")
    flows(cluster, "f6")
    b.stop()
    b.settings["replication.hostname"] = "other"
    b.start()
    wait_until(lambda: "renamed" in b.log(), "it says that it was renamed", within_s=10)
    b.upsert("f6", {"id": "under another name"})
    assert members(a) == {"a", "b"}
    b.stop()
    b.settings["replication.hostname"] = "b"
    b.start()
    flows(cluster, "f6")
    wait_until_equal([a, b], "f6", count=3)


def test_f7_a_node_knows_itself_and_its_peers_under_other_addresses(new_cluster: NewCluster) -> None:
    """F7: alias URL of the node itself, or two URLs for one node. Recognised, no self loop, no double stream."""
    cluster = new_cluster("ab")
    a, b = cluster.form()
    cluster.make_tables("f7")
    credentials = {"username": a.username, "password": a.password}
    common: dict[str, Any] = {"operation": "add_node", "verify_tls": False, "authorization": credentials}
    for own in ({"hostname": "a"}, {"url": a.url_for_peers}, {"hostname": "a", "url": b.url_for_peers}):
        response = a.request({**common, **own})
        assert (response.status_code, response.json()) == (400, {"error": "'hostname' cannot be this nodes name"}), own
    for alias in ({"hostname": "alias", "url": a.url_for_peers}, {"url": f"wss://{a.address}:{PORT}"}):
        response = a.request({**common, **alias})
        assert response.status_code in (400, 500), f"{alias}: {response.text}"
    for other in ({"hostname": "b", "url": f"wss://{b.address}:{PORT}"}, {"url": f"wss://{b.address}:{PORT}"}):
        a.request({**common, **other})
        assert members(a) == members(b) == {"a", "b"}, other
    flows(cluster, "f7")
    cluster.wait_until_linked()


def test_f8_configuring_a_cluster_again_changes_nothing_and_one_bad_peer_is_reported(new_cluster: NewCluster) -> None:
    """F8: configure_cluster twice, then with one bad peer. No copies on repeat; partial result as specified."""
    cluster = new_cluster("abc")
    cluster.start()
    a = cluster["a"]
    a.create_table("f8")
    a.upsert("f8", *({"id": f"{n}", "text": f"{n}" * 200} for n in range(1000)))
    wanted = [without_operation(cluster.join_request(name)) for name in "bc"]
    expected = {
        "message": "Cluster successfully configured.",
        "connections": [{"node_name": name, "response": {"message": ADDED.format(name)}} for name in "bc"],
    }
    assert a.post(operation="configure_cluster", connections=wanted) == expected
    wait_until_equal(list(cluster), "f8", count=1000)
    flows(cluster, "f8")
    before = cluster.traffic("a", "b")
    assert a.post(operation="configure_cluster", connections=wanted) == expected
    flows(cluster, "f8")
    assert cluster.traffic("a", "b") - before < before / 4, "nothing was copied again"
    bad = {**wanted[1], "hostname": "nobody", "url": f"wss://{a.address}:1"}
    answer = a.post(operation="configure_cluster", connections=[wanted[0], bad])
    assert answer["message"].startswith(
        "Configure cluster was partially successful."
    ) or "but there was an error" in str(answer["connections"])
    wait_until(lambda: "c" not in members(a), "c is no longer in the list")
    flows(cluster, "f8", "a", "b")


def without_operation(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "operation"}


def test_f12_a_replicated_operation_reports_every_peer_that_it_did_not_reach(new_cluster: NewCluster) -> None:
    """F12: replicated: true with zero reachable peers. Peers listed as failed; never silent success."""
    cluster = new_cluster("abc")
    a, b, c = cluster.form()
    cluster.make_tables("f12", "f12_all", "f12_some")
    cluster.wait_until_linked()
    assert nodes_of(a, "f12_all", failed=set()) == {"b", "c"}
    b.kill()
    assert nodes_of(a, "f12_some", failed={"b"}) == {"b", "c"}
    c.kill()
    assert nodes_of(a, "f12", failed={"b", "c"}) == {"b", "c"}


def nodes_of(node: NodeProcess, table: str, *, failed: set[str]) -> set[str]:
    """Drop a table everywhere; the nodes in the answer, after a look at which of them failed."""
    answers = node.post(operation="drop_table", database="data", table=table, replicated=True)["replicated"]
    assert {one["node"] for one in answers if one.get("status") == "failed"} == failed
    assert all(one["reason"] for one in answers if one.get("status") == "failed")
    return {one["node"] for one in answers}


def test_a_new_cluster_without_peers_answers_an_empty_list(new_cluster: NewCluster) -> None:
    """07 1.9: with no peers "replicated" is an empty list."""
    cluster = new_cluster("a")
    cluster.start()
    cluster["a"].create_table("t")
    assert nodes_of(cluster["a"], "t", failed=set()) == set()
