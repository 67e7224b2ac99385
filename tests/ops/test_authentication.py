"""From a request to its user, over a real system database."""

import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from ops import passwords as passwords_module
from ops.context import User
from ops.errors import AuthenticationFailed
from ops.http import Peer
from ops.system_records import delete_record, put_record
from ops.system_tables import ROLES, SYSTEM, USERS
from storage.errors import Overloaded
from storage.write_transaction import WriteTransaction
from tests.ops.user_node import ADMIN, FAR, TimeOfDay, UserNode, basic, open_user_node, permission_of, request_of

USER_INFO = {"operation": "user_info"}
REFRESH = {"operation": "refresh_operation_token"}
VERIFY = "verify_secret"
LOOPBACK = Peer(address="127.0.0.1")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[UserNode]:
    async with open_user_node(tmp_path, authorize_local=True) as node:
        await node.done("add_role", role="keeper", permission=permission_of("ru"))
        await node.add_user("tarka")
        yield node


TARKA = ("tarka", "secret of tarka")


async def user_of(node: UserNode, credentials: Any, body: Mapping[str, Any] = USER_INFO, **kwargs: Any) -> User | None:
    return await node.authenticator.authenticate(request_of(body, credentials, **kwargs), body)


async def refusal(node: UserNode, credentials: Any, body: Mapping[str, Any] = USER_INFO, **kwargs: Any) -> str:
    """What an answer with status 401 says."""
    answer = await node.ask(body, credentials, **kwargs)
    assert answer.status == 401, answer
    assert list(answer.body) == ["error"]
    assert "www-authenticate" not in answer.headers
    return str(answer.body["error"])


async def tokens_of(node: UserNode, credentials: tuple[str, str], **fields: Any) -> tuple[str, str]:
    answer = await node.ask({"operation": "create_authentication_tokens", **fields}, credentials)
    assert answer.status == 200, answer
    return answer.body["operation_token"], answer.body["refresh_token"]


