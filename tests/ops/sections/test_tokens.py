"""The operations that hand out tokens."""

import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest

from ops.system_tables import REFRESH_TOKENS, SYSTEM
from storage.errors import DiskFull
from tests.ops.user_node import ADMIN, TimeOfDay, UserNode, open_user_node, permission_of

CREATE = "create_authentication_tokens"
REFRESH = "refresh_operation_token"
TARKA = ("tarka", "secret of tarka")
GIVEN = {"username": TARKA[0], "password": TARKA[1]}


@pytest.fixture
def clock() -> TimeOfDay:
    return TimeOfDay(float(int(time.time())))


@pytest.fixture
async def node(tmp_path: Path, clock: TimeOfDay) -> AsyncIterator[UserNode]:
    async with open_user_node(tmp_path, now_s=clock) as node:
        await node.done("add_role", role="keeper", permission=permission_of("ru"))
        await node.add_user("tarka")
        yield node


async def answer_to(node: UserNode, operation: str, user: Any = None, **fields: Any) -> tuple[int, Any]:
    answer = await node.ask({"operation": operation, **fields}, user)
    return answer.status, answer.body


async def tokens_of(node: UserNode, user: Any = None, **fields: Any) -> tuple[str, str]:
    status, body = await answer_to(node, CREATE, user, **fields)
    assert status == 200, body
    assert set(body) == {"operation_token", "refresh_token"}
    return body["operation_token"], body["refresh_token"]


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


async def test_name_and_password_in_the_body_need_no_other_credentials(node: UserNode) -> None:
    operation_token, refresh_token = await tokens_of(node, **GIVEN)
    assert (claims_of(operation_token)["username"], claims_of(operation_token)["sub"]) == ("tarka", "operation")
    assert (claims_of(refresh_token)["username"], claims_of(refresh_token)["sub"]) == ("tarka", "refresh")


async def test_a_caller_gets_tokens_for_itself(node: UserNode) -> None:
    operation_token, _ = await tokens_of(node, ADMIN)
    assert (claims_of(operation_token)["username"], claims_of(operation_token)["super_user"]) == ("admin", True)


async def test_the_lifetime_asked_for_is_that_of_the_operation_token_alone(node: UserNode, clock: TimeOfDay) -> None:
    operation_token, refresh_token = await tokens_of(node, **GIVEN, expires_in="20h")
    assert claims_of(operation_token)["exp"] == clock.now_s + 72000
    assert claims_of(refresh_token)["exp"] == clock.now_s + 30 * 86400


async def test_a_role_is_copied_into_both_tokens(node: UserNode) -> None:
    for token in await tokens_of(node, **GIVEN, role="viewer"):
        assert claims_of(token)["role"] == "viewer"


async def test_only_a_hash_of_the_refresh_token_is_stored(node: UserNode) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN)
    (row,) = node.stored(REFRESH_TOKENS)
    assert (row["username"], row["hash"]) == ("tarka", sha256(refresh_token.encode()).hexdigest())


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "tarka", "password": "wrong"},
        {"username": "nobody", "password": "x"},
        {"username": "tarka"},
        {"password": "secret of tarka"},
        {"username": "tarka", "password": ""},
    ],
)
async def test_bad_credentials_in_the_body_are_refused_alike(node: UserNode, fields: dict[str, Any]) -> None:
    assert await answer_to(node, CREATE, **fields) == (401, {"error": "invalid credentials"})


async def test_an_inactive_user_gets_no_tokens(node: UserNode) -> None:
    await node.done("alter_user", username="tarka", active=False)
    assert await answer_to(node, CREATE, **GIVEN) == (401, {"error": "invalid credentials"})


async def test_nobody_gets_no_tokens(node: UserNode) -> None:
    assert await answer_to(node, CREATE) == (401, {"error": "Must login"})


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({**GIVEN, "username": 5}, 400, "'username' must be a string"),
        ({**GIVEN, "username": ""}, 400, "'username' is not allowed to be empty"),
        ({"username": None}, 400, "'username' must be a string"),
        ({**GIVEN, "password": 5}, 400, "'password' must be a string"),
        ({**GIVEN, "role": 5}, 400, "'role' must be a string"),
        ({**GIVEN, "expires_in": True}, 400, "'expires_in' must be one of [string, number]"),
        ({**GIVEN, "expires_in": None}, 400, "'expires_in' must be one of [string, number]"),
        (
            {**GIVEN, "expires_in": "soon"},
            500,
            '"expiresIn" should be a number of seconds or string representing a timespan eg: "1d", "20h", 60',
        ),
    ],
)
async def test_fields_of_a_wrong_type_are_refused(
    node: UserNode, fields: dict[str, Any], status: int, problem: str
) -> None:
    assert await answer_to(node, CREATE, **fields) == (status, {"error": problem})


