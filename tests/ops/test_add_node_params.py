"""Bodies of the operations that add, change and remove nodes."""

from typing import Any

import pytest

from ops.add_node_params import (
    AddNode,
    add_node_params,
    configure_cluster_params,
    remove_node_params,
    resolved,
    update_node_params,
)
from ops.errors import InvalidParams
from replication.agreements import FULL, Directions, Subscription

OWN: dict[str, Any] = {"own_name": "a", "own_url": "wss://a:9933", "secure_port": 9933, "port": None}
NOT_SET = "'subscriptions[0]' subscribe and/or publish must be set to true when adding a node"
BAD_AUTHORIZATION = (
    "'authorization' must be an object with username and password, or the value of an Authorization header"
)


def problem(read: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InvalidParams) as caught:
        read(*arguments, **options)
    assert caught.value.status == 400
    return str(caught.value)


def test_a_body_with_a_name_only_has_the_defaults() -> None:
    assert add_node_params({"operation": "add_node", "hostname": "b"}) == AddNode(
        name="b", url=None, label="b", given=frozenset(("hostname",))
    )
    request = AddNode(name="b", url=None, label="b")
    assert (request.verify_tls, request.replicates, request.subscriptions) == (True, FULL, None)


def test_all_fields_are_read() -> None:
    request = add_node_params(
        {
            "hostname": "b",
            "url": "wss://proxy:1",
            "verify_tls": False,
            "authorization": {"username": "admin", "password": "Otter:1"},
            "retain_authorization": True,
            "revoked_certificates": ["0A:FF", 7],
            "shard": 3,
            "start_time": "2025-01-02T03:04:05Z",
            "subscriptions": [{"schema": "dev", "table": "dog", "subscribe": True, "publish": False}],
            "replicates": {"sends": True},
            "isLeader": True,
            "force_signing": True,
            "unknown": 5,
        }
    )
    assert request == AddNode(
        name="b",
        url="wss://proxy:1",
        label="b",
        verify_tls=False,
        authorization="Basic YWRtaW46T3R0ZXI6MQ==",
        retain_authorization=True,
        revoked=frozenset((0xAFF, 7)),
        shard=3,
        start_time_ms=1735787045000,
        replicates=Directions(sends=True, receives=False, only_named=True),
        subscriptions=(Subscription(database="dev", table="dog", subscribe=True, publish=False),),
        is_leader=True,
        force_signing=True,
        given=frozenset(
            (
                "hostname url verify_tls authorization retain_authorization revoked shard start_time_ms "
                "replicates subscriptions is_leader force_signing"
            ).split()
        ),
    )
    assert "YWRt" not in repr(request)


@pytest.mark.parametrize(
    ("body", "name", "url", "label"),
    [
        ({"hostname": "b"}, "b", "wss://b:9933", "b"),
        ({"node_name": "b"}, "b", "wss://b:9933", "b"),
        ({"name": "b"}, "b", "wss://b:9933", "b"),
        ({"hostname": "b", "name": "c"}, "b", "wss://b:9933", "b"),
        ({"hostname": "b:7"}, "b", "wss://b:7", "b:7"),
        ({"hostname": "::1"}, "::1", "wss://[::1]:9933", "::1"),
        ({"hostname": "[::1]:7"}, "::1", "wss://[::1]:7", "[::1]:7"),
        ({"url": "wss://b:7"}, "b", "wss://b:7", "wss://b:7"),
        ({"hostname": "b", "url": "ws://10.0.0.2:7"}, "b", "ws://10.0.0.2:7", "b"),
    ],
    ids=str,
)
def test_name_and_url_follow_from_each_other(body: dict[str, Any], name: str, url: str, label: str) -> None:
    request = resolved(add_node_params(body), **OWN)
    assert (request.name, request.url, request.label) == (name, url, label)


def test_the_url_of_a_name_is_plain_where_this_node_has_a_plain_port_only() -> None:
    request = resolved(add_node_params({"hostname": "b"}), **{**OWN, "secure_port": None, "port": 9934})
    assert request.url == "ws://b:9934"


@pytest.mark.parametrize(
    "body",
    [{"hostname": "a"}, {"hostname": "A"}, {"url": "wss://a:1"}, {"hostname": "x", "url": "wss://A:9933/"}],
    ids=str,
)
def test_a_node_does_not_add_itself(body: dict[str, Any]) -> None:
    assert problem(resolved, add_node_params(body), **OWN) == "'hostname' cannot be this nodes name"


