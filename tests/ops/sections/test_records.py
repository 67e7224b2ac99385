# ruff: noqa: E501 - one refusal a line, with its whole text
"""Writes of records, as clients word them: every answer and every refusal to the letter."""

from typing import Any

import pytest

from tests.animals import ANIMALS
from tests.ops.conftest import Node

A = {"database": "farm", "table": "animal"}


@pytest.fixture
async def farm(node: Node) -> Node:
    await node.ok(operation="create_table", **A, primary_key="id")
    await node.ok(operation="insert", **A, records=ANIMALS)
    return node


async def names_of(farm: Node, *ids: Any) -> list[Any]:
    return [r["name"] for r in await farm.ok(operation="search_by_id", **A, ids=list(ids), get_attributes=["name"])]


async def record(farm: Node, key: Any) -> dict[str, Any]:
    (found,) = await farm.ok(operation="search_by_id", **A, ids=[key], get_attributes=["*"])
    assert isinstance(found, dict)
    return found


async def test_the_vectors_of_writing_in_order(farm: Node) -> None:
    both = [{"id": 1, "name": "dup"}, {"id": 7, "name": "Nell"}]
    assert await farm.ok(operation="insert", **A, records=both) == {
        "message": "inserted 1 of 2 records",
        "inserted_hashes": [7],
        "skipped_hashes": [1],
    }
    assert await farm.ok(operation="delete", **A, ids=[7]) == {
        "message": "1 of 1 record successfully deleted",
        "deleted_hashes": [7],
        "skipped_hashes": [],
    }
    assert await farm.ok(operation="insert", **A, records=[]) == {
        "message": "inserted 0 of 0 records",
        "inserted_hashes": [],
        "skipped_hashes": [],
    }
    updated = await farm.ok(operation="update", **A, records=[{"id": 3, "weight": 39}, {"id": 77, "weight": 1}])
    assert updated == {"message": "updated 1 of 2 records", "update_hashes": [3], "skipped_hashes": [77]}
    upserted = await farm.ok(operation="upsert", **A, records=[{"id": 3, "weight": 38}, {"id": 6, "name": "Pip"}])
    assert upserted == {"message": "upserted 2 of 2 records", "upserted_hashes": [3, 6]}
    deleted = await farm.ok(operation="delete", **A, hash_values=[6])
    assert deleted["message"] == "1 of 1 record successfully deleted"
    deleted = await farm.ok(operation="delete", **A, ids=[998, 999])
    assert deleted["message"] == "2 of 2 records successfully deleted"
    assert (await farm.ok(operation="delete", **A, ids=[]))["message"] == "0 of 0 records successfully deleted"


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"operation": "insert", "records": []}, 400, "'table' is required"),
    ({"operation": "insert", "table": "", "records": []}, 400, "'table' is not allowed to be empty"),
    ({"operation": "insert", "table": [], "records": []}, 400, "'table' must be one of [string, number]"),
    ({"operation": "insert", **A}, 400, "'records' is required"),
    ({"operation": "insert", **A, "records": {"id": 9}}, 400, "'records' must be an array"),
    ({"operation": "insert", **A, "records": [5]}, 400, "'records[0]' must be of type object"),
    ({"operation": "insert", **A, "records": [{"id": 8, "a/b": 1}]}, 400, "Attribute names cannot include backticks or forward slashes"),
    ({"operation": "insert", **A, "records": [{"id": 8, "": 1}]}, 400, "Invalid attribute name: ''"),
    ({"operation": "insert", **A, "records": [{"id": 8, "undefined": 1, "null": 1}]}, 400, "Invalid attribute name: 'null'. Invalid attribute name: 'undefined'"),
    ({"operation": "insert", **A, "records": [{"id": "null"}]}, 400, "Invalid hash value: 'null' is not a valid hash attribute value, check log for more info"),
    ({"operation": "insert", "database": "farm", "table": "ghost", "records": [{"id": 1}]}, 400, "Table 'farm.ghost' does not exist"),
    ({"operation": "upsert", "database": "nowhere", "table": "ghost", "records": [{"id": 1}]}, 400, "database 'nowhere' does not exist"),
    ({"operation": "update", **A, "records": [{"weight": 1}]}, 400, "a valid hash attribute must be provided with update record, check log for more info"),
    ({"operation": "update", **A, "records": [{"id": "", "weight": 1}]}, 400, "a valid hash attribute must be provided with update record, check log for more info"),
    ({"operation": "insert", **A, "records": [{"id": True}]}, 500, "Invalid primary key type: boolean"),
    ({"operation": "insert", **A, "records": [{"id": {"a": 1}}]}, 400, "Invalid primary key type: object"),
    ({"operation": "insert", **A, "records": [{"id": "x" * 1978}]}, 500, "Primary key size is too large: 1979"),
    ({"operation": "insert", **A, "records": [{"id": 8, "x" * 251: 1}]}, 400, f"transaction aborted due to attribute name {'x' * 251} being too long. Attribute names cannot be longer than 250 bytes."),
    ({"operation": "delete", **A}, 400, "'hash_values' is required"),
    ({"operation": "delete", **A, "ids": 1}, 400, "'hash_values' must be an array. 'ids' must be an array"),
    ({"operation": "delete", **A, "hash_values": 1}, 400, "'hash_values' must be an array"),
    ({"operation": "delete", "database": "farm", "ids": [1]}, 400, "'table' is required"),
    ({"operation": "delete", "database": "farm", "table": "ghost", "ids": [1]}, 404, "Table 'farm.ghost' does not exist"),
    ({"operation": "delete", "database": "nowhere", "table": "ghost", "ids": [1]}, 404, "database 'nowhere' does not exist"),
    ({"operation": "delete", **A, "ids": [None]}, 400, "Invalid primary key of null"),
    ({"operation": "delete", "database": "system", "table": "hdb_job", "ids": ["x"]}, 403, "The 'system' database, tables and records are used internally by HarperDB and cannot be updated or removed."),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), REFUSED)
