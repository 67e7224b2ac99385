from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.agreements import FULL, Directions, Subscription
from replication.routes import (
    BadRoute,
    Route,
    derive_url,
    is_same_place,
    is_same_route,
    name_of_url,
    parse_route,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(("a", "a:1", "wss://a:1")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("hostname", "host", "port", "url", "shard", "replicates", "sendsTo")) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def parse(raw: Any) -> Route:
    return parse_route(raw, secure_port=9933, port=None)


@pytest.mark.parametrize(
    ("raw", "name", "url", "has_own_url"),
    [
        ("server-two", "server-two", "wss://server-two:9933", False),
        (" server-two ", "server-two", "wss://server-two:9933", False),
        ("server-two:9944", "server-two", "wss://server-two:9944", True),
        ("wss://server-two:9944", "server-two", "wss://server-two:9944", True),
        ("ws://127.0.0.2:9944", "127.0.0.2", "ws://127.0.0.2:9944", True),
        ("::1", "::1", "wss://[::1]:9933", False),
        ("[::1]:9944", "::1", "wss://[::1]:9944", True),
        ("wss://[0:0::1]:9944", "::1", "wss://[0:0::1]:9944", True),
        ({"hostname": "server-two"}, "server-two", "wss://server-two:9933", False),
        ({"host": "server-two", "port": 9944}, "server-two", "wss://server-two:9944", True),
        ({"hostname": "server-two:9944"}, "server-two", "wss://server-two:9944", True),
        ({"hostname": "::1", "port": "9944"}, "::1", "wss://[::1]:9944", True),
        ({"url": "wss://server-two:9944"}, "server-two", "wss://server-two:9944", True),
        ({"hostname": "server-two", "url": "wss://10.0.0.9:1"}, "server-two", "wss://10.0.0.9:1", True),
    ],
    ids=str,
)
def test_a_route_says_who_and_where(raw: Any, name: str, url: str, has_own_url: bool) -> None:
    assert parse(raw) == Route(name=name, url=url, has_own_url=has_own_url)


def test_a_route_may_say_what_is_exchanged() -> None:
    assert parse(
        {
            "hostname": "server-two",
            "startTime": "2025-01-02T03:04:05Z",
            "revokedCertificates": ["0a:ff", 7],
            "shard": 3,
            "replicates": {"sends": True, "receives": False},
            "subscriptions": [{"database": "dev", "table": "dog", "subscribe": True}],
            "comment": "kept by whoever stores it",
        }
    ) == Route(
        name="server-two",
        url="wss://server-two:9933",
        replicates=Directions(sends=True, receives=False, only_named=True),
        shard=3,
        revoked=frozenset((0xAFF, 7)),
        subscriptions=(Subscription(database="dev", table="dog", subscribe=True, publish=False),),
        start_time_ms=1735787045000,
    )


def test_a_route_that_does_not_say_replicates_both_ways() -> None:
    assert parse("server-two").replicates == FULL


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (5, "a route must be a string or an object"),
        (None, "a route must be a string or an object"),
        ({}, "a route needs a 'hostname' or a 'url'"),
        ({"port": 9933}, "a route needs a 'hostname' or a 'url'"),
        ("", "'' is not a host name or address"),
        ("server two", "'server two' is not a host name or address"),
        ("server/two", "'server/two' is not a host name or address"),
        ("sérver", "'sérver' is not a host name or address"),
        ("1:2:3", "'1:2:3' is not a host name or address"),
        ({"hostname": 5}, "'' is not a host name or address"),
        ("server-two:0", "'port' must be a number from 1 to 65535"),
        ("server-two:99999", "'port' must be a number from 1 to 65535"),
        ({"hostname": "a", "port": True}, "'port' must be a number from 1 to 65535"),
        ({"hostname": "a", "url": 5}, "'url' must be a string such as wss://host:9933"),
        ("wss://a\n:9933", "'url' must be a string such as wss://host:9933"),
        ("https://a:9933", "'https://a:9933' is not of the form wss://host:port or ws://host:port"),
        ("wss://a:9933/x", "'wss://a:9933/x' is not of the form wss://host:port or ws://host:port"),
        ("wss://a:9933?x", "'wss://a:9933?x' is not of the form wss://host:port or ws://host:port"),
        ("wss://a:0", "'wss://a:0' is not of the form wss://host:port or ws://host:port"),
        ("wss://a:99999", "'wss://a:99999' is not a URL"),
        ("wss://[::1", "'wss://[::1' is not a URL"),
        ("wss://", "'' is not a host name or address"),
        ("wss://me:secret@a:9933", "'url' must not hold credentials"),
        ({"hostname": "a", "shard": 1.5}, "'shard' must be a whole number from 0 to 65535"),
        ({"hostname": "a", "sendsTo": ["b"]}, "'sendsTo' is not supported"),
        ({"hostname": "a", "replicates": {"receivesFrom": ["b"]}}, "'receivesFrom' is not supported"),
        ({"hostname": "a", "replicates": "yes"}, "'replicates' must be one of [boolean, object]"),
        ({"hostname": "a", "revokedCertificates": "1"}, "'revokedCertificates' must be an array"),
    ],
    ids=str,
)
def test_a_bad_route_is_refused_with_the_reason(raw: Any, problem: str) -> None:
    with pytest.raises(BadRoute) as caught:
        parse(raw)
    assert str(caught.value) == problem


