"""Retention: the service that removes what has outlived its use, database by database, in small chunks.

In this order, as each makes room for the next: records whose time has come become tombstones; the log's oldest
entries go; hidden history is taken out of the entries that stay; tombstones that nothing needs any more go. What
peers still need is asked of ``RetentionRules``; a node without peers keeps nothing for others.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from storage.catalog import Catalog
from storage.clock import WallClock, wall_clock
from storage.database import MaintenanceFunction
from storage.entry import Entry, Origin
from storage.errors import DatabaseClosed, DatabaseNotFound, StorageError
from storage.maintenance import (
    IsStable,
    MayDrop,
    MayTrim,
    Progress,
    alone,
    expire_rows,
    forget_hidden,
    hidden_tables,
    hide_history,
    holds_nothing_else,
    purge_tombstones,
    reduce_history,
    trim_log,
)

log = logging.getLogger("storage")

INTERVAL_S: Final = 10.0
"""Pause between two rounds. Expired records are invisible by time, so this bounds disk use only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """What other members still need; both are called on the commit thread, for every entry or tombstone that could
    go.
    """

    may_trim: MayTrim = alone
    may_drop: MayDrop = holds_nothing_else
    is_stable: IsStable = alone


NO_RULES: Final = RetentionRules()


@dataclass(slots=True, kw_only=True)
class Removed:
    """What one round took out of one database."""

    expired: int = 0
    entries: int = 0
    reduced: int = 0
    tombstones: int = 0


RulesOf: TypeAlias = Callable[[str], RetentionRules]
"""Database name -> its rules; asked anew in every round."""
Maintain: TypeAlias = Callable[[MaintenanceFunction], Awaitable[Any]]
"""``Catalog.maintain`` of one database."""


def no_peers(database: str) -> RetentionRules:
    return NO_RULES


async def run_retention(
    catalog: Catalog,
    *,
    rules: RulesOf = no_peers,
    clock: WallClock = wall_clock,
    interval_s: float = INTERVAL_S,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled: a round over all databases, a pause, and again.

    A database that cannot be written now (full, failed, dropped meanwhile) is reported and tried again in the next
    round.
    """
    task_status.started()
    while True:
        for name in catalog.names:
            try:
                await apply_retention(catalog, name, rules=rules(name), now_us=clock())
            except (DatabaseNotFound, DatabaseClosed):
                log.debug("database '%s' went away during retention", name)
            except StorageError as error:
                log.error("retention of database '%s' stopped: %s", name, error)
        await trio.sleep(interval_s)


async def apply_retention(catalog: Catalog, name: str, *, rules: RetentionRules, now_us: int) -> Removed:
    """One round over one database, as of ``now_us``. Raises ``StorageError``; what was removed before stays removed."""
    maintain = partial(catalog.maintain, name)
    removed = Removed()
    before_us = now_us - int(catalog.settings.audit_retention_s * 1_000_000)
    removed.expired = await _repeat(maintain, partial(expire_rows, now_ms=now_us // 1000))
    trim = partial(trim_log, before_us=before_us, may_trim=rules.may_trim, may_drop=rules.may_drop)
    removed.entries = await _repeat(maintain, trim)
    for table_id in await maintain(hidden_tables):
        removed.reduced += await _reduce(maintain, table_id, rules)
    with catalog.database(name).read() as tx:
        table_ids = list(tx.schema().by_id)
    for table_id in table_ids:
        purge = partial(purge_tombstones, table_id=table_id, before_us=before_us, is_stable=rules.is_stable)
        removed.tombstones += await _walk(maintain, purge)
    return removed


async def delete_history(
    catalog: Catalog,
    name: str,
    table: str,
    *,
    before_us: int,
    rules: RetentionRules = NO_RULES,
    clock: WallClock = wall_clock,
) -> int:
    """Remove a table's history from before this commit time; how many entries were reduced.

    What a peer still needs is hidden at once and removed by a later round. Raises ``TableNotFound``.
    """
    with catalog.database(name).read() as tx:
        table_id = tx.table(table).id
    maintain = partial(catalog.maintain, name)
    await maintain(partial(hide_history, table_id=table_id, before_us=min(before_us, clock())))
    return await _reduce(maintain, table_id, rules)


async def _reduce(maintain: Maintain, table_id: int, rules: RetentionRules) -> int:
    """Take out what is hidden; once nothing had to be left for a peer, the note of it goes as well."""
    is_held = False

    def may_trim(origin: Origin, oseq: int) -> bool:
        nonlocal is_held
        may = rules.may_trim(origin, oseq)
        is_held |= not may
        return may

    def may_drop(entry: Entry) -> bool:
        nonlocal is_held
        may = rules.may_drop(entry)
        is_held |= not may
        return may

    before_us = (await maintain(hidden_tables)).get(table_id, 0)
    reduce = partial(reduce_history, table_id=table_id, may_trim=may_trim, may_drop=may_drop)
    reduced = await _walk(maintain, reduce)
    if not is_held:
        await maintain(partial(forget_hidden, table_id=table_id, before_us=before_us))
    return reduced


async def _repeat(maintain: Maintain, step: MaintenanceFunction) -> int:
    """Run ``step`` until it finds nothing more; the sum of what it did."""
    total = 0
    while done := await maintain(step):
        total += done
    return total


async def _walk(maintain: Maintain, step: Callable[..., Progress]) -> int:
    """Run ``step`` from where it stopped until it reached the end; the sum of what it changed."""
    total = 0
    after: bytes | None = None
    while True:
        progress: Progress = await maintain(partial(step, after=after))
        total += progress.changed
        after = progress.resume
        if after is None:
            return total
