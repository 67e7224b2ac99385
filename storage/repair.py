"""Repair: what all replicas are to hold of a record that two of them hold differently.

``decide`` is pure and goes by the merge rules of a copy, applied both ways: the greater stamp wins, but for a live row
that the other side has seen and does not have. That one was deleted there, and the delete is forgotten. Only: a delete
is not forgotten before ``auditRetention`` has passed. A younger row that is missing was lost, and comes back.

The outcome is told to all replicas by an own entry. A version that wins as it is, is *restated* under its stamp. Where
the outcome must replace a stamp that is greater than its own, or one stamp has come to mean different values, it is
*amended*: it gets a stamp one microsecond above the one that it has to beat, at the position of the entry that tells
it. So it beats what was compared and nothing that was written since. Of two values under one stamp that one is right
which a log still has so; where no log has it, that of the node which repairs.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from storage import codec
from storage.entry import Entry, Origin, Stamp, digest
from storage.errors import Corrupt, InvalidKey
from storage.range_digests import RangeScan, Version, VersionReader
from storage.record import Row, decode_row
from storage.row_merge import Known, RowMerge
from storage.schema import Table
from storage.table_plan import TablePlan
from storage.table_planner import EXPIRY_MS_MAX
from storage.transaction import ReadTransaction, stored_key_of
from storage.write_state import DIGEST_MODULUS, WriteState
from storage.write_transaction import WriteTransaction

Vector: TypeAlias = Mapping[Origin, int]

ENTRY_BYTES: Final = 1 << 20
"""Values after which another entry is begun."""


class Held(NamedTuple):
    """A version with all that belongs to it. ``is_logged``: the log here has this write with this very value."""

    version: Version
    value: bytes
    expires_at_ms: int | None
    is_logged: bool


Sides: TypeAlias = tuple[Held | None, Held | None]
"""What is here of a record, and what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """How far both sides are. ``apart`` are origins whose numbers mean different entries to them: what a vector says of
    those counts for nothing. ``old_us``: what was written earlier may have been deleted without a trace.
    """

    here: Vector
    there: Vector
    old_us: int
    apart: Collection[Origin] = ()

    def has_seen(self, vector: Vector, version: Version) -> bool:
        origin, oseq = version.position
        return origin not in self.apart and oseq <= vector.get(origin, 0)


class Outcome(NamedTuple):
    """``winner`` None: the record goes. ``beats`` is the stamp that the outcome has to replace, None where the winner's
    own does.
    """

    winner: Literal["here", "there"] | None
    beats: Stamp | None


Verdict: TypeAlias = Literal["equal", "differs", "awaited"]


def compare(here: Version | None, there: Version | None, knowledge: Knowledge) -> Verdict:
    """Whether two sides hold a record alike. ``awaited``: a write of it has not come to one of them yet.

    Tombstones count as nothing: they are purged at different times. Of a record that only some nodes hold in full the
    sides may hold different bytes.
    """
    live_here, live_there = _is_live(here), _is_live(there)
    if not live_here and not live_there:
        return "equal"
    if any(one is not None and not one.content for one in (here, there)):
        return "equal"
    if here is not None and there is not None and here.stamp == there.stamp:
        return "equal" if live_here == live_there and here.content == there.content else "differs"
    newer, vector_of_other = _newer(here, there, knowledge)
    is_stuck = newer.position[0] in knowledge.apart
    return "differs" if is_stuck or knowledge.has_seen(vector_of_other, newer) else "awaited"


def decide(here: Held | None, there: Held | None, knowledge: Knowledge) -> Outcome:
    """What is to become of a record of which at least one side has a version."""
    if here is not None and there is not None and here.version.stamp == there.version.stamp:
        return Outcome("there" if there.is_logged and not here.is_logged else "here", here.version.stamp)
    of_here = None if here is None else here.version
    of_there = None if there is None else there.version
    newer, vector_of_other = _newer(of_here, of_there, knowledge)
    is_here = newer is of_here
    older = there if is_here else here
    was_deleted = not newer.is_tombstone and newer.stamp.ts < knowledge.old_us
    if not was_deleted or not knowledge.has_seen(vector_of_other, newer):
        return Outcome("here" if is_here else "there", None)
    if older is None or older.version.is_tombstone:
        return Outcome(None, newer.stamp)
    return Outcome("there" if is_here else "here", newer.stamp)


