"""The operations on databases: the documented vectors in their order, what describing shows, and who sees what."""

from typing import Any

import pytest
import trio

from ops.errors import SYSTEM_IS_PROTECTED, AccessDenied
from tests.ops.conftest import Node

KEEPER = ("keeper", "Keeper-1")
FARM_ANIMAL = {"database": "farm", "table": "animal"}

VECTORS: list[tuple[dict[str, Any], int, Any]] = [
    ({"operation": "describe_all"}, 200, {}),
    (
        {"operation": "create_database", "database": "farm"},
        200,
        {"message": "database 'farm' successfully created"},
    ),
    ({"operation": "create_database", "database": "farm"}, 400, {"error": "database 'farm' already exists"}),
    ({"operation": "create_schema", "schema": "old"}, 200, {"message": "database 'old' successfully created"}),
    (
        {"operation": "create_database", "database": "a/b"},
        400,
        {"error": "'database' names cannot include backticks or forward slashes"},
    ),
    ({"operation": "create_database", "database": 123}, 400, {"error": "'database' must be a string"}),
    (
        {"operation": "create_table", **FARM_ANIMAL, "primary_key": "id"},
        200,
        {"message": "table 'farm.animal' successfully created."},
    ),
    (
        {"operation": "create_table", **FARM_ANIMAL, "primary_key": "id"},
        400,
        {"error": "Table 'animal' already exists in 'farm'"},
    ),
    (
        {"operation": "create_table", "schema": "farm", "table": "pen", "hash_attribute": "id"},
        200,
        {"message": "table 'farm.pen' successfully created."},
    ),
    (
        {"operation": "create_table", "database": "farm", "table": "nokey"},
        400,
        {"error": "'primary_key' is required"},
    ),
    (
        {"operation": "create_table", "database": "farm", "table": 5, "primary_key": 5},
        400,
        {"error": "'table' must be a string. 'primary_key' must be a string"},
    ),
    (
        {"operation": "create_table", "database": "fresh", "table": "t", "primary_key": "id"},
        200,
        {"message": "table 'fresh.t' successfully created."},
    ),
    (
        {"operation": "create_table", "database": "farm", "table": "tmp", "primary_key": "id", "expiration": 60},
        200,
        {"message": "table 'farm.tmp' successfully created."},
    ),
    ({"operation": "describe_table", **FARM_ANIMAL}, 200, ...),
    (
        {"operation": "describe_table", "database": "farm", "table": "ghost"},
        404,
        {"error": "Table 'farm.ghost' does not exist"},
    ),
    ({"operation": "describe_database", "database": "ghost"}, 404, {"error": "database 'ghost' does not exist"}),
    ({"operation": "describe_schema"}, 404, {"error": "database 'data' does not exist"}),
    (
        {"operation": "create_attribute", **FARM_ANIMAL, "attribute": "colour"},
        200,
        {"message": "attribute 'farm.animal.colour' successfully created."},
    ),
    (
        {"operation": "create_attribute", **FARM_ANIMAL, "attribute": "colour"},
        400,
        {"error": "attribute 'colour' already exists in farm.animal"},
    ),
    (
        {"operation": "drop_attribute", **FARM_ANIMAL, "attribute": "colour"},
        200,
        {"message": "successfully deleted attribute 'colour'"},
    ),
    (
        {"operation": "drop_attribute", **FARM_ANIMAL, "attribute": "__updatedtime__"},
        400,
        {"error": "cannot drop internal timestamp attribute: __updatedtime__"},
    ),
    (
        {"operation": "drop_attribute", "database": "farm", "table": "ghost", "attribute": "x"},
        404,
        {"error": "Table 'farm.ghost' does not exist"},
    ),
    (
        {"operation": "drop_table", "database": "farm", "table": "tmp"},
        200,
        {"message": "successfully deleted table 'farm.tmp'"},
    ),
    (
        {"operation": "drop_table", "database": "farm", "table": "tmp"},
        404,
        {"error": "Table 'farm.tmp' does not exist"},
    ),
    ({"operation": "drop_database", "database": "old"}, 200, {"message": "successfully deleted 'old'"}),
    ({"operation": "drop_schema", "schema": "old"}, 404, {"error": "database 'old' does not exist"}),
    ({"operation": "drop_database"}, 400, {"error": "'database' is required"}),
    ({"operation": "drop_database", "database": "system"}, 403, {"error": SYSTEM_IS_PROTECTED}),
    ({"operation": "get_backup", "database": "farm", "table": "ghost"}, 500, {"error": "Can not find table ghost"}),
]


