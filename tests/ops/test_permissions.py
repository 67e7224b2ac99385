"""Effective permissions of stored permission objects."""

from dataclasses import replace
from typing import Any

import pytest

from ops.context import User
from ops.permissions import Permissions, permissions_of
from storage.schema import Definition, Table
from tests.ops.user_node import OTTER, STAFF, permission_of


def table_of(definition: Definition, database: str = "zoo") -> Table:
    return Table(id=1, database=database, definition=definition, rows_id=1, tombstones_id=2, index_ids={})


OTTERS = table_of(OTTER)


def test_a_super_user_has_every_right_on_an_ordinary_table() -> None:
    assert Permissions({"super_user": True}).of_table(OTTERS).rights == {"read", "insert", "update", "delete"}


def test_a_super_user_only_reads_the_nodes_own_tables() -> None:
    own = table_of(replace(OTTER, name="hdb_job"), "system")
    assert Permissions({"super_user": True}).of_table(own).rights == {"read"}


def test_a_role_has_the_rights_its_table_entry_says() -> None:
    assert Permissions(permission_of("ru")).of_table(OTTERS).rights == {"read", "update"}


def test_a_table_that_is_not_mentioned_is_invisible() -> None:
    assert not Permissions(permission_of("riud")).of_table(table_of(STAFF)).is_visible


def test_a_mentioned_table_with_four_false_flags_is_invisible() -> None:
    assert not Permissions(permission_of("")).of_table(OTTERS).is_visible


def test_a_database_is_seen_when_one_of_its_tables_is() -> None:
    permissions = Permissions(permission_of("d"))
    assert permissions.sees_database("zoo", [table_of(STAFF), OTTERS])
    assert not permissions.sees_database("zoo", [table_of(STAFF)])


def test_a_database_with_an_explicit_describe_right_is_seen() -> None:
    assert Permissions({"zoo": {"describe": True}}).sees_database("zoo", [])


def test_a_database_entry_without_tables_grants_nothing() -> None:
    permissions = Permissions({"zoo": {}})
    assert not permissions.sees_database("zoo", [OTTERS])
    assert not permissions.of_table(OTTERS).is_visible


@pytest.mark.parametrize("structure_user", [True, ["zoo"]])
def test_a_structure_user_has_every_right_whatever_the_table_entry_says(structure_user: Any) -> None:
    permissions = Permissions({**permission_of(""), "structure_user": structure_user})
    assert permissions.of_table(OTTERS).rights == {"read", "insert", "update", "delete"}
    assert permissions.sees_database("zoo", [])


def test_a_structure_user_of_one_database_has_no_right_in_another() -> None:
    permissions = Permissions({"structure_user": ["park"]})
    assert not permissions.of_table(OTTERS).is_visible
    assert not permissions.structures("zoo")


@pytest.mark.parametrize("structure_user", [True, ["system"]])
def test_a_structure_user_has_no_right_on_the_nodes_own_tables(structure_user: Any) -> None:
    permissions = Permissions({"structure_user": structure_user})
    assert not permissions.structures("system")
    assert not permissions.of_table(table_of(OTTER, "system")).is_visible


def test_an_entry_for_the_nodes_own_tables_grants_nothing() -> None:
    flags = {"read": True, "insert": True, "update": True, "delete": True, "attribute_permissions": []}
    permissions = Permissions({"system": {"tables": {"otter": flags}, "describe": True}})
    assert not permissions.of_table(table_of(OTTER, "system")).is_visible
    assert not permissions.sees_database("system", [table_of(OTTER, "system")])


def test_a_cluster_user_has_no_right_on_tables() -> None:
    assert not Permissions({"cluster_user": True}).of_table(OTTERS).is_visible


def test_an_attribute_follows_the_table_without_attribute_permissions() -> None:
    of_table = Permissions(permission_of("ri")).of_table(OTTERS)
    assert of_table.attributes is None
    assert of_table.of_attribute("yet to come") == {"read", "insert"}


def test_a_listed_attribute_has_the_rights_listed() -> None:
    of_table = Permissions(permission_of("riu", ("name", "ru"))).of_table(OTTERS)
    assert of_table.of_attribute("name") == {"read", "update"}


