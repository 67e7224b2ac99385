from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from storage import codec
from storage.catalog import Catalog, open_catalog
from storage.checker import check_database
from storage.commit_log import VECTOR_EVERY
from storage.database import Maintenance, Write
from storage.entry import Origin
from storage.errors import Corrupt, DatabaseNotFound, MapFull, TableNotFound
from storage.history import record_history, table_history
from storage.maintenance import (
    Progress,
    expire_rows,
    hidden_tables,
    hide_history,
    purge_tombstones,
    reduce_history,
    remove_rows,
    trim_log,
)
from storage.record import Row, decode_row
from storage.retention import Removed, RetentionRules, apply_retention, delete_history, run_retention
from storage.schema import Attribute, Definition, dynamic_attributes
from storage.settings import StorageSettings
from storage.table_writes import delete_records, write_records
from storage.transaction import stored_key_of
from tests.storage.opened import MAP_BYTES, START_US, Opened, put_dog

DAY_US = 86_400_000_000


def tombstones(opened: Opened, table: str = "dog") -> dict[Any, Row]:
    with opened.database.read() as tx:
        handle = opened.environment.handles[f"p{tx.table(table).tombstones_id}"]
        with tx.txn.cursor(db=handle) as cursor:
            return {row.decode(): row for _, data in cursor for row in [decode_row(data)]}


def raw_count(opened: Opened, name: str) -> int:
    with opened.database.read() as tx:
        return int(tx.txn.stat(opened.environment.handles[name])["entries"])


def lseqs(opened: Opened) -> list[int]:
    with opened.database.read() as tx:
        return [entry.lseq for entry in tx.log.read_from()]


def floor(opened: Opened) -> int:
    with opened.database.read() as tx:
        (position,) = tx.log.positions().values()
        return position.floor


