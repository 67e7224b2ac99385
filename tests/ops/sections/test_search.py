"""The three searches as clients send them, from request to answer."""

import json
from typing import Any

import pytest

from tests.animals import ANIMALS
from tests.ops.conftest import Node, whole_body

A = {"database": "farm", "table": "animal"}
GOAT = {"attribute": "kind", "value": "goat"}


@pytest.fixture
async def farm(node: Node) -> Node:
    await node.ok(operation="create_table", **A, primary_key="id")
    await node.ok(operation="insert", **A, records=ANIMALS)
    return node


async def _refused(node: Node, **body: Any) -> tuple[int, str]:
    status, answer = await node.post(body)
    return status, answer["error"]


async def test_search_by_id_answers_in_the_order_of_the_ids(farm: Node) -> None:
    found = await farm.ok(operation="search_by_id", **A, ids=[3, 1, 77, 1, "1"], get_attributes=["id", "name", "tags"])
    bella = {"id": 1, "name": "Bella", "tags": ["milk", "calm"]}
    assert found == [{"id": 3, "name": "Fern", "tags": None}, bella, bella]
    assert await farm.ok(operation="search_by_hash", **A, hash_values=[1], get_attributes=["name"]) == [
        {"name": "Bella"}
    ]


async def test_search_by_id_of_many_ids(farm: Node) -> None:
    found = await farm.ok(operation="search_by_id", **A, ids=[1, 2] * 400, get_attributes=["id"])
    assert found == [{"id": 1}, {"id": 2}] * 400


async def test_search_by_id_refuses_unknown_attributes_and_tables(farm: Node) -> None:
    search = {"operation": "search_by_id", **A, "ids": [1], "get_attributes": ["ghost"]}
    assert await _refused(farm, **search) == (500, "unknown attribute 'ghost'")
    assert await _refused(farm, **{**search, "table": "ghost"}) == (404, "Table 'farm.ghost' does not exist")
    assert await _refused(farm, **{**search, "database": "ghost"}) == (404, "database 'ghost' does not exist")
    del search["get_attributes"]
    assert await _refused(farm, **search) == (500, "'get_attributes' is required")


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({"attribute": "name", "value": "O*"}, [2]),
        ({"attribute": "name", "value": "*z*"}, [4, 5]),
        ({"attribute": "name", "value": "*la"}, [1]),
        ({"attribute": "weight", "value": "*8*"}, [3, 2]),
        ({"attribute": "weight", "value": "3*"}, [3]),
        ({"attribute": "weight", "value": "38"}, []),
        ({"attribute": "weight", "value": None}, [4]),
        ({"attribute": "tags", "value": "calm"}, [1, 2]),
        ({"attribute": "weight", "value": "*"}, [1, 2, 3, 4, 5]),
        ({"search_attribute": "kind", "search_value": "goat", "desc": True}, [5, 3, 1]),
        ({**GOAT, "limit": 1, "offset": 1}, [3]),
        ({**GOAT, "sort": {"attribute": "weight", "descending": True}}, [1, 3, 5]),
    ],
)
async def test_search_by_value(farm: Node, fields: dict[str, Any], ids: list[int]) -> None:
    found = await farm.ok(operation="search_by_value", **A, get_attributes=["id"], **fields)
    assert [record["id"] for record in found] == ids


async def test_search_by_value_without_a_selection_returns_the_stored_record(farm: Node) -> None:
    (found,) = await farm.ok(operation="search_by_value", **A, attribute="id", value=5)
    assert set(found) == {"id", "name", "kind", "pen_id", "tags", "__createdtime__", "__updatedtime__"}


async def test_search_by_value_refuses(farm: Node) -> None:
    search = {"operation": "search_by_value", **A, "attribute": "ghost", "value": "x"}
    assert await _refused(farm, **search) == (500, "unknown attribute 'ghost'")
    assert await _refused(farm, **{**search, "table": "ghost"}) == (404, "Table 'farm.ghost' does not exist")


async def test_search_by_conditions(farm: Node) -> None:
    found = await farm.ok(
        operation="search_by_conditions",
        **A,
        conditions=[{"attribute": "id", "comparator": "greater_than", "value": 0}],
        sort={"attribute": "kind", "next": {"attribute": "name", "descending": True}},
        get_attributes=["id", {"name": "info", "select": ["chip"]}],
    )
    assert found == [
        {"id": 2, "info": None},
        {"id": 5, "info": None},
        {"id": 3, "info": None},
        {"id": 1, "info": {"chip": "A1"}},
        {"id": 4, "info": None},
    ]


