"""Crash windows: group B of the reliability scenarios."""

import random
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.comparison import check_files, wait_until, wait_until_equal
from tests.cluster.ledger import Ledger, Load, watching_pairs, writing


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("b"), "abc") as running:
        yield running


def test_b3_a_write_that_was_acknowledged_before_a_crash_is_sent_without_another_one(cluster: Cluster) -> None:
    """B3: kill after ack, before send; no further local write. Peers receive it after restart although nothing new is
    written.
    """
    a, b, c = cluster
    cluster.make_tables("b3")
    for other in "bc":
        cluster.network.cut("a", other)
    a.upsert("b3", {"id": 1, "value": "not sent"})
    a.kill()
    cluster.network.heal_all()
    a.start()
    wait_until_equal([a, b, c], "b3", count=1)


def test_b4_what_was_sent_but_not_confirmed_is_applied_once(cluster: Cluster) -> None:
    """B4: kill after send, before the peer's ack. Resent, recognised as duplicate, applied once."""
    a, b, c = cluster
    cluster.make_tables("b4")
    cluster.network.cut("a", "c")
    cluster.network.lose("b", "a")
    a.upsert("b4", {"id": 1, "value": "not confirmed"})
    wait_until_equal([b], "b4", count=1)
    a.kill()
    cluster.network.heal_all()
    a.start()
    a.upsert("b4", {"id": 2, "value": "afterwards"})
    wait_until_equal([a, b, c], "b4", count=2)
    for node in cluster:
        history = node.post(
            operation="read_audit_log", database="data", table="b4", search_type="hash_value", search_values=[1]
        )
        assert len(history["1"]) == 1, f"{node.name} has logged it more than once: {history}"


@pytest.mark.parametrize("cycles", [4, pytest.param(200, marks=pytest.mark.long)])
def test_b8_nodes_killed_at_random_under_load(cluster: Cluster, cycles: int) -> None:
    """B8: random SIGKILL under load. I1-I6 at the end and O3 after each restart."""
    table = f"b8_{cycles}"
    cluster.make_tables(table)
    generator = random.Random(cycles)
    own, shared = Ledger(), Ledger()
    cluster.make_tables(f"{table}_shared")
    of_its_own = Load(table=table)
    of_all = Load(table=f"{table}_shared", shared=True)
    nodes = list(cluster)
    with (
        writing(own, nodes, of_its_own) as writers,
        writing(shared, nodes, of_all),
        watching_pairs(nodes, of_its_own),
        watching_pairs(nodes, of_all),
    ):
        for _ in range(cycles):
            writers.wait_for(generator.randrange(20, 150))
            victim = generator.choice(nodes)
            victim.kill()
            check_files({victim.name: victim.root})
            victim.start()
            writers.wait_for(10, victim)
    wait_until_equal(nodes, table, ledger=own)
    wait_until_equal(nodes, f"{table}_shared", ledger=shared)


def test_b10_a_join_that_was_interrupted_is_repaired_by_repeating_it(new_cluster: Callable[..., Cluster]) -> None:
    """B10: kill during the join, on either side. Repeating add_node repairs."""
    cluster = new_cluster("ab")
    cluster.start()
    cluster["a"].create_table("b10")
    for victim in "ba":
        cluster.network.cut_after("b", "a", 4000)
        cluster.join("b", "a")
        cluster[victim].kill()
        cluster[victim].start()
    wait_until(
        lambda: cluster.join("b", "a")[1].get("message") == "Successfully added 'a' to cluster", "the join works"
    )
    cluster["a"].upsert("b10", {"id": 1})
    wait_until_equal(list(cluster), "b10", count=1)
    cluster["b"].upsert("b10", {"id": 2})
    wait_until_equal(list(cluster), "b10", count=2)
    cluster.finish()