def expire(opened: Opened, **options: Any) -> int:
    return int(opened.maintain(lambda state: expire_rows(state, now_ms=opened.now_us // 1000, **options)))


def trim(opened: Opened, **options: Any) -> int:
    chosen = {"before_us": opened.now_us + 1, **options}
    return int(opened.maintain(lambda state: trim_log(state, **chosen)))


def purge(opened: Opened, **options: Any) -> Progress:
    chosen = {"before_us": opened.now_us + DAY_US, **options}
    table_id = opened.table("dog").id
    progress = opened.maintain(lambda state: purge_tombstones(state, table_id, **chosen))
    assert isinstance(progress, Progress)
    return progress


def is_sound(opened: Opened) -> bool:
    assert check_database(opened.environment, now_ms=opened.now_us // 1000) == []
    return True


# -- expiry ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def expired(opened: Opened) -> Opened:
    """Record 1 has expired, 2 will, 3 never."""
    now_ms = opened.now_us // 1000
    opened.put("dog", {"id": 1, "name": "Tilda", "tags": [1, 2]}, expires_at_ms=now_ms + 1000)
    opened.put("dog", {"id": 2, "name": "Rex"}, expires_at_ms=now_ms + 9_000_000)
    opened.put("dog", {"id": 3, "name": "Max"})
    opened.now_us += 60_000_000
    return opened


def test_an_expired_record_goes_with_all_its_entries(expired: Opened) -> None:
    last = lseqs(expired)
    assert expire(expired) == 1
    assert expire(expired) == 0
    assert expired.ids("dog") == [2, 3]
    assert [key for _, key in expired.index("dog", "name")] == [stored_key_of(3), stored_key_of(2)]
    assert (expired.index("dog", "tags"), raw_count(expired, "expiry")) == ([], 1)
    assert lseqs(expired) == last
    assert is_sound(expired)


def test_an_expired_record_leaves_a_tombstone_with_its_own_stamp(expired: Opened) -> None:
    table = expired.table("dog")
    with expired.database.read() as tx:
        data = tx.txn.get(stored_key_of(1), db=expired.environment.handles[f"p{table.rows_id}"])
    row = decode_row(data)
    expire(expired)
    (tombstone,) = tombstones(expired).values()
    assert tombstone == row._replace(value=codec.encode(1))


def test_expiry_changes_no_count_and_no_digest(expired: Opened) -> None:
    def seen() -> tuple[int, bytes]:
        with expired.database.read(now_ms=expired.now_us // 1000) as tx:
            table = tx.table("dog")
            return tx.record_count(table), tx.state_digest(table)

    before = seen()
    expire(expired)
    assert seen() == before


def test_an_expired_record_that_was_removed_can_come_back(expired: Opened) -> None:
    expire(expired)
    expired.put("dog", {"id": 1, "name": "again"})
    assert expired.record("dog", 1)["name"] == "again"
    assert tombstones(expired) == {}


def test_expiry_is_done_in_chunks(opened: Opened) -> None:
    opened.put("dog", *({"id": key} for key in range(10)), expires_at_ms=opened.now_us // 1000)
    opened.now_us += 1_000_000
    assert [expire(opened, limit=4) for _ in range(4)] == [4, 4, 2, 0]
    assert opened.ids("dog") == []


def test_records_of_many_tables_expire_in_order_of_their_time(opened: Opened) -> None:
    now_ms = opened.now_us // 1000
    opened.create_table("cat")
    for key in range(4):
        opened.put("dog" if key % 2 else "cat", {"id": key}, expires_at_ms=now_ms + 100 - key)
    opened.now_us += 1_000_000
    expire(opened, limit=2)
    assert (list(tombstones(opened)), list(tombstones(opened, "cat"))) == ([3], [2])
    expire(opened)
    assert is_sound(opened)


def test_an_order_of_expiry_that_leads_nowhere_is_only_taken_away(expired: Opened) -> None:
    key = (7).to_bytes(8) + expired.table("dog").id.to_bytes(4)
    with expired.environment.lmdb.begin(write=True) as txn:
        txn.put(key, stored_key_of(3), db=expired.environment.handles["expiry"])
        txn.put(key, stored_key_of(77), db=expired.environment.handles["expiry"])
        txn.put((7).to_bytes(8) + (99).to_bytes(4), b"x", db=expired.environment.handles["expiry"])
    assert expire(expired) == 4
    assert expired.ids("dog") == [2, 3]
    assert tombstones(expired).keys() == {1}


def test_a_damaged_row_stops_the_expiry_and_not_the_writes(expired: Opened) -> None:
    handle = expired.environment.handles[f"p{expired.table('dog').rows_id}"]
    with expired.environment.lmdb.begin(write=True) as txn:
        whole = txn.get(stored_key_of(1), db=handle)
        txn.put(stored_key_of(1), whole[:20], db=handle)
    with pytest.raises(Corrupt):
        expire(expired)
    expired.put("dog", {"id": 9})
    with expired.environment.lmdb.begin(write=True) as txn:
        txn.put(stored_key_of(1), whole, db=handle)
    assert expire(expired) == 1


def test_a_dropped_attribute_of_an_expired_record_is_no_obstacle(expired: Opened) -> None:
    expired.write(lambda tx: tx.drop_attribute(tx.table("dog"), "name"))
    expired.put("dog", {"id": 3, "name": "new"})
    expire(expired)
    assert [key for _, key in expired.index("dog", "name")] == [stored_key_of(3)]


# -- trimming ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(opened: Opened) -> Opened:
    """Entries 1 to 6, a second apart; 4 is local."""
    for key in range(5):
        opened.now_us += 1_000_000
        opened.write(partial(put_dog, key=key), is_local=key == 2)
    return opened


def test_entries_older_than_asked_go_and_the_floor_rises(logged: Opened) -> None:
    assert trim(logged, before_us=logged.now_us - 1_500_000) == 4
    assert lseqs(logged) == [5, 6]
    assert floor(logged) == 3
    assert logged.ids("dog") == [0, 1, 2, 3, 4]
    assert is_sound(logged)


def test_the_newest_entry_always_stays(logged: Opened) -> None:
    assert trim(logged) == 5
    assert trim(logged) == 0
    assert lseqs(logged) == [6]
    assert is_sound(logged)
    logged.put("dog", {"id": 9})
    assert lseqs(logged) == [6, 7]


def test_trimming_is_done_in_chunks(logged: Opened) -> None:
    assert [trim(logged, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_what_a_peer_still_needs_is_kept_and_all_behind_it(logged: Opened) -> None:
    asked: list[int] = []

    def may_trim(origin: Origin, oseq: int) -> bool:
        assert origin == logged.environment.origin
        asked.append(oseq)
        return oseq <= 3

    assert trim(logged, may_trim=may_trim) == 4
    assert lseqs(logged) == [5, 6]
    assert (asked, floor(logged)) == ([1, 2, 3, 4], 3)


def test_kept_vectors_that_nobody_can_start_from_go_with_the_log(opened: Opened) -> None:
    for _ in range(6):
        opened.write_all([partial(put_dog, key=key) for key in range(500)])
    assert raw_count(opened, "vectors") == 2
    while trim(opened, before_us=opened.now_us, limit=700):
        pass
    kept = [lseq for lseq in (VECTOR_EVERY, 2 * VECTOR_EVERY) if lseq >= lseqs(opened)[0] - 1]
    assert raw_count(opened, "vectors") == len(kept)
    assert is_sound(opened)


def test_a_write_and_a_trim_of_one_commit_both_count(logged: Opened) -> None:
    outcomes = logged.database.commit(
        [
            Write(function=lambda tx: put_dog(tx, 7)),
            Maintenance(function=lambda state: trim_log(state, before_us=logged.now_us + 1)),
            Write(function=lambda tx: put_dog(tx, 8)),
        ]
    )
    assert [outcome.error for outcome in outcomes] == [None, None, None]
    assert lseqs(logged) == [7, 8]
    assert is_sound(logged)


def test_upkeep_makes_room_in_a_full_map(folder: Path) -> None:
    opened = Opened.at(folder, map_size_bytes=1 << 20)
    opened.create_table("dog")
    key = 0
    while True:
        key += 1
        try:
            opened.put("dog", {"id": key % 20, "text": str(key) * 200})
        except MapFull:
            break
    assert key > 100
    assert trim(opened) > 100
    assert opened.environment.map_bytes <= (1 << 20) + (1 << 19)
    for _ in range(50):
        opened.put("dog", {"id": key % 20, "text": "x" * 800})
    opened.close()
    assert check_database(folder) == []


# -- tombstones --------------------------------------------------------------------------------------------------------


@pytest.fixture
def deleted(opened: Opened) -> Opened:
    """Records 1 and 2 were deleted long ago, and entries up to the delete of 1 are gone."""
    opened.put("dog", {"id": 1}, {"id": 2}, {"id": 3})
    opened.delete("dog", 1)
    opened.delete("dog", 2)
    trim(opened, limit=3)
    opened.now_us += DAY_US
    return opened


def test_a_tombstone_goes_once_it_is_old_and_gone_from_the_log(deleted: Opened) -> None:
    assert purge(deleted) == Progress(1, None)
    assert tombstones(deleted).keys() == {2}
    assert is_sound(deleted)


def test_a_young_tombstone_stays(deleted: Opened) -> None:
    assert purge(deleted, before_us=START_US) == Progress(0, None)
    assert tombstones(deleted).keys() == {1, 2}


def test_a_tombstone_that_is_not_stable_stays(deleted: Opened) -> None:
    asked: list[tuple[str, Any]] = []

    def is_stable(origin: Origin, row: Row) -> bool:
        asked.append((origin.node, row.decode()))
        return False

    assert purge(deleted, is_stable=is_stable) == Progress(0, None)
    assert (asked, list(tombstones(deleted))) == ([("n1", 1)], [1, 2])


def test_a_local_tombstone_asks_nobody(opened: Opened) -> None:
    opened.write(lambda tx: delete_records(tx, "dog", [1]), is_local=True)
    opened.put("dog", {"id": 2})
    trim(opened)
    assert purge(opened, is_stable=lambda origin, row: False) == Progress(1, None)


def test_what_an_expired_record_left_needs_no_age(expired: Opened) -> None:
    expire(expired)
    assert purge(expired, before_us=0, is_stable=lambda origin, row: False) == Progress(0, None)
    assert purge(expired, before_us=0) == Progress(1, None)
    assert tombstones(expired) == {}
    assert is_sound(expired)


def test_a_tombstone_that_a_copy_brought_stays_while_the_log_may_hold_its_entry(deleted: Opened) -> None:
    handle = deleted.environment.handles[f"p{deleted.table('dog').tombstones_id}"]
    with deleted.environment.lmdb.begin(write=True) as txn:
        for key in (1, 2):
            data = bytearray(txn.get(stored_key_of(key), db=handle))
            data[21:29] = bytes(8)
            txn.put(stored_key_of(key), bytes(data), db=handle)
    assert floor(deleted) == 3
    assert purge(deleted) == Progress(1, None)
    assert tombstones(deleted).keys() == {2}


def test_purging_is_done_in_chunks_that_go_on_where_the_last_ended(opened: Opened) -> None:
    opened.delete("dog", *range(10), "k" * 900)
    opened.put("dog", {"id": 99})
    trim(opened)
    after: bytes | None = None
    changed: list[int] = []
    while True:
        progress = purge(opened, limit=4, after=after)
        changed.append(progress.changed)
        after = progress.resume
        if after is None:
            break
    assert changed == [4, 4, 3]
    assert tombstones(opened) == {}


def test_a_walk_that_purges_nothing_ends(opened: Opened) -> None:
    opened.delete("dog", *range(8))
    after: bytes | None = None
    for _ in range(3):
        progress = purge(opened, limit=4, after=after, before_us=0)
        after = progress.resume
    assert after is None


def test_purging_a_table_that_was_dropped_does_nothing(opened: Opened) -> None:
    table_id = opened.table("dog").id
    opened.write(lambda tx: tx.drop_table(tx.table("dog")))
    assert opened.maintain(lambda state: purge_tombstones(state, table_id, before_us=opened.now_us)) == (0, None)


# -- removing rows for this node alone ---------------------------------------------------------------------------------


def test_removed_rows_are_gone_without_a_trace_and_the_table_is_incomplete(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"}, {"id": 2, "name": "Rex"})
    opened.put("dog", {"id": 3}, expires_at_ms=opened.now_us // 1000 + 99_000)
    table_id, last = opened.table("dog").id, lseqs(opened)
    stored_keys = [stored_key_of(key) for key in (1, 3, 1, 77)]
    assert opened.maintain(lambda state: remove_rows(state, table_id, stored_keys)) == 2
    assert (opened.ids("dog"), tombstones(opened), lseqs(opened)) == ([2], {}, last)
    assert not opened.table("dog").complete
    assert is_sound(opened)


def test_removing_nothing_leaves_the_table_complete(opened: Opened) -> None:
    table_id = opened.table("dog").id
    assert opened.maintain(lambda state: remove_rows(state, table_id, [stored_key_of(5)])) == 0
    assert opened.table("dog").complete
    assert opened.maintain(lambda state: remove_rows(state, 99, [stored_key_of(5)])) == 0


# -- history -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_tables(opened: Opened) -> Opened:
    """Entries 4 to 6 write to both tables, a second apart."""
    opened.create_table("cat")
    for key in range(3):
        opened.now_us += 1_000_000

        def both(tx: Any, key: int = key) -> None:
            put_dog(tx, key, n=key)
            write_records(tx, "cat", [{"id": key}], "upsert")

        opened.write(both, user="ann")
    return opened


def history(opened: Opened, table: str) -> list[list[Any]]:
    with opened.database.read() as tx:
        return [[change.key for change in entry.changes] for entry in table_history(tx, tx.table(table))]


def hide(opened: Opened, before_us: int, table: str = "dog") -> int:
    table_id = opened.table(table).id
    opened.maintain(lambda state: hide_history(state, table_id, before_us))
    return table_id


def reduce_all(opened: Opened, table_id: int, **options: Any) -> int:
    changed, after = 0, None
    while True:
        progress: Progress = opened.maintain(partial(reduce_history, table_id=table_id, after=after, **options))
        changed, after = changed + progress.changed, progress.resume
        if after is None:
            return changed


def test_hidden_history_is_not_shown_and_other_tables_keep_theirs(two_tables: Opened) -> None:
    hide(two_tables, two_tables.now_us)
    assert (history(two_tables, "dog"), history(two_tables, "cat")) == ([[2]], [[0], [1], [2]])
    with two_tables.database.read() as tx:
        assert list(record_history(tx, tx.table("dog"), stored_key_of(0))) == []


def test_hiding_less_than_is_hidden_shows_nothing_again(two_tables: Opened) -> None:
    hide(two_tables, two_tables.now_us)
    hide(two_tables, 5)
    assert history(two_tables, "dog") == [[2]]


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_reduced_entries_lose_the_tables_writes_and_keep_their_place_in_the_chain(
    two_tables: Opened, limit: int
) -> None:
    with two_tables.database.read() as tx:
        headers = [entry.header for entry in tx.log.read_from()]
    table_id = hide(two_tables, two_tables.now_us)
    assert reduce_all(two_tables, table_id, limit=limit) == 2
    assert reduce_all(two_tables, table_id, limit=limit) == 0
    assert (history(two_tables, "dog"), history(two_tables, "cat")) == ([[2]], [[0], [1], [2]])
    with two_tables.database.read() as tx:
        entries = list(tx.log.read_from())
    assert [entry.header for entry in entries] == headers
    reduced = [entry for entry in entries if entry.is_reduced]
    assert [[write["t"] for write in entry.writes()] for entry in reduced] == [["cat"], ["cat"]]
    assert floor(two_tables) == reduced[-1].header.oseq
    assert two_tables.ids("dog") == [0, 1, 2]
    assert is_sound(two_tables)


def test_an_entry_that_a_peer_needs_is_left_whole(two_tables: Opened) -> None:
    with two_tables.database.read() as tx:
        needed = [entry.header.oseq for entry in tx.log.read_from() if entry.header.kind == "tx"][1]
    table_id = hide(two_tables, two_tables.now_us + 1)
    assert reduce_all(two_tables, table_id, may_trim=lambda origin, oseq: oseq != needed) == 2
    with two_tables.database.read() as tx:
        whole = [e.header.oseq for e in tx.log.read_from() if e.header.kind == "tx" and not e.is_reduced]
    assert whole == [needed]
    assert history(two_tables, "dog") == []


def test_a_record_written_again_after_its_history_was_removed_begins_a_new_one(two_tables: Opened) -> None:
    table_id = hide(two_tables, two_tables.now_us + 1)
    reduce_all(two_tables, table_id)
    two_tables.now_us += 1000
    two_tables.put("dog", {"id": 0, "n": 9})
    with two_tables.database.read() as tx:
        (entry,) = record_history(tx, tx.table("dog"), stored_key_of(0))
    assert entry.changes[0].record is not None
    assert is_sound(two_tables)


def test_what_was_hidden_of_a_table_goes_with_it(two_tables: Opened) -> None:
    hide(two_tables, two_tables.now_us)
    two_tables.write(lambda tx: tx.drop_table(tx.table("dog")))
    assert two_tables.maintain(hidden_tables) == {}


# -- the service -------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us


@asynccontextmanager
async def serving(path: Path, clock: Clock, **settings: Any) -> AsyncIterator[Catalog]:
    chosen = StorageSettings(path=path, map_size_bytes=MAP_BYTES, sync=False, audit_retention_s=3600.0, **settings)
    async with open_catalog(chosen, node="n1", clock=clock) as catalog:
        await catalog.create("data")
        definition = Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id"))
        await catalog.write("data", lambda tx: tx.create_table(definition))
        yield catalog
    assert check_database(path / "data", now_ms=clock.now_us // 1000) == []


async def write_dogs(catalog: Catalog, clock: Clock) -> None:
    """Record 1 stays, 2 is deleted, 3 expires; then a day goes by."""
    at = clock.now_us // 1000 + 60_000
    await catalog.write("data", lambda tx: write_records(tx, "dog", [{"id": 1}, {"id": 2}], "insert"))
    await catalog.write("data", lambda tx: write_records(tx, "dog", [{"id": 3}], "insert", expires_at_ms=at))
    await catalog.write("data", lambda tx: delete_records(tx, "dog", [2]))
    clock.now_us += DAY_US
    await catalog.write("data", lambda tx: put_dog(tx, 4))


async def test_one_round_removes_what_has_outlived_its_use(tmp_path: Path) -> None:
    clock = Clock()
    async with serving(tmp_path, clock) as catalog:
        await write_dogs(catalog, clock)
        removed = await apply_retention(catalog, "data", rules=RetentionRules(), now_us=clock.now_us)
        assert removed == Removed(expired=1, entries=4, reduced=0, tombstones=2)
        again = await apply_retention(catalog, "data", rules=RetentionRules(), now_us=clock.now_us)
        assert again == Removed()


async def test_what_peers_need_is_asked_of_the_rules(tmp_path: Path) -> None:
    clock = Clock()
    rules = RetentionRules(may_trim=lambda origin, oseq: False, is_stable=lambda origin, row: False)
    async with serving(tmp_path, clock) as catalog:
        await write_dogs(catalog, clock)
        removed = await apply_retention(catalog, "data", rules=rules, now_us=clock.now_us)
        assert removed == Removed(expired=1)


async def test_a_round_with_nothing_to_do_writes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with serving(tmp_path, clock) as catalog:
        lmdb = catalog.database("data").environment.lmdb
        before = lmdb.info()["last_txnid"]
        await apply_retention(catalog, "data", rules=RetentionRules(), now_us=clock.now_us)
        assert lmdb.info()["last_txnid"] == before


async def test_the_service_comes_back_round_after_round(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    clock = Clock()
    rounds: list[str] = []

    def rules(name: str) -> RetentionRules:
        rounds.append(name)
        if len(rounds) == 3:
            service.cancel_scope.cancel()
        return RetentionRules()

    async with serving(tmp_path, clock) as catalog, trio.open_nursery() as service:
        await service.start(
            lambda task_status: run_retention(
                catalog, rules=rules, clock=clock, interval_s=5.0, task_status=task_status
            )
        )
    assert rounds == ["data", "data", "data"]


async def test_a_database_that_fails_does_not_keep_the_others_from_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    done: list[str] = []

    async def apply(catalog: Catalog, name: str, **_: Any) -> Removed:
        if name == "data":
            raise TableNotFound("data", "dog")
        if name == "gone":
            raise DatabaseNotFound("gone")
        done.append(name)
        service.cancel_scope.cancel()
        return Removed()

    monkeypatch.setattr("storage.retention.apply_retention", apply)
    async with serving(tmp_path, clock) as catalog:
        await catalog.create("gone")
        await catalog.create("other")
        async with trio.open_nursery() as service:
            service.start_soon(lambda: run_retention(catalog, clock=clock))
    assert done == ["other"]
    assert "retention of database 'data' stopped" in caplog.text
    assert "'gone'" not in caplog.text


async def test_a_tables_history_can_be_deleted(tmp_path: Path) -> None:
    clock = Clock()
    async with serving(tmp_path, clock) as catalog:
        await write_dogs(catalog, clock)
        assert await delete_history(catalog, "data", "dog", before_us=clock.now_us - 1, clock=clock) == 3
        assert await catalog.maintain("data", hidden_tables) == {}
        with catalog.database("data").read() as tx:
            (entry,) = table_history(tx, tx.table("dog"))
            assert [change.key for change in entry.changes] == [4]
        with pytest.raises(TableNotFound):
            await delete_history(catalog, "data", "cat", before_us=clock.now_us)


async def test_history_that_a_peer_needs_is_removed_by_a_later_round(tmp_path: Path) -> None:
    clock = Clock()
    needed = True
    rules = RetentionRules(may_trim=lambda origin, oseq: not needed)
    async with serving(tmp_path, clock) as catalog:
        await write_dogs(catalog, clock)
        before_us = clock.now_us - 1
        reduced = await delete_history(catalog, "data", "dog", before_us=before_us, rules=rules, clock=clock)
        assert reduced == 0
        assert len(await catalog.maintain("data", hidden_tables)) == 1
        with catalog.database("data").read() as tx:
            assert len(list(table_history(tx, tx.table("dog")))) == 1
        clock.now_us -= DAY_US
        needed = False
        removed = await apply_retention(catalog, "data", rules=rules, now_us=clock.now_us)
        assert (removed.reduced, await catalog.maintain("data", hidden_tables)) == (3, {})
        clock.now_us += DAY_US


async def test_history_of_the_future_is_not_deleted(tmp_path: Path) -> None:
    clock = Clock()
    async with serving(tmp_path, clock) as catalog:
        await delete_history(catalog, "data", "dog", before_us=clock.now_us + DAY_US, clock=clock)
        clock.now_us += 1000
        await catalog.write("data", lambda tx: put_dog(tx, 1))
        with catalog.database("data").read() as tx:
            assert len(list(table_history(tx, tx.table("dog")))) == 1


def test_a_typed_table_is_kept_in_order_as_well(opened: Opened) -> None:
    opened.create_table(
        "offer", Attribute(name="id", is_primary_key=True), Attribute(name="until", type="Long", expires_at=True)
    )
    opened.put("offer", {"id": "a", "until": opened.now_us // 1000 + 5})
    opened.now_us += 1_000_000
    assert expire(opened) == 1
    assert opened.index("offer", "until") == []
