"""The state of one LMDB write transaction, shared by all client transactions that commit in it.

Counters, positions, digests and the schema are read from the environment when the transaction begins and written back
before it commits; nothing is kept across commits, as another process may have committed in between. A client
transaction reads and moves this state in memory while it is sealed, and puts its changes while it is applied.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from storage import codec
from storage.commit_log import HEAD_KEY, VECTOR_EVERY, Head, Position
from storage.entry import NO_CHAIN, Origin
from storage.environment import Environment
from storage.errors import TooManyTables
from storage.index import entries_of
from storage.marks import mark_key
from storage.record import decode_row
from storage.schema import Table
from storage.schema_change import SchemaChange
from storage.table_plan import TablePlan
from storage.transaction import HIDDEN_KEY, Schema, SchemaCache

DROPPED_KEY: Final = b"dropped:"
"""In ``meta``, with a table's name behind it: ``ts`` (u64) at which it was dropped here."""
DIGEST_MODULUS: Final = 1 << 128
FEW: Final = 8
"""Up to here single puts are cheaper than sorting and a cursor."""


class WriteState:
    """Owns the LMDB transaction from ``begin`` to ``commit`` or ``abort``; used by the commit thread only."""

    def __init__(self, environment: Environment, cache: SchemaCache) -> None:
        self.environment = environment
        self._cache = cache
        self._handles: dict[str, Any] = environment.handles
        self._new_handles: dict[str, Any] = {}
        self._origin_bytes: dict[int, bytes] = {}
        self._digests: dict[int, int] = {}
        self._extras: dict[int, int] = {}
        self._changed_tables: set[str] = set()
        self._sequences: dict[int, int] = {}
        self._pool: dict[str, list[Any]] | None = None
        self._origin_ids: dict[Origin, int] = {}
        self._replaced_origin: tuple[Origin, int] | None = None
        self._has_changes = False
        self.txn = environment.lmdb.begin(write=True)
        try:
            self._load()
        except BaseException:
            self.txn.abort()
            raise

    def _load(self) -> None:
        head = Head.decoded(self.txn.get(HEAD_KEY, db=self._handles["meta"]))
        self._schema = self._cache.get(self.environment, self.txn, head.schema_version)
        self.tables: dict[str, Table] = dict(self._schema.tables)
        self._schema_version = head.schema_version
        self.last_ts = head.last_ts
        self.lseq = head.lseq
        self._positions = self._read_positions()
        self._moved: set[int] = set()
        own = self._positions[self.environment.origin_id]
        self.oseq = own.oseq
        self.chain = own.chain

    # -- reading --------------------------------------------------------------------------------------------------

    def get(self, handle: str, key: bytes) -> bytes | None:
        data: bytes | None = self.txn.get(key, db=self._handle(handle))
        return data

    def keys_of(self, table: Table) -> Iterator[bytes]:
        """Stored primary keys of a table's rows, in order; nothing may be put while this is walked."""
        if table.rows_id:
            with self.txn.cursor(db=self._handle(f"p{table.rows_id}")) as cursor:
                yield from cursor.iternext(values=False)

    def entry_count(self, handle: str) -> int:
        return int(self.txn.stat(self._handle(handle))["entries"])

    def origin(self, origin_id: int) -> tuple[str, str]:
        """Node name and store id of an origin known here."""
        return self._positions[origin_id].origin

    def origin_id(self, origin: Origin) -> int:
        """The short id of an origin, given out at its first appearance."""
        origin_id = self._find_origin_id(origin)
        if origin_id is None:
            origin_id = self._origin_ids[origin] = max(self._positions, default=0) + 1
            self._positions[origin_id] = Position(origin, 0, NO_CHAIN, 0)
            self._moved.add(origin_id)
        return origin_id

    def _find_origin_id(self, origin: Origin) -> int | None:
        if not self._origin_ids:
            self._origin_ids = {position.origin: of for of, position in self._positions.items()}
        return self._origin_ids.get(origin)

    def find_position(self, origin: Origin) -> Position | None:
        """How far an origin is applied, None where it has never been heard of."""
        origin_id = self._find_origin_id(origin)
        return None if origin_id is None else self.position(origin_id)

    def position(self, origin_id: int) -> Position:
        """How far an origin is applied, as this transaction has left it so far."""
        position = self._positions[origin_id]
        if origin_id == self.environment.origin_id:
            return position._replace(oseq=self.oseq, chain=self.chain)
        return position

    def positions(self) -> Mapping[int, Position]:
        """Short id -> position of every origin known here; the own one as this transaction has left it so far."""
        own = self.environment.origin_id
        return {**self._positions, own: self.position(own)}

    def stamp_bytes(self, ts: int, origin_id: int, oseq: int) -> bytes:
        """A stamp as bytes that are the same on every node, for digests."""
        origin = self._origin_bytes.get(origin_id)
        if origin is None:
            origin = self._origin_bytes[origin_id] = codec.encode(list(self.origin(origin_id)))
        return b"".join((ts.to_bytes(8), oseq.to_bytes(8), origin))

    def next_generated_key(self, table: Table, draw_first: Callable[[], int]) -> int:
        key = self._sequences.get(table.id)
        if key is None:
            data = self.txn.get(table.id.to_bytes(4), db=self._handles["sequences"])
            key = draw_first() if data is None else int.from_bytes(data)
        self._sequences[table.id] = key + 1
        return key

    def reserve_table_id(self) -> int:
        """A table id never given out before. One that a refused transaction reserved stays unused."""
        pool = self._sub_database_pool()
        pool["table"][0] += 1
        return int(pool["table"][0])

    def check_room(self, changes: list[SchemaChange]) -> None:
        """Raises ``TooManyTables`` where the environment has no room for the sub-databases of these changes."""
        wanted = sum(change.new_sub_databases for change in changes)
        if not wanted:
            return
        pool = self._sub_database_pool()
        used = sum(pool[kind][0] - len(pool[kind][1]) for kind in ("p", "i"))
        if used + wanted > self.environment.settings.sub_databases_max:
            raise TooManyTables(self.environment.name)

    # -- putting --------------------------------------------------------------------------------------------------

    def append_log(self, entries: list[tuple[int, int, bytes]]) -> None:
        """Append ``(lseq, own position after it, stored bytes)``, and the vector where one is due."""
        log = self._handles["log"]
        for lseq, oseq, stored in entries:
            self._has_changes = True
            self.txn.put(lseq.to_bytes(8), stored, db=log, append=True)
            if lseq % VECTOR_EVERY == 0:
                own = self.environment.origin_id
                vector = [
                    [*position.origin, oseq if of == own else position.oseq] for of, position in self._positions.items()
                ]
                self.txn.put(lseq.to_bytes(8), codec.encode(vector), db=self._handles["vectors"])

    def append_received(self, origin_id: int, oseq: int, chain: bytes, stored: bytes) -> None:
        """Append an entry of another origin at ``lseq + 1``, and move that origin's position to it."""
        assert origin_id != self.environment.origin_id, "own entries are made here"
        self.lseq += 1
        self._positions[origin_id] = self._positions[origin_id]._replace(oseq=oseq, chain=chain)
        self._moved.add(origin_id)
        self.append_log([(self.lseq, self.oseq, stored)])

    def begin_incarnation(self, store: str) -> None:
        """Go on as another origin of the same node; what was written as the old one stays as it is."""
        environment = self.environment
        old = environment.origin_id
        self._positions[old] = self._positions[old]._replace(oseq=self.oseq, chain=self.chain)
        self._moved.add(old)
        origin = Origin(environment.origin.node, store)
        self._replaced_origin = (environment.origin, old)
        environment.origin, environment.origin_id = origin, self.origin_id(origin)
        self.oseq, self.chain = 0, NO_CHAIN
        self.put("meta", b"store", store.encode())
        self.delete("meta", mark_key(origin.node))  # it may vouch for what was lost with the old one

    def set_position(self, origin_id: int, position: Position) -> None:
        """Put an origin where a copy, or a fork that was found, says it is."""
        assert origin_id != self.environment.origin_id, "the own position moves with own entries"
        self._positions[origin_id] = position
        self._moved.add(origin_id)
        self._has_changes = True

    def advance_clock(self, ts: int, now_us: int) -> None:
        """A time seen from elsewhere: own ones will be later, but for what a clock far ahead would drag along."""
        self.last_ts = max(self.last_ts, min(ts, now_us + self.environment.settings.clock_skew_us_max))

    def apply_plan(self, plan: TablePlan) -> None:
        """Put and delete what a table's plan collected."""
        self._has_changes = True
        table = self.tables[plan.table.name]
        rows, tombstones = f"p{table.rows_id}", f"p{table.tombstones_id}"
        for name, removed in plan.index_removes.items():
            self._remove_duplicates(f"i{table.index_ids[name]}", removed)
        self._remove_duplicates("expiry", plan.expiry_removes)
        for handle, keys in ((rows, plan.removed_rows), (tombstones, plan.removed_tombstones)):
            for key in keys:
                self.txn.delete(key, db=self._handle(handle))
        self._put_many(rows, plan.rows)
        self._put_many(tombstones, plan.tombstones)
        for name, added in plan.index_adds.items():
            self._put_many(f"i{table.index_ids[name]}", added)
        self._put_many("expiry", plan.expiry_adds)
        for name, change in plan.extra_changes.items():
            number = table.index_ids[name]
            self._extras[number] = self._extra_entries(number) + change
        if plan.digest_change:
            self._digests[table.id] = (self._digest(table.id) + plan.digest_change) % DIGEST_MODULUS

    def apply_schema_change(self, change: SchemaChange, ts: int) -> None:
        self._schema_version += 1
        self._has_changes = True
        if change.kind == "create_table":
            self._create_table(change, ts)
            return
        table = self.tables[change.table]
        if change.attribute is not None:
            self._store_table(self._with_attribute(table, change))
        elif change.name is not None:
            if change.name in table.index_ids:
                self._give_back("i", table.index_ids[change.name])
            self._store_table(table.without_attribute(change.name, dropped_at=ts))
        else:
            self._drop_table(table, ts)

    def _create_table(self, change: SchemaChange, ts: int) -> None:
        assert change.definition is not None, "a creation brings its definition"
        self._store_table(
            Table(
                id=change.table_id,
                database=self.environment.name,
                definition=replace(change.definition, created=ts),
                rows_id=self._take("p"),
                tombstones_id=self._take("p"),
                index_ids={name: self._take("i") for name in change.new_indexes},
                complete=not self._is_missed(change.table),
            )
        )

    def _is_missed(self, name: str) -> bool:
        """Whether others may have kept records of a table of this name that was dropped here: then what is absent in the
        new one proves nothing.
        """
        node = self.environment.origin.node
        return bool(self.dropped_at(name)) and any(
            at.oseq and at.origin.node != node for at in self._positions.values()
        )

    def _with_attribute(self, table: Table, change: SchemaChange) -> Table:
        assert change.attribute is not None
        index_id = self._take("i") if change.new_indexes else None
        if index_id is not None and (not table.is_dynamic or change.attribute.name in table.dropped):
            self._build_index(table, change.attribute.name, index_id)
        return table.with_attribute(change.attribute, index_id)

    def _build_index(self, table: Table, name: str, index_id: int) -> None:
        """Index the records that are there. In a dynamic table none has the attribute, unless it was dropped here: other
        nodes may have kept it, and their newer writes of it are not hidden.
        """
        items: list[tuple[bytes, bytes]] = []
        extra = 0
        with self.txn.cursor(db=self._handle(f"p{table.rows_id}")) as cursor:
            for stored_key, data in cursor:
                row = decode_row(data)
                entries = entries_of(table.visible(row.decode(), row.ts).get(name, ...))
                items.extend((entry, stored_key) for entry in entries)
                extra += max(len(entries) - 1, 0)
        self._put_many(f"i{index_id}", items)
        if extra:
            self._extras[index_id] = extra

    def _drop_table(self, table: Table, ts: int) -> None:
        for number in (table.rows_id, table.tombstones_id):
            self._give_back("p", number)
        for number in table.index_ids.values():
            self._give_back("i", number)
        table_key = table.id.to_bytes(4)
        for name in ("tables", "digests", "sequences"):
            self.txn.delete(table_key, db=self._handles[name])
        self._digests.pop(table.id, None)
        self._sequences.pop(table.id, None)
        self.txn.delete(HIDDEN_KEY + table_key, db=self._handles["meta"])
        with self.txn.cursor(db=self._handles["expiry"]) as cursor:
            stale = [key for key in cursor.iternext_nodup(keys=True, values=False) if key[8:] == table_key]
        for key in stale:
            self.txn.delete(key, db=self._handles["expiry"])
        self.txn.put(DROPPED_KEY + table.name.encode(), ts.to_bytes(8), db=self._handles["meta"])
        del self.tables[table.name]
        self._changed_tables.discard(table.name)

    def _store_table(self, table: Table) -> None:
        """Encoded once, before the commit: a record may bring thousands of attributes, each a change of its own."""
        self._changed_tables.add(table.name)
        self.tables[table.name] = table

    def _put_many(self, handle: str, items: list[tuple[bytes, bytes]]) -> None:
        if not items:
            return
        database = self._handle(handle)
        if len(items) <= FEW:
            for key, value in items:
                self.txn.put(key, value, db=database)
            return
        items.sort()
        with self.txn.cursor(db=database) as cursor:
            cursor.putmulti(items)

    def _remove_duplicates(self, handle: str, items: list[tuple[bytes, bytes]]) -> None:
        for key, value in items:
            self.txn.delete(key, value, db=self._handle(handle))

    # -- upkeep, see storage/maintenance.py -----------------------------------------------------------------------

    def cursor(self, handle: str) -> Any:
        """A cursor for reading; use as a context manager, and change nothing that it walks before it is done."""
        return self.txn.cursor(db=self._handle(handle))

    def put(self, handle: str, key: bytes, value: bytes) -> None:
        self._has_changes = True
        self.txn.put(key, value, db=self._handle(handle))

    def delete(self, handle: str, key: bytes, value: bytes = b"") -> None:
        """Delete a key, or one of its values in a ``dupsort`` sub-database."""
        self._has_changes = True
        self.txn.delete(key, value, db=self._handle(handle))

    def table_of(self, table_id: int) -> Table | None:
        """The table with this id, None once it was dropped."""
        return next((table for table in self.tables.values() if table.id == table_id), None)

    def dropped_at(self, name: str) -> int:
        """``ts`` at which a table of this name was last dropped here, 0 for never."""
        data = self.txn.get(DROPPED_KEY + name.encode(), db=self._handles["meta"])
        return 0 if data is None else int.from_bytes(data)

    def replace_table(self, table: Table) -> None:
        """Store a changed definition; its sub-databases stay as they are."""
        assert table.index_ids == self.tables[table.name].index_ids, "indexes come and go with schema changes"
        self._schema_version += 1
        self._has_changes = True
        self._store_table(table)

    def floor(self, origin_id: int) -> int:
        """Highest position of an origin that the log no longer serves in full."""
        return self._positions[origin_id].floor

    def raise_floors(self, floors: Mapping[Origin, int]) -> None:
        """Move the floors of these origins up to the given positions, never down."""
        for origin_id, position in self._positions.items():
            floor = floors.get(position.origin, 0)
            if floor > position.floor:
                self._positions[origin_id] = position._replace(floor=floor)
                self._moved.add(origin_id)
                self._has_changes = True

    def mark_incomplete(self, table: Table) -> None:
        """Note that rows of ``table`` were removed for reasons of this node alone."""
        if table.complete:
            self._schema_version += 1
            self._has_changes = True
            self._store_table(replace(table, complete=False))

    # -- sub-databases --------------------------------------------------------------------------------------------

    def _handle(self, name: str) -> Any:
        handle = self._handles.get(name)
        return self._new_handles[name] if handle is None else handle

    def _sub_database_pool(self) -> dict[str, list[Any]]:
        """Per kind: the next number and the numbers that are free again; and the last table id given out."""
        if self._pool is None:
            data = self.txn.get(b"pool", db=self._handles["meta"])
            self._pool = codec.decode(data) if data else {"p": [0, []], "i": [0, []], "table": [0]}
        return self._pool

    def _take(self, kind: str) -> int:
        """The number of an empty sub-database: one given back, or a new one."""
        following, free = self._sub_database_pool()[kind]
        if free:
            return int(free.pop())
        number = following + 1
        self._sub_database_pool()[kind][0] = number
        name = f"{kind}{number}"
        if name not in self._handles:
            self._new_handles[name] = self.environment.open_handle(self.txn, name)
        return int(number)

    def _give_back(self, kind: str, number: int) -> None:
        self.txn.drop(self._handle(f"{kind}{number}"), delete=False)
        if kind == "i":
            self._extras.pop(number, None)
            self.txn.delete(number.to_bytes(4), db=self._handles["extras"])
        self._sub_database_pool()[kind][1].append(number)

    # -- ending ---------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Write the state back and commit; when this returns everything is durable and visible.

        Where every transaction was refused or changed nothing, there is nothing to commit and nothing to sync.
        """
        if not self._has_changes:
            self.abort()
            return
        meta = self._handles["meta"]
        self.txn.put(HEAD_KEY, Head(self._schema_version, self.last_ts, self.lseq).encoded(), db=meta)
        own = self._positions[self.environment.origin_id]
        if own.oseq != self.oseq:
            self._positions[self.environment.origin_id] = own._replace(oseq=self.oseq, chain=self.chain)
            self._moved.add(self.environment.origin_id)
        for origin_id in self._moved:
            position = self._positions[origin_id]
            self.txn.put(origin_id.to_bytes(4), position.encoded(), db=self._handles["origins"])
        for name in self._changed_tables:
            table = self.tables[name]
            self.txn.put(table.id.to_bytes(4), codec.encode(table.encoded()), db=self._handles["tables"])
        for number, extra in self._extras.items():
            self.txn.put(number.to_bytes(4), extra.to_bytes(8), db=self._handles["extras"])
        for table_id, digest in self._digests.items():
            self.txn.put(table_id.to_bytes(4), digest.to_bytes(16), db=self._handles["digests"])
        for table_id, following in self._sequences.items():
            self.txn.put(table_id.to_bytes(4), following.to_bytes(8), db=self._handles["sequences"])
        if self._pool is not None:
            self.txn.put(b"pool", codec.encode(self._pool), db=meta)
        self.environment.commit(self.txn, self._new_handles)
        if self._schema_version != self._schema.version:
            self._cache.newest = Schema.of(self._schema_version, iter(self.tables.values()))

    def abort(self) -> None:
        self.txn.abort()
        if self._replaced_origin is not None:
            self.environment.origin, self.environment.origin_id = self._replaced_origin

    def _read_positions(self) -> dict[int, Position]:
        with self.txn.cursor(db=self._handles["origins"]) as cursor:
            return {int.from_bytes(key): Position.decoded(value) for key, value in cursor}

    def _extra_entries(self, number: int) -> int:
        extra = self._extras.get(number)
        if extra is None:
            extra = int.from_bytes(self.txn.get(number.to_bytes(4), default=b"", db=self._handles["extras"]))
        return extra

    def _digest(self, table_id: int) -> int:
        digest = self._digests.get(table_id)
        if digest is None:
            digest = int.from_bytes(self.txn.get(table_id.to_bytes(4), default=b"", db=self._handles["digests"]))
        return digest
