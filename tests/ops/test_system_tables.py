from pathlib import Path

from ops.system_tables import NEVER_REPLICATED, PRIMARY_KEYS, SYSTEM, ensure_system_tables
from replication.membership import NODE_FACTS, NODE_LINKS, NODES
from replication.membership_changes import revoke
from storage.catalog import open_catalog
from storage.settings import StorageSettings
from tests.ops.conftest import Node


async def test_a_later_start_adds_the_tables_that_are_new(tmp_path: Path) -> None:
    settings = StorageSettings(path=tmp_path, map_size_bytes=1 << 30)
    async with open_catalog(settings, node="n1") as catalog:
        await ensure_system_tables(catalog)
        await catalog.write(SYSTEM, lambda tx: tx.drop_table(tx.table(NODE_FACTS)))
        await ensure_system_tables(catalog)
        with catalog.database(SYSTEM).read() as tx:
            assert set(tx.schema().tables) == set(PRIMARY_KEYS)


def test_what_a_node_agreed_with_a_peer_stays_here_and_what_it_is_does_not() -> None:
    assert NODE_LINKS in NEVER_REPLICATED
    assert not NEVER_REPLICATED & {NODES, NODE_FACTS}


async def test_a_super_user_reads_the_facts_of_nodes_by_search(node: Node) -> None:
    await node.services.catalog.write(SYSTEM, lambda tx: revoke(tx, "b", (0xAFF,)))
    where = {"database": SYSTEM, "table": NODE_FACTS, "get_attributes": ["id"]}
    fact = {"id": ["b", "revoked", "AFF"]}
    conditions = [{"attribute": "id", "comparator": "greater_than", "value": ""}]
    assert await node.ok(operation="search_by_conditions", **where, conditions=conditions) == [fact]
