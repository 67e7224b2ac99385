"""Catch-up and copies: group C of the reliability scenarios.

Whether a copy was made is told by the bytes that went between two nodes, not by what they say of themselves.
"""

from collections.abc import Callable

import pytest

from tests.cluster.cluster import Cluster, ClusterNode
from tests.cluster.comparison import wait_until_equal
from tests.cluster.ledger import Ledger, Load, writing

BATCH = 1000
ROW_TEXT = 200


def fill(node: ClusterNode, table: str, count: int, *, first: int = 0) -> None:
    """Rows that do not compress away, in transactions of some."""
    for begin in range(first, first + count, BATCH):
        rows = (
            {"id": n, "text": f"{n:x}".rjust(ROW_TEXT, "-")} for n in range(begin, min(begin + BATCH, first + count))
        )
        node.upsert(table, *rows)


@pytest.mark.parametrize("rows", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_c1_a_new_node_joins_while_clients_write_on_both_sides_of_the_cursor(
    new_cluster: Callable[..., Cluster], rows: int
) -> None:
    """C1: writers active on both sides of the cursor, new node joins. Equal state including writes behind the cursor."""
    cluster = new_cluster("ab")
    a, b = cluster
    cluster.form()
    cluster.make_tables("c1", "c1_live")
    fill(a, "c1", rows)
    wait_until_equal([a, b], "c1", count=rows)
    load = Load(table="c1_live", pairs=200, shared=True)
    ledger = Ledger()
    c = cluster.add("c")
    c.start()
    with writing(ledger, [a, b], load) as writers:
        writers.wait_for(100, a, b)
        assert cluster.join("c", "a")[0] == 200
        writers.wait_for(100, a, b)
        wait_until_equal([a, c], "c1", count=rows)
        writers.wait_for(50, a, b)
    wait_until_equal([a, b, c], "c1_live", ledger=ledger)
    cluster.finish("c1")


def test_c2_a_node_that_is_killed_during_its_copy_goes_on_with_it(new_cluster: Callable[..., Cluster]) -> None:
    """C2 in short: receiver killed at several points of transfer and merge. Key-set equal in the end; never a gap."""
    cluster = new_cluster("ab")
    a, b = cluster
    cluster.start()
    for table in ("c2_x", "c2_y"):
        a.create_table(table)
        fill(a, table, 5000)
    load = Load(table="c2_live", pairs=100)
    a.create_table("c2_live")
    ledger = Ledger()
    size = 2 * 5000 * ROW_TEXT
    with writing(ledger, [a], load, clients=2) as writers:
        writers.wait_for(50)
        assert cluster.join("b", "a")[0] == 200
        for share in (0.1, 0.5, 0.9, 1.0):
            before = cluster.network.carried("a", "b")
            cluster.wait_until_carried("a", "b", before + int(size * share / 2))
            b.kill()
            b.start()
        writers.wait_for(50)
    wait_until_equal([a, b], "c2_live", ledger=ledger)
    wait_until_equal([a, b], "c2_x", count=5000)
    wait_until_equal([a, b], "c2_y", count=5000)
    cluster.finish()


def test_c9_who_filled_a_new_node_takes_nothing_back(new_cluster: Callable[..., Cluster]) -> None:
    """C9: newcomer was filled from A, then A subscribes to it. Nothing is rewritten on A; no full reverse copy."""
    cluster = new_cluster("ab")
    a, b = cluster
    cluster.start()
    a.create_table("c9")
    fill(a, "c9", 10_000)
    before = log_length(a)
    assert cluster.join("b", "a")[0] == 200
    wait_until_equal([a, b], "c9", count=10_000)
    b.upsert("c9", {"id": -1})
    wait_until_equal([a, b], "c9", count=10_001)
    back = cluster.network.carried("b", "a")
    assert back < 10_000 * ROW_TEXT / 10, f"{back} bytes went back"
    assert log_length(a) == before + 1, "only the write of b was added to the log of a"
    cluster.finish("c9")


def log_length(node: ClusterNode) -> int:
    return len(node.post(operation="read_audit_log", database="data", table="c9"))


@pytest.mark.parametrize(
    ("databases", "restarts"), [(4, 2), pytest.param(20, 50, marks=[pytest.mark.long])], ids=["short", "long"]
)
def test_c13_restarts_make_no_copies(new_cluster: Callable[..., Cluster], databases: int, restarts: int) -> None:
    """C13: node with valid positions, 20 databases; 50 restarts. Zero full copies."""
    cluster = new_cluster("ab")
    a, b = cluster.form()
    names = [f"d{n}" for n in range(databases)]
    for name in names:
        a.create_table("c13", database=name)
        a.upsert("c13", *({"id": n, "text": f"{n}" * 100} for n in range(BATCH)), database=name)
    for name in names:
        wait_until_equal([a, b], "c13", count=BATCH, database=name)
    copied = cluster.traffic("a", "b")
    for number in range(restarts):
        node = (a, b)[number % 2]
        node.restart()
        for name in names:
            node.upsert("c13", {"id": -1, "restart": number}, database=name)
        for name in names:
            wait_until_equal([a, b], "c13", count=BATCH + 1, database=name)
    moved = cluster.traffic("a", "b") - copied
    assert moved < copied / 10 * restarts, f"{moved} bytes after {copied}"
    cluster.finish()
