"""One real node for the scenario tests of a run: nothing in it is shared between test files but its process."""

from collections.abc import Iterator

import pytest

from tests.node_process import NodeProcess


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("node") / "root") as running:
        yield running
        assert running.stop() == 0
