"""What a request says of other nodes, on three nodes: who holds a record, who confirms it, who is asked for it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ops import replication_controls
from ops import residents as residents_module
from replication.agreements import ReplicatedDatabase
from storage import codec
from tests.ops.cluster_nodes import ClusterNode, Nodes, cluster_nodes, eventually

NAMES = ("n1", "n2", "n3")
DOG = {"database": "data", "table": "dog"}
CAT = {"database": "data", "table": "cat"}
"""Schema-defined, with ``text`` not indexed: what an index-only row lacks."""


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    async with cluster_nodes(tmp_path, NAMES) as nodes:
        await make_tables(nodes, NAMES)
        yield nodes


async def make_tables(nodes: Nodes, names: tuple[str, ...]) -> None:
    attributes = [
        {"name": "id", "type": "Any", "isPrimaryKey": True},
        {"name": "name", "type": "String", "indexed": True},
        {"name": "text", "type": "String", "indexed": False},
    ]
    await nodes["n1"].ok(operation="create_table", **DOG, primary_key="id")
    await nodes["n1"].ok(operation="create_table", **CAT, primary_key="id", attributes=attributes)
    for name in names:
        await eventually(lambda name=name: has_tables(nodes[name]), "the tables are known")


def has_tables(node: ClusterNode) -> bool:
    if "data" not in node.services.catalog.names:
        return False
    with node.services.catalog.database("data").read() as tx:
        return {"dog", "cat"} <= tx.schema().tables.keys()


async def put_cat(node: ClusterNode, key: Any, *, on: Any, text: str = "long") -> None:
    await node.ok(operation="upsert", **CAT, records=[{"id": key, "name": f"Tom {key}", "text": text}], replicateTo=on)


async def wait_for(nodes: Nodes, key: Any, *names: str, table: str = "cat") -> None:
    for name in names:
        await eventually(lambda name=name: nodes[name].row(table, key) is not None, f"{name} has {key}")


async def texts(node: ClusterNode, *keys: Any, **more: Any) -> list[Any]:
    found = await node.ok(operation="search_by_id", **CAT, ids=list(keys), get_attributes=["text"], **more)
    return [record["text"] for record in found]


def value(node: ClusterNode, key: Any) -> Any:
    row = node.row("cat", key)
    return None if row is None else row.decode()


def residents(node: ClusterNode, key: Any) -> Any:
    row = node.row("cat", key)
    assert row is not None
    return (codec.decode(row.residency) if row.residency else None), row.is_resident


# -- confirmation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["insert", "update", "upsert", "delete"])
async def test_an_answer_waits_until_so_many_peers_have_the_write(nodes: Nodes, operation: str) -> None:
    await nodes["n1"].ok(operation="insert", **DOG, records=[{"id": 1}])
    await wait_for(nodes, 1, "n2", "n3", table="dog")
    records = [{"id": 2 if operation == "insert" else 1, "name": "Rex"}]
    what: dict[str, Any] = {"ids": [1]} if operation == "delete" else {"records": records}
    await nodes["n1"].ok(operation=operation, **DOG, **what, replicatedConfirmation=2)
    for name in NAMES:
        row = nodes[name].row("dog", records[0]["id"])
        assert row is None if operation == "delete" else row is not None and row.decode()["name"] == "Rex"


async def test_more_confirmations_than_peers_are_refused(nodes: Nodes) -> None:
    status, answer = await nodes["n1"].post(
        {"operation": "insert", **DOG, "records": [{"id": 1}], "replicatedConfirmation": 3}
    )
    assert status == 400
    assert answer["error"].startswith("Cannot confirm replication to more nodes (3) than")
    assert nodes["n1"].row("dog", 1) is None


async def test_a_table_that_stays_here_is_confirmed_by_nobody(nodes: Nodes) -> None:
    await nodes["n1"].ok(operation="create_table", database="data", table="own", primary_key="id", replicate=False)
    own = {"database": "data", "table": "own", "records": [{"id": 1}], "replicatedConfirmation": 1}
    status, answer = await nodes["n1"].post({"operation": "insert", **own})
    assert (status, answer["error"][:27]) == (400, "Cannot confirm replication ")


async def test_a_write_that_is_not_confirmed_in_time_stays_and_goes_on_replicating(tmp_path: Path) -> None:
    async with cluster_nodes(tmp_path, NAMES, confirmation_timeout_s=0.3) as nodes:
        await make_tables(nodes, NAMES)
        nodes.isolate("n3")
        body = {"operation": "insert", **DOG, "records": [{"id": 1}], "replicatedConfirmation": 2}
        status, answer = await nodes["n1"].post(body)
        assert (status, answer["error"][:15]) == (504, "Timed out after")
        assert nodes["n1"].row("dog", 1) is not None
        nodes.rejoin("n3")
        await wait_for(nodes, 1, "n2", "n3", table="dog")


async def test_a_write_that_changes_nothing_waits_for_nobody(nodes: Nodes) -> None:
    await nodes["n1"].ok(operation="insert", **DOG, records=[{"id": 1}])
    nodes.isolate("n1")
    answer = await nodes["n1"].ok(operation="insert", **DOG, records=[{"id": 1}], replicatedConfirmation=2)
    assert answer["skipped_hashes"] == [1]


# -- residency ----------------------------------------------------------------------------------------------------------


async def test_named_nodes_hold_a_record_and_the_others_its_index(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=["n2"])
    await wait_for(nodes, 1, *NAMES)
    assert [residents(nodes[name], 1) for name in NAMES] == [
        (["n1", "n2"], True),
        (["n1", "n2"], True),
        (["n1", "n2"], False),
    ]
    row = nodes["n3"].row("cat", 1)
    assert row is not None and "text" not in row.decode()


async def test_a_record_may_stay_on_its_node(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    assert [residents(nodes[name], 1)[1] for name in NAMES] == [True, False, False]


async def test_an_update_keeps_the_nodes_that_hold_the_record(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=["n2"])
    await nodes["n1"].ok(operation="update", **CAT, records=[{"id": 1, "text": "new"}])
    assert residents(nodes["n1"], 1) == (["n1", "n2"], True)


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (
            {},
            "Shard or residency list {} is not a valid type, must be a shard number or residency list of node hostnames",
        ),
        (
            -1,
            "Shard or residency list -1 is not a valid type, must be a shard number or residency list of node hostnames",
        ),
        (["n9"], "Table 'data.cat' is not sent to n9"),
    ],
)
async def test_what_is_no_residency_is_refused(nodes: Nodes, wish: Any, error: str) -> None:
    body = {"operation": "insert", **CAT, "records": [{"id": 1}], "replicateTo": wish}
    assert await nodes["n1"].post(body) == (400, {"error": error})
    assert nodes["n1"].row("cat", 1) is None


async def test_records_of_the_system_database_are_held_by_all(nodes: Nodes) -> None:
    user = {"username": "u", "password": "Otter-2", "role": "super_user", "active": True}
    body = {"operation": "insert", "database": "system", "table": "hdb_user", "records": [user], "replicateTo": 1}
    assert (await nodes["n1"].post(body))[0] == 400


async def test_tables_with_a_residency_have_one_digest_everywhere(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=["n2"])
    await put_cat(nodes["n1"], 2, on=None)
    await put_cat(nodes["n1"], 3, on=None)
    await nodes["n1"].ok(operation="delete", **CAT, ids=[1], replicatedConfirmation=2)
    await put_cat(nodes["n1"], 3, on=["n3"])
    await put_cat(nodes["n1"], 4, on=0)
    await wait_for(nodes, 4, *NAMES)
    assert len({nodes[name].digest("cat") for name in NAMES}) == 1


async def test_the_configured_count_is_for_new_records(tmp_path: Path) -> None:
    async with cluster_nodes(tmp_path, NAMES, replicate_to=1) as nodes:
        await make_tables(nodes, NAMES)
        await put_cat(nodes["n1"], 1, on=None)
        names, _ = residents(nodes["n1"], 1)
        assert names[0] == "n1" and len(names) == 2


# -- reads --------------------------------------------------------------------------------------------------------------


async def test_a_record_that_is_held_elsewhere_is_read_from_there(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=["n2"])
    await wait_for(nodes, 1, *NAMES)
    assert await texts(nodes["n3"], 1) == ["long"]


async def test_residents_are_asked_one_after_the_other_as_they_die(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=["n2"])
    await put_cat(nodes["n1"], 2, on=None)
    await wait_for(nodes, 2, *NAMES)
    nodes.stop("n1")
    assert await texts(nodes["n3"], 1) == ["long"]
    nodes.stop("n2")
    await eventually(lambda: nodes["n3"].cluster.supervisor.nearest(NAMES) == [], "the links are gone")
    body = {"operation": "search_by_id", **CAT, "ids": [1], "get_attributes": ["*"]}
    error = "No connection to any other nodes are available: n1, n2"
    assert await nodes["n3"].post(body) == (502, {"error": error})
    assert await texts(nodes["n3"], 1, 2) == ["long"]


async def test_only_what_is_here_is_read_where_the_request_says_so(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=["n2"])
    await put_cat(nodes["n1"], 2, on=None)
    await wait_for(nodes, 2, *NAMES)
    assert await texts(nodes["n3"], 1, 2, replicateFrom=False) == ["long"]
    for search in (
        {"operation": "search_by_value", "attribute": "name", "value": "Tom*"},
        {"operation": "search_by_conditions", "conditions": [{"attribute": "id", "comparator": "gt", "value": 0}]},
    ):
        found = await nodes["n3"].ok(**search, **CAT, get_attributes=["id"], replicateFrom=False, limit=1)
        assert found == [{"id": 2}]


@pytest.mark.parametrize(
    "search",
    [
        {"operation": "search_by_value", "attribute": "name", "value": "Tom*", "sort": {"attribute": "id"}},
        {
            "operation": "search_by_conditions",
            "conditions": [{"attribute": "name", "comparator": "starts_with", "value": "Tom"}],
            "sort": {"attribute": "id"},
        },
    ],
)
async def test_searches_fetch_what_their_matches_lack(nodes: Nodes, search: dict[str, Any]) -> None:
    records = [{"id": key, "name": f"Tom {key}", "text": f"text {key}"} for key in range(600)]
    await nodes["n1"].ok(operation="upsert", **CAT, records=records, replicateTo=["n2"])
    await nodes["n1"].ok(operation="upsert", **CAT, records=[{"id": 600, "name": "Tom", "text": "text 600"}])
    await wait_for(nodes, 600, *NAMES)
    found = await nodes["n3"].ok(**search, **CAT, get_attributes=["id", "text"])
    assert found == [{"id": key, "text": f"text {key}"} for key in range(601)]
    nodes.isolate("n3")
    assert await nodes["n3"].ok(**search, **CAT, get_attributes=["id", "text"]) == [{"id": 600, "text": "text 600"}]
    assert len(await nodes["n3"].ok(**search, **CAT, get_attributes=["id", "name"])) == 601


async def test_keys_of_any_kind_are_fetched(nodes: Nodes) -> None:
    keys = [1.5, "a", ["a", 1]]
    for key in keys:
        await put_cat(nodes["n1"], key, on=0, text=str(key))
    await wait_for(nodes, ["a", 1], *NAMES)
    found = await nodes["n3"].ok(operation="search_by_value", **CAT, attribute="id", value="*")
    assert {record["text"] for record in found} == {str(key) for key in keys}


# -- writes where the record is not held --------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["update", "upsert"])
async def test_a_node_that_does_not_hold_a_record_changes_the_whole_of_it(nodes: Nodes, operation: str) -> None:
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    await nodes["n3"].ok(operation=operation, **CAT, records=[{"id": 1, "name": "Kit"}], replicatedConfirmation=2)
    assert residents(nodes["n3"], 1) == (["n1"], False)
    row = nodes["n1"].row("cat", 1)
    assert row is not None
    assert (row.decode()["name"], row.decode()["text"]) == ("Kit", "long")
    assert await texts(nodes["n3"], 1) == ["long"]


async def test_without_a_resident_an_update_is_refused_and_writes_nothing(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    nodes.isolate("n3")
    before = nodes["n3"].row("cat", 1)
    body = {"operation": "update", **CAT, "records": [{"id": 1, "name": "Kit"}, {"id": 2, "name": "new"}]}
    error = "No connection to any other nodes are available: n1"
    assert await nodes["n3"].post(body) == (502, {"error": error})
    assert nodes["n3"].row("cat", 1) == before


async def test_a_delete_needs_no_resident(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    nodes.isolate("n3")
    await nodes["n3"].ok(operation="delete", **CAT, ids=[1])
    nodes.rejoin("n3")
    await eventually(lambda: nodes["n1"].row("cat", 1) is None, "the delete arrives")


async def test_an_update_by_way_of_others_reaches_a_resident_that_comes_back(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=["n2"])
    await wait_for(nodes, 1, *NAMES)
    nodes.isolate("n1")
    await nodes["n3"].ok(operation="update", **CAT, records=[{"id": 1, "text": "new"}])
    nodes.rejoin("n1")
    await eventually(lambda: value(nodes["n1"], 1)["text"] == "new", "n1 has the update")


async def test_what_no_resident_has_received_yet_comes_from_the_own_log(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    nodes.deafen("n1")
    for number in (1, 2):
        await nodes["n3"].ok(operation="update", **CAT, records=[{"id": 1, "text": f"new {number}"}])
        assert await texts(nodes["n3"], 1) == [f"new {number}"]
    await nodes["n3"].ok(operation="update", **CAT, records=[{"id": 1, "name": "Kit"}])
    assert await texts(nodes["n3"], 1) == ["new 2"]
    assert value(nodes["n1"], 1)["text"] == "long"


async def test_an_update_waits_until_this_node_knows_the_version_that_it_changes(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replication_controls, "CATCH_UP_S", 0.2)
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    nodes.deafen("n3")
    await nodes["n1"].ok(operation="update", **CAT, records=[{"id": 1, "text": "newer"}])
    before = nodes["n3"].row("cat", 1)
    status, answer = await nodes["n3"].post({"operation": "update", **CAT, "records": [{"id": 1, "name": "Kit"}]})
    assert status == 502
    assert answer["error"].endswith("none of these has the version known here")
    assert nodes["n3"].row("cat", 1) == before
    assert await texts(nodes["n3"], 1) == ["newer"]


# -- how records are fetched --------------------------------------------------------------------------------------------


async def test_answers_are_bounded_and_the_rest_is_asked_for(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residents_module, "ANSWER_BYTES_MAX", 1)
    for key in range(4):
        await put_cat(nodes["n1"], key, on=0, text=f"text {key}")
    await wait_for(nodes, 3, *NAMES)
    answer = await nodes["n1"].ok(operation="fetch_records", **CAT, keys=[9, 0, 1])
    assert [version and version[1]["text"] for version in answer] == [None, "text 0"]
    assert await texts(nodes["n3"], 3, 1, 2, 0) == ["text 3", "text 1", "text 2", "text 0"]


async def test_a_node_hands_out_only_what_it_holds(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    assert await nodes["n2"].ok(operation="fetch_records", **CAT, keys=[1]) == [None]


async def test_a_node_hands_out_nothing_that_is_to_stay_on_it(nodes: Nodes) -> None:
    await nodes["n1"].ok(operation="create_table", database="data", table="own", primary_key="id", replicate=False)
    await nodes["n1"].ok(operation="insert", database="data", table="own", records=[{"id": 1}])
    assert await nodes["n1"].ok(operation="fetch_records", database="data", table="own", keys=[1]) == [None]
    body = {"operation": "fetch_records", "database": "system", "table": "hdb_user", "keys": ["admin"]}
    assert (await nodes["n1"].post(body))[0] == 400


@pytest.mark.parametrize("keys", [[], list(range(257))])
async def test_a_request_for_records_is_bounded(nodes: Nodes, keys: list[int]) -> None:
    status, _ = await nodes["n1"].post({"operation": "fetch_records", **CAT, "keys": keys})
    assert status == 400


async def test_what_a_resident_refuses_is_the_answer(nodes: Nodes) -> None:
    await put_cat(nodes["n1"], 1, on=0)
    await wait_for(nodes, 1, *NAMES)
    await nodes["n1"].ok(operation="drop_table", **CAT)
    body = {"operation": "search_by_id", **CAT, "ids": [1, 2], "get_attributes": ["text"]}
    assert await nodes["n3"].post(body) == (404, {"error": "Table 'data.cat' does not exist"})


# -- shards -------------------------------------------------------------------------------------------------------------


async def test_a_sharded_database_stays_among_the_nodes_of_its_shard(tmp_path: Path) -> None:
    databases = tuple(ReplicatedDatabase(name=name, sharded=name == "data") for name in ("system", "data"))
    async with cluster_nodes(tmp_path, NAMES, shards={"n1": 1, "n2": 1, "n3": 2}, databases=databases) as nodes:
        await make_tables(nodes, ("n1", "n2"))
        await nodes["n1"].ok(operation="insert", **DOG, records=[{"id": 1}], replicatedConfirmation=1)
        assert nodes["n2"].row("dog", 1) is not None
        assert "data" not in nodes["n3"].services.catalog.names
        body = {"operation": "insert", **DOG, "records": [{"id": 2}], "replicatedConfirmation": 2}
        status, answer = await nodes["n1"].post(body)
        assert status == 400
        assert answer["error"] == "Cannot confirm replication to more nodes (2) than the 1 this database is sent to"
