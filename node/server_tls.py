"""The TLS side of a listener: one ``SSLContext`` that always shows the certificates that are in force.

A listener holds ``ServerTls.context`` for its whole life. Each handshake is moved to the context of the pair that
fits the name the client asks for (also when it asks for none), so a changed file serves new handshakes within two
seconds, running connections are untouched, and every handshake uses one consistent pair. Whatever happens to the
files, the contexts that worked last stay: a listener is never left without a certificate.

Client certificates are not asked for. A listener that wants them needs a base context with that verify mode: the
context that a handshake is moved to brings its certificate, but not its verify mode.
"""

import logging
import os
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import trio

from node.certificate_files import pem_of
from node.certificate_pairs import CertificatePair, Purpose, choose, find_by_host
from node.errors import StartError

log = logging.getLogger("tls")

HTTP1_ALPN: Final = ("http/1.1",)
HTTP2_ALPN: Final = ("h2", "http/1.1")
_LOOK_EVERY_S: Final = 1.0

LoadPairs: TypeAlias = Callable[[], Iterable[CertificatePair]]
_FileState: TypeAlias = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _InForce:
    """The contexts of one state of the files; swapped as a whole."""

    default: ssl.SSLContext
    by_host: Mapping[str, ssl.SSLContext]


class ServerTls:
    """``context`` for a listener; ``run`` follows the files."""

    def __init__(
        self,
        load: LoadPairs,
        *,
        purpose: Purpose,
        node: str,
        watched: Iterable[Path] = (),
        alpn: Sequence[str] = HTTP1_ALPN,
    ) -> None:
        """``load`` reads the pairs anew at each call, from the files in ``watched`` and wherever else; it may block.

        Raises ``StartError`` when none of them can be used.
        """
        self._load = load
        self._purpose: Purpose = purpose
        self._node = node
        self._watched = tuple(watched)
        self._alpn = tuple(alpn)
        self._seen = self._look()
        in_force = self._read()
        if in_force is None:
            raise StartError(f"no certificate can be used for the {purpose} listener")
        self._in_force = in_force
        self.context = _bare_context(self._alpn)
        self.context.sni_callback = self._move_to_chosen

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the watched files until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(_LOOK_EVERY_S)
            await trio.to_thread.run_sync(self.reload_if_changed)

    def reload_if_changed(self) -> None:
        """Blocks for a look at each watched file."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            self.reload()

    def reload(self) -> None:
        """Use what is there now for new handshakes. Blocks for reading; without a usable pair all stays as it was."""
        in_force = self._read()
        if in_force is None:
            log.error("no certificate can be used for the %s listener: the last ones stay in force", self._purpose)
        else:
            self._in_force = in_force

    def _move_to_chosen(self, connection: ssl.SSLObject | ssl.SSLSocket, asked: str | None, _: ssl.SSLContext) -> None:
        in_force = self._in_force
        connection.context = find_by_host(in_force.by_host, asked) or in_force.default

    def _read(self) -> _InForce | None:
        contexts: dict[CertificatePair, ssl.SSLContext] = {}
        for pair in self._load():
            try:
                contexts[pair] = server_context(pair, self._alpn)
            except ssl.SSLError as error:
                log.error("certificate %s is left out: %s", pair.name, error)
        if not contexts:
            return None
        default, by_host = choose(contexts, self._purpose, node=self._node, now=datetime.now(UTC))
        return _InForce(default=contexts[default], by_host={host: contexts[pair] for host, pair in by_host.items()})

    def _look(self) -> tuple[_FileState, ...]:
        return tuple(_state_of(path) for path in self._watched)


def server_context(pair: CertificatePair, alpn: Sequence[str]) -> ssl.SSLContext:
    """A context that shows ``pair``. Raises ``ssl.SSLError`` where OpenSSL refuses its key, its size or its ciphers."""
    context = _bare_context(alpn)
    if pair.ciphers is not None:
        context.set_ciphers(pair.ciphers)
    chain_pem = "".join(map(pem_of, pair.chain)).encode("ascii")
    with _memory_file(chain_pem) as chain_path, _memory_file(pair.key_pem) as key_path:
        context.load_cert_chain(chain_path, key_path, password="")
    return context


def _bare_context(alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(alpn))
    return context


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Path of a nameless file that holds ``content``, for the body: the ``ssl`` module loads keys from paths only."""
    with open(os.memfd_create("tls"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile() as stream:
        stream.write(content)
        stream.flush()
        stream.seek(0)
        yield f"/dev/fd/{stream.fileno()}"


def _state_of(path: Path) -> _FileState:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
