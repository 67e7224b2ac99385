"""A server with a small dispatcher, and a client that sends exactly the bytes it is told to."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest
import trio
import trustme
from h2.connection import H2Connection
from h2.events import Event
from quart_trio import QuartTrio

from ops.http import Request, Response
from ops.http_server import HttpServer
from ops.serving_settings import Address, ServingSettings

HOST = "127.0.0.1"
JSON = (("content-type", "application/json"),)
AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert(HOST)
TEST_S_MAX = 20.0
"""No test waits longer than this for anything."""
LARGE = b"x" * 3_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How requests reach the dispatcher."""

    fast_lane: bool
    is_tls: bool = False

    def __str__(self) -> str:
        return f"{'lane' if self.fast_lane else 'general'}-{'tls' if self.is_tls else 'plain'}"


PLAIN_WAYS = [Way(fast_lane=True), Way(fast_lane=False)]
WAYS = [*PLAIN_WAYS, Way(fast_lane=True, is_tls=True), Way(fast_lane=False, is_tls=True)]


in_each_way = pytest.mark.parametrize("way", WAYS, ids=str)
in_each_plain_way = pytest.mark.parametrize("way", PLAIN_WAYS, ids=str)


class Echo:
    """Answers with what it was sent; some bodies ask for more."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.waiting = trio.Event()
        self.go_on = trio.Event()
        self.cancelled = trio.Event()
        self.stream_closed = trio.Event()

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        match request.body:
            case b'"wait"':
                await self._wait()
            case b'"raise"':
                raise RuntimeError("a handler's own mistake")
            case b'"split"':
                return Response(headers=(("x-told", "a\r\nx-hidden: b"),))
            case b'"frame"':
                return Response(headers=(("Content-Length", "1"),), body=b"22")
            case b'"stream"':
                return Response(headers=JSON, body=self._pieces(b"[1", b"", b",2]"))
            case b'"endless"':
                return Response(headers=JSON, body=self._endless())
            case b'"breaks"':
                return Response(headers=JSON, body=self._breaking())
            case b'"large"':
                return Response(headers=JSON, body=LARGE)
            case b'"nothing"':
                return Response(status=204)
        return Response(
            status=201 if request.body == b'"created"' else 200,
            headers=JSON,
            body=json.dumps({"length": len(request.body), "headers": dict(request.headers)}).encode(),
            chunked=request.body == b'"list"',
            close=request.body == b'"close"',
        )

    async def _wait(self) -> None:
        self.waiting.set()
        try:
            await self.go_on.wait()
        except trio.Cancelled:
            self.cancelled.set()
            raise

    async def _pieces(self, *pieces: bytes) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def _breaking(self) -> AsyncIterator[bytes]:
        yield b"[1"
        raise RuntimeError("a stream's own mistake")

    async def _endless(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield LARGE
        finally:
            self.stream_closed.set()


class Ended(Exception):
    """The server closed the connection where an answer was expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        values = [value for other, value in self.headers if other == name]
        assert len(values) <= 1, f"{name} comes {len(values)} times"
        return values[0] if values else None

    @property
    def content(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection. Sending and reading are separate, so that order and timing are the test's."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send_what_is_taken(self, data: bytes) -> None:
        """As ``send``, to a server that may close before it has taken all."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def end(self) -> None:
        """End this direction only."""
        assert isinstance(self.stream, trio.SocketStream)
        await self.stream.send_eof()

    async def leave(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def answer(self, *, method: str = "POST") -> Answer:
        """The next answer, whole. Raises ``Ended``, and ``h11.RemoteProtocolError`` where it breaks off."""
        if self._parser.our_state is h11.MUST_CLOSE:
            raise Ended
        if self._parser.our_state is h11.DONE:
            self._parser.start_next_cycle()
        self._parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._parser.send(h11.EndOfMessage())
        head: h11.Response | None = None
        body = bytearray()
        while True:
            event = self._parser.next_event()
            if event is h11.NEED_DATA:
                received = await self._received()
                if not received and head is None:
                    raise Ended
                self._parser.receive_data(received)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.InformationalResponse):
                pass
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = tuple((name.decode().lower(), value.decode("latin-1")) for name, value in head.headers)
                return Answer(status=head.status_code, headers=headers, body=bytes(body))
            else:
                raise Ended

    async def wait_closed(self) -> bytes:
        """Wait until the server has closed; what it sent before that no answer has taken."""
        rest = self._parser.trailing_data[0]
        while received := await self._received():
            rest += received
        return rest

    async def _received(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(1 << 16))
        except trio.BrokenResourceError:
            return b""


class Http2Client:
    """One connection of HTTP/2, for what a client library does not do."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.protocol = H2Connection()
        self.protocol.initiate_connection()
        self._stream = stream

    async def flush(self) -> None:
        await self._stream.send_all(self.protocol.data_to_send())

    async def post(self, stream_id: int, body: bytes) -> None:
        head = [(":method", "POST"), (":path", "/"), (":scheme", "https"), (":authority", "x")]
        self.protocol.send_headers(stream_id, head)
        self.protocol.send_data(stream_id, body, end_stream=True)
        await self.flush()

    async def wait_for(self, kind: type[Event], stream_id: int) -> None:
        """Read until that happens to the stream."""
        while True:
            received = bytes(await self._stream.receive_some())
            if not received:
                raise Ended
            for event in self.protocol.receive_data(received):
                if isinstance(event, kind) and getattr(event, "stream_id", None) == stream_id:
                    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A running server."""

    server: HttpServer
    echo: Echo
    urls: tuple[str, ...]
    way: Way
    stopped: trio.Event
    _streams: list[trio.abc.AsyncResource] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.urls[0].rpartition(":")[2])

    async def connect(self) -> Client:
        stream = await self.connect_transport()
        return Client(await _secured(stream, "http/1.1") if self.way.is_tls else stream)

    async def connect_http2(self) -> Http2Client:
        client = Http2Client(await _secured(await self.connect_transport(), "h2"))
        await client.flush()
        return client

    async def connect_transport(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream(HOST, self.port)
        self._streams.append(stream)
        return stream

    async def close_clients(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)


async def _secured(stream: trio.SocketStream, protocol: str) -> trio.SSLStream[trio.SocketStream]:
    context = trusting()
    context.set_alpn_protocols([protocol])
    secured = trio.SSLStream(stream, context, server_hostname=HOST, https_compatible=True)
    await secured.do_handshake()
    return secured


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def server_context(*, http2: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATE.configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    return context


@asynccontextmanager
async def serving(
    way: Way, *, http2: bool = False, pages: QuartTrio | None = None, **settings: Any
) -> AsyncIterator[Serving]:
    """A server for the body; stopped after it, when it must not take long."""
    address = Address(port=0, host=HOST)
    listeners = {"secure" if way.is_tls else "plain": address}
    echo = Echo()
    with trio.fail_after(TEST_S_MAX):
        async with trio.open_nursery() as nursery:
            server = HttpServer(
                echo,
                ServingSettings(fast_lane=way.fast_lane, **{**listeners, **settings}),
                server_context(http2=http2),
                pages=pages,
            )
            stopped = trio.Event()

            async def run(task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
                await server.run(task_status=task_status)
                stopped.set()

            urls = await nursery.start(run)
            running = Serving(server=server, echo=echo, urls=urls, way=way, stopped=stopped)
            try:
                yield running
            finally:
                echo.go_on.set()
                await running.close_clients()
                server.stop()


def post(body: bytes, *headers: str) -> bytes:
    """An operation's request as most clients send it."""
    lines = ("POST / HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", "Host: x", *headers, "")).encode("latin-1")


CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*chunks: bytes) -> bytes:
    return CHUNKED_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
