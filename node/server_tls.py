"""The TLS side of a listener for clients: one ``SSLContext`` that always shows the certificates that are in force.

A listener holds ``ServerTls.context`` for its whole life. Each handshake is moved to the context of the pair that
fits the name the client asks for (also when it asks for none), so a changed certificate serves new handshakes within
two seconds, running connections are untouched, and every handshake uses one consistent pair. Whatever happens to
table and files, the contexts that worked last stay: a listener is never left without a certificate.

Client certificates are not asked for. A listener that wants them needs a base context with that verify mode, as
``node/replication_tls.py`` has one.
"""

import logging
import ssl
from collections.abc import Callable, Sequence
from typing import Final

import trio

from node.certificate_pairs import CertificatePair, Purpose
from node.change_watch import ChangeWatch
from node.errors import StartError
from node.tls_contexts import InForce, LoadPairs, bare_server_context, contexts_in_force, show

log = logging.getLogger("tls")

HTTP1_ALPN: Final = ("http/1.1",)
HTTP2_ALPN: Final = ("h2", "http/1.1")


class ServerTls:
    """``context`` for a listener; ``run`` follows what changes."""

    def __init__(
        self,
        load: LoadPairs,
        *,
        purpose: Purpose,
        node: str,
        look: Callable[[], object] = lambda: None,
        alpn: Sequence[str] = HTTP1_ALPN,
    ) -> None:
        """``load`` reads the pairs anew at each call; ``look`` tells whether they may have changed. Both may block.

        Raises ``StartError`` when none of the pairs can be used.
        """
        self._load = load
        self._purpose: Purpose = purpose
        self._node = node
        self._alpn = tuple(alpn)
        self._watch = ChangeWatch(look, self.reload)
        in_force = self._read()
        if in_force is None:
            raise StartError(f"no certificate can be used for the {purpose} listener")
        self._in_force = in_force
        self.context = _context(self._alpn)
        self.context.sni_callback = self._move_to_chosen

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
            log.error("no certificate can be used for the %s listener: the last ones stay in force", self._purpose)
        else:
            self._in_force = in_force

    def _move_to_chosen(self, connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None, _: ssl.SSLContext) -> None:
        self._in_force.move_to_chosen(connection, asked)

    def _read(self) -> InForce | None:
        return contexts_in_force(
            self._load(), lambda pair: server_context(pair, self._alpn), self._purpose, node=self._node
        )


def server_context(pair: CertificatePair, alpn: Sequence[str]) -> ssl.SSLContext:
    """A context that shows ``pair``. Raises ``ssl.SSLError`` where OpenSSL refuses its key, its size or its ciphers."""
    context = _context(alpn)
    show(context, pair)
    return context


def _context(alpn: Sequence[str]) -> ssl.SSLContext:
    context = bare_server_context()
    context.set_alpn_protocols(list(alpn))
    return context
