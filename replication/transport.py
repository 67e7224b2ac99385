"""What both sides of a connection between nodes share: limits, the stream below the websocket, its TLS handshake, and
errors put into words.

    listener.py, dialer.py   a TCP connection -> TLS -> identity -> upgrade.py -> websocket.py, a ``Connection``

The rule for all of them: nothing of a peer is parsed beyond bounded heads before it is known who it is.
"""

import select
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio
from cryptography import x509

from replication.errors import LinkLost, RemoteProtocolError, ReplicationError

SUBPROTOCOL: Final = "commitlog.v1"
REASON_BYTES_MAX: Final = 123
"""What a websocket's close frame has room for (RFC 6455, section 5.5.1); refusals of the upgrade keep to it too."""
GOODBYE_S: Final = 1.0
"""What a last word may take to be delivered."""
LINGER_BYTES_MAX: Final = 64 * 1024 * 1024
_ENDED: Final = (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    connect_s: float = 10.0
    """From the name of a peer's host to an open TCP connection."""
    handshake_s: float = 10.0
    """The TLS handshake."""
    upgrade_s: float = 10.0
    """From there to an open websocket: the peer's request, the decision about it, the answer."""
    head_bytes_max: int = 16 * 1024
    """Request line and headers, and the whole answer to an upgrade that is refused."""
    unadmitted_max: int = 64
    """Connections at once of which it is not known yet who they are: a new one takes the place of the oldest."""


class WatchedStream(trio.abc.HalfCloseableStream):
    """A TCP connection that notes when bytes arrive.

    Below TLS: on a slow line one record takes seconds, and its sender is alive meanwhile.
    """

    def __init__(self, transport: trio.SocketStream) -> None:
        self._transport = transport
        self.last_byte_at = trio.current_time()

    @property
    def peer_address(self) -> str:
        """Raises ``OSError`` when the peer has left."""
        return str(self._transport.socket.getpeername()[0])

    def takes_bytes_now(self) -> bool:
        """Whether the system has room for a small frame, so that sending it does not wait for the peer."""
        poll = select.poll()
        poll.register(self._transport.socket.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._transport.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        received = await self._transport.receive_some(max_bytes)
        if received:
            self.last_byte_at = trio.current_time()
        return bytes(received)

    async def aclose(self) -> None:
        await self._transport.aclose()


Stream: TypeAlias = "WatchedStream | trio.SSLStream[WatchedStream]"


def transport_of(stream: Stream) -> WatchedStream:
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


def tls_stream(
    transport: WatchedStream, context: ssl.SSLContext, *, server_side: bool = False, server_name: str | None = None
) -> trio.SSLStream[WatchedStream]:
    """Frames tell themselves whether they are whole, so the end of a connection needs no notice of TLS."""
    return trio.SSLStream(
        transport, context, server_side=server_side, server_hostname=server_name, https_compatible=True
    )


async def shake_hands(stream: trio.SSLStream[WatchedStream]) -> None:
    """The TLS handshake. Raises ``trio.BrokenResourceError`` where either side refuses it, ``LinkLost`` where the peer
    leaves.
    """
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        if isinstance(error.__cause__, _ENDED):
            raise LinkLost("the peer closed the connection during the TLS handshake") from error
        # trio drops the alert that OpenSSL has prepared, the one thing that tells a peer what is wrong with it.
        alert = stream._outgoing.read()
        if alert:
            await _say_last(stream.transport_stream, alert)
        raise


async def _say_last(transport: WatchedStream, data: bytes) -> None:
    with trio.move_on_after(GOODBYE_S):
        try:
            await transport.send_all(data)
            await linger(transport)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # The peer did not wait for it.


async def linger(transport: WatchedStream) -> None:
    """End our direction and read on until the peer ends its own: closing while bytes are unread resets the connection,
    and the reset may overtake the last thing that was sent. To be called under a deadline.
    """
    await transport.send_eof()
    left = LINGER_BYTES_MAX
    while left > 0 and (received := await transport.receive_some()):
        left -= len(received)


def certificate_of(stream: trio.SSLStream[WatchedStream]) -> x509.Certificate | None:
    """The one that the peer has shown in its handshake."""
    encoded: bytes | None = stream.getpeercert(binary_form=True)
    if encoded is None:
        return None
    try:
        return x509.load_der_x509_certificate(encoded)
    except ValueError as error:
        raise RemoteProtocolError("its certificate cannot be read", code="auth") from error


@contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """Raises ``trio.TooSlowError`` with a text where the body takes longer."""
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise trio.TooSlowError(f"{what} took longer than {seconds:g} s")


def clean_reason(text: str | bytes) -> str:
    """A reason that goes to a peer, or comes from one: on one line, printable, ``REASON_BYTES_MAX`` at most."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    printable = "".join(one if one.isprintable() else "?" for one in text.strip())
    return printable.encode("utf-8", "replace")[:REASON_BYTES_MAX].decode("utf-8", "ignore")


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in the words of whoever knows: TLS, the system, or ourselves."""
    match error:
        case ReplicationError():
            return str(error)
        case BaseExceptionGroup():
            return reason_of(error.exceptions[0])
        case trio.BrokenResourceError() | OSError() if error.__cause__ is not None:
            return reason_of(error.__cause__)
        case trio.BrokenResourceError():
            return "the connection is broken"
        case trio.ClosedResourceError():
            return "the connection was closed here"
        case ssl.SSLCertVerificationError():
            return f"its certificate is refused here: {error.verify_message}"
        case ssl.SSLError():
            return _tls_reason(error)
        case OSError():
            return error.strerror or str(error)
    return str(error)


def _tls_reason(error: ssl.SSLError) -> str:
    """OpenSSL's constants as words; ``…_ALERT_…`` is what the peer says."""
    if isinstance(error, _ENDED):
        return "the peer closed the connection"
    origin, is_alert, alert = (error.reason or "unknown error").rpartition("_ALERT_")
    words = alert.replace("_", " ").lower()
    return f"refused there by TLS: {words}" if is_alert and origin else f"TLS failed: {words}"
