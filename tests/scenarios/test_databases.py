"""Databases, tables, attributes, descriptions, backups and expiration, asked of a whole node over HTTPS."""

import gzip
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import Answer, Credentials, ask, forbidden, missing_rights

DB = "farm1"
KEEPER: Credentials = ("databases-keeper", "Straw-1")
BUILDER: Credentials = ("databases-builder", "Straw-2")
NOBODY: Credentials = ("databases-nobody", "Straw-3")
ARCHITECT: Credentials = ("databases-architect", "Straw-4")
SYSTEM_IS_OURS = (
    "The 'system' database, tables and records are used internally by HarperDB and cannot be updated or removed."
)
PATTERN = "names cannot include backticks or forward slashes"
DYNAMIC = [
    {"attribute": "id", "is_primary_key": True},
    {"attribute": "__createdtime__", "indexed": True},
    {"attribute": "__updatedtime__", "indexed": True},
]


def said(text: str) -> Answer:
    return 200, {"message": text}


def refused(status: int, text: str) -> Answer:
    return status, {"error": text}


def grant(*rights: str, attributes: list[Any] | None = None) -> dict[str, Any]:
    flags = {right: right in rights for right in ("read", "insert", "update", "delete")}
    return flags | {"attribute_permissions": attributes or []}


def seen(name: str, *rights: str) -> dict[str, Any]:
    return {"attribute_name": name, **{right: right in rights for right in ("read", "insert", "update")}}


@pytest.fixture(scope="module")
def farm(node: NodeProcess) -> NodeProcess:
    """The shared node with the database ``farm1`` and a user of each kind."""
    for table in ("animal", "pen", "staff"):
        node.post(operation="create_table", database=DB, table=table, primary_key="id")
    node.post(operation="create_database", database="farm1-spare")
    node.post(operation="insert", database=DB, table="pen", records=[{"id": n, "label": f"p{n}"} for n in range(3)])
    node.post(operation="insert", database=DB, table="staff", records=[{"id": 1, "name": "Ann", "pay": 5}])
    tables = {"pen": grant("read"), "staff": grant("read", "insert", attributes=[seen("name", "read", "insert")])}
    permissions: dict[Credentials, dict[str, Any]] = {
        KEEPER: {DB: {"tables": tables}},
        BUILDER: {"structure_user": [DB]},
        NOBODY: {},
        ARCHITECT: {"structure_user": True},
    }
    for user, permission in permissions.items():
        node.post(operation="add_role", role=user[0], permission=permission)
        node.post(operation="add_user", role=user[0], username=user[0], password=user[1], active=True)
    return node


def describe(node: NodeProcess, table: str, database: str = DB, **fields: Any) -> dict[str, Any]:
    described = node.post(operation="describe_table", database=database, table=table, **fields)
    assert isinstance(described, dict)
    return described


def attributes_of(node: NodeProcess, table: str, database: str = DB) -> list[str]:
    return [attribute["attribute"] for attribute in describe(node, table, database)["attributes"]]


# Names


@pytest.mark.parametrize("operation", ["create_database", "create_schema"])
@pytest.mark.parametrize("field", ["database", "schema"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "must be a string"),
        (123, "must be a string"),
        (["a"], "must be a string"),
        ("", "is not allowed to be empty"),
        ("x" * 251, "length must be less than or equal to 250 characters long"),
        ("a/b", PATTERN),
        ("a`b", PATTERN),
        ("naïve", PATTERN),
        ("tab\there", PATTERN),
    ],
)
def test_a_database_name_is_refused_under_the_label_that_was_sent(
    farm: NodeProcess, operation: str, field: str, name: Any, problem: str
) -> None:
    assert ask(farm, operation, **{field: name}) == refused(400, f"'{field}' {problem}")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"primary_key": "id"}, "'table' is required"),
        ({"table": "t"}, "'primary_key' is required"),
        ({"table": "", "primary_key": "id"}, "'table' is not allowed to be empty"),
        ({"table": None, "primary_key": "id"}, "'table' must be a string"),
        ({"table": "a/b", "primary_key": "id"}, f"'table' {PATTERN}"),
        ({"table": "é", "primary_key": "id"}, f"'table' {PATTERN}"),
        ({"table": "x" * 251, "primary_key": "id"}, "'table' length must be less than or equal to 250 characters long"),
        ({"table": 5, "primary_key": 5}, "'table' must be a string. 'primary_key' must be a string"),
        ({"table": "t", "primary_key": None}, "'primary_key' must be a string"),
        ({"table": "t", "primary_key": ""}, "'primary_key' is not allowed to be empty"),
        ({"table": "t", "primary_key": "a/b"}, f"'hash_attribute' {PATTERN}"),
        ({"table": "t", "primary_key": "naïve"}, f"'hash_attribute' {PATTERN}"),
        ({"table": "t", "hash_attribute": "a`b"}, f"'hash_attribute' {PATTERN}"),
        ({"table": "t", "primary_key": "id", "database": 1}, "'database' must be a string"),
        ({"table": "t", "primary_key": "id", "schema": "a/b"}, f"'schema' {PATTERN}"),
        ({"table": "t", "primary_key": "id", "attributes": {}}, "'attributes' must be an array"),
        (
            {"table": "t", "primary_key": "id", "residence": ["n1"]},
            "Clustering does not appear to be enabled. Cannot insert table with property 'residence'.",
        ),
        (
            {"table": "t", "primary_key": "id", "attributes": [{"name": "a/b"}]},
            "Attribute names cannot include backticks or forward slashes",
        ),
    ],
)
def test_a_table_is_refused(farm: NodeProcess, fields: dict[str, Any], problem: str) -> None:
    where = {} if "schema" in fields else {"database": DB}
    assert ask(farm, "create_table", **where | fields) == refused(400, problem)


@pytest.mark.parametrize(
    "name", [".", "..", "COM1", "com1", "my db-1.x", "x" * 250, "Paddock", "paddock", " ", "~|{}\\:*?\"<>'", "-rf"]
)
def test_a_legal_name_works_for_database_table_and_attribute(farm: NodeProcess, name: str) -> None:
    assert ask(farm, "create_database", database=name) == said(f"database '{name}' successfully created")
    assert ask(farm, "create_table", database=name, table=name, primary_key=name) == said(
        f"table '{name}.{name}' successfully created."
    )
    farm.post(operation="insert", database=name, table=name, records=[{name: 1, "of": name}])
    assert ask(
        farm, "search_by_value", database=name, table=name, attribute="of", value=name, get_attributes=[name]
    ) == (200, [{name: 1}])
    assert describe(farm, name, name)["hash_attribute"] == name
    assert ask(farm, "drop_database", database=name) == said(f"successfully deleted '{name}'")


