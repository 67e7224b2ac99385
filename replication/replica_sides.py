"""Both ends of a comparison of replicas: what is read here, and what a peer is asked and answers.

A peer is asked by operations, whose names begin with ``replica_``; the answering side carries them out with a
``LocalSide`` of its own. All that crosses is bounded both ways, and checked where it arrives.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar

from replication.errors import LinkLost, ReplicationError
from replication.remote_calls import RemoteFailure
from replication.replica_answers import HeldPage, State, decoded_held, decoded_page, decoded_ranges, decoded_state
from replication.replica_comparison import Page
from storage.catalog import Catalog
from storage.copy_merge import read_merge_cursor
from storage.database import Database
from storage.entry import Origin
from storage.errors import DatabaseClosed, NotFound
from storage.range_digests import RangeDigest, RangeScan, read_vector, table_digest, versions
from storage.repair import digest_error, mend_digest, read_held
from storage.schema import Table
from storage.transaction import ReadTransaction

PAGE_VERSIONS: Final = 500
KEYS_MAX: Final = 256
"""Records of one request."""
HELD_BYTES_MAX: Final = 8 << 20
"""Values of one answer."""
AHEAD_MS: Final = 15 * 60_000
"""How far ahead the instant is as of which rows have expired: beyond the end of any one request."""
CALL_S: Final = 120.0
"""For one request: a scan of some ten thousand rows on a machine that is busy."""
MEND_TRIES: Final = 5

T = TypeVar("T")

Reason: TypeAlias = Literal["not connected", "incomplete", "busy"]

STATUS_OF: Final[Mapping[Reason, int]] = {"not connected": 502, "incomplete": 409, "busy": 503}


class NotComparable(ReplicationError):
    """A replica cannot be compared just now, and says why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class LocalSide:
    """The replica of this node."""

    def __init__(self, catalog: Catalog, database: str, table: str, *, apart: Collection[Origin] = ()) -> None:
        self._catalog = catalog
        self._name = database
        self._table = table
        self._apart = frozenset(apart)

    @property
    def _database(self) -> Database:
        return self._catalog.database(self._name)

    def state(self) -> State:
        """Raises ``NotComparable``."""
        with self._database.read() as tx:
            kept = table_digest(tx, self._find(tx))
            return State(
                vector={origin: oseq for origin, oseq in read_vector(tx).items() if oseq},
                rows=kept.rows,
                digest=kept.digest,
                now_ms=tx.now_ms,
                old_us=self._old_us(),
                apart=self._apart,
            )

    def _old_us(self) -> int:
        """No tombstone that is younger has been purged here, by the clock of any member."""
        settings = self._catalog.settings
        return max(self._catalog.clock() - int(settings.audit_retention_s * 1_000_000) + settings.clock_skew_us_max, 0)

    async def split(
        self, low: bytes | None, high: bytes | None, *, rows: int, parts: int, as_of_ms: int
    ) -> Sequence[RangeDigest]:
        scan = RangeScan.split(
            self._table, rows=rows, low=low, high=high, as_of_ms=as_of_ms, includes_expiring=True, parts=parts
        )
        return await self._finish(scan)

    async def between(
        self, boundaries: Sequence[bytes], low: bytes | None, high: bytes | None, *, as_of_ms: int
    ) -> Sequence[RangeDigest]:
        scan = RangeScan.between(self._table, boundaries, low=low, high=high, as_of_ms=as_of_ms, includes_expiring=True)
        return await self._finish(scan)

    async def versions(self, low: bytes | None, high: bytes | None, *, after: bytes | None, as_of_ms: int) -> Page:
        return await self._offload(partial(self._read_versions, low, high, after, as_of_ms))

    async def held(self, stored_keys: Sequence[bytes], *, as_of_ms: int) -> HeldPage:
        return await self._offload(partial(self._read_held, stored_keys, as_of_ms))

    async def mend_digest(self) -> bool:
        """Make the kept digest that of the rows; False where the table is written too much to tell."""
        for _ in range(MEND_TRIES):
            with self._database.read() as tx:
                table_id = self._find(tx).id
            scan = RangeScan.split(self._table, rows=0, parts=1, as_of_ms=self._catalog.clock() // 1000)
            await self._finish(scan)
            error = digest_error(scan)
            if error is None:
                continue
            if error:
                mend = partial(mend_digest, table_name=self._table, table_id=table_id, error=error)
                await self._catalog.maintain(self._name, mend)
            return True
        return False

    async def _finish(self, scan: RangeScan) -> Sequence[RangeDigest]:
        with self._database.read() as tx:
            self._find(tx)
        while not scan.is_done:
            await self._offload(partial(scan.read_page, self._database))
        return scan.digests

    async def _offload(self, function: Callable[[], T]) -> T:
        try:
            result: T = await self._catalog.offload(function)
            return result
        except (NotFound, DatabaseClosed) as error:
            raise NotComparable("incomplete", str(error)) from error

    def _read_versions(self, low: bytes | None, high: bytes | None, after: bytes | None, as_of_ms: int) -> Page:
        with self._database.read(now_ms=as_of_ms) as tx:
            found = versions(tx, self._find(tx), low=low, high=high, after=after, limit=PAGE_VERSIONS)
            return Page(found, read_vector(tx), len(found) < PAGE_VERSIONS)

    def _read_held(self, stored_keys: Sequence[bytes], as_of_ms: int) -> HeldPage:
        with self._database.read(now_ms=as_of_ms) as tx:
            held = read_held(tx, self._find(tx), stored_keys, bytes_max=HELD_BYTES_MAX)
            return HeldPage(held=held, vector=read_vector(tx))

    def _find(self, tx: ReadTransaction) -> Table:
        """The table, where all of it is here."""
        table = tx.schema().tables.get(self._table)
        name = f"'{self._name}.{self._table}'"
        if table is None or table.definition.is_local or not table.complete:
            raise NotComparable("incomplete", f"Table {name} is not here, or not all of it")
        if tx.environment.is_filling or read_merge_cursor(tx) is not None:
            raise NotComparable("busy", f"A copy is merged into {name}")
        return table


Ask: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Any]]


