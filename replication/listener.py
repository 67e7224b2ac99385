"""Where peers dial in: the secure port with TLS, and the plain one of the insecure mode.

    accept -> TLS handshake -> upgrade request -> admit -> websocket -> serve

``admit`` decides from the certificate, the credentials or, on the plain port, the address. Up to there a connection is
one of a bounded number and has bounded times, and whatever it does ends itself only.
"""

import logging
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, TypeAlias

import trio
from cryptography import x509

from replication.connection import Connection, PeerIdentity, Serve
from replication.errors import LinkLost, PeerRefused, RemoteProtocolError, ReplicationError
from replication.tcp_ports import Address, open_tcp
from replication.transport import (
    Stream,
    TransportSettings,
    WatchedStream,
    certificate_of,
    clean_reason,
    reason_of,
    shake_hands,
    tls_stream,
    within,
)
from replication.upgrade import UpgradeRequest, accept_upgrade, receive_upgrade, refuse_upgrade
from replication.websocket import WebSocketConnection

log = logging.getLogger("replication")

REFUSAL_LOG_S: Final = 1.0
"""One refusal of an address is logged in this time: a peer that dials on and on must not fill the log."""
REFUSAL_ADDRESSES_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A peer that asks to be let in, with all that it has shown."""

    certificate: x509.Certificate | None
    address: str
    authorization: str | None
    """Value of its HTTP header, unchecked."""
    is_secure: bool
    """False on the plain port, where the address is the identity."""


Admit: TypeAlias = Callable[[Incoming], Awaitable[PeerIdentity]]
"""Raises ``PeerRefused`` with a reason that the peer is told."""


class ReplicationListener:
    """``await nursery.start(listener.run, serve)``; a ``Listener``."""

    def __init__(
        self,
        secure: Address | None,
        plain: Address | None,
        tls_server_context: Callable[[], ssl.SSLContext],
        admit: Admit,
        settings: TransportSettings,
    ) -> None:
        """``tls_server_context`` is asked for each handshake."""
        self._secure = secure
        self._plain = plain
        self._tls_server_context = tls_server_context
        self._admit = admit
        self._settings = settings
        self._unadmitted = _Unadmitted(settings.unadmitted_max)
        self._refusals = _RefusalLog()
        self.urls: tuple[str, ...] = ()
        """Where this machine reaches the open ports."""

    async def run(self, serve: Serve, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Raises ``CannotListen`` where a port is not to be had; then none stays open."""
        with ExitStack() as opened:
            listening = await trio.to_thread.run_sync(self._open, opened)
            async with trio.open_nursery() as connections:
                for is_secure, one in listening:
                    connections.start_soon(
                        partial(trio.serve_listeners, handler_nursery=connections),
                        partial(self._handle, serve, is_secure),
                        [trio.SocketListener(trio.socket.from_stdlib_socket(one))],
                    )
                task_status.started()

    def _open(self, opened: ExitStack) -> list[tuple[bool, socket.socket]]:
        listening = []
        urls: dict[str, None] = {}
        for is_secure, address in ((True, self._secure), (False, self._plain)):
            if address is None:
                continue
            for one in open_tcp(address, "replication"):
                opened.callback(one.close)
                listening.append((is_secure, one))
                place = Address(port=one.getsockname()[1], host=address.host or "localhost")
                urls[f"{'wss' if is_secure else 'ws'}://{place}"] = None
        self.urls = tuple(urls)
        return listening

    async def _handle(self, serve: Serve, is_secure: bool, transport: trio.SocketStream) -> None:
        """One connection. ``transport`` is closed by ``serve_listeners`` whatever happens here."""
        stream = WatchedStream(transport)
        try:
            address = stream.peer_address
        except OSError:
            return  # It has left already.
        try:
            connection = await self._admitted(stream, address, is_secure)
            if connection is not None:
                await serve(connection)
        except* ReplicationError as ended:
            log.debug("a connection ended: %s", reason_of(ended))
        except* Exception:
            log.exception("a connection failed")

    async def _admitted(self, transport: WatchedStream, address: str, is_secure: bool) -> Connection | None:
        """None for a peer that was refused, left, or was slow while others came."""
        connection = None
        with self._unadmitted.place():
            try:
                stream = await self._secured(transport) if is_secure else transport
                with within(self._settings.upgrade_s, "the upgrade"):
                    connection = await self._upgraded(stream, address)
            except LinkLost as error:
                log.debug("%s left: %s", address, error)
            except (PeerRefused, RemoteProtocolError, trio.BrokenResourceError, trio.TooSlowError) as error:
                self._refusals.tell(address, reason_of(error))
        return connection

    async def _secured(self, transport: WatchedStream) -> trio.SSLStream[WatchedStream]:
        stream = tls_stream(transport, self._tls_server_context(), server_side=True)
        with within(self._settings.handshake_s, "the TLS handshake"):
            await shake_hands(stream)
        return stream

    async def _upgraded(self, stream: Stream, address: str) -> Connection:
        try:
            request = await receive_upgrade(stream, head_bytes_max=self._settings.head_bytes_max)
            identity = await self._admit(_incoming(stream, request, address))
        except RemoteProtocolError as error:
            await refuse_upgrade(stream, HTTPStatus.BAD_REQUEST, str(error))
            raise
        except PeerRefused as error:
            await refuse_upgrade(stream, HTTPStatus.FORBIDDEN, str(error))
            raise
        return WebSocketConnection(stream, await accept_upgrade(stream, request), identity)


def _incoming(stream: Stream, request: UpgradeRequest, address: str) -> Incoming:
    return Incoming(
        certificate=certificate_of(stream) if isinstance(stream, trio.SSLStream) else None,
        address=address,
        authorization=request.authorization,
        is_secure=isinstance(stream, trio.SSLStream),
    )


class _Unadmitted:
    """Places for connections of which it is not known yet who they are.

    In a full house the oldest has to go rather than the newest to wait: an honest peer needs its place for moments,
    a silent one for as long as it may.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._scopes: dict[trio.CancelScope, None] = {}

    @contextmanager
    def place(self) -> Iterator[None]:
        if len(self._scopes) >= self._places:
            oldest = next(iter(self._scopes))
            del self._scopes[oldest]
            oldest.cancel()
        with trio.CancelScope() as scope:
            self._scopes[scope] = None
            try:
                yield
            finally:
                self._scopes.pop(scope, None)


class _RefusalLog:
    """Logs refusals, for each address one in ``REFUSAL_LOG_S``."""

    def __init__(self) -> None:
        self._told_at: dict[str, float] = {}

    def tell(self, address: str, reason: str) -> None:
        now = trio.current_time()
        if now - self._told_at.get(address, -math.inf) < REFUSAL_LOG_S:
            return
        if len(self._told_at) >= REFUSAL_ADDRESSES_MAX:
            self._told_at = {other: at for other, at in self._told_at.items() if now - at < REFUSAL_LOG_S}
        if len(self._told_at) >= REFUSAL_ADDRESSES_MAX:
            return
        self._told_at[address] = now
        log.warning("refused %s: %s", address, clean_reason(reason))
