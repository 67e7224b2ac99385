"""Marks: what they say, where they are noted, and that the checker knows them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from storage import codec
from storage.checker import check_database
from storage.errors import Corrupt
from storage.marks import Mark, decode_mark, encode_mark, mark_key, mark_of, marks_of
from storage.write_transaction import WriteTransaction
from tests.storage.copying import Peer, Peers
from tests.storage.opened import Opened


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    made.share()
    yield made
    made.close()


def noted(node: Opened, of: str) -> Mark | None:
    with node.database.read() as tx:
        return mark_of(tx, of)


def problems_of(node: Opened) -> list[str]:
    return [problem.kind for problem in check_database(node.environment, now_ms=node.now_us // 1000)]


def test_a_mark_says_what_its_node_had_and_is_noted_there(peers: Peers) -> None:
    before = peers.a.vector()
    peers.a.write(WriteTransaction.mark)
    mark = noted(peers.a, "a")
    assert mark is not None
    assert (mark.origin, mark.oseq, mark.vector) == (peers.a.origin, before[peers.a.origin] + 1, before)
    assert peers.a.vector() == {**before, peers.a.origin: mark.oseq}


def test_a_mark_writes_no_record(peers: Peers) -> None:
    digest = peers.a.digest()
    peers.a.write(WriteTransaction.mark)
    assert peers.a.digest() == digest
    assert peers.a.all("dog") == []


def test_a_write_behind_a_mark_is_later_than_it(peers: Peers) -> None:
    peers.a.now_us += 10_000_000
    peers.a.write(WriteTransaction.mark)
    mark = noted(peers.a, "a")
    peers.a.now_us -= 20_000_000
    peers.a.put("dog", {"id": 1})
    (stamp,) = peers.a.stamps().values()
    assert mark is not None and stamp.ts > mark.ts


def test_others_note_the_newest_mark_of_each_node(peers: Peers) -> None:
    peers.a.write(WriteTransaction.mark)
    peers.a.put("dog", {"id": 1})
    peers.a.write(WriteTransaction.mark)
    peers.b.take_stream(peers.a)
    peers.b.write(WriteTransaction.mark)
    peers.c.take_stream(peers.b)
    with peers.c.database.read() as tx:
        assert marks_of(tx) == {"a": noted(peers.a, "a"), "b": noted(peers.b, "b")}


def test_a_mark_of_an_earlier_life_is_not_taken_for_the_own_one(peers: Peers) -> None:
    peers.a.write(WriteTransaction.mark)
    peers.b.take_stream(peers.a)
    peers.a.maintain(lambda state: state.begin_incarnation("another"))
    assert noted(peers.a, "a") is None
    assert problems_of(peers.a) == []


def test_a_copy_brings_the_marks_that_it_covers(peers: Peers) -> None:
    peers.a.write(WriteTransaction.mark)
    peers.b.take_copy(peers.a)
    assert noted(peers.b, "a") == noted(peers.a, "a")


@pytest.mark.parametrize("data", [codec.encode(1), codec.encode(["s", "x", 1, []]), codec.encode([1, 2])])
def test_a_damaged_mark_is_found_by_the_checker(tmp_path: Path, data: bytes) -> None:
    node = Peer.at(tmp_path / "a", node="a")
    node.maintain(lambda state: state.put("meta", mark_key("b"), data))
    assert problems_of(node) == ["mark"]
    node.close()


def test_a_mark_ahead_of_its_origin_is_found_by_the_checker(tmp_path: Path) -> None:
    node = Peer.at(tmp_path / "a", node="a")
    node.create_table("dog")
    ahead = Mark(origin=node.origin, oseq=9, ts=1 << 60, vector={})
    node.maintain(lambda state: state.put("meta", mark_key("a"), ahead.encoded()))
    assert problems_of(node) == ["mark"]
    node.close()


def test_a_mark_of_the_log_that_is_not_noted_is_found_by_the_checker(tmp_path: Path) -> None:
    node = Peer.at(tmp_path / "a", node="a")
    node.write(WriteTransaction.mark)
    node.maintain(lambda state: state.delete("meta", mark_key("a")))
    assert problems_of(node) == ["mark"]
    node.close()


def test_the_vector_of_a_mark_survives_its_payload(peers: Peers) -> None:
    vector = peers.b.vector()
    assert decode_mark(encode_mark(vector)) == vector


@pytest.mark.parametrize("payload", [codec.encode(1), codec.encode([["a", "s", -1]]), codec.encode([["a", 1, 1]])])
def test_a_payload_that_is_no_vector_is_refused(payload: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_mark(payload)


def test_nothing_shares_a_transaction_with_a_mark(peers: Peers) -> None:
    def both(tx: WriteTransaction) -> None:
        tx.delete(tx.table("dog"), 1, b"x")
        tx.mark()

    with pytest.raises(AssertionError):
        peers.a.write(partial(both))