async def test_what_does_not_fit_is_refused_to_the_letter(
    farm: Node, body: dict[str, Any], status: int, message: str
) -> None:
    before = await farm.ok(operation="describe_table", **A)
    assert await farm.post(body) == (status, {"error": message})
    assert await farm.ok(operation="describe_table", **A) == before


async def test_a_request_is_written_whole_or_not_at_all(farm: Node) -> None:
    status, _ = await farm.post({"operation": "insert", **A, "records": [{"id": 20, "new": 1}, {"id": True}]})
    assert status == 500
    assert await names_of(farm, 20) == []
    attributes = (await farm.ok(operation="describe_table", **A))["attributes"]
    assert "new" not in [attribute["attribute"] for attribute in attributes]


async def test_an_update_replaces_attributes_and_keeps_the_others(farm: Node) -> None:
    before = await record(farm, 1)
    await farm.ok(operation="update", **A, records=[{"id": 1, "info": {"x": 1}, "__createdtime__": 5}])
    after = await record(farm, 1)
    assert after["info"] == {"x": 1}
    assert after["name"] == "Bella"
    assert after["__createdtime__"] == before["__createdtime__"]
    assert after["__updatedtime__"] > before["__updatedtime__"]


async def test_all_records_of_a_request_have_one_time(farm: Node) -> None:
    await farm.ok(operation="insert", **A, records=[{"id": 30}, {"id": 31}])
    first, second = await record(farm, 30), await record(farm, 31)
    assert first["__createdtime__"] == first["__updatedtime__"] == second["__createdtime__"]


async def test_deleting_and_inserting_again_starts_afresh(farm: Node) -> None:
    before = await record(farm, 2)
    await farm.ok(operation="delete", **A, ids=[2])
    assert await names_of(farm, 2) == []
    await farm.ok(operation="insert", **A, records=[{"id": 2, "name": "Otis II"}])
    after = await record(farm, 2)
    assert after["__createdtime__"] > before["__createdtime__"]
    assert after["kind"] is None


async def test_missing_keys_are_generated_and_told(farm: Node) -> None:
    sent = [{"name": "x"}, {"id": None, "name": "y"}, {"name": "z"}]
    answer = await farm.ok(operation="insert", **A, records=sent)
    first, second, third = answer["inserted_hashes"]
    assert 0 <= first < 1 << 49
    assert (second, third) == (first + 1, first + 2)
    assert await names_of(farm, first, second, third) == ["x", "y", "z"]


async def test_text_keys_are_generated_as_uuids(node: Node) -> None:
    attributes = [{"name": "id", "type": "ID"}, {"name": "n", "type": "Int"}]
    await node.ok(operation="create_table", database="farm", table="pen", primary_key="id", attributes=attributes)
    answer = await node.ok(operation="insert", database="farm", table="pen", records=[{"n": 1}])
    assert len(answer["inserted_hashes"][0]) == 36


async def test_a_repeated_key_is_skipped_by_insert_and_applied_in_order_by_upsert(farm: Node) -> None:
    twice = [{"id": 40, "name": "a"}, {"id": 40, "name": "b", "kind": "k"}]
    answer = await farm.ok(operation="insert", **A, records=twice)
    assert (answer["inserted_hashes"], answer["skipped_hashes"]) == ([40], [40])
    assert await names_of(farm, 40) == ["a"]
    await farm.ok(operation="upsert", **A, records=[{"id": 41, "name": "a", "weight": 1}, {"id": 41, "name": "b"}])
    found = await record(farm, 41)
    assert (found["name"], found["weight"]) == ("b", 1)


