"""Proof that data is what it should be: the list of conflicts, and the check of a database on the running node."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any, Final

from ops.context import Context, Progress
from ops.errors import InvalidParams
from ops.fan_out import ask_peers
from ops.jobs import start_job
from ops.operation import Operation, SuperUser, operation
from ops.params import Also, Anyhow, DatabaseName, Flag, Number, Problem, TableName
from ops.results import RecordStream
from storage.catalog import Offload
from storage.check_report import Problem as BrokenInvariant
from storage.checker import check_database
from storage.clock import milliseconds
from storage.conflict_history import (
    ConflictFilter,
    ConflictingWrite,
    ConflictPage,
    ConflictPlace,
    DecidedConflict,
    find_conflicts,
    read_conflicts,
)
from storage.database import Database
from storage.errors import DatabaseClosed, InvalidKey
from storage.transaction import stored_key_of

PAGE_CONFLICTS: Final = 100
"""Conflicts that are looked up in one transaction and sent as one page."""
OFFSET_MAX: Final = 1_000_000
OF_ALL_NODES_MAX: Final = 10_000
"""``offset`` and ``limit`` together, where all nodes are asked: so many of each are held at once."""
PEER_TIMEOUT_S: Final = 30.0
_TEXT_LENGTH_MAX: Final = 40
_MS_MAX: Final = 1e15


@dataclass(frozen=True, slots=True)
class Instant:
    """Epoch milliseconds as a number or its text, or an ISO 8601 text with ``Z`` or an offset; as microseconds."""

    def convert(self, label: str, value: Any) -> int:
        try:
            return max(0, round(_milliseconds(label, value) * 1000))
        except (Problem, ValueError, OverflowError):
            raise Problem(f"'{label}' must be in ISO 8601 or number of milliseconds format") from None


def _milliseconds(label: str, value: Any) -> float:
    """A text without a zone could mean any of a day's hours, so it is refused."""
    if isinstance(value, str) and not value.lstrip("-").replace(".", "", 1).isdigit():
        at = datetime.fromisoformat(value)
        if at.tzinfo is None or len(value) > _TEXT_LENGTH_MAX:
            raise ValueError(value)
        return at.timestamp() * 1000
    return min(float(Number().convert(label, value)), _MS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConflicts:
    """Without ``database`` all of them are looked through; ``from`` is inclusive, ``to`` is not."""

    database: DatabaseName | None = None
    table: TableName | None = None
    key: Anyhow = None
    from_: Annotated[int, Instant(), Also(("from",), wins=True)] = 0
    to: Annotated[int | None, Instant()] = None
    limit: Annotated[int, Number(is_integer=True, at_least=1)] = 100
    offset: Annotated[int, Number(is_integer=True, at_least=0, at_most=OFFSET_MAX)] = 0
    replicated: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyDatabase:
    database: DatabaseName


@operation("search_conflicts", needs=SuperUser("searchConflicts"), params=SearchConflicts)
async def search_conflicts(ctx: Context, params: SearchConflicts) -> RecordStream | list[dict[str, Any]]:
    """Writes that lost to one that had not seen them, newest first, as far back as the log reaches.

    With ``replicated`` those that any node has listed, each with its ``node``.
    """
    wanted = ConflictFilter(
        table=params.table,
        stored_key=None if params.key is None else _stored_key(params.key),
        committed_from=params.from_,
        committed_before=params.to,
    )
    names = ctx.catalog.names if params.database is None else (params.database,)
    databases = [ctx.catalog.database(name) for name in names]
    if params.database is not None and params.table is not None:
        with databases[0].read() as tx:
            tx.table(params.table)
    walks = [
        _Walk(database, wanted, ctx.catalog.offload, is_optional=params.database is None) for database in databases
    ]
    if params.replicated:
        return await _of_all_nodes(ctx, walks, params.offset, params.limit)
    return RecordStream(pages=_pages(walks, params.offset, params.limit))


@operation("verify_database", needs=SuperUser("verifyDatabase"), params=VerifyDatabase, is_job=True)
async def verify_database(ctx: Context, params: VerifyDatabase) -> dict[str, str]:
    """Check everything that has to hold in a database on this node, the chain of its log included.

    The whole check reads one snapshot, as log and rows are held against each other. While that is open the pages of
    what is written meanwhile cannot be used again: the file of a busy database grows, and does not shrink afterwards.
    Writes wait for nothing.
    """
    database = ctx.catalog.database(params.database)
    return await start_job(ctx, partial(_verify, ctx, database))


# -- conflicts --------------------------------------------------------------------------------------------------------


def _stored_key(key: Any) -> bytes:
    try:
        return stored_key_of(key)
    except InvalidKey as error:
        raise InvalidParams("'key' cannot be a primary key") from error


class _Walk:
    """One database's conflicts, newest first; each part of its log is read in a worker thread.

    Where all databases are asked (``is_optional``), one may go away meanwhile.
    """

    def __init__(self, database: Database, wanted: ConflictFilter, offload: Offload, *, is_optional: bool) -> None:
        self.name = database.name
        self._database = database
        self._wanted = wanted
        self._offload = offload
        self._is_optional = is_optional
        self._places: list[ConflictPlace] = []
        self._before: int | None = None
        self._is_at_end = False

    async def peek(self) -> ConflictPlace | None:
        """The next one, None where there is no more."""
        while not self._places and not self._is_at_end:
            page: ConflictPage | None = await self._run(self._find)
            self._places = [] if page is None else page.places[::-1]
            self._before = None if page is None else page.resume
            self._is_at_end = self._before is None
        return self._places[-1] if self._places else None

    def pop(self) -> ConflictPlace:
        return self._places.pop()

    async def read(self, places: Sequence[ConflictPlace]) -> list[dict[str, Any]]:
        """What stands there, as the answer shows it."""
        return await self._run(partial(self._read, places)) or []

    async def _run(self, function: Callable[[], Any]) -> Any:
        try:
            return await self._offload(function)
        except DatabaseClosed:
            if not self._is_optional:
                raise
            return None

    def _find(self) -> ConflictPage:
        with self._database.read() as tx:
            return find_conflicts(tx, self._wanted, before=self._before, limit=PAGE_CONFLICTS)

    def _read(self, places: Sequence[ConflictPlace]) -> list[dict[str, Any]]:
        with self._database.read() as tx:
            return [_element(self.name, conflict) for conflict in read_conflicts(tx, places)]


async def _pages(walks: Sequence[_Walk], offset: int, limit: int) -> AsyncGenerator[list[dict[str, Any]], None]:
    while offset > 0:
        skipped = len(await _next_page(walks, min(offset, PAGE_CONFLICTS)))
        if not skipped:
            return
        offset -= skipped
    while limit > 0:
        page = await _next_page(walks, min(limit, PAGE_CONFLICTS))
        if not page:
            return
        limit -= len(page)
        yield await _read_page(page)


async def _of_all_nodes(ctx: Context, walks: Sequence[_Walk], offset: int, limit: int) -> list[dict[str, Any]]:
    """The newest of all nodes' lists together; a node that cannot be asked is an element of its own, at the end."""
    wanted = offset + limit
    if wanted > OF_ALL_NODES_MAX:
        raise InvalidParams(f"'offset' and 'limit' must not exceed {OF_ALL_NODES_MAX} together when 'replicated'")
    node = ctx.services.settings.node
    found = [{**conflict, "node": node} async for page in _pages(walks, 0, wanted) for conflict in page]
    failures = []
    for answer in await ask_peers(ctx, timeout_s=PEER_TIMEOUT_S, offset=0, limit=wanted):
        if isinstance(answer.result, list):
            found += [{**conflict, "node": answer.node} for conflict in answer.result if isinstance(conflict, dict)]
        else:
            reason = answer.failure or "an answer that is no list"
            failures.append({"status": "failed", "reason": reason, "node": answer.node})
    found.sort(key=_decided_at, reverse=True)
    return [*found[offset:wanted], *failures]


def _decided_at(conflict: dict[str, Any]) -> float:
    at = conflict.get("decided_at")
    return at if isinstance(at, int | float) else 0.0


async def _next(walks: Sequence[_Walk]) -> tuple[_Walk, ConflictPlace] | None:
    """The newest that is left in any of the databases."""
    newest: _Walk | None = None
    newest_at = -1
    for walk in walks:
        place = await walk.peek()
        if place is not None and place.decided_at > newest_at:
            newest, newest_at = walk, place.decided_at
    return None if newest is None else (newest, newest.pop())


async def _next_page(walks: Sequence[_Walk], limit: int) -> list[tuple[_Walk, ConflictPlace]]:
    page: list[tuple[_Walk, ConflictPlace]] = []
    while len(page) < limit and (found := await _next(walks)) is not None:
        page.append(found)
    return page


async def _read_page(page: Sequence[tuple[_Walk, ConflictPlace]]) -> list[dict[str, Any]]:
    """Neighbours of one database are read in one transaction."""
    elements: list[dict[str, Any]] = []
    for walk, neighbours in groupby(page, key=itemgetter(0)):
        elements += await walk.read([place for _, place in neighbours])
    return elements


def _element(database: str, conflict: DecidedConflict) -> dict[str, Any]:
    return {
        "database": database,
        "table": conflict.table,
        "key": conflict.key,
        "winner": _side(conflict.winner),
        "loser": _side(conflict.loser),
        "decided_at": milliseconds(conflict.decided_at),
    }


def _side(write: ConflictingWrite) -> dict[str, Any]:
    """A write that the log no longer holds has only its stamp."""
    side: dict[str, Any] = {"version": milliseconds(write.stamp.ts), "origin": write.stamp.node}
    return {**side, "user": write.user, "record": write.record} if write.is_known else side


# -- the check --------------------------------------------------------------------------------------------------------


async def _verify(ctx: Context, database: Database, _: Progress) -> dict[str, Any]:
    return dict(await ctx.catalog.offload(_check, database))


def _check(database: Database) -> dict[str, Any]:
    """The numbers are those of the moment before the check."""
    with database.read() as tx:
        handles = database.environment.handles
        entries = int(tx.txn.stat(handles["log"])["entries"])
        rows = sum(int(tx.txn.stat(handles[f"p{table.rows_id}"])["entries"]) for table in tx.schema().tables.values())
    problems = check_database(database.environment)
    return {
        "database": database.name,
        "entries": entries,
        "rows": rows,
        "problems": [_problem(problem) for problem in problems],
        "ok": not problems,
    }


def _problem(problem: BrokenInvariant) -> dict[str, str]:
    place = {"table": problem.table, "key": problem.key}
    given = {name: value for name, value in place.items() if value is not None}
    return {"kind": problem.kind, **given, "message": problem.message}


OPERATIONS: Final[tuple[Operation, ...]] = (search_conflicts, verify_database)
