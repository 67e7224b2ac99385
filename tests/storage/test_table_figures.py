"""Figures of tables: counts, sizes, and the newest write, also where the log tells nothing of it any more."""

import pytest

from storage import table_figures
from storage.schema import UPDATED_TIME, Attribute
from storage.table_figures import TableFigures, measure_tables
from tests.storage.opened import Opened


def figures(opened: Opened, name: str = "dog") -> TableFigures:
    with opened.database.read() as tx:
        ((_, found),) = measure_tables(tx, [tx.table(name)])
        return found


def ts_of_last_entry(opened: Opened) -> int:
    with opened.database.read() as tx:
        entry = tx.log.entry(tx.log.last())
        assert entry is not None
        return entry.header.ts


def test_a_new_table_has_no_last_write(opened: Opened) -> None:
    assert figures(opened).last_write_ts is None


def test_counts_and_sizes_are_those_of_one_table(opened: Opened) -> None:
    opened.create_table("cat")
    opened.put("dog", *({"id": n, "text": "x" * 300} for n in range(100)))
    dog, cat = figures(opened, "dog"), figures(opened, "cat")
    assert (dog.record_count, cat.record_count) == (100, 0)
    assert dog.table_bytes > 30_000
    assert cat.table_bytes == 0
    assert dog.log_bytes == cat.log_bytes > 30_000
    assert dog.database_bytes == cat.database_bytes >= dog.table_bytes + dog.log_bytes


def test_the_last_write_is_found_behind_those_of_other_tables(opened: Opened) -> None:
    opened.create_table("cat")
    opened.put("dog", {"id": 1})
    wanted = ts_of_last_entry(opened)
    opened.put("cat", {"id": 1})
    assert figures(opened).last_write_ts == wanted
    assert figures(opened, "cat").last_write_ts == ts_of_last_entry(opened)


def test_where_the_log_is_too_long_the_newest_record_stands_for_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.create_table("cat")
    opened.put("dog", {"id": 1})
    opened.put("dog", {"id": 2})
    wanted = ts_of_last_entry(opened)
    opened.delete("dog", 1)
    for number in range(3):
        opened.put("cat", {"id": number})
    monkeypatch.setattr(table_figures, "LOG_BYTES_MAX", 300)
    assert figures(opened).last_write_ts == wanted


def test_a_table_without_an_indexed_update_time_then_has_no_last_write(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.create_table("cat", Attribute(name="id", is_primary_key=True), Attribute(name=UPDATED_TIME))
    opened.put("cat", {"id": 1})
    opened.put("dog", *({"id": n} for n in range(10)))
    monkeypatch.setattr(table_figures, "LOG_BYTES_MAX", 300)
    assert figures(opened, "cat").last_write_ts is None


def test_writes_to_an_older_table_of_the_name_are_not_its_own(opened: Opened) -> None:
    opened.put("dog", {"id": 1})
    opened.write(lambda tx: tx.drop_table(tx.table("dog")))
    opened.create_table("dog")
    assert figures(opened).last_write_ts is None
