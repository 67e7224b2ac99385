"""Several nodes with one database each, that stream to each other and take copies: no network, only files."""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from storage.checker import check_database
from storage.copy_description import CopyDescription
from storage.copy_file import CopyReader, write_copy
from storage.copy_merge import MergeProgress, begin_merge, merge_step, read_merge_cursor
from storage.entry import Origin, Stamp, encode_travelling
from storage.maintenance import IsStable, alone, purge_tombstones, remove_rows, trim_log
from storage.received_entries import Applied, apply_received, read_received
from storage.record import Row, decode_row
from storage.transaction import stored_key_of
from tests.storage.opened import Opened

FAR_US = 1 << 62


class Peer(Opened):
    """A node's database, with what its neighbours do to it."""

    @property
    def origin(self) -> Origin:
        return self.environment.origin

    def vector(self) -> dict[Origin, int]:
        with self.database.read() as tx:
            return {at.origin: at.oseq for at in tx.log.positions().values() if at.oseq}

    def floors(self) -> dict[Origin, int]:
        with self.database.read() as tx:
            return {at.origin: at.floor for at in tx.log.positions().values() if at.floor}

    def digest(self, table: str = "dog") -> bytes:
        with self.database.read() as tx:
            return tx.state_digest(tx.table(table))

    def stored(self, table: str = "dog", *, tombstones: bool = False) -> dict[bytes, tuple[Stamp, Row]]:
        """Rows, or tombstones, as they are stored, with their whole stamps."""
        with self.database.read() as tx:
            found = tx.table(table)
            number = found.tombstones_id if tombstones else found.rows_id
            origins = {of: at.origin for of, at in tx.log.positions().items()}
            with tx.txn.cursor(db=tx.environment.handles[f"p{number}"]) as cursor:
                rows = {key: decode_row(data) for key, data in cursor}
        return {key: (Stamp(row.ts, *origins[row.origin], row.oseq), row) for key, row in rows.items()}

    def stamps(self, table: str = "dog", *, tombstones: bool = False) -> dict[bytes, Stamp]:
        return {key: stamp for key, (stamp, _) in self.stored(table, tombstones=tombstones).items()}

    def has_tombstone(self, key: Any, table: str = "dog") -> bool:
        return stored_key_of(key) in self.stamps(table, tombstones=True)

    def take_stream(self, source: "Peer", *, entries_max: int | None = None) -> Applied:
        """Apply what the log of ``source`` has and this node has not."""
        known = self.vector()
        with source.database.read() as tx:
            items = [
                read_received(encode_travelling(entry.header.raw, entry.payload))
                for entry in tx.log.read_from()
                if entry.header.origin != self.origin and entry.header.oseq > known.get(entry.header.origin, 0)
            ]
        self.now_us = max(self.now_us, source.now_us)
        applied: Applied = self.maintain(partial(apply_received, items=items[:entries_max], now_us=self.now_us))
        return applied

    def write_copy(
        self, file: Path, *, left_out: Collection[Origin] = (), need: Mapping[Origin, int] | None = None
    ) -> CopyDescription:
        return write_copy(self.database, file, copy_id=file.name, left_out=left_out, need=need or {})

    def begin(self, description: CopyDescription, *, is_forced: bool = False, **more: Any) -> None:
        self.maintain(
            partial(begin_merge, description=description, file_name=description.copy_id, is_forced=is_forced, **more)
        )

    def step(self, reader: CopyReader, *, limit: int = 500) -> MergeProgress:
        progress: MergeProgress = self.maintain(partial(merge_step, reader=reader, now_us=self.now_us, limit=limit))
        return progress

    def finish(self, file: Path, *, limit: int = 500) -> MergeProgress:
        """Merge to the end; the sums of all steps."""
        rows = taken = removed = 0
        is_done = False
        with CopyReader(file) as reader:
            while not is_done:
                progress = self.step(reader, limit=limit)
                rows, taken, removed = rows + progress.rows, taken + progress.taken, removed + progress.removed
                is_done = progress.is_done
        return MergeProgress(rows, taken, removed, is_done)

    def take_copy(
        self, source: "Peer", *, left_out: Collection[Origin] = (), limit: int = 500, **begin: Any
    ) -> MergeProgress:
        """Write a copy at ``source`` and merge it here."""
        file = self.environment.path.parent / f"copy-{source.origin.node}-{self.origin.node}"
        description = source.write_copy(file, left_out=left_out)
        self.now_us = max(self.now_us, source.now_us)
        self.begin(description, **begin)
        return self.finish(file, limit=limit)

    def trim(self) -> None:
        """Drop all of the log but its last entry."""
        while self.maintain(partial(trim_log, before_us=FAR_US)):
            pass

    def purge(self, table: str = "dog", *, is_stable: IsStable = alone) -> None:
        """Let tombstones go whose entries are trimmed; by default as if everybody had been heard."""
        after: bytes | None = b""
        while after is not None:
            step = partial(
                purge_tombstones,
                table_id=self.table(table).id,
                before_us=FAR_US,
                is_stable=is_stable,
                after=after or None,
            )
            after = self.maintain(step).resume

    def remove(self, *ids: Any, table: str = "dog") -> None:
        """Take records away on this node alone, as ``delete_records_before`` does."""
        keys = [stored_key_of(key) for key in ids]
        self.maintain(partial(remove_rows, table_id=self.table(table).id, stored_keys=keys))

    def is_merging(self) -> bool:
        with self.database.read() as tx:
            return read_merge_cursor(tx) is not None

    def check_and_close(self) -> None:
        assert check_database(self.environment, now_ms=self.now_us // 1000) == []
        self.close()


class Peers:
    """Nodes ``a``, ``b`` and ``c``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.a, self.b, self.c = self.all = tuple(Peer.at(folder / node, node=node) for node in "abc")

    def share(self, *tables: str) -> None:
        """Tables made by ``a`` that all have heard of."""
        for table in tables or ("dog",):
            self.a.create_table(table)
        for peer in (self.b, self.c):
            peer.take_stream(self.a)

    def spread(self) -> None:
        """Stream everything to everybody."""
        for _ in self.all:
            for target in self.all:
                for source in self.all:
                    if source is not target:
                        target.take_stream(source)

    def close(self) -> None:
        for peer in self.all:
            peer.check_and_close()
