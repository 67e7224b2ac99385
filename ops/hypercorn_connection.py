"""The general server: Hypercorn speaks HTTP/1.1, HTTP/2 and websockets on a connection that our listener accepted.

Hypercorn's protocols are used as they are, its ``TCPServer`` is not: it has one timer for idling and slow heads
alike, shields sending from cancellation without a bound, and knows a unix domain socket only by what it lacks. This
file is the connection beneath the protocols in its place. It may begin with bytes that somebody else has read.
"""

import logging
import math
import sys
from dataclasses import dataclass
from typing import Any, Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

from ops.connection import Connection, Connections, Phase, transport_of
from ops.patient_h2 import PatientH2Protocol
from ops.server_headers import server_headers
from ops.serving_settings import ServingSettings
from ops.strict_h11 import StrictH11Protocol

APPLICATION_END_S: Final = 1.0
"""What the application's tasks get to end in when the connection has."""
WEBSOCKET_PING_S: Final = 25.0


class _Config(Config):
    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        return [(name.encode("ascii"), value.encode("ascii")) for name, value in server_headers()]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralServer:
    """What all connections of the general server share."""

    app: ASGIWrapper
    config: Config
    context: WorkerContext
    connections: Connections
    settings: ServingSettings

    async def stop(self) -> None:
        """Connections end after the request that runs on them."""
        await self.context.terminated.set()


def general_server(app: ASGIFramework, connections: Connections, settings: ServingSettings) -> GeneralServer:
    config = _Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("http")
    config.h11_max_incomplete_size = settings.header_bytes_max
    config.h2_max_header_list_size = settings.header_bytes_max
    config.keep_alive_max_requests = sys.maxsize
    config.websocket_ping_interval = WEBSOCKET_PING_S
    return GeneralServer(
        app=ASGIWrapper(app), config=config, context=WorkerContext(None), connections=connections, settings=settings
    )


class HypercornConnection:
    """Serves one connection to its end."""

    def __init__(self, server: GeneralServer, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._settings = server.settings
        self._sending = trio.Lock()
        self._reading = trio.CancelScope()
        self._answered = trio.Event()

    async def serve(self, received: bytes) -> None:
        """``received`` is what has come so far. What the application still runs afterwards is cancelled."""
        with trio.CancelScope() as tasks:
            async with TaskGroup() as task_group:
                protocol = self._protocol(task_group)
                await protocol.initiate()
                with self._reading:
                    await self._read(protocol, received)
                self._connection.has_unread = isinstance(protocol, StrictH11Protocol) and protocol.may_have_unread
                tasks.deadline = trio.current_time() + APPLICATION_END_S
                await protocol.handle(Closed())

    def _protocol(self, task_group: TaskGroup) -> PatientH2Protocol | StrictH11Protocol:
        peer = self._connection.peer
        transport = transport_of(self._connection.stream).socket
        server = None if peer.is_local_socket else transport.getsockname()[:2]
        arguments: tuple[Any, ...] = (
            self._server.app,
            self._server.config,
            self._server.context,
            task_group,
            ConnectionState({"peer": peer}),
            peer.is_tls,
            None if peer.address is None else (peer.address, 0),
            server,
            self._send,
        )
        if self._connection.is_http2:
            return PatientH2Protocol(*arguments)
        return StrictH11Protocol(*arguments, body_bytes_max=self._settings.body_bytes_max)

    async def _read(self, protocol: PatientH2Protocol | StrictH11Protocol, received: bytes) -> None:
        while received or (received := await self._connection.receive()):
            if self._connection.phase in (Phase.IDLE, Phase.BODY) and not self._connection.is_http2:
                self._wait_for(Phase.HEAD, self._settings.header_timeout_s)
            await protocol.handle(RawData(received))
            received = b""
        if isinstance(protocol, PatientH2Protocol) or protocol.has_whole_request:
            await self._outlast_half_close()
        await protocol.handle(RawData(b""))

    async def _outlast_half_close(self) -> None:
        """To Hypercorn a client that ends its direction has left, and what runs for it is cancelled."""
        with trio.move_on_after(self._settings.half_close_grace_s):
            while self._connection.phase is Phase.WORKING:
                await self._answered.wait()

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send_bytes(event.data)
        elif isinstance(event, Closed):
            self._reading.cancel()
        elif isinstance(event, Updated):
            self._note_idle(event.idle)

    async def _send_bytes(self, data: bytes) -> None:
        """Of a client that is gone the reader tells the protocol: it alone may, and it is in no task of the
        application.
        """
        async with self._sending:
            try:
                await self._connection.send(data)
            except trio.BrokenResourceError:
                self._reading.cancel()

    def _note_idle(self, is_idle: bool) -> None:
        if not is_idle:
            self._connection.phase = Phase.WORKING
            self._connection.receive_by = math.inf
            return
        self._wait_for(Phase.IDLE, self._settings.keep_alive_timeout_s)
        self._answered.set()
        self._answered = trio.Event()
        if self._server.connections.keeps_none:
            self._reading.cancel()

    def _wait_for(self, phase: Phase, timeout_s: float) -> None:
        self._connection.phase = phase
        self._connection.receive_by = trio.current_time() + timeout_s
