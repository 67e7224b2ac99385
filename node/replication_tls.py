"""The TLS side of replication: contexts for the port where peers dial in and for dialling them, mutual TLS both ways.

The listener holds one context for its whole life. Each handshake is moved to the contexts in force, which bring the
certificate and the trusted authorities; what the handshake asks of a client (``CERT_OPTIONAL``) always is that of the
listener's own context. So a peer without a certificate gets in as far as its credentials are looked at, one with a
certificate of an unknown authority fails in the handshake. Trust is read anew with every change: an authority cannot
be taken out of a context, but new contexts do not have it.

Identity is not looked at here: whose certificate a peer shows is compared by whoever opens the link, on both sides
with the same rule, and so ``check_hostname`` is off.

TLS 1.3 is asked for, as only nodes speak here. In TLS 1.2 OpenSSL resumes sessions by their number even without
tickets, Python cannot turn that off, and a resumed session brings a client's certificate along after the authority
that signed it is no longer trusted.
"""

import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from node.certificate_pairs import CertificatePair
from node.change_watch import ChangeWatch
from node.errors import StartError
from node.tls_contexts import InForce, LoadPairs, bare_server_context, contexts_in_force, show

log = logging.getLogger("tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class _BothSides:
    """All contexts of one state of certificates and authorities."""

    server: InForce
    client: Mapping[tuple[bool, bool], ssl.SSLContext]
    """By whether the server's certificate is verified, and whether our own is shown."""


class ReplicationTls:
    """Contexts for links between nodes; ``run`` follows what changes."""

    def __init__(
        self,
        load: LoadPairs,
        trusted: Callable[[], Iterable[x509.Certificate]],
        *,
        node: str,
        look: Callable[[], object] = lambda: None,
        trusts_public_roots: bool = True,
    ) -> None:
        """``load`` and ``trusted`` read pairs and authorities anew at each call; ``look`` tells whether they may have
        changed. All three may block. Raises ``StartError`` when no pair can be used.
        """
        self._load = load
        self._trusted = trusted
        self._node = node
        self._trusts_public_roots = trusts_public_roots
        self._watch = ChangeWatch(look, self.reload)
        in_force = self._read()
        if in_force is None:
            raise StartError("no certificate can be used for replication")
        self._in_force = in_force
        self._listening = _server_context()
        self._listening.sni_callback = self._move_to_chosen

    def server_context(self) -> ssl.SSLContext:
        """The same one at every call."""
        return self._listening

    def client_context(
        self, *, verify: bool = True, shows_certificate: bool = True, authorities_pem: str | None = None
    ) -> ssl.SSLContext:
        """The one that is in force now, to be asked for at each connection.

        With ``authorities_pem`` nothing else is trusted. Raises ``ssl.SSLError`` where that holds no certificates.
        """
        if verify and authorities_pem is not None:
            return self._client_context_for(authorities_pem, shows_certificate=shows_certificate)
        return self._in_force.client[verify, shows_certificate]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow changes until cancelled."""
        await self._watch.run(task_status=task_status)

    def reload_if_changed(self) -> None:
        """Blocks for a look."""
        self._watch.check()

    def reload(self) -> None:
        """Use what is there now for new handshakes. Blocks for reading; without a usable pair all stays as it was."""
        in_force = self._read()
        if in_force is None:
            log.error("no certificate can be used for replication: the last ones stay in force")
        else:
            self._in_force = in_force

    def _move_to_chosen(self, connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None, _: ssl.SSLContext) -> None:
        self._in_force.server.move_to_chosen(connection, asked)

    def _read(self) -> _BothSides | None:
        authorities = _loadable(self._trusted())

        def server_for(pair: CertificatePair) -> ssl.SSLContext:
            context = _server_context()
            show(context, pair)
            self._trust(context, authorities, ssl.Purpose.CLIENT_AUTH)
            return context

        server = contexts_in_force(self._load(), server_for, "replication", node=self._node)
        if server is None:
            return None
        client = {
            (verify, shows): self._client_context(authorities, verify, server.default_pair if shows else None)
            for verify in (True, False)
            for shows in (True, False)
        }
        return _BothSides(server=server, client=client)

    def _client_context(self, authorities: bytes, verify: bool, pair: CertificatePair | None) -> ssl.SSLContext:
        context = _bare_client_context(verify=verify)
        if verify:
            self._trust(context, authorities, ssl.Purpose.SERVER_AUTH)
        if pair is not None:
            show(context, pair)
        return context

    def _client_context_for(self, authorities_pem: str, *, shows_certificate: bool) -> ssl.SSLContext:
        context = _bare_client_context(verify=True)
        context.load_verify_locations(cadata=authorities_pem)
        if shows_certificate:
            show(context, self._in_force.server.default_pair)
        return context

    def _trust(self, context: ssl.SSLContext, authorities: bytes, purpose: ssl.Purpose) -> None:
        if authorities:
            context.load_verify_locations(cadata=authorities)
        if self._trusts_public_roots:
            context.load_default_certs(purpose)


def _server_context() -> ssl.SSLContext:
    context = bare_server_context()
    context.verify_mode = ssl.CERT_OPTIONAL
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _restrict(context)
    return context


def _bare_client_context(*, verify: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    _restrict(context)
    return context


def _restrict(context: ssl.SSLContext) -> None:
    """What both sides have in common. An authority that somebody added is trusted though it is no root."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _loadable(authorities: Iterable[x509.Certificate]) -> bytes:
    """Those that OpenSSL takes, as it gets them; the others are told in the log. One bad row must not cost the rest."""
    scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    taken: dict[bytes, None] = {}
    for authority in authorities:
        der = authority.public_bytes(Encoding.DER)
        try:
            scratch.load_verify_locations(cadata=der)
        except ssl.SSLError as error:
            log.error("a certificate authority is left out: %s", error)
        else:
            taken[der] = None
    return b"".join(taken)