def test_names_that_differ_in_case_are_different(farm: NodeProcess) -> None:
    for name in ("Meadow", "meadow"):
        farm.post(operation="create_table", database=name, table="T", primary_key="id")
        farm.post(operation="create_table", database=name, table="t", primary_key="id")
        farm.post(operation="insert", database=name, table="t", records=[{"id": name, "Id": 1}])
    assert (
        ask(farm, "search_by_id", database="meadow", table="t", ids=["meadow", "Meadow"], get_attributes=["*"])[1][
            0
        ].items()
        >= {"id": "meadow", "Id": 1}.items()
    )
    assert describe(farm, "T", "Meadow")["record_count"] == 0
    for name in ("Meadow", "meadow"):
        farm.post(operation="drop_database", database=name)


@pytest.mark.parametrize("table", [42, 42.0, "42"])
def test_a_number_names_a_database_and_a_table_in_record_operations(farm: NodeProcess, table: Any) -> None:
    if ask(farm, "describe_table", database="77", table="42")[0] == 404:
        farm.post(operation="create_table", database="77", table="42", primary_key="id")
    farm.post(operation="upsert", database=77, table=table, records=[{"id": 1}])
    assert ask(farm, "search_by_id", database=77, table=table, ids=[1], get_attributes=["id"]) == (200, [{"id": 1}])
    assert ask(farm, "delete", database=77, table=table, ids=[1])[0] == 200


# Databases


def test_a_database_is_created_once_and_dropped_for_good(farm: NodeProcess) -> None:
    created = said("database 'barn' successfully created")
    assert ask(farm, "create_database", database="barn", schema="other") == created
    assert ask(farm, "create_schema", schema="barn") == refused(400, "database 'barn' already exists")
    assert ask(farm, "describe_schema", schema="barn") == (200, {})
    farm.post(operation="create_table", schema="barn", table="hay", hash_attribute="id")
    farm.post(operation="insert", schema="barn", table="hay", records=[{"id": 1}])
    assert ask(farm, "drop_schema", database="barn") == said("successfully deleted 'barn'")
    assert ask(farm, "describe_database", database="barn") == refused(404, "database 'barn' does not exist")
    assert ask(farm, "drop_database", schema="barn") == refused(404, "database 'barn' does not exist")
    assert ask(farm, "create_database", database="barn") == created
    assert ask(farm, "describe_database", database="barn") == (200, {})
    assert ask(farm, "drop_database", database="barn", replicated=True) == (
        200,
        {"message": "successfully deleted 'barn'", "replicated": []},
    )


@pytest.mark.parametrize(
    ("operation", "fields", "expected"),
    [
        ("drop_database", {}, refused(400, "'database' is required")),
        ("drop_schema", {}, refused(400, "'database' is required")),
        ("drop_database", {"database": 5}, refused(400, "'database' must be a string")),
        ("drop_database", {"database": "system"}, refused(403, SYSTEM_IS_OURS)),
        ("create_database", {"database": "system"}, refused(400, "database 'system' already exists")),
        ("drop_table", {"database": "system", "table": "hdb_user"}, refused(403, SYSTEM_IS_OURS)),
        ("create_table", {"database": "system", "table": "mine", "primary_key": "id"}, refused(403, SYSTEM_IS_OURS)),
        (
            "drop_attribute",
            {"database": "system", "table": "hdb_user", "attribute": "active"},
            refused(403, SYSTEM_IS_OURS),
        ),
        (
            "create_attribute",
            {"database": "system", "table": "hdb_user", "attribute": "colour"},
            forbidden(missing_rights("system.hdb_user", ["insert"])),
        ),
        (
            "insert",
            {"database": "system", "table": "hdb_job", "records": [{"id": 1}]},
            forbidden(missing_rights("system.hdb_job", ["insert"])),
        ),
        ("update", {"database": "system", "table": "hdb_job", "records": [{"id": 1}]}, refused(403, SYSTEM_IS_OURS)),
        ("upsert", {"database": "system", "table": "hdb_job", "records": [{"id": 1}]}, refused(403, SYSTEM_IS_OURS)),
        ("delete", {"database": "system", "table": "hdb_job", "ids": [1]}, refused(403, SYSTEM_IS_OURS)),
    ],
)
def test_an_operation_on_a_database_is_refused(
    farm: NodeProcess, operation: str, fields: dict[str, Any], expected: Answer
) -> None:
    assert ask(farm, operation, **fields) == expected


def test_the_system_database_is_described_and_searched_by_super_users(farm: NodeProcess) -> None:
    assert {"hdb_user", "hdb_role"} <= farm.post(operation="describe_database", database="system").keys()
    assert describe(farm, "hdb_user", "system")["hash_attribute"] == "username"
    found = farm.post(
        operation="search_by_value",
        database="system",
        table="hdb_role",
        attribute="role",
        value="super_user",
        get_attributes=["id"],
    )
    assert found == [{"id": "super_user"}]
    assert "system" not in farm.post(operation="describe_all")
    body: dict[str, Any] = {"database": "system", "table": "hdb_user", "attribute": "ghost", "value": 1}
    assert ask(farm, "search_by_value", **body) == refused(404, "ghost is not a defined attribute")


@pytest.mark.parametrize(
    ("table", "key", "record"),
    [
        ("hdb_role", "id", {"role": "databases-direct", "permission": {}}),
        ("hdb_nodes", "name", {"url": "wss://databases-direct:9933"}),
    ],
)
def test_a_super_user_writes_rows_of_roles_and_nodes(
    farm: NodeProcess, table: str, key: str, record: dict[str, Any]
) -> None:
    where: dict[str, Any] = {"database": "system", "table": table}
    row = {key: "databases-direct", **record}
    assert ask(farm, "insert", **where, records=[row])[1]["inserted_hashes"] == ["databases-direct"]
    assert ask(farm, "upsert", **where, records=[row])[1]["upserted_hashes"] == ["databases-direct"]
    assert ask(farm, "delete", **where, ids=["databases-direct"])[0] == 200


# Descriptions


