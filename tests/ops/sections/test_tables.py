"""The operations on tables and attributes: names, definitions, what is stored, and what a drop takes away."""

from typing import Any

import pytest
import trio

from ops.errors import SYSTEM_IS_PROTECTED
from storage.table_statistics import TableStatistics
from tests.ops.conftest import Node

ANIMAL = {"database": "farm", "table": "animal"}
TIMES = ("__createdtime__", "__updatedtime__")
NAME_PATTERN = "names cannot include backticks or forward slashes"


async def create(node: Node, **fields: Any) -> tuple[int, Any]:
    return await node.post({"operation": "create_table", **ANIMAL, "primary_key": "id", **fields})


async def attributes(node: Node, **table: Any) -> list[dict[str, Any]]:
    described = await node.ok(operation="describe_table", **(table or ANIMAL))
    found: list[dict[str, Any]] = described["attributes"]
    return found


async def record(node: Node, key: Any = 1) -> Any:
    (found,) = await node.ok(operation="search_by_id", **ANIMAL, ids=[key], get_attributes=["*"])
    return found


# -- creating tables --------------------------------------------------------------------------------------------------


async def test_a_table_with_attributes_is_described_as_it_was_defined(node: Node) -> None:
    definitions = [
        {"name": "id", "type": "ID"},
        {"name": "vet", "type": "String", "indexed": True, "nullable": False},
        {"name": "fee", "type": "Float"},
        {"name": "at", "type": "Date", "indexed": True},
        {"name": "marks", "type": "array", "elements": {"type": "String"}},
        {"name": "owner", "type": "Person", "properties": [{"name": "town", "type": "String"}]},
        {"name": "seen", "type": "Telescope", "indexed": False},
        {"name": "made", "type": "Long", "assignCreatedTime": True},
        {"name": "changed", "assignUpdatedTime": True},
        {"name": "until", "expiresAt": True},
        {"attribute": "old"},
    ]
    assert (await create(node, attributes=definitions))[0] == 200
    described = await node.ok(operation="describe_table", **ANIMAL)
    assert described["schema_defined"] is True
    assert described["attributes"] == [
        {"attribute": "id", "type": "ID", "is_primary_key": True},
        {"attribute": "vet", "type": "String", "indexed": True, "nullable": False},
        {"attribute": "fee", "type": "Float"},
        {"attribute": "at", "type": "Date", "indexed": True},
        {"attribute": "marks", "type": "array", "elements": "String"},
        {"attribute": "owner", "type": "Person", "properties": [{"type": "String", "name": "town"}]},
        {"attribute": "seen", "type": "Telescope", "indexed": False},
        {"attribute": "made", "type": "Long", "assigned_created_time": True},
        {"attribute": "changed", "assigned_updated_time": True},
        {"attribute": "until", "indexed": True},
        {"attribute": "old", "indexed": True},
    ]


async def test_the_fields_of_an_attribute_stand_in_the_documented_order(node: Node) -> None:
    definition = {"nullable": True, "assignUpdatedTime": True, "indexed": True, "type": "Long", "name": "at"}
    await create(node, attributes=[definition])
    found = (await attributes(node))[1]
    assert list(found) == ["attribute", "type", "indexed", "assigned_updated_time", "nullable"]


@pytest.mark.parametrize("definitions", [[], [{"name": "vet"}]], ids=str)
async def test_without_a_definition_of_it_the_primary_key_comes_first_and_untyped(
    node: Node, definitions: list[Any]
) -> None:
    await create(node, attributes=definitions)
    first, *others = await attributes(node)
    assert first == {"attribute": "id", "is_primary_key": True}
    assert [one["attribute"] for one in others] == [one["name"] for one in definitions]
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1, "other": 2}])
    assert (await record(node))["other"] == 2


async def test_the_top_level_primary_key_decides_and_never_changes_under_a_record(node: Node) -> None:
    definitions = [{"name": "vet", "is_primary_key": True}, {"name": "id", "assignUpdatedTime": True}]
    await create(node, attributes=definitions)
    assert await attributes(node) == [{"attribute": "vet"}, {"attribute": "id", "is_primary_key": True}]
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1}])
    assert (await record(node))["id"] == 1


