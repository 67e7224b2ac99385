"""``replicateTo`` and ``replicatedConfirmation`` of a write: checked before anything is written, carried out with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import trio

from ops.context import Context
from ops.errors import InvalidParams, OperationError
from ops.params import Number, Problem
from ops.residents import fetch, no_connection, places_of
from replication.agreements import Unfit
from replication.residency import read_replicate_to
from storage.elsewhere import ChooseResidents, Version
from storage.errors import RecordsElsewhere
from storage.write_transaction import WriteTransaction

NOT_FOR_REPLICATE_TO: Final = "Can not specify replication parameters without super user permissions"
NOT_FOR_CONFIRMATION: Final = "Can not specify replication confirmation without super user permissions"
CATCH_UP_S: Final = 5.0
"""How long a write waits where this node and the residents have different versions of a record that it changes: one of
them is about to receive what the other has.
"""
_CATCH_UP_STEP_S: Final = 0.1

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """What a request says of other nodes, checked."""

    database: str
    table: str
    choose_residents: ChooseResidents | None = None
    confirmations: int = 0


def controls_of(ctx: Context, database: str, table: str, replicate_to: Any, confirmation: Any) -> Controls:
    """Raises ``OperationError`` for who may not say that, ``InvalidParams`` for what cannot be done."""
    is_super_user = ctx.user is not None and ctx.user.is_super_user
    if replicate_to is not None and not is_super_user:
        raise OperationError(NOT_FOR_REPLICATE_TO, status=403)
    if confirmation is not None and not is_super_user:
        raise OperationError(NOT_FOR_CONFIRMATION, status=403)
    try:
        return Controls(
            database=database,
            table=table,
            choose_residents=_choice(ctx, database, table, replicate_to),
            confirmations=_confirmations(ctx, database, table, confirmation),
        )
    except (Problem, Unfit) as problem:
        raise InvalidParams(str(problem)) from problem


def _choice(ctx: Context, database: str, table: str, replicate_to: Any) -> ChooseResidents | None:
    wish = read_replicate_to(replicate_to)
    cluster = ctx.services.cluster
    if cluster is not None:
        placement = cluster.placement(database, table, wish)
        return placement if placement.has_effect else None
    if isinstance(wish, tuple) and set(wish) - {ctx.catalog.node}:
        raise Unfit("'replicateTo' names other nodes, but this node takes no part in replication")
    return None


def _confirmations(ctx: Context, database: str, table: str, confirmation: Any) -> int:
    if confirmation is None:
        return 0
    count = int(Number(is_integer=True, at_least=0).convert("replicatedConfirmation", confirmation))
    cluster = ctx.services.cluster
    peers = 0 if cluster is None or _is_local(ctx, database, table) else len(cluster.peers_sent_to(database, table))
    if count > peers:
        raise Problem(f"Cannot confirm replication to more nodes ({count}) than the {peers} this database is sent to")
    return count


def _is_local(ctx: Context, database: str, name: str) -> bool:
    if database not in ctx.catalog.names:
        return False
    with ctx.catalog.database(database).read() as tx:
        table = tx.schema().tables.get(name)
        return table is not None and table.definition.is_local


async def controlled_write(
    ctx: Context, controls: Controls, function: Callable[[WriteTransaction, dict[bytes, Version]], T]
) -> T:
    """Run ``function`` as one transaction, then wait for who has to confirm it.

    It also gets the records that it needs and other nodes hold, by stored key: it runs again once they were fetched.
    Raises ``NotConfirmed`` where the write is done, but not confirmed in time.
    """
    sealed: list[WriteTransaction] = []
    fetched: dict[bytes, Version] = {}

    def run(tx: WriteTransaction) -> T:
        sealed[:] = (tx,)
        return function(tx, fetched)

    result = await _written(ctx, controls, run, fetched)
    position = sealed[0].position
    cluster = ctx.services.cluster
    if controls.confirmations and position is not None and cluster is not None:
        await cluster.confirm(controls.database, *position, controls.confirmations)
    return result


async def _written(
    ctx: Context, controls: Controls, run: Callable[[WriteTransaction], T], fetched: dict[bytes, Version]
) -> T:
    """What ``run`` returns, once all that it needs of other nodes is in ``fetched``."""
    gives_up_at: float | None = None
    while True:
        try:
            result: T = await ctx.write(controls.database, run)
            return result
        except RecordsElsewhere as error:
            if gives_up_at is None:
                gives_up_at = trio.current_time() + CATCH_UP_S
            elif trio.current_time() < gives_up_at:
                await trio.sleep(_CATCH_UP_STEP_S)
            else:
                raise OperationError(f"{error}, and none of these has the version known here", status=502) from error
            fetched.update(await _fetched(ctx, controls, error))


async def _fetched(ctx: Context, controls: Controls, error: RecordsElsewhere) -> dict[bytes, Version]:
    places = places_of(ctx, controls.database, controls.table, error.stored_keys)
    found = await fetch(ctx, controls.database, controls.table, places)
    if found.unreachable:
        raise no_connection(found.unreachable, ctx.catalog.node)
    return found.versions
