"""Who a request is from: Basic, tokens, session cookies and the local bypass, asked of whole nodes."""

import json
import re
import time
import uuid
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import KEY_FILES, Answer, ask, basic, bearer, forbidden, send, with_keys_of

USER_INFO = {"operation": "user_info"}
CREATE: dict[str, Any] = {"operation": "create_authentication_tokens"}
REFRESH = {"operation": "refresh_operation_token"}
MUST_LOGIN: Answer = (401, {"error": "Must login"})
INVALID_TOKEN: Answer = (401, {"error": "invalid token"})
TOKEN_EXPIRED: Answer = (401, {"error": "token expired"})
WAIT_S = 10.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("tokens") / "root"
    with NodeProcess(root, options=["--set", "authentication.hashFunction=sha256"]) as running:
        running.post(operation="add_role", role="plain", permission={})
        yield running
        assert running.stop() == 0


@pytest.fixture
def tarka(node: NodeProcess) -> Iterator[dict[str, str]]:
    """Credentials of a user of the role ``plain`` as they stand in a body."""
    credentials = {"username": "tarka", "password": "Water:1 é"}
    node.post(operation="add_user", role="plain", active=True, **credentials)
    yield credentials
    ask(node, "drop_user", username="tarka")


def answer(response: httpx.Response) -> Answer:
    return response.status_code, response.json()


def answers_in_time(node: NodeProcess, body: dict[str, Any], headers: dict[str, str], expected: Answer) -> None:
    """Ask until the answer is the expected one; a token that ought to have expired has ``WAIT_S`` to do so."""
    give_up_at = time.monotonic() + WAIT_S
    while (found := answer(send(node, body, headers))) != expected:
        assert found[0] == 200, found
        assert time.monotonic() < give_up_at, "it is still accepted"


# Basic


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "Must login"),
        ("Digest username=admin", "Must login"),
        ("Basic", "Must login"),
        ("Basic Og==", "Must login"),
        ("Basic ???", "Invalid character"),
        ("Basic YWRtaW46d3Jvbmc=", "Login failed"),
        ("Basic Z2hvc3Q6d3Jvbmc=", "Login failed"),
        ("Bearer nonsense", "invalid token"),
    ],
)
def test_credentials_that_are_none(node: NodeProcess, value: str | None, error: str) -> None:
    response = send(node, USER_INFO, {"authorization": value} if value is not None else {})
    assert answer(response) == (401, {"error": error})
    assert "www-authenticate" not in response.headers


def test_a_password_may_hold_colons_and_any_letter(node: NodeProcess, tarka: dict[str, str]) -> None:
    assert send(node, USER_INFO, basic(**tarka)).json()["username"] == "tarka"


def test_the_operation_is_named_before_anybody_logs_in(node: NodeProcess) -> None:
    assert answer(send(node, {"no": "operation"})) == (
        400,
        {"error": "Request body must include an 'operation' property."},
    )
    assert answer(send(node, {"operation": "nope"})) == MUST_LOGIN


# Tokens


def test_tokens_say_whose_they_are_and_how_long(node: NodeProcess, tarka: dict[str, str]) -> None:
    tokens = send(node, CREATE | tarka).json()
    assert tokens.keys() == {"operation_token", "refresh_token"}
    public = (node.root / "keys" / ".jwtPublic.key").read_text()
    for name, subject, life_s in (("operation_token", "operation", 86400), ("refresh_token", "refresh", 30 * 86400)):
        assert jwt.get_unverified_header(tokens[name]) == {"alg": "RS256", "typ": "JWT"}
        claims = jwt.decode(tokens[name], public, algorithms=["RS256"])
        assert claims.pop("exp") - claims.pop("iat") == life_s
        assert claims == {"username": "tarka", "super_user": False, "sub": subject}
    mine = node.post(operation="create_authentication_tokens")
    assert jwt.decode(mine["operation_token"], public, algorithms=["RS256"])["super_user"] is True


