"""Logging in and out with a cookie."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ops.http import Peer
from ops.system_tables import SESSIONS
from tests.ops.user_node import FAR, Answer, UserNode, open_user_node, permission_of

LOGIN = {"operation": "login", "username": "tarka", "password": "secret of tarka"}
LOGOUT = {"operation": "logout"}
USER_INFO = {"operation": "user_info"}
PAGE = {"origin": "https://studio.example", "host": "node.example:9925"}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[UserNode]:
    async with open_user_node(tmp_path, authorize_local=True) as node:
        await node.done("add_role", role="keeper", permission=permission_of("ru"))
        await node.add_user("tarka")
        yield node


async def ask(
    node: UserNode,
    body: Mapping[str, Any],
    cookie: str | None = None,
    headers: Mapping[str, str] = PAGE,
    peer: Peer = FAR,
) -> Answer:
    return await node.ask(body, None, headers=headers if cookie is None else {**headers, "cookie": cookie}, peer=peer)


async def logged_in(node: UserNode, headers: Mapping[str, str] = PAGE) -> str:
    """The cookie of a new session, as a browser sends it back."""
    answer = await ask(node, LOGIN, headers=headers)
    assert (answer.status, answer.body) == (200, {"message": "Login successful"})
    return answer.headers["set-cookie"].split(";")[0]


async def test_a_login_sets_a_cookie_named_after_the_page(node: UserNode) -> None:
    cookie = await logged_in(node)
    assert cookie.startswith("studio_example-hdb-session=")


async def test_a_session_is_stored_before_the_answer(node: UserNode) -> None:
    cookie = await logged_in(node)
    (session,) = node.stored(SESSIONS)
    assert (session["id"], session["user"]) == (cookie.partition("=")[2], "tarka")


async def test_a_cookie_stands_for_its_user(node: UserNode) -> None:
    cookie = await logged_in(node)
    answer = await ask(node, USER_INFO, f"other=1; {cookie}")
    assert (answer.status, answer.body["username"]) == (200, "tarka")


async def test_a_cookie_of_one_page_does_not_count_for_another(node: UserNode) -> None:
    cookie = await logged_in(node)
    answer = await ask(node, USER_INFO, cookie, {**PAGE, "origin": "https://evil.example"})
    assert (answer.status, answer.body) == (401, {"error": "Must login"})


async def test_an_unknown_session_is_none(node: UserNode) -> None:
    cookie = "studio_example-hdb-session=7c2f5b0e-3f0e-4a53-9d0c-6f6c5a7a1d11"
    assert (await ask(node, USER_INFO, cookie)).status == 401


async def test_a_second_login_goes_on_with_the_session_and_sends_no_cookie(node: UserNode) -> None:
    cookie = await logged_in(node)
    answer = await ask(node, {**LOGIN, "username": "admin", "password": "secret of admin"}, cookie)
    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    assert len(node.stored(SESSIONS)) == 1
    assert (await ask(node, USER_INFO, cookie)).body["username"] == "admin"


async def test_logging_out_ends_the_session_for_good(node: UserNode) -> None:
    cookie = await logged_in(node)
    answer = await ask(node, LOGOUT, cookie)
    assert (answer.status, answer.body) == (200, {"message": "Logout successful"})
    assert [session["user"] for session in node.stored(SESSIONS)] == [None]
    assert (await ask(node, USER_INFO, cookie)).status == 401


async def test_logging_out_without_session_is_no_failure(node: UserNode) -> None:
    assert (await ask(node, LOGOUT)).body == {"message": "Logout successful"}


async def test_one_may_log_in_again_with_the_cookie_of_an_ended_session(node: UserNode) -> None:
    cookie = await logged_in(node)
    await ask(node, LOGOUT, cookie)
    assert (await ask(node, LOGIN, cookie)).status == 200
    assert (await ask(node, USER_INFO, cookie)).status == 200


@pytest.mark.parametrize(
    "fields",
    [{"password": "wrong"}, {"username": "nobody"}, {"username": None}, {"password": 5}, {"password": ["x"]}],
)
async def test_bad_credentials_begin_no_session(node: UserNode, fields: dict[str, Any]) -> None:
    answer = await ask(node, {**LOGIN, **fields})
    assert (answer.status, answer.body) == (401, {"error": "Login failed"})
    assert "set-cookie" not in answer.headers
    assert node.stored(SESSIONS) == []


async def test_an_inactive_user_begins_no_session(node: UserNode) -> None:
    await node.done("alter_user", username="tarka", active=False)
    answer = await ask(node, LOGIN)
    assert (answer.status, answer.body) == (401, {"error": "Cannot complete request: User is inactive"})


async def test_without_sessions_there_is_no_login(tmp_path: Path) -> None:
    async with open_user_node(tmp_path, enable_sessions=False) as node:
        answer = await ask(node, {**LOGIN, "username": "admin", "password": "secret of admin"})
        assert (answer.status, answer.body) == (500, {"error": "No session for login"})


@pytest.mark.parametrize("change", [{"active": False}, {"password": "another"}])
async def test_the_session_of_an_inactive_user_is_refused_and_a_new_password_ends_none(
    node: UserNode, change: dict[str, Any]
) -> None:
    cookie = await logged_in(node)
    await node.done("alter_user", username="tarka", **change)
    assert (await ask(node, USER_INFO, cookie)).status == (401 if "active" in change else 200)


async def test_the_session_of_a_dropped_user_is_refused_also_where_no_credentials_are_needed(node: UserNode) -> None:
    headers = {"host": "localhost:9925"}
    cookie = await logged_in(node, headers)
    await node.done("drop_user", username="tarka")
    answer = await ask(node, USER_INFO, cookie, headers, Peer(address="127.0.0.1"))
    assert (answer.status, answer.body) == (401, {"error": "Must login"})


async def test_the_session_of_an_earlier_user_of_the_same_name_is_refused(node: UserNode) -> None:
    cookie = await logged_in(node)
    await node.done("drop_user", username="tarka")
    await node.add_user("tarka")
    assert (await ask(node, USER_INFO, cookie)).status == 401


async def test_credentials_of_a_header_come_before_a_session(node: UserNode) -> None:
    cookie = await logged_in(node)
    answer = await node.ask(USER_INFO, ("tarka", "wrong"), headers={**PAGE, "cookie": cookie})
    assert (answer.status, answer.body) == (401, {"error": "Login failed"})


async def test_a_session_ends_with_its_cookie(tmp_path: Path) -> None:
    async with open_user_node(tmp_path, cookie_expires="1h") as node:
        await ask(node, {**LOGIN, "username": "admin", "password": "secret of admin"})
        with node.catalog.database("system").read() as tx:
            table = tx.table(SESSIONS)
            ((_, row),) = list(tx.rows(table))
            assert row.expires_at_ms is not None
            assert row.expires_at_ms - tx.now_ms == pytest.approx(3_600_000, abs=10_000)