def test_a_node_without_a_replication_url_adds_nobody() -> None:
    request = add_node_params({"hostname": "b"})
    assert problem(resolved, request, **{**OWN, "own_url": None}) == "replication url is missing from logmesh.yaml"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "url required for this operation"),
        ({"hostname": 5}, "'hostname' must be a string"),
        ({"node_name": ""}, "'node_name' is not allowed to be empty"),
        ({"hostname": "a b"}, "'a b' is not a host name or address"),
        ({"url": 5}, "'url' must be a string"),
        ({"url": "https://b"}, "'https://b' is not of the form wss://host:port or ws://host:port"),
        ({"url": "wss://me:secret@b:1"}, "'url' must not hold credentials"),
        ({"hostname": "b", "verify_tls": "no"}, "'verify_tls' must be a boolean"),
        ({"hostname": "b", "rejectUnauthorized": 0}, "'rejectUnauthorized' must be a boolean"),
        ({"hostname": "b", "retain_authorization": 1}, "'retain_authorization' must be a boolean"),
        ({"hostname": "b", "isLeader": 1}, "'isLeader' must be a boolean"),
        ({"hostname": "b", "shard": "one"}, "'shard' must be a number"),
        ({"hostname": "b", "shard": 65536}, "'shard' must be less than or equal to 65535"),
        ({"hostname": "b", "revoked_certificates": "1"}, "'revoked_certificates' must be an array"),
        ({"hostname": "b", "subscriptions": {}}, "'subscriptions' must be an array"),
        ({"hostname": "b", "subscriptions": [{"database": "dev", "table": "dog"}]}, NOT_SET),
        ({"hostname": "b", "replicates": "all"}, "'replicates' must be one of [boolean, object]"),
        ({"hostname": "b", "sendsTo": ["c"]}, "'sendsTo' is not supported"),
        ({"hostname": "b", "receivesFrom": ["c"]}, "'receivesFrom' is not supported"),
        ({"hostname": "b", "replicates": {"sendsTo": ["c"]}}, "'sendsTo' is not supported"),
        (
            {"verify_tls": 1, "shard": "x"},
            "url required for this operation. 'verify_tls' must be a boolean. 'shard' must be a number",
        ),
        *(
            ({"hostname": "b", "authorization": value}, BAD_AUTHORIZATION)
            for value in (
                5,
                "",
                "secret",
                "Basic ",
                "Basic x\r\nHost: y",
                "Bearer " + "x" * 20_000,
                {"username": "admin"},
                {"username": "ad:min", "password": "x"},
                {"username": "", "password": "x"},
            )
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_does_not_fit_is_told(body: dict[str, Any], expected: str) -> None:
    assert problem(add_node_params, body) == expected


def test_a_start_time_without_a_zone_is_refused() -> None:
    body = {"hostname": "b", "start_time": "2025-01-02T03:04:05"}
    assert problem(add_node_params, body).startswith("start_time must be an ISO 8601 UTC timestamp")


def test_a_password_is_in_no_message() -> None:
    body = {"hostname": "b", "authorization": {"username": 5, "password": "Otter-1"}}
    assert "Otter-1" not in problem(add_node_params, body)


def test_rejectUnauthorized_is_another_name_of_verify_tls() -> None:
    request = add_node_params({"hostname": "b", "rejectUnauthorized": False})
    assert not request.verify_tls
    assert "verify_tls" in request.given


def test_a_complete_header_value_is_kept() -> None:
    request = add_node_params({"hostname": "b", "authorization": "Bearer a.b-c_d=="})
    assert request.authorization == "Bearer a.b-c_d=="


def test_null_for_subscriptions_asks_for_full_replication() -> None:
    request = update_node_params({"hostname": "b", "subscriptions": None})
    assert request.subscriptions is None
    assert "subscriptions" in request.given


def test_an_update_needs_a_name_and_no_subscriptions() -> None:
    assert problem(update_node_params, {"url": "wss://b:1"}) == "'hostname' is required"
    assert update_node_params({"node_name": "b", "revoked_certificates": ["1"]}).given == {"hostname", "revoked"}


def test_a_set_up_is_a_list_of_peers() -> None:
    peers = configure_cluster_params({"connections": [{"hostname": "b"}, {"url": "wss://c:1"}]})
    assert [peer.name for peer in peers] == ["b", "c"]
    assert configure_cluster_params({"connections": []}) == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "'connections' is required"),
        ({"connections": {}}, "'connections' must be an array"),
        ({"connections": ["b"]}, "'connections[0]' must be of type object"),
        ({"connections": [{"hostname": "b"}, {}]}, "url required for this operation"),
        ({"connections": [{"hostname": "b"}, {"url": "wss://B:1"}]}, "'connections[1]' names 'wss://B:1' again"),
    ],
    ids=str,
)
def test_a_set_up_with_one_bad_element_is_refused(body: dict[str, Any], expected: str) -> None:
    assert problem(configure_cluster_params, body) == expected


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"hostname": "b"}, "b"),
        ({"hostname": "b:7"}, "b"),
        ({"node_name": "b"}, "b"),
        ({"name": "b"}, "b"),
        ({"url": "wss://b:7"}, "b"),
        ({"hostname": "not a host"}, "not a host"),
    ],
    ids=str,
)
def test_a_removal_names_its_node_in_any_way(body: dict[str, Any], name: str) -> None:
    assert remove_node_params(body) == name


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "url or hostname is required for remove_node operation"),
        ({"hostname": None}, "url or hostname is required for remove_node operation"),
        ({"hostname": 5}, "'hostname' must be a string"),
        ({"url": "b"}, "'b' is not of the form wss://host:port or ws://host:port"),
    ],
    ids=str,
)
def test_a_removal_without_a_name_is_refused(body: dict[str, Any], expected: str) -> None:
    assert problem(remove_node_params, body) == expected
