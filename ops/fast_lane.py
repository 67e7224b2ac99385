"""``POST /`` over HTTP/1.1, answered on httptools without a general server around it: the path of nearly all requests.

The lane only answers what it understands to the last byte. Whatever else comes - another path, a chunked body,
``Expect``, an upgrade, a head that llhttp refuses or that is too large - leaves it whole, with all its bytes, to the
general server (``hypercorn_connection``), and the connection stays there. So the lane refuses nothing, and what is
refused is refused in one place and in one way. The one exception is a client that is too slow, which ``connection``
ends on both ways.

llhttp reads heads alone: a body here is as long as ``Content-Length`` says. Requests of one connection are answered one
after the other; what a client sends ahead waits in its buffer, and then in the system's.
"""

import logging
import math
from collections.abc import AsyncIterator, Mapping
from typing import Final

import httptools
import trio

from ops.connection import Connection, Connections, Phase
from ops.cors import CorsPolicy, cors_headers
from ops.http import Dispatcher, Request, Response
from ops.server_headers import BODILESS, add_header, server_headers, status_line
from ops.serving_settings import ServingSettings

log = logging.getLogger("http")

REQUEST_LINE: Final = b"POST / HTTP/1.1\r\n"
END_OF_HEAD: Final = b"\r\n\r\n"
JOINED_BYTES_MAX: Final = 64 * 1024
"""Up to this size head and body go out as one; joining costs less than another system call."""
BODY_PIECE_BYTES: Final = 256 * 1024
_NOT_OF_THE_LANE: Final = frozenset(("transfer-encoding", "expect", "upgrade"))


class _Head:
    """What a request's head says."""

    __slots__ = ("closes", "headers", "length")

    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers
        self.length = int(headers.get("content-length", 0))
        self.closes = "close" in (token.strip() for token in headers.get("connection", "").lower().split(","))