async def with_role(node: Node, permission: dict[str, Any]) -> tuple[str, str]:
    await node.ok(operation="add_role", role="keeper", permission=permission)
    await node.ok(operation="add_user", username=KEEPER[0], password=KEEPER[1], role="keeper", active=True)
    return KEEPER


async def make_farm(node: Node) -> None:
    for table in ("animal", "pen"):
        await node.ok(operation="create_table", database="farm", table=table, primary_key="id")
    await node.ok(operation="create_database", database="spare")


def table_rights(rights: dict[str, bool], attributes: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A permission object for farm.animal."""
    flags = {right: rights.get(right, False) for right in ("read", "insert", "update", "delete")}
    return {"farm": {"tables": {"animal": {**flags, "attribute_permissions": attributes or []}}}}


def names(described: dict[str, Any]) -> list[str]:
    return [attribute["attribute"] for attribute in described["attributes"]]


async def test_the_documented_requests_in_order_have_the_documented_answers(node: Node) -> None:
    for number, (request, status, body) in enumerate(VECTORS):
        answered, answer = await node.post(request)
        assert answered == status, (number, request, answer)
        assert body is ... or answer == body, (number, request)


async def test_the_table_of_a_failed_creation_leaves_no_database_behind(node: Node) -> None:
    status, _ = await node.post({"operation": "create_table", "database": "fresh", "table": "t"})
    bad = {"operation": "create_table", "database": "fresh", "table": "t", "primary_key": "id", "attributes": [{}]}
    assert (status, (await node.post(bad))[0], await node.ok(operation="describe_all")) == (400, 400, {})


# -- describing -------------------------------------------------------------------------------------------------------


async def test_a_new_table_has_three_attributes_no_records_and_no_time_of_a_last_write(node: Node) -> None:
    await make_farm(node)
    described = await node.ok(operation="describe_table", **FARM_ANIMAL)
    assert described["attributes"] == [
        {"attribute": "id", "is_primary_key": True},
        {"attribute": "__createdtime__", "indexed": True},
        {"attribute": "__updatedtime__", "indexed": True},
    ]
    assert described["record_count"] == 0
    assert "last_updated_record" not in described


async def test_a_description_has_its_fields_in_the_documented_order(node: Node) -> None:
    table = {"database": "farm", "table": "animal"}
    await node.ok(operation="create_table", **table, primary_key="id", expiration="60", replicate=False, audit=False)
    await node.ok(operation="insert", **table, records=[{"id": 1}])
    described = await node.ok(operation="describe_table", **table)
    assert list(described) == [
        "schema",
        "name",
        "hash_attribute",
        "audit",
        "schema_defined",
        "attributes",
        "db_size",
        "replicate",
        "expiration",
        "record_count",
        "table_size",
        "db_audit_size",
        "last_updated_record",
    ]
    assert (described["expiration"], described["replicate"], described["audit"]) == ("60s", False, False)


async def test_the_sizes_are_those_of_pages_and_grow_with_the_records(node: Node) -> None:
    await make_farm(node)
    before = await node.ok(operation="describe_table", **FARM_ANIMAL)
    await node.ok(operation="insert", **FARM_ANIMAL, records=[{"id": n, "text": "x" * 500} for n in range(200)])
    after = await node.ok(operation="describe_table", **FARM_ANIMAL)
    for size in ("db_size", "table_size", "db_audit_size"):
        assert after[size] >= before[size] + 4096, size
    assert after["record_count"] == 200


async def test_the_last_write_is_told_as_its_record_tells_it(node: Node) -> None:
    await make_farm(node)
    await node.ok(operation="insert", **FARM_ANIMAL, records=[{"id": 1}])
    await node.ok(operation="insert", database="farm", table="pen", records=[{"id": 1}])
    (record,) = await node.ok(operation="search_by_id", **FARM_ANIMAL, ids=[1], get_attributes=["*"])
    described = await node.ok(operation="describe_table", **FARM_ANIMAL)
    assert described["last_updated_record"] == record["__updatedtime__"]


async def test_a_delete_is_a_write_too(node: Node) -> None:
    await make_farm(node)
    await node.ok(operation="insert", **FARM_ANIMAL, records=[{"id": 1}])
    before = await node.ok(operation="describe_table", **FARM_ANIMAL)
    await node.ok(operation="delete", **FARM_ANIMAL, ids=[1])
    after = await node.ok(operation="describe_table", **FARM_ANIMAL)
    assert after["last_updated_record"] > before["last_updated_record"]
    assert after["record_count"] == 0


async def test_expired_records_are_not_counted(node: Node) -> None:
    await make_farm(node)
    await node.ok(operation="insert", **FARM_ANIMAL, records=[{"id": 1}, {"id": 2}], expiresAt=1)
    await node.ok(operation="insert", **FARM_ANIMAL, records=[{"id": 3}])
    assert (await node.ok(operation="describe_table", **FARM_ANIMAL, exact_count=True))["record_count"] == 1


async def test_a_database_is_described_as_its_tables_by_name(node: Node) -> None:
    await make_farm(node)
    described = await node.ok(operation="describe_database", database="farm")
    assert list(described) == ["animal", "pen"]
    assert described["pen"] == await node.ok(operation="describe_table", database="farm", table="pen")
    assert await node.ok(operation="describe_schema", schema="spare") == {}


async def test_empty_databases_come_last_and_system_never(node: Node) -> None:
    await node.ok(operation="create_database", database="an empty one")
    await make_farm(node)
    assert list(await node.ok(operation="describe_all")) == ["farm", "an empty one", "spare"]


async def test_the_system_database_is_described_to_super_users(node: Node) -> None:
    described = await node.ok(operation="describe_table", database="system", table="hdb_user")
    assert (described["hash_attribute"], described["record_count"]) == ("username", 1)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"operation": "describe_all", "exact_count": "true"}, "'exact_count' must be a boolean"),
        ({"operation": "describe_table"}, "'table' is required"),
        ({"operation": "describe_table", "table": "t", "exact_count": "true"}, "'exact_count' must be a boolean"),
        (
            {"operation": "describe_table", "database": 5, "table": 6},
            "'database' must be a string. 'table' must be a string",
        ),
        ({"operation": "describe_schema", "schema": None}, "'schema' must be a string"),
        ({"operation": "drop_database", "database": 5}, "'database' must be a string"),
        ({"operation": "drop_database", "database": "x", "replicated": "yes"}, "'replicated' must be a boolean"),
        ({"operation": "create_database", "database": ""}, "'database' is not allowed to be empty"),
        ({"operation": "create_database", "database": None}, "'database' must be a string"),
        (
            {"operation": "create_database", "database": "x" * 251},
            "'database' length must be less than or equal to 250 characters long",
        ),
        (
            {"operation": "create_schema", "schema": "naïve"},
            "'schema' names cannot include backticks or forward slashes",
        ),
    ],
    ids=str,
)
async def test_what_does_not_fit_is_told_in_the_documented_words(
    node: Node, fields: dict[str, Any], problem: str
) -> None:
    assert await node.post(fields) == (400, {"error": problem})


# -- creating and dropping --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["my db-1.x", ".", "..", "COM1", "Farm", "x" * 250, "%2e", "a b ~"])
async def test_every_legal_name_is_the_name_of_a_database(node: Node, name: str) -> None:
    await node.ok(operation="create_database", database="farm")
    await node.ok(operation="create_database", database=name)
    assert set(await node.ok(operation="describe_all")) == {"farm", name}
    await node.ok(operation="drop_database", database=name)
    assert set(await node.ok(operation="describe_all")) == {"farm"}


async def test_without_a_name_the_database_data_is_created(node: Node) -> None:
    assert await node.ok(operation="create_database") == {"message": "database 'data' successfully created"}


async def test_the_name_system_is_taken(node: Node) -> None:
    request = {"operation": "create_database", "database": "system"}
    assert await node.post(request) == (400, {"error": "database 'system' already exists"})


async def test_a_dropped_database_can_be_created_again_at_once_and_is_empty(node: Node) -> None:
    await make_farm(node)
    await node.ok(operation="drop_database", database="farm")
    await node.ok(operation="create_database", database="farm")
    assert await node.ok(operation="describe_database", database="farm") == {}


async def test_a_drop_for_all_nodes_of_a_node_without_peers_says_that_there_are_none(node: Node) -> None:
    await make_farm(node)
    answer = await node.ok(operation="drop_database", database="farm", replicated=True)
    assert answer == {"message": "successfully deleted 'farm'", "replicated": []}


async def test_requests_on_a_database_that_is_being_dropped_end_in_an_answer(node: Node) -> None:
    statuses: list[int] = []

    async def keep_asking(request: dict[str, Any]) -> None:
        for number in range(10):
            named = {"attribute": f"y{number}"} if "attribute" in request else {}
            status, answer = await node.post({**request, **named})
            statuses.append(status)
            assert status == 200 or "closed" in answer["error"] or "does not exist" in answer["error"]

    await make_farm(node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_asking, {"operation": "describe_all"})
        nursery.start_soon(keep_asking, {"operation": "describe_table", **FARM_ANIMAL})
        nursery.start_soon(keep_asking, {"operation": "insert", **FARM_ANIMAL, "records": [{"name": "x"}]})
        nursery.start_soon(keep_asking, {"operation": "create_attribute", **FARM_ANIMAL, "attribute": "y"})
        await node.ok(operation="drop_database", database="farm")
    assert set(statuses) <= {200, 400, 404, 503}


# -- who sees what ----------------------------------------------------------------------------------------------------


async def test_a_role_without_rights_sees_nothing_and_creates_nothing(node: Node) -> None:
    await make_farm(node)
    user = await with_role(node, {})
    assert await node.post({"operation": "describe_all"}, user=user) == (200, {})
    request = {"operation": "create_table", "database": "farm", "table": "x", "primary_key": "id"}
    restricted = "Operation 'createTable' is restricted to 'super_user' roles"
    assert await node.post(request, user=user) == (403, refusal(access=[restricted]))


@pytest.mark.parametrize("table", ["pen", "ghost"])
async def test_a_table_that_a_role_may_not_see_is_described_like_one_that_is_not_there(node: Node, table: str) -> None:
    await make_farm(node)
    user = await with_role(node, table_rights({"read": True}))
    answer = await node.post({"operation": "describe_table", "database": "farm", "table": table}, user=user)
    assert answer == (403, refusal(items=[f"Table 'farm.{table}' does not exist"]))


def refusal(access: list[Any] | None = None, items: list[str] | None = None) -> dict[str, Any]:
    return {
        "error": AccessDenied.MESSAGE,
        "unauthorized_access": access or [],
        "invalid_schema_items": items or [],
    }


@pytest.mark.parametrize("right", ["read", "insert", "update", "delete"])
async def test_any_right_on_a_table_shows_it_and_its_database(node: Node, right: str) -> None:
    await make_farm(node)
    user = await with_role(node, table_rights({right: True}))
    status, described = await node.post({"operation": "describe_all"}, user=user)
    assert (status, list(described), list(described["farm"])) == (200, ["farm"], ["animal"])
    assert names(described["farm"]["animal"]) == ["id", "__createdtime__", "__updatedtime__"]


async def test_attribute_permissions_show_the_permitted_attributes_and_the_key(node: Node) -> None:
    await make_farm(node)
    await node.ok(operation="insert", **FARM_ANIMAL, records=[{"id": 1, "name": "Tarka", "weight": 7}])
    permitted = {"attribute_name": "weight", "read": True, "insert": False, "update": False}
    user = await with_role(node, table_rights({"read": True}, [permitted]))
    status, described = await node.post({"operation": "describe_table", **FARM_ANIMAL}, user=user)
    assert (status, names(described), described["record_count"]) == (200, ["id", "weight"], 1)


async def test_a_structure_user_sees_its_databases_also_when_they_are_empty(node: Node) -> None:
    await make_farm(node)
    user = await with_role(node, {"structure_user": ["spare"]})
    assert await node.post({"operation": "describe_all"}, user=user) == (200, {"spare": {}})


async def test_a_structure_user_creates_and_drops_databases(node: Node) -> None:
    user = await with_role(node, {"structure_user": True})
    for name in ("create_database", "drop_database"):
        assert (await node.post({"operation": name, "database": "barn"}, user=user))[0] == 200


async def test_the_system_database_is_not_described_to_others(node: Node) -> None:
    user = await with_role(node, {"structure_user": True})
    status, answer = await node.post({"operation": "describe_database", "database": "system"}, user=user)
    hidden = "Your role does not have permission to view database metadata for 'system'"
    assert (status, answer) == (403, refusal(access=[hidden]))
