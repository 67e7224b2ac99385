"""The node's own tables, in database ``system``: users, roles, jobs and the like.

They are made when the node starts for the first time, by a transaction that stays on this node: joining a cluster
must not bring its definitions or its first administrator there. Those in ``NEVER_REPLICATED`` keep all their records
here.
"""

from typing import Final

from replication.membership import NODE_FACTS, NODE_LINKS, NODES
from storage.catalog import Catalog
from storage.schema import CREATED_TIME, UPDATED_TIME, Attribute, Definition
from storage.write_transaction import WriteTransaction

SYSTEM: Final = "system"
USERS: Final = "hdb_user"
ROLES: Final = "hdb_role"
JOBS: Final = "hdb_job"
STATUS: Final = "hdb_status"
SESSIONS: Final = "hdb_session"
REFRESH_TOKENS: Final = "hdb_refresh_token"

NEVER_REPLICATED: Final = frozenset(
    (
        "hdb_certificate",
        JOBS,
        "hdb_info",
        "hdb_temp",
        STATUS,
        REFRESH_TOKENS,
        NODE_LINKS,
        "hdb_raw_analytics",
        "hdb_session_will",
        "hdb_crl_cache",
        "hdb_certificate_cache",
    )
)

PRIMARY_KEYS: Final = {
    USERS: "username",
    ROLES: "id",
    JOBS: "id",
    NODES: "name",
    NODE_LINKS: "name",
    NODE_FACTS: "id",
    "hdb_certificate": "name",
    "hdb_info": "info_id",
    "hdb_license": "license_key",
    "hdb_temp": "id",
    STATUS: "id",
    REFRESH_TOKENS: "username",
    SESSIONS: "id",
    "hdb_raw_analytics": "id",
    "hdb_analytics": "id",
    "hdb_analytics_hostname": "id",
    "hdb_durable_session": "id",
    "hdb_session_will": "id",
    "hdb_certificate_cache": "certificate_id",
    "hdb_crl_cache": "url",
    "hdb_revoked_certificates": "id",
}

SHOWN_IN_PERMISSIONS: Final = (
    USERS,
    ROLES,
    JOBS,
    "hdb_license",
    "hdb_info",
    NODES,
    "hdb_certificate",
    "hdb_analytics_hostname",
    "hdb_analytics",
    "hdb_raw_analytics",
    "hdb_temp",
    "hdb_durable_session",
    "hdb_session_will",
    "hdb_certificate_cache",
    "hdb_crl_cache",
    "hdb_revoked_certificates",
)
"""System tables that ``list_users`` names in a role's permission, in this order."""

_MORE_ATTRIBUTES: Final = {
    USERS: ("password", "hash_function", "role", "active"),
    ROLES: ("role", "permission"),
    JOBS: (
        "user",
        "type",
        "status",
        "start_datetime",
        "end_datetime",
        "message",
        "created_datetime",
        "request",
        "result",
        "progress",
        "errors",
    ),
    STATUS: ("status",),
    REFRESH_TOKENS: ("hash",),
    SESSIONS: ("user",),
}
_INDEXED: Final = {(JOBS, "start_datetime"), (JOBS, "status"), (USERS, "role")}


def definition_of(table: str) -> Definition:
    """A system table as it is made at the first start: open for more attributes, indexed only where it is searched."""
    key = PRIMARY_KEYS[table]
    named = (
        Attribute(name=name, indexed=True if (table, name) in _INDEXED else None)
        for name in _MORE_ATTRIBUTES.get(table, ())
    )
    return Definition(
        name=table,
        primary_key=key,
        attributes=(
            Attribute(name=key, is_primary_key=True),
            *named,
            Attribute(name=CREATED_TIME),
            Attribute(name=UPDATED_TIME),
        ),
        schema_defined=True,
        is_local=table in NEVER_REPLICATED,
    )


async def ensure_system_tables(catalog: Catalog) -> None:
    """Create the system database and whatever table of it is missing; a start that was cut short is completed."""
    if SYSTEM not in catalog.names:
        await catalog.create(SYSTEM)

    def create_missing(tx: WriteTransaction) -> None:
        for table in PRIMARY_KEYS:
            if table not in tx.tables():
                tx.create_table(definition_of(table))

    await catalog.write(SYSTEM, create_missing, is_local=True)
