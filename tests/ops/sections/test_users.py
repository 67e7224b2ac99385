"""The operations on users."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ops.system_records import put_record
from ops.system_tables import REFRESH_TOKENS, ROLES, SYSTEM, USERS
from storage.write_transaction import WriteTransaction
from tests.ops.user_node import ADMIN, UserNode, open_user_node, permission_of

KEEPER = permission_of("ru")
NEW = {"username": "lutra", "password": "x", "role": "keeper", "active": True}
LAST = (409, {"error": "Cannot remove the last active super user"})


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[UserNode]:
    async with open_user_node(tmp_path) as node:
        await node.done("add_role", role="keeper", id="k-1", permission=KEEPER)
        await node.add_user("tarka")
        yield node


async def answer_to(node: UserNode, operation: str, **fields: Any) -> tuple[int, Any]:
    answer = await node.ask({"operation": operation, **fields})
    return answer.status, answer.body


def stored_user(node: UserNode, name: str) -> dict[str, Any]:
    (user,) = [user for user in node.stored(USERS) if user["username"] == name]
    return user


async def add_role_of_same_name(node: UserNode) -> None:
    def add(tx: WriteTransaction) -> None:
        put_record(tx, tx.table(ROLES), {"id": "k-2", "role": "keeper", "permission": {}})

    await node.catalog.write(SYSTEM, add)


# -- listing ----------------------------------------------------------------------------------------------------------


async def test_users_are_listed_by_name_without_anything_of_their_passwords(node: UserNode) -> None:
    users = await node.done("list_users")
    assert [user["username"] for user in users] == ["admin", "tarka"]
    for user in users:
        assert set(user) == {"username", "active", "role", "__createdtime__", "__updatedtime__"}


async def test_a_listed_role_tells_what_it_means_for_the_nodes_own_tables(node: UserNode) -> None:
    admin, tarka = await node.done("list_users")
    for user, reads in ((admin, True), (tarka, False)):
        tables = user["role"]["permission"]["system"]["tables"]
        assert list(tables) == [
            "hdb_user",
            "hdb_role",
            "hdb_job",
            "hdb_license",
            "hdb_info",
            "hdb_nodes",
            "hdb_certificate",
            "hdb_analytics_hostname",
            "hdb_analytics",
            "hdb_raw_analytics",
            "hdb_temp",
            "hdb_durable_session",
            "hdb_session_will",
            "hdb_certificate_cache",
            "hdb_crl_cache",
            "hdb_revoked_certificates",
        ]
        for flags in tables.values():
            assert flags == {
                "read": reads,
                "insert": False,
                "update": False,
                "delete": False,
                "attribute_permissions": [],
            }
    assert tarka["role"]["id"] == "k-1"
    assert tarka["role"]["permission"]["zoo"] == KEEPER["zoo"]


async def test_user_info_shows_the_role_as_stored(node: UserNode) -> None:
    answer = await node.ask({"operation": "user_info"}, ("tarka", "secret of tarka"))
    (role,) = [role for role in node.stored(ROLES) if role["id"] == "k-1"]
    assert answer.body == {"active": True, "username": "tarka", "role": role}


# -- adding -----------------------------------------------------------------------------------------------------------


async def test_a_new_user_is_stored_with_the_id_of_its_role_and_a_hash(node: UserNode) -> None:
    assert await answer_to(node, "add_user", **NEW, more="dropped") == (200, {"message": "lutra successfully added"})
    user = stored_user(node, "lutra")
    assert (user["role"], user["active"], user["hash_function"]) == ("k-1", True, "argon2id")
    assert user["password"].split("$")[1] == "argon2id"
    assert "more" not in user


async def test_the_configured_hash_function_is_used(tmp_path: Path) -> None:
    async with open_user_node(tmp_path, hash_function="sha256") as node:
        await node.add_user("tarka", "super_user")
        assert stored_user(node, "tarka")["hash_function"] == "sha256"


async def test_a_new_user_may_log_in(node: UserNode) -> None:
    await node.done("add_user", **NEW)
    assert (await node.ask({"operation": "user_info"}, ("lutra", "x"))).status == 200


ALL_BLANK = "Username can't be blank,Password can't be blank,Role can't be blank,Active can't be blank"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, ALL_BLANK),
        ({"username": None, "password": None, "role": None, "active": None}, ALL_BLANK),
        ({**NEW, "username": ""}, "Username can't be blank"),
        ({**NEW, "username": 5}, "Username can't be blank"),
        ({**NEW, "username": "system"}, "Username You cannot create tables within the system schema"),
        ({**NEW, "username": "x" * 251}, "Username cannot exceed 250 characters"),
        ({**NEW, "password": ""}, "Password can't be blank"),
        ({**NEW, "password": 5}, "Password can't be blank"),
        ({**NEW, "password": "x" * 4097}, "Password cannot exceed 4096 characters"),
        ({**NEW, "role": ""}, "Role is invalid"),
        ({**NEW, "role": "a b"}, "Role is invalid"),
        ({**NEW, "role": 5}, "Role is invalid"),
        ({**NEW, "active": "true"}, "Active must be a boolean"),
        ({**NEW, "active": 1, "role": "a b"}, "Role is invalid,Active must be a boolean"),
    ],
)
async def test_a_new_user_with_bad_fields_is_refused(node: UserNode, fields: dict[str, Any], problem: str) -> None:
    assert await answer_to(node, "add_user", **fields) == (400, {"error": problem})


async def test_a_new_user_needs_a_role_that_exists(node: UserNode) -> None:
    assert await answer_to(node, "add_user", **{**NEW, "role": "k-1"}) == (404, {"error": "k-1 role not found"})


async def test_a_new_user_needs_a_role_that_is_unique(node: UserNode) -> None:
    await add_role_of_same_name(node)
    assert await answer_to(node, "add_user", **NEW) == (
        409,
        {"error": "Multiple keeper roles found.  Roles must have unique 'role' value. Please update and try again."},
    )


async def test_a_user_is_not_added_twice(node: UserNode) -> None:
    before = stored_user(node, "tarka")
    assert await answer_to(node, "add_user", **{**NEW, "username": "tarka"}) == (
        409,
        {"error": "User tarka already exists"},
    )
    assert stored_user(node, "tarka") == before


@pytest.mark.parametrize("name", ["a b", "jürgen", "a:b", "/", "1", "x" * 250])
async def test_a_name_may_be_any_text(node: UserNode, name: str) -> None:
    await node.done("add_user", **{**NEW, "username": name})
    assert await node.done("drop_user", username=name) == {"message": f"{name} successfully deleted"}


# -- altering ---------------------------------------------------------------------------------------------------------


async def test_altering_a_user_answers_with_an_update_result(node: UserNode) -> None:
    assert await answer_to(node, "alter_user", username="tarka", active=True) == (
        200,
        {"message": "updated 1 of 1 records", "txn_time": 0, "update_hashes": ["tarka"], "skipped_hashes": []},
    )


@pytest.mark.parametrize("change", [{"active": False}, {"password": "y"}, {"role": "keeper"}])
async def test_altering_an_unknown_user_skips_it(node: UserNode, change: dict[str, Any]) -> None:
    assert await answer_to(node, "alter_user", username="nobody", **change) == (
        200,
        {"message": "updated 0 of 1 records", "txn_time": 0, "update_hashes": [], "skipped_hashes": ["nobody"]},
    )


async def test_altering_changes_only_what_is_given(node: UserNode) -> None:
    before = stored_user(node, "tarka")
    await node.done("alter_user", username="tarka", active=False, password=None, role=None)
    after = stored_user(node, "tarka")
    assert {name for name in after if after[name] != before[name]} == {"active", "__updatedtime__"}


async def test_a_role_is_given_by_name_and_stored_by_id(node: UserNode) -> None:
    await node.done("add_role", role="owner", id="o-1", permission={})
    await node.done("alter_user", username="tarka", role="owner")
    assert stored_user(node, "tarka")["role"] == "o-1"


async def test_a_new_password_is_hashed_by_the_configured_function(node: UserNode) -> None:
    def make_old(tx: WriteTransaction) -> None:
        put_record(tx, tx.table(USERS), {"username": "old", "password": "x", "role": "k-1", "active": True})

    await node.catalog.write(SYSTEM, make_old)
    await node.done("alter_user", username="old", password="new secret")
    assert stored_user(node, "old")["hash_function"] == "argon2id"
    assert (await node.ask({"operation": "user_info"}, ("old", "new secret"))).status == 200


NOTHING = "nothing to update, must supply active, role or password to update"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "username is required"),
        ({"username": "", "active": True}, "username is required"),
        ({"username": 5, "active": True}, "username is required"),
        ({"username": "tarka"}, NOTHING),
        ({"username": "tarka", "password": "", "role": "", "active": None}, NOTHING),
        ({"username": "tarka", "password": "  "}, "password cannot be an empty string"),
        ({"username": "tarka", "password": "", "active": True}, "password cannot be an empty string"),
        ({"username": "tarka", "password": 5}, "password cannot be an empty string"),
        ({"username": "tarka", "active": "yes"}, "active must be true or false"),
        ({"username": "tarka", "active": 0}, "active must be true or false"),
        ({"username": "tarka", "role": "", "active": True}, "If role is specified, it cannot be empty."),
    ],
)
async def test_a_change_with_bad_fields_fails(node: UserNode, fields: dict[str, Any], problem: str) -> None:
    assert await answer_to(node, "alter_user", **fields) == (500, {"error": problem})


@pytest.mark.parametrize("username", ["tarka", "nobody"])
async def test_altering_to_an_unknown_role_is_refused(node: UserNode, username: str) -> None:
    assert await answer_to(node, "alter_user", username=username, role="nothing") == (
        404,
        {"error": "Update failed.  Requested 'nothing' role not found."},
    )


async def test_altering_to_a_role_that_is_not_unique_is_refused(node: UserNode) -> None:
    await add_role_of_same_name(node)
    assert await answer_to(node, "alter_user", username="tarka", role="keeper") == (
        409,
        {"error": "Multiple keeper roles found.  Roles must have unique 'role' value. Please update and try again."},
    )


# -- dropping ---------------------------------------------------------------------------------------------------------


async def test_dropping_a_user_takes_its_refresh_token_along(node: UserNode) -> None:
    await node.ask({"operation": "create_authentication_tokens"}, ("tarka", "secret of tarka"))
    assert [row["username"] for row in node.stored(REFRESH_TOKENS)] == ["tarka"]
    assert await answer_to(node, "drop_user", username="tarka") == (200, {"message": "tarka successfully deleted"})
    assert [user["username"] for user in node.stored(USERS)] == ["admin"]
    assert node.stored(REFRESH_TOKENS) == []


@pytest.mark.parametrize("fields", [{}, {"username": ""}, {"username": None}, {"username": 5}])
async def test_dropping_needs_a_name(node: UserNode, fields: dict[str, Any]) -> None:
    assert await answer_to(node, "drop_user", **fields) == (400, {"error": "Username can't be blank"})


@pytest.mark.parametrize("name", ["nobody", "x" * 5000])
async def test_dropping_an_unknown_user_is_refused(node: UserNode, name: str) -> None:
    assert await answer_to(node, "drop_user", username=name) == (404, {"error": f"User {name} does not exist"})


async def test_a_super_user_may_drop_itself_when_another_is_active(node: UserNode) -> None:
    lutra = await node.add_user("lutra", "super_user")
    answer = await node.ask({"operation": "drop_user", "username": "lutra"}, lutra)
    assert answer.status == 200


# -- the last super user ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("drop_user", {"username": "admin"}),
        ("alter_user", {"username": "admin", "active": False}),
        ("alter_user", {"username": "admin", "role": "keeper"}),
        ("alter_role", {"id": "super_user", "permission": {}}),
    ],
)
async def test_the_last_active_super_user_stays(node: UserNode, operation: str, fields: dict[str, Any]) -> None:
    await node.add_user("inactive", "super_user", active=False)
    assert await answer_to(node, operation, **fields) == LAST
    assert (await node.ask({"operation": "list_roles"}, ADMIN)).status == 200


@pytest.mark.parametrize(
    ("operation", "table", "fields"),
    [
        ("delete", "hdb_user", {"ids": ["admin"]}),
        ("delete", "hdb_role", {"ids": ["super_user"]}),
        ("update", "hdb_user", {"records": [{"username": "admin", "active": False}]}),
        ("update", "hdb_user", {"records": [{"username": "admin", "role": "k-1"}]}),
        ("upsert", "hdb_role", {"records": [{"id": "super_user", "permission": {"super_user": "true"}}]}),
    ],
)
async def test_the_last_active_super_user_stays_when_tables_are_written_directly(
    node: UserNode, operation: str, table: str, fields: dict[str, Any]
) -> None:
    assert await answer_to(node, operation, database="system", table=table, **fields) == LAST
    assert (await node.ask({"operation": "list_roles"}, ADMIN)).status == 200


async def test_the_last_super_user_may_go_when_another_one_comes_in_the_same_write(node: UserNode) -> None:
    records = [{"username": "admin", "active": False}, {"username": "tarka", "role": "super_user"}]
    status, _ = await answer_to(node, "update", database="system", table="hdb_user", records=records)
    assert status == 200
    assert (await node.ask({"operation": "list_roles"}, ("tarka", "secret of tarka"))).status == 200


@pytest.mark.parametrize(
    ("operation", "internal_name"),
    [
        ("list_users", "listUsersExternal"),
        ("add_user", "addUser"),
        ("alter_user", "alterUser"),
        ("drop_user", "dropUser"),
    ],
)
async def test_only_super_users_work_on_users(node: UserNode, operation: str, internal_name: str) -> None:
    answer = await node.ask({"operation": operation}, ("tarka", "secret of tarka"))
    assert answer.status == 403
    assert answer.body["unauthorized_access"] == [f"Operation '{internal_name}' is restricted to 'super_user' roles"]