def test_a_dynamic_table_is_described_with_its_fields_in_order(farm: NodeProcess) -> None:
    described = describe(farm, "pen")
    assert list(described) == [
        "schema",
        "name",
        "hash_attribute",
        "audit",
        "schema_defined",
        "attributes",
        "db_size",
        "record_count",
        "table_size",
        "db_audit_size",
        "last_updated_record",
    ]
    assert described["attributes"] == [*DYNAMIC, {"attribute": "label", "indexed": True}]
    assert (described["schema"], described["name"], described["hash_attribute"]) == (DB, "pen", "id")
    assert (described["audit"], described["schema_defined"], described["record_count"]) == (True, False, 3)
    for figure in ("db_size", "table_size", "db_audit_size"):
        assert isinstance(described[figure], int) and described[figure] > 0
    assert described["db_size"] >= described["table_size"]
    assert abs(described["last_updated_record"] / 1000 - time.time()) < 600


def test_a_table_without_writes_has_no_last_updated_record(farm: NodeProcess) -> None:
    described = describe(farm, "animal")
    assert described["attributes"] == DYNAMIC
    assert described["record_count"] == 0
    assert "last_updated_record" not in described


def test_the_last_updated_record_is_the_newest_write(farm: NodeProcess) -> None:
    farm.post(operation="create_table", database=DB, table="written", primary_key="id")
    farm.post(operation="insert", database=DB, table="written", records=[{"id": 1}])
    found = farm.post(
        operation="search_by_id", database=DB, table="written", ids=[1], get_attributes=["__updatedtime__"]
    )
    assert describe(farm, "written")["last_updated_record"] == pytest.approx(found[0]["__updatedtime__"], abs=1)


def test_describe_all_lists_empty_databases_last(farm: NodeProcess) -> None:
    everything = farm.post(operation="describe_all")
    names = list(everything)
    assert everything["farm1-spare"] == {}
    assert [bool(everything[name]) for name in names] == sorted([bool(everything[n]) for n in names], reverse=True)
    assert everything[DB].keys() >= {"animal", "pen"}
    assert everything[DB]["pen"] == describe(farm, "pen")
    assert farm.post(operation="describe_database", database=DB)["pen"] == describe(farm, "pen")


@pytest.mark.parametrize("value", [True, False])
def test_the_count_is_exact(farm: NodeProcess, value: bool) -> None:
    described = describe(farm, "pen", exact_count=value, include_computed=value)
    assert described["record_count"] == 3
    assert "estimated_record_range" not in described


@pytest.mark.parametrize(
    ("operation", "fields", "expected"),
    [
        ("describe_database", {"database": "ghost"}, refused(404, "database 'ghost' does not exist")),
        ("describe_table", {"database": "ghost", "table": "x"}, refused(404, "database 'ghost' does not exist")),
        ("describe_table", {"database": DB, "table": "x"}, refused(404, f"Table '{DB}.x' does not exist")),
        ("describe_table", {"database": DB}, refused(400, "'table' is required")),
        (
            "describe_table",
            {"database": 1, "table": 2},
            refused(400, "'database' must be a string. 'table' must be a string"),
        ),
        ("describe_table", {"schema": 1, "table": "x"}, refused(400, "'schema' must be a string")),
        (
            "describe_table",
            {"database": DB, "table": "pen", "exact_count": "true"},
            refused(400, "'exact_count' must be a boolean"),
        ),
        ("describe_database", {"database": DB, "exact_count": "true"}, refused(400, "'exact_count' must be a boolean")),
        ("describe_all", {"exact_count": "true"}, refused(400, "'exact_count' must be a boolean")),
        ("describe_all", {"include_computed": 1}, refused(400, "'include_computed' must be a boolean")),
    ],
)
def test_a_description_is_refused(farm: NodeProcess, operation: str, fields: dict[str, Any], expected: Answer) -> None:
    assert ask(farm, operation, **fields) == expected


def test_a_description_shows_a_user_what_the_role_may_see(farm: NodeProcess) -> None:
    seen_all = ask(farm, "describe_all", user=KEEPER)[1]
    assert {database: set(tables) for database, tables in seen_all.items()} == {DB: {"pen", "staff"}}
    assert seen_all[DB]["pen"] == describe(farm, "pen")
    assert [a["attribute"] for a in seen_all[DB]["staff"]["attributes"]] == ["id", "name"]
    assert ask(farm, "describe_all", user=NOBODY) == (200, {})
    assert ask(farm, "describe_database", user=KEEPER, database=DB)[1].keys() == {"pen", "staff"}


