"""What holds for each operation that exists: it is documented, its name is known to clients, and it lets in whom it
should.

Each is tried unauthenticated, as a super user, as a user whose role grants nothing, and, where it needs rights on a
table, as a user with exactly those rights and as one with all the others.
"""

from typing import Any

import pytest

from ops.operation import AnyUser, Describe, NoUser, Operation, StructureUser, SuperUser, TableRights
from ops.reference import OPERATIONS, SECTIONS
from tests.ops.conftest import Node, whole_body

PASSWORD = "Keeper-1"
ALL = [operation for section in SECTIONS.values() for operation in section]
RIGHTS = ("read", "insert", "update", "delete")


def names(*kinds: type) -> list[Any]:
    return [pytest.param(operation, id=operation.name) for operation in ALL if isinstance(operation.needs, kinds)]


def is_refused(answer: Any) -> bool:
    return isinstance(answer, dict) and "unauthorized_access" in answer


async def with_role(node: Node, permission: dict[str, Any]) -> tuple[str, str]:
    await node.ok(operation="add_role", role="tried", permission=permission)
    await node.ok(operation="add_user", username="tried", password=PASSWORD, role="tried", active=True)
    return "tried", PASSWORD


def on_table(*rights: str) -> dict[str, Any]:
    flags = {right: right in rights for right in RIGHTS}
    return {"zoo": {"tables": {"otter": {**flags, "attribute_permissions": []}}}}


async def zoo(node: Node) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")


@pytest.mark.parametrize("operation", [pytest.param(o, id=o.name) for o in ALL])
def test_an_operation_says_what_it_does(operation: Operation) -> None:
    assert operation.summary.endswith(".")


@pytest.mark.parametrize("operation", [pytest.param(o, id=o.name) for o in ALL if not isinstance(o.needs, NoUser)])
async def test_nobody_gets_in_without_credentials(node: Node, operation: Operation) -> None:
    for name in (operation.name, *operation.aliases):
        assert await node.post({"operation": name}, user=None) == (401, {"error": "Must login"})


@pytest.mark.parametrize("operation", [pytest.param(o, id=o.name) for o in ALL])
async def test_a_super_user_is_never_refused(node: Node, operation: Operation) -> None:
    await zoo(node)
    for name in (operation.name, *operation.aliases):
        response = await node.respond({"operation": name, "database": "zoo", "table": "otter"})
        await whole_body(response)
        assert response.status != 403
        assert response.status != 401 or isinstance(operation.needs, NoUser)


@pytest.mark.parametrize("operation", names(SuperUser))
async def test_what_is_for_super_users_names_itself_when_it_refuses(node: Node, operation: Operation) -> None:
    user = await with_role(node, {})
    assert isinstance(operation.needs, SuperUser)
    for name in (operation.name, *operation.aliases):
        status, answer = await node.post({"operation": name}, user=user)
        assert status == 403
        expected = f"Operation '{operation.needs.internal_name}' is restricted to 'super_user' roles"
        assert answer["unauthorized_access"] == [expected]


@pytest.mark.parametrize("operation", names(AnyUser))
async def test_what_is_for_every_user_lets_in_a_role_that_grants_nothing(node: Node, operation: Operation) -> None:
    user = await with_role(node, {})
    _, answer = await node.post({"operation": operation.name}, user=user)
    assert not is_refused(answer)


@pytest.mark.parametrize("operation", names(TableRights))
async def test_the_rights_on_a_table_that_an_operation_needs_are_enough(node: Node, operation: Operation) -> None:
    await zoo(node)
    assert isinstance(operation.needs, TableRights)
    user = await with_role(node, on_table(*operation.needs.rights))
    _, answer = await node.post({"operation": operation.name, "database": "zoo", "table": "otter"}, user=user)
    assert not is_refused(answer)


@pytest.mark.parametrize("operation", names(TableRights))
async def test_without_its_rights_an_operation_is_refused_whatever_the_others(node: Node, operation: Operation) -> None:
    await zoo(node)
    assert isinstance(operation.needs, TableRights)
    needed = operation.needs.rights
    user = await with_role(node, on_table(*(right for right in RIGHTS if right not in needed)))
    status, answer = await node.post({"operation": operation.name, "database": "zoo", "table": "otter"}, user=user)
    assert status == 403
    assert answer["unauthorized_access"][0]["required_table_permissions"] == list(needed)


@pytest.mark.parametrize("operation", names(StructureUser, Describe, TableRights))
async def test_a_role_that_grants_nothing_sees_nothing(node: Node, operation: Operation) -> None:
    await zoo(node)
    user = await with_role(node, {})
    status, answer = await node.post({"operation": operation.name, "database": "zoo", "table": "otter"}, user=user)
    assert status == 403
    assert is_refused(answer)


def test_aliases_lead_to_the_same_operation() -> None:
    for operation in ALL:
        for alias in operation.aliases:
            assert OPERATIONS[alias] is operation
