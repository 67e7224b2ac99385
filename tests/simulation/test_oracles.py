"""Do the oracles bite? Each test breaks the code on purpose and expects a few seeds to find out.

A fault that no seed notices is one that the simulation does not protect us from.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

import storage.received_entries
from replication.fields import SentEntry
from replication.messages import Ack
from replication.stream_in import StreamIn, received_of
from storage.database import Database, Maintenance, Outcome, Write
from storage.entry import NO_CHAIN
from storage.received_entries import ReceivedSkip, apply_received
from storage.row_merge import RowMerge
from storage.table_plan import TablePlan
from storage.write_state import WriteState
from tests.simulation.plan import Plan, Violation
from tests.simulation.world import simulate

SEEDS_MAX = 12
"""A mutation that survives so many seeds counts as not found."""

BUSY: Final[dict[str, Any]] = {"rare_kinds": (), "write_every_s": 12.0, "burst": 4, "keys": 4, "fault_every_s": 12.0}
"""What all these runs have in common: many writes of few records, many faults."""


def assert_found(**fields: Any) -> None:
    """One of the first seeds must end in a ``Violation``; an error of any other kind fails the test."""
    for seed in range(SEEDS_MAX):
        is_found = False
        try:
            simulate(Plan.of(seed, nodes=3).changed(**{**BUSY, **fields}))
        except* Violation:
            is_found = True
        if is_found:
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not notice")


def wrapped(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, wrap: Callable[..., Any]) -> None:
    """Replace a function by ``wrap``, which gets the original first."""
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: wrap(original, *args, **kwargs))


def test_unbroken_code_passes_the_same_seeds():
    for seed in range(3):
        simulate(Plan.of(seed, nodes=3).changed(**BUSY))


def test_a_position_that_moves_without_its_rows_is_found(monkeypatch):
    def forgets(original, state: WriteState, plan: TablePlan) -> None:
        if len(plan.rows) != 3:
            original(state, plan)

    wrapped(monkeypatch, WriteState, "apply_plan", forgets)
    assert_found()


def test_a_merge_that_ignores_stamps_is_found(monkeypatch):
    monkeypatch.setattr(RowMerge, "_judge", lambda *_: "applied")
    assert_found()


def test_a_merge_that_keeps_what_came_first_is_found(monkeypatch):
    monkeypatch.setattr(RowMerge, "_judge", lambda merge, incoming, known, _: "applied" if known is None else "lost")
    assert_found()


def test_an_acknowledgement_ahead_of_the_commit_is_found(monkeypatch):
    def hasty(original, stream: StreamIn, batch: Any, frame_bytes: int) -> None:
        original(stream, batch, frame_bytes)
        reached: dict[Any, int] = {}
        for item in batch.items:
            if isinstance(item, SentEntry):
                header = received_of(item).header
                reached[header.origin] = header.oseq
        stream.link.post(Ack(id=batch.id, positions=reached))

    wrapped(monkeypatch, StreamIn, "_note_batch", hasty)
    assert_found(commit_s=0.2)


def test_a_subscriber_that_steps_over_what_a_peer_does_not_have_is_found(monkeypatch):
    def steps_over(original, stream: StreamIn, reasons: Any, has: Any) -> None:
        database = stream.replica.catalog.database("data")
        for origin in has:
            before = {position.origin: position.oseq for position in stream.replica.positions().values()}
            skip = ReceivedSkip(origin=origin, first=before.get(origin, 0) + 1, last=has[origin], chain=NO_CHAIN)
            if skip.first <= skip.last:
                database.commit([Maintenance(function=partial(apply_received, items=[skip], now_us=0))])

    wrapped(monkeypatch, StreamIn, "_note_unserved", steps_over)
    assert_found()


def test_a_relay_that_claims_what_it_relays_is_found(monkeypatch):
    def claims(original, merge: RowMerge, stored_key: bytes, incoming: Any, *args: Any, **kwargs: Any) -> Any:
        own = merge._state.environment.origin_id
        return original(merge, stored_key, incoming._replace(origin=own), *args, **kwargs)

    wrapped(monkeypatch, RowMerge, "merge", claims)
    assert_found()


def test_tombstones_that_get_lost_on_their_way_are_found(monkeypatch):
    def loses(original, state: WriteState, plan: TablePlan) -> None:
        plan.tombstones.clear()
        original(state, plan)

    wrapped(monkeypatch, WriteState, "apply_plan", loses)
    assert_found()


def test_an_index_that_is_not_kept_is_found(monkeypatch):
    monkeypatch.setattr(TablePlan, "index_replaced", lambda *_: None)
    assert_found()


def test_a_promise_that_no_commit_stands_behind_is_found(monkeypatch):
    def promises(original, database: Database, writes: Any, **kwargs: Any) -> list[Outcome]:
        if len(writes) == 1 and isinstance(writes[0], Write) and writes[0].operation == "upsert":
            with database.read() as tx:
                if tx.head().lseq % 10 == 9:
                    state = WriteState(database.environment, database._cache)
                    try:
                        return [database._run(writes[0], state)]
                    finally:
                        state.abort()
        return original(database, writes, **kwargs)

    wrapped(monkeypatch, Database, "commit", promises)
    assert_found()


def test_a_transaction_that_is_shown_in_parts_is_found(monkeypatch):
    def only_one_table(original, state: WriteState, plan: TablePlan) -> None:
        if plan.table.name == "left" or len(plan.rows) + len(plan.tombstones) != 1:
            original(state, plan)

    wrapped(monkeypatch, WriteState, "apply_plan", only_one_table)
    assert_found()


def test_unchecked_damage_is_found(monkeypatch):
    monkeypatch.setattr(storage.received_entries, "follows", lambda *_: True)
    wrapped(monkeypatch, storage.received_entries, "digest", lambda original, payload: AnyDigest())
    assert_found(rare_kinds=("damage",) * 20, value_bytes=300)


class AnyDigest(bytes):
    """Equal to every digest."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def test_an_entry_that_is_applied_and_leaves_its_origin_at_an_older_position_is_found(monkeypatch):
    def falls(original, state: WriteState, origin_id: int, oseq: int, chain: bytes, stored: bytes) -> None:
        original(state, origin_id, oseq, chain, stored)
        if oseq == 7:
            state.set_position(origin_id, state.position(origin_id)._replace(oseq=3))

    wrapped(monkeypatch, WriteState, "append_received", falls)
    assert_found()