@pytest.mark.parametrize(
    ("operation", "fields", "user", "expected"),
    [
        (
            "describe_table",
            {"database": DB, "table": "animal"},
            KEEPER,
            forbidden(unknown=[f"Table '{DB}.animal' does not exist"]),
        ),
        (
            "describe_table",
            {"database": DB, "table": "ghost"},
            KEEPER,
            forbidden(unknown=[f"Table '{DB}.ghost' does not exist"]),
        ),
        (
            "describe_table",
            {"database": DB, "table": "animal"},
            NOBODY,
            forbidden(unknown=[f"Table '{DB}.animal' does not exist"]),
        ),
        ("describe_database", {"database": "ghost"}, KEEPER, forbidden(unknown=["database 'ghost' does not exist"])),
        (
            "describe_database",
            {"database": "farm1-spare"},
            KEEPER,
            forbidden(unknown=["database 'farm1-spare' does not exist"]),
        ),
        (
            "describe_database",
            {"database": "system"},
            KEEPER,
            forbidden("Your role does not have permission to view database metadata for 'system'"),
        ),
        (
            "describe_table",
            {"database": "system", "table": "hdb_user"},
            BUILDER,
            forbidden("Your role does not have permission to view database metadata for 'system'"),
        ),
        (
            "create_table",
            {"database": DB, "table": 5},
            KEEPER,
            forbidden("Operation 'createTable' is restricted to 'super_user' roles"),
        ),
        (
            "drop_table",
            {"database": DB, "table": "pen"},
            KEEPER,
            forbidden("Operation 'dropTable' is restricted to 'super_user' roles"),
        ),
        (
            "drop_attribute",
            {"database": DB, "table": "pen", "attribute": "label"},
            KEEPER,
            forbidden("Operation 'dropAttribute' is restricted to 'super_user' roles"),
        ),
        ("create_database", {}, KEEPER, forbidden("Operation 'createSchema' is restricted to 'super_user' roles")),
        ("create_schema", {}, BUILDER, forbidden("Operation 'createSchema' is restricted to 'super_user' roles")),
        ("drop_database", {}, BUILDER, forbidden("Operation 'dropSchema' is restricted to 'super_user' roles")),
        ("drop_schema", {}, KEEPER, forbidden("Operation 'dropSchema' is restricted to 'super_user' roles")),
        (
            "get_backup",
            {"database": DB},
            KEEPER,
            forbidden("Operation 'getBackup' is restricted to 'super_user' roles"),
        ),
        (
            "get_backup",
            {"database": DB},
            ARCHITECT,
            forbidden("Operation 'getBackup' is restricted to 'super_user' roles"),
        ),
        (
            "create_table",
            {"database": "other", "table": "t", "primary_key": "id"},
            BUILDER,
            forbidden("User does not have access to perform 'create_table' against schema 'other'"),
        ),
        (
            "drop_table",
            {"database": "farm1-spare", "table": "t"},
            BUILDER,
            forbidden("User does not have access to perform 'drop_table' against schema 'farm1-spare'"),
        ),
        (
            "create_attribute",
            {"database": "farm1-spare", "table": "t", "attribute": "a"},
            BUILDER,
            forbidden("User does not have access to perform 'create_attribute' against schema 'farm1-spare'"),
        ),
        (
            "drop_attribute",
            {"table": "t", "attribute": "a"},
            BUILDER,
            forbidden("User does not have access to perform 'drop_attribute' against schema 'data'"),
        ),
        (
            "create_attribute",
            {"database": DB, "table": "pen", "attribute": "colour"},
            KEEPER,
            forbidden(missing_rights(f"{DB}.pen", ["insert"])),
        ),
        (
            "create_attribute",
            {"database": DB, "table": "staff", "attribute": "colour"},
            KEEPER,
            forbidden(unknown=[f"Attribute 'colour' does not exist on '{DB}.staff'"]),
        ),
        (
            "search_by_id",
            {"table": "pen", "ids": [1], "get_attributes": ["id"]},
            KEEPER,
            forbidden(unknown=["database 'data' does not exist"]),
        ),
    ],
)
def test_a_user_is_told_why_not(
    farm: NodeProcess, operation: str, fields: dict[str, Any], user: Credentials, expected: Answer
) -> None:
    assert ask(farm, operation, user=user, **fields) == expected


def test_a_structure_user_of_a_list_builds_in_its_databases(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "shed"}
    assert ask(farm, "create_table", user=BUILDER, **table, primary_key="id")[0] == 200
    assert ask(farm, "create_attribute", user=BUILDER, **table, attribute="roof")[0] == 200
    assert ask(farm, "insert", user=BUILDER, **table, records=[{"id": 1}])[0] == 200
    assert ask(farm, "describe_table", user=BUILDER, **table)[1]["record_count"] == 1
    assert ask(farm, "drop_attribute", user=BUILDER, **table, attribute="roof")[0] == 200
    assert ask(farm, "drop_table", user=BUILDER, **table)[0] == 200


def test_a_structure_user_of_everything_builds_databases(farm: NodeProcess) -> None:
    assert ask(farm, "create_database", user=ARCHITECT, database="plot")[0] == 200
    assert ask(farm, "create_table", user=ARCHITECT, database="plot", table="t", primary_key="id")[0] == 200
    assert ask(farm, "drop_database", user=ARCHITECT, database="plot")[0] == 200


# Tables


def test_a_table_creates_its_database(farm: NodeProcess) -> None:
    made = ask(farm, "create_table", database="new1", table="t", primary_key="id", sealed=True, unknown=1)
    assert made == said("table 'new1.t' successfully created.")
    assert "sealed" not in describe(farm, "t", "new1")
    assert ask(farm, "create_table", database="new1", table="t", primary_key="id") == refused(
        400, "Table 't' already exists in 'new1'"
    )
    assert ask(farm, "drop_table", database="new1", table="t") == said("successfully deleted table 'new1.t'")
    assert ask(farm, "describe_all")[1]["new1"] == {}


def test_the_declared_attributes_are_shown_as_declared(farm: NodeProcess) -> None:
    attributes = [
        {"name": "id", "type": "ID"},
        {"name": "vet", "type": "String", "indexed": True, "nullable": False},
        {"name": "fee", "type": "Float"},
        {"name": "at", "type": "Date", "indexed": True},
        {"name": "list", "type": "array", "elements": {"type": "String"}},
        {"name": "addr", "type": "Address", "properties": [{"name": "zip", "type": "String"}]},
        {"name": "odd", "type": "Whatever", "indexed": False},
        {"attribute": "legacy"},
        {"name": "made", "type": "Long", "assignCreatedTime": True},
        {"name": "changed", "type": "Long", "assignUpdatedTime": True},
        {"name": "ends", "type": "Long", "expiresAt": True},
    ]
    farm.post(operation="create_table", database=DB, table="visit", primary_key="id", attributes=attributes)
    described = describe(farm, "visit")
    assert described["schema_defined"] is True
    assert described["attributes"][:4] == [
        {"attribute": "id", "type": "ID", "is_primary_key": True},
        {"attribute": "vet", "type": "String", "indexed": True, "nullable": False},
        {"attribute": "fee", "type": "Float"},
        {"attribute": "at", "type": "Date", "indexed": True},
    ]
    rest = {attribute["attribute"]: attribute for attribute in described["attributes"][4:]}
    assert rest["list"] == {"attribute": "list", "type": "array", "elements": "String"}
    assert rest["addr"] == {
        "attribute": "addr",
        "type": "Address",
        "properties": [{"type": "String", "name": "zip"}],
    }
    assert rest["odd"] == {"attribute": "odd", "type": "Whatever", "indexed": False}
    assert rest["legacy"] == {"attribute": "legacy", "indexed": True}
    assert rest["made"] == {"attribute": "made", "type": "Long", "assigned_created_time": True}
    assert rest["changed"] == {"attribute": "changed", "type": "Long", "assigned_updated_time": True}
    assert rest["ends"]["indexed"] is True


