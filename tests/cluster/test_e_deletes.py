"""Deletes and drops: group E of the reliability scenarios."""

from collections.abc import Callable, Iterator

import pytest

from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.comparison import contents, wait_until, wait_until_equal
from tests.node_process import NodeProcess


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("e"), "ab") as running:
        yield running


def delete(node: NodeProcess, table: str, *keys: int) -> None:
    node.post(operation="delete", database="data", table=table, ids=list(keys))


def test_e1_a_delete_reaches_a_node_that_was_down(cluster: Cluster) -> None:
    """E1: key on A and B; B down; delete on A, B returns. Gone on both, never re-sent by B."""
    a, b = cluster
    cluster.make_tables("e1")
    a.upsert("e1", {"id": 1}, {"id": 2})
    wait_until_equal([a, b], "e1", count=2)
    b.kill()
    delete(a, "e1", 1)
    b.start()
    b.upsert("e1", {"id": 3})
    assert wait_until_equal([a, b], "e1", count=2).keys() == {2, 3}


def test_e2_an_update_after_a_delete_brings_the_whole_record_back(cluster: Cluster) -> None:
    """E2: as E1, B updates after A's delete before reconnecting. Update wins on both with the whole record."""
    a, b = cluster
    cluster.make_tables("e2")
    a.upsert("e2", {"id": 1, "kept": "x", "changed": "old"})
    wait_until_equal([a, b], "e2", count=1)
    cluster.network.cut("a", "b")
    delete(a, "e2", 1)
    b.post(operation="update", database="data", table="e2", records=[{"id": 1, "changed": "new"}])
    cluster.network.heal("a", "b")
    record = wait_until_equal([a, b], "e2", count=1)[1]
    assert (record["kept"], record["changed"]) == ("x", "new")


def test_e2_a_delete_after_an_update_wins(cluster: Cluster) -> None:
    """E2, the other way round: B updates before A's delete, without A's knowing. The delete wins on both."""
    a, b = cluster
    cluster.make_tables("e2_reverse")
    a.upsert("e2_reverse", {"id": 1, "value": "old"}, {"id": 2})
    wait_until_equal([a, b], "e2_reverse", count=2)
    cluster.network.cut("a", "b")
    b.post(operation="update", database="data", table="e2_reverse", records=[{"id": 1, "value": "new"}])
    delete(a, "e2_reverse", 1)
    cluster.network.heal("a", "b")
    assert wait_until_equal([a, b], "e2_reverse", count=1).keys() == {2}


def test_e7_a_table_dropped_on_one_node_stays_away_until_it_is_created_there(
    new_cluster: Callable[..., Cluster],
) -> None:
    """E7: drop_table on one node only, peers keep writing. Not re-created by data; later local create works; no link
    crash.
    """
    cluster = new_cluster("ab")
    a, b = cluster.form()
    cluster.make_tables("e7", "e7_canary")
    b.upsert("e7", {"id": 1})
    wait_until_equal([a, b], "e7", count=1)
    a.post(operation="drop_table", database="data", table="e7")
    b.upsert("e7", {"id": 2}, {"id": 3, "new_attribute": 1})
    b.upsert("e7_canary", {"id": 1})
    wait_until_equal([a, b], "e7_canary", count=1)
    assert contents(a, "e7") is None
    a.create_table("e7")
    b.upsert("e7", {"id": 4})
    a.upsert("e7", {"id": 5})
    wait_until(
        lambda: all((contents(node, "e7") or {}).keys() >= {4, 5} for node in (a, b)), "it is used again by both"
    )


@pytest.mark.xfail(
    strict=True,
    reason="a table that is created again counts as complete, and no copy brings what its peers kept",
)
def test_e7_a_table_that_is_created_again_gets_back_what_its_peers_kept(new_cluster: Callable[..., Cluster]) -> None:
    """E7: ... later local create works: the table is incomplete until a copy has brought it what it missed."""
    cluster = new_cluster("ab")
    a, b = cluster.form()
    cluster.make_tables("e7")
    b.upsert("e7", {"id": 1})
    wait_until_equal([a, b], "e7", count=1)
    a.post(operation="drop_table", database="data", table="e7")
    b.upsert("e7", {"id": 2})
    a.create_table("e7")
    b.upsert("e7", {"id": 3})
    wait_until_equal([a, b], "e7", count=3, within_s=20)


def test_e8_a_dropped_database_does_not_come_back_with_a_peer_that_was_down(
    new_cluster: Callable[..., Cluster],
) -> None:
    """E8: drop_database + replicated, one peer down; peer returns. Reported failed; dropped data does not come back to
    the others.
    """
    cluster = new_cluster("abc")
    a, b, c = cluster.form()
    a.create_table("e8", database="dropped")
    a.upsert("e8", {"id": 1}, database="dropped")
    cluster.make_tables("e8_canary")
    wait_until_equal([a, b, c], "e8", count=1, database="dropped")
    c.kill()
    answer = a.post(operation="drop_database", database="dropped", replicated=True)
    by_node = {one["node"]: one for one in answer["replicated"]}
    assert by_node["c"]["status"] == "failed"
    assert by_node["c"]["reason"]
    assert "status" not in by_node["b"]
    c.start()
    c.upsert("e8", {"id": 2}, database="dropped")
    c.upsert("e8_canary", {"id": 1})
    wait_until_equal([a, b, c], "e8_canary", count=1)
    for node in (a, b):
        assert "dropped" not in node.post(operation="describe_all"), node.name
    assert set(contents(c, "e8", database="dropped") or {}) == {1, 2}
    a.create_table("e8", database="dropped")
    wait_until(lambda: "dropped" in b.post(operation="describe_all"), "a new one of that name is announced")