async def test_a_table_that_defines_attributes_has_times_only_where_it_names_them(node: Node) -> None:
    await create(node, attributes=[{"name": "__createdtime__"}, {"name": "made", "assignCreatedTime": True}])
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1}])
    found = await record(node)
    assert found["__createdtime__"] == found["made"]
    assert "__updatedtime__" not in found


async def test_a_record_of_a_table_with_an_expiration_expires(node: Node) -> None:
    assert (await create(node, expiration="0.001"))[0] == 200
    assert (await node.ok(operation="describe_table", **ANIMAL))["expiration"] == "0.001s"
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1}])
    with trio.fail_after(5):
        while (await node.ok(operation="describe_table", **ANIMAL))["record_count"]:
            await trio.lowlevel.checkpoint()


async def test_an_expiration_of_zero_is_none(node: Node) -> None:
    await create(node, expiration=0)
    assert "expiration" not in await node.ok(operation="describe_table", **ANIMAL)


async def test_a_table_that_is_not_replicated_keeps_its_records_out_of_every_stream(node: Node) -> None:
    await create(node, replicate=False)
    await create(node, table="shared")
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1}])
    await node.ok(operation="insert", database="farm", table="shared", records=[{"id": 1}])
    with node.services.catalog.database("farm").read() as tx:
        numbers = [entry.header.oseq for entry in tx.log.read_from()]
    assert numbers == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"table": None}, "'table' must be a string"),
        ({"table": ""}, "'table' is not allowed to be empty"),
        ({"table": "a/b"}, f"'table' {NAME_PATTERN}"),
        ({"table": "x" * 251}, "'table' length must be less than or equal to 250 characters long"),
        ({"primary_key": "a`b"}, f"'hash_attribute' {NAME_PATTERN}"),
        ({"primary_key": "naïve"}, f"'hash_attribute' {NAME_PATTERN}"),
        ({"primary_key": 5}, "'primary_key' must be a string"),
        ({"database": "a/b"}, f"'database' {NAME_PATTERN}"),
        ({"expiration": "soon"}, "'expiration' must be a number"),
        ({"expiration": -1}, "'expiration' must be greater than or equal to 0"),
        ({"expiration": 1e300}, "'expiration' must be less than or equal to 1000000000000"),
        ({"audit": "yes"}, "'audit' must be a boolean"),
        (
            {"residence": ["n2"]},
            "Clustering does not appear to be enabled. Cannot insert table with property 'residence'.",
        ),
        ({"attributes": {"name": "id"}}, "'attributes' must be an array"),
        ({"attributes": ["id"]}, "'attributes[0]' must be of type object"),
        ({"attributes": [{"type": "ID"}]}, "Attribute name is required"),
        ({"attributes": [{"name": ""}]}, "Attribute name is required"),
        ({"attributes": [{"name": 5}]}, "'name' must be a string"),
        ({"attributes": [{"name": "a/b"}]}, "Attribute names cannot include backticks or forward slashes"),
        ({"attributes": [{"attribute": "a`b"}]}, "Attribute names cannot include backticks or forward slashes"),
        (
            {"attributes": [{"name": "é" * 126}]},
            (
                f"transaction aborted due to attribute name {'é' * 126} being too long. "
                "Attribute names cannot be longer than 250 bytes."
            ),
        ),
        (
            {"primary_key": "__createdtime__"},
            "'primary_key' cannot be an internal timestamp attribute: __createdtime__",
        ),
        (
            {"primary_key": "__updatedtime__", "attributes": []},
            "'primary_key' cannot be an internal timestamp attribute: __updatedtime__",
        ),
        ({"attributes": [{"name": "a"}, {"name": "a"}]}, "attribute 'a' already exists in farm.animal"),
        ({"attributes": [{"name": "a", "indexed": "yes"}]}, "'indexed' must be a boolean"),
        ({"attributes": [{"name": "a", "type": 5}]}, "'type' must be a string"),
        ({"attributes": [{"name": "a", "elements": "String"}]}, "'elements' must be of type object"),
        ({"attributes": [{"name": "a", "properties": {}}]}, "'properties' must be an array"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_what_does_not_fit_is_told_in_the_documented_words(
    node: Node, fields: dict[str, Any], problem: str
) -> None:
    assert await create(node, **fields) == (400, {"error": problem})
    assert await node.ok(operation="describe_all") == {}


async def test_object_types_are_not_nested_without_end(node: Node) -> None:
    nested: dict[str, Any] = {"name": "a"}
    for _ in range(40):
        nested = {"name": "a", "properties": [nested]}
    status, answer = await create(node, attributes=[nested])
    assert (status, answer) == (400, {"error": "'properties' must not be nested deeper than 16 levels"})


async def test_a_table_with_more_attributes_than_sub_databases_is_refused(node: Node) -> None:
    too_many = [{"name": f"a{n}", "indexed": True} for n in range(10_000)]
    problem = "Too many tables and indexed attributes in database 'farm'"
    assert await create(node, attributes=too_many) == (400, {"error": problem})
    assert await node.ok(operation="describe_all") == {"farm": {}}
    beyond = [*too_many, {"name": "one more"}]
    assert (await create(node, attributes=beyond))[1]["error"].startswith("'attributes' must contain less than")


async def test_no_table_is_created_among_the_nodes_own(node: Node) -> None:
    assert await create(node, database="system") == (403, {"error": SYSTEM_IS_PROTECTED})


async def test_creations_that_need_the_same_new_database_do_not_fail_each_other(node: Node) -> None:
    answers: list[tuple[int, Any]] = []

    async def create_one(number: int) -> None:
        answers.append(await create(node, table=f"t{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(create_one, number)
    assert {status for status, _ in answers} == {200}
    assert len((await node.ok(operation="describe_all"))["farm"]) == 8


async def test_of_two_creations_of_one_table_one_is_told_that_it_exists(node: Node) -> None:
    answers: list[tuple[int, Any]] = []

    async def create_it() -> None:
        answers.append(await create(node))

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(create_it)
    assert sorted(status for status, _ in answers) == [200, 400]
    assert (400, {"error": "Table 'animal' already exists in 'farm'"}) in answers


# -- dropping tables --------------------------------------------------------------------------------------------------


async def test_a_dropped_table_is_gone_with_its_records_and_can_be_created_again(node: Node) -> None:
    await create(node)
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1}])
    answer = await node.ok(operation="drop_table", **ANIMAL, replicated=True)
    assert answer == {"message": "successfully deleted table 'farm.animal'", "replicated": []}
    await create(node)
    described = await node.ok(operation="describe_table", **ANIMAL)
    assert described["record_count"] == 0
    assert "last_updated_record" not in described


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({}, 400, "'table' is required"),
        ({"table": 5}, 400, "'table' must be a string"),
        ({"table": "x"}, 404, "database 'data' does not exist"),
        ({"table": "x", "database": "system"}, 403, SYSTEM_IS_PROTECTED),
        ({"table": "x", "schema": "farm"}, 404, "Table 'farm.x' does not exist"),
    ],
    ids=str,
)
async def test_what_cannot_be_dropped_is_told_so(node: Node, fields: dict[str, Any], status: int, problem: str) -> None:
    await create(node)
    assert await node.post({"operation": "drop_table", **fields}) == (status, {"error": problem})


