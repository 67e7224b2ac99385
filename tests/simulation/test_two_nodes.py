"""The thin path through everything: two nodes, one writes, the other has it."""

import random
from pathlib import Path

import trio
import trio.testing

from replication.settings import LinkSettings
from storage.schema import Definition, dynamic_attributes
from storage.table_writes import write_records
from tests.simulation.network import Network
from tests.simulation.node import SimulatedNode


def make_table(tx):
    tx.create_table(Definition(name="dog", primary_key="id", attributes=dynamic_attributes("id")))


async def test_a_write_on_one_node_is_on_the_other(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    rng = random.Random(1)
    network = Network(rng)
    nodes = {
        name: SimulatedNode(
            name=name, folder=tmp_path / name, nodes="ab", network=network, rng=rng, settings=LinkSettings()
        )
        for name in "ab"
    }
    async with trio.open_nursery() as nursery:
        for node in nodes.values():
            await nursery.start(node.run)
        a, b = nodes["a"].catalog, nodes["b"].catalog
        await a.create("data")
        await a.write("data", make_table)
        await a.write("data", lambda tx: write_records(tx, "dog", [{"id": 1, "name": "Rex"}], "insert"))
        with trio.fail_after(30):
            while True:
                await trio.sleep(0.01)
                if "data" not in b.names:
                    continue
                with b.database("data").read() as tx:
                    if "dog" in tx.schema().tables and tx.record_count(tx.table("dog")) == 1:
                        break
        print("took", trio.current_time())
        nursery.cancel_scope.cancel()