def test_the_key_pair_is_private(node: NodeProcess) -> None:
    keys = node.root / "keys"
    for name in KEY_FILES:
        assert (keys / name).stat().st_mode & 0o777 == 0o600, name
    assert uuid.UUID((keys / ".jwtPass").read_text())
    assert (keys / ".jwtPrivate.key").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert (keys / ".jwtPublic.key").read_text().startswith("-----BEGIN PUBLIC KEY-----")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, MUST_LOGIN),
        ({"username": "admin"}, (401, {"error": "invalid credentials"})),
        ({"password": "x"}, (401, {"error": "invalid credentials"})),
        ({"username": "admin", "password": "wrong"}, (401, {"error": "invalid credentials"})),
        ({"username": "ghost", "password": "wrong"}, (401, {"error": "invalid credentials"})),
        ({"username": 5, "password": "x"}, (400, {"error": "'username' must be a string"})),
        ({"username": "admin", "password": 5}, (400, {"error": "'password' must be a string"})),
        (
            {"username": "admin", "password": NodeProcess.password, "expires_in": True},
            (400, {"error": "'expires_in' must be one of [string, number]"}),
        ),
        (
            {"username": "admin", "password": NodeProcess.password, "expires_in": "soon"},
            (
                500,
                {
                    "error": '"expiresIn" should be a number of seconds or string representing a timespan eg: "1d", '
                    '"20h", 60'
                },
            ),
        ),
    ],
)
def test_tokens_that_are_not_given(node: NodeProcess, fields: dict[str, Any], expected: Answer) -> None:
    assert answer(send(node, CREATE | fields)) == expected


def test_an_inactive_user_gets_no_tokens(node: NodeProcess, tarka: dict[str, str]) -> None:
    node.post(operation="alter_user", username="tarka", active=False)
    assert answer(send(node, CREATE | tarka)) == (401, {"error": "invalid credentials"})


@pytest.mark.parametrize(
    ("expires_in", "life_s"), [(60, 60), ("60000", 60), ("2m", 120), ("1h", 3600), ("1w", 7 * 86400), ("1y", None)]
)
def test_a_life_is_seconds_or_a_number_with_a_unit(node: NodeProcess, expires_in: Any, life_s: int | None) -> None:
    tokens = node.post(**CREATE, expires_in=expires_in)
    claims = jwt.decode(tokens["operation_token"], options={"verify_signature": False})
    life = claims["exp"] - claims["iat"]
    assert life == life_s if life_s else 365 * 86400 <= life <= 366 * 86400
    refresh = jwt.decode(tokens["refresh_token"], options={"verify_signature": False})
    assert refresh["exp"] - refresh["iat"] == 30 * 86400


def test_a_token_ends_when_it_says(node: NodeProcess) -> None:
    token = node.post(**CREATE, expires_in=1)["operation_token"]
    answers_in_time(node, USER_INFO, bearer(token), TOKEN_EXPIRED)
    assert time.time() >= jwt.decode(token, options={"verify_signature": False})["exp"]


def test_an_operation_token_outlives_newer_ones_and_a_new_password(node: NodeProcess, tarka: dict[str, str]) -> None:
    token = send(node, CREATE | tarka).json()["operation_token"]
    send(node, CREATE | tarka | {"expires_in": 100})
    node.post(operation="alter_user", username="tarka", password="other")
    assert send(node, USER_INFO, bearer(token)).json()["username"] == "tarka"


def test_the_rights_of_a_token_are_those_of_the_live_role(node: NodeProcess, tarka: dict[str, str]) -> None:
    token = send(node, CREATE | tarka).json()["operation_token"]
    assert send(node, {"operation": "list_roles"}, bearer(token)).status_code == 403
    node.post(operation="alter_user", username="tarka", role="super_user")
    assert send(node, {"operation": "list_roles"}, bearer(token)).status_code == 200


def test_a_token_ends_with_its_user(node: NodeProcess, tarka: dict[str, str]) -> None:
    token = send(node, CREATE | tarka).json()["operation_token"]
    node.post(operation="alter_user", username="tarka", active=False)
    assert answer(send(node, USER_INFO, bearer(token))) == INVALID_TOKEN
    node.post(operation="drop_user", username="tarka")
    assert answer(send(node, USER_INFO, bearer(token))) == forbidden(
        "User tarka has no role or permissions.  Please assign the user a valid role."
    )


