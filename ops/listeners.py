"""Opens the sockets that the server listens on: TCP with and without TLS, and the unix domain socket of the command
line.

What a connection is trusted with depends on the socket it came in by, so each listening socket says what it is.
"""

import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.serving_settings import ServingSettings
from replication.tcp_ports import BACKLOG, Address, CannotListen, open_tcp

log = logging.getLogger("http")

SOCKET_PATH_BYTES_MAX: Final = 107
"""``sun_path`` holds 108 bytes on Linux, the last of them zero."""
SOCKET_MODE: Final = 0o600
"""Requests over the socket need no credentials: the file's permissions are the guard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A socket that listens. The one who opened it closes it, by ``close``."""

    socket: socket.socket
    is_tls: bool = False
    host: str | None = None
    """As configured; None for every interface."""
    path: Path | None = None
    """Of a unix domain socket, None otherwise."""
    inode: int | None = None
    """Of the file at ``path``, as this socket made it."""

    @property
    def is_local_socket(self) -> bool:
        return self.path is not None

    @property
    def url(self) -> str | None:
        """Where clients of this machine reach it; None for a unix domain socket."""
        if self.path is not None:
            return None
        port = self.socket.getsockname()[1]
        return f"{'https' if self.is_tls else 'http'}://{Address(port=port, host=self.host or 'localhost')}"

    def close(self) -> None:
        """Close the socket; a file of a unix domain socket that is still this one goes with it."""
        if self.path is not None and _inode(self.path) == self.inode:
            self.path.unlink(missing_ok=True)
        self.socket.close()


def open_listeners(settings: ServingSettings) -> tuple[Listening, ...]:
    """All that ``settings`` ask for, or none: raises ``CannotListen`` for the first that cannot be had.

    Resolves host names, so it may block.
    """
    with ExitStack() as opened:
        listening = []
        for one in _opened(settings):
            opened.callback(one.close)
            listening.append(one)
        opened.pop_all()
        return tuple(listening)


def _opened(settings: ServingSettings) -> Iterator[Listening]:
    if settings.plain is not None:
        yield from _open_tcp(settings.plain, is_tls=False)
    if settings.secure is not None:
        yield from _open_tcp(settings.secure, is_tls=True)
    if settings.domain_socket is not None:
        yield from _open_domain_socket(settings.domain_socket)


def _open_tcp(address: Address, *, is_tls: bool) -> Iterator[Listening]:
    for listener in open_tcp(address, "HTTPS" if is_tls else "HTTP"):
        yield Listening(socket=listener, is_tls=is_tls, host=address.host)


def _open_domain_socket(path: Path) -> Iterator[Listening]:
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        log.warning("no domain socket: its path is longer than %d bytes: %s", SOCKET_PATH_BYTES_MAX, path)
        return
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_old_socket(path)
        listener.bind(os.fspath(path))
        # Nobody can connect before ``listen``, so that there is no moment with other permissions.
        path.chmod(SOCKET_MODE)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(f"cannot listen on the domain socket {path}: {error.strerror}") from error
    yield Listening(socket=listener, path=path, inode=_inode(path))


def _remove_old_socket(path: Path) -> None:
    """What a node that ended without cleaning up has left. Anything but a socket is not ours and makes ``bind`` fail."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None
