"""A stand-in for a node where only its HTTP surface matters: real sockets, canned answers, and a record of what came."""

import contextlib
import http.server
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(slots=True, kw_only=True)
class FakeNode:
    """Answers every ``POST`` with ``answer``. ``address`` is a (host, port) pair, or a path for a unix socket."""

    status: int = 200
    answer: Any = field(default_factory=lambda: {"message": "ok"})
    content_type: str = "application/json"
    received: list[Received] = field(default_factory=list)
    address: Any = None

    def reply(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        length = int(handler.headers["Content-Length"])
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.received.append(Received(path=handler.path, headers=headers, body=json.loads(handler.rfile.read(length))))
        content = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        handler.send_response(self.status)
        handler.send_header("Content-Type", self.content_type)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)


@contextlib.contextmanager
def serving(
    fake: FakeNode, *, socket_path: Path | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[FakeNode]:
    """``fake`` answers in the body: on a unix socket, or on a free port of 127.0.0.1."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            fake.reply(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def address_string(self) -> str:
            return "client"

    class Server(socketserver.TCPServer):
        address_family = socket.AF_INET if socket_path is None else socket.AF_UNIX

        def get_request(self) -> Any:
            connection, address = super().get_request()
            return connection, address or ("local", 0)

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that refuses our certificate is part of a test

    with Server(("127.0.0.1", 0) if socket_path is None else str(socket_path), Handler) as server:  # type: ignore[arg-type]
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        fake.address = server.server_address
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
