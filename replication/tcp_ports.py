"""TCP ports to listen on: an address as a value, and the sockets that it asks for."""

import errno
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from storage.errors import DatabaseError

BACKLOG: Final = 1024
_IS_NOT_SUPPORTED: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))


class CannotListen(DatabaseError):
    """A wanted port is not to be had; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a listener binds. ``host`` None means every interface, port 0 lets the system choose."""

    port: int
    host: str | None = None

    def __str__(self) -> str:
        if self.host is None:
            return str(self.port)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def open_tcp(address: Address, purpose: str) -> tuple[socket.socket, ...]:
    """One listening socket for each address that the host has; the caller closes them.

    Every interface is two sockets on one port: IPv4 and, where the system has it, IPv6. ``purpose`` names the port in
    the message of ``CannotListen``. Resolves host names, so it may block.
    """
    port = address.port
    opened: list[socket.socket] = []
    with ExitStack() as closing:
        try:
            for family, place in _resolved(address):
                try:
                    listener = _bound(family, (place, port))
                except OSError as error:
                    if opened and error.errno in _IS_NOT_SUPPORTED:
                        continue
                    raise
                closing.callback(listener.close)
                opened.append(listener)
                port = listener.getsockname()[1]
        except OSError as error:
            raise CannotListen(f"cannot listen for {purpose} on {address}: {error.strerror}") from error
        closing.pop_all()
    return tuple(opened)


def _resolved(address: Address) -> list[tuple[int, str]]:
    if address.host is None:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
    )
    places = ((int(family), str(place[0])) for family, _, _, _, place in found)
    return sorted(dict.fromkeys(places), key=lambda one: one[0])


def _bound(family: int, place: tuple[str, int]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
