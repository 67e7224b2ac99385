"""Users, roles and what they may do, asked of a whole node over HTTPS.

The node stores passwords with SHA-256 here: these tests change users all the time, each change makes the node forget
whom it has checked, and the default function is slow on purpose.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import Answer, ask, forbidden, missing_rights

TARKA = ("tarka", "Water-1")
FLAGS = ("read", "insert", "update", "delete")
TIMESTAMPS = ("__createdtime__", "__updatedtime__")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("users") / "root"
    with NodeProcess(root, options=["--set", "authentication.hashFunction=sha256"]) as running:
        for database, table in (("zoo", "otter"), ("zoo", "staff"), ("sea", "fish")):
            running.post(operation="create_table", database=database, table=table, primary_key="id")
        running.post(
            operation="insert",
            database="zoo",
            table="otter",
            records=[{"id": 1, "name": "Tarka", "weight": 9, "age": 3}],
        )
        running.post(operation="insert", database="zoo", table="staff", records=[{"id": 1, "name": "Ring"}])
        running.post(operation="insert", database="sea", table="fish", records=[{"id": 1, "name": "Eel"}])
        yield running
        assert running.stop() == 0


def table_rights(*granted: str, attributes: Any = ()) -> dict[str, Any]:
    attributes = attributes if attributes is None else list(attributes)
    return {flag: flag in granted for flag in FLAGS} | {"attribute_permissions": attributes}


def attribute(name: str, *granted: str) -> dict[str, Any]:
    return {"attribute_name": name, **{flag: flag in granted for flag in FLAGS[:3]}}


def on_otter(rights: Any) -> dict[str, Any]:
    return {"super_user": False, "zoo": {"tables": {"otter": rights}}}


def without_times(value: dict[str, Any]) -> dict[str, Any]:
    assert all(isinstance(value[name], int | float) for name in TIMESTAMPS)
    return {name: kept for name, kept in value.items() if name not in TIMESTAMPS}


@pytest.fixture
def become(node: NodeProcess) -> Iterator[Any]:
    """Gives the user ``tarka`` a role with the permission asked for; both are gone after the test."""

    def with_permission(permission: Any) -> None:
        if ask(node, "alter_role", id="keeper", permission=permission)[0] != 200:
            status, answer = ask(node, "add_role", role="keeper", permission=permission)
            assert status == 200, answer
            node.post(operation="add_user", username=TARKA[0], password=TARKA[1], role="keeper", active=True)

    yield with_permission
    ask(node, "drop_user", username=TARKA[0])
    ask(node, "drop_role", id="keeper")


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


# What a role may do

SU_ONLY = {
    "list_roles": "listRoles",
    "add_role": "addRole",
    "alter_role": "alterRole",
    "drop_role": "dropRole",
    "list_users": "listUsersExternal",
    "add_user": "addUser",
    "alter_user": "alterUser",
    "drop_user": "dropUser",
    "get_backup": "getBackup",
    "search_jobs_by_start_date": "handleGetJobsByStartDate",
    "set_configuration": "setConfiguration",
    "get_configuration": "getConfiguration",
    "restart": "restart",
    "system_information": "systemInformation",
    "set_status": "setStatus",
    "get_status": "getStatus",
    "clear_status": "clearStatus",
    "read_log": "readLog",
    "read_transaction_log": "readTransactionLog",
    "delete_transaction_logs_before": "deleteTransactionLogsBefore",
    "read_audit_log": "readAuditLog",
    "delete_audit_logs_before": "deleteAuditLogsBefore",
}


def test_operations_for_super_users_only_are_refused_by_their_internal_name(node: NodeProcess, become: Any) -> None:
    become({"structure_user": True})
    for operation, name in SU_ONLY.items():
        expected = forbidden(f"Operation '{name}' is restricted to 'super_user' roles")
        assert ask(node, operation, user=TARKA, database="zoo", table="otter") == expected, operation


@pytest.mark.parametrize("permission", [{}, {"cluster_user": True}, {"zoo": {}}, on_otter(table_rights())])
def test_a_role_without_rights_sees_no_data_but_itself(node: NodeProcess, become: Any, permission: Any) -> None:
    become(permission)
    assert ask(node, "user_info", user=TARKA)[0] == 200
    assert ask(node, "describe_all", user=TARKA) == (200, {})
    assert ask(node, "get_job", user=TARKA, id="none") == (200, [])
    nothing = forbidden(unknown=["database 'zoo' does not exist"])
    search: dict[str, Any] = {"database": "zoo", "table": "otter", "ids": [1], "get_attributes": ["*"]}
    assert ask(node, "search_by_id", user=TARKA, **search) == nothing
    assert ask(node, "describe_database", user=TARKA, database="zoo") == nothing


BODIES: dict[str, dict[str, Any]] = {
    "insert": {"records": [{"id": 50, "name": "x"}]},
    "update": {"records": [{"id": 1, "name": "Tarka"}]},
    "upsert": {"records": [{"id": 1, "name": "Tarka"}]},
    "delete": {"ids": [999]},
    "search_by_id": {"ids": [1], "get_attributes": ["name"]},
    "search_by_hash": {"hash_values": [1], "get_attributes": ["name"]},
    "search_by_value": {"attribute": "name", "value": "T*", "get_attributes": ["name"]},
    "search_by_conditions": {
        "conditions": [{"attribute": "name", "comparator": "equals", "value": "Tarka"}],
        "get_attributes": ["name"],
    },
}
NEEDED = {
    "insert": ["insert"],
    "update": ["update"],
    "upsert": ["insert", "update"],
    "delete": ["delete"],
    **{name: ["read"] for name in ("search_by_id", "search_by_hash", "search_by_value", "search_by_conditions")},
}


@pytest.mark.parametrize("granted", [("read",), ("insert",), ("update",), ("delete",), ("read", "insert"), FLAGS])
def test_every_record_operation_needs_its_table_rights(
    node: NodeProcess, become: Any, granted: tuple[str, ...]
) -> None:
    become(on_otter(table_rights(*granted)))
    for operation, needed in NEEDED.items():
        missing = [right for right in needed if right not in granted]
        answer = ask(node, operation, user=TARKA, database="zoo", table="otter", **BODIES[operation])
        if missing:
            assert answer == forbidden(missing_rights("zoo.otter", missing)), operation
        else:
            assert answer[0] == 200, (operation, answer)
    node.post(operation="delete", database="zoo", table="otter", ids=[50])


def test_what_a_role_may_not_see_does_not_exist_for_it(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read")))
    for operation, fields in BODIES.items():
        assert ask(node, operation, user=TARKA, database="zoo", table="staff", **fields) == forbidden(
            unknown=["Table 'zoo.staff' does not exist"]
        ), operation
        assert ask(node, operation, user=TARKA, database="sea", table="fish", **fields) == forbidden(
            unknown=["database 'sea' does not exist"]
        ), operation
        assert ask(node, operation, user=TARKA, database="moon", table="fish", **fields) == forbidden(
            unknown=["database 'moon' does not exist"]
        ), operation


@pytest.mark.parametrize(
    "names",
    [{"schema": "zoo", "database": "sea", "table": "fish"}, {"table": "fish"}, {"schema": "sea", "table": "fish"}],
)
def test_names_are_resolved_for_the_check_as_for_the_work(
    node: NodeProcess, become: Any, names: dict[str, Any]
) -> None:
    become(on_otter(table_rights(*FLAGS)))
    for operation, fields in BODIES.items():
        status, answer = ask(node, operation, user=TARKA, **names, **fields)
        database = names.get("database", names.get("schema", "data"))
        assert (status, answer) == forbidden(unknown=[f"database '{database}' does not exist"]), operation


def test_a_refusal_comes_before_validation_and_before_unknown_names(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read")))
    assert ask(node, "insert", user=TARKA, database="zoo", table="otter") == forbidden(
        missing_rights("zoo.otter", ["insert"])
    )
    assert ask(node, "nope", user=TARKA) == (400, {"error": "Operation 'nope' not found"})
    assert ask(node, "nope", user=("tarka", "wrong")) == (401, {"error": "Login failed"})


CASCADE = table_rights("read", "insert", "update", attributes=[
    attribute("name", "read", "insert", "update"),
    attribute("weight", "read"),
    attribute("age"),
    attribute("__createdtime__", "read", "insert", "update"),
])  # fmt: skip


def in_otter(node: NodeProcess, operation: str, **fields: Any) -> Answer:
    return ask(node, operation, user=TARKA, database="zoo", table="otter", **fields)


WRITES: list[tuple[str, dict[str, Any], Answer | None]] = [
    ("insert", {"id": 60, "name": "n"}, None),
    ("update", {"id": 60, "name": "m"}, None),
    ("upsert", {"id": 60, "name": "o"}, None),
    ("insert", {"id": 61, "age": 1}, forbidden(unknown=["Attribute 'age' does not exist on 'zoo.otter'"])),
    ("insert", {"id": 61, "new": 1}, forbidden(unknown=["Attribute 'new' does not exist on 'zoo.otter'"])),
    ("insert", {"id": 61, "weight": 1}, forbidden(missing_rights("zoo.otter", [], {"weight": ["insert"]}))),
    ("update", {"id": 60, "weight": 1}, forbidden(missing_rights("zoo.otter", [], {"weight": ["update"]}))),
    ("upsert", {"id": 60, "weight": 1}, forbidden(missing_rights("zoo.otter", [], {"weight": ["insert", "update"]}))),
    (
        "upsert",
        {"id": 60, "weight": 1, "age": 2},
        forbidden(
            missing_rights("zoo.otter", [], {"weight": ["insert", "update"]}),
            unknown=["Attribute 'age' does not exist on 'zoo.otter'"],
        ),
    ),
    (
        "insert",
        {"id": 61, "__createdtime__": 5},
        (
            403,
            {
                "error": "Internal timestamp attributes - '__createdtime_' and '__updatedtime__' - cannot be inserted to "
                "or updated by HDB users."
            },
        ),
    ),
    (
        "insert",
        {"id": 61, "__updatedtime__": 5},
        forbidden(unknown=["Attribute '__updatedtime__' does not exist on 'zoo.otter'"]),
    ),
]


def test_writes_of_a_role_with_attribute_rights(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": CASCADE}}})
    for operation, record, expected in WRITES:
        status, answer = in_otter(node, operation, records=[record])
        if expected is None:
            assert status == 200, (operation, record, answer)
        else:
            assert (status, answer) == expected, (operation, record)
    mixed = [{"id": 60, "name": "x"}, {"id": 61, "weight": 5}]
    assert in_otter(node, "update", records=mixed) == forbidden(missing_rights("zoo.otter", [], {"weight": ["update"]}))
    assert in_otter(node, "delete", ids=[60]) == forbidden(missing_rights("zoo.otter", ["delete"]))
    node.post(operation="delete", database="zoo", table="otter", ids=[60])


NO_AGE = forbidden(unknown=["Attribute 'age' does not exist on 'zoo.otter'"])


def test_reads_of_a_role_with_attribute_rights(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": CASCADE}}})
    is_tarka = {"attribute": "name", "comparator": "equals", "value": "Tarka"}
    is_three = {"attribute": "age", "comparator": "equals", "value": 3}
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["name", "age"]) == NO_AGE
    assert in_otter(node, "search_by_value", attribute="age", value=3, get_attributes=["name"]) == NO_AGE
    assert in_otter(node, "search_by_value", attribute="name", value="T*", get_attributes=["age"]) == NO_AGE
    assert in_otter(node, "search_by_conditions", conditions=[is_three], get_attributes=["name"]) == NO_AGE
    assert in_otter(node, "search_by_conditions", conditions=[is_tarka], get_attributes=["age"]) == NO_AGE
    nested = [{"operator": "or", "conditions": [is_tarka, is_three]}]
    assert in_otter(node, "search_by_conditions", conditions=nested, get_attributes=["name"]) == NO_AGE
    by_age = {"attribute": "age"}
    assert in_otter(node, "search_by_conditions", conditions=[is_tarka], sort=by_age, get_attributes=["name"]) == NO_AGE
    next_by_age = {"attribute": "name", "next": by_age}
    assert (
        in_otter(node, "search_by_conditions", conditions=[is_tarka], sort=next_by_age, get_attributes=["name"])
        == NO_AGE
    )
    status, (found,) = in_otter(node, "search_by_conditions", conditions=[is_tarka], get_attributes=["name", "weight"])
    assert (status, found) == (200, {"name": "Tarka", "weight": 9})


@pytest.mark.parametrize("wildcard", ["*", "%"])
def test_a_wildcard_is_what_the_role_may_read(node: NodeProcess, become: Any, wildcard: str) -> None:
    become({"zoo": {"tables": {"otter": CASCADE}}})
    status, (found,) = in_otter(node, "search_by_id", ids=[1], get_attributes=[wildcard])
    assert status == 200
    assert found.keys() == {"name", "weight", "__createdtime__", "id"}
    assert list(found)[-1] == "id"
    conditions = [{"attribute": "name", "comparator": "equals", "value": "Tarka"}]
    assert in_otter(node, "search_by_conditions", conditions=conditions) == (200, [found])


def test_a_wildcard_is_everything_for_a_role_with_rights_on_the_table(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read")))
    _, (everything,) = in_otter(node, "search_by_id", ids=[1], get_attributes=["*"])
    assert everything.keys() == {"id", "name", "weight", "age", *TIMESTAMPS}


def test_a_role_that_may_read_no_attribute_gets_no_wildcard(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read", attributes=[attribute("name")])))
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["*"]) == (
        500,
        {"error": "'get_attributes' must contain at least 1 item"},
    )


def test_a_listed_primary_key_has_the_rights_it_is_given(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights("read", "insert", attributes=[attribute("id"), attribute("name", "read", "insert")])))
    no_id = forbidden(unknown=["Attribute 'id' does not exist on 'zoo.otter'"])
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["id", "name"]) == no_id
    assert in_otter(node, "insert", records=[{"id": 70, "name": "x"}]) == no_id
    become(on_otter(table_rights("read", "insert", attributes=[attribute("name", "insert")])))
    assert in_otter(node, "insert", records=[{"id": 70, "name": "x"}])[0] == 200
    assert in_otter(node, "search_by_id", ids=[1], get_attributes=["id"]) == forbidden(
        missing_rights("zoo.otter", [], {"id": ["read"]})
    )
    node.post(operation="delete", database="zoo", table="otter", ids=[70])


def test_describe_shows_what_the_role_may_see(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": CASCADE, "staff": table_rights("insert")}}, "sea": {"tables": {}}})
    status, everything = ask(node, "describe_all", user=TARKA)
    assert (status, everything.keys(), everything["zoo"].keys()) == (200, {"zoo"}, {"otter", "staff"})
    otter = {shown["attribute"] for shown in everything["zoo"]["otter"]["attributes"]}
    assert otter == {"id", "name", "weight", "__createdtime__"}
    staff = {shown["attribute"] for shown in everything["zoo"]["staff"]["attributes"]}
    assert staff == {"id", "name", *TIMESTAMPS}
    _, table = ask(node, "describe_table", user=TARKA, database="zoo", table="otter")
    assert {shown["attribute"] for shown in table["attributes"]} == otter
    _, database = ask(node, "describe_database", user=TARKA, database="zoo")
    assert database.keys() == {"otter", "staff"}
    metadata = "Your role does not have permission to view database metadata for 'system'"
    assert ask(node, "describe_database", user=TARKA, database="system") == forbidden(metadata)
    assert ask(node, "describe_table", user=TARKA, database="system", table="hdb_user") == forbidden(metadata)
    assert ask(node, "describe_table", user=TARKA, database="sea", table="fish") == forbidden(
        unknown=["Table 'sea.fish' does not exist"]
    )


def test_a_table_of_four_false_flags_is_invisible(node: NodeProcess, become: Any) -> None:
    become({"zoo": {"tables": {"otter": table_rights("read"), "staff": table_rights()}}})
    assert ask(node, "describe_all", user=TARKA)[1]["zoo"].keys() == {"otter"}
    assert ask(node, "describe_table", user=TARKA, database="zoo", table="staff") == forbidden(
        unknown=["Table 'zoo.staff' does not exist"]
    )


def test_a_role_for_a_database_is_limited_to_its_structure(node: NodeProcess, become: Any) -> None:
    become({"structure_user": ["zoo"], "zoo": {"tables": {"staff": table_rights()}}})
    assert ask(node, "create_table", user=TARKA, database="zoo", table="vole", primary_key="id")[0] == 200
    assert ask(node, "create_attribute", user=TARKA, database="zoo", table="vole", attribute="name")[0] == 200
    assert ask(node, "insert", user=TARKA, database="zoo", table="vole", records=[{"id": 1}])[0] == 200
    assert ask(node, "search_by_id", user=TARKA, database="zoo", table="staff", ids=[1], get_attributes=["*"])[0] == 200
    assert ask(node, "drop_attribute", user=TARKA, database="zoo", table="vole", attribute="name")[0] == 200
    assert ask(node, "drop_table", user=TARKA, database="zoo", table="vole")[0] == 200
    for operation in ("create_table", "drop_table", "create_attribute", "drop_attribute"):
        assert ask(node, operation, user=TARKA, database="sea", table="fish", attribute="name") == forbidden(
            f"User does not have access to perform '{operation}' against schema 'sea'"
        )
    for operation, name in (("create_database", "createSchema"), ("drop_database", "dropSchema")):
        assert ask(node, operation, user=TARKA, database="zoo") == forbidden(
            f"Operation '{name}' is restricted to 'super_user' roles"
        )


def test_a_structure_user_has_every_database_but_the_system(node: NodeProcess, become: Any) -> None:
    become({"structure_user": True})
    assert ask(node, "create_database", user=TARKA, database="pond")[0] == 200
    assert ask(node, "create_table", user=TARKA, database="pond", table="newt", primary_key="id")[0] == 200
    assert ask(node, "upsert", user=TARKA, database="pond", table="newt", records=[{"id": 1}])[0] == 200
    assert ask(node, "delete", user=TARKA, database="pond", table="newt", ids=[1])[0] == 200
    assert ask(node, "drop_database", user=TARKA, database="pond")[0] == 200
    status, _ = ask(
        node, "search_by_id", user=TARKA, database="system", table="hdb_user", ids=["admin"], get_attributes=["*"]
    )
    assert status == 403


def test_a_role_with_table_rights_may_not_change_structure(node: NodeProcess, become: Any) -> None:
    become(on_otter(table_rights(*FLAGS)))
    for operation, name in (
        ("create_table", "createTable"),
        ("drop_table", "dropTable"),
        ("drop_attribute", "dropAttribute"),
    ):
        assert ask(node, operation, user=TARKA, database="zoo", table="otter", attribute="age") == forbidden(
            f"Operation '{name}' is restricted to 'super_user' roles"
        )
    assert ask(node, "create_attribute", user=TARKA, database="zoo", table="otter", attribute="fur")[0] == 200


def test_a_new_attribute_follows_the_table_or_stays_hidden(node: NodeProcess, become: Any) -> None:
    node.post(operation="create_attribute", database="zoo", table="staff", attribute="desk")
    become({"zoo": {"tables": {"staff": table_rights("read")}}})
    where: dict[str, Any] = {"user": TARKA, "database": "zoo", "table": "staff", "ids": [1]}
    assert ask(node, "search_by_id", **where, get_attributes=["desk"])[0] == 200
    become({"zoo": {"tables": {"staff": table_rights("read", attributes=[attribute("name", "read")])}}})
    assert ask(node, "search_by_id", **where, get_attributes=["desk"]) == forbidden(
        unknown=["Attribute 'desk' does not exist on 'zoo.staff'"]
    )