def _is_live(version: Version | None) -> bool:
    return version is not None and not version.is_tombstone


def _newer(here: Version | None, there: Version | None, knowledge: Knowledge) -> tuple[Version, Vector]:
    """The version with the greater stamp, and how far the side is that does not have it."""
    if there is None or (here is not None and here.stamp > there.stamp):
        assert here is not None, "one side has a version"
        return here, knowledge.there
    return there, knowledge.here


# -- reading ----------------------------------------------------------------------------------------------------------


def read_held(tx: ReadTransaction, table: Table, stored_keys: Iterable[bytes], *, bytes_max: int) -> list[Held | None]:
    """What is here of these records, in their order; ends after ``bytes_max`` of values, never before one record."""
    held: list[Held | None] = []
    reader = VersionReader(tx, table)
    size_bytes = 0
    for stored_key in stored_keys:
        if size_bytes >= bytes_max:
            break
        one = _read_one(tx, table, reader, stored_key)
        size_bytes += 0 if one is None else len(one.value)
        held.append(one)
    return held


def _read_one(tx: ReadTransaction, table: Table, reader: VersionReader, stored_key: bytes) -> Held | None:
    for number, has_record in ((table.rows_id, True), (table.tombstones_id, False)):
        data = tx.txn.get(stored_key, db=tx.environment.handles[f"p{number}"])
        if data is not None:
            row = decode_row(data)
            if not row.oseq:
                return None
            version = reader.version(stored_key, row, has_record=has_record)
            is_logged = _is_logged(tx, table, version, row, has_record=has_record)
            return Held(version, row.value, row.expires_at_ms, is_logged)
    return None


def _is_logged(tx: ReadTransaction, table: Table, version: Version, row: Row, *, has_record: bool) -> bool:
    try:
        entry = tx.log.entry(row.lseq)
        if entry is None or entry.is_reduced or digest(entry.payload) != entry.header.payload_digest:
            return False
        return any(_is_write_of(entry, write, table, version, row, has_record) for write in entry.writes())
    except (Corrupt, InvalidKey, KeyError, TypeError):
        return False


def _is_write_of(
    entry: Entry, write: Mapping[str, Any], table: Table, version: Version, row: Row, has_record: bool
) -> bool:
    header = entry.header
    if write["t"] != table.name or stored_key_of(write["k"]) != version.stored_key:
        return False
    if tuple(write.get("s", (header.ts, *header.origin, header.oseq))) != version.stamp:
        return False
    return bool(write["v"] == row.value if write["op"] == "put" else not has_record)


# -- repairing --------------------------------------------------------------------------------------------------------


class Settlement(NamedTuple):
    """A record that was compared: its outcome, and what both sides had then."""

    stored_key: bytes
    outcome: Outcome
    sides: Sides


def settle(
    state: WriteState,
    table_name: str,
    settlements: Sequence[Settlement],
    *,
    now_us: int,
    user: str | None,
    operation: str,
) -> int:
    """Put the outcomes here and tell them to all, in one LMDB transaction; of how many records.

    Left alone is what has changed here since, and what cannot be taken as it is damaged.
    """
    settled = 0
    while settlements:
        batch, settlements = _first_entry(settlements)
        settled += _Batch(state, table_name, now_us, user, operation).run(batch)
    return settled


def _first_entry(settlements: Sequence[Settlement]) -> tuple[Sequence[Settlement], Sequence[Settlement]]:
    """As many as make one entry, and the rest."""
    size_bytes = 0
    for number, settlement in enumerate(settlements, 1):
        size_bytes += max((len(held.value) for held in settlement.sides if held is not None), default=0)
        if size_bytes >= ENTRY_BYTES:
            return settlements[:number], settlements[number:]
    return settlements, ()


