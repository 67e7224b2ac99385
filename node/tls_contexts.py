"""Contexts of the ``ssl`` module for certificate pairs, and the set of them that is in force at a time.

A listener holds one bare context for its whole life; each handshake is moved to a context of the set that is in force
when it begins, see ``InForce.move_to_chosen``.
"""

import logging
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from node.certificate_files import pem_of
from node.certificate_pairs import CertificatePair, Purpose, choose, find_by_host

log = logging.getLogger("tls")

LoadPairs: TypeAlias = Callable[[], Iterable[CertificatePair]]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The contexts of one state of the certificates; swapped as a whole."""

    default_pair: CertificatePair
    default: ssl.SSLContext
    by_host: Mapping[str, ssl.SSLContext]

    def move_to_chosen(self, connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None) -> None:
        """Continue a handshake with the context for the name that the client asks for, None where it asks for none.

        Certificate and trusted authorities come from there, the rest stays that of the listener's own context.
        """
        connection.context = find_by_host(self.by_host, asked) or self.default


def contexts_in_force(
    pairs: Iterable[CertificatePair], make: Callable[[CertificatePair], ssl.SSLContext], purpose: Purpose, *, node: str
) -> InForce | None:
    """A context by ``make`` for each pair, as ``purpose`` chooses among them now; None without a usable one.

    A pair that OpenSSL refuses is told in the log and left out.
    """
    contexts: dict[CertificatePair, ssl.SSLContext] = {}
    for pair in pairs:
        try:
            contexts[pair] = make(pair)
        except ssl.SSLError as error:
            log.error("certificate %s is left out: %s", pair.name, error)
    if not contexts:
        return None
    default, by_host = choose(contexts, purpose, node=node, now=datetime.now(UTC))
    return InForce(
        default_pair=default,
        default=contexts[default],
        by_host={host: contexts[pair] for host, pair in by_host.items()},
    )


def bare_server_context() -> ssl.SSLContext:
    """A context without a certificate; it asks for none either."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def show(context: ssl.SSLContext, pair: CertificatePair) -> None:
    """Let ``context`` show ``pair``. Raises ``ssl.SSLError`` where OpenSSL refuses its key, size or ciphers."""
    if pair.ciphers is not None:
        context.set_ciphers(pair.ciphers)
    chain_pem = "".join(map(pem_of, pair.chain)).encode("ascii")
    with _memory_file(chain_pem) as chain_path, _memory_file(pair.key_pem) as key_path:
        context.load_cert_chain(chain_path, key_path, password="")


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Path of a nameless file that holds ``content``, for the body: the ``ssl`` module loads keys from paths only."""
    with open(os.memfd_create("tls"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.flush()
        stream.seek(0)
        yield f"/dev/fd/{stream.fileno()}"
