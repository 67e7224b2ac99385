"""``verify_replicas`` on three nodes: it finds exactly what is damaged, and with ``repair`` all are equal again."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from storage import codec
from storage.maintenance import expire_rows
from storage.record import Row, decode_row, encode_row
from storage.schema import Table
from storage.table_plan import TablePlan
from storage.table_planner import forget_row, row_hash
from storage.transaction import stored_key_of
from storage.write_state import WriteState
from tests.ops.cluster_nodes import ClusterNode, Nodes, cluster_nodes, eventually

NAMES = ("n1", "n2", "n3")
DOG = {"database": "data", "table": "dog"}
FLY = {"database": "data", "table": "fly"}
DOGS = 600
JOB_S = 30.0


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with cluster_nodes(tmp_path, NAMES, confirmation_timeout_s=5.0) as nodes:
        await nodes["n1"].ok(operation="create_table", **DOG, primary_key="id")
        await put(nodes["n1"], *range(DOGS))
        await all_equal(nodes)
        yield nodes


async def put(node: ClusterNode, *keys: int, name: str = "Rex") -> None:
    await node.ok(operation="upsert", **DOG, records=[{"id": key, "name": f"{name} {key}"} for key in keys])


async def all_equal(nodes: Nodes) -> None:
    """Wait until all nodes have the table, with the digest of the first one."""

    def are_equal() -> bool:
        have = all("data" in node.services.catalog.names and has_dogs(node) for node in nodes.by_name.values())
        return have and len({node.digest("dog") for node in nodes.by_name.values()}) == 1

    await eventually(are_equal, "all nodes hold the same")


def has_dogs(node: ClusterNode) -> bool:
    with node.services.catalog.database("data").read() as tx:
        return "dog" in tx.schema().tables


async def verify(node: ClusterNode, **fields: Any) -> dict[str, Any]:
    """The result of the job."""
    started = await node.ok(operation="verify_replicas", **fields)
    with trio.fail_after(JOB_S):
        while True:
            (job,) = await node.ok(operation="get_job", id=started["job_id"])
            if job["status"] in ("COMPLETE", "ERROR"):
                break
            await trio.sleep(0.02)
    assert job["status"] == "COMPLETE", job
    result: dict[str, Any] = job["result"]
    return result


def of_table(result: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """What was found for a table, by peer."""
    (database,) = (one for one in result["databases"] if one["database"] == "data")
    (table,) = (one for one in database["tables"] if one["table"] == name)
    return {peer["node"]: peer for peer in table["peers"]}


of_dogs = partial(of_table, name="dog")


def keys_of(peer: dict[str, Any]) -> list[Any]:
    return [one["key"] for one in peer["sample"]]


# -- damage -------------------------------------------------------------------------------------------------------------

Change = Callable[[Row], bytes | None]


async def damage(node: ClusterNode, key: Any, change: Change, *, table: str = "dog", keeps_digest: bool = True) -> None:
    """Change the stored value of a record, or remove the row, behind everybody's back; the stamp stays.

    With ``keeps_digest`` as a disk would do it: the digest that is kept with the table knows nothing of it.
    """

    def run(state: WriteState) -> None:
        found = state.tables[table]
        stored_key = stored_key_of(key)
        data = state.get(f"p{found.rows_id}", stored_key)
        assert data is not None
        row = decode_row(data)
        value = change(row)
        if not keeps_digest:
            _move_digest(state, found, stored_key, row, value)
        if value is None:
            state.delete(f"p{found.rows_id}", stored_key)
        else:
            state.put(f"p{found.rows_id}", stored_key, encode_row(row._replace(value=value)))

    await node.services.catalog.maintain("data", run)


def _move_digest(state: WriteState, table: Table, stored_key: bytes, row: Row, value: bytes | None) -> None:
    plan = TablePlan.empty(table)
    forget_row(plan, state, stored_key, row)
    if value is not None:
        plan.digest_change += row_hash(state.stamp_bytes(row.ts, row.origin, row.oseq), stored_key, value)
    state.apply_plan(plan)


def other_owner(row: Row) -> bytes:
    return codec.encode({**row.decode(), "owner": "nobody"})


def gone(_: Row) -> None:
    return None


def unreadable(row: Row) -> bytes:
    return b"\xff" + row.value[1:]


# -- tests --------------------------------------------------------------------------------------------------------------


async def test_replicas_that_hold_the_same_are_equal(nodes: Nodes) -> None:
    result = await verify(nodes["n1"])
    assert result["equal"] is True
    assert {one["database"] for one in result["databases"]} == {"data", "system"}
    found = of_dogs(result)
    assert found == {
        name: {"node": name, "equal": True, "differing": 0, "sample": [], "repaired": 0} for name in ("n2", "n3")
    }
    (data,) = (one for one in result["databases"] if one["database"] == "data")
    (table,) = data["tables"]
    assert (table["rows"], table["digest"]) == (DOGS, nodes["n1"].digest("dog").hex())


@pytest.mark.parametrize("keeps_digest", [True, False])
@pytest.mark.parametrize("change", [other_owner, gone, unreadable])
async def test_a_damaged_record_is_found_by_its_key(nodes: Nodes, change: Change, keeps_digest: bool) -> None:
    await damage(nodes["n2"], 77, change, keeps_digest=keeps_digest)
    result = await verify(nodes["n1"], **DOG)
    found = of_dogs(result)
    assert result["equal"] is False
    assert (found["n2"]["equal"], found["n2"]["differing"], keys_of(found["n2"])) == (False, 1, [77])
    assert (found["n3"]["equal"], found["n3"]["differing"]) == (True, 0)
    (sample,) = found["n2"]["sample"]
    assert sample["here"]["origin"] == "n1"
    assert sample["there"] == (None if change is gone else sample["here"])
    await verify(nodes["n1"], **DOG, repair=True)


@pytest.mark.parametrize("asked", NAMES)
@pytest.mark.parametrize("keeps_digest", [True, False])
@pytest.mark.parametrize("change", [other_owner, gone, unreadable])
async def test_repair_makes_all_equal_again(nodes: Nodes, change: Change, keeps_digest: bool, asked: str) -> None:
    await damage(nodes["n2"], 77, change, keeps_digest=keeps_digest)
    assert (await verify(nodes[asked], **DOG, repair=True))["equal"] is True
    await all_equal(nodes)
    for node in nodes.by_name.values():
        row = node.row("dog", 77)
        assert row is not None
        record = row.decode()
        assert (record["id"], record["name"], "owner" in record) == (77, "Rex 77", False)
    assert (await verify(nodes["n3"], **DOG))["equal"] is True


async def test_a_repair_says_what_it_repaired_and_who_asked(nodes: Nodes) -> None:
    await damage(nodes["n2"], 77, gone)
    await damage(nodes["n2"], 500, other_owner)
    found = of_dogs(await verify(nodes["n1"], **DOG, repair=True))
    assert {name: (one["equal"], one["differing"], one["repaired"]) for name, one in found.items()} == {
        "n2": (True, 2, 2),
        "n3": (True, 0, 0),
    }
    with nodes["n1"].services.catalog.database("data").read() as tx:
        entries = [entry for entry in tx.log.read_from() if entry.header.operation == "verify_replicas"]
    assert {entry.header.user for entry in entries} == {"admin"}
    assert sorted(write["k"] for entry in entries for write in entry.writes()) == [77, 500]


async def test_a_newer_version_that_one_node_lost_comes_back(nodes: Nodes) -> None:
    """Under its own stamp: nothing is made newer than it is."""
    before = nodes["n1"].row("dog", 5)
    assert before is not None
    await damage(nodes["n1"], 5, gone)
    found = of_dogs(await verify(nodes["n1"], **DOG, repair=True))
    assert (found["n2"]["repaired"], found["n2"]["equal"]) == (1, True)
    for node in nodes.by_name.values():
        row = node.row("dog", 5)
        assert row is not None
        assert (row.ts, row.oseq, row.value) == (before.ts, before.oseq, before.value)


async def test_a_write_behind_the_repair_stays(nodes: Nodes) -> None:
    """What is put right is not made newer than what was written since the damage."""
    await damage(nodes["n2"], 7, other_owner)
    nodes.isolate("n3")
    await put(nodes["n3"], 7, name="Max")
    await verify(nodes["n1"], **DOG, repair=True)
    nodes.rejoin("n3")
    await all_equal(nodes)
    row = nodes["n1"].row("dog", 7)
    assert row is not None and row.decode()["name"] == "Max 7"


async def test_more_than_a_sample_is_counted_and_repaired(nodes: Nodes) -> None:
    for key in range(150):
        await damage(nodes["n3"], key, gone, keeps_digest=False)
    found = of_dogs(await verify(nodes["n1"], **DOG, repair=True))["n3"]
    assert (found["differing"], found["repaired"], found["equal"], keys_of(found)) == (150, 150, True, [*range(100)])


async def test_a_peer_that_is_down_is_not_compared(nodes: Nodes) -> None:
    nodes.stop("n3")
    await eventually(lambda: not nodes["n1"].cluster.supervisor.nearest(["n3"]), "n3 is gone")
    result = await verify(nodes["n1"], **DOG)
    found = of_dogs(result)
    assert result["equal"] is None
    assert found["n2"]["equal"] is True
    assert (found["n3"]["equal"], found["n3"]["reason"]) == (None, "not connected")


@pytest.mark.parametrize("incomplete", ["n1", "n2"])
async def test_an_incomplete_table_is_not_compared(nodes: Nodes, incomplete: str) -> None:
    def run(state: WriteState) -> None:
        state.mark_incomplete(state.tables["dog"])

    await nodes[incomplete].services.catalog.maintain("data", run)
    result = await verify(nodes["n1"], **DOG, repair=True)
    found = of_dogs(result)["n2"]
    assert (result["equal"], found["equal"], found["reason"]) == (None, None, "incomplete")


async def test_a_table_that_a_peer_dropped_is_incomplete_there(nodes: Nodes) -> None:
    await nodes["n2"].ok(operation="drop_table", **DOG)
    found = of_dogs(await verify(nodes["n1"], **DOG))
    assert (found["n2"]["equal"], found["n2"]["reason"], found["n3"]["equal"]) == (None, "incomplete", True)


async def test_a_peer_that_is_not_equally_far_in_time_is_busy(tmp_path: Path) -> None:
    async with cluster_nodes(tmp_path, ("n1", "n2"), confirmation_timeout_s=0.2) as nodes:
        await nodes["n1"].ok(operation="create_table", **DOG, primary_key="id")
        await put(nodes["n1"], 1)
        await all_equal(nodes)
        stream = nodes["n2"].cluster.supervisor.dialled["n1", "data"]
        stream.scope.cancel()  # as a link that stands still
        await put(nodes["n1"], 2)
        found = of_dogs(await verify(nodes["n1"], **DOG))["n2"]
        assert (found["equal"], found["reason"]) == (None, "busy")


async def test_writes_that_go_on_meanwhile_are_no_differences(nodes: Nodes) -> None:
    await damage(nodes["n2"], 77, other_owner)
    written = 0

    async def write(node: ClusterNode, first: int) -> None:
        nonlocal written
        while True:
            for key in range(first, DOGS, 30):
                if key != 77:
                    await put(node, key, name=f"{node.name} {written}")
                    written += 1
                    await trio.sleep(0.003)

    async with trio.open_nursery() as nursery:
        for number, name in enumerate(NAMES):
            nursery.start_soon(write, nodes[name], number)
        results = [await verify(nodes["n1"], **DOG) for _ in range(3)]
        nursery.cancel_scope.cancel()
    assert written > 50
    for result in results:
        found = of_dogs(result)
        assert found["n3"]["equal"] is not False
        assert found["n2"]["equal"] is not True
        assert set(keys_of(found["n2"])) <= {77}
    assert any(keys_of(of_dogs(result)["n2"]) == [77] for result in results)
    assert (await verify(nodes["n1"], **DOG, repair=True))["equal"] is True
    await all_equal(nodes)


async def test_expiring_records_are_compared(nodes: Nodes) -> None:
    """No kept digest has them: one node may remove them before another."""
    attributes = [{"name": "id", "isPrimaryKey": True}, {"name": "until", "expiresAt": True}]
    await nodes["n1"].ok(operation="create_table", **FLY, primary_key="id", attributes=attributes)
    now_ms = nodes["n1"].services.clock() // 1000
    records = [{"id": key, "until": now_ms + 3_600_000 * key} for key in range(5)]
    await nodes["n1"].ok(operation="insert", **FLY, records=records)
    await eventually(lambda: all(nodes[name].row("fly", 4) is not None for name in NAMES), "the flies are there")
    assert (await verify(nodes["n1"], **FLY))["equal"] is True
    await damage(nodes["n2"], 3, gone, table="fly")
    await nodes["n2"].services.catalog.maintain("data", partial(expire_rows, now_ms=now_ms + 1))
    assert nodes["n3"].row("fly", 0) is None, "expired, and removed on one node only"
    found = of_table(await verify(nodes["n1"], **FLY), "fly")["n2"]
    assert (found["equal"], keys_of(found)) == (False, [3])
    assert (await verify(nodes["n1"], **FLY, repair=True))["equal"] is True
    row = nodes["n2"].row("fly", 3)
    assert row is not None and row.expires_at_ms == now_ms + 3 * 3_600_000


async def test_a_node_alone_compares_nothing(tmp_path: Path) -> None:
    async with cluster_nodes(tmp_path, ("n1",)) as nodes:
        await nodes["n1"].ok(operation="create_table", **DOG, primary_key="id")
        assert (await verify(nodes["n1"]))["equal"] is None
        (database,) = (await verify(nodes["n1"], **DOG))["databases"]
        assert database["tables"] == [{"table": "dog", "rows": 0, "digest": bytes(16).hex(), "peers": []}]


async def test_what_is_not_here_is_not_found(nodes: Nodes) -> None:
    for place in ({"database": "zoo"}, {"database": "data", "table": "cat"}):
        status, _ = await nodes["n1"].post({"operation": "verify_replicas", **place})
        assert status == 404
