"""Conflicts: group D of the reliability scenarios."""

from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.comparison import contents, wait_until_equal
from tests.cluster.ledger import FIELDS, Ledger, Load, value_of, watching_pairs, writing


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("d"), "abc") as running:
        yield running


def test_d5_both_sides_of_a_cut_insert_the_same_key(cluster: Cluster) -> None:
    """D5: both insert the same key while cut; heal. One winner, no error later; generated keys never collide."""
    a, b, c = cluster
    cluster.make_tables("d5")
    cluster.network.cut("a", "b")
    cluster.network.cut("a", "c")
    generated = []
    for node in (a, b):
        records = [{"id": key, "from": node.name} for key in range(10)]
        node.post(operation="insert", database="data", table="d5", records=records)
        answer = node.post(operation="insert", database="data", table="d5", records=[{"from": node.name}] * 10)
        generated += answer["inserted_hashes"]
    cluster.network.heal_all()
    assert len(set(generated)) == 20
    shown = wait_until_equal([a, b, c], "d5", count=30)
    assert {shown[key]["from"] for key in range(10)} == {"b"}, "the later one wins"
    for key in range(10):
        c.post(operation="update", database="data", table="d5", records=[{"id": key, "from": "c"}])
    wait_until_equal([a, b, c], "d5", count=30)


def test_d6_no_record_mixes_the_fields_of_two_writers(cluster: Cluster) -> None:
    """D6: records with several fields, heavy races. Never fields of both writers in one put-written record."""
    cluster.make_tables("d6")
    load = Load(table="d6", pairs=5, shared=True, deletes=0.1)
    ledger = Ledger()
    nodes = list(cluster)
    with writing(ledger, nodes, load) as writers, watching_pairs(nodes, load):
        writers.wait_for(200, *nodes)
    wait_until_equal(nodes, "d6", ledger=ledger)


def test_d8_searches_agree_with_the_rows_after_failover_and_conflicts(cluster: Cluster) -> None:
    """D8: writes, failover, conflicts on indexed attributes; origin killed mid-stream. Raw index = raw rows on all nodes
    (checked when the cluster ends); search by id and by value agree.
    """
    cluster.make_tables("d8")
    nodes = list(cluster)
    load = Load(table="d8", pairs=30, shared=True)
    ledger = Ledger()
    with writing(ledger, nodes, load, clients=2) as writers, watching_pairs(nodes, load):
        writers.wait_for(50, *nodes)
        cluster["a"].kill()
        writers.wait_for(50, *nodes[1:])
        cluster["a"].start()
    shown = wait_until_equal(nodes, "d8", ledger=ledger)
    assert shown
    for node in nodes:
        for key, record in shown.items():
            place = {"database": "data", "table": "d8", "get_attributes": ["*"]}
            assert node.post(operation="search_by_id", ids=[key], **place) == [record]
        for value in {value_of(record) for record in shown.values()}:
            found = node.post(operation="search_by_value", attribute=FIELDS[0], value=value, **place)
            expected = [record for record in shown.values() if value_of(record) == value]
            assert sorted(found, key=by_id) == sorted(expected, key=by_id), f"{node.name}: {value}"


def by_id(record: dict[str, object]) -> int:
    return int(str(record["id"]))


def test_d9_a_transaction_that_wins_on_one_row_and_loses_on_another(cluster: Cluster) -> None:
    """D9 within one table: both rows per stamp on every node."""
    a, b, c = cluster
    cluster.make_tables("d9")
    for node, other in (("a", "b"), ("a", "c"), ("b", "c")):
        cluster.network.cut(node, other)
    a.upsert("d9", {"id": 1, "from": "a"})
    b.upsert("d9", {"id": 1, "from": "b"}, {"id": 2, "from": "b"})
    c.upsert("d9", {"id": 2, "from": "c"})
    cluster.network.heal_all()
    wait_until_equal([a, b, c], "d9", count=2)
    assert {key: record["from"] for key, record in (contents(a, "d9") or {}).items()} == {1: "b", 2: "c"}