def test_a_start_time_without_a_zone_is_refused() -> None:
    with pytest.raises(BadRoute, match=r"^startTime must be an ISO 8601 UTC timestamp"):
        parse({"hostname": "a", "startTime": "2025-01-02T03:04:05"})


@given(anything)
def test_whatever_is_configured_is_a_route_or_a_bad_one(raw: Any) -> None:
    try:
        route = parse(raw)
    except BadRoute:
        return
    assert route.name and name_of_url(route.url)


@pytest.mark.parametrize(
    ("hostname", "ports", "url"),
    [
        ("b", {"secure_port": 9933, "port": None}, "wss://b:9933"),
        ("b", {"secure_port": 9933, "port": 9934}, "wss://b:9933"),
        ("b", {"secure_port": None, "port": 9934}, "ws://b:9934"),
        ("b", {"secure_port": None, "port": None}, "wss://b:9933"),
        ("b:1", {"secure_port": 9933, "port": None}, "wss://b:1"),
        ("fe80::1", {"secure_port": None, "port": 9934}, "ws://[fe80::1]:9934"),
    ],
    ids=str,
)
def test_the_url_of_a_host_follows_from_the_ports_of_this_node(hostname: str, ports: Any, url: str) -> None:
    assert derive_url(hostname, **ports) == url


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("b", "b", True),
        ("b", {"hostname": "b"}, True),
        ("b", {"host": "B"}, True),
        ("b:1", {"hostname": "b", "port": 1}, True),
        ("b:1", {"hostname": "b", "port": "1"}, True),
        ("b:1", "wss://b:1", True),
        ({"hostname": "b", "port": 1}, {"hostname": "b", "port": 1, "shard": 3}, True),
        ({"hostname": "a", "port": 1}, {"hostname": "b", "port": 1}, False),
        ("b", "b:9933", False),
        ("b:1", "b:2", False),
        ("not a route", "not a route", True),
        ("not a route", "another bad one", False),
        ({"port": 1}, {"port": 1}, True),
        ({"port": 1}, {"port": 1, "shard": 3}, False),
        (1, True, False),
        ("b", None, False),
    ],
    ids=str,
)
def test_routes_are_the_same_by_text_or_by_host_and_port(a: Any, b: Any, expected: bool) -> None:
    assert is_same_route(a, b) is expected
    assert is_same_route(b, a) is expected


def test_two_urls_of_one_port_are_one_place() -> None:
    assert is_same_place("wss://B:9933", "wss://b:9933/")
    assert is_same_place("wss://b", "wss://b:443")
    assert not is_same_place("wss://b:1", "wss://b:2")
    assert not is_same_place("nothing", "wss://b:2")
