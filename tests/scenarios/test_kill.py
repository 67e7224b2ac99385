"""Nothing acknowledged is lost: the process is killed in the middle of writing, started again, and asked.

Several clients write at once and note each acknowledgement. After a kill everything that was acknowledged must be
there, what was not must be there whole or not at all, and the checker must find log, rows, indexes and digests in
agreement.
"""

import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.node_process import NodeProcess

CLIENTS = 4
PAIRS = 3


class Ledger:
    """What the node has acknowledged: record id -> last acknowledged value, None for a delete."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, int | None] = {}
        self.in_doubt: dict[int, int | None] = {}


def write_until_cut_off(node: NodeProcess, client: int, ledger: Ledger, acknowledged: threading.Semaphore) -> None:
    """Upserts and deletes of this client's own keys, in pairs that share a transaction, until the connection breaks."""
    generator = random.Random(client)
    with httpx.Client(verify=False, auth=(node.username, node.password), timeout=30) as http:
        for value in range(100_000):
            keys = [client * 1000 + generator.randrange(40) * PAIRS + n for n in range(PAIRS)]
            is_delete = generator.random() < 0.2
            body: dict[str, Any] = {"database": "kill", "table": "t"}
            if is_delete:
                body |= {"operation": "delete", "ids": keys}
            else:
                body |= {
                    "operation": "upsert",
                    "records": [{"id": key, "value": value, "twin": keys[0]} for key in keys],
                }
            ledger.in_doubt = dict.fromkeys(keys, None if is_delete else value)
            try:
                response = http.post(node.url(), content=json.dumps(body), headers={"content-type": "application/json"})
            except httpx.TransportError:
                return
            assert response.status_code == 200, response.text
            ledger.acknowledged |= ledger.in_doubt
            ledger.in_doubt = {}
            acknowledged.release()


def verify(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node", "verify", "--root-path", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.long)])
def test_everything_acknowledged_survives_being_killed(tmp_path: Path, rounds: int) -> None:
    root = tmp_path / "root"
    generator = random.Random(rounds)
    ledgers = [Ledger() for _ in range(CLIENTS)]
    node = NodeProcess(root)
    with node:
        node.post(operation="create_table", database="kill", table="t", primary_key="id")
        for _ in range(rounds):
            run_until_killed(node, ledgers, writes=generator.randrange(40, 200))
            checked = verify(root)
            assert checked.returncode == 0, checked.stdout + checked.stderr
            node.start()
            compare(node, ledgers)


def run_until_killed(node: NodeProcess, ledgers: list[Ledger], *, writes: int) -> None:
    """Let the clients write, and kill the node after so many acknowledgements, wherever the others stand."""
    acknowledged = threading.Semaphore(0)
    clients = [
        threading.Thread(target=write_until_cut_off, args=(node, number, ledger, acknowledged))
        for number, ledger in enumerate(ledgers)
    ]
    for client in clients:
        client.start()
    for _ in range(writes):
        assert acknowledged.acquire(timeout=30), "no write was acknowledged for 30 s"
    node.kill()
    for client in clients:
        client.join(timeout=30)
        assert not client.is_alive()


def compare(node: NodeProcess, ledgers: list[Ledger]) -> None:
    found = {
        record["id"]: record["value"]
        for record in node.post(
            operation="search_by_value", database="kill", table="t", attribute="id", value="*", get_attributes=["*"]
        )
    }
    for ledger in ledgers:
        for key, value in ledger.acknowledged.items():
            if key not in ledger.in_doubt:
                assert found.get(key) == value
        if ledger.in_doubt:
            happened = [found.get(key) == value for key, value in ledger.in_doubt.items()]
            kept = [found.get(key) == ledger.acknowledged.get(key) for key in ledger.in_doubt]
            assert all(happened) or all(kept), "a transaction is there in part"
            ledger.acknowledged |= {key: found.get(key) for key in ledger.in_doubt}
            ledger.in_doubt = {}
    assert found.keys() <= {key for ledger in ledgers for key in ledger.acknowledged}
