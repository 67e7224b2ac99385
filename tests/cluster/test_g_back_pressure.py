"""Back-pressure and memory: group G of the reliability scenarios."""

import json
from collections.abc import Callable

import psutil
import pytest

from tests.cluster.cluster import Cluster, ClusterNode
from tests.cluster.comparison import contents, wait_until, wait_until_equal

NewCluster = Callable[..., Cluster]
MEGABYTE = 1_000_000


def anonymous_bytes(node: ClusterNode) -> int:
    """Memory that is not the database file's."""
    memory = psutil.Process(node.pid).memory_info()
    return int(memory.rss - memory.shared)


@pytest.mark.parametrize("megabytes", [30, pytest.param(300, marks=pytest.mark.long)])
def test_g1_a_slow_peer_costs_the_sender_no_memory(new_cluster: NewCluster, megabytes: int) -> None:
    """G1: fast producer, peer throttled to 100 kB/s. Sender RSS flat; peer converges afterwards."""
    cluster = new_cluster("ab")
    a, b = cluster.form()
    cluster.make_tables("g1")
    for n in range(5):
        a.upsert("g1", *({"id": f"warm {n} {m}", "text": "x" * 10_000} for m in range(100)))
    wait_until_equal([a, b], "g1", count=500)
    before = anonymous_bytes(a)
    cluster.network.throttle("a", "b", 100_000)
    for n in range(megabytes):
        a.upsert("g1", *({"id": f"{n} {m}", "text": f"{n}" * 5000} for m in range(100)))
    grown = anonymous_bytes(a) - before
    assert grown < 25 * MEGABYTE, f"{grown / MEGABYTE:.0f} MB more"
    cluster.network.heal("a", "b")
    wait_until_equal([a, b], "g1", count=500 + 100 * megabytes)
    cluster.finish("g1")


def test_g3_a_transaction_above_the_limit_is_refused_whole(new_cluster: NewCluster) -> None:
    """G3: one transaction above maxPayload. 413, nothing written."""
    cluster = new_cluster("ab", replication__maxPayload=1_048_576)
    a, b = cluster.form()
    cluster.make_tables("g3")
    records = [{"id": n, "text": "x" * 100_000} for n in range(20)]
    response = a.request({"operation": "insert", "database": "data", "table": "g3", "records": records})
    assert response.status_code == 413, response.text
    assert "1048576" in response.text
    a.upsert("g3", {"id": "small"})
    wait_until_equal([a, b], "g3", count=1)
    cluster.finish("g3")


def test_g3_a_large_transaction_on_a_slow_line_does_not_make_the_link_look_dead(new_cluster: NewCluster) -> None:
    """G3: one large transaction over a slow line that takes longer than pingTimeout. Arrives, link not taken for dead."""
    cluster = new_cluster("ab", replication__pingTimeout=1000, replication__pingInterval=400)
    a, b = cluster.form()
    cluster.make_tables("g3")
    heard = {node.name: len(node.log()) for node in cluster}
    cluster.network.throttle("a", "b", 1_500_000)
    a.upsert("g3", *({"id": n, "text": "x" * 100_000} for n in range(60)))
    wait_until_equal([a, b], "g3", count=60)
    for node in cluster:
        assert "link to" not in node.log()[heard[node.name] :]
    cluster.finish("g3")


def test_g4_an_entry_that_the_peer_does_not_take_holds_back_those_behind_it(new_cluster: NewCluster) -> None:
    """G4: one entry above the peer's maxPayload, followed by small ones. Link blocked before it with reason; later ones
    do not overtake; unblocks after raising the limit.
    """
    cluster = new_cluster()
    a = cluster.add("a")
    b = cluster.add("b", replication__maxPayload=1_048_576)
    cluster.form()
    cluster.make_tables("g4", "g4_other")
    a.upsert("g4", {"id": "first"})
    a.upsert("g4", {"id": "large", "text": "x" * 2_000_000})
    a.upsert("g4", {"id": "after"})
    wait_until(lambda: "first" in (contents(b, "g4") or {}), "what came before it arrives")
    b.upsert("g4", {"id": "from b"})
    wait_until(lambda: "from b" in (contents(a, "g4") or {}), "the other direction flows")
    assert set(contents(b, "g4") or {}) == {"first", "from b"}
    b.stop()
    b.settings["replication.maxPayload"] = 100_000_000
    b.start()
    wait_until_equal([a, b], "g4", count=4)
    cluster.finish("g4")


def test_a_value_of_many_megabytes_is_the_same_everywhere(new_cluster: NewCluster) -> None:
    """G3: ... arrives."""
    cluster = new_cluster("ab")
    a, b = cluster.form()
    cluster.make_tables("large")
    a.upsert("large", {"id": 1, "text": json.dumps(list(range(1_000_000)))})
    wait_until_equal([a, b], "large", count=1)
    cluster.finish("large")
