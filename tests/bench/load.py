"""A load generator: closed loop, many connections, one process, raw sockets.

It has a process of its own, so that on two cores it does not take the node's. Requests are made beforehand; an answer
is read only as far as its end has to be found. A general HTTP client would be slower than the node and measure
itself.
"""

import multiprocessing
import selectors
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Answers per second, latencies in seconds, and how many were not 200."""

    rate: float
    p50_s: float
    p99_s: float
    count: int
    failed: int
    first_failure: str = ""


@dataclass(slots=True, eq=False)
class _Connection:
    socket: socket.socket
    next_request: int
    sent_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)
    expected_bytes: int | None = None
    is_chunked: bool = False


def run_load(url: str, requests: Sequence[bytes], *, connections: int, duration_s: float) -> Measured:
    """Send ``requests`` in turn over ``connections`` for ``duration_s``, from another process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_run, (url, list(requests), connections, duration_s))


def http_request(url: str, body: bytes, authorization: str, more_headers: str = "") -> bytes:
    """The bytes of one ``POST /``."""
    host = urlsplit(url).netloc
    head = (
        f"POST / HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{more_headers}\r\n"
    )
    return head.encode() + body


def _run(url: str, requests: list[bytes], connections: int, duration_s: float) -> Measured:
    selector = selectors.DefaultSelector()
    step = max(1, len(requests) // connections)
    for number in range(connections):
        opened = _connect(url)
        connection = _Connection(opened, number * step)
        selector.register(opened, selectors.EVENT_READ, connection)
        _send(connection, requests)
    latencies: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()
    end = began + duration_s
    while (now := time.perf_counter()) < end:
        for key, _ in selector.select(timeout=1.0):
            connection = key.data
            if _receive(connection):
                now = time.perf_counter()
                latencies.append(now - connection.sent_at)
                if not connection.received.startswith(b"HTTP/1.1 200"):
                    failures.append(bytes(connection.received[:300]).decode(errors="replace"))
                _send(connection, requests)
    elapsed_s = now - began
    for key in list(selector.get_map().values()):
        key.data.socket.close()
    selector.close()
    latencies.sort()
    return Measured(
        rate=len(latencies) / elapsed_s,
        p50_s=latencies[len(latencies) // 2] if latencies else 0.0,
        p99_s=latencies[len(latencies) * 99 // 100] if latencies else 0.0,
        count=len(latencies),
        failed=len(failures),
        first_failure=failures[0] if failures else "",
    )


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    opened = socket.create_connection((parts.hostname or "", parts.port or 0))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if parts.scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        opened = context.wrap_socket(opened, server_hostname=parts.hostname)
    opened.setblocking(False)
    return opened


def _send(connection: _Connection, requests: list[bytes]) -> None:
    request = requests[connection.next_request % len(requests)]
    connection.next_request += 1
    connection.received.clear()
    connection.expected_bytes = None
    connection.is_chunked = False
    connection.sent_at = time.perf_counter()
    connection.socket.setblocking(True)
    connection.socket.sendall(request)
    connection.socket.setblocking(False)


def _receive(connection: _Connection) -> bool:
    """Read what is there; whether the answer is whole."""
    received = connection.received
    while True:
        try:
            data = connection.socket.recv(1 << 18)
        except (BlockingIOError, ssl.SSLWantReadError):
            return _is_whole(connection)
        if not data:
            raise ConnectionError("the node closed the connection: " + bytes(received[:300]).decode(errors="replace"))
        received += data
        if _is_whole(connection):
            return True


def _is_whole(connection: _Connection) -> bool:
    received = connection.received
    if connection.expected_bytes is None and not connection.is_chunked:
        head_end = received.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        head = bytes(received[:head_end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            connection.is_chunked = True
        else:
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            connection.expected_bytes = head_end + 4 + length
    if connection.is_chunked:
        return received.endswith(b"0\r\n\r\n")
    return connection.expected_bytes is not None and len(received) >= connection.expected_bytes
