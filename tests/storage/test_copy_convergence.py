"""Random writes, partial streams, trimmed logs, purges and copies between three nodes: all end equal, and as the fold of
all acknowledged writes says. No write is lost, no delete undone."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.copy_description import CopyDescription
from storage.copy_file import CopyReader
from storage.entry import Origin, Stamp
from storage.record import Row
from storage.transaction import stored_key_of
from tests.storage.copying import Peer, Peers

KEYS = 5
KINDS = (
    *("put",) * 5,
    *("delete",) * 4,
    *("stream",) * 4,
    *("spread",) * 4,
    *("tidy",) * 5,
    *("ask",) * 3,
    *("step",) * 3,
    *("leave",) * 2,
    "return",
    "remove",
)

Standing: TypeAlias = Literal["member", "away", "back"]
"""Who was away is a member at once when it is back, but writes only when it has caught up: an older write than a delete
that all others forgot would count as new."""


@dataclass(slots=True)
class Copy:
    """A copy on its way to a node: asked for, later begun, then merged step by step."""

    file: Path
    description: CopyDescription
    asked_at: dict[Origin, int]
    has_begun: bool = False


@dataclass(slots=True)
class Cluster:
    """Three nodes, and what clients were told: by key the stamp of the last write, and its record or None.

    Node ``c`` is removed and added again: nobody waits for it with purging. Node ``b`` removes rows for itself.
    """

    peers: Peers
    standing: Standing = "member"
    ledger: dict[int, tuple[Stamp, dict[str, Any] | None]] = field(default_factory=dict)
    copies: dict[str, Copy] = field(default_factory=dict)
    number: int = 0

    def run(self, kind: str, who: int, whom: int, key: int, drift: int) -> None:
        peer = self.peers.all[who]
        other = self.peers.all[(who + 1 + whom) % 3]
        if kind == "leave":
            self.leave()
        elif kind == "return" and self.standing == "away":
            self.standing = "back"
        if peer not in self.members() or other not in self.members():
            return
        match kind:
            case "put" | "delete" if self.may_write(peer):
                peer.now_us += drift * 1500
                self.write(peer, key, is_put=kind == "put")
            case "stream":
                self.stream(peer, other, entries_max=key + 1)
            case "spread":
                self.spread()
            case "tidy":
                for member in self.members():
                    if member.table("dog").complete:
                        member.trim()
                        self.purge(member)
            case "ask":
                self.ask(peer, other)
            case "step":
                self.step(peer, limit=1 + key)
            case "remove" if peer is self.peers.b:
                self.remove(peer, key)

    def members(self) -> tuple[Peer, ...]:
        return self.peers.all if self.standing != "away" else self.peers.all[:2]

    def others(self, peer: Peer) -> list[Peer]:
        return [other for other in self.members() if other is not peer]

    def leave(self) -> None:
        """Once the others have all that it has, as its unsent writes would come late."""
        peer = self.peers.c
        is_known = all(_covers(other.vector(), peer.vector()) for other in self.others(peer))
        if self.standing == "member" and is_known and not self.is_copying(peer):
            self.standing = "away"

    def may_write(self, peer: Peer) -> bool:
        if peer is not self.peers.c or self.standing == "member":
            return True
        if all(_covers(peer.vector(), other.vector()) for other in self.others(peer)) and not peer.is_merging():
            self.standing = "member"
        return self.standing == "member"

    def write(self, peer: Peer, key: int, *, is_put: bool) -> None:
        self.number += 1
        if is_put:
            peer.put("dog", {"id": key, "number": self.number})
        else:
            peer.delete("dog", key)
        stamp = peer.stamps(tombstones=not is_put)[stored_key_of(key)]
        if key not in self.ledger or stamp > self.ledger[key][0]:
            self.ledger[key] = (stamp, peer.get("dog", key))

    def remove(self, peer: Peer, key: int) -> None:
        """Where somebody else has all: what only one node had is lost when that takes it away for itself."""
        own = peer.vector()
        is_known = any(_covers(other.vector(), own) and other.table("dog").complete for other in self.others(peer))
        if is_known and not self.is_copying(peer):
            peer.remove(key)

    def is_copying(self, peer: Peer) -> bool:
        return peer.origin.node in self.copies

    def stream(self, target: Peer, source: Peer, *, entries_max: int | None = None) -> None:
        copy = self.copies.get(target.origin.node)
        if copy is None or not copy.has_begun:
            target.take_stream(source, entries_max=entries_max)

    def spread(self) -> None:
        """Everything to everybody, if two rounds are enough."""
        for target in self.members() * 2:
            for source in self.others(target):
                self.catch_up(target, source)

    def catch_up(self, target: Peer, source: Peer) -> None:
        """Finish what is under way; stream, and copy where the log no longer reaches or our table is incomplete."""
        self.finish(target)
        self.stream(target, source)
        known = target.vector()
        is_cut_off = any(known.get(of, 0) < floor for of, floor in source.floors().items() if of != target.origin)
        if is_cut_off or not target.table("dog").complete:
            self.ask(target, source)
            self.finish(target)

    def finish(self, target: Peer) -> None:
        while not self.step(target, limit=50):
            pass

    def purge(self, peer: Peer) -> None:
        """As with marks that all members make at this instant and ``peer`` hears at once."""
        vectors = [other.vector() for other in self.members()]
        own = peer.vector()
        if self.is_copying(peer) or not all(_covers(own, vector) for vector in vectors):
            return

        def is_stable(origin: Origin, row: Row) -> bool:
            return all(row.oseq <= vector.get(origin, 0) for vector in vectors)

        peer.purge(is_stable=is_stable)

    def ask(self, target: Peer, source: Peer) -> None:
        """Ask for a copy, one at a time; of a source that has all. Who merges makes none for others."""
        if self.is_copying(target) or source.is_merging() or not source.table("dog").complete:
            return
        self.number += 1
        file = self.peers.folder / f"copy-{self.number}"
        asked_at = target.vector()
        self.copies[target.origin.node] = Copy(file, source.write_copy(file), asked_at)
        target.now_us = max(target.now_us, source.now_us)

    def step(self, target: Peer, *, limit: int) -> bool:
        """Whether a merge ended, or none was under way."""
        copy = self.copies.get(target.origin.node)
        if copy is None:
            return True
        if not copy.has_begun:
            target.begin(copy.description, asked_at=copy.asked_at)
            copy.has_begun = True
        with CopyReader(copy.file) as reader:
            is_done = target.step(reader, limit=limit).is_done
        if is_done:
            del self.copies[target.origin.node]
        return is_done

    def settle(self) -> None:
        if self.standing == "away":
            self.standing = "back"
        self.spread()
        self.spread()


def _covers(vector: dict[Origin, int], other: dict[Origin, int]) -> bool:
    return all(oseq <= vector.get(origin, 0) for origin, oseq in other.items())


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    peers = Peers(folder)
    peers.share()
    made = Cluster(peers)
    made.write(peers.a, 0, is_put=True)
    peers.spread()
    yield made
    peers.close()


steps = st.lists(
    st.tuples(
        st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 1), st.integers(0, KEYS - 1), st.integers(-2, 2)
    ),
    min_size=5,
    max_size=60,
)


@given(steps=steps)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nodes_that_exchange_copies_end_equal(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int, int, int]]
) -> None:
    with cluster(tmp_path_factory.mktemp("cluster")) as made:
        for step in steps:
            made.run(*step)
        made.settle()
        expected = {stored_key_of(key): stamp for key, (stamp, record) in made.ledger.items() if record is not None}
        for peer in made.peers.all:
            assert peer.vector() == made.peers.a.vector()
            assert peer.stamps() == expected
            assert peer.all("dog") == made.peers.a.all("dog")
            assert peer.index("dog", "number") == made.peers.a.index("dog", "number")
            assert peer.digest() == made.peers.a.digest()
            assert peer.table("dog").complete
