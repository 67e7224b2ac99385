import itertools
import threading
from typing import Any

import pytest

from storage.errors import DatabaseClosed, TableNotFound
from storage.keys import encode_scalar, stored
from storage.matching import Range
from storage.schema import Attribute
from storage.table_statistics import TableStatistics
from storage.transaction import stored_key_of
from tests.storage.opened import Opened

KEYS = [*range(20)]


@pytest.fixture
def numbered(opened: Opened) -> Opened:
    """Twenty records; ``n`` has four values, five records each."""
    opened.put("dog", *({"id": key, "n": key % 4} for key in KEYS))
    return opened


def walk(opened: Opened, **options: Any) -> list[tuple[bytes, bytes]]:
    with opened.database.read() as tx:
        return list(tx.index_entries(tx.table("dog"), "n", **options))


def value(number: int) -> bytes:
    data = encode_scalar(number)
    assert data is not None
    return stored(data)


def test_rows_come_in_the_order_of_their_keys(numbered: Opened) -> None:
    assert numbered.ids("dog") == KEYS


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(None, None, KEYS), (5, None, KEYS[5:]), (None, 5, KEYS[:5]), (3, 7, [3, 4, 5, 6]), (7, 7, []), (99, None, [])],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_range_of_rows_includes_its_low_and_not_its_high_end(
    numbered: Opened, low: int | None, high: int | None, expected: list[int], reverse: bool
) -> None:
    ends = {name: None if end is None else stored_key_of(end) for name, end in (("low", low), ("high", high))}
    with numbered.database.read() as tx:
        table = tx.table("dog")
        found = [tx.record(table, row)["id"] for _, row in tx.rows(table, reverse=reverse, **ends)]
    assert found == (expected[::-1] if reverse else expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_walk_of_an_index_goes_on_behind_any_entry(numbered: Opened, reverse: bool) -> None:
    entries = walk(numbered, reverse=reverse)
    assert len(entries) == 20
    assert entries == sorted(entries, reverse=reverse)
    for place, entry in enumerate(entries):
        assert walk(numbered, reverse=reverse, after=entry) == entries[place + 1 :]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_walk_goes_on_where_its_entry_is_gone(numbered: Opened, reverse: bool) -> None:
    entries = walk(numbered, reverse=reverse)
    numbered.delete("dog", *KEYS[::2])
    left = walk(numbered, reverse=reverse)
    for entry in entries:
        expected = [other for other in left if (other < entry if reverse else other > entry)]
        assert walk(numbered, reverse=reverse, after=entry) == expected


@pytest.mark.parametrize("reverse", [False, True])
def test_any_range_of_an_index(numbered: Opened, reverse: bool) -> None:
    for low, high in itertools.product(range(6), repeat=2):
        expected = [number for number in range(4) for _ in range(5) if low <= number < high]
        found = walk(numbered, low=value(low), high=value(high), reverse=reverse)
        assert [entry for entry, _ in found] == [value(n) for n in (expected[::-1] if reverse else expected)]


def test_entries_under_one_value_are_counted_without_reading_them(numbered: Opened) -> None:
    with numbered.database.read() as tx:
        statistics = TableStatistics(tx, tx.table("dog"))
        points = [Range(value(number), value(number) + b"\x00") for number in range(5)]
        assert [statistics.count("n", point, at_most=1) for point in points] == [5, 5, 5, 5, 0]
        assert statistics.entry_count("n") == 20


def test_expired_records_are_not_counted_nor_read(numbered: Opened) -> None:
    now_ms = numbered.now_us // 1000
    numbered.create_table("cat")
    numbered.put("dog", {"id": 100}, {"id": 101}, expires_at_ms=now_ms + 500)
    numbered.put("cat", {"id": 100}, expires_at_ms=now_ms + 700)
    for at_ms, dogs, cats in ((now_ms + 499, 22, 1), (now_ms + 500, 20, 1), (now_ms + 700, 20, 0)):
        with numbered.database.read(now_ms=at_ms) as tx:
            assert tx.record_count(tx.table("dog")) == dogs == sum(1 for _ in tx.rows(tx.table("dog")))
            assert tx.record_count(tx.table("cat")) == cats
            assert (tx.row(tx.table("cat"), stored_key_of(100)) is None) == (cats == 0)


def test_a_snapshot_does_not_see_what_is_written_after_it_began(numbered: Opened) -> None:
    with numbered.database.read() as tx:
        writer = threading.Thread(target=numbered.put, args=("dog", {"id": 99, "new": 1}))
        writer.start()
        writer.join()
        assert tx.row(tx.table("dog"), stored_key_of(99)) is None
        assert "new" not in tx.table("dog").attributes
    assert numbered.get("dog", 99) is not None


def test_the_schema_of_a_snapshot_is_that_of_its_moment_whatever_was_read_between(opened: Opened) -> None:
    with opened.database.read() as old:
        opened.create_table("cat")
        with opened.database.read() as new:
            assert set(new.schema().tables) == {"dog", "cat"}
        assert set(old.schema().tables) == {"dog"}
        with pytest.raises(TableNotFound):
            old.table("cat")
    assert opened.table("cat").name == "cat"


def test_a_table_that_was_dropped_and_made_again_is_another(opened: Opened) -> None:
    first = opened.table("dog")
    opened.write(lambda tx: tx.drop_table(tx.table("dog")))
    opened.create_table("dog")
    assert opened.table("dog").id != first.id


def test_an_iterator_ends_with_its_transaction(numbered: Opened) -> None:
    with numbered.database.read() as tx:
        rows = tx.rows(tx.table("dog"))
        next(rows)
    with pytest.raises(Exception, match="closed"):
        next(rows)


def test_a_closed_database_gives_no_snapshot(folder: Any) -> None:
    opened = Opened.at(folder)
    opened.close()
    with pytest.raises(DatabaseClosed):
        opened.database.read()


def test_tables_are_listed_in_the_order_they_were_made(opened: Opened) -> None:
    for name in ("zebra", "ant"):
        opened.create_table(name, Attribute(name="id", is_primary_key=True))
    with opened.database.read() as tx:
        assert list(tx.schema().tables) == ["dog", "zebra", "ant"]
