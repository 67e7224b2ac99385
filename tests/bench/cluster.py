"""``scripts/bench cluster``: three real nodes on this machine, joined over mutual TLS; every figure printed.

All three share the cores with the client that measures them, so rates are those of a cluster on one small machine.
"""

import http.client
import json
import ssl
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.records import make_record
from tests.node_process import NodeProcess, free_address

BATCH = 1000
LAG_SAMPLES = 300
CATCH_UP_S_MAX = 300.0


class Member(NodeProcess):
    """A node that takes part, and a connection that is kept for measuring."""

    def __init__(self, root: Path) -> None:
        address = free_address()
        super().__init__(
            root,
            address=address,
            options=(
                *("--set", "http.port=null", "--set", "http.securePort=null"),
                *("--set", f"replication.hostname={address}", "--set", f"replication.securePort={address}:9933"),
            ),
        )
        credentials = b64encode(f"{self.username}:{self.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        self._connection: http.client.HTTPSConnection | None = None

    def ask(self, body: bytes) -> Any:
        """One operation over a kept connection, with as little of a client as there can be."""
        if self._connection is None:
            place = urlsplit(self.url())
            context = ssl._create_unverified_context()
            self._connection = http.client.HTTPSConnection(place.hostname or "", place.port, context=context)
        self._connection.request("POST", "/", body, self._headers)
        answer = self._connection.getresponse().read()
        return json.loads(answer)

    def start(self) -> None:
        self._connection = None
        super().start()

    def join(self, other: "Member") -> None:
        self.post(
            operation="add_node",
            hostname=other.address,
            verify_tls=False,
            authorization={"username": self.username, "password": self.password},
        )

    def count(self, table: str) -> int:
        """Records of a table, 0 where it is not here yet."""
        response = self.request({"operation": "describe_table", "database": "bench", "table": table})
        return int(response.json()["record_count"]) if response.status_code == 200 else 0

    def wait_for_count(self, table: str, count: int) -> None:
        deadline = time.monotonic() + CATCH_UP_S_MAX
        while self.count(table) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.address} has {self.count(table)} of {count} records of {table}")
            time.sleep(0.05)

    def anonymous_bytes(self) -> float:
        memory = psutil.Process(self.pid).memory_info()
        return float(memory.rss - memory.shared)


@contextmanager
def running_cluster(folder: Path) -> Iterator[list[Member]]:
    members = [Member(folder / name) for name in "abc"]
    try:
        for member in members:
            member.start()
        for member in members[1:]:
            member.join(members[0])
        yield members
    finally:
        for member in members:
            member.kill()


def _body(**operation: Any) -> bytes:
    return json.dumps(operation).encode()


def _search(key: Any, table: str) -> bytes:
    return _body(operation="search_by_id", database="bench", table=table, ids=[key], get_attributes=["id"])


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + CATCH_UP_S_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {CATCH_UP_S_MAX:g} s: {what}")


def measure_lag(members: list[Member], results: Table) -> None:
    """From acknowledged on the first to readable on the second."""
    a, b, _ = members
    a.post(operation="create_table", database="bench", table="lag", primary_key="id")
    a.post(operation="insert", database="bench", table="lag", records=[make_record(0)])
    _wait_until(lambda: b.count("lag") == 1, "the first record arrives")
    lags = []
    for number in range(1, LAG_SAMPLES + 1):
        write = _body(operation="insert", database="bench", table="lag", records=[make_record(number)])
        search = _search(number, "lag")
        a.ask(write)
        acknowledged = time.perf_counter()
        while not b.ask(search):
            pass
        lags.append(time.perf_counter() - acknowledged)
    p99 = sorted(lags)[int(len(lags) * 0.99)]
    results.add_row(
        "lag, acknowledged on A to readable on B",
        f"{statistics.median(lags) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms",
        "15 ms, p99 60 ms",
        f"{LAG_SAMPLES} writes, idle cluster",
    )


def load(member: Member, table: str, count: int) -> float:
    """Seconds that the node took for the batches, over one connection."""
    member.post(operation="create_table", database="bench", table=table, primary_key="id")
    elapsed_s = 0.0
    for begin in range(0, count, BATCH):
        records = [make_record(number) for number in range(begin, begin + BATCH)]
        body = _body(operation="insert", database="bench", table=table, records=records)
        began = time.perf_counter()
        member.ask(body)
        elapsed_s += time.perf_counter() - began
    return elapsed_s


def measure_load(members: list[Member], count: int, results: Table) -> None:
    a, b, c = members
    began = time.perf_counter()
    load(a, "animal", count)
    loaded_s = time.perf_counter() - began
    for member in (b, c):
        member.wait_for_count("animal", count)
    behind_s = time.perf_counter() - began - loaded_s
    results.add_row(
        f"A loads {count:,}, B and C have caught up",
        f"{behind_s:.2f} s after it, {behind_s / loaded_s:.0%}",
        "20 %",
        f"load {loaded_s:.1f} s, {count / loaded_s:,.0f} records/s",
    )


def measure_apply(members: list[Member], count: int, results: Table) -> None:
    a, b, c = members
    b.stop()
    taken_s = load(a, "missed", count)
    c.wait_for_count("missed", count)
    b.start()
    _wait_until(lambda: b.count("missed") > 0, "B begins to catch up")
    began, first = time.perf_counter(), b.count("missed")
    b.wait_for_count("missed", count)
    rate = (count - first) / (time.perf_counter() - began)
    results.add_row(
        f"B catches up with {count:,} that A took without it",
        f"{rate:,.0f} records/s",
        "1.5 times",
        f"{rate / (count / taken_s):.2f} times A's {count / taken_s:,.0f}/s",
    )


def measure_copy(members: list[Member], folder: Path, count: int, results: Table) -> None:
    a = members[0]
    with Member(folder / "d") as d:
        began = time.perf_counter()
        d.join(a)
        d.wait_for_count("animal", count)
        d.wait_for_count("missed", count)
        elapsed_s = time.perf_counter() - began
        d.stop()
    results.add_row(
        "copy to a new node, join included",
        f"{2 * count / elapsed_s:,.0f} records/s",
        "20,000 records/s",
        f"{2 * count:,} records, {elapsed_s:.1f} s",
    )


def measure_cluster(folder: Path, *, records: int, console: Console) -> None:
    results = Table(title="logmesh, three nodes on one machine, mutual TLS", title_justify="left")
    for column in ("what", "measured", "goal", ""):
        results.add_column(column, no_wrap=True)
    with tempfile.TemporaryDirectory(dir=folder) as made, running_cluster(Path(made)) as members:
        members[0].post(operation="create_database", database="bench")
        measure_lag(members, results)
        measure_load(members, records, results)
        measure_apply(members, records, results)
        measure_copy(members, Path(made), records, results)
        for member, name in zip(members, "ABC", strict=True):
            results.add_row(
                f"anonymous memory of {name}", f"{member.anonymous_bytes() / 1e6:,.0f} MB", "", "in the end"
            )
    console.print(results)