@pytest.mark.parametrize("attributes", [[], [{"name": "other", "type": "Int"}]])
def test_a_primary_key_that_is_not_declared_comes_first(farm: NodeProcess, attributes: list[Any]) -> None:
    table = f"undeclared{len(attributes)}"
    farm.post(operation="create_table", database=DB, table=table, primary_key="key", attributes=attributes)
    described = describe(farm, table)
    assert described["hash_attribute"] == "key"
    assert described["schema_defined"] is True
    assert described["attributes"][0] == {"attribute": "key", "is_primary_key": True}
    farm.post(operation="insert", database=DB, table=table, records=[{"key": 1}])


@pytest.mark.parametrize(
    ("fields", "name", "shown"),
    [
        ({"audit": False}, "audit", False),
        ({"audit": True}, "audit", True),
        ({"replicate": False}, "replicate", False),
        ({"expiration": 60}, "expiration", "60s"),
        ({"expiration": "60"}, "expiration", "60s"),
    ],
)
def test_an_option_of_a_table_is_shown(farm: NodeProcess, fields: dict[str, Any], name: str, shown: Any) -> None:
    farm.post(operation="create_table", database=DB, table="option", primary_key="id", **fields)
    try:
        assert describe(farm, "option")[name] == shown
    finally:
        farm.post(operation="drop_table", database=DB, table="option")


@pytest.mark.parametrize(
    ("operation", "fields", "expected"),
    [
        ("drop_table", {"table": "x"}, refused(404, f"Table '{DB}.x' does not exist")),
        ("drop_table", {"database": "ghost", "table": "x"}, refused(404, "database 'ghost' does not exist")),
        ("drop_table", {}, refused(400, "'table' is required")),
        ("create_attribute", {"table": "pen"}, refused(400, "Attribute name is required")),
        ("create_attribute", {"table": "pen", "attribute": ""}, refused(400, "Attribute name is required")),
        ("create_attribute", {"table": "pen", "attribute": 5}, refused(400, "'attribute' must be a string")),
        (
            "create_attribute",
            {"table": "pen", "attribute": "a/b"},
            refused(400, "Attribute names cannot include backticks or forward slashes"),
        ),
        (
            "create_attribute",
            {"table": "pen", "attribute": "a`b"},
            refused(400, "Attribute names cannot include backticks or forward slashes"),
        ),
        (
            "create_attribute",
            {"table": "pen", "attribute": "é" * 126},
            refused(
                400,
                f"transaction aborted due to attribute name {'é' * 126} being too long. "
                "Attribute names cannot be longer than 250 bytes.",
            ),
        ),
        ("create_attribute", {"table": "x", "attribute": "a"}, refused(404, f"Table '{DB}.x' does not exist")),
        (
            "create_attribute",
            {"database": "ghost", "table": "x", "attribute": "a"},
            refused(404, "database 'ghost' does not exist"),
        ),
        (
            "create_attribute",
            {"table": "pen", "attribute": "label"},
            refused(400, f"attribute 'label' already exists in {DB}.pen"),
        ),
        ("drop_attribute", {"table": "pen"}, refused(400, "'attribute' is required")),
        (
            "drop_attribute",
            {"table": "pen", "attribute": "__createdtime__"},
            refused(400, "cannot drop internal timestamp attribute: __createdtime__"),
        ),
        (
            "drop_attribute",
            {"table": "pen", "attribute": "__updatedtime__"},
            refused(400, "cannot drop internal timestamp attribute: __updatedtime__"),
        ),
        ("drop_attribute", {"table": "pen", "attribute": "id"}, refused(400, "You cannot drop a hash attribute")),
        ("drop_attribute", {"table": "x", "attribute": "a"}, refused(404, f"Table '{DB}.x' does not exist")),
        (
            "drop_attribute",
            {"database": "ghost", "table": "x", "attribute": "a"},
            refused(404, "database 'ghost' does not exist"),
        ),
        ("drop_attribute", {"table": "pen", "attribute": "never"}, said("successfully deleted attribute 'never'")),
    ],
)
def test_an_operation_on_a_table_answers(
    farm: NodeProcess, operation: str, fields: dict[str, Any], expected: Answer
) -> None:
    assert ask(farm, operation, **{"database": DB} | fields) == expected


def test_a_dropped_table_comes_back_empty(farm: NodeProcess) -> None:
    for _ in range(2):
        farm.post(operation="create_table", database=DB, table="again", primary_key="id")
        assert describe(farm, "again")["attributes"] == DYNAMIC
        assert describe(farm, "again")["record_count"] == 0
        farm.post(operation="insert", database=DB, table="again", records=[{"id": 1, "a": 1}])
        assert ask(farm, "drop_table", database=DB, table="again", replicated=True) == (
            200,
            {"message": f"successfully deleted table '{DB}.again'", "replicated": []},
        )


@pytest.mark.long
def test_the_number_of_tables_and_indexes_of_a_database_has_an_end(node: NodeProcess) -> None:
    node.post(operation="create_table", database="crowd", table="t", primary_key="id")
    statuses: set[int] = set()
    for batch in range(200):
        record = {"id": batch, **{f"a{batch}_{n}": n for n in range(200)}}
        status, answer = ask(node, "insert", database="crowd", table="t", records=[record])
        statuses.add(status)
        if status != 200:
            assert (status, answer) == refused(400, "Too many tables and indexed attributes in database 'crowd'")
            assert ask(node, "search_by_id", database="crowd", table="t", ids=[batch], get_attributes=["id"]) == (
                200,
                [],
            )
            break
    assert statuses == {200, 400}
    node.post(operation="drop_database", database="crowd")


# Attributes


def test_a_created_attribute_reads_as_null_until_it_is_written(farm: NodeProcess) -> None:
    farm.post(operation="create_table", database=DB, table="hens", primary_key="id")
    farm.post(operation="insert", database=DB, table="hens", records=[{"id": 1}])
    made = ask(farm, "create_attribute", database=DB, table="hens", attribute="colour", type="Int", nullable=False)
    assert made == said(f"attribute '{DB}.hens.colour' successfully created.")
    assert describe(farm, "hens")["attributes"][-1] == {"attribute": "colour", "indexed": True}
    assert farm.post(operation="search_by_id", database=DB, table="hens", ids=[1], get_attributes=["id", "colour"]) == [
        {"id": 1, "colour": None}
    ]
    farm.post(operation="create_attribute", database=DB, table="hens", attribute="plain", indexed=False)
    assert describe(farm, "hens")["attributes"][-1] in (
        {"attribute": "plain", "indexed": False},
        {"attribute": "plain"},
    )
    assert ask(farm, "create_attribute", database=DB, table="hens", attribute="  ")[0] == 200


