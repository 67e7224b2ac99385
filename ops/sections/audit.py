"""The audit log and the transaction log: two readings of one history, and its removal.

Both are views of the database's commit log (``storage/history.py``). A node or a table may keep its history from being
shown; the log is there all the same. The elements of an answer are transactions with what they did to one table; their
``timestamp`` is the transaction's time, while a window compares the commit time here, which may be a little later.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

import trio

from ops.context import Context, Progress
from ops.describe import is_audited
from ops.errors import InvalidParams
from ops.jobs import start_job
from ops.operation import Operation, SuperUser, operation
from ops.params import Also, DatabaseName, ListOf, Number, Problem, TableName, Text, Timestamp, parse
from ops.results import RecordStream
from ops.target import DEFAULT_DATABASE
from storage.clock import milliseconds
from storage.database import Database
from storage.errors import InvalidKey, TableNotFound
from storage.history import TableEntry, record_history, table_history
from storage.keys import NULL, encode_scalar
from storage.retention import delete_history, no_peers
from storage.schema import Table
from storage.text_form import text_of
from storage.transaction import ReadTransaction, stored_key_of

PAGE_RECORDS: Final = 1000
PAGE_EXAMINED: Final = 2000
"""Log entries that one snapshot looks at: most may be other tables'."""
LIMIT_MAX: Final = 1 << 62
ANSWER_RECORDS_MAX: Final = 100_000
"""Records of one answer that is an object: it cannot be sent in pages."""
SEARCH_TYPES: Final = ("timestamp", "username", "hash_value")
AUDIT_IS_OFF: Final = "To use this operation audit log must be enabled in logmesh.yaml"
BAD_WINDOW: Final = "'search_values' must be in timestamp or number of milliseconds format"
SHOWN_LENGTH_MAX: Final = 100
TOO_LONG: Final = (
    f"The history asked for is longer than an answer may be ({ANSWER_RECORDS_MAX} records), "
    "ask for it by search_type timestamp"
)

Limit = Annotated[int | float | None, Number(at_least=1)]


@dataclass(frozen=True, slots=True)
class Instant:
    """Epoch milliseconds of a deletion, with the text of its operation."""

    problem: str

    def convert(self, label: str, value: Any) -> int | float:
        try:
            return Timestamp().convert(label, value)
        except Problem:
            raise Problem(self.problem) from None


