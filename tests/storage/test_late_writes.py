"""Writes that come after others have forgotten what beat them: all nodes end the same (E6, E10)."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.maintenance import expire_rows, purge_tombstones
from tests.storage.copying import Peer, Peers

RETENTION_US = 3 * 86_400_000_000
LONG_US = 4 * 86_400_000_000


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    made.share()
    made.spread()
    yield made
    made.close()


def later(peers: Peers, by_us: int) -> None:
    for peer in peers.all:
        peer.now_us = max(other.now_us for other in peers.all)
    for peer in peers.all:
        peer.now_us += by_us


def delete_behind_the_back_of_c(peers: Peers) -> None:
    """``c`` writes what nobody gets; ``a`` deletes the record later, ``b`` knows of it, ``a`` forgets."""
    peers.c.put("dog", {"id": 1, "from": "c"})
    later(peers, 1_000_000)
    peers.a.delete("dog", 1)
    peers.b.take_stream(peers.a)
    peers.a.put("dog", {"id": 2})
    later(peers, LONG_US)
    peers.a.trim()
    peers.a.purge()
    assert not peers.a.has_tombstone(1) and peers.b.has_tombstone(1)


def are_equal(peers: Peers) -> bool:
    return len({peer.digest() for peer in peers.all}) == 1 and peers.a.ids("dog") == peers.b.ids("dog")


def test_a_node_that_kept_the_delete_tells_those_that_forgot_it(peers: Peers) -> None:
    delete_behind_the_back_of_c(peers)
    peers.a.take_stream(peers.c)
    assert peers.a.get("dog", 1) is not None
    assert peers.b.take_stream(peers.c).restated == 1
    peers.spread()
    assert peers.a.get("dog", 1) is None and peers.a.has_tombstone(1)
    assert peers.c.get("dog", 1) is None


def test_a_delete_that_is_young_is_known_to_all_and_told_once(peers: Peers) -> None:
    peers.c.put("dog", {"id": 1})
    later(peers, 1_000_000)
    peers.a.delete("dog", 1)
    assert peers.a.take_stream(peers.c).restated == 0


def test_what_everybody_forgot_counts_as_new(peers: Peers) -> None:
    delete_behind_the_back_of_c(peers)
    peers.b.put("dog", {"id": 3})
    peers.b.trim()
    peers.b.purge()
    peers.a.take_stream(peers.c)
    peers.b.take_stream(peers.c)
    assert peers.a.get("dog", 1) == peers.b.get("dog", 1) == peers.c.get("dog", 1) is not None


def test_a_copy_of_who_forgot_meets_the_delete(peers: Peers) -> None:
    delete_behind_the_back_of_c(peers)
    peers.a.take_stream(peers.c)
    peers.b.take_copy(peers.a)
    peers.a.take_stream(peers.b)
    assert peers.b.get("dog", 1) is None and peers.a.get("dog", 1) is None


def test_a_delete_that_comes_by_a_copy_meets_what_its_publisher_has_not_seen(peers: Peers) -> None:
    delete_behind_the_back_of_c(peers)
    peers.a.take_stream(peers.c)
    peers.c.take_copy(peers.b)
    assert peers.c.get("dog", 1) is None
    peers.a.take_stream(peers.c)
    assert peers.a.get("dog", 1) is None


def test_the_same_version_that_comes_again_is_not_late(peers: Peers) -> None:
    peers.a.delete("dog", 1)
    peers.b.take_stream(peers.a)
    later(peers, LONG_US)
    peers.b.write(lambda tx: tx.restate(tx.table("dog"), next(iter(peers.b.stamps(tombstones=True)))))
    assert peers.a.take_stream(peers.b).restated == 0


@pytest.mark.parametrize("is_removed", [True, False])
def test_an_older_version_does_not_bring_back_what_expired(peers: Peers, is_removed: bool) -> None:
    peers.c.put("dog", {"id": 1, "from": "c"})
    later(peers, 1_000_000)
    peers.a.put("dog", {"id": 1, "from": "a"}, expires_at_ms=peers.a.now_us // 1000 + 1000)
    peers.b.take_stream(peers.a)
    later(peers, 10_000_000)
    if is_removed:
        peers.b.maintain(partial(expire_rows, now_ms=peers.b.now_us // 1000))
    peers.a.maintain(partial(expire_rows, now_ms=peers.a.now_us // 1000))
    peers.a.purge()
    peers.a.take_stream(peers.c)
    assert peers.a.get("dog", 1) is not None
    assert peers.b.take_stream(peers.c).restated == 1
    peers.spread()
    assert [peer.get("dog", 1) for peer in peers.all] == [None] * 3


def test_a_newer_write_of_the_same_batch_is_not_restated(peers: Peers) -> None:
    delete_behind_the_back_of_c(peers)
    peers.c.put("dog", {"id": 1, "from": "c again"})
    applied = peers.b.take_stream(peers.c)
    assert applied.restated == 0
    assert peers.b.record("dog", 1)["from"] == "c again"


def forget(peer: Peer) -> None:
    """Old deletes and what has expired go, whatever others may bring: as where those were no members."""
    peer.maintain(partial(expire_rows, now_ms=peer.now_us // 1000))
    peer.trim()
    before_us, table_id = peer.now_us - RETENTION_US, peer.table("dog").id
    peer.maintain(partial(purge_tombstones, table_id=table_id, before_us=before_us))


def spread(peers: Peers) -> None:
    """Everything to everybody, by copies where logs no longer reach."""
    for target in peers.all * 2:
        for source in peers.all:
            if source is not target:
                target.take_stream(source)
                known = target.vector()
                if any(known.get(of, 0) < floor for of, floor in source.floors().items() if of != target.origin):
                    target.take_copy(source)
                    target.take_stream(source)


episodes = st.lists(
    st.fixed_dictionaries(
        {
            "order": st.permutations(range(3)),
            "key": st.integers(0, 1),
            "is_delete": st.booleans(),
            "is_known_to_third": st.booleans(),
            "is_long": st.booleans(),
            "forgetful": st.sets(st.integers(0, 2)),
            "streams": st.lists(st.permutations(range(3)), max_size=4),
        }
    ),
    min_size=1,
    max_size=5,
)


@given(episodes=episodes)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_forgets_what_all_end_equal(
    tmp_path_factory: pytest.TempPathFactory, episodes: list[dict[str, Any]]
) -> None:
    """E10, whatever the order: one writes, another makes an end of the record without having seen that, and nobody waits
    for anybody with forgetting it.
    """
    peers = Peers(tmp_path_factory.mktemp("peers"))
    peers.share()
    peers.a.put("dog", {"id": "of all", "number": 0})
    peers.spread()
    for number, episode in enumerate(episodes):
        writer, ender, third = (peers.all[at] for at in episode["order"])
        key = episode["key"]
        writer.put("dog", {"id": key, "number": number})
        later(peers, 1_000_000)
        if episode["is_delete"]:
            ender.delete("dog", key)
        else:
            ender.put("dog", {"id": key, "number": -number}, expires_at_ms=ender.now_us // 1000 + 1000)
        if episode["is_known_to_third"]:
            third.take_stream(ender)
        later(peers, LONG_US if episode["is_long"] else 1_000_000)
        for at in episode["forgetful"]:
            forget(peers.all[at])
        for target, source, _ in episode["streams"]:
            peers.all[target].take_stream(peers.all[source])
    later(peers, LONG_US)
    spread(peers)
    assert len({tuple(map(str, peer.all("dog"))) for peer in peers.all}) == 1
    peers.close()
