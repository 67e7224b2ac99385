"""Do the replicas hold the same? The job ``verify_replicas``, and what nodes ask each other for it.

The internal operations (``replica_...``) are those that ``replication.replica_sides.RemoteSide`` asks; each answers for
one table as this node has it. A table that cannot be compared here is refused with the status of its reason.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

from ops.context import Context, Progress
from ops.errors import OperationError
from ops.jobs import start_job
from ops.operation import Operation, SuperUser, operation
from ops.params import DatabaseName, Flag, ListOf, Number, Problem, TableName
from ops.replica_check import CheckedTable, ReplicaCheck, checked_tables
from replication.replica_answers import encoded_held, encoded_page, encoded_ranges, encoded_state
from replication.replica_pair import apart_from
from replication.replica_sides import KEYS_MAX, STATUS_OF, LocalSide, NotComparable
from storage.keys import STORED_BYTES_MAX
from storage.range_digests import PARTS

_MS_MAX: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A primary key as it is stored, which is the same on every node."""

    def convert(self, label: str, value: Any) -> bytes | None:
        if value is not None and not (isinstance(value, bytes) and 0 < len(value) <= STORED_BYTES_MAX):
            raise Problem(f"'{label}' must be a stored key")
        return value


@dataclass(frozen=True, slots=True)
class StoredKeys:
    items_max: int

    def convert(self, label: str, value: Any) -> list[bytes]:
        keys: list[bytes] = ListOf().convert(label, value)
        if len(keys) > self.items_max:
            raise Problem(f"'{label}' must have at most {self.items_max} items")
        for key in keys:
            if StoredKey().convert(label, key) is None:
                raise Problem(f"'{label}' must be stored keys")
        return keys


Place = Annotated[bytes | None, StoredKey()]
Instant = Annotated[int, Number(is_integer=True, at_least=0, at_most=_MS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReplicas:
    """Without ``database`` all that are shared with peers are compared, without ``table`` all of their tables."""

    database: DatabaseName | None = None
    table: TableName | None = None
    repair: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OfTable:
    database: DatabaseName
    table: TableName


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRanges(OfTable):
    """From ``low`` up to ``high``, cut at the ``boundaries``; None is the end of the table."""

    low: Place = None
    high: Place = None
    boundaries: Annotated[list[bytes], StoredKeys(PARTS - 1)]
    as_of: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaVersions(OfTable):
    low: Place = None
    high: Place = None
    after: Place = None
    as_of: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRows(OfTable):
    keys: Annotated[list[bytes], StoredKeys(KEYS_MAX)]
    as_of: Instant


@operation("verify_replicas", needs=SuperUser("verifyReplicas"), params=VerifyReplicas, is_job=True)
async def verify_replicas(ctx: Context, params: VerifyReplicas) -> dict[str, str]:
    """Compare tables of this node with those of its peers, record by record where their digests differ.

    With ``repair`` what differs is decided, told to all replicas and compared again. Writes go on meanwhile; one that is
    on its way is never taken for a difference.
    """
    tables = checked_tables(ctx, params.database, params.table)
    return await start_job(ctx, partial(_verify, ctx, tables, params.repair))


async def _verify(ctx: Context, tables: list[CheckedTable], repairs: bool, progress: Progress) -> dict[str, Any]:
    return await ReplicaCheck(ctx=ctx, tables=tables, repairs=repairs, progress=progress).run()


# -- what nodes ask each other ----------------------------------------------------------------------------------------


@operation("replica_state", needs=SuperUser("replicaState"), params=OfTable, is_logged=False)
async def replica_state(ctx: Context, params: OfTable) -> dict[str, Any]:
    """How far this node is with a table's database, and the table's digest, for a node that compares."""
    with _refusals():
        return encoded_state(_side(ctx, params).state())


@operation("replica_ranges", needs=SuperUser("replicaRanges"), params=ReplicaRanges, is_logged=False)
async def replica_ranges(ctx: Context, params: ReplicaRanges) -> list[list[Any]]:
    """Digests of ranges of a table, cut where the node that compares has cut."""
    with _refusals():
        side = _side(ctx, params)
        return encoded_ranges(await side.between(params.boundaries, params.low, params.high, as_of_ms=params.as_of))


@operation("replica_versions", needs=SuperUser("replicaVersions"), params=ReplicaVersions, is_logged=False)
async def replica_versions(ctx: Context, params: ReplicaVersions) -> dict[str, Any]:
    """The next versions of a range of a table, without their values."""
    with _refusals():
        side = _side(ctx, params)
        return encoded_page(await side.versions(params.low, params.high, after=params.after, as_of_ms=params.as_of))


@operation("replica_rows", needs=SuperUser("replicaRows"), params=ReplicaRows, is_logged=False)
async def replica_rows(ctx: Context, params: ReplicaRows) -> dict[str, Any]:
    """Rows and tombstones of the given keys with all that belongs to them; a first part of them at least."""
    with _refusals():
        return encoded_held(await _side(ctx, params).held(params.keys, as_of_ms=params.as_of))


@operation("replica_mend_digest", needs=SuperUser("replicaMendDigest"), params=OfTable)
async def replica_mend_digest(ctx: Context, params: OfTable) -> dict[str, bool]:
    """Make the digest that is kept for a table here that of its rows."""
    with _refusals():
        return {"mended": await _side(ctx, params).mend_digest()}


def _side(ctx: Context, params: OfTable) -> LocalSide:
    cluster, caller = ctx.services.cluster, ctx.caller
    if cluster is None or caller is None:
        return LocalSide(ctx.catalog, params.database, params.table)
    apart = apart_from(cluster.supervisor, caller.name, params.database)
    return LocalSide(ctx.catalog, params.database, params.table, apart=apart)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except NotComparable as error:
        raise OperationError(str(error), status=STATUS_OF[error.reason]) from error


OPERATIONS: Final[tuple[Operation, ...]] = (
    verify_replicas,
    replica_state,
    replica_ranges,
    replica_versions,
    replica_rows,
    replica_mend_digest,
)
