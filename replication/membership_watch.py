"""The current membership, kept up to date from database ``system`` and turned into rules for the supervisor.

The rows are read anew whenever the log of ``system`` has grown, whoever wrote them: an operation here, or a member
whose row came by replication. A check asks the rows as they are now, never the change that was heard of.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final

import trio

from replication.agreements import Databases
from replication.connection import PeerIdentity
from replication.identity import NO_ENTRY, REVOKED
from replication.membership import NODES, Membership, read_membership
from replication.membership_changes import OwnNode, authorise_routes, put_self
from replication.policy import Refusal
from replication.routes import Route
from replication.subscription import TableSelection
from replication.wanted_links import (
    Flow,
    Sharing,
    WantedLinks,
    agreed_flows,
    known_names,
    may_subscribe,
    revoked_serials,
    sharing_of,
    wanted_links,
)
from storage.catalog import Catalog
from storage.errors import StorageError

log = logging.getLogger("replication")

SYSTEM: Final = "system"
CONTROL: Final = "control"


class MembershipWatch:
    """Implements ``Policy``. ``prepare`` once, then ``run``."""

    def __init__(
        self,
        catalog: Catalog,
        own: OwnNode,
        routes: Sequence[Route],
        *,
        databases: Databases,
        before_change: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        """``before_change`` is awaited when members have changed and before anybody hears of it: whom they trust has
        to be known when they dial.
        """
        self.own = own
        self._before_change = before_change
        self.routes = tuple(routes)
        self._catalog = catalog
        self._databases = databases
        self._changed = trio.Event()
        self._seen = 0
        self.membership = Membership(node=own.name)
        self.renamed_from: str | None = None
        """The name under which this node is a member still, where its configuration gives it another one now."""

    async def prepare(self) -> None:
        """Make the peers of the configured routes members, and bring this node's own row in line with what it is."""
        self._read()
        if self.renamed_from is not None:
            log.error(
                "this node was renamed from '%s' to '%s': it does not replicate until the old name is set again, or was "
                "removed from the cluster here",
                self.renamed_from,
                self.own.name,
            )
            return
        removed = await self._catalog.write(SYSTEM, partial(authorise_routes, own=self.own, routes=self.routes))
        for name in removed:
            log.warning("the route to '%s' has no effect: that node was removed and has to be added again", name)
        self._read()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the rows until cancelled."""
        task_status.started()
        while True:
            self._seen = await self._catalog.wait_for_sequence(SYSTEM, self._seen)
            before = self.membership
            self._read()
            if self.membership != before:
                await self._mend_own_row()
                await self._before_change()
                self._changed.set()
                self._changed = trio.Event()

    def _read(self) -> None:
        with self._catalog.database(SYSTEM).read() as tx:
            self._seen = tx.head().lseq
            self.membership = read_membership(tx, self.own.name, self.membership)
            store = tx.environment.origin.store
            former = {at.origin.node for at in tx.log.positions().values() if at.origin.store == store}
            self.renamed_from = next((name for name in self.membership.peers if name in former), None)

    def read_now(self) -> Membership:
        """What the rows say at this moment; ``membership`` follows soon after a change."""
        with self._catalog.database(SYSTEM).read() as tx:
            return read_membership(tx, self.own.name, self.membership)

    async def _mend_own_row(self) -> None:
        """Who knew less may have overwritten our own row with an older one: its owner repairs it."""
        if self.membership.self_member is None:
            return
        try:
            await self._catalog.write(SYSTEM, partial(put_self, own=self.own, routes=self.routes))
        except StorageError as error:
            log.error("the own row in '%s' cannot be written: %s", NODES, error)

    # -- rules ----------------------------------------------------------------------------------------------------

    def known_names(self) -> frozenset[str]:
        """Names that identify a peer."""
        return known_names(self.membership, self.routes)

    def wanted(self, local: Collection[str], remote: Mapping[str, Collection[str]]) -> WantedLinks:
        if self.renamed_from is not None:
            return WantedLinks()
        return wanted_links(
            self.membership,
            self.routes,
            own_databases=self._databases,
            local_names=local,
            remote_databases=remote,
        )

    def flows(self, names: Collection[str]) -> dict[tuple[str, str], Flow]:
        """What is to flow between this node and each peer, for the databases of these names."""
        return agreed_flows(self.membership, self.routes, own_databases=self._databases, names=names)

    def refusal(self, peer: PeerIdentity, name: str, kind: str) -> Refusal | None:
        if self.renamed_from is not None:
            return Refusal(code="not-permitted", reason=f"renamed {self.renamed_from} to {self.own.name}")
        if peer.name is None and peer.is_super_user and kind == CONTROL:
            return None  # a join: its credentials allow what its handler allows
        if peer.name is None and not peer.is_super_user:
            return Refusal(code="auth", reason="a node proves who it is by certificate or credentials")
        if self.membership.is_removed(name):
            return Refusal(code="removed", reason=f"'{name}' was removed from this cluster", is_final=True)
        if name not in self.known_names():
            return Refusal(code="unknown-node", reason=NO_ENTRY.format(name=name))
        if peer.serial is not None and peer.serial in revoked_serials(self.membership, self.routes, name):
            return Refusal(code="revoked", reason=REVOKED.format(serial=peer.serial, name=name))
        if peer.not_after_s is not None and self._catalog.clock() / 1e6 > peer.not_after_s:
            return Refusal(code="auth", reason=f"the certificate of '{name}' has expired")
        return None

    def may_subscribe(self, peer: str, database: str, tables: TableSelection) -> str | None:
        return may_subscribe(
            self.membership,
            self.routes,
            peer=peer,
            database=database,
            own_databases=self._databases,
            tables=tables,
        )

    def sharing(self, database: str) -> Sharing:
        """With whom a database is shared."""
        return sharing_of(self.membership, self.routes, own_databases=self._databases, database=database)

    def may_create(self, database: str, created: int) -> bool:
        return created > self._catalog.dropped_at(database)

    async def wait_for_change(self) -> None:
        await self._changed.wait()
