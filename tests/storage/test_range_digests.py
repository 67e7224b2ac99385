"""Digests of ranges: they add up to the kept one, cut alike on two nodes, and tell when the table moved."""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import range_digests
from storage.errors import Corrupt, TableNotFound
from storage.maintenance import expire_rows
from storage.range_digests import (
    PARTS,
    RangeDigest,
    RangeScan,
    Version,
    read_vector,
    table_digest,
    versions,
)
from storage.table_writes import write_records
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.storage.exchange import Nodes, digest_of, send, skip
from tests.storage.opened import Opened

NOTHING = bytes(16)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    made.a.create_table("dog")
    send(made.a, made.b)
    yield made
    made.close()


def later_ms(node: Opened) -> int:
    return node.now_us // 1000 + 300_000


def finished(scan: RangeScan, node: Opened) -> RangeScan:
    while not scan.is_done:
        scan.read_page(node.database)
    return scan


def split(node: Opened, *, rows: int = 100, **options: Any) -> RangeScan:
    return finished(RangeScan.split("dog", rows=rows, as_of_ms=later_ms(node), **options), node)


def between(node: Opened, boundaries: list[bytes], **options: Any) -> RangeScan:
    return finished(RangeScan.between("dog", boundaries, as_of_ms=later_ms(node), **options), node)


def total(digests: list[RangeDigest]) -> bytes:
    return (sum(int.from_bytes(found.digest) for found in digests) % (1 << 128)).to_bytes(16)


def versions_in(node: Opened, **options: Any) -> list[Version]:
    with node.database.read(now_ms=later_ms(node)) as tx:
        return versions(tx, tx.table("dog"), **options)


def put_many(node: Opened, count: int) -> None:
    node.put("dog", *({"id": key, "name": f"dog {key}"} for key in range(count)))


def test_the_digests_of_the_ranges_add_up_to_the_kept_one(nodes: Nodes) -> None:
    put_many(nodes.a, 100)
    found = split(nodes.a, parts=7).digests
    assert total(found) == digest_of(nodes.a, "dog")
    assert [rows for _, _, rows, _ in found] == [15, 15, 15, 15, 15, 15, 10]
    assert (found[0].low, found[-1].high) == (None, None)
    assert all(before.high == after.low for before, after in pairwise(found))


def test_the_kept_digest_comes_with_its_vector(nodes: Nodes) -> None:
    put_many(nodes.a, 3)
    with nodes.a.database.read() as tx:
        assert table_digest(tx, tx.table("dog")) == (3, digest_of(nodes.a, "dog"))
        assert read_vector(tx) == {nodes.a.environment.origin: tx.log.positions()[1].oseq}


def test_an_empty_table_is_one_range_of_nothing(nodes: Nodes) -> None:
    assert split(nodes.a, rows=0).digests == [RangeDigest(None, None, 0, NOTHING)]


def test_a_table_that_grew_is_not_cut_more_often(nodes: Nodes) -> None:
    put_many(nodes.a, 100)
    assert [found.rows for found in split(nodes.a, rows=8, parts=4).digests] == [2, 2, 2, 94]


@pytest.mark.parametrize("page_rows", [1, 3, 10, 1000])
def test_pages_change_nothing(nodes: Nodes, monkeypatch: pytest.MonkeyPatch, page_rows: int) -> None:
    put_many(nodes.a, 20)
    whole = split(nodes.a, rows=20, parts=6)
    monkeypatch.setattr(range_digests, "PAGE_ROWS", page_rows)
    assert split(nodes.a, rows=20, parts=6).digests == whole.digests
    assert between(nodes.a, whole.boundaries).digests == whole.digests


