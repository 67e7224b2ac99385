from functools import partial

import pytest

from storage import codec
from storage.commit_log import VECTOR_EVERY, Head, Position
from storage.entry import Origin
from storage.errors import LogTrimmed
from storage.maintenance import trim_log
from tests.storage.opened import Opened, put_dog


def lseqs(opened: Opened, after: int, bytes_max: int | None = None) -> list[int]:
    with opened.database.read() as tx:
        return [entry.lseq for entry in tx.log.read_after(after, bytes_max=bytes_max)]


@pytest.fixture
def five(opened: Opened) -> Opened:
    """Entries 1 to 5: the table, and four records."""
    for key in range(4):
        opened.put("dog", {"id": key})
    return opened


@pytest.fixture
def trimmed(five: Opened) -> Opened:
    """Entries 1 to 3 are gone."""
    five.maintain(lambda state: trim_log(state, before_us=five.now_us + 1, limit=3))
    return five


def test_entries_are_read_in_order_behind_a_number(five: Opened) -> None:
    assert lseqs(five, 0) == [1, 2, 3, 4, 5]
    assert lseqs(five, 3) == [4, 5]
    assert lseqs(five, 5) == []


def test_reading_ends_after_so_many_bytes_but_never_before_one_entry(five: Opened) -> None:
    assert lseqs(five, 0, bytes_max=1) == [1]
    assert lseqs(five, 1, bytes_max=1) == [2]
    assert lseqs(five, 0, bytes_max=1 << 20) == [1, 2, 3, 4, 5]


def test_a_reader_that_the_log_no_longer_reaches_is_told(trimmed: Opened) -> None:
    assert lseqs(trimmed, 3) == [4, 5]
    for after in (0, 1, 2):
        with pytest.raises(LogTrimmed):
            lseqs(trimmed, after)


def test_a_reader_of_a_log_that_is_wholly_gone_is_told(five: Opened) -> None:
    with five.environment.lmdb.begin(write=True) as txn:
        kept = [(lseq, txn.pop(lseq.to_bytes(8), db=five.environment.handles["log"])) for lseq in range(1, 6)]
    with pytest.raises(LogTrimmed):
        lseqs(five, 4)
    assert lseqs(five, 5) == []
    with five.environment.lmdb.begin(write=True) as txn:
        for lseq, data in kept:
            txn.put(lseq.to_bytes(8), data, db=five.environment.handles["log"])


def test_who_takes_what_is_left_reads_a_trimmed_log(trimmed: Opened) -> None:
    with trimmed.database.read() as tx:
        assert [entry.lseq for entry in tx.log.read_from()] == [4, 5]
        assert (tx.log.first(), tx.log.last()) == (4, 5)
        assert tx.log.entry(3) is None


@pytest.mark.parametrize(
    ("before", "expected"), [(None, [5, 4, 3, 2, 1]), (6, [5, 4, 3, 2, 1]), (3, [2, 1]), (1, []), (99, [5, 4, 3, 2, 1])]
)
def test_entries_are_read_backwards(five: Opened, before: int | None, expected: list[int]) -> None:
    with five.database.read() as tx:
        assert [entry.lseq for entry in tx.log.read_before(before)] == expected


def test_numbers_go_on_after_trimming(trimmed: Opened) -> None:
    trimmed.put("dog", {"id": 9})
    assert lseqs(trimmed, 3) == [4, 5, 6]


def test_the_position_of_an_origin_moves_with_its_entries(five: Opened) -> None:
    with five.database.read() as tx:
        (position,) = tx.log.positions().values()
        (last,) = tx.log.read_after(4)
    assert (position.origin, position.oseq, position.chain) == (five.environment.origin, 5, last.header.chain)


def test_a_position_comes_back_as_it_was() -> None:
    position = Position(Origin("n1", "s"), 7, bytes(range(16)), 3)
    assert Position.decoded(position.encoded()) == position


def test_a_head_comes_back_as_it_was() -> None:
    assert Head.decoded(Head(1, 2, 3).encoded()) == Head(1, 2, 3)
    assert Head.decoded(None) == Head(0, 0, 0)


def test_the_vector_is_kept_at_every_so_many_entries(opened: Opened) -> None:
    functions = [partial(put_dog, key=key) for key in range(500)]
    for _ in range(5):
        assert all(outcome.error is None for outcome in opened.write_all(functions))
    with opened.database.read() as tx:
        with tx.txn.cursor(db=opened.environment.handles["vectors"]) as cursor:
            kept = {int.from_bytes(key): codec.decode(value) for key, value in cursor}
        assert kept.keys() == {VECTOR_EVERY, 2 * VECTOR_EVERY}
        for lseq, vector in kept.items():
            entry = tx.log.entry(lseq)
            assert entry is not None
            assert vector == [[*opened.environment.origin, entry.header.oseq]]


def test_an_empty_log_has_no_first_and_no_last(opened: Opened) -> None:
    other = Opened.at(opened.environment.path.parent / "other")
    with other.database.read() as tx:
        assert (tx.log.first(), tx.log.last(), list(tx.log.read_before())) == (0, 0, [])
    other.close()


def test_the_size_of_the_log_grows_with_it(opened: Opened) -> None:
    with opened.database.read() as tx:
        before = tx.log.size_bytes()
    opened.put("dog", {"id": 1, "text": "x" * 100_000})
    with opened.database.read() as tx:
        assert tx.log.size_bytes() >= before + 100_000