class _Batch:
    """The records of one entry."""

    def __init__(self, state: WriteState, table_name: str, now_us: int, user: str | None, operation: str) -> None:
        self._state = state
        self._table = state.tables.get(table_name)
        self._transaction = WriteTransaction(state, user=user, operation=operation, now_us=now_us)
        self._origins = {origin_id: at.origin for origin_id, at in state.positions().items()}

    def run(self, settlements: Sequence[Settlement]) -> int:
        table = self._table
        if table is None or table.definition.is_local:
            return 0
        merge = RowMerge(self._state, table)
        stored_keys = [one.stored_key for one in settlements if self._is_put(merge, one)]
        self._state.apply_plan(merge.plan)
        restated = sum(self._transaction.restate(table, stored_key) > 0 for stored_key in stored_keys)
        self._transaction.seal()
        self._transaction.apply()
        return restated

    def _is_put(self, merge: RowMerge, settlement: Settlement) -> bool:
        """Collect what makes the outcome stand here; whether it will."""
        known = merge.known(settlement.stored_key)
        here, there = settlement.sides
        if not self._is_as_found(known, None if here is None else here.version):
            return False
        winner, beats = settlement.outcome
        if winner == "here" and beats is None:
            return True
        try:
            incoming, record = self._outcome(merge.table, settlement, here if winner == "here" else there)
            return merge.merge(settlement.stored_key, incoming, known, record=record) == "applied"
        except (Corrupt, InvalidKey):
            return False

    def _is_as_found(self, known: Known | None, found: Version | None) -> bool:
        if known is None or not known.row.oseq:
            return found is None and known is None
        row = known.row
        return found is not None and self._stamp(row) == found.stamp and digest(row.value) == found.content

    def _stamp(self, row: Row) -> Stamp:
        return Stamp(row.ts, *self._origins[row.origin], row.oseq)

    def _outcome(self, table: Table, settlement: Settlement, winner: Held | None) -> tuple[Row, dict[str, Any] | None]:
        """The row to be put, and its record; None for a tombstone."""
        loser = settlement.sides[0] or settlement.sides[1]
        assert loser is not None, "one side has a version"
        source = winner or loser
        record: dict[str, Any] | None = None
        if winner is None:
            key = loser.version.key
            value, expires_at_ms = codec.encode(key), None
        else:
            value, expires_at_ms = winner.value, winner.expires_at_ms
            decoded = codec.decode(value)
            is_record = isinstance(decoded, dict) and table.primary_key in decoded
            record = decoded if is_record else None
            key = decoded[table.primary_key] if is_record else decoded
        if stored_key_of(key) != settlement.stored_key:
            raise Corrupt(f"a version of a peer stands under another key than its own, {key!r:.100}")
        if expires_at_ms is not None and not 0 <= expires_at_ms <= EXPIRY_MS_MAX:
            raise Corrupt("the expiry of a version of a peer is damaged")
        return self._row(settlement.outcome.beats, source.version.stamp, value, expires_at_ms), record

    def _row(self, beats: Stamp | None, stamp: Stamp, value: bytes, expires_at_ms: int | None) -> Row:
        state = self._state
        if beats is not None:
            ts, origin_id, oseq = beats.ts + 1, state.environment.origin_id, state.oseq + 1
        else:
            origin = Origin(stamp.node, stamp.store)
            if origin == state.environment.origin and stamp.oseq > state.oseq:
                raise Corrupt("a version of a peer bears a number that this node has not given out")
            ts, origin_id, oseq = stamp.ts, state.origin_id(origin), stamp.oseq
        return Row(ts=ts, origin=origin_id, oseq=oseq, lseq=state.lseq + 1, value=value, expires_at_ms=expires_at_ms)


# -- the kept digest --------------------------------------------------------------------------------------------------


def digest_error(scan: RangeScan) -> int | None:
    """By how much the digest that is kept of a table is not that of its rows; None where the table moved meanwhile.

    ``scan`` is a finished one of the whole table, without expiring rows.
    """
    if not scan.is_still or scan.began is None:
        return None
    total = sum(int.from_bytes(found.digest) for found in scan.digests)
    return (total - int.from_bytes(scan.began.digest)) % DIGEST_MODULUS


def mend_digest(state: WriteState, table_name: str, table_id: int, error: int) -> None:
    """Take an error out of the kept digest. Digests are sums, so what was written since it was found does no harm."""
    table = state.tables.get(table_name)
    if table is not None and table.id == table_id:
        plan = TablePlan.empty(table)
        plan.digest_change = error
        state.apply_plan(plan)