# -- attributes -------------------------------------------------------------------------------------------------------


async def test_a_new_attribute_is_indexed_and_comes_last(node: Node) -> None:
    await create(node)
    await node.ok(operation="create_attribute", **ANIMAL, attribute="colour", type="Int", nullable=False)
    await node.ok(operation="create_attribute", **ANIMAL, attribute="size", indexed=False)
    assert (await attributes(node))[-2:] == [
        {"attribute": "colour", "indexed": True},
        {"attribute": "size", "indexed": False},
    ]


async def test_the_index_of_a_new_attribute_covers_what_a_schema_defined_table_already_holds(node: Node) -> None:
    await create(node, attributes=[{"name": "id"}])
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1, "colour": "red"}, {"id": 2, "colour": "blue"}])
    await node.ok(operation="create_attribute", **ANIMAL, attribute="colour")
    with node.services.catalog.database("farm").read() as tx:
        assert TableStatistics(tx, tx.table("animal")).entry_count("colour") == 2


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({}, 400, "Attribute name is required"),
        ({"attribute": ""}, 400, "Attribute name is required"),
        ({"attribute": 5}, 400, "'attribute' must be a string"),
        ({"attribute": "a/b"}, 400, "Attribute names cannot include backticks or forward slashes"),
        ({"attribute": "x", "indexed": 1}, 400, "'indexed' must be a boolean"),
        ({"attribute": "x", "table": "ghost"}, 404, "Table 'farm.ghost' does not exist"),
        ({"attribute": "x", "database": "ghost"}, 404, "database 'ghost' does not exist"),
        ({"attribute": "id"}, 400, "attribute 'id' already exists in farm.animal"),
    ],
    ids=str,
)
async def test_an_attribute_that_cannot_be_created_is_told_so(
    node: Node, fields: dict[str, Any], status: int, problem: str
) -> None:
    await create(node)
    request = {"operation": "create_attribute", **ANIMAL, **fields}
    assert await node.post(request) == (status, {"error": problem})


