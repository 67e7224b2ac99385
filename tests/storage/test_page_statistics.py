"""Pages of a database, from LMDB's counters."""

import os

from storage.page_statistics import environment_facts, log_pages, row_pages, table_bytes
from tests.storage.opened import MAP_BYTES, Opened


def test_the_pages_of_rows_and_log_hold_what_was_written(opened: Opened) -> None:
    opened.put("dog", *({"id": n, "text": "x" * 300} for n in range(100)))
    with opened.database.read() as tx:
        rows, log = row_pages(tx, tx.table("dog")), log_pages(tx)
    assert (rows.entries, log.entries) == (100, 3)
    assert rows.size_bytes == (rows.branch + rows.leaf + rows.overflow) * rows.page_bytes > 30_000
    assert log.overflow > 0


def test_a_table_takes_its_rows_and_all_of_its_indexes(opened: Opened) -> None:
    opened.put("dog", *({"id": n, "name": f"dog {n}"} for n in range(100)))
    with opened.database.read() as tx:
        table = tx.table("dog")
        assert table_bytes(tx, table) >= row_pages(tx, table).size_bytes + 3 * 4096


def test_the_environment_tells_its_map_and_its_readers(opened: Opened) -> None:
    with opened.database.read() as tx:
        facts = environment_facts(tx)
    assert facts.map_bytes == MAP_BYTES
    assert facts.catalog.entries >= 8
    assert facts.last_transaction > 0
    assert {pid for pid, _, _ in facts.readers} == {str(os.getpid())}
    assert 1 <= len(facts.readers) <= facts.reader_slots <= facts.readers_max
