"""The work of ``verify_replicas``: tables of this node against those of its peers, one after the other.

Where a peer was not equally far once in the time that is allowed, its further tables of the database are looked at
without waiting: a link that stands still would hold up each of them.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.context import Context, Progress
from replication.cluster import Cluster
from replication.replica_comparison import Difference
from replication.replica_pair import Author, Findings, ReplicaPair
from replication.replica_sides import NotComparable
from replication.wanted_links import Flow
from storage.clock import milliseconds
from storage.range_digests import TableDigest, Version, table_digest

log = logging.getLogger("job")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTable:
    """``peers`` are all that are to hold the table as well, connected or not."""

    database: str
    table: str
    kept: TableDigest
    peers: tuple[str, ...]


def checked_tables(ctx: Context, database: str | None, table: str | None) -> list[CheckedTable]:
    """What is to be compared: the tables whose records may leave this node, of one database or of all. Raises
    ``NotFound`` for one that was named and is not here.
    """
    cluster = ctx.services.cluster
    flows = {} if cluster is None else cluster.watch.flows(ctx.catalog.names)
    found: list[CheckedTable] = []
    for name in sorted(ctx.catalog.names) if database is None else (database,):
        of_database = {peer: flow for (peer, of), flow in flows.items() if of == name}
        if not of_database and database is None:
            continue
        with ctx.catalog.database(name).read() as tx:
            if database is not None and table is not None:
                tx.table(table)
            for one in tx.schema().tables.values():
                if not one.definition.is_local and table in (None, one.name):
                    peers = _sharing(cluster, of_database, name, one.name)
                    found.append(CheckedTable(database=name, table=one.name, kept=table_digest(tx, one), peers=peers))
    return found


def _sharing(cluster: Cluster | None, flows: Mapping[str, Flow], database: str, table: str) -> tuple[str, ...]:
    """Those of a database's peers that share this table: with explicit subscriptions only some are given."""
    given = () if cluster is None else cluster.peers_sent_to(database, table)
    return tuple(peer for peer, flow in flows.items() if not flow.gives or peer in given)


@dataclass(slots=True, kw_only=True)
class ReplicaCheck:
    """One run of the job; ``run`` gives its result."""

    ctx: Context
    tables: Sequence[CheckedTable]
    repairs: bool
    progress: Progress
    _late: set[tuple[str, str]] = field(default_factory=set)
    """Peers and databases that were waited for in vain."""
    _rows_done: int = 0

    async def run(self) -> dict[str, Any]:
        by_database: dict[str, list[dict[str, Any]]] = {}
        for table in self.tables:
            by_database.setdefault(table.database, []).append(await self._check(table))
        peers = [peer for tables in by_database.values() for table in tables for peer in table["peers"]]
        databases = [{"database": name, "tables": tables} for name, tables in by_database.items()]
        return {"databases": databases, "equal": _all_equal([peer["equal"] for peer in peers])}

    async def _check(self, table: CheckedTable) -> dict[str, Any]:
        peers = [{"node": peer, **await self._compare(table, peer)} for peer in table.peers]
        return {"table": table.table, "rows": table.kept.rows, "digest": table.kept.digest.hex(), "peers": peers}

    async def _compare(self, table: CheckedTable, peer: str) -> dict[str, Any]:
        cluster = self.ctx.services.cluster
        assert cluster is not None, "there is a peer"
        pair = ReplicaPair(
            cluster.supervisor,
            self.ctx.catalog,
            peer,
            table.database,
            table.table,
            author=Author(user=self.ctx.user_name, operation=self.ctx.operation),
            on_rows=self._note_rows,
        )
        is_late = (peer, table.database) in self._late
        patience_s = 0.0 if is_late else cluster.supervisor.settings.confirmation_timeout_s
        try:
            compare = pair.repair if self.repairs else pair.compare
            equal = (await compare(patience_s=patience_s)).is_equal
        except NotComparable as error:
            log.info("%s", error)
            if error.reason == "busy":
                self._late.add((peer, table.database))
            return {**_shown(pair.found), "equal": None, "reason": error.reason}
        return {**_shown(pair.found), "equal": equal, **({"reason": "busy"} if equal is None else {})}

    async def _note_rows(self, rows: int) -> None:
        self._rows_done += rows
        total = sum(table.kept.rows * len(table.peers) for table in self.tables)
        await self.progress.report(self._rows_done, max(total, self._rows_done), "rows")


def _shown(found: Findings) -> dict[str, Any]:
    sample = [{"key": _key(one), "here": _version(one.here), "there": _version(one.there)} for one in found.sample]
    return {"differing": found.differing, "sample": sample, "repaired": found.repaired}


def _key(difference: Difference) -> Any:
    """From whichever side has it undamaged."""
    keys = (version.key for version in (difference.here, difference.there) if version is not None)
    return next((key for key in keys if key is not None), None)


def _version(version: Version | None) -> dict[str, Any] | None:
    return None if version is None else {"version": milliseconds(version.stamp.ts), "origin": version.stamp.node}


def _all_equal(verdicts: Collection[bool | None]) -> bool | None:
    """True only where everything was compared."""
    if False in verdicts:
        return False
    return True if verdicts and None not in verdicts else None