@dataclass(frozen=True, slots=True)
class SearchType:
    """Refused outside of ``parse``, as its status is another one."""

    def convert(self, label: str, value: Any) -> str:
        if value not in SEARCH_TYPES:
            raise InvalidParams(f"Invalid searchType '{str(value)[:SHOWN_LENGTH_MAX]}'", status=500)
        return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAuditLog:
    database: Annotated[str, Text(), Also(("schema",))]
    table: TableName
    search_type: Annotated[str, SearchType()] = "timestamp"
    search_values: Annotated[list[Any] | None, ListOf()] = None
    limit: Limit = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadTransactionLog:
    database: DatabaseName = DEFAULT_DATABASE
    table: TableName
    from_: Annotated[int | float, Timestamp(), Also(("from",), wins=True)] = 0
    to: Annotated[int | float | None, Timestamp()] = None
    limit: Limit = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteAuditLogs:
    database: DatabaseName = DEFAULT_DATABASE
    table: TableName
    timestamp: Annotated[int | float, Instant("'timestamp' is invalid")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteTransactionLogs:
    database: DatabaseName = DEFAULT_DATABASE
    table: TableName
    timestamp: Annotated[int | float, Timestamp()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Commit times, microseconds: from the first on, before the second."""

    begin_us: int = 0
    end_us: int | None = None


def read_audit_log_params(body: Mapping[str, Any]) -> ReadAuditLog:
    """Unlike elsewhere there is no default database, and what is missing has status 500. A null field is none."""
    given = {name: value for name, value in body.items() if value is not None}
    for names, problem in ((("database", "schema"), "database is required"), (("table",), "table is required")):
        if not any(given.get(name) for name in names):
            raise InvalidParams(problem, status=500)
    params = parse(ReadAuditLog, given)
    if params.search_type != "timestamp" and params.search_values is None:
        raise InvalidParams("'search_values' is required")
    return params


@operation("read_audit_log", needs=SuperUser("readAuditLog"), read=read_audit_log_params)
async def read_audit_log(ctx: Context, params: ReadAuditLog) -> RecordStream | dict[str, Any]:
    """The history of a table: all of it, a window of time, or sorted by users or by primary keys."""
    history = _History.of(ctx, params.database, params.table)
    values = params.search_values or []
    if params.search_type == "username":
        return await _by_user(history, values)
    if params.search_type == "hash_value":
        return await trio.to_thread.run_sync(_by_key, history, values)
    return RecordStream(pages=_elements(history, window_of(values), params.limit))


@operation("read_transaction_log", needs=SuperUser("readTransactionLog"), params=ReadTransactionLog)
async def read_transaction_log(ctx: Context, params: ReadTransactionLog) -> RecordStream:
    """The history of a table in a window of time."""
    history = _History.of(ctx, params.database, params.table)
    end_us = None if params.to is None else _microseconds(params.to)
    window = Window(begin_us=_microseconds(params.from_), end_us=end_us)
    return RecordStream(pages=_elements(history, window, params.limit))


@operation("delete_audit_logs_before", needs=SuperUser("deleteAuditLogsBefore"), params=DeleteAuditLogs, is_job=True)
async def delete_audit_logs_before(ctx: Context, params: DeleteAuditLogs) -> dict[str, str]:
    """Remove the history of a table from before an instant, on this node."""
    return await start_job(ctx, partial(_delete, ctx, params.database, params.table, params.timestamp))


@operation(
    "delete_transaction_logs_before",
    needs=SuperUser("deleteTransactionLogsBefore"),
    params=DeleteTransactionLogs,
    is_job=True,
)
async def delete_transaction_logs_before(ctx: Context, params: DeleteTransactionLogs) -> dict[str, str]:
    """Remove the history of a table from before an instant, on this node."""
    return await start_job(ctx, partial(_delete, ctx, params.database, params.table, params.timestamp))


async def _delete(ctx: Context, database: str, table: str, before_ms: float, _: Progress) -> None:
    """The commit times of a log may run backwards, so how much there is to do is not known before it is done.

    What a member has still to get from here is hidden at once and removed later.
    """
    cluster = ctx.services.cluster
    rules = no_peers(database) if cluster is None else cluster.retention.rules(database)
    await delete_history(
        ctx.catalog,
        database,
        table,
        before_us=_microseconds(before_ms),
        rules=rules,
        clock=ctx.services.clock,
    )


# -- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _History:
    """One table's history, of that very table: not of a later one of its name."""

    database: Database
    table: str
    table_id: int
    is_shown: bool

    @classmethod
    def of(cls, ctx: Context, database: str, table: str) -> "_History":
        """Raises ``NotFound``, and ``InvalidParams`` where this node shows no history."""
        opened = ctx.catalog.database(database)
        with opened.read() as tx:
            found = tx.table(table)
        audits_by_default = ctx.services.settings.audit_log
        if not audits_by_default and not found.definition.audit:
            raise InvalidParams(AUDIT_IS_OFF)
        is_shown = is_audited(found, audits_by_default=audits_by_default)
        return cls(database=opened, table=table, table_id=found.id, is_shown=is_shown)

    async def pages(self, window: Window, limit: float | None = None) -> AsyncGenerator[list[TableEntry], None]:
        """Entries of the window in pages, each from a snapshot of its own, oldest first."""
        left = int(min(limit or LIMIT_MAX, LIMIT_MAX)) if self.is_shown else 0
        beyond: int | None = None
        while left > 0:
            page, beyond = await trio.to_thread.run_sync(self._page, window, beyond, left)
            yield page
            if beyond is None:
                return
            left -= len(page)

    def _page(self, window: Window, beyond: int | None, limit: int) -> tuple[list[TableEntry], int | None]:
        """The next entries, and the ``lseq`` to go on behind; None at the end."""
        page: list[TableEntry] = []
        records = 0
        with self.database.read() as tx:
            before = tx.log.first() - 1 if beyond is None else beyond
            through = before + PAGE_EXAMINED
            entries = table_history(
                tx,
                self.find_table(tx),
                committed_from=window.begin_us,
                committed_before=window.end_us,
                beyond=beyond,
                through=through,
                limit=limit,
            )
            for entry in entries:
                page.append(entry)
                records += len(entry.changes)
                if records >= PAGE_RECORDS:
                    return page, entry.lseq
            return page, through if through < tx.log.last() else None

    def find_table(self, tx: ReadTransaction) -> Table:
        table = tx.table(self.table)
        if table.id != self.table_id:
            raise TableNotFound(self.database.name, self.table)
        return table


async def _elements(
    history: _History, window: Window, limit: float | None
) -> AsyncGenerator[list[dict[str, Any]], None]:
    async with aclosing(history.pages(window, limit)) as pages:
        async for page in pages:
            yield [element_of(entry) for entry in page]


def element_of(entry: TableEntry, *, operation: str | None = None) -> dict[str, Any]:
    """One transaction as answers show it. ``operation`` replaces the one that was requested."""
    by = {} if entry.user is None else {"user_name": entry.user}
    return {
        "operation": operation or entry.operation or "upsert",
        **by,
        "timestamp": milliseconds(entry.ts),
        "hash_values": [change.key for change in entry.changes],
        "records": [change.record for change in entry.changes],
    }


# -- by user and by key -----------------------------------------------------------------------------------------------


class _Answer:
    """Elements by user or key, up to what one answer may hold."""

    def __init__(self) -> None:
        self.elements: dict[str, list[dict[str, Any]]] = {}
        self._records = 0

    def add(self, name: str, entry: TableEntry, *, operation: str | None = None) -> None:
        self._records += len(entry.changes)
        if self._records > ANSWER_RECORDS_MAX:
            raise InvalidParams(TOO_LONG)
        self.elements.setdefault(name, []).append(element_of(entry, operation=operation))


async def _by_user(history: _History, names: list[Any]) -> dict[str, Any]:
    """Users without entries are left out."""
    wanted = {name for name in names if isinstance(name, str)}
    answer = _Answer()
    async with aclosing(history.pages(Window())) as pages:
        async for page in pages:
            for entry in page:
                if entry.user in wanted and entry.user is not None:
                    answer.add(entry.user, entry)
    return answer.elements


def _by_key(history: _History, keys: list[Any]) -> dict[str, Any]:
    """Every key that was asked for is there. Of what was requested only deletes are told from other writes."""
    answer = _Answer()
    seen: set[bytes] = set()
    with history.database.read() as tx:
        table = history.find_table(tx)
        for key in keys:
            name = _text_of_key(key)
            answer.elements.setdefault(name, [])
            stored_key = _stored_key(key)
            if stored_key is None or stored_key in seen or not history.is_shown:
                continue
            seen.add(stored_key)
            entries = list(record_history(tx, table, stored_key, limit=ANSWER_RECORDS_MAX + 1))
            for entry in reversed(entries):
                is_delete = entry.changes[0].record is None
                answer.add(name, entry, operation="delete" if is_delete else "upsert")
    return answer.elements


def _stored_key(key: Any) -> bytes | None:
    """None for what cannot be a primary key, so that it has no history."""
    try:
        return stored_key_of(key)
    except InvalidKey:
        return None


def _text_of_key(key: Any) -> str:
    """A key as the name of a field: a number as JavaScript writes it, the elements of an array with commas."""
    if isinstance(key, list):
        return ",".join(map(_text_of_key, key))
    if isinstance(key, dict):
        return "[object Object]"
    return text_of(encode_scalar(key) or NULL) or "null"


def window_of(values: list[Any]) -> Window:
    """``[from]`` or ``[from, to]`` in milliseconds; nothing stands for all of time."""
    begin, end, *_ = (*values, None, None)
    return Window(begin_us=0 if begin is None else _bound(begin), end_us=None if end is None else _bound(end))


def _bound(value: Any) -> int:
    try:
        return _microseconds(Number().convert("search_values", value))
    except Problem as problem:
        raise InvalidParams(BAD_WINDOW) from problem


def _microseconds(at_ms: float) -> int:
    """Rounded, as a time that an answer told in milliseconds has to lead back to the same microsecond."""
    return max(0, round(at_ms * 1000))


OPERATIONS: Final[tuple[Operation, ...]] = (
    read_audit_log,
    read_transaction_log,
    delete_audit_logs_before,
    delete_transaction_logs_before,
)