def test_large_values_end_a_page_early(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    put_many(nodes.a, 10)
    monkeypatch.setattr(range_digests, "PAGE_BYTES", 100)
    scan = RangeScan.split("dog", rows=10, as_of_ms=later_ms(nodes.a))
    scan.read_page(nodes.a.database)
    assert not scan.is_done
    assert total(finished(scan, nodes.a).digests) == digest_of(nodes.a, "dog")


def test_replicas_have_equal_digests_between_the_same_boundaries(nodes: Nodes) -> None:
    put_many(nodes.a, 50)
    send(nodes.a, nodes.b)
    asked = split(nodes.a, rows=50, parts=8)
    assert between(nodes.b, asked.boundaries).digests == asked.digests


def test_one_differing_key_is_found_by_splitting_again(nodes: Nodes) -> None:
    put_many(nodes.a, 500)
    send(nodes.a, nodes.b)
    nodes.a.put("dog", {"id": 321, "name": "other"})
    skip(nodes.a, nodes.b)
    low: bytes | None = None
    high: bytes | None = None
    rows = 500
    while rows > 1:
        here = split(nodes.a, rows=rows, low=low, high=high, parts=4)
        there = between(nodes.b, here.boundaries, low=low, high=high)
        ((low, high, rows, _),) = [
            mine for mine, other in zip(here.digests, there.digests, strict=True) if mine != other
        ]
    assert low == stored_key_of(321)
    (here_version,), (there_version,) = (versions_in(node, low=low, high=high) for node in (nodes.a, nodes.b))
    assert here_version.key == there_version.key == 321
    assert here_version.stamp > there_version.stamp


def test_boundaries_without_rows_between_them_are_empty_ranges(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 5})
    cuts = [stored_key_of(key) for key in (1, 2, 6, 7)]
    found = between(nodes.a, cuts).digests
    assert [rows for _, _, rows, _ in found] == [0, 0, 1, 0, 0]
    assert [low for low, *_ in found] == [None, *cuts]
    assert [high for _, high, *_ in found] == [*cuts, None]


def test_a_boundary_is_the_first_key_of_its_range(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1}, {"id": 2})
    assert [found.rows for found in between(nodes.a, [stored_key_of(2)]).digests] == [1, 1]
    assert [found.rows for found in between(nodes.a, [], low=stored_key_of(2)).digests] == [1]
    assert [found.rows for found in between(nodes.a, [], high=stored_key_of(2)).digests] == [1]


def test_what_replicas_may_hold_differently_does_not_count(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1}, {"id": 2})
    nodes.a.delete("dog", 2)
    nodes.a.put("dog", {"id": 3}, expires_at_ms=1 << 50)
    nodes.a.write(lambda tx: write_records(tx, "dog", [{"id": 4}], "upsert"), is_local=True)
    (found,) = split(nodes.a).digests
    assert found.rows == 1
    assert found.digest == digest_of(nodes.a, "dog")


def test_expiring_rows_count_where_they_are_wanted_until_their_instant(nodes: Nodes) -> None:
    as_of_ms = later_ms(nodes.a)
    nodes.a.put("dog", {"id": 1}, expires_at_ms=as_of_ms)
    nodes.a.put("dog", {"id": 2}, expires_at_ms=as_of_ms + 1)
    scan = RangeScan.split("dog", rows=2, as_of_ms=as_of_ms, includes_expiring=True)
    assert [found.rows for found in finished(scan, nodes.a).digests] == [1]


