"""The answering half of a join, where it depends on what this node is doing itself."""

from pathlib import Path

from tests.ops.cluster_nodes import cluster_nodes


async def test_a_node_that_is_asking_to_join_itself_answers_nobody_meanwhile(tmp_path: Path) -> None:
    async with cluster_nodes(tmp_path, ["n1"]) as nodes:
        node = nodes["n1"]
        request = {"operation": "add_node_back", "hostname": "n2", "url": "wss://n2:9933"}
        with node.cluster.join_order.asking():
            status, answer = await node.post(request)
        assert (status, answer) == (503, {"error": "'n1' is about to join a cluster itself, ask again"})
        assert node.cluster.watch.read_now().peers == {}
