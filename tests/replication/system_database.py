"""The system database of one node of several: real storage, and entries that pass from one to another as links would
carry them.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ops.system_tables import definition_of
from replication.membership import NODE_FACTS, NODE_LINKS, NODES, Membership, read_membership
from replication.membership_changes import OwnNode
from replication.routes import Route, parse_route
from storage.database import WriteFunction
from storage.entry import encode_travelling
from storage.received_entries import apply_received, read_received
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.storage.opened import Opened

_ticks = itertools.count(1)


class SystemDatabase:
    def __init__(self, folder: Path, node: str) -> None:
        self.node = node
        self.own = OwnNode(name=node, url=f"wss://{node}:9933", ca=f"CA of {node}")
        self.opened = Opened.at(folder / node, node=node, name="system")
        self.write(lambda tx: [tx.create_table(definition_of(name)) for name in (NODES, NODE_LINKS, NODE_FACTS)], True)

    def write(self, function: WriteFunction, is_local: bool = False) -> Any:
        """Each write comes after all earlier ones of any node."""
        self.opened.now_us += next(_ticks) * 1_000_000
        return self.opened.write(function, is_local=is_local)

    def membership(self, previous: Membership | None = None) -> Membership:
        with self.opened.database.read() as tx:
            return read_membership(tx, self.node, previous)

    def hear(self, other: "SystemDatabase") -> None:
        """Take what the other node has, its own entries and those that it relays."""
        with other.opened.database.read() as tx:
            entries = [
                read_received(encode_travelling(entry.header.raw, entry.payload))
                for entry in tx.log.read_from()
                if entry.header.oseq and entry.header.origin != self.opened.environment.origin
            ]
        applied = self.opened.maintain(partial(apply_received, items=entries, now_us=self.opened.now_us))
        assert not applied.stopped

    def restart(self) -> None:
        """As another process with another URL, so that the own row has to be written."""
        port = 9933 + next(_ticks) % 1000
        self.own = replace(self.own, url=f"wss://{self.node}:{port}")

    def put(self, table: str, record: dict[str, Any]) -> None:
        """Write a row as it is, past all rules."""

        def put(tx: WriteTransaction) -> None:
            found = tx.table(table)
            key = record[found.primary_key]
            tx.put(found, key, stored_key_of(key), dict(record))

        self.write(put)

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.opened.all(table)

    def row(self, name: str) -> dict[str, Any]:
        return self.opened.record(NODES, name)

    def last_lseq(self) -> int:
        with self.opened.database.read() as tx:
            return tx.head().lseq


@contextmanager
def system_databases(folder: Path, names: Iterable[str]) -> Iterator[dict[str, SystemDatabase]]:
    databases = {name: SystemDatabase(folder, name) for name in names}
    try:
        yield databases
    finally:
        for database in databases.values():
            database.opened.close()


def route(raw: Any) -> Route:
    return parse_route(raw, secure_port=9933, port=None)
