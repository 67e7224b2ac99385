"""Roles and users as an administrator adds, changes and drops them on a whole node."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import Answer, ask, forbidden, missing_rights
from tests.scenarios.zoo import FLAGS, TARKA, TIMESTAMPS, attribute, on_otter, table_rights, tarka_with, zoo_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with zoo_node(tmp_path_factory.mktemp("node") / "root") as running:
        yield running


@pytest.fixture
def become(node: NodeProcess) -> Iterator[Any]:
    with tarka_with(node) as function:
        yield function


def without_times(value: dict[str, Any]) -> dict[str, Any]:
    assert all(isinstance(value[name], int | float) for name in TIMESTAMPS)
    return {name: kept for name, kept in value.items() if name not in TIMESTAMPS}


# Roles


def test_list_roles_shows_the_one_role_of_a_new_node(node: NodeProcess) -> None:
    (role,) = node.post(operation="list_roles")
    assert without_times(role) == {"permission": {"super_user": True}, "role": "super_user", "id": "super_user"}


def test_a_role_is_answered_as_stored_and_listed_by_id(node: NodeProcess) -> None:
    permission = on_otter(table_rights("read", "update"))
    added = node.post(operation="add_role", role="zz-keeper", permission=permission)
    assert without_times(added) == {"role": "zz-keeper", "id": "zz-keeper", "permission": permission}
    other = node.post(operation="add_role", role="keeper_2", id="0-id", permission={}, access={"any": ["thing"]})
    assert without_times(other) == {"role": "keeper_2", "id": "0-id", "permission": {}, "access": {"any": ["thing"]}}
    listed = node.post(operation="list_roles")
    assert [role["id"] for role in listed] == ["0-id", "super_user", "zz-keeper"]
    assert listed[0] == other
    assert listed[2] == added
    for name in ("zz-keeper", "0-id"):
        node.post(operation="drop_role", id=name)


def test_a_role_name_or_id_in_use_is_refused(node: NodeProcess) -> None:
    node.post(operation="add_role", role="keeper", permission={})
    used = (409, {"error": "A role with name 'keeper' already exists"})
    assert ask(node, "add_role", role="keeper", permission={}) == used
    assert ask(node, "add_role", role="keeper", id="other", permission={}) == used
    id_used = (409, {"error": "A role with id 'keeper' already exists"})
    assert ask(node, "add_role", role="other", id="keeper", permission={}) == id_used
    node.post(operation="drop_role", id="keeper")


def test_alter_role_replaces_the_whole_permission_and_may_rename(node: NodeProcess) -> None:
    added = node.post(operation="add_role", role="keeper", permission=on_otter(table_rights("read")))
    altered = node.post(operation="alter_role", id="keeper", permission={"structure_user": ["zoo"]})
    assert without_times(altered) == {"id": "keeper", "role": "keeper", "permission": {"structure_user": ["zoo"]}}
    assert altered["__createdtime__"] == added["__createdtime__"]
    assert altered["__updatedtime__"] > added["__updatedtime__"]
    renamed = node.post(operation="alter_role", id="keeper", role="warden", permission={})
    assert without_times(renamed) == {"id": "keeper", "role": "warden", "permission": {}}
    assert node.post(operation="drop_role", id="keeper") == {"message": "warden successfully deleted"}


def test_alter_role_of_an_unknown_id_is_refused(node: NodeProcess) -> None:
    assert ask(node, "alter_role", id="ghost", permission={}) == (400, {"error": "Invalid role id"})


def test_two_roles_of_one_name_cannot_be_given_to_a_user(node: NodeProcess) -> None:
    node.post(operation="add_role", role="twin", permission={})
    node.post(operation="add_role", role="other", permission={})
    node.post(operation="alter_role", id="other", role="twin", permission={})
    not_unique = (
        409,
        {"error": "Multiple twin roles found.  Roles must have unique 'role' value. Please update and try again."},
    )
    assert ask(node, "add_user", username="t", password="x", role="twin", active=True) == not_unique
    assert ask(node, "alter_user", username="admin", role="twin") == not_unique
    for name in ("twin", "other"):
        node.post(operation="drop_role", id=name)


INVALID_ROLES: list[tuple[dict[str, Any], list[str]]] = [
    ({"x": 1, "role": "r", "permission": {}}, ["Invalid key in JSON body - 'x'"]),
    ({"x": 1, "y": 2, "role": "r", "permission": {}}, ["Invalid keys in JSON body - 'x', 'y'"]),
    ({"permission": {}}, ["Role can't be blank"]),
    ({"role": None, "permission": {}}, ["Role can't be blank"]),
    ({"role": "r"}, ["Permission can't be blank"]),
    ({"role": "r", "permission": None}, ["Permission can't be blank"]),
    ({}, ["Role can't be blank", "Permission can't be blank"]),
    ({"role": "a b", "permission": {}}, ["Role is invalid"]),
    ({"role": "käfig", "permission": {}}, ["Role is invalid"]),
    ({"role": "r\n", "permission": {}}, ["Role is invalid"]),
    ({"role": 5, "permission": {}}, ["Role is invalid"]),
    ({"role": "", "permission": {}}, ["Role is invalid"]),
    ({"role": "r", "id": "a/b", "permission": {}}, ["Id is invalid"]),
    ({"role": "r", "id": "", "permission": {}}, ["Id is invalid"]),
    (
        {"role": "r", "permission": {"super_user": True, "zoo": {"tables": {}}}},
        ["Roles with 'super_user' set to true cannot have other permissions set."],
    ),
    ({"role": "r", "permission": {"super_user": "yes"}}, ["Value for 'super_user' permission must be a boolean"]),
    (
        {"role": "r", "permission": {"cluster_user": True, "zoo": {"tables": {}}}},
        ["Roles with 'cluster_user' set to true cannot have other permissions set."],
    ),
    ({"role": "r", "permission": {"cluster_user": 1}}, ["Value for 'cluster_user' permission must be a boolean"]),
    (
        {"role": "r", "permission": {"super_user": True, "cluster_user": True}},
        ["Roles cannot have both 'super_user' and 'cluster_user' values included in their permissions set."],
    ),
    (
        {"role": "r", "permission": {"structure_user": "zoo"}},
        ["Value for 'structure_user' permission must be a boolean or Array"],
    ),
    ({"role": "r", "permission": {"structure_user": ["zoo", "moon"]}}, ["database 'moon' does not exist"]),
    ({"role": "r", "permission": {"moon": {"tables": {}}}}, ["database 'moon' does not exist"]),
    ({"role": "r", "permission": {"zoo": {"tables": {"x": table_rights()}}}}, ["Table 'zoo.x' does not exist"]),
    ({"x": 1, "role": "a b"}, ["Invalid key in JSON body - 'x'", "Permission can't be blank", "Role is invalid"]),
]


@pytest.mark.parametrize(("fields", "problems"), INVALID_ROLES)
def test_problems_of_a_role_as_a_whole(node: NodeProcess, fields: dict[str, Any], problems: list[str]) -> None:
    status, answer = ask(node, "add_role", **fields)
    assert status == 400
    assert answer["error"] == "Errors in the role permissions JSON provided"
    assert sorted(answer["main_permissions"]) == sorted(problems)
    assert answer["schema_permissions"] == {}
    assert answer.keys() == {"error", "main_permissions", "schema_permissions"}


def test_alter_role_needs_an_id_and_checks_like_add_role(node: NodeProcess) -> None:
    status, answer = ask(node, "alter_role", role="keeper", permission={"moon": {}})
    assert (status, answer["main_permissions"]) == (400, ["Id can't be blank", "database 'moon' does not exist"])
    status, answer = ask(node, "alter_role", id="super_user")
    assert (status, answer["main_permissions"]) == (400, ["Permission can't be blank"])


FULL = table_rights("read", "insert", "update", "delete")
INVALID_TABLE_RIGHTS: list[tuple[dict[str, Any], list[str]]] = [
    (FULL | {"foo": True}, ["Invalid table permission key value 'foo'"]),
    *[
        ({key: value for key, value in FULL.items() if key != flag}, [f"Missing table {flag.upper()} permission"])
        for flag in FLAGS
    ],
    (FULL | {"read": None}, ["Missing table READ permission"]),
    *[(FULL | {flag: "yes"}, [f"Table {flag.upper()} permission must be a boolean"]) for flag in FLAGS],
    (dict.fromkeys(FLAGS, True), ["Missing 'attribute_permissions' array"]),
    (FULL | {"attribute_permissions": {}}, ["Value for 'attribute_permissions' must be an array"]),
    (
        FULL | {"attribute_permissions": [attribute("name", "read") | {"bad": 1}]},
        ["Invalid attribute permission key value 'bad'"],
    ),
    (
        FULL | {"attribute_permissions": [{"read": True, "insert": True, "update": True}]},
        ["Permission object in 'attribute_permission' missing an 'attribute_name'"],
    ),
    (
        FULL | {"attribute_permissions": [attribute("nope", "read")]},
        ["Invalid attribute 'nope' in 'attribute_permissions'"],
    ),
    *[
        (
            FULL
            | {
                "attribute_permissions": [
                    {key: value for key, value in attribute("name", *FLAGS).items() if key != flag}
                ]
            },
            [f"{flag.upper()} attribute permission missing for 'name'"],
        )
        for flag in FLAGS[:3]
    ],
    (
        FULL | {"attribute_permissions": [attribute("name") | {"read": 1}]},
        ["READ attribute permission for 'name' must be a boolean"],
    ),
    (
        table_rights("read", attributes=[attribute("name", "read", "insert")]),
        ["You have a conflict with TABLE permissions for 'zoo.otter' being false and ATTRIBUTE permissions being true"],
    ),
    (
        {"read": 1, "insert": True, "update": True},
        [
            "Missing table DELETE permission",
            "Table READ permission must be a boolean",
            "Missing 'attribute_permissions' array",
        ],
    ),
]


@pytest.mark.parametrize(("rights", "problems"), INVALID_TABLE_RIGHTS)
def test_problems_of_a_tables_rights(node: NodeProcess, rights: dict[str, Any], problems: list[str]) -> None:
    status, answer = ask(node, "add_role", role="keeper", permission=on_otter(rights))
    assert (status, answer["main_permissions"]) == (400, [])
    assert {key: sorted(found) for key, found in answer["schema_permissions"].items()} == {
        "zoo_otter": sorted(problems)
    }


def test_problems_of_both_kinds_come_in_one_answer(node: NodeProcess) -> None:
    no_read = {key: value for key, value in FULL.items() if key != "read"}
    assert ask(node, "add_role", permission=on_otter(no_read)) == (
        400,
        {
            "error": "Errors in the role permissions JSON provided",
            "main_permissions": ["Role can't be blank"],
            "schema_permissions": {"zoo_otter": ["Missing table READ permission"]},
        },
    )


@pytest.mark.parametrize(
    "permission",
    [
        {},
        {"super_user": True},
        {"super_user": False},
        {"cluster_user": True},
        {"structure_user": True},
        {"structure_user": ["zoo", "sea"]},
        {"zoo": {}},
        {"zoo": {"tables": {"otter": table_rights("read", attributes=None)}}},
        {"zoo": {"tables": {"otter": table_rights(*FLAGS, attributes=[attribute("name", "read") | {"delete": True}])}}},
    ],
)
def test_permissions_that_are_valid(node: NodeProcess, permission: dict[str, Any]) -> None:
    assert node.post(operation="add_role", role="valid", permission=permission)["permission"] == permission
    node.post(operation="drop_role", id="valid")


def test_drop_role_by_its_id_unless_an_active_user_has_it(node: NodeProcess) -> None:
    node.post(operation="add_role", role="keeper", id="k-1", permission={})
    node.post(operation="add_user", username="tarka", password="x", role="keeper", active=True)
    assert ask(node, "drop_role", id="keeper") == (404, {"error": "Role not found"})
    assert ask(node, "drop_role", id="k-1") == (
        409,
        {"error": "Cannot drop role keeper as it has active user(s) tied to this role"},
    )
    node.post(operation="alter_user", username="tarka", active=False)
    assert node.post(operation="drop_role", id="k-1") == {"message": "keeper successfully deleted"}
    node.post(operation="alter_user", username="tarka", active=True)
    assert ask(node, "user_info", user=("tarka", "x")) == forbidden(
        "User tarka has no role or permissions.  Please assign the user a valid role."
    )
    node.post(operation="drop_user", username="tarka")


@pytest.mark.parametrize(
    ("fields", "message"), [({}, "Id can't be blank"), ({"id": "a b"}, "Id is invalid"), ({"id": 5}, "Id is invalid")]
)
def test_drop_role_without_a_usable_id(node: NodeProcess, fields: dict[str, Any], message: str) -> None:
    expected = {"statusCode": 400, "error": "Bad Request", "message": message}
    assert ask(node, "drop_role", **fields) == (400, expected)


# Users


def test_list_users_shows_every_user_with_its_role_and_no_secret(node: NodeProcess) -> None:
    role = node.post(operation="add_role", role="keeper", permission=on_otter(table_rights("read")))
    for name in ("tarka", "Anna"):
        added = node.post(operation="add_user", username=name, password="Water-1", role="keeper", active=name != "Anna")
        assert added == {"message": f"{name} successfully added"}
    listed = node.post(operation="list_users")
    assert [user["username"] for user in listed] == ["Anna", "admin", "tarka"]
    assert [user["active"] for user in listed] == [False, True, True]
    for user in listed:
        assert user.keys() == {"username", "active", "role", *TIMESTAMPS}
        system = user["role"]["permission"].pop("system")["tables"]
        is_super_user = user["username"] == "admin"
        assert (
            list(system)
            == (
                "hdb_user hdb_role hdb_job hdb_license hdb_info hdb_nodes hdb_certificate hdb_analytics_hostname "
                "hdb_analytics hdb_raw_analytics hdb_temp hdb_durable_session hdb_session_will hdb_certificate_cache "
                "hdb_crl_cache hdb_revoked_certificates"
            ).split()
        )
        for rights in system.values():
            assert rights == table_rights(*["read"] * is_super_user)
    assert listed[2]["role"] == role
    for name in ("tarka", "Anna"):
        assert node.post(operation="drop_user", username=name) == {"message": f"{name} successfully deleted"}
    node.post(operation="drop_role", id="keeper")


def test_user_info_shows_the_role_as_stored(node: NodeProcess, become: Any) -> None:
    permission = on_otter(table_rights("read", "update"))
    become(permission)
    status, info = ask(node, "user_info", user=TARKA)
    assert status == 200
    role = info.pop("role")
    assert info == {"active": True, "username": "tarka"}
    assert without_times(role) == {"permission": permission, "role": "keeper", "id": "keeper"}


INVALID_USERS: list[tuple[dict[str, Any], Answer]] = [
    (
        {"username": None, "password": None, "role": None, "active": None},
        (400, {"error": "Username can't be blank,Password can't be blank,Role can't be blank,Active can't be blank"}),
    ),
    ({"password": None}, (400, {"error": "Password can't be blank"})),
    ({"active": "yes"}, (400, {"error": "Active must be a boolean"})),
    ({"role": "a b"}, (400, {"error": "Role is invalid"})),
    ({"username": "system"}, (400, {"error": "Username You cannot create tables within the system schema"})),
    ({"role": "ghost"}, (404, {"error": "ghost role not found"})),
    ({"username": "admin"}, (409, {"error": "User admin already exists"})),
    ({"username": ""}, (400, {"error": "Username can't be blank"})),
    ({"username": 5}, (400, {"error": "Username can't be blank"})),
    ({"password": ""}, (400, {"error": "Password can't be blank"})),
    ({"password": 5}, (400, {"error": "Password can't be blank"})),
]


@pytest.mark.parametrize(("fields", "expected"), INVALID_USERS)
def test_add_user_refuses(node: NodeProcess, fields: dict[str, Any], expected: Answer) -> None:
    user: dict[str, Any] = {"username": "new", "password": "x", "role": "super_user", "active": True} | fields
    sent = {name: value for name, value in user.items() if value is not None}
    assert ask(node, "add_user", **sent) == expected


def test_add_user_drops_fields_it_does_not_know(node: NodeProcess) -> None:
    node.post(
        operation="add_user", username="x y/é", password="p", role="super_user", active=True, colour="red", hash="h"
    )
    (row,) = node.post(
        operation="search_by_id", database="system", table="hdb_user", ids=["x y/é"], get_attributes=["*"]
    )
    assert "colour" not in row
    assert "hash" not in row
    node.post(operation="drop_user", username="x y/é")


NOTHING = "nothing to update, must supply active, role or password to update"
INVALID_CHANGES: list[tuple[dict[str, Any], Answer]] = [
    ({"active": True}, (500, {"error": "username is required"})),
    ({"username": "", "active": True}, (500, {"error": "username is required"})),
    ({"username": "admin"}, (500, {"error": NOTHING})),
    ({"username": "admin", "password": "", "role": ""}, (500, {"error": NOTHING})),
    ({"username": "admin", "password": "  "}, (500, {"error": "password cannot be an empty string"})),
    ({"username": "admin", "password": "", "active": True}, (500, {"error": "password cannot be an empty string"})),
    ({"username": "admin", "active": "yes"}, (500, {"error": "active must be true or false"})),
    ({"username": "admin", "role": "", "active": True}, (500, {"error": "If role is specified, it cannot be empty."})),
    ({"username": "admin", "role": "ghost"}, (404, {"error": "Update failed.  Requested 'ghost' role not found."})),
]


@pytest.mark.parametrize(("fields", "expected"), INVALID_CHANGES)
def test_alter_user_refuses(node: NodeProcess, fields: dict[str, Any], expected: Answer) -> None:
    assert ask(node, "alter_user", **fields) == expected


def test_alter_user_answers_like_an_update(node: NodeProcess, become: Any) -> None:
    become({})
    assert node.post(operation="alter_user", username="tarka", password="New-2") == {
        "message": "updated 1 of 1 records",
        "txn_time": 0,
        "update_hashes": ["tarka"],
        "skipped_hashes": [],
    }
    assert node.post(operation="alter_user", username="nobody", password="New-2") == {
        "message": "updated 0 of 1 records",
        "txn_time": 0,
        "update_hashes": [],
        "skipped_hashes": ["nobody"],
    }


def test_changes_of_a_user_take_effect_with_the_next_request(node: NodeProcess, become: Any) -> None:
    become({})
    assert ask(node, "user_info", user=TARKA)[0] == 200
    node.post(operation="alter_user", username="tarka", password="New-2")
    assert ask(node, "user_info", user=TARKA) == (401, {"error": "Login failed"})
    assert ask(node, "user_info", user=("tarka", "New-2"))[0] == 200
    node.post(operation="alter_user", username="tarka", active=False)
    inactive = (401, {"error": "Cannot complete request: User is inactive"})
    assert ask(node, "user_info", user=("tarka", "New-2")) == inactive
    assert ask(node, "user_info", user=("tarka", "wrong")) == inactive
    node.post(operation="alter_user", username="tarka", active=True, role="super_user")
    assert ask(node, "list_roles", user=("tarka", "New-2"))[0] == 200
    node.post(operation="drop_user", username="tarka")
    assert ask(node, "user_info", user=("tarka", "New-2")) == (401, {"error": "Login failed"})


def test_drop_user_refuses(node: NodeProcess) -> None:
    assert ask(node, "drop_user") == (400, {"error": "Username can't be blank"})
    assert ask(node, "drop_user", username="ghost") == (404, {"error": "User ghost does not exist"})


LAST_SUPER_USER = (409, {"error": "Cannot remove the last active super user"})


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "drop_user", "username": "admin"},
        {"operation": "alter_user", "username": "admin", "active": False},
        {"operation": "alter_user", "username": "admin", "role": "lesser"},
        {"operation": "alter_role", "id": "super_user", "permission": {}},
        {"operation": "delete", "database": "system", "table": "hdb_user", "ids": ["admin"]},
        {"operation": "delete", "database": "system", "table": "hdb_role", "ids": ["super_user"]},
        {
            "operation": "update",
            "database": "system",
            "table": "hdb_user",
            "records": [{"username": "admin", "active": False}],
        },
        {
            "operation": "upsert",
            "database": "system",
            "table": "hdb_role",
            "records": [{"id": "super_user", "role": "super_user", "permission": {}}],
        },
    ],
    ids=lambda body: str(body["operation"]) + "-" + str(body.get("table", "")),
)
def test_the_last_active_super_user_stays(node: NodeProcess, body: dict[str, Any]) -> None:
    ask(node, "add_role", role="lesser", permission={})
    status, answer = ask(node, **body)
    assert (status, answer) == LAST_SUPER_USER
    ask(node, "drop_role", id="lesser")


def test_with_another_super_user_the_first_may_go(node: NodeProcess) -> None:
    node.post(operation="add_user", username="second", password="x", role="super_user", active=True)
    node.post(operation="alter_user", username="admin", active=False)
    assert ask(node, "alter_user", user=("second", "x"), username="second", active=False) == LAST_SUPER_USER
    assert ask(node, "alter_user", user=("second", "x"), username="admin", active=True)[0] == 200
    node.post(operation="drop_user", username="second")


def test_a_super_user_may_write_users_and_roles_as_records(node: NodeProcess) -> None:
    keeper = {"id": "direct", "role": "direct", "permission": {}}
    written = node.post(operation="insert", database="system", table="hdb_role", records=[keeper])
    assert written["inserted_hashes"] == ["direct"]
    assert "direct" in [role["id"] for role in node.post(operation="list_roles")]
    assert node.post(operation="delete", database="system", table="hdb_role", ids=["direct"])["deleted_hashes"] == [
        "direct"
    ]


@pytest.mark.parametrize("table", ["hdb_job", "hdb_certificate", "hdb_info"])
def test_a_super_user_only_reads_other_system_tables(node: NodeProcess, table: str) -> None:
    where: dict[str, Any] = {"database": "system", "table": table}
    assert ask(node, "insert", **where, records=[{"id": 1}]) == forbidden(missing_rights(f"system.{table}", ["insert"]))
    used_internally = (
        403,
        {
            "error": "The 'system' database, tables and records are used internally by HarperDB and cannot be updated or "
            "removed."
        },
    )
    assert ask(node, "delete", **where, ids=[1]) == used_internally
    assert ask(node, "update", **where, records=[{"id": 1}]) == used_internally
    assert ask(node, "upsert", **where, records=[{"id": 1}]) == used_internally
    assert ask(node, "drop_table", **where) == used_internally
    assert ask(node, "drop_database", database="system") == used_internally
    assert ask(node, "drop_attribute", **where, attribute="x") == used_internally
    assert ask(node, "search_by_value", **where, attribute="*", value="*", get_attributes=["*"])[0] in (200, 404)


def test_passwords_are_stored_salted_under_the_configured_function(node: NodeProcess) -> None:
    node.post(operation="add_user", username="salt", password="same", role="super_user", active=True)
    node.post(operation="add_user", username="pepper", password="same", role="super_user", active=True)
    rows = node.post(
        operation="search_by_id",
        database="system",
        table="hdb_user",
        ids=["salt", "pepper"],
        get_attributes=["username", "password", "hash_function", "role"],
    )
    assert [row["role"] for row in rows] == ["super_user"] * 2
    assert [row["hash_function"] for row in rows] == ["sha256"] * 2
    assert all(len(row["password"]) == 16 + 64 and row["password"][:16].isalnum() for row in rows)
    assert rows[0]["password"] != rows[1]["password"]
    for name in ("salt", "pepper"):
        node.post(operation="drop_user", username=name)


def test_a_user_written_as_a_record_can_log_in(node: NodeProcess) -> None:
    system: dict[str, Any] = {"database": "system", "table": "hdb_user"}
    salt = "abcdefghi"
    user = {"active": True, "role": "super_user"}
    old = {"password": salt + hashlib.md5(b"old-Passw0rd" + salt.encode()).hexdigest(), "hash_function": "md5"}
    written = [{"username": "old", **user, **old}, {"username": "plain", **user, "password": "plain-Passw0rd"}]
    node.post(operation="insert", **system, records=written)
    rows = node.post(operation="search_by_id", **system, ids=["old", "plain"], get_attributes=["*"])
    assert "plain-Passw0rd" not in str(rows), "a password is hashed also here"
    node.post(operation="upsert", **system, records=rows)
    for name in ("old", "plain"):
        assert ask(node, "user_info", user=(name, f"{name}-Passw0rd"))[0] == 200, name
        node.post(operation="drop_user", username=name)
