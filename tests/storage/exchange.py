"""Databases of several nodes in a full mesh: each sends the others its own entries, as streams would."""

from functools import partial
from itertools import permutations
from pathlib import Path

from storage.checker import check_database
from storage.commit_log import Position
from storage.entry import NO_CHAIN, Origin, Stamp, encode_travelling
from storage.received_entries import Applied, ReceivedSkip, apply_received, read_received
from storage.received_schema import merge_definitions
from storage.record import decode_row
from storage.write_state import WriteState
from tests.storage.opened import Opened


class Nodes:
    """A database for each of the names, by attribute: ``nodes.a``."""

    def __init__(self, folder: Path, names: str = "ab") -> None:
        self.all = {name: Opened.at(folder / name, node=name) for name in names}
        self.a, self.b, *_ = self.all.values()

    def exchange(self) -> None:
        """Send everything to everybody."""
        for publisher, subscriber in permutations(self.all.values(), 2):
            assert not send(publisher, subscriber).stopped

    def close(self) -> None:
        for node in self.all.values():
            problems = check_database(node.environment, now_ms=node.now_us // 1000)
            assert problems == [], problems
            node.close()


def send(publisher: Opened, subscriber: Opened) -> Applied:
    """Apply the publisher's own entries behind its current definitions; what is there already is dropped."""
    with publisher.database.read() as tx:
        definitions = [table.definition for table in tx.schema().tables.values() if not table.definition.is_local]
        items = [
            read_received(encode_travelling(entry.header.raw, entry.payload))
            for entry in tx.log.read_from()
            if entry.header.oseq and entry.header.origin == publisher.environment.origin
        ]

    def apply(state: WriteState) -> Applied:
        merge_definitions(state, definitions)
        return apply_received(state, items, now_us=subscriber.now_us)

    applied: Applied = subscriber.maintain(apply)
    return applied


def skip(publisher: Opened, subscriber: Opened) -> None:
    """Move the subscriber's position of the publisher to its end, without what its entries hold."""
    origin = publisher.environment.origin
    here, there = _position(subscriber, origin), _position(publisher, origin)
    if here.oseq < there.oseq:
        item = ReceivedSkip(origin=origin, first=here.oseq + 1, last=there.oseq, chain=there.chain)
        applied = subscriber.maintain(partial(apply_received, items=[item], now_us=subscriber.now_us))
        assert not applied.stopped


def versions_of(node: Opened, table: str) -> dict[bytes, tuple[Stamp, bytes, bool]]:
    """By stored key: stamp and value of what is there, and whether it is a tombstone."""
    with node.database.read() as tx:
        found = tx.table(table)
        origins = {number: position.origin for number, position in tx.log.positions().items()}
        versions = {}
        for number, is_tombstone in ((found.rows_id, False), (found.tombstones_id, True)):
            with tx.txn.cursor(db=node.environment.handles[f"p{number}"]) as cursor:
                for key, data in cursor:
                    row = decode_row(data)
                    stamp = Stamp(row.ts, *origins[row.origin], row.oseq)
                    versions[key] = (stamp, row.value, is_tombstone)
        return versions


def digest_of(node: Opened, table: str) -> bytes:
    with node.database.read() as tx:
        return tx.state_digest(tx.table(table))


def _position(node: Opened, origin: Origin) -> Position:
    with node.database.read() as tx:
        positions = tx.log.positions().values()
        return next((position for position in positions if position.origin == origin), Position(origin, 0, NO_CHAIN, 0))