def test_an_index_made_later_finds_the_records_that_were_there(farm: NodeProcess) -> None:
    farm.post(operation="create_table", database=DB, table="later", primary_key="id", attributes=[{"name": "id"}])
    farm.post(operation="insert", database=DB, table="later", records=[{"id": n, "mod": n % 3} for n in range(50)])
    assert ask(farm, "create_attribute", database=DB, table="later", attribute="mod")[0] == 200
    found = farm.post(
        operation="search_by_value", database=DB, table="later", attribute="mod", value=2, get_attributes=["id"]
    )
    assert [record["id"] for record in found] == list(range(2, 50, 3))


def test_a_dropped_attribute_of_a_dynamic_table_takes_its_values_along(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "cows"}
    farm.post(operation="create_table", **table, primary_key="id")
    farm.post(operation="insert", **table, records=[{"id": 1, "colour": "red", "age": 3}, {"id": 2, "colour": "tan"}])
    assert ask(farm, "drop_attribute", **table, attribute="colour") == said("successfully deleted attribute 'colour'")
    assert attributes_of(farm, "cows") == ["id", "__createdtime__", "__updatedtime__", "age"]
    for fields in ({"get_attributes": ["*"]}, {}):
        found = farm.post(operation="search_by_value", **table, attribute="id", value=1, **fields)
        assert "colour" not in found[0]
    assert ask(farm, "search_by_value", **table, attribute="colour", value="red") == refused(
        500, "unknown attribute 'colour'"
    )
    farm.post(operation="update", **table, records=[{"id": 2, "colour": "white"}])
    assert attributes_of(farm, "cows") == ["id", "__createdtime__", "__updatedtime__", "age", "colour"]
    assert farm.post(operation="search_by_id", **table, ids=[1, 2], get_attributes=["id", "colour"]) == [
        {"id": 1, "colour": None},
        {"id": 2, "colour": "white"},
    ]
    assert farm.post(operation="search_by_value", **table, attribute="colour", value="red") == []
    farm.post(operation="update", **table, records=[{"id": 1, "age": 4}])
    assert farm.post(operation="search_by_id", **table, ids=[1], get_attributes=["age", "colour"]) == [
        {"age": 4, "colour": None}
    ]
    assert farm.post(operation="search_by_value", **table, attribute="colour", value="*", get_attributes=["id"]) == [
        {"id": 1},
        {"id": 2},
    ]
    assert farm.post(
        operation="search_by_conditions",
        **table,
        conditions=[{"attribute": "colour", "comparator": "not_equal", "value": None}],
        get_attributes=["id"],
    ) == [{"id": 2}]


def test_an_attribute_that_is_created_again_does_not_find_what_a_drop_took(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "ducks"}
    farm.post(operation="create_table", **table, primary_key="id")
    farm.post(operation="insert", **table, records=[{"id": n, "colour": "red"} for n in range(5)])
    farm.post(operation="drop_attribute", **table, attribute="colour")
    farm.post(operation="create_attribute", **table, attribute="colour")
    assert farm.post(operation="search_by_value", **table, attribute="colour", value="red") == []
    farm.post(operation="update", **table, records=[{"id": 3, "colour": "red"}])
    colour = {"attribute": "colour", "comparator": "not_equal", "value": None}
    key = {"attribute": "id", "comparator": "less_than", "value": 4}
    for conditions in ([colour], [key, colour]):
        search = {"operation": "search_by_conditions", **table, "conditions": conditions}
        assert farm.post(**search, get_attributes=["id", "colour"]) == [{"id": 3, "colour": "red"}]


def test_an_attribute_of_a_declared_table_that_is_created_again_finds_what_is_stored(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "geese"}
    attributes = [{"name": "id"}, {"name": "age", "type": "Int", "indexed": True}]
    farm.post(operation="create_table", **table, primary_key="id", attributes=attributes)
    farm.post(operation="insert", **table, records=[{"id": 1, "age": 5}])
    farm.post(operation="drop_attribute", **table, attribute="age")
    farm.post(operation="insert", **table, records=[{"id": 2, "age": "old"}])
    farm.post(operation="create_attribute", **table, attribute="age", type="Int")
    assert describe(farm, "geese")["attributes"][-1] == {"attribute": "age", "indexed": True}
    for value, key in ((5, 1), ("old", 2)):
        found = farm.post(operation="search_by_value", **table, attribute="age", value=value, get_attributes=["id"])
        assert found == [{"id": key}]


def test_a_dropped_attribute_of_a_declared_table_stays_in_its_records(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "pigs"}
    attributes = [{"name": "id"}, {"name": "colour", "indexed": True}]
    farm.post(operation="create_table", **table, primary_key="id", attributes=attributes)
    farm.post(operation="insert", **table, records=[{"id": 1, "colour": "red"}])
    farm.post(operation="drop_attribute", **table, attribute="colour")
    assert attributes_of(farm, "pigs") == ["id"]
    assert farm.post(operation="search_by_id", **table, ids=[1], get_attributes=["*"]) == [{"id": 1, "colour": "red"}]


# Timestamps


def times(node: NodeProcess, table: str, *ids: Any, names: tuple[str, str]) -> list[tuple[Any, Any]]:
    found = node.post(operation="search_by_id", database=DB, table=table, ids=list(ids), get_attributes=list(names))
    return [(record[names[0]], record[names[1]]) for record in found]


