"""Confirmation and residency: M6, M7 and G11 of the reliability scenarios, on processes."""

from collections.abc import Callable
from typing import Any

from tests.cluster.cluster import Cluster, ClusterNode
from tests.cluster.comparison import wait_until, wait_until_equal

CAT = {"database": "data", "table": "cat"}
ATTRIBUTES = [
    {"name": "id", "isPrimaryKey": True},
    {"name": "name", "indexed": True},
    {"name": "text", "indexed": False},
]


def read(node: ClusterNode, *keys: int, **more: Any) -> tuple[int, Any]:
    body = {"operation": "search_by_id", **CAT, "ids": list(keys), "get_attributes": ["id", "text"], **more}
    response = node.request(body)
    return response.status_code, response.json()


def known_names(node: ClusterNode) -> set[str]:
    """By the index, which is complete everywhere."""
    response = node.request({"operation": "search_by_value", **CAT, "attribute": "name", "value": "*"})
    return {record["name"] for record in response.json()} if response.status_code == 200 else set()


def wait_until_known(cluster: Cluster, name: str) -> None:
    nodes = [node for node in cluster if node.is_running]
    wait_until(lambda: all(name in known_names(node) for node in nodes), f"all know '{name}'")


def test_m7_records_that_two_nodes_hold_are_read_and_written_as_those_die(new_cluster: Callable[..., Cluster]) -> None:
    """M7: sharded table, resident nodes die one by one, reads and writes via non-residents. Forwarded to the next; 502
    when none; accepted writes reach a resident later.
    """
    a, b, c = cluster = new_cluster("abc").form()
    a.create_table("cat", attributes=ATTRIBUTES)
    record = {"id": 1, "name": "Tom", "text": "long"}
    a.post(operation="upsert", **CAT, records=[record], replicateTo=["b"])
    wait_until_known(cluster, "Tom")
    assert read(c, 1) == (200, [{"id": 1, "text": "long"}])
    assert read(c, 1, replicateFrom=False) == (200, [])
    a.kill()
    assert read(c, 1) == (200, [{"id": 1, "text": "long"}])
    c.post(operation="update", **CAT, records=[{"id": 1, "name": "Kit"}])
    wait_until(lambda: "Kit" in known_names(b), "b has the update")
    b.kill()
    error = {"error": "No connection to any other nodes are available: a, b"}
    wait_until(lambda: read(c, 1) == (502, error), "nobody is left to be asked")
    update = {"operation": "update", **CAT, "records": [{"id": 1, "name": "Ann"}]}
    response = c.request(update)
    assert (response.status_code, response.json()) == (502, error)
    cluster.start("a")
    wait_until(lambda: read(a, 1, replicateFrom=False) == (200, [{"id": 1, "text": "long"}]), "a is back")
    wait_until(lambda: known_names(a) == {"Kit"}, "what was accepted without it has reached a")


def test_m6_and_g11_a_write_is_confirmed_by_so_many_or_stays_unconfirmed(new_cluster: Callable[..., Cluster]) -> None:
    """M6: ``replicatedConfirmation`` 2 of 3, counted by distinct durable peers, no hang, 504 on timeout. G11: many pending
    confirmations, peers gone; all time out with 504, writes kept.
    """
    cluster = new_cluster("abc", replication__confirmationTimeout=1500).form()
    a, b, c = cluster
    cluster.make_tables("m6")
    insert = {"operation": "insert", "database": "data", "table": "m6"}
    assert a.request({**insert, "records": [{"id": 0}], "replicatedConfirmation": 2}).status_code == 200
    for node in (b, c):
        found = node.post(operation="search_by_id", database="data", table="m6", ids=[0], get_attributes=["id"])
        assert found == [{"id": 0}]
    c.kill()
    for number in range(1, 4):
        response = a.request({**insert, "records": [{"id": number}], "replicatedConfirmation": 2})
        assert response.status_code == 504
        assert response.json()["error"].startswith("Timed out after")
    assert a.request({**insert, "records": [{"id": 4}], "replicatedConfirmation": 1}).status_code == 200
    cluster.start("c")
    wait_until_equal([a, b, c], "m6", count=5)
