"""``scripts/bench``: figures of the whole node over HTTP, fully synchronous, and of the storage layer; printed as
tables.
"""

import argparse
import base64
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.cluster import measure_cluster
from tests.bench.load import Measured, http_request, run_load
from tests.bench.records import GROUPS, make_record
from tests.bench.storage_layer import measure_storage
from tests.node_process import NodeProcess

CONNECTIONS = 32
BATCH = 1000


class Bench:
    """One run against one node."""

    def __init__(self, node: NodeProcess, *, records: int, duration_s: float, results: Table) -> None:
        self.node = node
        self.records = records
        self.duration_s = duration_s
        self.results = results
        credentials = f"{node.username}:{node.password}".encode()
        self._authorization = "Basic " + base64.b64encode(credentials).decode()

    def add(self, name: str, figure: str, goal: str, more: str = "") -> None:
        self.results.add_row(name, figure, goal, more)

    def requests(self, bodies: Iterator[dict[str, Any]], scheme: str) -> list[bytes]:
        url = self.node.url(scheme)
        return [http_request(url, json.dumps(body).encode(), self._authorization) for body in bodies]

    def run(
        self, bodies: Iterator[dict[str, Any]], *, scheme: str = "http", connections: int = CONNECTIONS
    ) -> Measured:
        measured = run_load(
            self.node.url(scheme), self.requests(bodies, scheme), connections=connections, duration_s=self.duration_s
        )
        if measured.failed:
            raise RuntimeError(f"{measured.failed} of {measured.count} answers failed, first: {measured.first_failure}")
        return measured

    def report(self, name: str, measured: Measured, goal: str) -> None:
        latency = f"p50 {measured.p50_s * 1000:.1f} ms, p99 {measured.p99_s * 1000:.1f} ms"
        self.add(name, f"{measured.rate:,.0f}/s", goal, latency)

    def load_records(self, table: str, count: int) -> list[float]:
        """Bulk insert over one connection, reported; the node's anonymous memory in MB after each batch."""
        self.node.post(operation="create_table", database="bench", table=table, primary_key="id")
        process = psutil.Process(self.node.pid)
        memory: list[float] = []
        elapsed_s = 0.0
        for begin in range(0, count, BATCH):
            batch = [make_record(number) for number in range(begin, begin + BATCH)]
            body = json.dumps({"operation": "insert", "database": "bench", "table": table, "records": batch}).encode()
            began = time.perf_counter()
            self.node.request(body).raise_for_status()
            elapsed_s += time.perf_counter() - began
            memory.append(anonymous_bytes(process) / 1e6)
        self.add(
            f"bulk insert, {count:,} in batches of 1,000",
            f"{count / elapsed_s:,.0f} records/s",
            "12,000",
            "1 connection",
        )
        return memory

    def report_load(self, count: int) -> None:
        """A large load: memory must not grow with it. File size beside it."""
        memory = self.load_records("large", count)
        tenth = max(1, len(memory) // 10)
        self.add(
            "anonymous memory meanwhile",
            f"{memory[-1]:,.0f} MB",
            "flat",
            f"after 10 %: {memory[tenth - 1]:,.0f} MB, highest {max(memory):,.0f} MB",
        )
        size = self.node.post(operation="describe_table", database="bench", table="large")
        self.add(
            "file size", f"{size['db_size'] / (count + self.records):,.0f} bytes/record", "", "rows, 12 indexes, log"
        )


def anonymous_bytes(process: psutil.Process) -> float:
    """Memory that is no file's: LMDB's pages are the kernel's cache of the data file."""
    memory = process.memory_info()
    return float(memory.rss - memory.shared)


def point_reads(records: int) -> Iterator[dict[str, Any]]:
    for number in range(0, records, max(1, records // 2000)):
        yield {
            "operation": "search_by_id",
            "database": "bench",
            "table": "animal",
            "ids": [number],
            "get_attributes": ["*"],
        }


def upserts(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        record = make_record(number * 7919 % 1_000_003)
        yield {"operation": "upsert", "database": "bench", "table": "written", "records": [record]}


def condition_searches(records: int) -> Iterator[dict[str, Any]]:
    for group in range(min(200, records // GROUPS)):
        conditions = [{"attribute": "group", "comparator": "equals", "value": group}]
        yield {
            "operation": "search_by_conditions",
            "database": "bench",
            "table": "animal",
            "conditions": conditions,
            "get_attributes": ["*"],
        }


def sorted_searches(records: int) -> Iterator[dict[str, Any]]:
    for batch in range(records // 10_000):
        yield {
            "operation": "search_by_conditions",
            "database": "bench",
            "table": "animal",
            "conditions": [{"attribute": "batch", "comparator": "equals", "value": batch}],
            "sort": {"attribute": "score", "descending": True},
            "limit": 10,
            "get_attributes": ["*"],
        }


def measure_node(bench: Bench) -> None:
    bench.load_records("animal", bench.records)
    bench.node.post(operation="create_table", database="bench", table="written", primary_key="id")
    figures: tuple[tuple[str, str, str, Callable[[], Iterator[dict[str, Any]]]], ...] = (
        ("single upserts, new keys", "3,000/s, p99 < 40 ms", "http", lambda: upserts(20_000)),
        ("single upserts, existing keys", "3,000/s, p99 < 40 ms", "http", lambda: upserts(10_000)),
        ("search_by_id", "8,000/s", "http", lambda: point_reads(bench.records)),
        ("search_by_id over HTTPS", "6,000/s", "https", lambda: point_reads(bench.records)),
        (f"condition search, {GROUPS} rows", "400/s", "http", lambda: condition_searches(bench.records)),
        ("sort + limit 10 of 10,000 matches", "500/s", "http", lambda: sorted_searches(bench.records)),
    )
    for name, goal, scheme, bodies in figures:
        bench.report(name, bench.run(bodies(), scheme=scheme), goal)


def measure_start(root: Path, results: Table) -> None:
    for name in ("start to first answer, first start", "start to first answer, later start"):
        began = time.perf_counter()
        with NodeProcess(root) as node:
            node.post(operation="describe_all")
            results.add_row(name, f"{time.perf_counter() - began:.2f} s", "2 s", "client's own start included")
            node.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="records that are searched [100000]")
    parser.add_argument("--load", type=int, default=1_000_000, help="records of the large load, 0 for none [1000000]")
    parser.add_argument("--seconds", type=float, default=5.0, help="duration of each rate [5]")
    parser.add_argument("--folder", type=Path, help="where to make the databases [the system's temporary folder]")
    parser.add_argument("what", nargs="?", choices=("node", "cluster"), default="node", help="what to measure [node]")
    arguments = parser.parse_args()
    console = Console(width=130)
    if arguments.what == "cluster":
        console.print(machine())
        measure_cluster(arguments.folder, records=arguments.records, console=console)
        return
    results = Table(title=f"logmesh, whole node over HTTP, {CONNECTIONS} connections", title_justify="left")
    for column in ("what", "measured", "goal", ""):
        results.add_column(column, no_wrap=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure_start(Path(folder) / "start", results)
        with NodeProcess(Path(folder) / "node") as node:
            bench = Bench(node, records=arguments.records, duration_s=arguments.seconds, results=results)
            measure_node(bench)
            if arguments.load:
                bench.report_load(arguments.load)
            node.stop()
        layer, raw = measure_storage(50, Path(folder))
    results.add_row("storage layer alone", f"{layer:,.0f} records/s", "", "10 attributes indexed, batches of 1,000")
    results.add_row(
        "raw LMDB puts of the same bytes", f"{raw:,.0f} records/s", "", f"ratio {raw / layer:.2f} (goal 2.5)"
    )
    console.print(machine())
    console.print(results)


def machine() -> str:
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; client on the same machine"
    )


if __name__ == "__main__":
    main()
