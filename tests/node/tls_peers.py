"""Two ends of a real TLS connection, on 127.0.0.1 or in memory, for tests of contexts and certificates."""

import socket
import ssl
import threading
from contextlib import suppress
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """The two ends of one connection, each with the certificate that the other one showed."""

    seen_by_client: x509.Certificate
    seen_by_server: x509.Certificate | None
    version: str | None
    is_resumed: bool | None
    session: ssl.SSLSession | None


def meet(
    server: ssl.SSLContext, client: ssl.SSLContext, *, host: str | None = "n1", session: ssl.SSLSession | None = None
) -> Met:
    """One connection in memory until both sides have read a byte of the other; what either refuses is raised."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    dialling = client.wrap_bio(to_client, to_server, server_hostname=host, session=session)
    waiting = {serving, dialling}
    while waiting:
        for end in (dialling, serving):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
                waiting.discard(end)
    for writing, reading in ((serving, dialling), (dialling, serving)):
        writing.write(b"!")
        assert reading.read(1) == b"!"
    shown, own = dialling.getpeercert(binary_form=True), serving.getpeercert(binary_form=True)
    assert shown is not None
    return Met(
        seen_by_client=x509.load_der_x509_certificate(shown),
        seen_by_server=None if own is None else x509.load_der_x509_certificate(own),
        version=dialling.version(),
        is_resumed=dialling.session_reused,
        session=dialling.session,
    )


def _serve_once(listener: socket.socket, server: ssl.SSLContext) -> None:
    raw, _ = listener.accept()
    raw.settimeout(HANDSHAKE_S_MAX)
    with raw:
        try:
            with server.wrap_socket(raw, server_side=True) as secured:
                secured.sendall(b"ok")
        except (ssl.SSLError, ConnectionError):
            return  # the client refused; it raises what the test looks at
