"""Cookies of sessions: their names, their attributes, and which ones count."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from ops.http import Peer, Request
from ops.sessions import cookie_headers, cookie_name, new_session_id, session_id_of
from ops.settings import OpsSettings

HOST = {"host": "node.example:9925"}
ID = "7c2f5b0e-3f0e-4a53-9d0c-6f6c5a7a1d11"


def headers_for(headers: Mapping[str, str], *, is_tls: bool = False, **settings: Any) -> dict[str, str]:
    request = Request(method="POST", target="/", headers=headers, body=b"", peer=Peer(address="x", is_tls=is_tls))
    folder = Path("x")
    made = OpsSettings(node="n1", version="0", root_path=folder, keys_path=folder, log_path=folder, **settings)
    return dict(cookie_headers(request, ID, made))


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"origin": "https://studio.example"}, "studio_example-hdb-session"),
        ({"origin": "https://studio.example", "host": "127.0.0.1:9925"}, "studio_example-hdb-session"),
        ({"host": "127.0.0.1:9925"}, "127_0.0.1:9925-hdb-session"),
        ({"host": "localhost:9925"}, "localhost_9925-hdb-session"),
        ({"origin": "http://[::1]:9925"}, "_::1]:9925-hdb-session"),
        ({"origin": "https://a.b; Domain=evil"}, "a_b__Domain_evil-hdb-session"),
        ({}, "hdb-session"),
    ],
)
def test_a_cookie_is_named_after_the_page(headers: dict[str, str], name: str) -> None:
    assert cookie_name(headers) == name


def test_a_cookie_ends_only_with_its_session() -> None:
    assert headers_for(HOST) == {
        "set-cookie": f"node_example:9925-hdb-session={ID}; Path=/; Expires=Tue, 01 Oct 8307 19:33:20 GMT; HttpOnly"
    }


@pytest.mark.parametrize("host", ["localhost:9925", "127.0.0.1:9925", "[::1]:9925"])
def test_a_cookie_on_this_machine_goes_with_requests_of_other_pages(host: str) -> None:
    headers = headers_for({"host": host})
    assert headers["set-cookie"].endswith("; HttpOnly; SameSite=None; Secure")
    assert headers["x-hdb-session"] == "Secure"
    assert headers["access-control-expose-headers"] == "X-Hdb-Session"


def test_a_cookie_over_tls_goes_with_requests_of_other_pages() -> None:
    assert headers_for(HOST, is_tls=True)["set-cookie"].endswith("; HttpOnly; SameSite=None; Secure")


@pytest.mark.parametrize(
    ("expires", "lived_s"), [("2h", 7200), ("1M", 30 * 86400), (90, 90), ("1d", 86400), ("5m", 300)]
)
def test_a_cookie_ends_when_the_settings_say(expires: str | int, lived_s: int) -> None:
    cookie = headers_for(HOST, cookie_expires=expires)["set-cookie"]
    found = re.search(r"Expires=([^;]+ GMT);", cookie)
    assert found is not None
    assert (parsedate_to_datetime(found[1]) - datetime.now(UTC)).total_seconds() == pytest.approx(lived_s, abs=5)


@pytest.mark.parametrize(
    ("domains", "expected"),
    [
        ((".example",), "; Domain=.example"),
        (("other.test", "node.example"), "; Domain=node.example"),
        (("ode.example",), ""),
        (("other.test",), ""),
    ],
)
def test_a_cookie_names_the_configured_domain_that_the_node_was_called_by(domains: Any, expected: str) -> None:
    assert headers_for(HOST, cookie_domains=domains)["set-cookie"].endswith(f"; HttpOnly{expected}")


def test_a_session_is_found_among_other_cookies() -> None:
    cookie = f"a=b; node_example:9925-hdb-session={ID}; c"
    assert session_id_of({**HOST, "cookie": cookie}) == ID


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "a=b",
        f"hdb-session={ID}",
        f"other_example-hdb-session={ID}",
        "node_example:9925-hdb-session=",
        "node_example:9925-hdb-session=../etc",
        f"node_example:9925-hdb-session={ID.upper()}",
        f"node_example:9925-hdb-session={ID}0",
    ],
)
def test_any_other_cookie_names_no_session(cookie: str) -> None:
    assert session_id_of({**HOST, "cookie": cookie}) is None


def test_a_cookie_of_one_origin_does_not_count_for_another() -> None:
    cookie = f"studio_example-hdb-session={ID}"
    assert session_id_of({"origin": "https://studio.example", "cookie": cookie}) == ID
    assert session_id_of({"origin": "https://evil.example", "cookie": cookie}) is None


def test_session_ids_are_random() -> None:
    assert new_session_id() != new_session_id()