def test_tokens_for_a_role_are_not_for_the_operations_api(node: NodeProcess) -> None:
    tokens = node.post(**CREATE, role="reader")
    for token in tokens.values():
        assert jwt.decode(token, options={"verify_signature": False})["role"] == "reader"
    assert answer(send(node, USER_INFO, bearer(tokens["operation_token"]))) == INVALID_TOKEN
    assert answer(send(node, REFRESH, bearer(tokens["refresh_token"]))) == INVALID_TOKEN


def test_a_token_of_another_key_or_algorithm_is_none(node: NodeProcess) -> None:
    claims = {"username": "admin", "sub": "operation", "exp": int(time.time()) + 100, "iat": int(time.time())}
    forged = jwt.encode(claims, "a secret of enough bytes for the algorithm", algorithm="HS256")
    unsigned = jwt.encode(claims, "", algorithm="none")
    for token in (forged, unsigned):
        assert answer(send(node, USER_INFO, bearer(token))) == INVALID_TOKEN


def test_a_token_is_for_one_purpose(node: NodeProcess) -> None:
    tokens = node.post(operation="create_authentication_tokens")
    assert answer(send(node, USER_INFO, bearer(tokens["refresh_token"]))) == INVALID_TOKEN
    assert answer(send(node, REFRESH, bearer(tokens["operation_token"]))) == INVALID_TOKEN


def test_a_refresh_token_gives_operation_tokens_again_and_again(node: NodeProcess, tarka: dict[str, str]) -> None:
    refresh = send(node, CREATE | tarka | {"expires_in": 5}).json()["refresh_token"]
    for _ in range(2):
        status, refreshed = answer(send(node, REFRESH, bearer(refresh)))
        assert (status, refreshed.keys()) == (200, {"operation_token"})
        claims = jwt.decode(refreshed["operation_token"], options={"verify_signature": False})
        assert claims["exp"] - claims["iat"] == 86400
        assert send(node, USER_INFO, bearer(refreshed["operation_token"])).json()["username"] == "tarka"
    in_body = ask(node, "refresh_operation_token", refresh_token=refresh)
    assert (in_body[0], in_body[1].keys()) == (200, {"operation_token"})
    assert send(node, USER_INFO, bearer(in_body[1]["operation_token"])).json()["username"] == "tarka"


def test_a_refresh_that_is_refused(node: NodeProcess) -> None:
    refresh = node.post(operation="create_authentication_tokens")["refresh_token"]
    assert answer(send(node, REFRESH | {"refresh_token": refresh})) == MUST_LOGIN
    assert ask(node, "refresh_operation_token") == (400, {"error": "'refresh_token' is required"})
    assert ask(node, "refresh_operation_token", refresh_token="nonsense") == INVALID_TOKEN


def test_newer_tokens_supersede_a_refresh_token(node: NodeProcess) -> None:
    first = node.post(operation="create_authentication_tokens")["refresh_token"]
    give_up_at = time.monotonic() + WAIT_S
    while (second := node.post(operation="create_authentication_tokens")["refresh_token"]) == first:
        assert time.monotonic() < give_up_at, "tokens of different seconds are the same"
    assert answer(send(node, REFRESH, bearer(first))) == INVALID_TOKEN
    assert ask(node, "refresh_operation_token", refresh_token=first) == INVALID_TOKEN
    assert send(node, REFRESH, bearer(second)).status_code == 200


def test_a_new_user_of_an_old_name_has_no_refresh_token(node: NodeProcess, tarka: dict[str, str]) -> None:
    refresh = send(node, CREATE | tarka).json()["refresh_token"]
    node.post(operation="drop_user", username="tarka")
    node.post(operation="add_user", role="plain", active=True, **tarka)
    assert answer(send(node, REFRESH, bearer(refresh))) == INVALID_TOKEN


