"""What is wrong with a role, problem by problem and together."""

from collections.abc import Mapping
from typing import Any

import pytest

from ops.role_validation import InvalidRole, check_changed_role, check_new_role
from storage.schema import Table
from tests.ops.test_permissions import OTTERS, table_of
from tests.ops.user_node import STAFF, permission_of

DATABASES: Mapping[str, Mapping[str, Table]] = {"zoo": {"otter": OTTERS, "staff": table_of(STAFF)}, "park": {}}
TABLE = {"read": True, "insert": True, "update": True, "delete": True, "attribute_permissions": []}
NAME = {"attribute_name": "name", "read": True, "insert": True, "update": True}


def problems_of(body: Mapping[str, Any], *, is_new: bool = True) -> tuple[list[str], dict[str, list[str]]]:
    """``main_permissions`` and ``schema_permissions`` of a role that is refused."""
    check = check_new_role if is_new else check_changed_role
    with pytest.raises(InvalidRole) as refused:
        check(body, DATABASES.get)
    answer = refused.value.body
    assert refused.value.status == 400
    assert answer["error"] == "Errors in the role permissions JSON provided"
    assert set(answer) == {"error", "main_permissions", "schema_permissions"}
    return answer["main_permissions"], answer["schema_permissions"]


def role_of(permission: Any) -> dict[str, Any]:
    return {"operation": "add_role", "role": "keeper", "permission": permission}


def role_with_table(**changes: Any) -> dict[str, Any]:
    return role_of({"zoo": {"tables": {"otter": {**TABLE, **changes}}}})


def role_with_attribute(entry: Any, **changes: Any) -> dict[str, Any]:
    return role_with_table(attribute_permissions=[entry], **changes)


def without(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(
    "permission",
    [
        {},
        {"super_user": True},
        {"super_user": False},
        {"cluster_user": True},
        {"cluster_user": False, "zoo": {}},
        {"structure_user": True},
        {"structure_user": ["zoo", "park"]},
        {"structure_user": []},
        {"zoo": {}},
        {"zoo": {"tables": {}}},
        {"zoo": {"tables": {"otter": {**TABLE, "attribute_permissions": None}}}},
        {"zoo": {"tables": {"otter": {**TABLE, "attribute_permissions": [{**NAME, "delete": True}]}}}},
        permission_of("ru", ("name", "r"), ("__createdtime__", "r")),
    ],
)
def test_a_sound_permission_object_is_accepted(permission: dict[str, Any]) -> None:
    check_new_role(role_of(permission), DATABASES.get)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({**role_of({}), "x": 1}, "Invalid key in JSON body - 'x'"),
        ({**role_of({}), "x": 1, "y": None}, "Invalid keys in JSON body - 'x', 'y'"),
        ({"permission": {}}, "Role can't be blank"),
        ({"role": None, "permission": {}}, "Role can't be blank"),
        ({"role": "", "permission": {}}, "Role is invalid"),
        ({"role": "a b", "permission": {}}, "Role is invalid"),
        ({"role": "keepér", "permission": {}}, "Role is invalid"),
        ({"role": "keeper\n", "permission": {}}, "Role is invalid"),
        ({"role": 5, "permission": {}}, "Role is invalid"),
        ({"role": "keeper", "id": "a/b", "permission": {}}, "Id is invalid"),
        ({"role": "keeper", "id": "", "permission": {}}, "Id is invalid"),
        ({"role": "keeper", "id": 5, "permission": {}}, "Id is invalid"),
        ({"role": "keeper"}, "Permission can't be blank"),
        (role_of(None), "Permission can't be blank"),
        (role_of("all"), "Permission is invalid"),
        (role_of([]), "Permission is invalid"),
    ],
)
def test_a_problem_with_the_fields_is_told(body: dict[str, Any], problem: str) -> None:
    assert problems_of(body) == ([problem], {})


@pytest.mark.parametrize(
    ("permission", "problem"),
    [
        (
            {"super_user": True, "zoo": {}},
            "Roles with 'super_user' set to true cannot have other permissions set.",
        ),
        (
            {"cluster_user": True, "zoo": {}},
            "Roles with 'cluster_user' set to true cannot have other permissions set.",
        ),
        (
            {"super_user": True, "cluster_user": True},
            "Roles cannot have both 'super_user' and 'cluster_user' values included in their permissions set.",
        ),
        ({"super_user": "true"}, "Value for 'super_user' permission must be a boolean"),
        ({"cluster_user": 1}, "Value for 'cluster_user' permission must be a boolean"),
        ({"structure_user": "zoo"}, "Value for 'structure_user' permission must be a boolean or Array"),
        ({"structure_user": None}, "Value for 'structure_user' permission must be a boolean or Array"),
        ({"structure_user": ["zoo", "x"]}, "database 'x' does not exist"),
        ({"structure_user": [7]}, "database '7' does not exist"),
        ({"x": {}}, "database 'x' does not exist"),
        ({"zoo": {"tables": {"x": TABLE}}}, "Table 'zoo.x' does not exist"),
        ({"zoo": []}, "Value for 'zoo' permission must be an object"),
        ({"zoo": {"tables": ["otter"]}}, "Value for 'zoo' permission must be an object"),
    ],
)
def test_a_problem_with_kind_database_or_table_is_told(permission: dict[str, Any], problem: str) -> None:
    assert problems_of(role_of(permission)) == ([problem], {})


