"""Clusters of one test, and the nodes' own words beside a failure."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster

LOG_LINES = 40


@pytest.fixture
def new_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """``new_cluster("abc", replication__databases=...)``: nodes that are not started; they end with the test."""
    with ExitStack() as stack:

        def make(names: str = "", **settings: Any) -> Cluster:
            return stack.enter_context(Cluster(tmp_path / f"cluster-{names}", names, **settings))

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The end of every node's log stands in the report of what failed: the folders are gone afterwards."""
    report = yield
    if report.failed:
        for cluster in Cluster.alive:
            cluster.is_spoiled = True
            for node in cluster:
                lines = [*node.output, *node.log().splitlines()]
                report.sections.append((f"log of {node.name}", "\n".join(lines[-LOG_LINES:])))
    return report
