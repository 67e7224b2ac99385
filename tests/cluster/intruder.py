"""Who should not get in: a client with a certificate of its choice at a node's replication port, and a false node."""

import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import trustme

from tests.cluster.cluster import PORT, ClusterNode
from tests.node_process import free_address

TIMEOUT_S: Final = 15.0
_UPGRADE: Final = (
    "GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: commitlog.v1\r\n\r\n"
)


def knock(node: ClusterNode, certificate: str | None = None, key: str | None = None) -> tuple[int, str]:
    """Ask for a session with this certificate: status and text of the answer, status 0 where TLS already refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(f"{certificate}\n{key}\n")
            file.flush()
            context.load_cert_chain(file.name)
    try:
        with socket.create_connection((node.address, PORT), TIMEOUT_S) as plain, context.wrap_socket(plain) as tls:
            tls.sendall(_UPGRADE.encode())
            answer = b"".join(_received(tls))
    except (ssl.SSLError, ConnectionError) as error:
        return 0, str(error)
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    return int(head.split()[1]) if head else 0, body


def _received(tls: ssl.SSLSocket) -> Iterator[bytes]:
    """Up to the end; of an accepted session only the head of the answer."""
    while data := tls.recv(1 << 16):
        yield data
        if b" 101 " in data:
            return


def own_certificate(node: ClusterNode) -> dict[str, Any]:
    """The certificate that a node shows its peers, as ``list_certificates`` has it."""
    listed = {row["name"]: row for row in node.post(operation="list_certificates")}
    found = listed.get(f"{node.name}-replication") or listed[node.name]
    assert isinstance(found, dict)
    return found


def key_of(root: Path, certificate: dict[str, Any]) -> str:
    return (root / "keys" / certificate["private_key_name"]).read_text()


def made(authority: trustme.CA, *names: str, common_name: str | None = None) -> tuple[str, str]:
    """A new certificate of an authority and its key."""
    issued = authority.issue_cert(*names, common_name=common_name)
    chain = "".join(part.bytes().decode() for part in issued.cert_chain_pems)
    return chain, issued.private_key_pem.bytes().decode()


@contextmanager
def false_node(name: str) -> Iterator[tuple[tuple[str, int], list[bytes]]]:
    """A server that shows a certificate of that name from an authority nobody trusts: its address, and whatever callers
    said to it after the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(name).configure_cert(context)
    heard: list[bytes] = []
    with socket.create_server((free_address(), 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, context, heard))
        thread.start()
        try:
            yield listener.getsockname(), heard
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT_S)


def _serve(listener: socket.socket, context: ssl.SSLContext, heard: list[bytes]) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        plain.settimeout(TIMEOUT_S)
        try:
            with plain, context.wrap_socket(plain, server_side=True) as tls:
                if data := tls.recv(1 << 16):
                    heard.append(data)
        except (OSError, ValueError):
            continue
