"""Status values: short marks that operators and load balancers set and read. They end with the node's process.

``availability`` tells whether the node wants requests; ``primary`` and ``maintenance`` hold any text. While a database is
copied to this node the node is not available, whatever was set: it would show less than its peers have.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from ops.context import Context
from ops.errors import InvalidParams
from ops.operation import Operation, SuperUser, operation
from ops.params import Anyhow, OneOf, Text, parse
from ops.system_records import delete_record, find_record, put_record, stored_records
from ops.system_tables import STATUS, SYSTEM
from storage.catalog import Catalog
from storage.write_transaction import WriteTransaction

DEFAULT_ID: Final = "primary"
AVAILABILITY: Final = "availability"
IDS: Final = (DEFAULT_ID, "maintenance", AVAILABILITY)
UNAVAILABLE: Final = "Unavailable"
AVAILABILITIES: Final = ("Available", UNAVAILABLE)
STATUS_LENGTH_MAX: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStatus:
    status: Annotated[str, Text(length_max=STATUS_LENGTH_MAX)]
    id: Annotated[str, OneOf(IDS)] = DEFAULT_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStatus:
    id: Anyhow = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearStatus:
    id: Anyhow = DEFAULT_ID


def set_status_params(body: Mapping[str, Any]) -> SetStatus:
    params = parse(SetStatus, body)
    if params.id == AVAILABILITY and params.status not in AVAILABILITIES:
        raise InvalidParams(f'Status "{AVAILABILITY}" only accepts these values: {", ".join(AVAILABILITIES)}')
    return params


@operation("set_status", needs=SuperUser("setStatus"), read=set_status_params)
async def set_status(ctx: Context, params: SetStatus) -> None:
    """Set one of the status values."""

    def put(tx: WriteTransaction) -> None:
        table = tx.table(STATUS)
        known = find_record(tx, table, params.id) or {}
        put_record(tx, table, {**known, "id": params.id, "status": params.status})

    await ctx.write(SYSTEM, put)


@operation("get_status", needs=SuperUser("getStatus"), params=GetStatus)
async def get_status(ctx: Context, params: GetStatus) -> dict[str, Any]:
    """One status value with its times, or all of them. This build has no components that could report theirs."""
    with ctx.catalog.database(SYSTEM).read() as tx:
        shown = {record["id"]: record for record in stored_records(tx, tx.table(STATUS))}
    cluster = ctx.services.cluster
    if cluster is not None and cluster.is_copying():
        shown[AVAILABILITY] = {**shown.get(AVAILABILITY, {}), "id": AVAILABILITY, "status": UNAVAILABLE}
    if params.id is None:
        return {"systemStatus": [shown[key] for key in sorted(shown)], "componentStatus": [], "restartRequired": False}
    return shown.get(params.id, {}) if isinstance(params.id, str) else {}


@operation("clear_status", needs=SuperUser("clearStatus"), params=ClearStatus)
async def clear_status(ctx: Context, params: ClearStatus) -> bool:
    """Remove a status value; one that is not set counts as removed."""

    def remove(tx: WriteTransaction) -> None:
        table = tx.table(STATUS)
        if find_record(tx, table, params.id) is not None:
            delete_record(tx, table, params.id)

    await ctx.write(SYSTEM, remove)
    return True


async def clear_statuses(catalog: Catalog) -> None:
    """Forget all values, as the process they spoke of has ended. To be called when the node starts."""
    with catalog.database(SYSTEM).read() as tx:
        ids = [record["id"] for record in stored_records(tx, tx.table(STATUS))]

    def remove(tx: WriteTransaction) -> None:
        for status_id in ids:
            delete_record(tx, tx.table(STATUS), status_id)

    await catalog.write(SYSTEM, remove)


OPERATIONS: Final[tuple[Operation, ...]] = (set_status, get_status, clear_status)
