"""Nodes that join by themselves: all with the same list of members, as in a compose file."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.cluster import members
from tests.cluster.comparison import wait_until, wait_until_equal
from tests.node_process import NodeProcess, free_address


class JoiningNode(NodeProcess):
    """Known by its address."""

    def __init__(self, root: Path, address: str, join: Sequence[str], **settings: str) -> None:
        taken = {
            "replication.hostname": address,
            "replication.join": ",".join(join),
            "replication.securePort": f"{address}:9933",
            "http.securePort": "null",
            "logging.level": "info",
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        options = [part for name, value in taken.items() for part in ("--set", f"{name}={value}")]
        super().__init__(root, address=address, options=options)

    def joined(self) -> bool:
        return (self.root / ".joined").exists()

    def log(self) -> str:
        return (self.root / "log" / "hdb.log").read_text()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[JoiningNode]]:
    """Three that are not started."""
    addresses = [free_address() for _ in range(3)]
    with ExitStack() as stack:
        made = [JoiningNode(tmp_path / address, address, addresses) for address in addresses]
        yield [_killed_at_the_end(stack, node) for node in made]


def _killed_at_the_end(stack: ExitStack, node: JoiningNode) -> JoiningNode:
    stack.callback(lambda: node.kill() if node._process is not None else None)
    return node


def start(*nodes: JoiningNode) -> None:
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(JoiningNode.start, nodes))


def wait_until_joined(nodes: Sequence[JoiningNode]) -> None:
    names = {node.address for node in nodes}
    wait_until(lambda: all(members(node) == names for node in nodes), "all know each other")
    wait_until(lambda: all(node.joined() for node in nodes), "all remember it")


def exchange(nodes: Sequence[JoiningNode], table: str) -> None:
    """A record of each node reaches all."""
    nodes[0].post(operation="create_table", database="data", table=table, primary_key="id")
    wait_until_equal(nodes, table, count=0)
    for number, node in enumerate(nodes):
        node.post(operation="insert", database="data", table=table, records=[{"id": number}])
    wait_until_equal(nodes, table, count=len(nodes))


def test_three_nodes_with_one_list_that_start_at_once_become_one_cluster(nodes: list[JoiningNode]) -> None:
    start(*nodes)
    wait_until_joined(nodes)
    exchange(nodes, "first")
    for node in nodes:
        assert node.stop() == 0
    start(*nodes)
    exchange(nodes, "second")


def test_the_first_node_serves_alone_until_another_one_comes(nodes: list[JoiningNode]) -> None:
    first, second, _ = nodes
    start(first)
    first.post(operation="create_table", database="data", table="alone", primary_key="id")
    first.post(operation="insert", database="data", table="alone", records=[{"id": 1}])
    assert members(first) == set()
    assert not first.joined()
    start(second)
    wait_until_joined([first, second])
    wait_until_equal([first, second], "alone", count=1)


def test_nodes_that_ask_each_other_in_a_circle_become_one_cluster(tmp_path: Path) -> None:
    addresses = [free_address() for _ in range(3)]
    with ExitStack() as stack:
        nodes = [
            _killed_at_the_end(stack, JoiningNode(tmp_path / address, address, [following]))
            for address, following in zip(addresses, [*addresses[1:], addresses[0]], strict=True)
        ]
        start(*nodes)
        wait_until_joined(nodes)
        exchange(nodes, "circle")


def test_a_node_that_was_removed_does_not_join_again(nodes: list[JoiningNode]) -> None:
    first, second, third = nodes
    start(*nodes)
    wait_until_joined(nodes)
    wait_until(lambda: f"link to '{third.address}' (control) is up" in first.log(), "the third one can be told")
    first.post(operation="remove_node", hostname=third.address)
    others = {first.address, second.address}
    wait_until(lambda: members(second) == others, "the removal is known")
    assert third.stop() == 0
    third.start()
    status = third.post(operation="cluster_status")
    assert status["is_enabled"] is False
    assert members(first) == members(second) == others
    assert third.log().count("joined the cluster of") <= 1


def test_with_a_named_authority_only_a_member_that_it_vouches_for_is_joined(
    tmp_path: Path, nodes: list[JoiningNode]
) -> None:
    first = nodes[0]
    start(first)
    authority = tmp_path / "authority.pem"
    with JoiningNode(
        tmp_path / "careful", free_address(), [first.address], replication__joinCa=str(authority)
    ) as careful:
        authority.write_bytes((careful.root / "keys" / "ca.pem").read_bytes())
        wait_until(lambda: "its certificate is refused here" in careful.log(), "another authority is refused")
        assert members(careful) == set()
        authority.write_bytes((first.root / "keys" / "ca.pem").read_bytes())
        wait_until_joined([first, careful])
        assert "is not verified" not in careful.log()
