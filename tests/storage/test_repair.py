"""What all replicas are to hold of a record that two of them hold differently."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.entry import Origin, Stamp
from storage.range_digests import Version
from storage.repair import Held, Knowledge, Outcome, Settlement, Verdict, compare, decide, read_held, settle
from storage.transaction import stored_key_of
from tests.storage.exchange import Nodes, digest_of, send, skip, versions_of
from tests.storage.opened import Opened

A, B = Origin("a", "s1"), Origin("b", "s2")
OLD_US = 100
"""What was written earlier may have been deleted and forgotten."""


def held(
    ts: int, value: str = "x", *, origin: Origin = A, by: tuple[Origin, int] | None = None, is_logged: bool = False
) -> Held:
    """A record that was written at ``ts``, under that number; "" is a tombstone."""
    version = Version(b"k", 1, Stamp(ts, *origin, ts), by or (origin, ts), not value, value.encode().ljust(16))
    return Held(version, value.encode(), None, is_logged)


def knowledge(here: int = 1000, there: int = 1000, *, apart: tuple[Origin, ...] = ()) -> Knowledge:
    return Knowledge(here={A: here}, there={A: there}, old_us=OLD_US, apart=apart)


def verdict(here: Held | None, there: Held | None, known: Knowledge) -> Verdict:
    return compare(here and here.version, there and there.version, known)


@pytest.mark.parametrize(
    ("here", "there"),
    [(None, held(5, "")), (held(5, ""), held(7, "")), (held(5), held(5)), (held(5), held(5, by=(B, 9)))],
)
def test_tombstones_and_who_said_it_again_make_no_difference(here: Held | None, there: Held | None) -> None:
    assert verdict(here, there, knowledge()) == verdict(there, here, knowledge()) == "equal"


@pytest.mark.parametrize(
    ("here", "there"), [(None, held(5)), (held(5), held(7)), (held(5), held(7, "")), (held(5), held(5, "y"))]
)
def test_what_both_have_seen_and_hold_otherwise_differs(here: Held | None, there: Held) -> None:
    assert verdict(here, there, knowledge()) == verdict(there, here, knowledge()) == "differs"


def test_what_one_has_not_seen_is_awaited() -> None:
    assert verdict(held(5), held(7), knowledge(here=6)) == "awaited"
    assert verdict(held(7), held(5), knowledge(there=6)) == "awaited"
    assert verdict(None, held(7), knowledge(here=6)) == "awaited"


def test_the_older_version_need_not_be_known_to_differ() -> None:
    assert verdict(held(7), held(5), knowledge(here=4)) == "differs"


def test_a_restatement_that_has_not_come_is_awaited() -> None:
    assert verdict(None, held(5, by=(B, 3)), knowledge()) == "awaited"


def test_a_record_that_some_hold_in_part_is_not_compared() -> None:
    here = held(5)
    part = here._replace(version=here.version._replace(content=b""))
    assert verdict(here, part, knowledge()) == verdict(part, None, knowledge()) == "equal"


@pytest.mark.parametrize(("here", "there", "winner"), [(200, 300, "there"), (300, 200, "here"), (50, 300, "there")])
def test_the_greater_stamp_wins(here: int, there: int, winner: str) -> None:
    assert decide(held(here), held(there), knowledge()) == (winner, None)


def test_a_delete_wins_over_what_is_older() -> None:
    assert decide(held(200), held(300, ""), knowledge()) == ("there", None)
    assert decide(held(50), held(60, ""), knowledge()) == ("there", None)


def test_a_record_that_is_missing_and_too_young_to_be_forgotten_comes_back() -> None:
    assert decide(held(200), None, knowledge()) == ("here", None)
    assert decide(None, held(200), knowledge()) == ("there", None)


def test_an_old_record_that_the_other_has_seen_go_goes() -> None:
    old = held(50)
    assert decide(old, None, knowledge()) == Outcome(None, old.version.stamp)
    assert decide(None, old, knowledge()) == Outcome(None, old.version.stamp)
    assert decide(old, held(40, ""), knowledge()) == Outcome(None, old.version.stamp)


def test_an_old_record_that_the_other_has_not_seen_stays() -> None:
    assert decide(held(50), None, knowledge(there=49)) == ("here", None)
    assert decide(held(50), None, knowledge(apart=(A,))) == ("here", None)


def test_what_took_the_place_of_an_old_record_replaces_it() -> None:
    old = held(50)
    assert decide(old, held(40, "late"), knowledge()) == Outcome("there", old.version.stamp)


@pytest.mark.parametrize(
    ("is_logged_here", "is_logged_there", "winner"),
    [(True, False, "here"), (False, True, "there"), (False, False, "here"), (True, True, "here")],
)
def test_of_two_values_under_one_stamp_the_logged_one_is_right(
    is_logged_here: bool, is_logged_there: bool, winner: str
) -> None:
    here, there = held(200, "x", is_logged=is_logged_here), held(200, "y", is_logged=is_logged_there)
    assert decide(here, there, knowledge()) == (winner, here.version.stamp)


# -- settling -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    made.a.create_table("dog")
    send(made.a, made.b)
    yield made
    made.close()


def held_by(node: Opened, key: Any) -> Held | None:
    with node.database.read() as tx:
        (found,) = read_held(tx, tx.table("dog"), [stored_key_of(key)], bytes_max=1000)
        return found


def settlement(nodes: Nodes, key: Any, *, winner: Any, is_amended: bool = False) -> Settlement:
    """Of a record at ``a``, compared with ``b``. What is amended beats both."""
    sides = held_by(nodes.a, key), held_by(nodes.b, key)
    newest = max(side.version.stamp for side in sides if side is not None)
    return Settlement(stored_key_of(key), Outcome(winner, newest if is_amended else None), sides)


def settle_at_a(nodes: Nodes, *settlements: Settlement) -> int:
    run = partial(
        settle, table_name="dog", settlements=settlements, now_us=nodes.a.now_us, user="eve", operation="mend"
    )
    settled: int = nodes.a.maintain(run)
    return settled


def assert_alike(nodes: Nodes) -> None:
    assert not send(nodes.a, nodes.b).stopped
    assert versions_of(nodes.a, "dog") == versions_of(nodes.b, "dog")
    assert digest_of(nodes.a, "dog") == digest_of(nodes.b, "dog")


def lose_at_b(nodes: Nodes) -> None:
    """``b`` has the record 1 in an older version, the record 2 not at all."""
    nodes.a.put("dog", {"id": 1, "name": "older"})
    send(nodes.a, nodes.b)
    nodes.a.put("dog", {"id": 1, "name": "newer"}, {"id": 2, "name": "missing"})
    skip(nodes.a, nodes.b)


def test_what_is_here_comes_to_the_others_as_it_is(nodes: Nodes) -> None:
    lose_at_b(nodes)
    before = versions_of(nodes.a, "dog")
    assert settle_at_a(nodes, *(settlement(nodes, key, winner="here") for key in (1, 2))) == 2
    assert_alike(nodes)
    assert versions_of(nodes.a, "dog") == before


def test_a_record_that_goes_leaves_a_tombstone_that_beats_it_and_nothing_newer(nodes: Nodes) -> None:
    lose_at_b(nodes)
    old = settlement(nodes, 2, winner=None, is_amended=True)
    assert settle_at_a(nodes, old, settlement(nodes, 1, winner="here")) == 2
    assert_alike(nodes)
    assert nodes.b.get("dog", 2) is None
    (stamp, _, is_tombstone) = versions_of(nodes.b, "dog")[stored_key_of(2)]
    assert old.sides[0] is not None
    assert is_tombstone and stamp.ts == old.sides[0].version.stamp.ts + 1


def test_an_older_version_that_wins_is_put_above_the_newer_one(nodes: Nodes) -> None:
    lose_at_b(nodes)
    settled = [settlement(nodes, 1, winner="there", is_amended=True), settlement(nodes, 2, winner="here")]
    assert settle_at_a(nodes, *settled) == 2
    assert_alike(nodes)
    assert nodes.a.record("dog", 1)["name"] == "older"
    assert [key for _, key in nodes.a.index("dog", "name")] == [key for _, key in nodes.b.index("dog", "name")]


def test_a_version_of_the_other_side_is_taken_with_its_stamp(nodes: Nodes) -> None:
    nodes.b.now_us = nodes.a.now_us
    nodes.b.put("dog", {"id": 1, "name": "of b"}, expires_at_ms=1 << 50)
    skip(nodes.b, nodes.a)
    assert settle_at_a(nodes, settlement(nodes, 1, winner="there")) == 1
    assert_alike(nodes)
    found = held_by(nodes.a, 1)
    assert found is not None
    assert (found.version.stamp.node, found.expires_at_ms, found.version.position[0].node) == ("b", 1 << 50, "a")


def test_what_was_written_since_is_left_alone(nodes: Nodes) -> None:
    lose_at_b(nodes)
    compared = [
        settlement(nodes, 1, winner="there", is_amended=True),
        settlement(nodes, 2, winner=None, is_amended=True),
    ]
    nodes.a.put("dog", {"id": 1, "name": "since"}, {"id": 2, "name": "since"})
    assert settle_at_a(nodes, *compared) == 0
    assert {record["name"] for record in nodes.a.all("dog")} == {"since"}


def test_a_value_of_another_key_is_not_taken(nodes: Nodes) -> None:
    lose_at_b(nodes)
    stranger = settlement(nodes, 1, winner="there", is_amended=True)
    assert settle_at_a(nodes, stranger._replace(sides=(stranger.sides[0], held_by(nodes.a, 2)))) == 0


def test_the_log_proves_a_value(nodes: Nodes) -> None:
    lose_at_b(nodes)
    found = [held_by(nodes.a, 1), held_by(nodes.a, 2), held_by(nodes.b, 1)]
    assert all(one is not None and one.is_logged for one in found)
    assert held_by(nodes.b, 2) is None