def test_a_row_that_only_one_node_has_removed_yet_makes_no_difference(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1}, expires_at_ms=nodes.a.now_us // 1000 + 1000)
    nodes.a.put("dog", {"id": 2}, expires_at_ms=nodes.a.now_us // 1000 + 10_000_000)
    send(nodes.a, nodes.b)
    nodes.a.now_us += 2_000_000
    nodes.b.now_us = nodes.a.now_us
    nodes.a.maintain(partial(expire_rows, now_ms=nodes.a.now_us // 1000))
    here, there = (split(node, includes_expiring=True).digests for node in (nodes.a, nodes.b))
    assert here == there
    assert here[0].rows == 1


# -- a table that moves -----------------------------------------------------------------------------------------------


def paused(node: Opened, monkeypatch: pytest.MonkeyPatch, **options: Any) -> RangeScan:
    """A scan that has read one of several pages."""
    put_many(node, 10)
    monkeypatch.setattr(range_digests, "PAGE_ROWS", 4)
    scan = RangeScan.split("dog", rows=10, as_of_ms=later_ms(node), **options)
    scan.read_page(node.database)
    assert not scan.is_done
    return scan


@pytest.mark.parametrize("key", [1, 9])
def test_a_write_to_the_table_between_two_pages_is_noticed(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, key: int
) -> None:
    scan = paused(nodes.a, monkeypatch)
    nodes.a.put("dog", {"id": key, "name": "moved"})
    assert not finished(scan, nodes.a).is_still


def test_writes_to_other_tables_leave_a_scan_as_it_is(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes.a.create_table("cat")
    scan = paused(nodes.a, monkeypatch)
    nodes.a.put("cat", {"id": 1})
    finished(scan, nodes.a)
    assert scan.is_still
    assert scan.began is not None and scan.began.digest == total(scan.digests)


def test_with_expiring_rows_any_entry_counts_as_a_move(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = paused(nodes.a, monkeypatch, includes_expiring=True)
    nodes.a.put("dog", {"id": 11}, expires_at_ms=1 << 50)
    assert not finished(scan, nodes.a).is_still


def test_another_table_of_the_name_ends_the_scan(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = paused(nodes.a, monkeypatch)
    nodes.a.write(lambda tx: tx.drop_table(tx.table("dog")))
    nodes.a.create_table("dog")
    with pytest.raises(TableNotFound):
        scan.read_page(nodes.a.database)


# -- versions ---------------------------------------------------------------------------------------------------------


def test_versions_are_rows_and_tombstones_in_key_order(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1}, {"id": 3})
    nodes.a.delete("dog", 2, 3)
    found = versions_in(nodes.a)
    assert [(version.key, version.is_tombstone) for version in found] == [(1, False), (2, True), (3, True)]
    assert [version.stored_key for version in found] == [stored_key_of(key) for key in (1, 2, 3)]
    origin = nodes.a.environment.origin
    assert all(version.position == (origin, version.stamp.oseq) for version in found)
    assert found[0].stamp[1:3] == origin


def test_what_has_expired_is_a_tombstone_and_what_stays_here_is_nothing(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1}, expires_at_ms=later_ms(nodes.a) - 1)
    nodes.a.put("dog", {"id": 2}, expires_at_ms=1 << 50)
    nodes.a.write(lambda tx: write_records(tx, "dog", [{"id": 3}], "upsert"), is_local=True)
    assert [(version.key, version.is_tombstone) for version in versions_in(nodes.a)] == [(1, True), (2, False)]


def test_a_restated_version_is_covered_by_who_restated_it(nodes: Nodes) -> None:
    nodes.a.put("dog", {"id": 1})
    send(nodes.a, nodes.b)

    def restate(tx: WriteTransaction) -> None:
        tx.restate(tx.table("dog"), stored_key_of(1))

    nodes.b.write(restate)
    (version,) = versions_in(nodes.b)
    assert version.stamp.node == "a"
    assert version.position == (nodes.b.environment.origin, 1)


def test_versions_come_in_pages(nodes: Nodes) -> None:
    long_key = "x" * 1000
    nodes.a.put("dog", *({"id": key} for key in (*range(5), long_key)))
    pages: list[list[Any]] = []
    after = None
    while page := versions_in(nodes.a, low=stored_key_of(1), after=after, limit=2):
        pages.append([version.key for version in page])
        after = page[-1].stored_key
    assert pages == [[1, 2], [3, 4], [long_key]]


@pytest.mark.parametrize(
    ("low", "boundaries", "high"),
    [
        (None, [b"b", b"a"], None),
        (None, [b"a", b"a"], None),
        (b"b", [b"a"], None),
        (b"b", [], b"b"),
        (None, [b"b"], b"a"),
        (b"", [], None),
        (None, [b"x" * 512], None),
        (None, [bytes((2, number)) for number in range(PARTS)], None),
    ],
)
def test_places_where_nobody_can_have_cut_are_refused(
    low: bytes | None, boundaries: list[bytes], high: bytes | None
) -> None:
    with pytest.raises(Corrupt):
        RangeScan.between("dog", boundaries, low=low, high=high, as_of_ms=0)


changes = st.lists(st.tuples(st.sampled_from(("put", "delete", "expire")), st.integers(0, 40)), max_size=60)


@given(changes=changes, cuts=st.sets(st.integers(-5, 45), max_size=10), page_rows=st.integers(1, 12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_cuts_each_counted_row_is_in_one_range(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, int]], cuts: set[int], page_rows: int
) -> None:
    node = Opened.at(tmp_path_factory.mktemp("node"))
    node.create_table("dog")
    for what, key in changes:
        if what == "delete":
            node.delete("dog", key)
        else:
            node.put("dog", {"id": key}, expires_at_ms=1 << 50 if what == "expire" else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(range_digests, "PAGE_ROWS", page_rows)
        boundaries = sorted(stored_key_of(key) for key in cuts)
        found = between(node, boundaries)
        assert total(found.digests) == digest_of(node, "dog")
        assert found.boundaries == boundaries
        everything = between(node, boundaries, includes_expiring=True)
        live = [stored_key_of(key) for key in node.ids("dog")]
        for low, high, rows, _ in everything.digests:
            assert rows == sum((low is None or key >= low) and (high is None or key < high) for key in live)
    node.close()
