"""Two ends of a real TLS connection on 127.0.0.1, for tests of contexts and certificates."""

import socket
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

HANDSHAKE_S_MAX = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the client saw of one handshake."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    version: str | None
    protocol: str | None


def strict_client(authority: Path, *, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A client that trusts ``authority`` alone and refuses every irregularity of a chain."""
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, *, host: str | None) -> Seen:
    """One whole connection; what the client refuses is raised. ``host`` None sends no server name."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANDSHAKE_S_MAX)
        serving = threading.Thread(target=_serve_once, args=(listener, server))
        serving.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=HANDSHAKE_S_MAX) as raw,
                client.wrap_socket(raw, server_hostname=host) as secured,
            ):
                assert secured.recv(2) == b"ok"
                shown = secured.getpeercert(binary_form=True)
                assert shown is not None
                chain = secured._sslobj.get_unverified_chain()
                return Seen(
                    leaf=x509.load_der_x509_certificate(shown),
                    chain=tuple(x509.load_pem_x509_certificate(one.public_bytes().encode()) for one in chain),
                    version=secured.version(),
                    protocol=secured.selected_alpn_protocol(),
                )
        finally:
            serving.join()


def _serve_once(listener: socket.socket, server: ssl.SSLContext) -> None:
    raw, _ = listener.accept()
    raw.settimeout(HANDSHAKE_S_MAX)
    with raw:
        try:
            with server.wrap_socket(raw, server_side=True) as secured:
                secured.sendall(b"ok")
        except (ssl.SSLError, ConnectionError):
            return  # the client refused; it raises what the test looks at