def test_the_timestamps_of_a_dynamic_table_are_kept_by_the_node(farm: NodeProcess) -> None:
    names = ("__createdtime__", "__updatedtime__")
    table: dict[str, Any] = {"database": DB, "table": "eggs"}
    farm.post(operation="create_table", **table, primary_key="id")
    sent = {"__createdtime__": 5, "__updatedtime__": "x"}
    farm.post(operation="insert", **table, records=[{"id": 1, **sent}, {"id": 2}])
    (first, updated), other = times(farm, "eggs", 1, 2, names=names)
    assert first == updated and other == (first, first)
    assert abs(first / 1000 - time.time()) < 600
    farm.post(operation="update", **table, records=[{"id": 1, **sent}])
    farm.post(operation="upsert", **table, records=[{"id": 2, **sent}])
    (created_1, updated_1), (created_2, updated_2) = times(farm, "eggs", 1, 2, names=names)
    assert (created_1, created_2) == (first, first)
    assert first < updated_1 < updated_2
    farm.post(operation="delete", **table, ids=[1])
    farm.post(operation="insert", **table, records=[{"id": 1}])
    assert times(farm, "eggs", 1, names=names)[0][0] > updated_2


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("Long", lambda value: isinstance(value, int) and abs(value / 1000 - time.time()) < 600),
        ("Float", lambda value: abs(value / 1000 - time.time()) < 600),
        ("Date", lambda value: re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", value)),
        ("String", lambda value: re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", value)),
    ],
)
def test_an_assigned_time_has_the_type_of_its_attribute(
    farm: NodeProcess, kind: str, holds: Callable[[Any], Any]
) -> None:
    table: dict[str, Any] = {"database": DB, "table": f"assigned_{kind}"}
    attributes = [
        {"name": "id"},
        {"name": "made", "type": kind, "assignCreatedTime": True},
        {"name": "changed", "type": kind, "assignUpdatedTime": True},
    ]
    farm.post(operation="create_table", **table, primary_key="id", attributes=attributes)
    farm.post(operation="insert", **table, records=[{"id": 1}])
    farm.post(operation="update", **table, records=[{"id": 1, "made": None}])
    ((made, changed),) = times(farm, table["table"], 1, names=("made", "changed"))
    assert holds(made) and holds(changed)


def test_a_declared_table_has_the_timestamps_that_it_names(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "named"}
    attributes = [{"name": "id"}, {"name": "__updatedtime__"}]
    farm.post(operation="create_table", **table, primary_key="id", attributes=attributes)
    farm.post(operation="insert", **table, records=[{"id": 1}])
    (record,) = farm.post(operation="search_by_id", **table, ids=[1], get_attributes=["*"])
    assert record.keys() == {"id", "__updatedtime__"}


# Expiration


def test_an_expired_record_is_gone_for_every_read(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "fleeting"}
    farm.post(operation="create_table", **table, primary_key="id")
    farm.post(operation="insert", **table, records=[{"id": 1, "a": 1}], expiresAt=int(time.time() * 1000) - 1000)
    farm.post(operation="upsert", **table, records=[{"id": 2, "a": 1}], expiresAt=int(time.time() * 1000) + 60_000)
    farm.post(operation="insert", **table, records=[{"id": 3, "a": 1}])
    condition = {"attribute": "a", "comparator": "equals", "value": 1}
    searches: list[dict[str, Any]] = [
        {"operation": "search_by_id", "ids": [1, 2, 3]},
        {"operation": "search_by_value", "attribute": "a", "value": 1},
        {"operation": "search_by_value", "attribute": "a", "value": "*"},
        {"operation": "search_by_conditions", "conditions": [condition]},
    ]
    for search in searches:
        assert farm.post(**search, **table, get_attributes=["id"]) == [{"id": 2}, {"id": 3}]
    assert describe(farm, "fleeting")["record_count"] == 2
    farm.post(operation="update", **table, records=[{"id": 3, "a": 2}], expiresAt=int(time.time() * 1000) - 1)
    assert farm.post(operation="search_by_id", **table, ids=[3], get_attributes=["id"]) == []
    inserted = farm.post(operation="insert", **table, records=[{"id": 1, "a": 9}])
    assert inserted["inserted_hashes"] == [1]


def test_a_tables_expiration_counts_from_the_write(farm: NodeProcess) -> None:
    table: dict[str, Any] = {"database": DB, "table": "brief"}
    farm.post(operation="create_table", **table, primary_key="id", expiration=0.05)
    farm.post(operation="insert", **table, records=[{"id": 1}])
    deadline = time.monotonic() + 5
    while farm.post(operation="search_by_id", **table, ids=[1], get_attributes=["id"]):
        assert time.monotonic() < deadline
    farm.post(operation="create_table", database=DB, table="long", primary_key="id", expiration="3600")
    farm.post(operation="insert", database=DB, table="long", records=[{"id": 1}])
    (record,) = farm.post(
        operation="search_by_value",
        database=DB,
        table="long",
        attribute="id",
        value=1,
        get_attributes=["$expiresAt", "$updatedtime"],
    )
    assert record["$expiresAt"] - record["$updatedtime"] == pytest.approx(3_600_000, abs=1)


# Backups


@pytest.mark.parametrize("encoding", ["identity", "gzip, br"])
def test_a_backup_is_a_stream_with_its_own_headers(farm: NodeProcess, encoding: str) -> None:
    response = farm._client.send(  # type: ignore[union-attr]
        farm._client.build_request(  # type: ignore[union-attr]
            "POST",
            farm.url(),
            json={"operation": "get_backup", "database": DB, "table": "pen"},
            headers={"accept": "text/html", "accept-encoding": encoding},
        ),
        stream=True,
    )
    raw = b"".join(response.iter_raw())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == f'attachment; filename="{DB}"'
    assert response.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in response.headers
    assert parsedate_to_datetime(response.headers["date"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ", response.headers["x-snapshot-time"])
    assert response.headers.get("content-encoding") == ("gzip" if "gzip" in encoding else None)
    assert len(gzip.decompress(raw) if "gzip" in encoding else raw) > 1000


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"database": DB, "table": "ghost"}, refused(500, "Can not find table ghost")),
        ({"database": DB, "tables": ["ghost", "pen"]}, refused(500, "Can not find table ghost")),
        ({"database": DB, "tables": []}, refused(500, "Can not find table undefined")),
        ({"database": "ghost"}, refused(404, "database 'ghost' does not exist")),
    ],
)
def test_a_backup_is_refused(farm: NodeProcess, fields: dict[str, Any], expected: Answer) -> None:
    assert ask(farm, "get_backup", **fields) == expected


def test_the_file_name_of_a_backup_is_escaped(farm: NodeProcess) -> None:
    farm.post(operation="create_database", database='a "quoted\\" name')
    response = farm.request({"operation": "get_backup", "database": 'a "quoted\\" name'})
    assert response.status_code == 200
    assert response.headers["content-disposition"] == r'attachment; filename="a \"quoted\\\" name"'
    farm.post(operation="drop_database", database='a "quoted\\" name')


