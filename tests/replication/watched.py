"""A node's membership as it is while the node runs: rows in a real system database, and the watch that follows them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing

from ops.system_tables import definition_of
from replication.membership import NODE_FACTS, NODE_LINKS, NODES
from replication.membership_changes import OwnNode, add_member, put_self, remove_member, revoke
from replication.membership_watch import MembershipWatch
from storage.catalog import Catalog, open_catalog
from storage.settings import StorageSettings
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction
from tests.replication.hand_peer import no_moment
from tests.replication.system_database import route
from tests.simulation.node import START_US, run_inline
from tests.simulation.queue import SimulatedQueue

SOON_S = 5.0
"""Virtual time within which a change has to count."""


@dataclass(eq=False)
class Watched:
    """Node ``a``, and how often its watch told of a change."""

    catalog: Catalog
    watch: MembershipWatch
    changes: list[float] = field(default_factory=list)

    async def write(self, function: Callable[[WriteTransaction], Any]) -> Any:
        return await self.catalog.write("system", function)

    async def add(self, name: str, **fields: Any) -> None:
        await self.write(lambda tx: add_member(tx, name, **{"url": f"wss://{name}:9933", **fields}))
        await self.until(lambda: name in self.watch.membership.peers)

    async def remove(self, name: str) -> None:
        await self.write(lambda tx: remove_member(tx, name))
        await self.until(lambda: name not in self.watch.membership.peers)

    async def revoke(self, name: str, *serials: int) -> None:
        await self.write(lambda tx: revoke(tx, name, serials))
        await self.until(lambda: set(serials) <= self.watch.membership.facts.revoked.get(name, frozenset()))

    async def put(self, table: str, record: dict[str, Any]) -> None:
        """Write a row as it is, past all rules."""

        def put(tx: WriteTransaction) -> None:
            found = tx.table(table)
            key = record[found.primary_key]
            tx.put(found, key, stored_key_of(key), dict(record))

        await self.write(put)

    def damage(self, table: str, key: Any, *, length: int) -> None:
        """Cut a row, so that its head (a few bytes left) or its record cannot be decoded."""
        environment = self.catalog.database("system").environment
        with self.catalog.database("system").read() as tx:
            handle = environment.handles[f"p{tx.table(table).rows_id}"]
        with environment.lmdb.begin(write=True) as txn:
            data = txn.get(stored_key_of(key), db=handle)
            assert data is not None
            txn.put(stored_key_of(key), bytes(data)[:length], db=handle)

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(SOON_S):
            while not condition():
                await trio.sleep(0.01)

    async def count_changes(self) -> None:
        while True:
            await self.watch.wait_for_change()
            self.changes.append(trio.current_time())


@asynccontextmanager
async def watched(folder: Path, *routes: Any, name: str = "a", **options: Any) -> AsyncIterator[Watched]:
    """A node that takes part, and its watch at work."""
    settings = StorageSettings(path=folder / "node", map_size_bytes=64 << 20, sub_databases_max=64, sync=False)
    own = OwnNode(name=name, url=f"wss://{name}:9933", ca=f"CA of {name}")
    async with open_catalog(
        settings,
        node=name,
        clock=lambda: START_US + int(trio.current_time() * 1e6),
        new_queue=partial(SimulatedQueue, hook=no_moment),
        offload=run_inline,
    ) as catalog:
        if "system" not in catalog.names:
            await catalog.create("system")
            definitions = [definition_of(table) for table in (NODES, NODE_LINKS, NODE_FACTS)]
            await catalog.write("system", lambda tx: [tx.create_table(one) for one in definitions], is_local=True)
            await catalog.write("system", lambda tx: put_self(tx, own, is_added=True))
        watch = MembershipWatch(catalog, own, tuple(map(route, routes)), databases=None, **options)
        node = Watched(catalog, watch)
        await watch.prepare()
        async with trio.open_nursery() as nursery:
            await nursery.start(watch.run)
            nursery.start_soon(node.count_changes)
            await trio.testing.wait_all_tasks_blocked()
            yield node
            nursery.cancel_scope.cancel()
