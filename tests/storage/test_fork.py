"""An own life that goes back to where its numbers were used twice: what is restated, what is served, what is checked."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from storage.abandoned import Branch, fork_key
from storage.checker import check_database
from storage.commit_log import Position
from storage.entry import NO_CHAIN, Origin, encode_travelling
from storage.fork import branches_of, leave_branch, restate_step
from storage.maintenance import trim_log
from storage.received_entries import Applied, apply_received, read_received
from storage.received_schema import merge_definitions
from storage.write_state import WriteState
from tests.storage.opened import Opened

Open = Callable[[str], Opened]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens databases of nodes by name; all are checked at the end."""
    made: dict[str, Opened] = {}

    def open_one(name: str) -> Opened:
        return made.setdefault(name, Opened.at(tmp_path / name, node=name))

    yield open_one
    for node in made.values():
        assert problems_of(node) == []
        node.close()


def problems_of(node: Opened) -> list[str]:
    return [str(problem) for problem in check_database(node.environment, now_ms=node.now_us // 1000)]


def position_of(node: Opened, origin: Origin) -> Position:
    with node.database.read() as tx:
        return next(position for position in tx.log.positions().values() if position.origin == origin)


def chain_at(node: Opened, origin: Origin, oseq: int) -> bytes:
    with node.database.read() as tx:
        chain = tx.log.chain_at(origin, oseq)
    assert chain is not None
    return chain


def leave(node: Opened, origin: Origin, base: int) -> bool:
    chain = chain_at(node, origin, base)
    return bool(
        node.maintain(
            partial(leave_branch, origin=origin, base=base, chain=chain, judged_at=position_of(node, origin).oseq)
        )
    )


def restate_all(node: Opened, *, limit: int | None = None) -> list[int]:
    """Restated rows by step."""
    rows = []
    while not (step := node.maintain(partial(restate_step, now_us=node.now_us, limit=limit))).is_done:
        rows.append(step.rows)
    return rows


def send_all(publisher: Opened, subscriber: Opened, *, after: dict[Origin, int] | None = None) -> Applied:
    """Apply all that others may have of the publisher's log, and that the subscriber does not name itself."""
    with publisher.database.read() as tx:
        definitions = [table.definition for table in tx.schema().tables.values()]
        branches = tx.log.branches()
        items = [
            read_received(encode_travelling(entry.header.raw, entry.payload))
            for entry in tx.log.read_from()
            if entry.header.oseq > (after or {}).get(entry.header.origin, 0)
            and entry.header.origin != subscriber.environment.origin
            and not (
                entry.header.origin in branches and branches[entry.header.origin].holds(entry.lseq, entry.header.oseq)
            )
        ]

    def apply(state: WriteState) -> Applied:
        merge_definitions(state, definitions)
        return apply_received(state, items, now_us=subscriber.now_us)

    applied: Applied = subscriber.maintain(apply)
    return applied


def with_entries(node: Opened, *keys: object) -> Origin:
    """A table, as entry 1, and an entry for each key."""
    node.create_table("dog")
    for key in keys:
        node.put("dog", {"id": key})
    return node.environment.origin


def test_the_old_life_goes_back_and_a_new_one_begins(opened: Open) -> None:
    a = opened("a")
    old = with_entries(a, 1, 2, 3)
    assert leave(a, old, 2)
    assert a.environment.origin != old
    assert position_of(a, old).oseq == 2
    assert problems_of(a) == []


def test_a_life_forks_once(opened: Open) -> None:
    a = opened("a")
    old = with_entries(a, 1, 2, 3)
    assert leave(a, old, 3)
    restate_all(a)
    assert not leave(a, old, 2)
    assert position_of(a, old).oseq == 3


def test_without_entries_above_the_base_there_is_no_fork(opened: Open) -> None:
    a = opened("a")
    old = with_entries(a, 1)
    assert not leave(a, old, 2)
    assert a.environment.origin == old


def test_an_origin_of_another_node_is_not_this_nodes_to_take_back(opened: Open) -> None:
    a, b = opened("a"), opened("b")
    origin = with_entries(a, 1, 2)
    send_all(a, b)
    assert not b.maintain(partial(leave_branch, origin=origin, base=0, chain=NO_CHAIN, judged_at=3))
    assert position_of(b, origin).oseq == 3


def test_a_life_that_others_go_on_from_has_not_forked(opened: Open, tmp_path: Path) -> None:
    before, b = Opened.at(tmp_path / "before", node="a"), opened("b")
    old = with_entries(before, 1, 2)
    before.close()
    shutil.copytree(tmp_path / "before", tmp_path / "a")
    before = Opened.at(tmp_path / "before", node="a")
    before.put("dog", {"id": 3})
    send_all(before, b)
    before.close()
    a = opened("a")
    a.maintain(lambda state: state.begin_incarnation("another"))
    assert not send_all(b, a).stopped
    assert position_of(a, old).oseq == 4
    assert not leave(a, old, 2)


def test_an_old_life_that_moved_since_it_was_judged_is_left_alone(opened: Open) -> None:
    a = opened("a")
    old = with_entries(a, 1, 2, 3)
    a.maintain(lambda state: state.begin_incarnation("another"))
    a.put("dog", {"id": 4})
    chain = chain_at(a, old, 2)
    assert not a.maintain(partial(leave_branch, origin=old, base=2, chain=chain, judged_at=3))
    assert position_of(a, old).oseq == 4


def test_rows_and_tombstones_above_the_base_are_restated_and_no_others(opened: Open) -> None:
    a, b = opened("a"), opened("b")
    old = with_entries(a, 1, 2, 3, 4)
    a.delete("dog", 1)
    leave(a, old, 3)
    assert sum(restate_all(a)) == 3
    origin = a.environment.origin
    with a.database.read() as tx:
        entries = [entry for entry in tx.log.read_from() if entry.header.origin == origin]
    writes = [write for entry in entries for write in entry.writes()]
    assert [(write["op"], write["k"]) for write in writes] == [("put", 3), ("put", 4), ("delete", 1)]
    assert all(write["s"][2] == old.store for write in writes)
    send_all(a, b)
    assert b.ids("dog") == [2, 3, 4]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_restating_goes_on_step_by_step_from_where_it_was(opened: Open, limit: int) -> None:
    a = opened("a")
    old = with_entries(a, *range(8))
    a.create_table("cat")
    a.put("cat", {"id": 1}, {"id": 2})
    a.delete("dog", 3, 5)
    leave(a, old, 4)
    rows = []
    for _ in range(100):
        step = a.maintain(partial(restate_step, now_us=a.now_us, limit=limit))
        assert problems_of(a) == []
        if step.is_done:
            break
        rows.append(step.rows)
        a.put("dog", {"id": f"later-{len(rows)}"})
    assert sum(rows) == 7
    assert len(rows) > 1


def test_until_all_is_restated_nothing_of_the_old_life_is_applied(opened: Open, tmp_path: Path) -> None:
    a, b = opened("a"), opened("b")
    old = with_entries(a, 1, 2, 3)
    send_all(a, b)
    leave(a, old, 2)
    assert send_all(b, a, after={old: 2}).stopped[old][0] == "own"
    restate_all(a)
    assert send_all(b, a, after={old: 2}).positions[old] == 4


def test_what_comes_back_is_served_and_the_branch_that_was_left_is_not(opened: Open) -> None:
    a, b, c = opened("a"), opened("b"), opened("c")
    old = with_entries(a, 1, 2, 3)
    send_all(a, b)
    leave(a, old, 2)
    restate_all(a)
    send_all(b, a, after={old: 2})
    assert not send_all(a, c).stopped
    assert position_of(c, old) == position_of(b, old)
    assert c.ids("dog") == [1, 2, 3]


def test_digests_are_those_of_what_is_served(opened: Open) -> None:
    a = opened("a")
    old = with_entries(a, 1, 2, 3)
    left = chain_at(a, old, 4)
    leave(a, old, 2)
    with a.database.read() as tx:
        assert tx.log.chain_at(old, 4) is None
        assert tx.log.left_chain_at(old, 4) == left
        assert tx.log.left_chain_at(old, 2) is None


def test_trimming_a_branch_that_was_left_raises_no_floor(opened: Open) -> None:
    a, b = opened("a"), opened("b")
    old = with_entries(a, 1, 2, 3)
    send_all(a, b)
    leave(a, old, 2)
    restate_all(a)
    a.put("dog", {"id": "later"})
    assert a.maintain(partial(trim_log, before_us=a.now_us)) > 3
    assert position_of(a, old).floor == 2
    assert problems_of(a) == []


def test_the_checker_still_finds_damage_in_a_branch_that_was_left(opened: Open) -> None:
    a = opened("a")
    old = with_entries(a, 1, 2, 3)
    leave(a, old, 2)
    restate_all(a)
    entry = a.maintain(lambda state: state.get("log", (4).to_bytes(8)))
    a.maintain(lambda state: state.put("log", (4).to_bytes(8), entry[:-1] + bytes([entry[-1] ^ 1])))
    assert problems_of(a) != []
    a.maintain(lambda state: state.put("log", (4).to_bytes(8), entry))


def test_the_checker_finds_rows_that_were_never_restated(opened: Open) -> None:
    a = opened("a")
    old = with_entries(a, 1, 2, 3)
    leave(a, old, 2)
    (origin_id, branch), *_ = a.maintain(branches_of).items()

    def claim_to_be_done(state: WriteState) -> None:
        state.put("meta", fork_key(origin_id), Branch(branch.base, branch.last_lseq, None).encoded())

    a.maintain(claim_to_be_done)
    assert any("ahead of the vector" in problem for problem in problems_of(a))
    a.maintain(lambda state: state.put("meta", fork_key(origin_id), branch.encoded()))
