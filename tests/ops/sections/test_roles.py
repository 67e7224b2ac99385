"""The operations on roles."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ops.system_records import put_record
from ops.system_tables import ROLES, SYSTEM
from storage.write_transaction import WriteTransaction
from tests.ops.user_node import UserNode, open_user_node, permission_of

KEEPER = permission_of("ru")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[UserNode]:
    async with open_user_node(tmp_path) as node:
        yield node


async def refusal(node: UserNode, operation: str, **fields: Any) -> tuple[int, Any]:
    answer = await node.ask({"operation": operation, **fields})
    return answer.status, answer.body


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    times = ("__createdtime__", "__updatedtime__")
    assert all(isinstance(record[time], int | float) for time in times)
    return {name: value for name, value in record.items() if name not in times}


async def test_a_fresh_node_has_the_role_of_super_users_alone(node: UserNode) -> None:
    (role,) = await node.done("list_roles")
    assert without_times(role) == {"id": "super_user", "role": "super_user", "permission": {"super_user": True}}


async def test_roles_are_listed_by_id(node: UserNode) -> None:
    for name in ("zoologist", "keeper"):
        await node.done("add_role", role=name, permission={})
    assert [role["id"] for role in await node.done("list_roles")] == ["keeper", "super_user", "zoologist"]


async def test_a_new_role_is_answered_as_stored(node: UserNode) -> None:
    role = await node.done("add_role", role="keeper", permission=KEEPER, access={"pages": ["a"]})
    assert without_times(role) == {"id": "keeper", "role": "keeper", "permission": KEEPER, "access": {"pages": ["a"]}}
    assert role in node.stored(ROLES)


async def test_a_new_role_may_have_an_id_of_its_own(node: UserNode) -> None:
    role = await node.done("add_role", role="keeper", id="k-1", permission=KEEPER)
    assert (role["id"], role["role"]) == ("k-1", "keeper")


async def test_a_name_is_not_used_twice(node: UserNode) -> None:
    await node.done("add_role", role="keeper", permission=KEEPER)
    assert await refusal(node, "add_role", role="keeper", id="other", permission={}) == (
        409,
        {"error": "A role with name 'keeper' already exists"},
    )


async def test_an_id_is_not_used_twice(node: UserNode) -> None:
    await node.done("add_role", role="keeper", permission=KEEPER)
    assert await refusal(node, "add_role", role="other", id="keeper", permission={}) == (
        409,
        {"error": "A role with id 'keeper' already exists"},
    )
    assert len(node.stored(ROLES)) == 2


async def test_a_permission_object_is_checked_against_the_schema_as_it_is(node: UserNode) -> None:
    permission = {"zoo": {"tables": {"lynx": {}}}, "park": {}, "structure_user": ["system", "moon"]}
    status, body = await refusal(node, "add_role", role="keeper", permission=permission)
    assert (status, body) == (
        400,
        {
            "error": "Errors in the role permissions JSON provided",
            "main_permissions": [
                "Table 'zoo.lynx' does not exist",
                "database 'park' does not exist",
                "database 'moon' does not exist",
            ],
            "schema_permissions": {},
        },
    )


async def test_altering_replaces_the_whole_permission_object(node: UserNode) -> None:
    await node.done("add_role", role="keeper", permission=KEEPER, access=1)
    altered = await node.done("alter_role", id="keeper", permission={"structure_user": ["zoo"]})
    assert without_times(altered) == {
        "id": "keeper",
        "role": "keeper",
        "permission": {"structure_user": ["zoo"]},
        "access": 1,
    }
    assert altered in node.stored(ROLES)
    assert altered["__updatedtime__"] > altered["__createdtime__"]


async def test_altering_may_rename_even_to_a_name_in_use(node: UserNode) -> None:
    await node.done("add_role", role="keeper", permission=KEEPER)
    altered = await node.done("alter_role", id="keeper", role="super_user", permission=KEEPER)
    assert (altered["id"], altered["role"]) == ("keeper", "super_user")


async def test_altering_an_unknown_role_is_refused(node: UserNode) -> None:
    assert await refusal(node, "alter_role", id="nobody", permission={}) == (400, {"error": "Invalid role id"})


async def test_altering_with_errors_is_refused_like_adding(node: UserNode) -> None:
    status, body = await refusal(node, "alter_role", role="keeper")
    assert (status, body["main_permissions"]) == (400, ["Id can't be blank", "Permission can't be blank"])


async def test_a_role_with_active_users_is_not_dropped(node: UserNode) -> None:
    await node.done("add_role", role="keeper", id="k-1", permission=KEEPER)
    await node.add_user("tarka")
    assert await refusal(node, "drop_role", id="k-1") == (
        409,
        {"error": "Cannot drop role keeper as it has active user(s) tied to this role"},
    )


async def test_a_role_with_inactive_users_is_dropped(node: UserNode) -> None:
    await node.done("add_role", role="keeper", permission=KEEPER)
    await node.add_user("tarka", active=False)
    assert await node.done("drop_role", id="keeper") == {"message": "keeper successfully deleted"}
    (tarka,) = [user for user in await node.done("list_users") if user["username"] == "tarka"]
    assert "role" not in tarka


async def test_a_role_without_users_is_dropped_by_its_id_and_told_by_its_name(node: UserNode) -> None:
    await node.done("add_role", role="keeper", id="k-1", permission=KEEPER)
    assert await node.done("drop_role", id="k-1") == {"message": "keeper successfully deleted"}
    assert [role["id"] for role in node.stored(ROLES)] == ["super_user"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Id can't be blank"),
        ({"id": None}, "Id can't be blank"),
        ({"role": "keeper"}, "Id can't be blank"),
        ({"id": ""}, "Id is invalid"),
        ({"id": "a b"}, "Id is invalid"),
        ({"id": 5}, "Id is invalid"),
    ],
)
async def test_dropping_needs_a_sound_id(node: UserNode, fields: dict[str, Any], message: str) -> None:
    assert await refusal(node, "drop_role", **fields) == (
        400,
        {"statusCode": 400, "error": "Bad Request", "message": message},
    )


async def test_dropping_an_unknown_role_is_refused(node: UserNode) -> None:
    assert await refusal(node, "drop_role", id="nobody") == (404, {"error": "Role not found"})


async def test_the_role_of_the_last_super_user_keeps_its_rights(node: UserNode) -> None:
    assert await refusal(node, "alter_role", id="super_user", permission=KEEPER) == (
        409,
        {"error": "Cannot remove the last active super user"},
    )
    assert node.stored(ROLES)[0]["permission"] == {"super_user": True}


async def test_the_built_in_role_may_lose_its_rights_when_another_super_user_is_active(node: UserNode) -> None:
    await node.done("add_role", role="owner", permission={"super_user": True})
    await node.add_user("lutra", "owner")
    await node.done("alter_role", id="super_user", permission={})
    assert (await node.ask({"operation": "list_roles"})).status == 403


async def test_an_id_too_long_for_a_key_is_unknown(node: UserNode) -> None:
    assert await refusal(node, "drop_role", id="x" * 5000) == (404, {"error": "Role not found"})


async def test_roles_with_odd_rows_are_still_listed(node: UserNode) -> None:
    def spoil(tx: WriteTransaction) -> None:
        put_record(tx, tx.table(ROLES), {"id": "odd", "role": 5, "permission": "all"})

    await node.catalog.write(SYSTEM, spoil)
    assert [role["id"] for role in await node.done("list_roles")] == ["odd", "super_user"]
    assert (await node.ask({"operation": "list_users"})).status == 200


@pytest.mark.parametrize(
    ("operation", "internal_name"),
    [
        ("list_roles", "listRoles"),
        ("add_role", "addRole"),
        ("alter_role", "alterRole"),
        ("drop_role", "dropRole"),
    ],
)
async def test_only_super_users_work_on_roles(node: UserNode, operation: str, internal_name: str) -> None:
    await node.done("add_role", role="keeper", permission={"structure_user": True})
    tarka = await node.add_user("tarka")
    answer = await node.ask({"operation": operation}, tarka)
    assert answer.status == 403
    assert answer.body["unauthorized_access"] == [f"Operation '{internal_name}' is restricted to 'super_user' roles"]
