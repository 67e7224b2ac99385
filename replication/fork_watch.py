"""Forks as one stream connection finds them: the comparison of both hellos, and the digests that are exchanged then.

Both sides run this, on each of their connections. Whatever comes first, by a hello, by an error of the peer or on
another connection, ends in the same state: origins that fork between others are kept off this connection (``blocked``),
and for an incarnation of this node the fork is settled. A new life of the database ends all its streams: each began
with a hello that tells of the old one.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from replication.errors import LinkLost
from replication.fork import DIGESTS_MAX, base_of, differences, digests_below, judge
from replication.link import Link
from replication.messages import Error
from replication.replica import Replica, positions_of
from storage.commit_log import CommitLog, Position
from storage.entry import Origin
from storage.transaction import ReadTransaction

log = logging.getLogger("replication")

NEW_LIFE: Final = "a new incarnation of the database began"
ERRORS_MAX: Final = 1000
"""What a peer may say of forks ahead of our looking at it: one error per origin is enough."""


class ForkWatch:
    """One side of one stream connection. ``meet`` once, behind the greeting, then ``run``; ``note`` at any time."""

    def __init__(
        self, replica: Replica, link: Link, *, on_blocked: Callable[[Origin], None] = lambda origin: None
    ) -> None:
        self.blocked: set[Origin] = set()
        """Origins that must not go over this connection, in neither direction."""
        self.differing: set[Origin] = set()
        """Origins of which the peer's hello told another history, our own lives as well: no copy names them."""
        self.kept_off: dict[Origin, int] = {}
        """Own lives of which the peer has the branch that was left, up to this position: not to be taken from it."""
        self._replica = replica
        self._link = link
        self._on_blocked = on_blocked
        self._errors: deque[Error] = deque(maxlen=ERRORS_MAX)
        self._arrived = trio.Event()
        self._told: set[Origin] = set()
        self._judged: set[Origin] = set()
        self._life = replica.life

    def note(self, error: Error) -> None:
        """The peer says that an origin forks; never waits."""
        self._errors.append(error)
        self._arrived.set()

    async def meet(self) -> None:
        """Compare the hellos. Raises ``LinkLost`` where a new life began since ours was said, or because of the peer's."""
        hello = self._link.peer
        theirs = hello.vector or {}
        await self._replica.meet(hello.name, theirs)
        self._life = self._replica.life
        if self._link.own is None or self._link.own.store != self._replica.origin.store:
            raise LinkLost(NEW_LIFE)
        with self._replica.read() as tx:
            ours = positions_of(tx)
            for origin, difference in differences(ours, theirs, tx.log.chain_at, peer=hello.name).items():
                self._tell(ours[origin], theirs[origin][0], tx.log)
                if difference == "other":
                    self.differing.add(origin)
                    if not self._is_ours(origin, tx):
                        self.block(origin)
            for origin in tx.log.branches():
                self._keep_off_left_branch(origin, ours[origin], theirs.get(origin, (0, b"")), tx.log)

    def _keep_off_left_branch(
        self, origin: Origin, position: Position, known: tuple[int, bytes], log_: CommitLog
    ) -> None:
        """A peer that has the branch which we left must not bring us back onto it. It may be on what both branches
        share, as the base lies below where they part: that shows once somebody else has brought us that far.
        """
        oseq, chain = known
        if oseq > position.oseq and log_.left_chain_at(origin, oseq) == chain:
            self.kept_off[origin] = oseq

    def left_out(self) -> set[Origin]:
        """Origins that are not to be taken over this connection, as things are now."""
        if not self.kept_off:
            return self.blocked
        positions = self._replica.positions()
        return self.blocked | {origin for origin, oseq in self.kept_off.items() if positions[origin].oseq < oseq}

    def doubt(self, origin: Origin, oseq: int) -> None:
        """An entry of the peer does not follow our position ``oseq``. Raises ``LinkLost`` for the first time: it may have
        been damaged on its way.
        """
        key = (self._link.peer.name, origin)
        if self._replica.unfit.get(key) != oseq:
            self._replica.unfit[key] = oseq
            raise LinkLost(f"entry {oseq + 1} of '{origin.node}' does not follow the one that is here")
        self.block(origin)

    async def run(self) -> None:
        """Deal with what the peer says. Raises ``LinkLost`` when a new life of the database begins."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_life)
            while True:
                while self._errors:
                    await self._judge(self._errors.popleft())
                self._arrived = trio.Event()
                await self._arrived.wait()

    async def _end_with_life(self) -> None:
        await self._life.wait()
        raise LinkLost(NEW_LIFE)

    async def _judge(self, error: Error) -> None:
        origin, digests, peer = error.origin, (error.digests or ())[:DIGESTS_MAX], self._link.peer.name
        if origin is None or not digests or origin in self._judged:
            return
        self._judged.add(origin)
        with self._replica.read() as tx:
            position = positions_of(tx).get(origin)
            if position is None:
                return
            finding = judge(position, digests, tx.log.chain_at)
            if not self._is_ours(origin, tx):
                if finding.is_other:
                    self._tell(position, min(position.oseq, max(oseq for oseq, _ in digests)), tx.log)
                    self.block(origin)
                return
            if not finding.is_other and not finding.is_unknown_above:
                return
            mark = self._replica.mark_of(peer, tx)
            marked = 0 if mark is None else mark.vector.get(origin, 0)
            base, chain = base_of(position, finding, digests, tx.log.chain_at, marked=marked)
        await self._replica.settle_fork(origin, base, chain, judged_at=position.oseq, peer=peer)

    def _is_ours(self, origin: Origin, tx: ReadTransaction) -> bool:
        """Whether this node has to give way: an incarnation forks once, later it is like anybody's."""
        return origin.node == self._replica.origin.node and origin not in tx.log.branches()

    def _tell(self, position: Position, lower: int, log_: CommitLog) -> None:
        """Send our digests, once per connection."""
        origin = position.origin
        if origin not in self._told:
            self._told.add(origin)
            self._link.post(
                Error(
                    code="fork",
                    message=f"numbers of '{origin.node}' ({origin.store}) were used twice, or seem so",
                    origin=origin,
                    digests=digests_below(position, lower, log_.chain_at),
                )
            )

    def block(self, origin: Origin) -> None:
        if origin not in self.blocked:
            self.blocked.add(origin)
            log.error(
                "database '%s': entries of '%s' (%s) differ from those of '%s' from some number on; they are not "
                "exchanged with it until that is settled",
                self._replica.name,
                origin.node,
                origin.store,
                self._link.peer.name,
            )
            self._on_blocked(origin)