CONFLICT = "You have a conflict with TABLE permissions for 'zoo.otter' being false and ATTRIBUTE permissions being true"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (role_with_table(foo=1), "Invalid table permission key value 'foo'"),
        *(
            (role_of({"zoo": {"tables": {"otter": without(r, TABLE)}}}), f"Missing table {r.upper()} permission")
            for r in ("read", "insert", "update", "delete")
        ),
        (role_with_table(delete=None), "Missing table DELETE permission"),
        (role_with_table(read="yes"), "Table READ permission must be a boolean"),
        (role_with_table(insert=1), "Table INSERT permission must be a boolean"),
        (
            role_of({"zoo": {"tables": {"otter": without("attribute_permissions", TABLE)}}}),
            "Missing 'attribute_permissions' array",
        ),
        (role_with_table(attribute_permissions={}), "Value for 'attribute_permissions' must be an array"),
        (role_with_table(attribute_permissions="name"), "Value for 'attribute_permissions' must be an array"),
        (role_with_attribute({**NAME, "bad": 1}), "Invalid attribute permission key value 'bad'"),
        (
            role_with_attribute(without("attribute_name", NAME)),
            "Permission object in 'attribute_permission' missing an 'attribute_name'",
        ),
        (role_with_attribute(None), "Permission object in 'attribute_permission' missing an 'attribute_name'"),
        (
            role_with_attribute({**NAME, "attribute_name": "nope"}),
            "Invalid attribute 'nope' in 'attribute_permissions'",
        ),
        (
            role_with_attribute({**NAME, "attribute_name": ["name"]}),
            "Invalid attribute '['name']' in 'attribute_permissions'",
        ),
        *(
            (role_with_attribute(without(r, NAME)), f"{r.upper()} attribute permission missing for 'name'")
            for r in ("read", "insert", "update")
        ),
        (role_with_attribute({**NAME, "read": 1}), "READ attribute permission for 'name' must be a boolean"),
        (role_with_attribute(NAME, insert=False), CONFLICT),
    ],
)
def test_a_problem_within_a_table_is_told_under_its_name(body: dict[str, Any], problem: str) -> None:
    assert problems_of(body) == ([], {"zoo_otter": [problem]})


def test_a_table_permission_that_is_no_object_is_told_under_its_name() -> None:
    body = role_of({"zoo": {"tables": {"otter": True}}})
    assert problems_of(body) == ([], {"zoo_otter": ["Value for 'otter' permission must be an object"]})


def test_two_problems_with_the_fields_come_in_order() -> None:
    assert problems_of({"id": "a b", "x": 1})[0] == [
        "Invalid key in JSON body - 'x'",
        "Role can't be blank",
        "Id is invalid",
        "Permission can't be blank",
    ]


def test_problems_with_kind_database_and_table_come_in_the_order_they_are_written() -> None:
    permission = {
        "super_user": 1,
        "x": {},
        "structure_user": 5,
        "zoo": {"tables": {"y": TABLE}},
    }
    assert problems_of(role_of(permission))[0] == [
        "Value for 'super_user' permission must be a boolean",
        "database 'x' does not exist",
        "Value for 'structure_user' permission must be a boolean or Array",
        "Table 'zoo.y' does not exist",
    ]


def test_problems_within_a_table_come_in_order() -> None:
    listed = [
        {**without("read", NAME), "bad": 1},
        {"attribute_name": "nope"},
        {"attribute_name": "weight", "read": True, "insert": "x", "update": True},
    ]
    table = {"foo": 1, "read": False, "insert": None, "update": 0, "attribute_permissions": listed}
    assert problems_of(role_of({"zoo": {"tables": {"otter": table}}}))[1]["zoo_otter"] == [
        "Invalid table permission key value 'foo'",
        "Missing table INSERT permission",
        "Table UPDATE permission must be a boolean",
        "Missing table DELETE permission",
        "Invalid attribute permission key value 'bad'",
        "READ attribute permission missing for 'name'",
        "Invalid attribute 'nope' in 'attribute_permissions'",
        "INSERT attribute permission for 'weight' must be a boolean",
        CONFLICT,
    ]


def test_problems_with_two_tables_and_with_a_database_come_in_one_answer() -> None:
    tables = {"otter": {**TABLE, "read": None}, "staff": {**TABLE, "update": None}}
    assert problems_of(role_of({"x": {}, "zoo": {"tables": tables}})) == (
        ["database 'x' does not exist"],
        {"zoo_otter": ["Missing table READ permission"], "zoo_staff": ["Missing table UPDATE permission"]},
    )


def test_an_attribute_that_is_wider_than_its_table_is_told_once() -> None:
    listed = [NAME, {**NAME, "attribute_name": "weight"}]
    table = {"read": False, "insert": False, "update": False, "delete": False, "attribute_permissions": listed}
    assert problems_of(role_of({"zoo": {"tables": {"otter": table}}})) == ([], {"zoo_otter": [CONFLICT]})


def test_a_changed_role_needs_its_id_and_no_name() -> None:
    check_changed_role({"operation": "alter_role", "id": "keeper", "permission": {}}, DATABASES.get)
    assert problems_of({"permission": {}}, is_new=False)[0] == ["Id can't be blank"]
    assert problems_of({"id": "a b", "role": "", "permission": {}}, is_new=False)[0] == [
        "Role is invalid",
        "Id is invalid",
    ]
