"""Waiting for confirmations: distinct peers, durable and in full, within a time that ends."""

from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from replication import confirmation
from replication.confirmation import Confirmations, PartialEntries
from replication.errors import NotConfirmed
from replication.messages import Subscribe
from replication.outbound import Publisher
from replication.settings import LinkSettings
from replication.subscription import TableSelection
from storage.entry import Origin
from tests.storage.opened import Opened

OWN = Origin("a", "store")


async def is_confirmed(confirmations: Confirmations, oseq: int = 1, *, count: int = 2, timeout_s: float = 60.0) -> bool:
    try:
        await confirmations.wait(OWN, oseq, count=count, timeout_s=timeout_s)
    except NotConfirmed:
        return False
    return True


async def test_a_peer_that_confirms_twice_counts_once(autojump_clock: MockClock) -> None:
    confirmations = Confirmations()
    confirmations.note("b", {OWN: 1})
    confirmations.note("b", {OWN: 2})
    assert not await is_confirmed(confirmations)
    assert trio.current_time() == 60.0


async def test_what_was_confirmed_before_somebody_waits_counts(autojump_clock: MockClock) -> None:
    confirmations = Confirmations()
    for peer in "bc":
        confirmations.note(peer, {OWN: 1})
    assert await is_confirmed(confirmations)
    assert trio.current_time() == 0.0


async def test_a_peer_that_dies_after_it_confirmed_still_has_the_entry(autojump_clock: MockClock) -> None:
    confirmations = Confirmations()
    results: list[bool] = []

    async def wait() -> None:
        results.append(await is_confirmed(confirmations))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        confirmations.note("b", {OWN: 1})
        await trio.sleep(10)  # b dies; c confirms
        confirmations.note("c", {OWN: 5})
    assert results == [True]
    assert trio.current_time() == 11.0


async def test_a_position_of_another_incarnation_confirms_nothing(autojump_clock: MockClock) -> None:
    confirmations = Confirmations()
    for peer in "bc":
        confirmations.note(peer, {Origin("a", "older store"): 9})
    assert not await is_confirmed(confirmations)


async def test_a_peer_with_a_part_of_the_entry_does_not_count(autojump_clock: MockClock) -> None:
    confirmations = Confirmations()
    confirmations.note_partial("b", OWN, 1)
    for peer in "bc":
        confirmations.note(peer, {OWN: 2})
    assert confirmations.peers_with(OWN, 1) == {"c"}
    assert not await is_confirmed(confirmations)
    assert await is_confirmed(confirmations, 2)


def test_parts_are_remembered_as_ranges_of_which_the_oldest_grow_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "RANGES_KEPT", 10)
    entries = PartialEntries()
    for oseq in (*range(1, 1000), 1000, 5):
        entries.add(OWN, oseq)
    assert (OWN, 1001) not in entries
    for oseq in range(1002, 1042, 2):
        entries.add(OWN, oseq)
    assert all((OWN, oseq) in entries for oseq in (1, 1000, *range(1002, 1042, 2)))
    assert (OWN, 1001) in entries, "too much rather than too little"
    assert (OWN, 1039) not in entries
    assert (Origin("b", "store"), 1) not in entries


@given(positions=st.lists(st.integers(1, 60)))
def test_exactly_what_was_added_is_remembered(positions: list[int]) -> None:
    entries = PartialEntries()
    for oseq in positions:
        entries.add(OWN, oseq)
    assert {oseq for oseq in range(62) if (OWN, oseq) in entries.copy()} == set(positions)


async def test_many_that_wait_in_vain_all_end_and_leave_nothing(autojump_clock: MockClock) -> None:
    confirmations = Confirmations()
    results: list[bool] = []

    async def wait(oseq: int) -> None:
        results.append(await is_confirmed(confirmations, oseq, timeout_s=60.0))

    async with trio.open_nursery() as nursery:
        for oseq in range(1, 1001):
            nursery.start_soon(wait, oseq)
        await trio.sleep(1)
        confirmations.note("b", {OWN: 500})
    assert results == [False] * 1000
    assert trio.current_time() == 60.0
    assert not confirmations._waiters


async def test_the_error_says_that_the_write_stays(autojump_clock: MockClock) -> None:
    with pytest.raises(NotConfirmed, match=r"^Timed out after 5 s .* 2 nodes \(0 confirmed\); the write is committed"):
        await Confirmations().wait(OWN, 1, count=2, timeout_s=5.0)


def test_a_publisher_tells_of_each_entry_that_it_sends_in_part(tmp_path: Path) -> None:
    node = Opened.at(tmp_path / "a", node="a")
    for name in ("dog", "cat"):
        node.create_table(name)
    node.put("cat", {"id": 1})
    node.put("dog", {"id": 1})
    told: list[tuple[Origin, int]] = []
    publisher = Publisher(
        LinkSettings(), entry_bytes_max=1 << 20, on_partial=lambda origin, oseq: told.append((origin, oseq))
    )
    with node.database.read() as tx:
        only_dogs = TableSelection("only", frozenset(("dog",)))
        publisher.subscribe(Subscribe(id=1, want={}, credit_bytes=1 << 20, tables=only_dogs), tx)
        publisher.next_messages(tx, [])
    origin = node.environment.origin
    with node.database.read() as tx:
        of_cats = [entry.header.oseq for entry in tx.log.read_from() if entry.writes()[0].get("t") == "cat"]
    assert told == [(origin, oseq) for oseq in of_cats]
    assert of_cats
    node.close()


def test_a_peer_that_went_back_in_time_counts_for_what_it_has_now() -> None:
    confirmations = Confirmations()
    confirmations.note("b", {OWN: 5})
    confirmations.meet("b", {OWN: 3})
    assert confirmations.count(OWN, 3) == 1
    assert confirmations.count(OWN, 4) == 0
