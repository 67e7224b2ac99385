"""Writing: one client's transaction, which becomes one entry of the commit log.

A transaction is a plain function run on the database's commit thread, in three steps:

1. it *stages* its changes: reads see what was staged before, nothing is put yet; 2. ``seal`` works out everything the
changes mean (time, encoded records, log entry, index entries, digests) and checks it; 3. ``apply`` puts it.

A transaction that is refused, in step 1 or 2, has touched nothing, so all that wait share one LMDB transaction
without a child transaction for each. An error in step 3 can only be the environment's (map or disk full, a damaged
file), and ends the whole LMDB transaction: see ``storage/database.py``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from storage import codec
from storage.clock import tick
from storage.elsewhere import ChooseResidents, Version, residents_of
from storage.entry import Kind, Origin, Stamp, encode_header, encode_stored
from storage.errors import (
    AttributeExists,
    RecordsElsewhere,
    SchemaConflict,
    TableExists,
    TableNotFound,
    TransactionTooLarge,
)
from storage.marks import Mark, encode_mark, mark_key
from storage.record import Row, decode_row
from storage.restatement import is_restatable, plan_restatements
from storage.row_merge import Known
from storage.schema import Attribute, Definition, Table
from storage.schema_change import SchemaChange
from storage.table_plan import Staged, TablePlan
from storage.table_planner import TablePlanner
from storage.write_state import WriteState


class LogEnd(NamedTuple):
    """Where the log ends while a transaction is sealed: last ``lseq``, own position and chain digest there."""

    lseq: int
    oseq: int
    chain: bytes


class WriteTransaction:
    """What a write function gets. Not kept beyond the call."""

    def __init__(
        self, state: WriteState, *, user: str | None, operation: str | None, now_us: int, is_local: bool = False
    ) -> None:
        self._state = state
        self._user = user
        self._operation = operation
        self._is_local = is_local
        self._now_us = now_us
        self.now_ms = now_us // 1000
        self._tables: dict[str, Table] = dict(state.tables)
        self._staged: dict[str, dict[bytes, Staged]] = {}
        self._restated: dict[str, dict[bytes, Known]] = {}
        self._fetched: dict[str, Mapping[bytes, Version]] = {}
        self._schema_changes: list[SchemaChange] = []
        self._touched_us = 0
        self._has_tombstones: dict[int, bool] = {}
        self._ts = 0
        self._plans: list[TablePlan] = []
        self._entries: list[tuple[int, int, bytes]] = []
        self._position: tuple[Origin, int] | None = None
        self._is_mark = False
        self._mark: Mark | None = None

    # -- reading ------------------------------------------------------------------------------------------------

    def table(self, name: str) -> Table:
        """The table as this transaction has left it so far. Raises ``TableNotFound``."""
        table = self._tables.get(name)
        if table is None:
            raise TableNotFound(self._state.environment.name, name)
        return table

    def tables(self) -> Mapping[str, Table]:
        return self._tables

    def record(self, table: Table, stored_key: bytes) -> dict[str, Any] | None:
        """The live record, as this transaction has left it so far. Not to be changed in place.

        Raises ``RecordsElsewhere`` where other nodes hold it and it was not brought by ``use_fetched``.
        """
        staged = self._staged.get(table.name, {}).get(stored_key)
        if staged is not None:
            return staged.record
        row = self._row(table, stored_key)
        if row is None or row.is_expired(self.now_ms):
            return None
        record = self._whole(table, stored_key, row)
        if record is None:
            raise RecordsElsewhere(self._state.environment.name, table.name, (stored_key,))
        return record

    def use_fetched(self, table: Table, versions: Mapping[bytes, Version]) -> None:
        """Let ``record`` find these where only their indexed part is here, and still of the same version."""
        self._fetched[table.name] = versions

    def _whole(self, table: Table, stored_key: bytes, row: Row) -> dict[str, Any] | None:
        """The record of a row; None where only its indexed part is at hand."""
        visible = table.visible(row.decode(), row.ts)
        if row.is_resident:
            return visible
        fetched = self._fetched.get(table.name, {}).get(stored_key)
        if fetched is None or fetched.stamp != Stamp(row.ts, *self._state.origin(row.origin), row.oseq):
            return None
        return {**table.visible(fetched.record, row.ts), **visible}

    def records(self, table: Table) -> Iterator[dict[str, Any]]:
        """All live records of a table as this transaction has left them, staged ones first. Not to be changed in
        place.
        """
        staged = self._staged.get(table.name, {})
        yield from (change.record for change in staged.values() if change.record is not None)
        for stored_key in self._state.keys_of(table):
            record = None if stored_key in staged else self.record(table, stored_key)
            if record is not None:
                yield record

    def exists(self, table: Table, stored_key: bytes) -> bool:
        """Whether ``record`` would find one, without decoding it."""
        staged = self._staged.get(table.name, {}).get(stored_key)
        if staged is not None:
            return staged.record is not None
        row = self._row(table, stored_key)
        return row is not None and not row.is_expired(self.now_ms)

    def next_generated_key(self, table: Table, draw_first: Callable[[], int]) -> int:
        """An integer key that this database has not given out before; ``draw_first`` chooses where a table begins."""
        return self._state.next_generated_key(table, draw_first)

    def _row(self, table: Table, stored_key: bytes) -> Row | None:
        if not table.rows_id:
            return None
        data = self._state.get(f"p{table.rows_id}", stored_key)
        return None if data is None else decode_row(data)

    def _tombstone(self, table: Table, stored_key: bytes) -> Row | None:
        if not table.rows_id:
            return None
        has_some = self._has_tombstones.get(table.id)
        if has_some is None:
            has_some = self._has_tombstones[table.id] = self._state.entry_count(f"p{table.tombstones_id}") > 0
        data = self._state.get(f"p{table.tombstones_id}", stored_key) if has_some else None
        return None if data is None else decode_row(data)

    # -- staging ------------------------------------------------------------------------------------------------

    def put(
        self,
        table: Table,
        key: Any,
        stored_key: bytes,
        record: dict[str, Any],
        *,
        changed: list[str] | None = None,
        expires_at_ms: int | None = None,
        choose_residents: ChooseResidents | None = None,
    ) -> None:
        """Stage the whole record, which from now on belongs to this transaction; ``seal`` sets its times.

        Where nobody chooses them, those who hold the record go on to do so.
        """
        staged = self._stage(table, key, stored_key)
        if staged.record is not None and staged.changed is not None and changed is not None:
            changed = list(dict.fromkeys((*staged.changed, *changed)))
        if choose_residents is not None:
            is_new = staged.record is None and staged.old_record is None
            staged.residents = choose_residents(None if is_new else staged.residents)
        staged.record = record
        staged.changed = changed
        staged.expires_at_ms = expires_at_ms

    def delete(self, table: Table, key: Any, stored_key: bytes) -> None:
        """Stage a delete; also of a record that is not here, as another node may know of it."""
        self._stage(table, key, stored_key).record = None

    def restate(self, table: Table, stored_key: bytes) -> int:
        """Stage a restatement of what is here of a record, row or tombstone; the bytes of its value, to bound an entry.

        0 where there is none to make: nothing is here, or nothing that other nodes may have or that is here in full. A
        record that this transaction writes as well is not restated.
        """
        row = self._row(table, stored_key)
        version = self._tombstone(table, stored_key) if row is None else row
        if version is None or not is_restatable(version) or self._has_local_records(table):
            return 0
        self._restated.setdefault(table.name, {})[stored_key] = Known(version, row is None)
        return len(version.value)

    def mark(self) -> None:
        """Stage a mark: an entry that tells how far this node is. It stands for itself and is staged alone."""
        self._is_mark = True

    def create_table(self, definition: Definition) -> Table:
        """Stage a table. Raises ``TableExists``, ``SchemaConflict`` where this transaction dropped one of the name."""
        if definition.name in self._tables:
            raise TableExists(self._state.environment.name, definition.name)
        if definition.name in self._state.tables:
            raise SchemaConflict(f"Table '{definition.name}' was dropped in the transaction that creates it")
        return self._change_schema(
            SchemaChange(
                kind="create_table",
                table=definition.name,
                definition=definition,
                table_id=self._state.reserve_table_id(),
                is_local=definition.is_local,
            )
        )

    def add_attribute(self, table: Table, attribute: Attribute) -> Table:
        """Stage a new attribute at the end of the table; its index covers the records that are there already.

        Raises ``AttributeExists``.
        """
        if attribute.name in self.table(table.name).attributes:
            raise AttributeExists(self._state.environment.name, table.name, attribute.name)
        is_local = table.definition.is_local
        return self._change_schema(
            SchemaChange(kind="add_attribute", table=table.name, attribute=attribute, is_local=is_local)
        )

    def drop_attribute(self, table: Table, name: str) -> Table:
        return self._change_schema(SchemaChange(kind="drop_attribute", table=table.name, name=name))

    def drop_table(self, table: Table) -> None:
        """Stage a drop; to be staged alone, as nothing else may touch the table in this transaction."""
        if table.name in self._staged or table.name in self._restated:
            raise SchemaConflict(f"Table '{table.name}' was written in the transaction that drops it")
        self._schema_changes.append(SchemaChange(kind="drop_table", table=table.name))
        del self._tables[table.name]

    def _change_schema(self, change: SchemaChange) -> Table:
        table = change.preview(self._tables.get(change.table), self._state.environment.name)
        self._tables[table.name] = table
        self._schema_changes.append(change)
        return table

    def _stage(self, table: Table, key: Any, stored_key: bytes) -> Staged:
        of_table = self._staged.setdefault(table.name, {})
        staged = of_table.get(stored_key)
        if staged is None:
            old = self._row(table, stored_key)
            tombstone = None if old else self._tombstone(table, stored_key)
            before = old or tombstone
            if before is not None and before.ts > self._touched_us:
                self._touched_us = before.ts
            staged = of_table[stored_key] = Staged(key, None, old, None, tombstone, None, None)
            if old is not None and not old.is_expired(self.now_ms):
                whole = self._whole(table, stored_key, old)
                staged.old_record = table.visible(old.decode(), old.ts) if whole is None else whole
                staged.residents = residents_of(old)
        return staged

    # -- sealing ------------------------------------------------------------------------------------------------

    def seal(self) -> None:
        """Work out all changes. Raises what refuses the transaction; nothing was put then."""
        if not self._staged and not self._restated and not self._schema_changes and not self._is_mark:
            return
        state = self._state
        self._ts, last_ts = tick(
            now_us=self._now_us,
            last_us=state.last_ts,
            touched_us=self._touched_us,
            skew_us_max=state.environment.settings.clock_skew_us_max,
        )
        state.check_room(self._schema_changes)
        end = LogEnd(state.lseq, state.oseq, state.chain)
        for is_local in (False, True):
            changes = [change for change in self._schema_changes if self._stays_here(change) is is_local]
            if changes:
                payload = codec.encode([change.encoded(self._ts) for change in changes])
                end = self._add_entry("schema", payload, [], end, is_local=is_local)
        for is_local in (False, True):
            touched = dict.fromkeys((*self._staged, *self._restated))
            names = [name for name in touched if self._has_local_records(self._tables[name]) is is_local]
            if names:
                writes, previous = self._plan_tables(names, end.lseq + 1, 0 if is_local else end.oseq + 1)
                end = self._add_entry("tx", codec.encode(writes), previous, end, is_local=is_local)
        if self._is_mark:
            end = self._add_mark(end)
        state.last_ts = last_ts
        state.lseq, state.oseq, state.chain = end

    def _add_mark(self, end: "LogEnd") -> "LogEnd":
        """It covers all that this node has when it is made, and not itself."""
        assert not self._entries and not self._is_local, "a mark is staged alone, and for others"
        positions = self._state.positions().values()
        vector = {position.origin: position.oseq for position in positions if position.oseq}
        end = self._add_entry("mark", encode_mark(vector), [], end, is_local=False)
        self._mark = Mark(origin=self._state.environment.origin, oseq=end.oseq, ts=self._ts, vector=vector)
        return end

    def _stays_here(self, change: SchemaChange) -> bool:
        return self._is_local or not change.is_replicated

    def _has_local_records(self, table: Table) -> bool:
        return self._is_local or table.definition.is_local

    def _add_entry(self, kind: Kind, payload: bytes, previous: list[int], end: "LogEnd", *, is_local: bool) -> "LogEnd":
        bytes_max = self._state.environment.settings.entry_bytes_max
        if len(payload) > bytes_max:
            raise TransactionTooLarge(len(payload), bytes_max)
        header, chain = encode_header(
            origin=self._state.environment.origin,
            oseq=0 if is_local else end.oseq + 1,
            ts=self._ts,
            kind=kind,
            user=self._user,
            operation=self._operation,
            payload=payload,
            previous_chain=end.chain,
        )
        stored = encode_stored(committed_at=self._now_us, previous=previous, header=header, payload=payload)
        new_end = LogEnd(end.lseq + 1, end.oseq, end.chain) if is_local else LogEnd(end.lseq + 1, end.oseq + 1, chain)
        self._entries.append((new_end.lseq, new_end.oseq, stored))
        if not is_local:
            self._position = (self._state.environment.origin, new_end.oseq)
        return new_end

    def _plan_tables(self, names: Iterable[str], lseq: int, oseq: int) -> tuple[list[dict[str, Any]], list[int]]:
        writes: list[dict[str, Any]] = []
        previous: list[int] = []
        for name in names:
            planner = TablePlanner(self._state, self._tables[name], self._ts, lseq, oseq)
            of_table = self._staged.get(name, {})
            for stored_key, staged in of_table.items():
                writes.append(planner.plan(stored_key, staged))
                before = staged.old or staged.tombstone
                previous.append(before.lseq if before else 0)
            self._plans.append(planner.result)
            restated = {key: version for key, version in self._restated.get(name, {}).items() if key not in of_table}
            if restated:
                plan, restatements = plan_restatements(self._state, self._tables[name], restated, oseq=oseq)
                self._plans.append(plan)
                writes.extend(restatements)
                previous.extend([0] * len(restatements))
        return writes, previous

    # -- applying -----------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Put what was worked out. Whatever is raised here ends the whole LMDB transaction."""
        for change in self._schema_changes:
            self._state.apply_schema_change(change, self._ts)
        for plan in self._plans:
            self._state.apply_plan(plan)
        self._state.append_log(self._entries)
        if self._mark is not None:
            self._state.put("meta", mark_key(self._mark.origin.node), self._mark.encoded())

    @property
    def origin(self) -> Origin:
        """Whose entry this transaction becomes: this node in the current life of the database."""
        return self._state.environment.origin

    @property
    def position(self) -> tuple[Origin, int] | None:
        """Origin and position of its last entry that other nodes get, known once it is sealed; None: they get none."""
        return self._position

    @property
    def ts(self) -> int:
        """The transaction's time, known once it is sealed; 0 for one that changed nothing."""
        return self._ts
