"""The HTTP server of the operations API: listeners, the TLS handshake, and who serves each connection.

    accept -> TLS handshake -> HTTP/2, or no fast lane: HypercornConnection
                            -> HTTP/1.1: FastLane -> (a request that is not the lane's) -> HypercornConnection

Everything a connection does ends with its own scope; a failure ends that connection and nothing else. Stopping closes
the listeners and the idle connections at once, lets running requests end for ``drain_s``, then cancels what is left.
"""

import logging
import ssl
from functools import partial
from http import HTTPStatus
from typing import Final

import trio
from quart_trio import QuartTrio

from ops.connection import Connection, Connections, ConnectionStatistics, Phase, Stream
from ops.cors import cors_policy
from ops.fast_lane import FastLane
from ops.http import Dispatcher, Peer
from ops.hypercorn_connection import HypercornConnection, general_server
from ops.listeners import Listening, open_listeners
from ops.operations_app import OperationsApp
from ops.server_answers import guarded
from ops.serving_settings import ServingSettings
from ops.web import WebServer, create_web_app

log = logging.getLogger("http")

HTTP2: Final = "h2"


class HttpServer:
    """``urls = await nursery.start(server.run)``; ``server.stop()`` ends it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        settings: ServingSettings,
        tls: ssl.SSLContext | None = None,
        *,
        pages: QuartTrio | None = None,
    ) -> None:
        """``tls`` is for the secure listener, and says whether HTTP/2 is offered. ``pages`` is ``create_web_app`` with
        more on it."""
        if settings.secure is not None and tls is None:
            raise ValueError("a secure listener needs an SSLContext")
        self._settings = settings
        self._tls = tls
        self._cors = cors_policy(settings)
        self._dispatcher = guarded(dispatcher)
        self._connections = Connections(settings)
        operations = OperationsApp(self._dispatcher, self._cors, self._connections, settings)
        web = WebServer(operations, pages or create_web_app(self._cors, settings))
        self._general = general_server(web, self._connections, settings)
        self._stop = trio.Event()

    def stop(self) -> None:
        """Begin to stop; ``run`` returns when it has."""
        self._stop.set()

    def statistics(self) -> ConnectionStatistics:
        return self._connections.statistics()

    async def run(self, *, task_status: trio.TaskStatus[tuple[str, ...]] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until ``stop``. Started with the URLs that are served. Raises ``CannotListen``."""
        listening = await trio.to_thread.run_sync(open_listeners, self._settings)
        try:
            async with trio.open_nursery() as upkeep:
                upkeep.start_soon(self._connections.run)
                async with trio.open_nursery() as requests:
                    await self._accept_until_stop(listening, requests, task_status)
                    self._connections.stop()
                    await self._general.stop()
                    requests.cancel_scope.deadline = trio.current_time() + self._settings.drain_s
                upkeep.cancel_scope.cancel()
        finally:
            for one in listening:
                one.close()

    async def _accept_until_stop(
        self, listening: tuple[Listening, ...], requests: trio.Nursery, task_status: trio.TaskStatus[tuple[str, ...]]
    ) -> None:
        async with trio.open_nursery() as accepting:
            for one in listening:
                accepting.start_soon(
                    partial(trio.serve_listeners, handler_nursery=requests),
                    partial(self._serve, one),
                    [_Door(one, self._connections)],
                )
            task_status.started(tuple(dict.fromkeys(one.url for one in listening if one.url is not None)))
            await self._stop.wait()
            accepting.cancel_scope.cancel()

    async def _serve(self, listening: Listening, transport: trio.SocketStream) -> None:
        """One connection. ``transport`` is closed by ``serve_listeners`` whatever happens here."""
        try:
            connection = self._connection(listening, transport)
            with self._connections.watching(connection):
                with connection.scope:
                    await self._answer_on(connection)
                await connection.end(_refusal(connection))
        except* (OSError, trio.BrokenResourceError) as gone:
            log.debug("a client left: %s", gone.exceptions[0])
        except* Exception:
            log.exception("a connection failed")
        finally:
            self._connections.leave_room()

    def _connection(self, listening: Listening, transport: trio.SocketStream) -> Connection:
        settings = self._settings
        address = None if listening.is_local_socket else str(transport.socket.getpeername()[0])
        peer = Peer(address=address, is_local_socket=listening.is_local_socket, is_tls=listening.is_tls)
        stream: Stream = transport
        first_bytes_s = settings.header_timeout_s
        if listening.is_tls:
            assert self._tls is not None
            stream = trio.SSLStream(transport, self._tls, server_side=True)
            first_bytes_s = settings.handshake_timeout_s
        return Connection(stream, peer, timeout_s=settings.timeout_s, receive_by=trio.current_time() + first_bytes_s)

    async def _answer_on(self, connection: Connection) -> None:
        stream = connection.stream
        if isinstance(stream, trio.SSLStream):
            await stream.do_handshake()
            connection.is_http2 = stream.selected_alpn_protocol() == HTTP2
            connection.receive_by = trio.current_time() + self._settings.header_timeout_s
        received = b""
        if self._settings.fast_lane and not connection.is_http2:
            lane = FastLane(connection, self._connections, self._dispatcher, self._cors, self._settings)
            received = await lane.serve()
            if not received:
                return
        await HypercornConnection(self._general, connection).serve(received)


class _Door(trio.abc.Listener[trio.SocketStream]):
    """A listener that lets a connection in when there is room for it."""

    def __init__(self, listening: Listening, connections: Connections) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.socket))
        self._connections = connections

    async def accept(self) -> trio.SocketStream:
        stream = await self._listener.accept()
        try:
            await self._connections.wait_for_room()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    async def aclose(self) -> None:
        await self._listener.aclose()


def _refusal(connection: Connection) -> HTTPStatus | None:
    """What a client is told that was too slow with its request; one that sent nothing is told nothing."""
    is_mid_request = connection.phase in (Phase.HEAD, Phase.BODY) and not connection.is_http2
    return HTTPStatus.REQUEST_TIMEOUT if connection.is_late and is_mid_request else None
