import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.listeners import SOCKET_PATH_BYTES_MAX, Listening, open_listeners
from ops.serving_settings import Address, ServingSettings
from replication.tcp_ports import CannotListen


@contextmanager
def opened(**settings: Any) -> Iterator[tuple[Listening, ...]]:
    listening = open_listeners(ServingSettings(**settings))
    try:
        yield listening
    finally:
        for one in listening:
            one.close()


def port_of(listening: Listening) -> int:
    return int(listening.socket.getsockname()[1])


def can_connect(family: int, place: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        return client.connect_ex(place) == 0


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def test_an_address_is_the_only_one_listened_on() -> None:
    with opened(plain=Address(port=0, host="127.0.0.2")) as (listening,):
        assert can_connect(socket.AF_INET, ("127.0.0.2", port_of(listening)))
        assert not can_connect(socket.AF_INET, ("127.0.0.1", port_of(listening)))
        assert listening.url == f"http://127.0.0.2:{port_of(listening)}"


def test_a_port_alone_is_one_port_of_every_interface() -> None:
    with opened(secure=Address(port=0)) as listening:
        ports = {port_of(one) for one in listening}
        assert len(ports) == 1
        assert can_connect(socket.AF_INET, ("127.0.0.3", *ports))
        if has_ipv6():
            assert can_connect(socket.AF_INET6, ("::1", *ports))
        assert {one.url for one in listening} == {f"https://localhost:{ports.pop()}"}


@pytest.mark.skipif(not has_ipv6(), reason="this system has no IPv6")
def test_an_address_may_be_one_of_ipv6() -> None:
    with opened(plain=Address(port=0, host="::1")) as (listening,):
        assert can_connect(socket.AF_INET6, ("::1", port_of(listening)))
        assert listening.url == f"http://[::1]:{port_of(listening)}"


def test_a_host_may_be_a_name() -> None:
    with opened(plain=Address(port=0, host="localhost")) as listening:
        assert can_connect(socket.AF_INET, ("127.0.0.1", port_of(listening[0])))


def test_a_port_that_is_taken_is_named() -> None:
    with opened(plain=Address(port=0, host="127.0.0.1")) as (taken,):
        port = port_of(taken)
        with pytest.raises(
            CannotListen, match=rf"cannot listen for HTTPS on 127\.0\.0\.1:{port}: Address already in use"
        ):
            open_listeners(ServingSettings(secure=Address(port=port, host="127.0.0.1")))


def test_a_host_that_is_unknown_is_named() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen for HTTP on nowhere\.invalid:1: "):
        open_listeners(ServingSettings(plain=Address(port=1, host="nowhere.invalid")))


def test_when_one_is_not_to_be_had_none_stays_open() -> None:
    with opened(plain=Address(port=0, host="127.0.0.1")) as (free,):
        port = port_of(free)
    with opened(plain=Address(port=0, host="127.0.0.1")) as (taken,):
        settings = ServingSettings(
            plain=Address(port=port, host="127.0.0.1"), secure=Address(port=port_of(taken), host="127.0.0.1")
        )
        with pytest.raises(CannotListen):
            open_listeners(settings)
        assert not can_connect(socket.AF_INET, ("127.0.0.1", port))


def test_closed_ports_are_not_opened() -> None:
    assert open_listeners(ServingSettings()) == ()


def test_a_domain_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with opened(domain_socket=path) as (listening,):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert can_connect(socket.AF_UNIX, str(path))
        assert listening.is_local_socket
        assert listening.url is None
    assert not path.exists()


def test_a_domain_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with opened(domain_socket=path):
        assert can_connect(socket.AF_UNIX, str(path))


def test_a_file_in_the_place_of_a_domain_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("somebody's")
    with pytest.raises(CannotListen, match=str(path)):
        open_listeners(ServingSettings(domain_socket=path))
    assert path.read_text() == "somebody's"


def test_a_domain_socket_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with opened(domain_socket=path), socket.socket(socket.AF_UNIX) as other:
        path.rename(tmp_path / "moved")
        other.bind(str(path))
    assert path.is_socket()


def test_a_path_that_is_too_long_is_warned_of_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / ("s" * SOCKET_PATH_BYTES_MAX)
    with opened(domain_socket=path) as listening:
        assert listening == ()
    assert str(path) in caplog.text