class RemoteSide:
    """The replica of a peer. ``ask`` has it carry out an operation. All raise ``NotComparable``."""

    def __init__(self, ask: Ask, database: str, table: str) -> None:
        self._ask = ask
        self._place = {"database": database, "table": table}

    async def state(self) -> State:
        return await self._call(decoded_state, "replica_state")

    async def between(
        self, boundaries: Sequence[bytes], low: bytes | None, high: bytes | None, *, as_of_ms: int
    ) -> Sequence[RangeDigest]:
        decode = partial(decoded_ranges, (low, *boundaries, high))
        fields = {"low": low, "high": high, "boundaries": list(boundaries), "as_of": as_of_ms}
        return await self._call(decode, "replica_ranges", **fields)

    async def versions(self, low: bytes | None, high: bytes | None, *, after: bytes | None, as_of_ms: int) -> Page:
        decode = partial(decoded_page, low=low, high=high, after=after)
        return await self._call(decode, "replica_versions", low=low, high=high, after=after, as_of=as_of_ms)

    async def held(self, stored_keys: Sequence[bytes], *, as_of_ms: int) -> HeldPage:
        decode = partial(decoded_held, stored_keys)
        return await self._call(decode, "replica_rows", keys=list(stored_keys), as_of=as_of_ms)

    async def mend_digest(self) -> bool:
        return await self._call(lambda answer: bool(answer["mended"]), "replica_mend_digest")

    async def _call(self, decode: Callable[[Any], T], operation: str, **fields: Any) -> T:
        request = {"operation": operation, **self._place, **fields}
        try:
            answer = await self._ask(request)
        except RemoteFailure as error:
            raise NotComparable(_reason_of(error), str(error)) from error
        except LinkLost as error:
            raise NotComparable("not connected", str(error)) from error
        try:
            return decode(answer)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise NotComparable("busy", f"the answer to {operation} cannot be read: {error!r}") from error


def _reason_of(error: RemoteFailure) -> Reason:
    """What a peer has not got, or not all of, is incomplete; whatever else it says, it may be otherwise soon."""
    return "incomplete" if error.status in (404, STATUS_OF["incomplete"]) else "busy"
