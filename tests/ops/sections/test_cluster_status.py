"""``cluster_status`` and what ``replicated`` adds to answers: a real membership, and peers that a test makes up."""

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from replication.cluster import Cluster, Ports
from replication.errors import LinkLost
from replication.membership_changes import OwnNode, add_member, put_self, remove_member
from replication.membership_watch import MembershipWatch
from replication.settings import LinkSettings
from replication.supervisor import Supervisor
from storage.write_transaction import WriteTransaction
from tests.ops.conftest import Node

OWN = OwnNode(name="n1", url="wss://n1:9933", shard=1)
LINE = {"timestamp": "2026-11-23T08:31:10.020Z", "thread": "main/0", "level": "warn", "tags": [], "message": "hello"}


class MadeUpPeers(Cluster):
    """Peers that answer what a test says; those of whom it says nothing are not connected."""

    answers: Mapping[str, Any] = {}
    asked: list[tuple[str, Mapping[str, Any]]]

    async def call(self, peer: str, operation: Mapping[str, Any], *, timeout_s: float) -> Any:
        self.asked.append((peer, operation))
        if peer not in self.answers:
            raise LinkLost(f"'{peer}' is not connected")
        return self.answers[peer]


def add_peers(tx: WriteTransaction) -> None:
    put_self(tx, OWN, is_added=True)
    add_member(tx, "n3", url="wss://n3:9933", ca="PEM", authorization="Basic secret", verify_tls=False)
    add_member(tx, "n2", url="wss://n2:9933", shard=2)


async def clustered(node: Node, own: OwnNode = OWN) -> MadeUpPeers:
    """The node takes part in a cluster from now on; no link is up."""
    catalog = node.services.catalog
    watch = MembershipWatch(catalog, own, (), databases=None)
    supervisor = Supervisor(
        catalog=catalog,
        policy=watch,
        dial=cast(Any, None),
        handler=cast(Any, None),
        settings=LinkSettings(),
        url=own.url,
        rng=random.Random(1),
    )
    cluster = MadeUpPeers(
        catalog=catalog,
        watch=watch,
        supervisor=supervisor,
        listener=cast(Any, None),
        dial=cast(Any, None),
        ports=Ports(secure=9933, plain=None),
        shard=own.shard,
    )
    cluster.asked = []
    await watch.prepare()
    node.services = node.dispatcher._services = replace(node.services, cluster=cluster)
    return cluster


async def with_peers(node: Node) -> MadeUpPeers:
    await node.services.catalog.write("system", add_peers)
    return await clustered(node)


# -- cluster_status ---------------------------------------------------------------------------------------------------


async def test_a_node_without_replication_says_so(node: Node) -> None:
    alone = {"type": "cluster-status", "node_name": "n1", "is_enabled": False, "connections": []}
    assert await node.ok(operation="cluster_status") == alone
    assert await node.ok(operation="cluster_status", replicated=True) == {**alone, "replicated": []}


async def test_without_peers_there_are_no_connections(node: Node) -> None:
    await clustered(node)
    assert await node.ok(operation="cluster_status") == {
        "type": "cluster-status",
        "node_name": "n1",
        "url": "wss://n1:9933",
        "shard": 1,
        "is_enabled": True,
        "connections": [],
    }


async def test_each_peer_is_shown_with_its_record_and_a_socket_for_each_database(node: Node) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")
    await with_peers(node)
    second, third = (await node.ok(operation="cluster_status"))["connections"]
    assert (second["name"], second["url"], second["shard"]) == ("n2", "wss://n2:9933", 2)
    assert (second["replicates"], second["replicateByDefault"], second["subscriptions"]) == (True, True, None)
    assert [socket["database"] for socket in second["database_sockets"]] == ["system", "zoo"]
    assert all(socket["connected"] is False for socket in second["database_sockets"])
    assert third["verify_tls"] is False
    assert not {"ca", "authorization", "__createdtime__", "__updatedtime__"} & third.keys()


async def test_a_peer_that_was_never_heard_lacks_all_of_our_entries(node: Node) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")
    await node.ok(operation="insert", database="zoo", table="otter", records=[{"id": 1}])
    await with_peers(node)
    connection = (await node.ok(operation="cluster_status"))["connections"][0]
    (zoo,) = (socket for socket in connection["database_sockets"] if socket["database"] == "zoo")
    assert zoo["behindEntries"] >= 2
    assert zoo["behindSeconds"] < 60
    assert zoo["oldestUnconfirmed"].endswith(" GMT")


async def test_a_node_that_was_removed_is_not_enabled(node: Node) -> None:
    await with_peers(node)
    await node.services.catalog.write("system", lambda tx: remove_member(tx, "n1"))
    await clustered(node)
    assert (await node.ok(operation="cluster_status"))["is_enabled"] is False