async def test_an_attribute_is_not_created_in_the_nodes_own_tables(node: Node) -> None:
    request = {"operation": "create_attribute", "database": "system", "table": "hdb_user", "attribute": "x"}
    status, answer = await node.post(request)
    assert (status, answer["unauthorized_access"][0]["required_table_permissions"]) == (403, ["insert"])


async def test_in_a_dynamic_table_the_values_of_a_dropped_attribute_are_gone(node: Node) -> None:
    await create(node)
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1, "colour": "red", "size": 3}])
    await node.ok(operation="drop_attribute", **ANIMAL, attribute="colour")
    assert set(await record(node)) == {"id", "size", *TIMES}
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 2, "colour": "blue"}])
    assert [one["attribute"] for one in await attributes(node)] == ["id", *TIMES, "size", "colour"]
    assert (await record(node, 2))["colour"] == "blue"


async def test_in_a_schema_defined_table_the_values_of_a_dropped_attribute_stay(node: Node) -> None:
    await create(node, attributes=[{"name": "id"}, {"name": "colour", "indexed": True}])
    await node.ok(operation="insert", **ANIMAL, records=[{"id": 1, "colour": "red"}])
    await node.ok(operation="drop_attribute", **ANIMAL, attribute="colour")
    assert [one["attribute"] for one in await attributes(node)] == ["id"]
    assert (await record(node))["colour"] == "red"


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({}, 400, "'attribute' is required"),
        ({"attribute": "__createdtime__"}, 400, "cannot drop internal timestamp attribute: __createdtime__"),
        ({"attribute": "id"}, 400, "You cannot drop a hash attribute"),
        ({"attribute": "x", "database": "ghost"}, 404, "database 'ghost' does not exist"),
        ({"attribute": "x", "database": "system"}, 403, SYSTEM_IS_PROTECTED),
    ],
    ids=str,
)
async def test_an_attribute_that_cannot_be_dropped_is_told_so(
    node: Node, fields: dict[str, Any], status: int, problem: str
) -> None:
    await create(node)
    assert await node.post({"operation": "drop_attribute", **ANIMAL, **fields}) == (status, {"error": problem})


async def test_dropping_an_attribute_that_is_not_there_changes_nothing(node: Node) -> None:
    await create(node)
    answer = await node.ok(operation="drop_attribute", **ANIMAL, attribute="colour")
    assert answer == {"message": "successfully deleted attribute 'colour'"}
    assert len(await attributes(node)) == 3


async def test_a_role_with_the_right_to_insert_creates_attributes(node: Node) -> None:
    await create(node)
    rights = {"read": False, "insert": True, "update": False, "delete": False, "attribute_permissions": []}
    await node.ok(operation="add_role", role="keeper", permission={"farm": {"tables": {"animal": rights}}})
    await node.ok(operation="add_user", username="keeper", password="Keeper-1", role="keeper", active=True)
    request = {"operation": "create_attribute", **ANIMAL, "attribute": "colour"}
    assert (await node.post(request, user=("keeper", "Keeper-1")))[0] == 200
