"""A websocket over TCP or TLS as a ``Connection``: each binary message is one frame of ours.

``wsproto`` parses what comes and makes control frames. Outgoing messages are framed here (RFC 6455, section 5.2), so that
a large one goes from the caller's bytes to the stream piece by piece; only a client has to mask, and the bulk of all
data flows from servers to clients.

Whoever receives never waits for sending: a pong goes out at once if the system takes it, else behind the next frame.
Otherwise two peers whose lines are full could wait for each other for ever.
"""

import os
import struct
from collections.abc import Iterator
from typing import Final

import trio
from wsproto import WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.frame_protocol import CloseReason, XorMaskerSimple
from wsproto.utilities import LocalProtocolError

from replication.connection import PeerIdentity
from replication.errors import LinkLost, PeerRefused, RemoteProtocolError, ReplicationError
from replication.transport import GOODBYE_S, Stream, clean_reason, linger, reason_of, transport_of

RECEIVE_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 64 * 1024
"""Of a large frame, what is masked, encrypted and sent at a time: it bounds the memory that sending needs."""
_WHOLE_BINARY: Final = 0x82
_MASKED: Final = 0x80
_CLOSE_CODES: Final = {"too-large": CloseReason.MESSAGE_TOO_BIG, "unsupported": CloseReason.UNSUPPORTED_DATA}


class WebSocketConnection:
    """``websocket`` is open, and ``peer`` is who was found at its other end."""

    def __init__(self, stream: Stream, websocket: WSConnection, peer: PeerIdentity) -> None:
        self._stream = stream
        self._transport = transport_of(stream)
        self._websocket = websocket
        self._peer = peer
        self._sending = trio.Lock()
        self._assembled = bytearray()
        """The message that is arriving; kept here, so that a cancelled ``receive`` loses nothing."""
        self._pong_due: bytes | None = None
        """Answer to the newest ping; older ones need none (RFC 6455, section 5.5.3)."""
        self._is_cut = False
        """A frame is on its way, or was left half-way: nothing can follow it."""
        self._is_closed = False

    @property
    def peer(self) -> PeerIdentity:
        return self._peer

    @property
    def last_byte_at(self) -> float:
        return self._transport.last_byte_at

    async def send(self, frame: bytes) -> None:
        async with self._sending:
            if self._is_closed or self._is_cut:
                raise LinkLost("the connection was closed here" if self._is_closed else "an earlier frame was cut off")
            self._is_cut = True
            try:
                for piece in self._pieces(frame):
                    await self._stream.send_all(piece)
                if self._pong_due is not None and not self._is_closed:
                    await self._stream.send_all(self._take_pong())
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkLost(reason_of(error)) from error
            self._is_cut = False

    async def receive(self, bytes_max: int) -> bytes:
        has_waited = False
        while True:
            try:
                frame = self._parse(bytes_max)
            except RemoteProtocolError as error:
                await self._end(_CLOSE_CODES.get(error.code, CloseReason.PROTOCOL_ERROR), str(error))
                raise
            except ReplicationError:
                await self._end(CloseReason.NORMAL_CLOSURE)
                raise
            if self._pong_due is not None:
                await self._answer_ping()
            if frame is not None:
                if not has_waited:
                    # A peer that sends many small frames must not keep all other tasks from running.
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return frame
            await self._read()
            has_waited = True

    async def close(self, reason: str = "") -> None:
        await self._end(CloseReason.NORMAL_CLOSURE, reason)

    def _pieces(self, frame: bytes) -> Iterator[bytes | bytearray | memoryview]:
        mask = os.urandom(4) if self._websocket.client else b""
        head = frame_head(len(frame), mask)
        masker = XorMaskerSimple(mask) if mask else None
        if len(frame) <= PIECE_BYTES:
            yield head + (masker.process(bytearray(frame)) if masker else frame)
            return
        yield head
        view = memoryview(frame)
        for start in range(0, len(view), PIECE_BYTES):
            piece = view[start : start + PIECE_BYTES]
            yield masker.process(bytearray(piece)) if masker else piece

    async def _read(self) -> None:
        try:
            chunk = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkLost(reason_of(error)) from error
        if not chunk:
            raise LinkLost("the peer closed the connection")
        self._websocket.receive_data(bytes(chunk))

    def _parse(self, bytes_max: int) -> bytes | None:
        """The next whole message of what is here. Events behind it stay with ``wsproto`` for the next call."""
        if self._is_closed:
            raise LinkLost("the connection was closed here")
        for event in self._websocket.events():
            match event:
                case BytesMessage():
                    if len(self._assembled) + len(event.data) > bytes_max:
                        raise RemoteProtocolError(f"a frame is longer than {bytes_max} bytes", code="too-large")
                    if event.message_finished:
                        return self._completed(bytes(event.data))
                    self._assembled += event.data
                case Ping():
                    self._pong_due = bytes(event.payload)
                case TextMessage():
                    raise RemoteProtocolError("the peer sent text where frames are binary", code="unsupported")
                case CloseConnection():
                    raise self._ended(event)
        return None

    def _completed(self, last: bytes) -> bytes:
        if not self._assembled:
            return last
        self._assembled += last
        frame = bytes(self._assembled)
        self._assembled = bytearray()
        return frame

    def _ended(self, event: CloseConnection) -> ReplicationError:
        """``wsproto`` shows what it cannot parse as a close as well, but leaves its state as it was."""
        reason = clean_reason(event.reason or "")
        if self._websocket.state is ConnectionState.OPEN:
            return RemoteProtocolError(f"the peer broke the websocket protocol: {reason}")
        return PeerRefused(reason) if reason else LinkLost("the peer closed the connection")

    async def _answer_ping(self) -> None:
        if self._is_cut or self._sending.locked() or not self._transport.takes_bytes_now():
            return
        self._sending.acquire_nowait()
        self._is_cut = True
        try:
            with trio.move_on_after(GOODBYE_S, shield=True) as scope:
                await self._stream.send_all(self._take_pong())
            self._is_cut = scope.cancelled_caught
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The next one who sends or receives is told.
        finally:
            self._sending.release()

    def _take_pong(self) -> bytes:
        payload, self._pong_due = self._pong_due or b"", None
        return self._websocket.send(Ping(payload=payload).response())

    async def _end(self, code: CloseReason, reason: str = "") -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with trio.move_on_after(GOODBYE_S, shield=True):
            try:
                if not self._is_cut and not self._sending.locked():
                    await self._say_goodbye(code, reason)
            except (
                trio.BrokenResourceError,
                trio.ClosedResourceError,
                trio.BusyResourceError,
                LocalProtocolError,
            ):
                pass  # There is nobody to say it to, or somebody still reads: who reads on needs no lingering.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._transport)

    async def _say_goodbye(self, code: CloseReason, reason: str) -> None:
        is_answer = self._websocket.state is ConnectionState.REMOTE_CLOSING
        await self._stream.send_all(self._websocket.send(CloseConnection(code=code, reason=clean_reason(reason))))
        if not is_answer:
            await linger(self._transport)


def frame_head(length: int, mask: bytes) -> bytes:
    """Head of the only frame of a binary message; ``mask`` is empty for a server."""
    masked = _MASKED if mask else 0
    if length <= 125:
        return struct.pack("!BB", _WHOLE_BINARY, masked | length) + mask
    if length <= 0xFFFF:
        return struct.pack("!BBH", _WHOLE_BINARY, masked | 126, length) + mask
    return struct.pack("!BBQ", _WHOLE_BINARY, masked | 127, length) + mask