def test_short_lives_of_the_configuration_and_keys_that_are_gone(node: NodeProcess, tmp_path: Path) -> None:
    options = [
        *("--set", "authentication.refreshTokenTimeout=1"),
        *("--set", "authentication.operationTokenTimeout=1h"),
        *("--set", "authentication.hashFunction=sha256"),
    ]
    elsewhere = node.post(operation="create_authentication_tokens")
    keys = tmp_path / "root" / "keys"
    with NodeProcess(with_keys_of(node, tmp_path / "root"), options=options) as other:
        tokens = other.post(operation="create_authentication_tokens")
        answers_in_time(other, REFRESH, bearer(tokens["refresh_token"]), TOKEN_EXPIRED)
        in_body = ask(other, "refresh_operation_token", refresh_token=tokens["refresh_token"])
        assert in_body == (403, {"error": "token expired"})
        assert send(other, USER_INFO, bearer(elsewhere["operation_token"])).status_code == 200
        other.stop()
        before = {name: (keys / name).read_bytes() for name in KEY_FILES}
        (keys / ".jwtPublic.key").unlink()
        other.start()
        assert answer(send(other, USER_INFO, bearer(tokens["operation_token"]))) == INVALID_TOKEN
        assert all((keys / name).read_bytes() != content for name, content in before.items())
        other.stop()
        (keys / ".jwtPrivate.key").write_text("no key")
        other.start()
        assert ask(other, "user_info")[0] == 200
        assert ask(other, "create_authentication_tokens") == (
            500,
            {"error": "unable to generate JWT as there are no encryption keys.  please contact your administrator"},
        )


# Sessions


def login(node: NodeProcess, headers: dict[str, str] | None = None, *, scheme: str = "https") -> httpx.Response:
    body = {"operation": "login", "username": node.username, "password": node.password}
    response = send(node, body, headers, scheme=scheme)
    assert answer(response) == (200, {"message": "Login successful"})
    return response


def cookie_of(response: httpx.Response) -> tuple[str, str, str]:
    """Name, value and attributes of the cookie that a response sets."""
    first, _, attributes = response.headers["set-cookie"].partition("; ")
    name, _, value = first.partition("=")
    return name, value, attributes


def session_row(node: NodeProcess, session: str) -> Any:
    rows = node.post(
        operation="search_by_id", database="system", table="hdb_session", ids=[session], get_attributes=["id", "user"]
    )
    return rows[0] if rows else None


def test_a_login_makes_a_session_that_its_cookie_names(node: NodeProcess) -> None:
    response = login(node)
    name, value, attributes = cookie_of(response)
    host = node.url().removeprefix("https://")
    assert name == host.replace(".", "_", 1) + "-hdb-session"
    assert uuid.UUID(value)
    assert attributes == "Path=/; Expires=Tue, 01 Oct 8307 19:33:20 GMT; HttpOnly; SameSite=None; Secure"
    assert response.headers["x-hdb-session"] == "Secure"
    assert response.headers["access-control-expose-headers"] == "X-Hdb-Session"
    assert session_row(node, value) == {"id": value, "user": "admin"}
    assert send(node, USER_INFO, {"cookie": f"{name}={value}"}).json()["username"] == "admin"


@pytest.mark.parametrize(
    ("scheme", "host", "is_secure"),
    [
        ("https", "node.example:9925", True),
        ("http", "node.example:9925", False),
        ("http", "localhost:9925", True),
        ("http", "127.0.0.1:9925", True),
        ("http", "[::1]:9925", True),
        ("http", "::1", True),
        ("http", "localhost.example:9925", False),
    ],
)
def test_a_cookie_is_secure_over_tls_or_on_this_machine(
    node: NodeProcess, scheme: str, host: str, is_secure: bool
) -> None:
    response = login(node, {"host": host}, scheme=scheme)
    _, _, attributes = cookie_of(response)
    assert attributes.endswith("; HttpOnly; SameSite=None; Secure" if is_secure else "; HttpOnly")
    assert ("x-hdb-session" in response.headers) is is_secure
    exposed = response.headers.get("access-control-expose-headers", "")
    assert ("X-Hdb-Session" in exposed) is is_secure


@pytest.mark.parametrize(
    ("headers", "prefix"),
    [
        ({"origin": "https://studio.example"}, "studio_example-"),
        ({"host": "127.0.0.1:9925"}, "127_0.0.1:9925-"),
        ({"origin": "http://a-b.example", "host": "other"}, "a_b.example-"),
    ],
)
def test_a_cookie_is_for_one_origin(node: NodeProcess, headers: dict[str, str], prefix: str) -> None:
    name, value, _ = cookie_of(login(node, headers))
    assert name == prefix + "hdb-session"
    cookie = {"cookie": f"other=1; {name}={value}"}
    assert send(node, USER_INFO, headers | cookie).status_code == 200
    assert answer(send(node, USER_INFO, cookie | {"origin": "https://elsewhere.example"})) == MUST_LOGIN
    assert answer(send(node, USER_INFO, cookie)) == MUST_LOGIN