async def test_a_node_with_another_name_than_it_has_as_a_member_does_not_replicate(node: Node) -> None:
    await node.services.catalog.write("system", add_peers)
    cluster = await clustered(node, OwnNode(name="n9", url="wss://n9:9933"))
    answer = await node.ok(operation="cluster_status")
    assert (answer["is_enabled"], answer["reason"]) == (False, "renamed n1 to n9")
    assert not cluster.watch.wanted(["system"], {"n2": ["system"]}).peers
    await node.services.catalog.write("system", lambda tx: remove_member(tx, "n1"))
    await clustered(node, OwnNode(name="n9", url="wss://n9:9933"))
    assert (await node.ok(operation="cluster_status"))["is_enabled"] is True


async def test_the_views_of_the_peers_follow_in_their_order_with_failures(node: Node) -> None:
    cluster = await with_peers(node)
    cluster.answers = {"n3": {"type": "cluster-status", "node_name": "n3"}}
    answer = await node.ok(operation="cluster_status", replicated=True)
    assert answer["replicated"] == [
        {"status": "failed", "reason": "'n2' is not connected", "node": "n2"},
        {"type": "cluster-status", "node_name": "n3", "node": "n3"},
    ]
    assert all(operation["replicated"] is False for _, operation in cluster.asked)


# -- other operations with ``replicated`` -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "drop_table", "database": "zoo", "table": "otter"},
        {"operation": "drop_database", "database": "zoo"},
        {"operation": "set_configuration", "logging_level": "info"},
    ],
    ids=lambda body: str(body["operation"]),
)
async def test_an_operation_is_carried_out_here_and_then_by_all_peers(node: Node, body: dict[str, Any]) -> None:
    await node.ok(operation="create_table", database="zoo", table="otter", primary_key="id")
    cluster = await with_peers(node)
    cluster.answers = {"n2": {"message": "done"}}
    answer = await node.ok(**body, replicated=True)
    assert answer["replicated"] == [
        {"message": "done", "node": "n2"},
        {"status": "failed", "reason": "'n3' is not connected", "node": "n3"},
    ]
    assert cluster.asked[0][1] == {**body, "replicated": False}


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "drop_table", "database": "zoo", "table": "otter"},
        {"operation": "drop_database", "database": "zoo"},
        {"operation": "remove_certificate", "name": "nobody"},
        {"operation": "read_log", "log_name": "install.log"},
    ],
    ids=lambda body: str(body["operation"]),
)
async def test_what_fails_here_is_sent_to_nobody(node: Node, body: dict[str, Any]) -> None:
    cluster = await with_peers(node)
    status, _ = await node.post({**body, "replicated": True})
    assert status >= 400
    assert not cluster.asked


@pytest.fixture
def log_line(tmp_path: Path) -> dict[str, Any]:
    """The one line in the log of this node."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "hdb.log").write_text("2026-11-23T08:30:01.381Z [job/3] [notify]: Starting\n")
    at = "2026-11-23T08:30:01.381Z"
    return {"timestamp": at, "thread": "job/3", "level": "notify", "tags": [], "message": "Starting"}


async def test_logs_of_all_nodes_are_one_list_in_the_order_asked_for(node: Node, log_line: dict[str, Any]) -> None:
    cluster = await with_peers(node)
    cluster.answers = {"n2": [LINE]}
    failure, *lines = await node.ok(operation="read_log", replicated=True, order="desc", limit=2)
    assert lines == [{**LINE, "node": "n2"}, {**log_line, "node": "n1"}]
    assert (failure["level"], failure["node"]) == ("error", "n3")
    assert failure["message"] == "Error retrieving logs: 'n3' is not connected"
    assert failure["timestamp"].endswith("Z")


async def test_a_later_page_of_all_logs_goes_on_behind_the_first(node: Node, log_line: dict[str, Any]) -> None:
    cluster = await with_peers(node)
    cluster.answers = {"n2": [LINE], "n3": []}
    page = await node.ok(operation="read_log", replicated=True, order="desc", start=1, limit=1)
    assert page == [{**log_line, "node": "n1"}]
    assert all((operation["start"], operation["limit"]) == (0, 2) for _, operation in cluster.asked)


async def test_conflicts_of_all_nodes_are_one_list_newest_first(node: Node) -> None:
    cluster = await with_peers(node)
    old, new = ({"database": "zoo", "key": key, "decided_at": key} for key in (1, 2))
    cluster.answers = {"n2": [old], "n3": [new]}
    found = await node.ok(operation="search_conflicts", replicated=True)
    assert found == [{**new, "node": "n3"}, {**old, "node": "n2"}]
    cluster.answers = {"n2": [old]}
    *_, failure = await node.ok(operation="search_conflicts", replicated=True)
    assert failure == {"status": "failed", "reason": "'n3' is not connected", "node": "n3"}


async def test_conflicts_of_all_nodes_are_asked_for_in_bounded_numbers(node: Node) -> None:
    status, answer = await node.post({"operation": "search_conflicts", "replicated": True, "limit": 10_001})
    assert (status, answer["error"].startswith("'offset' and 'limit'")) == (400, True)
