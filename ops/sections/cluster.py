"""Who is in the cluster: adding, changing and removing nodes, and the whole set-up at once.

``add_node`` is a handshake of two: ``ops/joining.py`` asks, ``add_node_back`` here answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from ops.add_node_params import (
    NO_OWN_URL,
    AddNode,
    add_node_params,
    configure_cluster_params,
    remove_node_params,
    update_node_params,
)
from ops.context import Context
from ops.errors import InvalidParams, OperationError
from ops.joining import Joining, authority_fields, member_fields, stored_epoch
from ops.operation import Operation, SuperUser, operation
from ops.system_tables import SYSTEM
from replication.agreements import Directions, Subscriptions
from replication.cluster import Cluster
from replication.errors import ReplicationError
from replication.membership import NODES
from replication.membership_changes import add_member, put_self, remove_member, update_member
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction

FAREWELL_TIMEOUT_S: Final = 5.0
CONFIGURED: Final = "Cluster successfully configured."
PARTLY_CONFIGURED: Final = (
    "Configure cluster was partially successful. Errors occurred when attempting to configure the following nodes. "
    "Check the logs for more details."
)
NOT_CONFIGURED: Final = "Failed to configure the cluster. Check the logs for more details."


@dataclass(frozen=True, slots=True, kw_only=True)
class AddNodeBack:
    """What the node that was asked to add us sends."""

    hostname: str
    target_hostname: str | None
    url: str
    csr: str | None
    cert_auth: str | None
    shard: int | None
    subscriptions: Subscriptions
    replicates: Directions | None
    authorization: str | None
    epoch: int


def _read_add_node_back(body: Mapping[str, Any]) -> AddNodeBack:
    """The same checks as for a client's request, as the caller may be one."""
    request = add_node_params(body)
    epoch = body.get("epoch", 0)
    problems = [
        f"'{name}' must be a string"
        for name in ("target_hostname", "csr", "cert_auth")
        if not isinstance(body.get(name), str | None)
    ]
    if type(epoch) is not int or not 0 <= epoch < 1 << 53:
        problems.append("'epoch' must be a number")
    if problems:
        raise InvalidParams(". ".join(problems))
    return AddNodeBack(
        hostname=request.name,
        target_hostname=body.get("target_hostname"),
        url=request.url or "",
        csr=body.get("csr"),
        cert_auth=body.get("cert_auth"),
        shard=request.shard,
        subscriptions=request.subscriptions,
        replicates=request.replicates if "replicates" in request.given else None,
        authorization=request.authorization,
        epoch=epoch,
    )


@operation("add_node", needs=SuperUser("addNode"), read=add_node_params, aliases=("set_node",))
async def add_node(ctx: Context, params: AddNode) -> str:
    """Add a node to the cluster, and have it add this one. Repeating it refreshes what both know of each other."""
    return await _joining(ctx).add(params)


@operation("update_node", needs=SuperUser("updateNode"), read=update_node_params)
async def update_node(ctx: Context, params: AddNode) -> str:
    """Change what is agreed with a node: only the fields that are sent. An unknown node is added."""
    cluster = _cluster(ctx)
    wanted = _joining(ctx).resolved(params)
    fields = member_fields(wanted, given_only=True)
    known = await _write(ctx, lambda tx: update_member(tx, wanted.name, **fields))
    if known:
        await _write(ctx, partial(put_self, own=cluster.watch.own, routes=cluster.watch.routes))
    else:
        await _joining(ctx).add(params)
    return f"Successfully updated '{params.label}'"


@operation("remove_node", needs=SuperUser("removeNode"), read=remove_node_params)
async def remove_node(ctx: Context, name: str) -> str:
    """Remove a node from the cluster: its links end everywhere, data stays where it is."""
    await _remove(ctx, _cluster(ctx), name)
    return f"Successfully removed '{name}' from cluster"


@operation("configure_cluster", needs=SuperUser("configureCluster"), read=configure_cluster_params)
async def configure_cluster(ctx: Context, wanted: tuple[AddNode, ...]) -> dict[str, Any]:
    """Replace the whole set-up by these nodes. One that stays is refreshed, not removed and added again."""
    cluster = _cluster(ctx)
    names = {_joining(ctx).resolved(one).name.lower() for one in wanted}
    failed: list[str] = []
    connections: list[dict[str, Any]] = []
    for name in list(cluster.watch.membership.peers):
        if name.lower() not in names:
            await _remove(ctx, cluster, name)
    for one in wanted:
        try:
            message = await _joining(ctx).add(one)
        except OperationError as error:
            failed.append(one.name)
            message = str(error)
        connections.append({"node_name": one.name, "response": {"message": message}})
    if failed and len(failed) == len(wanted):
        raise OperationError(NOT_CONFIGURED, status=500)
    if failed:
        return {"message": PARTLY_CONFIGURED, "failed_nodes": failed, "connections": connections}
    return {"message": CONFIGURED, "connections": connections}