async def test_without_a_stored_hash_no_token_is_handed_out(node: UserNode, monkeypatch: pytest.MonkeyPatch) -> None:
    real = node.catalog.write

    async def write(name: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("operation") == CREATE:
            raise DiskFull(SYSTEM)
        return await real(name, *args, **kwargs)

    monkeypatch.setattr(node.catalog, "write", write)
    assert await answer_to(node, CREATE, **GIVEN) == (500, {"error": "unable to store refresh_token"})


# -- refreshing -------------------------------------------------------------------------------------------------------


async def test_a_refresh_token_as_bearer_buys_an_operation_token(node: UserNode, clock: TimeOfDay) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN)
    clock.now_s += 5
    status, body = await answer_to(node, REFRESH, refresh_token)
    assert (status, list(body)) == (200, ["operation_token"])
    claims = claims_of(body["operation_token"])
    assert (claims["username"], claims["sub"], claims["exp"]) == ("tarka", "operation", clock.now_s + 86400)
    assert (await node.ask({"operation": "user_info"}, body["operation_token"])).body["username"] == "tarka"


async def test_a_refresh_token_in_the_body_buys_an_operation_token_of_its_own_user(node: UserNode) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN)
    status, body = await answer_to(node, REFRESH, ADMIN, refresh_token=refresh_token)
    assert status == 200
    assert claims_of(body["operation_token"])["username"] == "tarka"
    assert claims_of(body["operation_token"])["super_user"] is False


async def test_a_refresh_token_stays_valid(node: UserNode) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN)
    for _ in range(3):
        assert (await answer_to(node, REFRESH, refresh_token))[0] == 200


async def test_a_restricted_refresh_token_buys_restricted_tokens(node: UserNode) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN, role="viewer")
    _, body = await answer_to(node, REFRESH, ADMIN, refresh_token=refresh_token)
    assert claims_of(body["operation_token"])["role"] == "viewer"


async def test_nobody_refreshes_not_even_with_the_field(node: UserNode) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN)
    assert await answer_to(node, REFRESH, refresh_token=refresh_token) == (401, {"error": "Must login"})


async def test_a_caller_without_the_field_is_told_of_it(node: UserNode) -> None:
    assert await answer_to(node, REFRESH, ADMIN) == (400, {"error": "'refresh_token' is required"})


async def test_a_token_that_is_no_text_is_refused(node: UserNode) -> None:
    assert await answer_to(node, REFRESH, ADMIN, refresh_token=5) == (
        400,
        {"error": "'refresh_token' must be a string"},
    )


async def test_anything_but_a_current_refresh_token_is_invalid(node: UserNode, clock: TimeOfDay) -> None:
    operation_token, superseded = await tokens_of(node, **GIVEN)
    clock.now_s += 1
    await tokens_of(node, **GIVEN)
    for token in ("x", operation_token, superseded):
        assert await answer_to(node, REFRESH, ADMIN, refresh_token=token) == (401, {"error": "invalid token"})


async def test_an_expired_refresh_token_in_the_body_is_forbidden(node: UserNode, clock: TimeOfDay) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN)
    clock.now_s += 30 * 86400
    assert await answer_to(node, REFRESH, ADMIN, refresh_token=refresh_token) == (403, {"error": "token expired"})


@pytest.mark.parametrize("end", ["drop_user", "alter_user"])
async def test_the_refresh_token_of_a_user_that_is_gone_or_inactive_is_invalid(node: UserNode, end: str) -> None:
    _, refresh_token = await tokens_of(node, **GIVEN)
    await node.done(end, username="tarka", **({"active": False} if end == "alter_user" else {}))
    assert await answer_to(node, REFRESH, ADMIN, refresh_token=refresh_token) == (401, {"error": "invalid token"})


async def test_a_refresh_token_of_an_earlier_user_of_the_same_name_is_invalid(node: UserNode) -> None:
    """The earlier user's end may have come by replication, which leaves the table of refresh tokens alone."""
    _, refresh_token = await tokens_of(node, **GIVEN)

    await node.done("delete", database="system", table="hdb_user", ids=["tarka"])
    assert node.stored(REFRESH_TOKENS) != []
    await node.add_user("tarka")
    assert await answer_to(node, REFRESH, ADMIN, refresh_token=refresh_token) == (401, {"error": "invalid token"})
