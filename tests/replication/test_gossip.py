"""Membership that spreads with the log: whatever the order in which nodes act and hear of each other, a removal and a
revocation hold, a node that was added again stays, and all end with the same members.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.membership import Membership
from replication.membership_changes import add_member, authorise_routes, put_self, remove_member, revoke
from storage.write_transaction import WriteTransaction
from tests.replication.system_database import SystemDatabase, route, system_databases

NAMES = ("a", "b", "c")
Nodes: TypeAlias = Mapping[str, SystemDatabase]
Kind: TypeAlias = Literal["add", "remove", "refresh", "start", "hear"]
QUIET: tuple[Kind, ...] = ("refresh", "start", "hear")
"""What happens without anybody deciding on the membership."""


class Step(NamedTuple):
    """``node`` does something, with or about ``other``."""

    kind: Kind
    node: str
    other: str


def steps(kinds: Iterable[Kind], *, at_most: int = 12) -> st.SearchStrategy[list[Step]]:
    name = st.sampled_from(NAMES)
    step = st.builds(Step, st.sampled_from(tuple(kinds)), name, name)
    return st.lists(step.filter(lambda one: one.node != one.other), max_size=at_most)


ahead = st.sampled_from((None, *NAMES))
"""Whose clock is an hour ahead, so that its rows win against later ones."""


@contextmanager
def cluster(ahead: str | None = None) -> Iterator[Nodes]:
    """Three nodes that know each other."""
    with tempfile.TemporaryDirectory() as folder, system_databases(Path(folder), NAMES) as nodes:
        if ahead is not None:
            nodes[ahead].opened.now_us += 3_600_000_000
        join(nodes["a"], nodes["b"])
        join(nodes["a"], nodes["c"])
        settle(nodes)
        yield nodes


def join(node: SystemDatabase, other: SystemDatabase) -> None:
    """``node`` adds ``other``, which answers: both write both rows, with epochs that both know."""
    epoch = explicit_add(node, other)
    own = node.membership().self_member
    assert own is not None
    answer = explicit_add(other, node, own_epoch=epoch, peer_epoch=own.epoch)
    node.write(lambda tx: put_self(tx, node.own, is_added=True, epoch_at_least=answer))


def explicit_add(node: SystemDatabase, other: SystemDatabase, *, own_epoch: int = 0, peer_epoch: int = 0) -> int:
    def add(tx: WriteTransaction) -> int:
        epoch = add_member(tx, other.node, url=other.own.url, ca=other.own.ca, epoch_at_least=peer_epoch)
        put_self(tx, node.own, is_added=True, epoch_at_least=own_epoch)
        return epoch

    epoch: int = node.write(add)
    return epoch


def act(nodes: Nodes, step: Step) -> None:
    node, other = nodes[step.node], nodes[step.other]
    match step.kind:
        case "add":
            explicit_add(node, other)
        case "remove":
            node.write(lambda tx: remove_member(tx, step.other))
        case "refresh":
            node.restart()
            node.write(lambda tx: put_self(tx, node.own))
        case "start":
            node.restart()
            node.write(lambda tx: authorise_routes(tx, node.own, [route(name) for name in NAMES]))
        case "hear":
            node.hear(other)


def settle(nodes: Nodes) -> None:
    """Everybody hears everybody, until there is nothing new: what one passes on may have come from another."""
    for _ in nodes:
        for node in nodes.values():
            for other in nodes.values():
                if node is not other:
                    node.hear(other)


def members(nodes: Nodes) -> set[frozenset[str]]:
    """The sets of members that the nodes see, one if all agree."""
    return {frozenset(member.name for member in node.membership().members()) for node in nodes.values()}


def test_a_node_added_through_one_member_is_known_to_all() -> None:
    with cluster() as nodes:
        assert members(nodes) == {frozenset(NAMES)}


def test_a_third_node_knows_a_peer_by_gossip_and_has_no_link_to_it() -> None:
    with cluster() as nodes:
        peer = nodes["c"].membership().peers["b"]
        assert peer.link is None
        assert (peer.url, peer.ca) == ("wss://b:9933", "CA of b")


@settings(max_examples=40, deadline=None)
@given(ahead=ahead, before=steps(QUIET), after=steps(QUIET), remover=st.sampled_from(("a", "b", "c")))
def test_nothing_but_an_explicit_add_brings_a_removed_node_back(
    ahead: str | None, before: list[Step], after: list[Step], remover: str
) -> None:
    with cluster(ahead) as nodes:
        for step in before:
            act(nodes, step)
        assert nodes[remover].write(lambda tx: remove_member(tx, "b"))
        for step in after:
            act(nodes, step)
        settle(nodes)
        for node in nodes.values():
            node.write(lambda tx, node=node: put_self(tx, node.own))  # type: ignore[misc]
        settle(nodes)
        assert members(nodes) == {frozenset(("a", "c"))}


@settings(max_examples=40, deadline=None)
@given(ahead=ahead, story=steps(("add", "remove", *QUIET)))
def test_a_revoked_serial_number_stays_revoked(ahead: str | None, story: list[Step]) -> None:
    with cluster(ahead) as nodes:
        nodes["a"].write(lambda tx: revoke(tx, "b", (0xAFF,)))
        for step in story:
            act(nodes, step)
        settle(nodes)
        for node in nodes.values():
            membership = node.membership()
            assert membership.facts.revoked["b"] == frozenset((0xAFF,))
            member = membership.member("b")
            assert member is None or 0xAFF in member.revoked


@settings(max_examples=40, deadline=None)
@given(ahead=ahead, before=steps(("add", "remove", *QUIET)), after=steps(QUIET))
def test_a_node_that_was_added_again_stays(ahead: str | None, before: list[Step], after: list[Step]) -> None:
    with cluster(ahead) as nodes:
        for step in before:
            act(nodes, step)
        settle(nodes)
        nodes["c"].write(lambda tx: remove_member(tx, "b"))
        settle(nodes)
        join(nodes["a"], nodes["b"])
        for step in after:
            act(nodes, step)
        settle(nodes)
        assert all("b" in seen for seen in members(nodes))


@settings(max_examples=40, deadline=None)
@given(ahead=ahead, after=steps(("refresh", "hear")))
def test_a_node_added_again_while_it_is_away_stays_though_it_knows_of_nothing(
    ahead: str | None, after: list[Step]
) -> None:
    with cluster(ahead) as nodes:
        nodes["c"].write(lambda tx: remove_member(tx, "b"))
        nodes["a"].hear(nodes["c"])
        explicit_add(nodes["a"], nodes["b"])
        nodes["b"].restart()
        nodes["b"].write(lambda tx: put_self(tx, nodes["b"].own))
        for step in after:
            act(nodes, step)
        settle(nodes)
        assert members(nodes) == {frozenset(NAMES)}


@settings(max_examples=60, deadline=None)
@given(ahead=ahead, story=steps(("add", "remove", *QUIET), at_most=20))
def test_all_end_with_the_same_members(ahead: str | None, story: list[Step]) -> None:
    with cluster(ahead) as nodes:
        for step in story:
            act(nodes, step)
        settle(nodes)
        assert len(members(nodes)) == 1


@settings(max_examples=40, deadline=None)
@given(steps(("add", "remove", *QUIET), at_most=20))
def test_a_reader_that_remembers_sees_the_members_that_a_new_one_sees(story: list[Step]) -> None:
    with cluster() as nodes:
        known: dict[str, Membership] = {}
        for step in story:
            act(nodes, step)
            for name, node in nodes.items():
                known[name] = node.membership(known.get(name))
                fresh = node.membership()
                assert not known[name].troubles
                assert {one.name: one.epoch for one in known[name].members()} == {
                    one.name: one.epoch for one in fresh.members()
                }


@pytest.mark.parametrize("name", ["b", "c"])
def test_the_owner_repairs_a_row_that_a_peer_without_knowledge_wrote(name: str) -> None:
    with cluster() as nodes:
        nodes["a"].put("hdb_nodes", {"name": name, "url": "wss://elsewhere:1", "replicates": True, "epoch": 1})
        settle(nodes)
        nodes[name].write(lambda tx: put_self(tx, nodes[name].own))
        settle(nodes)
        seen = [node.membership().member(name) for node in nodes.values()]
        assert [(one.url, one.ca) for one in seen if one] == [(f"wss://{name}:9933", f"CA of {name}")] * 3