class Checks:
    """Counts the password checks that find an argon2id record, right or wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = getattr(passwords_module, VERIFY)

        def counted(*args: Any) -> Any:
            self.count += 1
            return real(*args)

        monkeypatch.setattr(passwords_module, VERIFY, counted)


# -- basic ------------------------------------------------------------------------------------------------------------


async def test_name_and_password_give_the_user_with_its_live_role(node: UserNode) -> None:
    user = await user_of(node, TARKA)
    assert user is not None
    assert (user.name, user.is_active, user.is_local, user.is_super_user) == ("tarka", True, False, False)
    assert user.role is not None
    assert user.role["id"] == "keeper"


async def test_a_user_does_not_carry_its_password(node: UserNode) -> None:
    user = await user_of(node, TARKA)
    assert user is not None
    assert set(user.record) == {"username", "role", "active", "__createdtime__", "__updatedtime__"}


@pytest.mark.parametrize("headers", [{}, {"authorization": "Digest x"}, {"authorization": "Basic"}])
async def test_without_credentials_one_must_log_in(node: UserNode, headers: dict[str, str]) -> None:
    assert await refusal(node, None, headers=headers) == "Must login"


@pytest.mark.parametrize(
    "credentials", [("tarka", "wrong"), ("nobody", "x"), ("tarka", ""), ("", "x"), ("x" * 9000, "x")]
)
async def test_unknown_users_and_wrong_passwords_are_refused_alike(node: UserNode, credentials: Any) -> None:
    assert await refusal(node, credentials) == "Login failed"


@pytest.mark.parametrize("password", ["secret of tarka", "wrong"])
async def test_an_inactive_user_is_refused_with_right_and_wrong_password(node: UserNode, password: str) -> None:
    await node.done("alter_user", username="tarka", active=False)
    assert await refusal(node, ("tarka", password)) == "Cannot complete request: User is inactive"


async def test_a_value_that_is_not_base64_is_refused(node: UserNode) -> None:
    assert await refusal(node, None, headers={"authorization": "Basic ???"}) == "Invalid character"


@pytest.mark.parametrize("function", ["md5", "sha256"])
async def test_records_of_older_functions_still_log_in(node: UserNode, function: str) -> None:
    stored = passwords_module.make_stored("old secret", function, passwords_module.Argon2Cost())
    fields = {"password": stored.text, "hash_function": function} if function != "md5" else {"password": stored.text}

    def add(tx: WriteTransaction) -> None:
        put_record(tx, tx.table(USERS), {"username": "old", "role": "keeper", "active": True, **fields})

    await node.catalog.write(SYSTEM, add)
    assert await user_of(node, ("old", "old secret")) is not None
    assert await refusal(node, ("old", "wrong")) == "Login failed"


async def test_an_unauthenticated_caller_of_an_unknown_operation_must_log_in(node: UserNode) -> None:
    assert await refusal(node, None, {"operation": "nothing"}) == "Must login"


async def test_a_user_whose_role_was_dropped_is_told_that_it_has_none(node: UserNode) -> None:
    def drop(tx: WriteTransaction) -> None:
        delete_record(tx, tx.table(ROLES), "keeper")

    await node.catalog.write(SYSTEM, drop)
    answer = await node.ask(USER_INFO, TARKA)
    assert answer.status == 403
    assert answer.body["unauthorized_access"] == [
        "User tarka has no role or permissions.  Please assign the user a valid role."
    ]


@pytest.mark.parametrize("permission", [None, "all", ["super_user"], True])
async def test_a_role_whose_permission_is_no_object_is_no_role(node: UserNode, permission: Any) -> None:
    def spoil(tx: WriteTransaction) -> None:
        put_record(tx, tx.table(ROLES), {"id": "keeper", "role": "keeper", "permission": permission})

    await node.catalog.write(SYSTEM, spoil)
    assert (await node.ask(USER_INFO, TARKA)).status == 403


@pytest.mark.parametrize("active", ["true", 1, None])
async def test_only_the_value_true_makes_a_user_active(node: UserNode, active: Any) -> None:
    def spoil(tx: WriteTransaction) -> None:
        put_record(tx, tx.table(USERS), {"username": "tarka", "role": "keeper", "active": active})

    await node.catalog.write(SYSTEM, spoil)
    assert await refusal(node, TARKA) == "Cannot complete request: User is inactive"


# -- remembered credentials -------------------------------------------------------------------------------------------


async def test_a_credential_is_verified_once(node: UserNode, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks(monkeypatch)
    first = await user_of(node, TARKA)
    assert await user_of(node, TARKA) is first
    assert checks.count == 1


async def test_concurrent_first_logins_with_one_credential_verify_it_once(
    node: UserNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = Checks(monkeypatch)
    users: list[User | None] = []

    async def log_in(number: int) -> None:
        users.append(await user_of(node, TARKA, peer=Peer(address=f"192.0.2.{number}")))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(log_in, number)
    assert [user.name for user in users if user is not None] == ["tarka"] * 20
    assert checks.count == 1


async def test_concurrent_wrong_logins_with_one_credential_are_checked_once(
    node: UserNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = Checks(monkeypatch)
    refusals: list[str] = []

    async def log_in() -> None:
        refusals.append(await refusal(node, ("tarka", "wrong")))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(log_in)
    assert refusals == ["Login failed"] * 20
    assert checks.count == 1


async def test_a_login_whose_client_went_away_does_not_fail_the_others(node: UserNode) -> None:
    with trio.CancelScope() as gone:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(user_of, node, TARKA)
            gone.cancel()
    user = await user_of(node, TARKA)
    assert user is not None


async def test_a_repeated_wrong_credential_costs_one_check(node: UserNode, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks(monkeypatch)
    for _ in range(3):
        assert await refusal(node, ("tarka", "wrong")) == "Login failed"
    assert checks.count == 1


async def test_each_new_guess_costs_a_check(node: UserNode, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks(monkeypatch)
    for number in range(3):
        await refusal(node, ("tarka", f"guess {number}"))
    assert checks.count == 3


async def test_guesses_do_not_push_out_verified_credentials(node: UserNode, monkeypatch: pytest.MonkeyPatch) -> None:
    await user_of(node, TARKA)
    remembered = node.authenticator._remembered
    for number in range(5000):
        remembered.remember_failure(number.to_bytes(16), None)
    checks = Checks(monkeypatch)
    await user_of(node, TARKA)
    assert checks.count == 0


async def test_a_verified_credential_is_verified_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_user_node(tmp_path, credential_cache_s=0.0) as node:
        await user_of(node, ADMIN)
        checks = Checks(monkeypatch)
        await user_of(node, ADMIN)
        assert checks.count == 1


async def test_a_changed_password_counts_at_once(node: UserNode) -> None:
    await user_of(node, TARKA)
    await node.done("alter_user", username="tarka", password="another")
    assert await refusal(node, TARKA) == "Login failed"
    assert await user_of(node, ("tarka", "another")) is not None


async def test_a_password_that_was_wrong_a_moment_ago_may_become_right(node: UserNode) -> None:
    assert await refusal(node, ("tarka", "another")) == "Login failed"
    await node.done("alter_user", username="tarka", password="another")
    assert await user_of(node, ("tarka", "another")) is not None


async def test_a_user_that_was_unknown_a_moment_ago_may_log_in(node: UserNode) -> None:
    assert await refusal(node, ("lutra", "secret of lutra")) == "Login failed"
    await node.add_user("lutra")
    assert await user_of(node, ("lutra", "secret of lutra")) is not None


async def test_a_remembered_credential_of_an_inactive_user_is_refused_at_once(node: UserNode) -> None:
    await user_of(node, TARKA)
    await node.done("alter_user", username="tarka", active=False)
    assert await refusal(node, TARKA) == "Cannot complete request: User is inactive"


async def test_a_remembered_credential_of_a_dropped_user_is_refused_at_once(node: UserNode) -> None:
    await user_of(node, TARKA)
    await node.done("drop_user", username="tarka")
    assert await refusal(node, TARKA) == "Login failed"


async def test_a_changed_role_counts_at_once(node: UserNode) -> None:
    await user_of(node, TARKA)
    await node.done("alter_role", id="keeper", permission=permission_of("i"))
    user = await user_of(node, TARKA)
    assert user is not None
    assert user.permission == permission_of("i")


async def test_a_write_that_another_process_made_counts_at_once(node: UserNode) -> None:
    """It tells nobody; only the rows differ, as after replication."""
    await user_of(node, TARKA)

    def deactivate(tx: WriteTransaction) -> None:
        put_record(tx, tx.table(USERS), {"username": "tarka", "role": "keeper", "active": False})

    await node.catalog.write(SYSTEM, deactivate)
    assert await refusal(node, TARKA) == "Cannot complete request: User is inactive"


async def test_an_unrelated_write_to_the_system_database_verifies_nothing_again(
    node: UserNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    await user_of(node, TARKA)
    checks = Checks(monkeypatch)

    def touch(tx: WriteTransaction) -> None:
        put_record(tx, tx.table("hdb_status"), {"id": "x", "status": "y"})

    await node.catalog.write(SYSTEM, touch)
    await user_of(node, TARKA)
    assert checks.count == 0


async def test_the_memory_of_verified_credentials_holds_no_header(node: UserNode) -> None:
    await user_of(node, TARKA)
    remembered = node.authenticator._remembered
    kept = repr((list(remembered._verified._items), list(remembered._verified._items.values())))
    assert "secret of tarka" not in kept
    assert basic(*TARKA).removeprefix("Basic ") not in kept


async def test_a_remembered_credential_costs_microseconds(node: UserNode) -> None:
    request = request_of(USER_INFO, TARKA)
    await node.authenticator.authenticate(request, USER_INFO)
    best_s = float("inf")
    for _ in range(20):
        began_s = time.perf_counter()
        for _ in range(100):
            await node.authenticator.authenticate(request, USER_INFO)
        best_s = min(best_s, (time.perf_counter() - began_s) / 100)
    assert best_s < 30e-6


async def test_with_too_many_passwords_to_check_a_login_is_refused_as_overload(node: UserNode) -> None:
    class Full:
        async def is_password(self, *args: Any, **kwargs: Any) -> bool:
            raise Overloaded

    node.authenticator._passwords = Full()  # type: ignore[assignment]
    answer = await node.ask(USER_INFO, TARKA)
    assert answer.status == 503
    assert answer.body == "Service unavailable, exceeded request queue limit"


# -- tokens -----------------------------------------------------------------------------------------------------------


async def test_an_operation_token_stands_for_its_user(node: UserNode) -> None:
    token, _ = await tokens_of(node, TARKA)
    answer = await node.ask(USER_INFO, token)
    assert answer.body["username"] == "tarka"


async def test_an_operation_token_outlives_newer_ones_and_a_new_password(node: UserNode) -> None:
    token, _ = await tokens_of(node, TARKA)
    await tokens_of(node, TARKA, expires_in=60)
    await node.done("alter_user", username="tarka", password="another")
    assert (await node.ask(USER_INFO, token)).status == 200


async def test_the_token_of_an_inactive_user_is_invalid(node: UserNode) -> None:
    token, _ = await tokens_of(node, TARKA)
    assert (await node.ask(USER_INFO, token)).status == 200
    await node.done("alter_user", username="tarka", active=False)
    assert await refusal(node, token) == "invalid token"


async def test_the_token_of_a_dropped_user_has_no_role(node: UserNode) -> None:
    token, refresh_token = await tokens_of(node, TARKA)
    await node.done("drop_user", username="tarka")
    for body, sent in ((USER_INFO, token), (REFRESH, refresh_token)):
        answer = await node.ask(body, sent)
        assert answer.status == 403
        assert answer.body["unauthorized_access"] == [
            "User tarka has no role or permissions.  Please assign the user a valid role."
        ]


async def test_a_token_with_a_role_claim_is_invalid(node: UserNode) -> None:
    token, refresh_token = await tokens_of(node, TARKA, role="viewer")
    assert await refusal(node, token) == "invalid token"
    assert await refusal(node, refresh_token, REFRESH) == "invalid token"


async def test_a_refresh_token_is_invalid_with_other_operations(node: UserNode) -> None:
    _, refresh_token = await tokens_of(node, TARKA)
    assert await refusal(node, refresh_token) == "invalid token"


async def test_an_operation_token_is_invalid_for_refreshing_even_when_remembered(node: UserNode) -> None:
    token, _ = await tokens_of(node, TARKA)
    assert (await node.ask(USER_INFO, token)).status == 200
    assert await refusal(node, token, REFRESH) == "invalid token"


async def test_a_superseded_refresh_token_is_invalid(tmp_path: Path) -> None:
    clock = TimeOfDay(time.time())
    async with open_user_node(tmp_path, now_s=clock) as node:
        _, first = await tokens_of(node, ADMIN)
        clock.now_s += 1
        _, second = await tokens_of(node, ADMIN)
        assert await refusal(node, first, REFRESH) == "invalid token"
        assert (await node.ask(REFRESH, second)).status == 200


async def test_expired_tokens_are_told_apart_from_invalid_ones(tmp_path: Path) -> None:
    clock = TimeOfDay(time.time())
    async with open_user_node(tmp_path, now_s=clock) as node:
        token, refresh_token = await tokens_of(node, ADMIN, expires_in=60)
        assert (await node.ask(USER_INFO, token)).status == 200
        clock.now_s += 31 * 86400
        assert await refusal(node, refresh_token, REFRESH) == "token expired"


async def test_a_remembered_token_ends_with_its_own_lifetime(tmp_path: Path) -> None:
    async with open_user_node(tmp_path) as node:
        token, _ = await tokens_of(node, ADMIN, expires_in=60)
        await user_of(node, token)
        (entry,) = [e for e in node.authenticator._remembered._verified._items.values() if e.is_token]
        assert entry.until_s <= trio.current_time() + 30
        short, _ = await tokens_of(node, ADMIN, expires_in=2)
        await user_of(node, short)
        entries = [e for e in node.authenticator._remembered._verified._items.values() if e.is_token]
        assert entries[-1].until_s <= trio.current_time() + 2


async def test_tokens_of_an_earlier_user_of_the_same_name_are_invalid(tmp_path: Path) -> None:
    clock = TimeOfDay(time.time() - 3600)
    async with open_user_node(tmp_path, now_s=clock) as node:
        await node.done("add_role", role="keeper", permission=permission_of("r"))
        await node.add_user("tarka")
        token, _ = await tokens_of(node, ADMIN)
        assert await refusal(node, token) == "invalid token"


@pytest.mark.parametrize("token", ["x", "a.b.c", "e30.e30.e30"])
async def test_a_malformed_token_is_invalid(node: UserNode, token: str) -> None:
    assert await refusal(node, token) == "invalid token"


# -- local requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [LOOPBACK, Peer(is_local_socket=True)])
async def test_a_local_request_without_credentials_runs_as_the_first_super_user(node: UserNode, peer: Peer) -> None:
    user = await user_of(node, None, peer=peer)
    assert user is not None
    assert (user.name, user.is_super_user, user.is_local) == ("admin", True, True)


async def test_wrong_credentials_fail_also_where_none_are_needed(node: UserNode) -> None:
    assert await refusal(node, ("tarka", "wrong"), peer=LOOPBACK) == "Login failed"


async def test_an_empty_name_and_password_are_no_credentials(node: UserNode) -> None:
    user = await user_of(node, ("", ""), peer=LOOPBACK)
    assert user is not None
    assert user.name == "admin"


async def test_loopback_needs_credentials_where_the_settings_do_not_allow_it(tmp_path: Path) -> None:
    async with open_user_node(tmp_path, authorize_local=False) as node:
        assert await user_of(node, None, peer=LOOPBACK) is None
        assert await user_of(node, None, peer=Peer(is_local_socket=True)) is not None


async def test_a_request_from_elsewhere_is_not_local(node: UserNode) -> None:
    assert await user_of(node, None, peer=FAR) is None


async def test_a_request_through_a_proxy_is_not_local(node: UserNode) -> None:
    assert await user_of(node, None, peer=LOOPBACK, headers={"x-forwarded-for": "192.0.2.9"}) is None


async def test_a_request_of_a_foreign_page_is_not_local(node: UserNode) -> None:
    assert await user_of(node, None, peer=LOOPBACK, headers={"origin": "https://evil.example"}) is None


async def test_local_requests_follow_the_first_super_user(node: UserNode) -> None:
    await node.add_user("aonyx", "super_user")
    await node.add_user("zibet", "super_user")
    await node.add_user("abel", "super_user", active=False)
    assert [user.name for user in [await user_of(node, None, peer=LOOPBACK)] if user] == ["admin"]
    await node.done("drop_user", username="admin")
    answer = await node.ask(USER_INFO, None, peer=LOOPBACK)
    assert answer.body["username"] == "aonyx"


async def test_a_local_request_runs_with_another_granting_role_where_super_user_is_unused(node: UserNode) -> None:
    await node.done("add_role", role="owner", permission={"super_user": True})
    await node.add_user("lutra", "owner")
    await node.done("drop_user", username="admin")
    user = await user_of(node, None, peer=LOOPBACK)
    assert user is not None
    assert (user.name, user.is_super_user) == ("lutra", True)


async def test_user_info_of_a_local_request_shows_the_users_times(node: UserNode) -> None:
    local = (await node.ask(USER_INFO, None, peer=LOOPBACK)).body
    assert set(local) == {"active", "username", "role", "__createdtime__", "__updatedtime__"}
    assert set((await node.ask(USER_INFO, ADMIN)).body) == {"active", "username", "role"}


# -- the log of logins ------------------------------------------------------------------------------------------------


async def test_a_failing_credential_is_logged_once_without_its_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_user_node(tmp_path, log_failed_logins=True) as node:
        for _ in range(2):
            await refusal(node, ("tarka\n", "s3cr3t"), headers={"origin": "https://studio.example"})
    (record,) = [record for record in caplog.records if record.name == "auth-event"]
    assert record.levelno == logging.ERROR
    assert json.loads(record.getMessage()) == {
        "username": "tarka\n",
        "status": "failure",
        "type": "authentication",
        "originating_ip": "192.0.2.7",
        "request_method": "POST",
        "path": "/",
        "auth_strategy": "Basic",
        "origin": "https://studio.example",
    }
    assert "\n" not in record.getMessage()


async def test_a_successful_login_is_logged_once_while_it_is_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "auth-event")
    async with open_user_node(tmp_path, log_successful_logins=True) as node:
        for _ in range(2):
            await user_of(node, ADMIN)
    (record,) = [record for record in caplog.records if record.name == "auth-event"]
    assert (record.levelno, json.loads(record.getMessage())["status"]) == (logging.INFO, "success")


async def test_logins_are_not_logged_unless_asked_for(node: UserNode, caplog: pytest.LogCaptureFixture) -> None:
    await refusal(node, ("tarka", "wrong"))
    assert not [record for record in caplog.records if record.name == "auth-event"]


async def test_a_failure_raises_the_type_that_the_dispatcher_knows(node: UserNode) -> None:
    with pytest.raises(AuthenticationFailed):
        await user_of(node, ("tarka", "wrong"))
