"""Which requests need no credentials."""

from collections.abc import Mapping

import pytest

from ops.http import Peer, Request
from ops.local_requests import is_local


def request_from(peer: Peer, headers: Mapping[str, str] | None = None) -> Request:
    return Request(method="POST", target="/", headers=headers or {}, body=b"", peer=peer)


SOCKET = Peer(is_local_socket=True)
LOOPBACK = Peer(address="127.0.0.1")


@pytest.mark.parametrize("authorize_loopback", [True, False])
def test_the_local_socket_is_local_in_both_modes(authorize_loopback: bool) -> None:
    assert is_local(request_from(SOCKET), authorize_loopback=authorize_loopback)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_local_only_where_the_settings_say_so(address: str) -> None:
    request = request_from(Peer(address=address))
    assert is_local(request, authorize_loopback=True)
    assert not is_local(request, authorize_loopback=False)


@pytest.mark.parametrize(
    "address", [None, "", "192.0.2.7", "127.0.1.1", "127.1.0.1", "1127.0.0.1", "::ffff:192.0.2.7", "::", "localhost"]
)
def test_no_other_address_is_local(address: str | None) -> None:
    assert not is_local(request_from(Peer(address=address)), authorize_loopback=True)


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip"])
@pytest.mark.parametrize("peer", [SOCKET, LOOPBACK])
def test_a_request_that_a_proxy_passed_on_is_not_local(header: str, peer: Peer) -> None:
    assert not is_local(request_from(peer, {header: "127.0.0.1"}), authorize_loopback=True)


@pytest.mark.parametrize("origin", ["http://localhost:9925", "https://127.0.0.1", "http://[::1]:3000"])
def test_a_page_of_this_machine_is_local(origin: str) -> None:
    assert is_local(request_from(LOOPBACK, {"origin": origin}), authorize_loopback=True)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://evil.example:9925",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "null",
        "",
        "http://[",
    ],
)
def test_a_page_of_another_host_is_not_local(origin: str) -> None:
    assert not is_local(request_from(LOOPBACK, {"origin": origin}), authorize_loopback=True)
