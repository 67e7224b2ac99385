"""Merging copies: what survives, what goes, what does not come back, and that a crash or a bad file harms nothing."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage import codec
from storage.copy_description import CopyDescription
from storage.copy_file import CHUNK_ROWS, CopyReader
from storage.copy_merge import PLACE_KEY, MergeProgress, abandon_merge, read_merge_cursor
from storage.errors import Corrupt, RolledBack
from storage.marks import MARK_KEY, Mark, mark_key, read_marks
from storage.record import decode_row, encode_row
from storage.schema import Attribute
from storage.table_plan import TablePlan
from storage.transaction import stored_key_of
from storage.write_state import WriteState
from tests.storage.copying import Peer, Peers
from tests.storage.opened import put_dog

ATTRIBUTES = (Attribute(name="id", is_primary_key=True), Attribute(name="name", indexed=True), Attribute(name="text"))


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    made.share()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def put_many(peer: Peer, first: int, last: int, **values: Any) -> None:
    peer.put("dog", *({"id": number, **values} for number in range(first, last)))


def is_complete(peer: Peer, table: str = "dog") -> bool:
    return peer.table(table).complete


def change_row(peer: Peer, key: Any, table: str = "dog", **changes: Any) -> None:
    """Store a row otherwise than a local write can."""

    def change(state: WriteState) -> None:
        plan = TablePlan.empty(state.tables[table])
        stored_key = stored_key_of(key)
        row = decode_row(state.get(f"p{plan.table.rows_id}", stored_key) or b"")
        plan.rows.append((stored_key, encode_row(row._replace(**changes))))
        state.apply_plan(plan)

    peer.maintain(change)


# -- a node that has nothing, or little ---------------------------------------------------------------------------------


def test_a_new_node_becomes_equal(peers: Peers) -> None:
    put_many(peers.a, 0, 600, name="Rex", tags=["big", "old"])
    peers.a.delete("dog", 5, 900)
    newcomer = Peer.at(peers.folder / "d", node="d")
    progress = newcomer.take_copy(peers.a)
    assert progress == MergeProgress(601, 601, 0, True)
    assert newcomer.all("dog") == peers.a.all("dog")
    assert newcomer.index("dog", "tags") == peers.a.index("dog", "tags")
    assert newcomer.digest() == peers.a.digest()
    assert newcomer.stamps(tombstones=True) == peers.a.stamps(tombstones=True)
    assert newcomer.vector() == newcomer.floors() == peers.a.vector()
    assert is_complete(newcomer)
    newcomer.check_and_close()


def test_the_stream_goes_on_behind_the_copy(peers: Peers) -> None:
    put_many(peers.a, 0, 5)
    peers.a.trim()
    peers.b.take_copy(peers.a)
    peers.a.put("dog", {"id": 9})
    applied = peers.b.take_stream(peers.a)
    assert not applied.stopped
    assert applied.entries == 1
    assert peers.b.digest() == peers.a.digest()


def test_what_both_have_is_not_written_again(peers: Peers) -> None:
    put_many(peers.a, 0, 50)
    peers.a.delete("dog", 7)
    peers.b.take_stream(peers.a)
    before = peers.b.stored()
    assert peers.b.take_copy(peers.a) == MergeProgress(50, 0, 0, True)
    assert peers.b.stored() == before
    assert peers.a.origin not in peers.b.floors(), "the position was not raised, so the log serves it as before"


def test_the_newer_write_of_a_record_wins_wherever_it_is(peers: Peers) -> None:
    put_many(peers.a, 0, 4, name="first")
    peers.b.take_stream(peers.a)
    peers.a.put("dog", {"id": 0, "name": "of a"})
    peers.a.delete("dog", 1)
    peers.b.now_us = peers.a.now_us
    peers.b.put("dog", {"id": 2, "name": "of b"})
    peers.b.delete("dog", 3)
    assert peers.b.take_copy(peers.a).taken == 2
    assert [(dog["id"], dog["name"]) for dog in peers.b.all("dog")] == [(0, "of a"), (2, "of b")]
    assert peers.b.index("dog", "name") != []
    assert peers.b.has_tombstone(1)
    assert peers.b.has_tombstone(3)


def test_an_own_write_after_a_copy_beats_what_the_copy_brought(peers: Peers) -> None:
    peers.a.now_us += 30_000_000
    peers.a.put("dog", {"id": 1, "name": "from a clock ahead"})
    file = peers.folder / "copy"
    description = peers.a.write_copy(file)
    peers.b.begin(description)
    peers.b.finish(file)
    peers.b.delete("dog", 2)
    assert peers.b.stamps(tombstones=True)[stored_key_of(2)] > peers.b.stamps()[stored_key_of(1)]


# -- deleted, or never seen? --------------------------------------------------------------------------------------------


def test_rows_that_the_publisher_never_saw_stay(peers: Peers) -> None:
    put_many(peers.a, 0, 5)
    peers.b.take_stream(peers.a)
    put_many(peers.b, 10, 15)
    peers.b.put("dog", {"id": 2, "name": "of b"})
    put_many(peers.a, 20, 25)
    peers.a.trim()
    peers.b.take_copy(peers.a)
    assert peers.b.ids("dog") == [*range(5), *range(10, 15), *range(20, 25)]
    assert peers.b.record("dog", 2)["name"] == "of b"
    peers.a.take_stream(peers.b)
    assert peers.a.digest() == peers.b.digest()


def test_rows_whose_deletes_were_purged_at_the_publisher_go(peers: Peers) -> None:
    put_many(peers.a, 0, 6, name="Rex")
    peers.b.take_stream(peers.a)
    peers.a.delete("dog", 0, 3, 5)
    peers.a.put("dog", {"id": 9})
    peers.a.trim()
    peers.a.purge()
    progress = peers.b.take_copy(peers.a)
    assert progress.removed == 3
    assert peers.b.ids("dog") == peers.a.ids("dog") == [1, 2, 4, 9]
    assert peers.b.digest() == peers.a.digest()
    assert peers.b.index("dog", "name") == peers.a.index("dog", "name")
    assert peers.b.stamps(tombstones=True) == {}


def test_an_own_row_whose_delete_was_purged_goes(peers: Peers) -> None:
    """The log of this node still has its write, which must not be taken for a record that got lost."""
    peers.b.put("dog", {"id": 1})
    peers.a.take_stream(peers.b)
    peers.a.delete("dog", 1)
    peers.a.put("dog", {"id": 2})
    peers.a.trim()
    peers.a.purge()
    peers.b.take_copy(peers.a)
    assert peers.b.ids("dog") == [2]


def test_what_was_seen_to_go_does_not_come_back_by_a_stale_copy(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 3)
    peers.spread()
    stale = peers.c.write_copy(file)
    peers.a.delete("dog", 1)
    peers.b.take_stream(peers.a)
    peers.b.put("dog", {"id": 9})
    peers.b.trim()
    peers.b.purge()
    peers.b.begin(stale)
    assert peers.b.finish(file).taken == 0
    assert peers.b.ids("dog") == [0, 2, 9]


def test_what_went_by_a_copy_does_not_come_back_by_stream_or_by_stale_copy(peers: Peers) -> None:
    peers.a.put("dog", {"id": 1})
    peers.spread()
    peers.a.delete("dog", 1)
    peers.a.put("dog", {"id": 2})
    peers.a.trim()
    peers.a.purge()
    peers.b.take_copy(peers.a)
    peers.b.take_stream(peers.c)
    peers.b.take_copy(peers.c)
    assert peers.b.ids("dog") == [2]


def test_a_new_node_that_copied_from_a_stale_one_ends_without_zombies(peers: Peers) -> None:
    put_many(peers.a, 0, 3)
    peers.spread()
    peers.a.delete("dog", 1)
    peers.a.put("dog", {"id": 9})
    peers.a.trim()
    peers.a.purge()
    newcomer = Peer.at(peers.folder / "d", node="d")
    newcomer.take_copy(peers.c)
    assert newcomer.ids("dog") == [0, 1, 2]
    newcomer.take_copy(peers.a)
    assert newcomer.ids("dog") == [0, 2, 9]
    assert newcomer.digest() == peers.a.digest()
    newcomer.check_and_close()


def test_a_forced_copy_brings_back_what_was_seen_to_go(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 3)
    peers.spread()
    stale = peers.c.write_copy(file)
    peers.b.delete("dog", 1)
    peers.b.put("dog", {"id": 9})
    peers.b.trim()
    peers.b.purge()
    peers.b.begin(stale, is_forced=True)
    peers.b.finish(file)
    assert peers.b.ids("dog") == [0, 1, 2, 9]


def test_a_tombstone_here_keeps_older_rows_of_the_file_out(peers: Peers, file: Path) -> None:
    peers.a.put("dog", {"id": 1})
    description = peers.a.write_copy(file)
    peers.b.now_us = peers.a.now_us
    peers.b.delete("dog", 1)
    peers.b.begin(description)
    assert peers.b.finish(file).taken == 0
    assert peers.b.has_tombstone(1)


def test_where_a_row_has_gone_the_older_version_of_the_publisher_takes_its_place(peers: Peers) -> None:
    """The publisher forgot row and delete, and then met an older write that counts as new there."""
    peers.c.put("dog", {"id": 1, "name": "older"})
    peers.a.now_us = peers.c.now_us
    peers.a.put("dog", {"id": 1, "name": "newer"})
    peers.b.take_stream(peers.a)
    peers.a.delete("dog", 1)
    peers.a.put("dog", {"id": 2})
    peers.a.trim()
    peers.a.purge()
    peers.a.take_stream(peers.c)
    peers.b.take_copy(peers.a)
    assert peers.b.record("dog", 1)["name"] == "older"
    assert peers.b.digest() == peers.a.digest()
    assert peers.b.index("dog", "name") == peers.a.index("dog", "name")


def test_a_row_that_a_newer_entry_restated_is_covered_by_that_entry(peers: Peers, file: Path) -> None:
    peers.c.put("dog", {"id": 1})
    peers.a.take_stream(peers.c)
    peers.b.take_stream(peers.c)
    peers.b.put("dog", {"id": 2})
    change_row(peers.b, 1, by=(peers.b.environment.origin_id, peers.b.vector()[peers.b.origin]))
    peers.b.put("dog", {"id": 2})
    peers.a.delete("dog", 1)
    peers.a.put("dog", {"id": 3})
    peers.a.trim()
    peers.a.purge()
    description = peers.a.write_copy(file)
    peers.b.begin(description)
    assert peers.b.finish(file).removed == 0, "the publisher has not seen who said it again"
    assert 1 in peers.b.ids("dog")


def test_rows_of_origins_that_the_publisher_takes_in_part_prove_nothing(peers: Peers) -> None:
    put_many(peers.c, 0, 3)
    peers.spread()
    peers.a.delete("dog", 1)
    peers.a.put("dog", {"id": 9})
    peers.a.trim()
    peers.a.purge()
    assert peers.b.take_copy(peers.a, left_out=[peers.c.origin]).removed == 0
    assert peers.b.ids("dog") == [0, 1, 2, 9]


def test_local_rows_never_go(peers: Peers) -> None:
    peers.b.write(lambda tx: put_dog(tx, 1), is_local=True)
    peers.a.put("dog", {"id": 2})
    peers.b.take_copy(peers.a)
    assert peers.b.ids("dog") == [1, 2]


# -- expiry -------------------------------------------------------------------------------------------------------------


def test_an_expired_row_of_the_file_is_taken_as_the_tombstone_that_it_counts_as(peers: Peers) -> None:
    """Without it an older version, which expires later or never, would come back."""
    peers.b.put("dog", {"id": 1, "name": "older"})
    peers.a.now_us = peers.b.now_us
    peers.a.put("dog", {"id": 1}, expires_at_ms=peers.a.now_us // 1000 + 1000)
    peers.a.now_us += 5_000_000
    peers.b.take_copy(peers.a)
    assert peers.b.ids("dog") == []


def test_an_expired_row_here_is_kept_as_the_tombstone_that_it_counts_as(peers: Peers) -> None:
    peers.a.put("dog", {"id": 1}, expires_at_ms=peers.a.now_us // 1000 + 1000)
    peers.b.take_stream(peers.a)
    peers.a.delete("dog", 1)
    peers.a.put("dog", {"id": 2})
    peers.a.trim()
    peers.a.purge()
    peers.a.now_us += 5_000_000
    assert peers.b.take_copy(peers.a).removed == 0
    assert stored_key_of(1) in peers.b.stamps()


def test_an_expiring_row_is_in_the_expiry_order_here(peers: Peers) -> None:
    due_ms = peers.a.now_us // 1000 + 1000
    peers.a.put("dog", {"id": 1}, expires_at_ms=due_ms)
    peers.b.take_copy(peers.a)
    assert peers.b.ids("dog") == [1]
    with peers.b.database.read(now_ms=due_ms) as tx:
        assert [key for _, key in tx.expired()] == [stored_key_of(1)]


# -- completeness -------------------------------------------------------------------------------------------------------


def test_rows_that_the_publisher_removed_for_itself_stay_and_the_table_is_incomplete(peers: Peers) -> None:
    put_many(peers.a, 0, 4)
    peers.b.take_stream(peers.a)
    peers.a.remove(0, 1)
    peers.a.put("dog", {"id": 9})
    assert peers.b.take_copy(peers.a).removed == 0
    assert peers.b.ids("dog") == [0, 1, 2, 3, 9]
    assert not is_complete(peers.b)


def test_an_incomplete_copy_that_moves_no_position_leaves_a_table_complete(peers: Peers) -> None:
    put_many(peers.a, 0, 4)
    peers.b.take_stream(peers.a)
    peers.a.remove(0, 1)
    peers.b.take_copy(peers.a)
    assert is_complete(peers.b)


def test_a_copy_of_a_complete_table_brings_back_what_was_removed_here_and_completes_ours(peers: Peers) -> None:
    put_many(peers.a, 0, 4)
    peers.b.take_stream(peers.a)
    peers.b.remove(0, 1)
    peers.b.take_copy(peers.a)
    assert peers.b.ids("dog") == [0, 1, 2, 3]
    assert is_complete(peers.b)
    assert peers.b.digest() == peers.a.digest()


def test_a_copy_that_is_behind_what_was_removed_here_completes_nothing(peers: Peers) -> None:
    put_many(peers.c, 0, 4)
    peers.b.take_stream(peers.c)
    peers.b.remove(0, 1)
    peers.a.put("dog", {"id": 9})
    peers.b.take_copy(peers.a)
    assert not is_complete(peers.b)
    peers.a.take_stream(peers.c)
    peers.b.take_copy(peers.a)
    assert is_complete(peers.b)
    assert peers.b.digest() == peers.a.digest()


def test_what_counts_is_the_vector_when_the_copy_was_asked_for(peers: Peers, file: Path) -> None:
    """What came by stream since then is all there; a busy node would else never be complete again."""
    put_many(peers.a, 0, 4)
    peers.b.take_stream(peers.a)
    peers.b.remove(0)
    asked_at = peers.b.vector()
    description = peers.a.write_copy(file, need=asked_at)
    put_many(peers.a, 10, 12)
    peers.b.take_stream(peers.a)
    peers.b.begin(description, asked_at=asked_at)
    peers.b.finish(file)
    assert is_complete(peers.b)
    assert peers.b.digest() == peers.a.digest()


def test_a_table_that_the_publisher_dropped_is_incomplete_here_until_another_copy(peers: Peers) -> None:
    peers.c.put("dog", {"id": 1})
    peers.a.write(lambda tx: tx.drop_table(tx.table("dog")))
    peers.a.take_stream(peers.c)
    assert peers.b.take_copy(peers.a).rows == 0
    assert peers.b.ids("dog") == []
    assert not is_complete(peers.b), "its vector covers a write of this table that it never got"
    peers.b.take_copy(peers.c)
    assert peers.b.ids("dog") == [1]


def test_a_table_that_the_publisher_never_heard_of_stays_complete(peers: Peers) -> None:
    peers.b.create_table("cat")
    peers.b.put("cat", {"id": 1})
    put_many(peers.a, 0, 3)
    peers.b.take_copy(peers.a)
    assert is_complete(peers.b, "cat")
    assert peers.b.ids("cat") == [1]


def test_a_table_that_was_dropped_here_is_left_alone(peers: Peers) -> None:
    put_many(peers.a, 0, 3)
    peers.b.now_us = peers.a.now_us
    peers.b.write(lambda tx: tx.drop_table(tx.table("dog")))
    peers.b.take_copy(peers.a)
    with peers.b.database.read() as tx:
        assert "dog" not in tx.schema().tables
    assert peers.b.vector()[peers.a.origin] == peers.a.vector()[peers.a.origin]


def test_a_table_dropped_while_it_is_merged_is_left_alone_from_then_on(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 10)
    description = peers.a.write_copy(file)
    peers.b.begin(description)
    with CopyReader(file) as reader:
        peers.b.step(reader, limit=3)
        peers.b.write(lambda tx: tx.drop_table(tx.table("dog")))
        peers.b.create_table("dog")
        while not peers.b.step(reader, limit=3).is_done:
            pass
    assert peers.b.ids("dog") == []
    assert not is_complete(peers.b)


def test_a_table_with_another_key_is_left_alone_and_incomplete(tmp_path: Path) -> None:
    peers = Peers(tmp_path)
    peers.a.create_table("dog")
    peers.b.create_table("dog", primary_key="tag")
    peers.b.put("dog", {"tag": 1})
    put_many(peers.a, 0, 3)
    peers.b.take_copy(peers.a)
    assert [dog["tag"] for dog in peers.b.all("dog")] == [1]
    assert not is_complete(peers.b)
    peers.close()


def test_a_table_that_is_local_here_is_left_alone(tmp_path: Path) -> None:
    peers = Peers(tmp_path)
    peers.a.create_table("dog")
    peers.b.create_table("dog", is_local=True)
    put_many(peers.a, 0, 3)
    peers.b.take_copy(peers.a)
    assert peers.b.ids("dog") == []
    assert is_complete(peers.b)
    peers.close()


# -- residency ----------------------------------------------------------------------------------------------------------


def test_a_record_that_lives_elsewhere_is_kept_by_its_index_only(peers: Peers) -> None:
    peers.a.create_table("cat", *ATTRIBUTES)
    for key, name, residents in ((1, "Tom", ("a", "c")), (2, "Kit", ("a", "b"))):
        record = {"id": key, "name": name, "text": "long"}
        peers.a.put("cat", record, choose_residents=lambda _, residents=residents: residents)
    peers.b.take_copy(peers.a)
    assert peers.b.all("cat") == [{"id": 1, "name": "Tom"}, {"id": 2, "name": "Kit", "text": "long"}]
    rows = [row for _, row in peers.b.stored("cat").values()]
    assert [row.is_resident for row in rows] == [False, True]
    assert codec.decode(rows[0].residency) == ["a", "c"]


def test_a_row_that_its_publisher_has_by_its_index_only_stays_such(peers: Peers) -> None:
    peers.a.put("dog", {"id": 1}, choose_residents=lambda _: ("c",))
    peers.b.take_copy(peers.a)
    ((_, row),) = peers.b.stored().values()
    assert not row.is_resident


# -- restatements -------------------------------------------------------------------------------------------------------


def test_a_restatement_of_what_is_here_is_noted(peers: Peers) -> None:
    peers.c.put("dog", {"id": 1})
    peers.spread()
    peers.a.put("dog", {"id": 2})
    change_row(peers.a, 1, by=(peers.a.environment.origin_id, peers.a.vector()[peers.a.origin]))
    before = peers.b.digest()
    peers.b.take_copy(peers.a)
    _, row = peers.b.stored()[stored_key_of(1)]
    assert row.by is not None
    with peers.b.database.read() as tx:
        assert tx.log.positions()[row.by[0]].origin == peers.a.origin
    assert peers.b.digest() == peers.a.digest() != before


# -- marks and positions ------------------------------------------------------------------------------------------------


def marks_of(peer: Peer) -> dict[str, Mark]:
    with peer.database.read() as tx, tx.txn.cursor(db=tx.environment.handles["meta"]) as cursor:
        return read_marks(iter(cursor)) if cursor.set_range(MARK_KEY) else {}


def test_newer_marks_are_taken_where_our_vector_covers_them(peers: Peers) -> None:
    peers.c.put("dog", {"id": 1})
    peers.a.take_stream(peers.c)
    mark = Mark(origin=peers.c.origin, oseq=1, ts=9, vector={})
    of_receiver = Mark(origin=peers.b.origin, oseq=0, ts=9, vector={})
    ahead = Mark(origin=peers.a.origin._replace(node="d"), oseq=99, ts=9, vector={})
    for node, known in (("c", mark), ("b", of_receiver), ("d", ahead)):
        peers.a.maintain(partial(_put_mark, node=node, mark=known))
    peers.b.take_copy(peers.a)
    assert marks_of(peers.b) == {"c": mark}
    peers.a.maintain(lambda state: state.delete("meta", mark_key("d")))


def test_an_older_mark_is_not_taken(peers: Peers) -> None:
    peers.c.put("dog", {"id": 1})
    peers.a.take_stream(peers.c)
    newer = Mark(origin=peers.c.origin, oseq=1, ts=9, vector={})
    peers.a.maintain(partial(_put_mark, node="c", mark=Mark(origin=peers.c.origin, oseq=1, ts=8, vector={})))
    peers.b.maintain(partial(_put_mark, node="c", mark=newer))
    peers.b.take_copy(peers.a)
    assert marks_of(peers.b) == {"c": newer}


def _put_mark(state: WriteState, node: str, mark: Mark) -> None:
    state.put("meta", mark_key(node), mark.encoded())


def test_a_copy_that_knows_more_of_ourselves_is_refused(peers: Peers, file: Path) -> None:
    peers.b.put("dog", {"id": 1})
    peers.a.take_stream(peers.b)
    description = peers.a.write_copy(file)
    oseq, chain = description.v0[peers.b.origin]
    ahead = replace(description, v0={**description.v0, peers.b.origin: (oseq + 1, chain)})
    with pytest.raises(RolledBack):
        peers.b.begin(ahead)
    assert not peers.b.is_merging()
    peers.b.begin(description)
    peers.b.finish(file)


def test_a_row_that_we_are_said_to_have_written_later_than_we_have_is_refused(peers: Peers, file: Path) -> None:
    """The publisher takes our origin in part, so its vector does not say how far it knows us."""
    description = peers.a.write_copy(file)
    forged = forge(file, description, [[9, *peers.b.origin]], [row_of(9, oseq=99)], v0={})
    peers.b.begin(forged)
    with pytest.raises(RolledBack):
        peers.b.finish(file)
    peers.b.maintain(abandon_merge)


# -- crashes, writes meanwhile ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_merge_that_was_interrupted_goes_on_from_the_file(tmp_path: Path, limit: int) -> None:
    peers = Peers(tmp_path)
    peers.share("dog", "cat")
    put_many(peers.b, 0, 60, name="old")
    peers.a.take_stream(peers.b)
    peers.a.delete("dog", *range(0, 60, 3))
    peers.a.put("dog", *({"id": number + 0.5, "name": "new"} for number in range(60)))
    peers.a.put("cat", *({"id": f"cat {number}"} for number in range(30)))
    peers.b.put("cat", {"id": "cat 5"}, {"id": "own"})
    peers.a.trim()
    peers.a.purge()
    file = tmp_path / "copy"
    peers.b.begin(peers.a.write_copy(file))
    is_done = False
    while not is_done:
        peers.b.check_and_close()
        peers.b = Peer.at(tmp_path / "b", node="b")
        with CopyReader(file) as reader:
            is_done = peers.b.step(reader, limit=limit).is_done
    peers.all = (peers.a, peers.b, peers.c)
    peers.a.take_stream(peers.b)
    for table in ("dog", "cat"):
        assert peers.b.stamps(table) == peers.a.stamps(table)
        assert peers.b.digest(table) == peers.a.digest(table)
    peers.close()


def test_local_writes_while_merging_stay_before_and_behind_the_cursor(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 100)
    peers.b.take_stream(peers.a)
    put_many(peers.a, 0, 100, name="of a")
    peers.b.begin(peers.a.write_copy(file))
    peers.b.now_us = peers.a.now_us
    with CopyReader(file) as reader:
        peers.b.step(reader, limit=50)
        peers.b.put("dog", {"id": 3, "name": "of b"}, {"id": 97, "name": "of b"}, {"id": -1}, {"id": 200})
        peers.b.delete("dog", 4, 98)
        while not peers.b.step(reader, limit=50).is_done:
            pass
    assert [dog["id"] for dog in peers.b.all("dog") if dog.get("name") != "of a"] == [-1, 3, 97, 200]
    assert peers.b.has_tombstone(4)
    assert peers.b.has_tombstone(98)
    peers.a.take_stream(peers.b)
    assert peers.a.digest() == peers.b.digest()


def test_a_step_looks_at_few_rows_however_many_stand_between_two_of_the_file(peers: Peers, file: Path) -> None:
    peers.a.put("dog", {"id": 0}, {"id": 10_000})
    put_many(peers.a, 1, 2000)
    peers.b.take_stream(peers.a)
    for first in range(1, 2000, 500):
        peers.a.delete("dog", *range(first, min(first + 500, 2000)))
    peers.a.put("dog", {"id": 20_000})
    peers.a.trim()
    peers.a.purge()
    peers.b.begin(peers.a.write_copy(file))
    removed = []
    with CopyReader(file) as reader:
        is_done = False
        while not is_done:
            progress = peers.b.step(reader, limit=100)
            removed.append(progress.removed)
            is_done = progress.is_done
    assert sum(removed) == 1999
    assert max(removed) <= 101
    assert peers.b.ids("dog") == [0, 10_000, 20_000]


def test_rows_behind_the_last_of_the_file_go_too(peers: Peers) -> None:
    put_many(peers.a, 0, 700)
    peers.b.take_stream(peers.a)
    peers.a.delete("dog", *range(1, 700))
    peers.a.put("dog", {"id": 0})
    peers.a.trim()
    peers.a.purge()
    assert peers.b.take_copy(peers.a, limit=50).removed == 699
    assert peers.b.digest() == peers.a.digest()


def test_the_cursor_tells_what_is_merged_and_from_which_file(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, CHUNK_ROWS + 10)
    description = peers.a.write_copy(file)
    with peers.b.database.read() as tx:
        assert read_merge_cursor(tx) is None
    peers.b.begin(description, is_forced=True)
    with CopyReader(file) as reader:
        peers.b.step(reader, limit=10)
    with peers.b.database.read() as tx:
        cursor = read_merge_cursor(tx)
    assert cursor is not None
    assert (cursor.description, cursor.file_name, cursor.is_forced) == (description, "copy", True)
    assert cursor.place.rows == CHUNK_ROWS
    peers.b.finish(file)
    assert not peers.b.is_merging()


def test_a_merge_that_is_given_up_moves_no_position_and_another_copy_may_follow(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 600)
    peers.b.begin(peers.a.write_copy(file))
    with CopyReader(file) as reader:
        peers.b.step(reader, limit=10)
    before = peers.b.vector()
    peers.b.maintain(abandon_merge)
    assert not peers.b.is_merging()
    assert peers.b.vector() == before
    assert len(peers.b.ids("dog")) == CHUNK_ROWS
    peers.b.take_copy(peers.a)
    assert peers.b.digest() == peers.a.digest()


# -- files that do not fit ----------------------------------------------------------------------------------------------


def row_of(origin: int, *, oseq: int = 1, key: Any = 1, flags: int = 0, extra: bytes = b"", value: Any = None) -> bytes:
    content = codec.encode({"id": key} if value is None else value)
    head = bytes((flags,)) + (1).to_bytes(8) + origin.to_bytes(4) + oseq.to_bytes(8)
    return head + extra + content


def forge(
    file: Path, description: CopyDescription, origins: list[Any], rows: list[bytes], *, table: int = 0, **changes: Any
) -> CopyDescription:
    """Make a file of these rows, with ascending integers from 1 on as their keys; its description."""
    parts = [
        ["logmesh copy", 1, description.copy_id, origins],
        [table, [member for key, row in enumerate(rows, 1) for member in (stored_key_of(key), row)]],
        [],
    ]
    encoded = [codec.encode(part) for part in parts]
    file.write_bytes(b"".join(len(part).to_bytes(4) + part for part in encoded))
    return replace(description, rows=len(rows), **changes)


ORIGINS = [[1, "a", "other life"]]
RESIDENCY = codec.encode([1])


@pytest.mark.parametrize(
    ("rows", "table"),
    [
        ([row_of(2)], 0),
        ([row_of(1, oseq=0)], 0),
        ([row_of(1)], 1),
        ([row_of(1, key=2)], 0),
        ([row_of(1, value=[1])], 0),
        ([row_of(1, value={})], 0),
        ([row_of(1, value={"id": {}})], 0),
        ([row_of(1)[:-1]], 0),
        ([row_of(1, flags=128, value=2)], 0),
        ([row_of(1, flags=1, extra=b"\xff" * 8)], 0),
        ([row_of(1, flags=1)[:24]], 0),
        ([row_of(1, flags=2, extra=(9).to_bytes(4) + (1).to_bytes(8))], 0),
        ([row_of(1, flags=2, extra=(1).to_bytes(4) + bytes(8))], 0),
        ([row_of(1, flags=4, extra=len(RESIDENCY).to_bytes(2) + RESIDENCY)], 0),
        ([row_of(1, flags=4, extra=b"\xff\xff")], 0),
        ([row_of(1, flags=32)], 0),
    ],
)
def test_a_row_that_cannot_be_is_refused_and_nothing_of_its_step_has_happened(
    peers: Peers, file: Path, rows: list[bytes], table: int
) -> None:
    peers.b.begin(forge(file, peers.a.write_copy(file), ORIGINS, rows, table=table))
    with pytest.raises(Corrupt):
        peers.b.finish(file)
    assert peers.b.ids("dog") == []
    assert peers.b.is_merging()
    peers.b.put("dog", {"id": 1})
    peers.b.maintain(abandon_merge)


def test_a_forged_file_with_sound_rows_is_merged(peers: Peers, file: Path) -> None:
    """Or the test before would prove nothing."""
    rows = [row_of(1), row_of(1, key=2, flags=1, extra=bytes(6) + b"\xff\xff"), row_of(1, flags=128, value=3)]
    peers.b.begin(forge(file, peers.a.write_copy(file), ORIGINS, rows))
    assert peers.b.finish(file).taken == 3
    assert peers.b.ids("dog") == [1]


def test_a_file_with_other_than_the_described_rows_does_not_end_the_merge(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 3)
    description = peers.a.write_copy(file)
    peers.b.begin(replace(description, rows=4))
    before = peers.b.vector()
    with pytest.raises(Corrupt, match="had 3"):
        peers.b.finish(file)
    assert peers.b.vector() == before
    peers.b.maintain(abandon_merge)


def test_the_file_of_another_copy_is_refused(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 3)
    peers.b.begin(replace(peers.a.write_copy(file), copy_id="other"))
    with pytest.raises(Corrupt, match="not 'other'"):
        peers.b.finish(file)
    peers.b.maintain(abandon_merge)


def test_a_file_cut_short_is_never_merged_to_its_end(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 3 * CHUNK_ROWS)
    peers.b.begin(peers.a.write_copy(file))
    before = peers.b.vector()
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(Corrupt):
        peers.b.finish(file)
    assert peers.b.vector() == before
    assert peers.b.is_merging()
    peers.b.maintain(abandon_merge)


def test_a_place_that_is_none_in_the_file_is_refused(peers: Peers, file: Path) -> None:
    put_many(peers.a, 0, 3 * CHUNK_ROWS)
    peers.b.begin(peers.a.write_copy(file))
    places = [(0, b"", 7, 0, 0), (0, b"\xff", 0, 0, 0), (0, b"", 0, 999, 0), (5, b"", 0, 0, 0), (0, b"", 1 << 40, 0, 0)]
    for place in places:
        peers.b.maintain(partial(WriteState.put, handle="meta", key=PLACE_KEY, value=codec.encode(list(place))))
        with pytest.raises(Corrupt):
            peers.b.finish(file)
    peers.b.maintain(abandon_merge)
