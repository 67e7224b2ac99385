"""Disk: group K of the reliability scenarios."""

from collections.abc import Callable

import pytest

from tests.cluster.cluster import Cluster, ClusterNode


def test_k5_a_second_process_on_a_data_folder_does_not_start(new_cluster: Callable[..., Cluster]) -> None:
    """K5: two processes on one data directory. The second refuses to start."""
    cluster = new_cluster("a")
    cluster.start()
    a = cluster["a"]
    a.create_table("k5")
    second = ClusterNode(a.root, "a", {})
    try:
        with pytest.raises(RuntimeError, match="already"):
            second.start()
    finally:
        second.kill()
    a.upsert("k5", {"id": 1})
    cluster.finish("k5")