def everything_of(node: NodeProcess, database: str, tables: list[str]) -> Any:
    """What a restored backup has to give again: descriptions without the sizes of files, and all records."""
    described = node.post(operation="describe_database", database=database)
    sizes = ("db_size", "table_size", "db_audit_size")
    shown = {table: {k: v for k, v in described[table].items() if k not in sizes} for table in tables}
    records = {
        table: node.post(
            operation="search_by_value", database=database, table=table, attribute="id", value="*", get_attributes=["*"]
        )
        for table in tables
    }
    return shown, records


def restore(backup: bytes, root: Path, database: str) -> None:
    """The documented step: the stored answer becomes a database of a node that is not running."""
    file = root.parent / f"{database}.backup"
    file.write_bytes(backup)
    subprocess.run(
        [sys.executable, "-m", "node", "restore", str(file), database, "--root-path", str(root)],
        check=True,
        cwd=Path(__file__).parent.parent.parent,
        stdout=subprocess.DEVNULL,
    )


def test_a_restored_backup_answers_as_the_original(farm: NodeProcess, tmp_path: Path) -> None:
    for table in ("one", "two"):
        farm.post(operation="create_table", database="kept", table=table, primary_key="id")
        records = [{"id": n, "word": f"w{n % 7}", "nest": {"n": [n, None]}, "gone": 1} for n in range(300)]
        farm.post(operation="insert", database="kept", table=table, records=records)
    farm.post(operation="drop_attribute", database="kept", table="one", attribute="gone")
    farm.post(operation="delete", database="kept", table="one", ids=[5])
    root = tmp_path / "root"
    restore(farm.request({"operation": "get_backup", "database": "kept"}).content, root, "kept")
    partial = farm.request({"operation": "get_backup", "database": "kept", "table": "one", "tables": ["two", "ghost"]})
    restore(partial.content, root, "partial")
    farm.post(operation="create_database", database="empty")
    restore(farm.request({"operation": "get_backup", "database": "empty"}).content, root, "empty")
    with NodeProcess(root) as restored:
        assert set(restored.post(operation="describe_all")) == {"kept", "partial", "empty"}
        assert everything_of(restored, "kept", ["one", "two"]) == everything_of(farm, "kept", ["one", "two"])
        assert restored.post(operation="describe_database", database="partial").keys() == {"two"}
        found = restored.post(
            operation="search_by_value",
            database="kept",
            table="one",
            attribute="word",
            value="w3",
            get_attributes=["id"],
        )
        assert [record["id"] for record in found] == list(range(3, 300, 7))
        restored.post(operation="insert", database="kept", table="one", records=[{"id": 5, "word": "again"}])
        assert restored.stop() == 0


def test_a_damaged_database_is_kept_out_and_the_others_work(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "root") as node:
        for database in ("good", "bad"):
            node.post(operation="create_table", database=database, table="t", primary_key="id")
            node.post(operation="insert", database=database, table="t", records=[{"id": 1}])
        assert node.stop() == 0
        with open(tmp_path / "root" / "database" / "bad" / "data.mdb", "r+b") as file:
            file.write(b"\x5a" * 8192)
        node.kill()
        node.start()
        attempts: list[tuple[str, dict[str, Any]]] = [
            ("describe_table", {}),
            ("insert", {"records": [{"id": 2}]}),
            ("search_by_id", {"ids": [1], "get_attributes": ["id"]}),
            ("drop_table", {}),
        ]
        for operation, fields in attempts:
            status, answer = ask(node, operation, database="bad", table="t", **fields)
            assert status == 503
            assert answer["error"].count("was not opened") == 1
            assert answer["error"].startswith("Database 'bad' was not opened: ")
        assert ask(node, "create_database", database="bad") == refused(400, "database 'bad' already exists")
        assert node.post(operation="describe_all").keys() == {"good"}
        found = node.post(operation="search_by_id", database="good", table="t", ids=[1], get_attributes=["id"])
        assert found == [{"id": 1}]
        assert node.stop() == 0


# The vectors of an empty node, in order


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("databases") / "root") as running:
        yield running
        assert running.stop() == 0


def test_a_new_node_answers_step_by_step(empty: NodeProcess) -> None:
    animal = {"database": "farm", "table": "animal"}
    steps: list[tuple[str, dict[str, Any], Answer]] = [
        ("describe_all", {}, (200, {})),
        ("create_database", {"database": "farm"}, said("database 'farm' successfully created")),
        ("create_database", {"database": "farm"}, refused(400, "database 'farm' already exists")),
        ("create_schema", {"schema": "old"}, said("database 'old' successfully created")),
        ("create_database", {"database": "a/b"}, refused(400, f"'database' {PATTERN}")),
        ("create_database", {"database": 123}, refused(400, "'database' must be a string")),
        ("create_table", {**animal, "primary_key": "id"}, said("table 'farm.animal' successfully created.")),
        ("create_table", {**animal, "primary_key": "id"}, refused(400, "Table 'animal' already exists in 'farm'")),
        (
            "create_table",
            {"schema": "farm", "table": "pen", "hash_attribute": "id"},
            said("table 'farm.pen' successfully created."),
        ),
        ("create_table", {"database": "farm", "table": "nokey"}, refused(400, "'primary_key' is required")),
        ("describe_schema", {}, refused(404, "database 'data' does not exist")),
        (
            "create_attribute",
            {**animal, "attribute": "colour"},
            said("attribute 'farm.animal.colour' successfully created."),
        ),
        (
            "create_attribute",
            {**animal, "attribute": "colour"},
            refused(400, "attribute 'colour' already exists in farm.animal"),
        ),
        ("drop_attribute", {**animal, "attribute": "colour"}, said("successfully deleted attribute 'colour'")),
        ("drop_database", {"database": "old"}, said("successfully deleted 'old'")),
        ("drop_schema", {"schema": "old"}, refused(404, "database 'old' does not exist")),
        ("create_database", {}, said("database 'data' successfully created")),
        ("create_schema", {}, refused(400, "database 'data' already exists")),
        ("create_table", {"table": "t", "primary_key": "id"}, said("table 'data.t' successfully created.")),
        ("insert", {"table": "t", "records": []}, (200, inserted_nothing())),
        ("drop_table", {"table": "t"}, said("successfully deleted table 'data.t'")),
        ("drop_database", {"database": "data"}, said("successfully deleted 'data'")),
    ]
    for operation, fields, expected in steps:
        assert ask(empty, operation, **fields) == expected, (operation, fields)


def inserted_nothing() -> dict[str, Any]:
    return {"message": "inserted 0 of 0 records", "inserted_hashes": [], "skipped_hashes": []}