def test_a_second_login_keeps_the_session(node: NodeProcess, tarka: dict[str, str]) -> None:
    name, value, _ = cookie_of(login(node))
    cookie = {"cookie": f"{name}={value}"}
    assert "set-cookie" not in login(node, cookie).headers
    again = send(node, {"operation": "login"} | tarka, cookie)
    assert answer(again) == (200, {"message": "Login successful"})
    assert "set-cookie" not in again.headers
    assert send(node, USER_INFO, cookie).json()["username"] == "tarka"


def test_a_logout_ends_the_session_and_never_fails(node: NodeProcess) -> None:
    name, value, _ = cookie_of(login(node))
    cookie = {"cookie": f"{name}={value}"}
    logout = {"operation": "logout"}
    done = (200, {"message": "Logout successful"})
    assert answer(send(node, logout, cookie)) == done
    assert session_row(node, value) == {"id": value, "user": None}
    assert answer(send(node, USER_INFO, cookie)) == MUST_LOGIN
    assert answer(send(node, logout)) == done
    assert answer(send(node, logout, cookie)) == done


@pytest.mark.parametrize(
    "credentials", [{"username": "admin", "password": "x"}, {"username": "ghost", "password": "x"}]
)
def test_a_login_with_bad_credentials_fails(node: NodeProcess, credentials: dict[str, str]) -> None:
    response = send(node, {"operation": "login"} | credentials)
    assert answer(response) == (401, {"error": "Login failed"})
    assert "set-cookie" not in response.headers


def test_a_made_up_session_is_none(node: NodeProcess) -> None:
    name, _, _ = cookie_of(login(node))
    assert answer(send(node, USER_INFO, {"cookie": f"{name}={uuid.uuid4()}"})) == MUST_LOGIN


def test_credentials_decide_before_the_cookie(node: NodeProcess, tarka: dict[str, str]) -> None:
    name, value, _ = cookie_of(login(node))
    cookie = {"cookie": f"{name}={value}"}
    assert send(node, USER_INFO, cookie | basic(**tarka)).json()["username"] == "tarka"
    assert answer(send(node, USER_INFO, cookie | basic("tarka", "wrong"))) == (401, {"error": "Login failed"})


def test_a_session_ends_with_its_user(node: NodeProcess, tarka: dict[str, str]) -> None:
    name, value, _ = cookie_of(send(node, {"operation": "login"} | tarka))
    cookie = {"cookie": f"{name}={value}"}
    assert send(node, USER_INFO, cookie).status_code == 200
    node.post(operation="alter_user", username="tarka", active=False)
    assert send(node, USER_INFO, cookie).status_code == 401
    node.post(operation="drop_user", username="tarka")
    assert send(node, USER_INFO, cookie).status_code in (401, 403)


def test_cookies_with_a_domain_and_an_end_survive_a_crash(node: NodeProcess, tmp_path: Path) -> None:
    options = [
        *("--set", 'authentication.cookie.domains=["node.example"]'),
        *("--set", "authentication.cookie.expires=2d"),
        *("--set", "authentication.hashFunction=sha256"),
    ]
    with NodeProcess(with_keys_of(node, tmp_path / "root"), options=options) as other:
        before = time.time()
        name, value, attributes = cookie_of(login(other, {"host": "node.example"}))
        assert "; Domain=node.example" in attributes
        expires = re.search(r"Expires=([^;]+)", attributes)
        assert expires is not None
        assert abs(parsedate_to_datetime(expires.group(1)).timestamp() - before - 2 * 86400) < 60
        other.kill()
        other.start()
        cookie = {"host": "node.example", "cookie": f"{name}={value}"}
        assert send(other, USER_INFO, cookie).json()["username"] == "admin"


# The local bypass


