"""What this node can show and whom it trusts, as ``hdb_certificate``, key files and the rows of peers say now.

Files (the node's own, and those that configuration names) are brought into the table at every start and whenever they
change. Listeners and links read the pairs from the table. The node's own pair is always among them, also where its row
is gone, as a listener must not be without one.
"""

import logging
import time
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Final

import trio
from cryptography import x509

from node.certificate_files import Unusable, parse_chain
from node.certificate_pairs import CertificatePair, TablePairs, authorities_of, with_own
from node.certificate_rows import ConfiguredFiles, Row, rows_of_files
from node.certificate_table import CERTIFICATES, TableWatch, read_rows, store_file_rows
from node.certificates import AUTHORITY, CERTIFICATE, KEY, read_certificates
from node.change_watch import LOOK_EVERY_S
from node.key_files import FileState, KeyFiles, state_of
from replication.membership import NODES
from storage.catalog import Catalog
from storage.errors import DatabaseError

log = logging.getLogger("tls")

CHOSEN_ANEW_S: Final = 3600
"""A certificate that expires or becomes valid is noticed after this time, without anything else that changes."""


class CertificateSource:
    """Constructing it reads nothing. Methods that are not async block for the disk and may be called in any thread."""

    def __init__(self, catalog: Catalog, *, keys: Path, node: str, configured: Iterable[ConfiguredFiles] = ()) -> None:
        self.keys = keys
        self.node = node
        self._catalog = catalog
        self._configured = tuple(configured)
        named = (entry.files.private_key for entry in self._configured)
        self.key_files = KeyFiles(keys, (path for path in named if path is not None))
        self._table_pairs = TablePairs(self.key_files)
        self._table_watch = TableWatch(catalog, CERTIFICATES)
        self._peers_watch = TableWatch(catalog, NODES)
        self._loaded: tuple[FileState, ...] = ()

    def rows(self) -> list[Row]:
        """All rows of the table, by name."""
        return read_rows(self._catalog)

    def pairs(self) -> list[CertificatePair]:
        """All pairs that can be shown."""
        pairs = self._table_pairs.load(self.rows())
        try:
            return with_own(pairs, read_certificates(self.keys))
        except (Unusable, OSError) as error:
            log.error("the node's own certificate cannot be used: %s", error)
            return pairs

    def authorities_for_peers(self) -> list[x509.Certificate]:
        """Whom a peer's certificate may come from: the authorities of the table and those that peers told of."""
        found = authorities_of(self.rows())
        for peer in read_rows(self._catalog, NODES):
            pem = peer.get("ca")
            if not isinstance(pem, str):
                continue
            try:
                found.extend(parse_chain(pem.encode("utf-8", "replace"), f"the row of node {peer['name']}"))
            except Unusable as error:
                log.error("%s", error)
        return found

    def look(self) -> Hashable:
        """Equal as long as ``pairs`` is. Cheap."""
        return self._table_watch.look(), self.key_files.state(), int(time.time() // CHOSEN_ANEW_S)

    def look_for_peers(self) -> Hashable:
        """Equal as long as ``pairs`` and ``authorities_for_peers`` are. Cheap."""
        return self.look(), self._peers_watch.look()

    async def load_files(self) -> None:
        """Bring the table in line with the files. To be called at every start; a broken file leaves its row alone."""
        state = self._state_of_files()
        rows = await trio.to_thread.run_sync(self._rows_of_files)
        await store_file_rows(self._catalog, rows)
        self._loaded = state

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load the files whenever they change, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_EVERY_S)
            if self._state_of_files() != self._loaded:
                try:
                    await self.load_files()
                except (DatabaseError, OSError) as error:
                    log.error("changed certificate files could not be loaded: %s", error)

    def _rows_of_files(self) -> list[Row]:
        try:
            certificates = read_certificates(self.keys)
        except (Unusable, OSError) as error:
            log.error("certificate is left out: %s", error)
            return []
        return list(rows_of_files(certificates, self._configured, node=self.node).values())

    def _state_of_files(self) -> tuple[FileState, ...]:
        paths = [self.keys / name for name in (AUTHORITY, CERTIFICATE, KEY)]
        for entry in self._configured:
            files = entry.files
            paths.extend(path for path in (files.private_key, files.certificate, files.authority) if path is not None)
        return tuple(state_of(path) for path in paths)