class _HeadReader:
    """What httptools calls while it reads a head."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        add_header(self.headers, name, value)


def _read_head(head: bytes) -> _Head | None:
    """The head of a request that the lane answers, None for any other."""
    reader = _HeadReader()
    try:
        httptools.HttpRequestParser(reader).feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    headers = reader.headers
    # Two hosts have been joined by a comma, which no name of a host contains.
    if "," in headers.get("host", ",") or not _NOT_OF_THE_LANE.isdisjoint(headers):
        return None
    return _Head(headers)


def _may_be_ours(received: bytes) -> bool:
    return received.startswith(REQUEST_LINE) or REQUEST_LINE.startswith(received)


def _end_of_head(received: bytes, bytes_max: int) -> int:
    """Where the head of a request of the lane ends; 0 where it does not, or not within ``bytes_max``."""
    if not received.startswith(REQUEST_LINE):
        return 0
    found = received.find(END_OF_HEAD, 0, bytes_max)
    return 0 if found < 0 else found + len(END_OF_HEAD)


class FastLane:
    """Serves one connection, from its beginning or from a place between two requests."""

    def __init__(
        self,
        connection: Connection,
        connections: Connections,
        dispatcher: Dispatcher,
        cors: CorsPolicy,
        settings: ServingSettings,
    ) -> None:
        self._connection = connection
        self._connections = connections
        self._dispatcher = dispatcher
        self._cors = cors
        self._settings = settings
        self._number = 0
        self._last_head_bytes = b""
        self._last_head: _Head | None = None

    async def serve(self) -> bytes:
        """Answer until a request comes that is not the lane's, and return its bytes; empty: the connection is at its
        end.

        Raises ``trio.BrokenResourceError`` when the client goes away while it is sent an answer.
        """
        connection = self._connection
        received = await connection.receive()
        while received:
            received, head_end = await self._with_whole_head(received)
            head = self._head(received[:head_end]) if head_end else None
            if head is None or head.length > self._settings.body_bytes_max:
                return received
            body_end = head_end + head.length
            if len(received) < body_end:
                body, after = await self._whole_body(received[head_end:], head.length), b""
                if len(body) < head.length:
                    return received[:head_end] + body
            else:
                body, after = received[head_end:body_end], received[body_end:]
            if await self._answer(head, body):
                connection.has_unread = bool(after)
                return b""
            received = after or await self._next_request()
        return b""

    async def _next_request(self) -> bytes:
        self._connection.phase = Phase.IDLE
        self._connection.receive_by = trio.current_time() + self._settings.keep_alive_timeout_s
        return await self._connection.receive()

    async def _with_whole_head(self, received: bytes) -> tuple[bytes, int]:
        """What has come, and where its head ends; 0 where this is no request of the lane, or none any more."""
        bytes_max = self._settings.header_bytes_max
        head_end = _end_of_head(received, bytes_max)
        if head_end or not _may_be_ours(received):
            return received, head_end
        self._connection.phase = Phase.HEAD
        self._connection.receive_by = trio.current_time() + self._settings.header_timeout_s
        while not head_end and len(received) < bytes_max and _may_be_ours(received):
            more = await self._connection.receive()
            if not more:
                break
            received += more
            head_end = _end_of_head(received, bytes_max)
        return received, head_end

    def _head(self, head: bytes) -> _Head | None:
        """Clients send the same head again and again: the last one is not read twice."""
        if head != self._last_head_bytes:
            self._last_head = _read_head(head)
            self._last_head_bytes = head
        return self._last_head

    async def _whole_body(self, begun: bytes, length: int) -> bytes:
        """The body that begins with ``begun``; shorter than ``length`` when the client ends before."""
        connection = self._connection
        connection.phase = Phase.BODY
        pieces = [begun]
        missing = length - len(begun)
        while missing:
            connection.receive_by = trio.current_time() + self._settings.timeout_s
            piece = await connection.receive(min(missing, BODY_PIECE_BYTES))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    async def _answer(self, head: _Head, body: bytes) -> bool:
        """Answer one request. True: the connection ends with it."""
        connection = self._connection
        connection.phase = Phase.WORKING
        connection.receive_by = math.inf
        self._number += 1
        connection.answering = self._number
        request = Request(method="POST", target="/", headers=head.headers, body=body, peer=connection.peer)
        response = await self._dispatcher(request)
        closes = head.closes or response.close or self._connections.keeps_none
        if isinstance(response.body, bytes):
            await self._send_whole(response, response.body, head, closes)
        else:
            closes = not await self._send_stream(response, response.body, head, closes) or closes
        connection.answering = 0
        return closes

    async def _send_whole(self, response: Response, body: bytes, head: _Head, closes: bool) -> None:
        if response.status in BODILESS:
            framing, body = "", b""
        elif response.chunked:
            framing = "transfer-encoding: chunked\r\n"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        else:
            framing = f"content-length: {len(body)}\r\n"
        answer_head = self._answer_head(response, head, framing, closes)
        if len(body) <= JOINED_BYTES_MAX:
            await self._connection.send(answer_head + body)
        else:
            await self._connection.send(answer_head)
            await self._connection.send(body)

    async def _send_stream(self, response: Response, pieces: AsyncIterator[bytes], head: _Head, closes: bool) -> bool:
        """False: the pieces broke off, and so must the connection, for the client to notice. The head waits for the
        first piece.
        """
        unsent = self._answer_head(response, head, "transfer-encoding: chunked\r\n", closes)
        try:
            async for piece in pieces:
                if piece:
                    await self._connection.send(b"%b%x\r\n%b\r\n" % (unsent, len(piece), piece))
                    unsent = b""
        except trio.BrokenResourceError:
            raise
        except Exception:
            log.exception("an answer broke off")
            return False
        finally:
            await close_stream(pieces)
        await self._connection.send(unsent + b"0\r\n\r\n")
        return True

    def _answer_head(self, response: Response, head: _Head, framing: str, closes: bool) -> bytes:
        cors = cors_headers(self._cors, head.headers.get("origin"))
        fields = "".join([f"{name}: {value}\r\n" for name, value in (*server_headers(), *cors, *response.headers)])
        end = "connection: close\r\n\r\n" if closes else "\r\n"
        return f"{status_line(response.status)}{fields}{framing}{end}".encode("latin-1")


async def close_stream(pieces: AsyncIterator[bytes]) -> None:
    """Let a generator that was not read to its end release what it holds, now rather than when it is collected."""
    aclose = getattr(pieces, "aclose", None)
    if aclose is not None:
        await aclose()