async def test_search_by_conditions_of_more_than_a_page(farm: Node) -> None:
    await farm.ok(operation="insert", **A, records=[{"id": number, "kind": "hen"} for number in range(100, 2600)])
    hens = [{"attribute": "kind", "value": "hen"}]
    found = await farm.ok(operation="search_by_conditions", **A, conditions=hens, get_attributes=["id"])
    assert [record["id"] for record in found] == list(range(100, 2600))
    counted = await farm.ok(operation="search_by_value", **A, attribute="kind", value="hen", get_attributes=["id"])
    assert len(counted) == 2500


async def test_search_by_conditions_refuses(farm: Node) -> None:
    search = {"operation": "search_by_conditions", **A, "conditions": [GOAT]}
    assert await _refused(farm, **{**search, "table": "ghost"}) == (400, "Table ghost not found")
    assert await _refused(farm, **{**search, "database": "ghost"}) == (404, "database 'ghost' does not exist")
    in_list = {**GOAT, "comparator": "in", "value": ["goat"]}
    assert await _refused(farm, **{**search, "conditions": [in_list]}) == (400, 'Unknown query comparator "in"')
    del search["table"]
    assert await _refused(farm, **search) == (400, "Table undefined not found")


async def test_explain_tells_of_the_index_and_answers_no_records(farm: Node) -> None:
    told = await farm.ok(operation="search_by_conditions", **A, conditions=[GOAT], get_attributes=["id"], explain=True)
    (step,) = told["plan"]
    assert step["index"] == "kind"
    assert step["estimated"] == 3
    assert told["operator"] == "and"
    assert told["postOrdering"] is None
    assert told["selectApplied"] is True


async def test_csv_has_the_selected_columns(farm: Node) -> None:
    body = {"operation": "search_by_conditions", **A, "conditions": [GOAT], "get_attributes": ["id", "name", "tags"]}
    answer = await farm.respond(body, headers={"accept": "text/csv"})
    content = (await whole_body(answer)).decode()
    assert content.splitlines()[:3] == ['"id","name","tags"', '1,"Bella","[""milk"",""calm""]"', '3,"Fern",']


async def test_metadata_of_a_record(farm: Node) -> None:
    (found,) = await farm.ok(
        operation="search_by_value", **A, attribute="id", value=1, get_attributes=["$id", "$updatedtime", "$expiresAt"]
    )
    assert found["$id"] == 1
    assert found["$updatedtime"] > 1.7e12
    assert found["$expiresAt"] is None


READER = {
    "super_user": False,
    "farm": {
        "tables": {
            "animal": {
                "read": True,
                "insert": False,
                "update": False,
                "delete": False,
                "attribute_permissions": [
                    {"attribute_name": "name", "read": True, "insert": False, "update": False},
                    {"attribute_name": "info", "read": True, "insert": False, "update": False},
                ],
            }
        }
    },
}


@pytest.fixture
async def reader(farm: Node) -> tuple[str, str]:
    await farm.ok(operation="add_role", role="reader", permission=READER)
    await farm.ok(operation="add_user", username="rose", password="Otter-2", role="reader", active=True)
    return "rose", "Otter-2"


@pytest.mark.parametrize("selection", [{}, {"get_attributes": ["*"]}])
async def test_a_role_with_attribute_permissions_sees_what_it_may_read(
    farm: Node, reader: tuple[str, str], selection: dict[str, Any]
) -> None:
    body = {"operation": "search_by_value", **A, "attribute": "name", "value": "Fern", **selection}
    status, answer = await farm.post(body, user=reader)
    assert status == 200
    assert answer == [{"name": "Fern", "info": None, "id": 3}]


async def test_such_a_role_may_select_inside_what_it_may_read(farm: Node, reader: tuple[str, str]) -> None:
    selection = [{"name": "info", "select": ["chip"]}]
    body = {"operation": "search_by_value", **A, "attribute": "name", "value": "Bella", "get_attributes": selection}
    assert await farm.post(body, user=reader) == (200, [{"info": {"chip": "A1"}}])


@pytest.mark.parametrize(
    "fields",
    [
        {"conditions": [{"attribute": "name", "value": "x"}], "get_attributes": ["kind"]},
        {"conditions": [{"attribute": "name", "value": "x"}], "get_attributes": ["$record"]},
        {"conditions": [GOAT]},
        {"conditions": [{"operator": "and", "conditions": [GOAT]}]},
        {"conditions": [{"attribute": "name", "value": "x"}], "sort": {"attribute": "kind"}},
    ],
)
async def test_such_a_role_learns_nothing_of_other_attributes(
    farm: Node, reader: tuple[str, str], fields: dict[str, Any]
) -> None:
    status, answer = await farm.post({"operation": "search_by_conditions", **A, **fields}, user=reader)
    assert status == 403
    assert "does not exist on 'farm.animal'" in json.dumps(answer["invalid_schema_items"])