@pytest.fixture(scope="module")
def dev_node(node: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = with_keys_of(node, tmp_path_factory.mktemp("dev") / "root")
    with NodeProcess(root, mode="dev", options=["--set", "authentication.hashFunction=sha256"]) as running:
        yield running


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_in_dev_mode_a_local_request_needs_no_credentials(dev_node: NodeProcess, scheme: str) -> None:
    status, info = answer(send(dev_node, USER_INFO, scheme=scheme))
    assert (status, info["username"], info["role"]["permission"]) == (200, "admin", {"super_user": True})
    assert {"__createdtime__", "__updatedtime__"} <= info.keys()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-forwarded-for": "203.0.113.5"}, 401),
        ({"x-forwarded-for": "127.0.0.1"}, 401),
        ({"forwarded": "for=203.0.113.5"}, 401),
        ({"origin": "https://evil.example"}, 401),
        ({"origin": "http://localhost.evil.example"}, 401),
        ({"origin": "null"}, 401),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "http://127.0.0.1:9926"}, 200),
        ({"origin": "http://[::1]:9926"}, 200),
    ],
)
def test_what_comes_from_elsewhere_is_not_local(dev_node: NodeProcess, headers: dict[str, str], status: int) -> None:
    found = answer(send(dev_node, USER_INFO, headers))
    assert found[0] == status
    assert status == 200 or found == MUST_LOGIN


def test_wrong_credentials_fail_also_on_this_machine(dev_node: NodeProcess) -> None:
    assert answer(send(dev_node, USER_INFO, basic("admin", "wrong"))) == (401, {"error": "Login failed"})
    assert answer(send(dev_node, USER_INFO, bearer("nonsense"))) == INVALID_TOKEN


@pytest.mark.parametrize(("source", "status"), [("127.0.0.77", 200), ("127.9.9.9", 401)])
def test_local_is_the_first_loopback_network(dev_node: NodeProcess, source: str, status: int) -> None:
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(transport=transport, trust_env=False) as client:
        response = client.post(dev_node.url("http"), json=USER_INFO)
    assert response.status_code == status


def test_dev_mode_can_be_told_to_ask_for_credentials(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHENTICATION_AUTHORIZELOCAL", "false")
    with NodeProcess(with_keys_of(node, tmp_path / "root"), mode="dev") as other:
        assert answer(send(other, USER_INFO)) == MUST_LOGIN


def test_in_prod_mode_the_bypass_has_no_effect_and_sessions_can_be_off(node: NodeProcess, tmp_path: Path) -> None:
    options = [
        *("--set", "authentication.authorizeLocal=true"),
        *("--set", "authentication.enableSessions=false"),
    ]
    with NodeProcess(with_keys_of(node, tmp_path / "root"), options=options) as other:
        assert answer(send(other, USER_INFO)) == MUST_LOGIN
        assert "authorizeLocal" in (tmp_path / "root" / "log" / "hdb.log").read_text()
        body = {"operation": "login", "username": other.username, "password": other.password}
        assert answer(send(other, body)) == (500, {"error": "No session for login"})
        response = send(other, USER_INFO, {"origin": "https://studio.example"})
        assert response.headers["access-control-allow-origin"] == "https://studio.example"
        assert "access-control-allow-credentials" not in response.headers


# The socket


def over_socket(node: NodeProcess, body: Any, headers: dict[str, str] | None = None) -> Answer:
    transport = httpx.HTTPTransport(uds=str(node.root / "operations-server"))
    with httpx.Client(transport=transport, trust_env=False) as client:
        sent = {"content-type": "application/json", **(headers or {})}
        return answer(client.post("http://localhost/", content=json.dumps(body), headers=sent))


def test_the_socket_is_for_its_owner_who_is_a_super_user(node: NodeProcess) -> None:
    assert (node.root / "operations-server").stat().st_mode & 0o777 == 0o600
    status, info = over_socket(node, USER_INFO)
    assert (status, info["username"]) == (200, "admin")
    assert {"__createdtime__", "__updatedtime__"} <= info.keys()
    assert over_socket(node, {"operation": "list_roles"})[0] == 200
    assert over_socket(node, USER_INFO, basic("admin", "wrong")) == (401, {"error": "Login failed"})


def test_who_comes_through_the_socket_may_still_be_somebody_else(node: NodeProcess, tarka: dict[str, str]) -> None:
    assert over_socket(node, USER_INFO, basic(**tarka))[1]["username"] == "tarka"
