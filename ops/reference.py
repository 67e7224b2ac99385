"""The page that names every operation this node has, by section. The dispatcher finds them here and nowhere else.

What is not on this page does not exist: a request for it gets the unknown-operation error.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from ops.operation import Operation
from ops.sections import (
    agreement,
    audit,
    backups,
    certificates,
    cluster,
    cluster_routes,
    cluster_status,
    configuration,
    databases,
    jobs,
    logs,
    records,
    roles,
    search,
    sessions,
    status,
    system,
    tables,
    tokens,
    users,
    verify_replicas,
)

SECTIONS: Final[Mapping[str, tuple[Operation, ...]]] = {
    "Databases": databases.OPERATIONS,
    "Tables": tables.OPERATIONS,
    "Backups": backups.OPERATIONS,
    "Records": records.OPERATIONS,
    "Searches": search.OPERATIONS,
    "Jobs": jobs.OPERATIONS,
    "Users": users.OPERATIONS,
    "Roles": roles.OPERATIONS,
    "Tokens": tokens.OPERATIONS,
    "Sessions": sessions.OPERATIONS,
    "Cluster": (*cluster.OPERATIONS, *cluster_routes.OPERATIONS, *cluster_status.OPERATIONS),
    "Agreement": (*agreement.OPERATIONS, *verify_replicas.OPERATIONS),
    "Certificates": certificates.OPERATIONS,
    "Configuration": configuration.OPERATIONS,
    "System": system.OPERATIONS,
    "Status": status.OPERATIONS,
    "Logs": logs.OPERATIONS,
    "Audit": audit.OPERATIONS,
}


def by_name(sections: Iterable[tuple[Operation, ...]]) -> Mapping[str, Operation]:
    """Every operation under its name and its aliases. Two that claim one name are our own mistake."""
    found: dict[str, Operation] = {}
    for operations in sections:
        for operation in operations:
            for name in (operation.name, *operation.aliases):
                assert name not in found, f"two operations are called {name}"
                found[name] = operation
    return MappingProxyType(found)


OPERATIONS: Final = by_name(SECTIONS.values())