@operation("add_node_back", needs=SuperUser("addNodeBack"), read=_read_add_node_back)
async def add_node_back(ctx: Context, params: AddNodeBack) -> dict[str, Any]:
    """The other half of ``add_node``: sign the caller's request, if it has one, and add it here."""
    cluster = _cluster(ctx)
    if params.hostname.lower() == cluster.name.lower():
        raise InvalidParams("'hostname' cannot be this nodes name")
    if ctx.caller is not None and ctx.caller.is_member and ctx.caller.name.lower() != params.hostname.lower():
        raise InvalidParams(f"add_node_back may only add the authenticated peer, not '{params.hostname}'")
    with cluster.join_order.answering() as may_answer:
        if not may_answer:
            raise OperationError(f"'{cluster.name}' is about to join a cluster itself, ask again", status=503)
        return await _add_back(ctx, cluster, params)


async def _add_back(ctx: Context, cluster: Cluster, params: AddNodeBack) -> dict[str, Any]:
    certificates = ctx.services.certificates
    authority = await certificates.authority_pem()
    answer: dict[str, Any] = {"nodeName": cluster.name, "usingCA": authority}
    theirs = params.cert_auth
    if params.csr is not None:
        signed = await certificates.sign(
            params.csr,
            for_node=params.hostname,
            url_host=urlsplit(params.url).hostname,
            may_take_over=ctx.caller is None or not ctx.caller.is_member,
            others=[name for name in cluster.watch.known_names() if name.lower() != params.hostname.lower()],
        )
        answer |= {"certificate": signed.certificate_pem, "signingCA": signed.authority_pem}
        theirs = signed.authority_pem
    fields: dict[str, Any] = {"url": params.url, "subscriptions": params.subscriptions, **authority_fields(theirs)}
    if params.shard is not None:
        fields["shard"] = params.shard
    if params.authorization is not None:
        fields["authorization"] = params.authorization
    if params.replicates is not None:
        fields["replicates"] = params.replicates

    def store(tx: WriteTransaction) -> tuple[int, int]:
        put_self(tx, cluster.watch.own, cluster.watch.routes, is_added=True)
        epoch = add_member(tx, params.hostname, epoch_at_least=params.epoch, **fields)
        put_self(tx, cluster.watch.own, cluster.watch.routes)
        return epoch, _epoch_of(tx, cluster.name)

    epoch, own_epoch = await _write(ctx, store)
    answer |= {"epoch": own_epoch, "yourEpoch": epoch}
    return answer if cluster.shard is None else {**answer, "shard": cluster.shard}


@operation("remove_node_back", needs=SuperUser("removeNodeBack"), read=remove_node_params)
async def remove_node_back(ctx: Context, name: str) -> str:
    """A member removes itself here, or tells this node that it was removed."""
    cluster = _cluster(ctx)
    is_caller = ctx.caller is None or ctx.caller.name.lower() == name.lower()
    if not is_caller and name.lower() != cluster.name.lower():
        raise InvalidParams(f"remove_node_back may only remove the authenticated peer or this node, not '{name}'")
    if not await _write(ctx, lambda tx: remove_member(tx, name)):
        raise InvalidParams(f"{name} does not exist")
    return f"Successfully removed '{name}' from cluster"


# -- removing ---------------------------------------------------------------------------------------------------------


async def _remove(ctx: Context, cluster: Cluster, name: str) -> None:
    member = cluster.watch.membership.peers.get(name)
    if member is None:
        name = next((known for known in cluster.watch.membership.peers if known.lower() == name.lower()), name)
        member = cluster.watch.membership.peers.get(name)
    if member is None:
        raise InvalidParams(f"{name} does not exist")
    is_partial = member.link is not None and member.link.subscriptions is not None
    farewell = {"operation": "remove_node_back", "name": cluster.name if is_partial else name}
    try:
        await cluster.call(name, farewell, timeout_s=FAREWELL_TIMEOUT_S)
    except ReplicationError:
        pass  # it is down, or gone: members refuse it when it comes back
    await _write(ctx, lambda tx: remove_member(tx, name))


# -- common -----------------------------------------------------------------------------------------------------------


def _cluster(ctx: Context) -> Cluster:
    if ctx.services.cluster is None:
        raise InvalidParams(NO_OWN_URL)
    return ctx.services.cluster


def _joining(ctx: Context) -> Joining:
    return Joining(_cluster(ctx), ctx.services.certificates, partial(_write, ctx))


async def _write(ctx: Context, function: Any) -> Any:
    return await ctx.write(SYSTEM, function)


def _epoch_of(tx: WriteTransaction, name: str) -> int:
    record = tx.record(tx.table(NODES), stored_key_of(name)) or {}
    return stored_epoch(record.get("epoch"))


OPERATIONS: Final[tuple[Operation, ...]] = (
    add_node,
    update_node,
    remove_node,
    configure_cluster,
    add_node_back,
    remove_node_back,
)