async def test_keys_match_by_type(farm: Node) -> None:
    assert await names_of(farm, "1") == []
    answer = await farm.ok(operation="delete", **A, ids=["1"])
    assert answer["message"] == "1 of 1 record successfully deleted"
    assert await names_of(farm, 1) == ["Bella"]
    await farm.ok(operation="insert", **A, records=[{"id": 50.0, "name": "whole"}])
    assert await names_of(farm, 50) == ["whole"]


async def test_new_attributes_are_declared_in_order_of_first_appearance(farm: Node) -> None:
    await farm.ok(operation="insert", **A, records=[{"id": 60, "zulu": 1, "alpha": 2}, {"id": 61, "mike": 3}])
    attributes = (await farm.ok(operation="describe_table", **A))["attributes"]
    assert [attribute["attribute"] for attribute in attributes][-3:] == ["zulu", "alpha", "mike"]


async def test_a_typed_table_refuses_all_when_one_value_does_not_fit(node: Node) -> None:
    typed = {"database": "farm", "table": "typed"}
    attributes = [{"name": "id", "type": "Int"}, {"name": "n", "type": "Int"}]
    await node.ok(operation="create_table", **typed, primary_key="id", attributes=attributes)
    status, answer = await node.post(
        {"operation": "insert", **typed, "records": [{"id": 1, "n": 1}, {"id": 2, "n": "x"}]}
    )
    assert (status, answer["error"]) == (
        400,
        'Value "x" in property n must be an integer (from -2147483648 to 2147483647)',
    )
    assert await node.ok(operation="search_by_id", **typed, ids=[1, 2], get_attributes=["*"]) == []


async def test_a_record_with_an_expiry_in_the_past_is_gone(farm: Node) -> None:
    await farm.ok(operation="insert", **A, records=[{"id": 70, "name": "mayfly"}], expiresAt=1)
    assert await names_of(farm, 70) == []
    assert (await farm.ok(operation="describe_table", **A))["record_count"] == len(ANIMALS)


async def test_numbers_name_databases_and_tables_too(node: Node) -> None:
    await node.ok(operation="create_table", database="5", table="7", primary_key="id")
    await node.ok(operation="insert", database=5, table=7, records=[{"id": 1}])
    assert await node.ok(operation="search_by_id", database="5", table="7", ids=[1], get_attributes=["id"]) == [
        {"id": 1}
    ]


@pytest.mark.parametrize("field", ["replicateTo", "replicatedConfirmation"])
async def test_replication_parameters_are_for_super_users(farm: Node, field: str) -> None:
    flags = {"read": True, "insert": True, "update": True, "delete": True, "attribute_permissions": []}
    await farm.ok(operation="add_role", role="w", permission={"farm": {"tables": {"animal": flags}}})
    await farm.ok(operation="add_user", username="w", password="Writer-1", role="w", active=True)
    for body in ({"operation": "insert", "records": []}, {"operation": "delete", "ids": []}):
        status, answer = await farm.post({**body, **A, field: 1}, user=("w", "Writer-1"))
        assert status == 403
        assert answer["error"].endswith("without super user permissions")


async def test_more_confirmations_than_peers_are_refused_before_anything_is_written(farm: Node) -> None:
    body = {"operation": "insert", **A, "records": [{"id": 80}], "replicatedConfirmation": 1}
    status, answer = await farm.post(body)
    assert status == 400
    assert answer["error"].startswith("Cannot confirm replication to more nodes (1) than")
    assert await names_of(farm, 80) == []


async def test_a_user_row_written_directly_can_log_in_and_hides_its_password(node: Node) -> None:
    user = {"username": "direct", "password": "Direct-1", "role": "super_user", "active": True}
    await node.ok(operation="insert", database="system", table="hdb_user", records=[user])
    status, _ = await node.post({"operation": "user_info"}, user=("direct", "Direct-1"))
    assert status == 200
    (stored,) = await node.ok(
        operation="search_by_id", database="system", table="hdb_user", ids=["direct"], get_attributes=["password"]
    )
    assert stored["password"] != "Direct-1"


async def test_the_last_super_user_cannot_be_deleted_directly(node: Node) -> None:
    status, answer = await node.post(
        {"operation": "delete", "database": "system", "table": "hdb_user", "ids": ["admin"]}
    )
    assert (status, answer) == (409, {"error": "Cannot remove the last active super user"})
