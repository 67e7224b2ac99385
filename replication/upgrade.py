"""The HTTP request that turns a connection into a websocket (RFC 6455, section 4), both sides of it.

One request is answered, ``GET / HTTP/1.1`` with the subprotocol ``commitlog.v1`` and without extensions; its first
bytes decide whether the rest is read. A refusal says why in its body.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.utilities import ProtocolError

from replication.errors import LinkLost, PeerRefused, RemoteProtocolError
from replication.transport import GOODBYE_S, SUBPROTOCOL, Stream, clean_reason, linger, transport_of

REQUEST_LINE: Final = b"GET / HTTP/1.1\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_Malformed: Final = (ProtocolError, h11.ProtocolError, UnicodeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeRequest:
    """A peer that asks for a websocket; the answer is ``accept_upgrade`` or ``refuse_upgrade``."""

    authorization: str | None
    websocket: WSConnection
    unread: bytes
    """What came behind the request."""


async def receive_upgrade(stream: Stream, *, head_bytes_max: int) -> UpgradeRequest:
    """Raises ``RemoteProtocolError`` for any other request, ``LinkLost`` where the peer leaves."""
    received = await _receive_head(stream, head_bytes_max)
    head, _, unread = received.partition(_HEAD_END)
    websocket = WSConnection(ConnectionType.SERVER)
    try:
        websocket.receive_data(bytes(head + _HEAD_END))
        request = next(websocket.events(), None)
        if not isinstance(request, Request):
            raise RemoteProtocolError("not a websocket upgrade")
        authorization = _authorization(request)
    except _Malformed as error:
        raise RemoteProtocolError(f"not a websocket upgrade: {clean_reason(str(error))}") from error
    if SUBPROTOCOL not in request.subprotocols:
        raise RemoteProtocolError(f"only {SUBPROTOCOL} is spoken here", code="version")
    return UpgradeRequest(authorization=authorization, websocket=websocket, unread=bytes(unread))


async def _receive_head(stream: Stream, bytes_max: int) -> bytearray:
    received = bytearray()
    while _HEAD_END not in received:
        if len(received) >= bytes_max:
            raise RemoteProtocolError(f"the head of the request is longer than {bytes_max} bytes", code="too-large")
        chunk = await stream.receive_some(bytes_max - len(received))
        if not chunk:
            raise LinkLost("the peer left before its request was whole")
        received += chunk
        if received[: len(REQUEST_LINE)] != REQUEST_LINE[: len(received)]:
            raise RemoteProtocolError("only a websocket upgrade of / is answered here")
    return received


def _authorization(request: Request) -> str | None:
    values = [value for name, value in request.extra_headers if name == b"authorization"]
    if len(values) > 1:
        raise RemoteProtocolError("more than one Authorization header")
    return values[0].decode("ascii") if values else None


async def accept_upgrade(stream: Stream, request: UpgradeRequest) -> WSConnection:
    """From here on the connection carries frames."""
    await stream.send_all(request.websocket.send(AcceptConnection(subprotocol=SUBPROTOCOL)))
    request.websocket.receive_data(request.unread)
    return request.websocket


async def refuse_upgrade(stream: Stream, status: HTTPStatus, reason: str) -> None:
    """Answer with the reason and end the connection, as far as the peer takes it."""
    body = clean_reason(reason).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    with trio.move_on_after(GOODBYE_S):
        try:
            await stream.send_all(head.encode("ascii") + body)
            await linger(transport_of(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The peer did not wait for the answer.


async def request_upgrade(
    stream: Stream, *, host: str, authorization: str | None, answer_bytes_max: int
) -> WSConnection:
    """Raises ``PeerRefused`` with the reason of the other side, ``RemoteProtocolError`` for an answer that is none,
    ``LinkLost`` where the connection ends.
    """
    websocket = WSConnection(ConnectionType.CLIENT)
    await stream.send_all(_request(websocket, host, authorization))
    answer = _Answer(websocket)
    left = answer_bytes_max
    while not answer.is_accepted():
        if left <= 0:
            raise RemoteProtocolError(f"the answer to the upgrade is longer than {answer_bytes_max} bytes")
        chunk = await stream.receive_some(left)
        if not chunk:
            raise answer.ended()
        left -= len(chunk)
        answer.receive(bytes(chunk))
    return websocket


def _request(websocket: WSConnection, host: str, authorization: str | None) -> bytes:
    try:
        headers = [] if authorization is None else [(b"Authorization", authorization.encode("ascii"))]
        return websocket.send(Request(host=host, target="/", subprotocols=[SUBPROTOCOL], extra_headers=headers))
    except _Malformed:
        # Without the cause: it may quote the credentials.
        raise LinkLost("its host or the credentials for it cannot stand in an HTTP header") from None


class _Answer:
    """The server's answer as far as it is here."""

    def __init__(self, websocket: WSConnection) -> None:
        self._websocket = websocket
        self._status: int | None = None
        self._body = bytearray()

    def receive(self, data: bytes) -> None:
        try:
            self._websocket.receive_data(data)
        except _Malformed as error:
            raise RemoteProtocolError("the answer to the upgrade is not one of a websocket server") from error

    def is_accepted(self) -> bool:
        for event in self._websocket.events():
            match event:
                case AcceptConnection():
                    if event.subprotocol != SUBPROTOCOL:
                        raise RemoteProtocolError(f"it does not speak {SUBPROTOCOL}", code="version")
                    return True
                case RejectConnection():
                    self._status = event.status_code
                    if not event.has_body:
                        raise self.ended()
                case RejectData():
                    self._body += event.data
                    if event.body_finished:
                        raise self.ended()
        return False

    def ended(self) -> PeerRefused | LinkLost:
        """What an answer means that nothing follows."""
        if self._status is None:
            return LinkLost("the peer closed the connection instead of answering the upgrade")
        return PeerRefused(clean_reason(bytes(self._body)) or f"upgrade answered with HTTP status {self._status}")
