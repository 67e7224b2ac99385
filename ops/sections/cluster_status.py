"""What a cluster shows of itself: ``cluster_status``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ops.context import Context
from ops.fan_out import answers_of_peers
from ops.operation import Operation, SuperUser, operation
from ops.params import Flag
from ops.system_tables import SYSTEM
from replication.cluster import Cluster
from replication.membership import NODE_LINKS, NODES, Member
from storage.errors import Corrupt
from storage.transaction import ReadTransaction, stored_key_of

PEER_TIMEOUT_S: Final = 2.0
"""For the view of each peer: the whole must be there with half of the nodes down."""
NOT_SHOWN: Final = frozenset(("ca", "node_name", "authorization", "__createdtime__", "__updatedtime__"))
SHOWN_OF_LINK: Final = ("subscriptions", "verify_tls", "start_time", "isLeader")
"""Fields of this node's agreement with a peer; what the peer itself replicates is told by its own row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    replicated: Flag = False


@operation("cluster_status", needs=SuperUser("clusterStatus"), params=ClusterStatus)
async def cluster_status(ctx: Context, params: ClusterStatus) -> dict[str, Any]:
    """The peers of this node, and the state of each database's links with them; ``replicated`` adds the peers' views."""
    cluster = ctx.services.cluster
    if cluster is None:
        node = ctx.services.settings.node
        answer = {"type": "cluster-status", "node_name": node, "is_enabled": False, "connections": []}
    else:
        answer = await _status(ctx, cluster)
    if params.replicated:
        answer["replicated"] = await answers_of_peers(ctx, timeout_s=PEER_TIMEOUT_S)
    return answer


async def _status(ctx: Context, cluster: Cluster) -> dict[str, Any]:
    watch = cluster.watch
    sockets = await cluster.status.sockets()
    with ctx.catalog.database(SYSTEM).read() as tx:
        connections = [_connection(tx, peer, sockets.get(name, [])) for name, peer in watch.membership.peers.items()]
    fields: dict[str, Any] = {
        "type": "cluster-status",
        "node_name": cluster.name,
        "url": cluster.url,
        "shard": cluster.shard,
        "is_enabled": watch.renamed_from is None and not watch.membership.is_removed(cluster.name),
        "reason": None if watch.renamed_from is None else f"renamed {watch.renamed_from} to {cluster.name}",
        "connections": connections,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _connection(tx: ReadTransaction, peer: Member, sockets: list[dict[str, Any]]) -> dict[str, Any]:
    link = _record(tx, NODE_LINKS, peer.name)
    row = {"name": peer.name, "url": peer.url, **_record(tx, NODES, peer.name)}
    fields = {
        **row,
        "replicateByDefault": link.get("subscriptions") is None and peer.replicates.is_any,
        **{name: link.get(name) for name in SHOWN_OF_LINK},
    }
    shown = {name: value for name, value in fields.items() if value is not None and name not in NOT_SHOWN}
    return {**shown, "subscriptions": fields["subscriptions"], "database_sockets": sockets}


def _record(tx: ReadTransaction, table_name: str, name: str) -> Mapping[str, Any]:
    """A peer's row as it is stored, {} where there is none that can be read."""
    table = tx.table(table_name)
    row = tx.row(table, stored_key_of(name))
    try:
        return {} if row is None else tx.record(table, row)
    except Corrupt:
        return {}


OPERATIONS: Final[tuple[Operation, ...]] = (cluster_status,)
