import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from replication.tcp_ports import Address, CannotListen, open_tcp


@contextmanager
def opened(address: Address) -> Iterator[tuple[socket.socket, ...]]:
    with ExitStack() as closing:
        sockets = open_tcp(address, "testing")
        for one in sockets:
            closing.callback(one.close)
        yield sockets


def can_connect(host: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


def test_an_address_is_the_only_one_listened_on() -> None:
    with opened(Address(port=0, host="127.0.0.2")) as (one,):
        assert can_connect("127.0.0.2", one.getsockname()[1])
        assert not can_connect("127.0.0.1", one.getsockname()[1])


def test_a_port_alone_is_one_port_of_every_interface() -> None:
    with opened(Address(port=0)) as sockets:
        (port,) = {one.getsockname()[1] for one in sockets}
        assert can_connect("127.0.0.3", port)


def test_a_port_that_is_taken_is_named() -> None:
    with opened(Address(port=0, host="127.0.0.1")) as (taken,):
        address = Address(port=taken.getsockname()[1], host="127.0.0.1")
        with pytest.raises(CannotListen, match=rf"cannot listen for testing on {address}: Address already in use"):
            open_tcp(address, "testing")


def test_a_host_that_is_unknown_is_named() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen for testing on nowhere\.invalid:1: "):
        open_tcp(Address(port=1, host="nowhere.invalid"), "testing")


def test_an_address_is_written_as_in_a_url() -> None:
    assert [str(Address(port=1, host=host)) for host in (None, "a", "::1")] == ["1", "a:1", "[::1]:1"]
