"""Restarts and operations: group M of the reliability scenarios."""

import shutil
from collections.abc import Callable

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.comparison import wait_until_equal
from tests.cluster.ledger import Ledger, Load, watching_pairs, writing

NewCluster = Callable[..., Cluster]


@pytest.mark.parametrize(("names", "rounds"), [("abc", 1), pytest.param("abcd", 3, marks=pytest.mark.long)])
def test_m1_a_rolling_restart_under_load_loses_and_doubles_nothing(
    new_cluster: NewCluster, names: str, rounds: int
) -> None:
    """M1: nodes under load, rolling restart. No lost or doubled write, each back in bounded time."""
    cluster = new_cluster(names)
    nodes = list(cluster.form())
    cluster.make_tables("m1", "m1_shared")
    own, shared = Ledger(), Ledger()
    load, load_of_all = Load(table="m1"), Load(table="m1_shared", shared=True)
    with (
        writing(own, nodes, load) as writers,
        writing(shared, nodes, load_of_all),
        watching_pairs(nodes, load),
        watching_pairs(nodes, load_of_all),
    ):
        for _ in range(rounds):
            for node in nodes:
                writers.wait_for(20, *nodes)
                node.restart()
    wait_until_equal(nodes, "m1", ledger=own)
    wait_until_equal(nodes, "m1_shared", ledger=shared)
    cluster.finish()


def test_m4_nodes_that_are_stopped_while_they_stream_and_copy_go_on_afterwards(new_cluster: NewCluster) -> None:
    """M4: graceful stop while streaming and copying. No loss, resume without copy."""
    cluster = new_cluster("ab")
    a, b = cluster
    cluster.start()
    a.create_table("m4")
    a.create_table("m4_live")
    for n in range(10):
        a.upsert("m4", *({"id": 1000 * n + m, "text": f"{m}" * 100} for m in range(1000)))
    load = Load(table="m4_live")
    ledger = Ledger()
    with writing(ledger, [a], load) as writers, watching_pairs([a], load):
        assert cluster.join("b", "a")[0] == 200
        cluster.wait_until_carried("a", "b", 200_000)
        b.restart()
        writers.wait_for(50)
    wait_until_equal([a, b], "m4", count=10_000)
    wait_until_equal([a, b], "m4_live", ledger=ledger)
    copied = cluster.traffic("a", "b")
    with writing(ledger, [a, b], Load(table="m4_live", shared=True, pairs=30)) as writers:
        writers.wait_for(50, a, b)
        b.restart()
        writers.wait_for(50, a, b)
    wait_until_equal([a, b], "m4_live", ledger=ledger)
    assert cluster.traffic("a", "b") - copied < copied / 2, "no copy was made again"
    cluster.finish()


def test_m5_a_database_file_that_was_put_back_does_not_lose_what_is_written_to_it(new_cluster: NewCluster) -> None:
    """M5: database file put back from an older backup on one node; node writes before it meets a peer. New incarnation;
    peers accept later writes; node gets back what it lost.
    """
    cluster = new_cluster("ab")
    a, b = cluster.form()
    cluster.make_tables("m5")
    b.upsert("m5", {"id": 1})
    wait_until_equal([a, b], "m5", count=1)
    b.stop()
    file = b.root / "database" / "data" / "data.mdb"
    backup = b.root / "backup.mdb"
    shutil.copy(file, backup)
    b.start()
    for key in range(2, 12):
        b.upsert("m5", {"id": key, "value": "lost with the file"})
    wait_until_equal([a, b], "m5", count=11)
    b.stop()
    shutil.move(backup, file)
    cluster.network.cut("a", "b")
    b.start()
    for key in range(20, 25):
        b.upsert("m5", {"id": key, "value": "written before it met a peer"})
    a.upsert("m5", {"id": 30})
    cluster.network.heal("a", "b")
    assert wait_until_equal([a, b], "m5", count=17).keys() == {*range(1, 12), *range(20, 25), 30}
    b.upsert("m5", {"id": 31})
    wait_until_equal([a, b], "m5", count=18)
    cluster.finish("m5")