def test_an_attribute_that_is_not_listed_has_no_rights() -> None:
    of_table = Permissions(permission_of("riu", ("name", "riu"))).of_table(OTTERS)
    assert not of_table.of_attribute("weight")
    assert not of_table.of_attribute("yet to come")


def test_only_reading_of_a_listed_time_counts() -> None:
    of_table = Permissions(permission_of("riu", ("__createdtime__", "riu"))).of_table(OTTERS)
    assert of_table.of_attribute("__createdtime__") == {"read"}


def test_a_primary_key_that_is_not_listed_has_each_right_that_any_listed_attribute_has() -> None:
    of_table = Permissions(permission_of("riu", ("name", "r"), ("weight", "u"))).of_table(OTTERS)
    assert of_table.of_attribute("id") == {"read", "update"}


def test_a_primary_key_gains_no_write_right_from_a_time() -> None:
    of_table = Permissions(permission_of("riu", ("__createdtime__", "riu"))).of_table(OTTERS)
    assert of_table.of_attribute("id") == {"read"}


def test_a_listed_primary_key_has_the_rights_listed_even_if_there_are_none() -> None:
    of_table = Permissions(permission_of("riu", ("id", ""), ("name", "riu"))).of_table(OTTERS)
    assert not of_table.of_attribute("id")


def test_attributes_come_in_table_order_with_an_implicit_primary_key_last() -> None:
    of_table = Permissions(permission_of("r", ("age", "r"), ("name", "r"))).of_table(OTTERS)
    assert of_table.attributes_with("read") == ("name", "age", "id")


def test_a_listed_attribute_that_the_table_lost_has_no_rights() -> None:
    without_name = replace(OTTER, attributes=tuple(a for a in OTTER.attributes if a.name != "name"))
    of_table = Permissions(permission_of("riu", ("name", "riu"))).of_table(table_of(without_name))
    assert of_table.attributes == {"id": frozenset()}


def test_new_attributes_of_a_table_are_seen_although_its_permission_was_asked_for_before() -> None:
    without_name = replace(OTTER, attributes=tuple(a for a in OTTER.attributes if a.name != "name"))
    permissions = Permissions(permission_of("riu", ("name", "riu")))
    permissions.of_table(table_of(without_name))
    assert permissions.of_table(OTTERS).of_attribute("name") == {"read", "insert", "update"}


@pytest.mark.parametrize(
    "permission",
    [
        {"super_user": "true"},
        {"super_user": 1},
        {"structure_user": "zoo"},
        {"structure_user": 1},
        {"zoo": None},
        {"zoo": {"tables": ["otter"]}},
        {"zoo": {"tables": {"otter": True}}},
        {"zoo": {"tables": {"otter": {"read": 1, "insert": "true", "update": [1], "delete": {}}}}},
    ],
)
def test_an_object_of_unexpected_shape_grants_nothing(permission: dict[str, Any]) -> None:
    assert not Permissions(permission).of_table(OTTERS).is_visible


@pytest.mark.parametrize("listed", ["name", {"name": True}, [None], [["name"]], [{"attribute_name": ["name"]}]])
def test_attribute_permissions_of_unexpected_shape_grant_no_attribute(listed: Any) -> None:
    permission = permission_of("riud")
    permission["zoo"]["tables"]["otter"]["attribute_permissions"] = listed
    assert not any((Permissions(permission).of_table(OTTERS).attributes or {}).values())


def test_permissions_are_worked_out_once_for_a_role() -> None:
    role = {"id": "keeper", "permission": permission_of("r")}
    assert permissions_of(User(name="a", role=role)) is permissions_of(User(name="b", role=role))


def test_a_replaced_role_is_worked_out_anew() -> None:
    before = permissions_of(User(name="a", role={"permission": permission_of("r")}))
    after = permissions_of(User(name="a", role={"permission": permission_of("u")}))
    assert before.of_table(OTTERS).rights == {"read"}
    assert after.of_table(OTTERS).rights == {"update"}
