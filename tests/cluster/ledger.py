"""Clients that write, the ledger of what they were told, and readers that look for what must never be seen.

Keys go in pairs (2n, 2n + 1) that are always written by one transaction and carry one value in every field. So on
every replica, at every instant and whoever wins, both records of a pair and all fields of a record agree.

A write is acknowledged, or in doubt where the connection broke. All nodes of a test have the clock of one machine,
so a write that began after another had ended has the greater stamp, wherever they were made: what a key must be in
the end follows from the ledger alone.
"""

import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.node_process import NodeProcess

FIELDS: Final = ("f0", "f1", "f2")
NEVER: Final = float("inf")
PROGRESS_S_MAX: Final = 45.0
_RETRY_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """``value`` None is a delete. ``ended_at`` of a write in doubt is when that came to light."""

    value: str | None
    began_at: float
    ended_at: float
    is_acknowledged: bool


class Ledger:
    """What happened to each key of a table, as the clients know it."""

    def __init__(self) -> None:
        self._writes: dict[int, list[Write]] = defaultdict(list)
        self._lock = threading.Lock()
        self.acknowledged = 0

    def note(self, keys: Iterable[int], write: Write) -> None:
        with self._lock:
            self.acknowledged += write.is_acknowledged
            for key in keys:
                self._writes[key].append(write)

    def keys(self) -> list[int]:
        with self._lock:
            return sorted(self._writes)

    def problems(self, records: Mapping[int, Mapping[str, Any]]) -> list[str]:
        """What cannot be, given these records in the end, when all nodes have heard of everything."""
        found = [f"nobody wrote {key}" for key in records.keys() - self._writes.keys()]
        for key, writes in self._writes.items():
            value = value_of(records.get(key))
            if value not in _possible(writes):
                found.append(f"{key} is {value!r}, not one of {sorted(map(str, _possible(writes)))}")
        return found


def _possible(writes: Sequence[Write]) -> set[str | None]:
    """Values that the last of these may have left."""
    newest = max((write.began_at for write in writes if write.is_acknowledged), default=None)
    if newest is None:
        return {None, *(write.value for write in writes)}
    return {write.value for write in writes if write.ended_at >= newest}


def value_of(record: Mapping[str, Any] | None) -> str | None:
    """What a record of the clients holds; a mixed one gives a value that nobody wrote."""
    if record is None:
        return None
    values = {record.get(name) for name in FIELDS}
    return str(next(iter(values))) if len(values) == 1 else f"mixed: {sorted(map(str, values))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What clients do. With ``shared`` all of them write the same keys, else each its own."""

    table: str
    database: str = "data"
    pairs: int = 40
    shared: bool = False
    deletes: float = 0.2
    padding_bytes: int = 0
    pause_s: float = 0.0


@dataclass(slots=True)
class Writers:
    """Clients at work: ``wait_for`` more acknowledgements, of all or of one node's."""

    ledger: Ledger
    load: Load
    is_over: threading.Event = field(default_factory=threading.Event)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    problems: list[str] = field(default_factory=list)
    acknowledged: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, *nodes: NodeProcess) -> None:
        """Until each of these nodes (without one: all together) has acknowledged so many writes more."""
        with self.acknowledged:
            begins = [(self._counted(node), node) for node in (nodes or (None,))]
            for begin, node in begins:
                assert self.acknowledged.wait_for(
                    lambda node=node, begin=begin: self._counted(node) >= begin + count or bool(self.problems),
                    PROGRESS_S_MAX,
                ), f"no {count} writes were acknowledged within {PROGRESS_S_MAX:g} s"
        assert not self.problems, self.problems

    def _counted(self, node: NodeProcess | None) -> int:
        return sum(self.counts.values()) if node is None else self.counts[node.address]

    def _work(self, node: NodeProcess, client: int) -> None:
        generator = random.Random(client)
        first = 0 if self.load.shared else client * self.load.pairs
        with _client(node) as http:
            number = 0
            while not self.is_over.wait(self.load.pause_s):
                number += 1
                pair = first + generator.randrange(self.load.pairs)
                value = None if generator.random() < self.load.deletes else f"{client}-{number}"
                if not self._write(http, node, (2 * pair, 2 * pair + 1), value):
                    self.is_over.wait(_RETRY_S)

    def _write(self, http: httpx.Client, node: NodeProcess, keys: tuple[int, int], value: str | None) -> bool:
        body = _body(self.load, keys, value)
        began_at = time.time()
        try:
            response = http.post(_url(node), content=json.dumps(body), headers={"content-type": "application/json"})
            is_acknowledged = response.status_code == 200
            if not is_acknowledged and response.status_code != 503:
                self.problems.append(f"{response.status_code}: {response.text}")
        except httpx.TransportError:
            is_acknowledged = False
        write = Write(value=value, began_at=began_at, ended_at=time.time(), is_acknowledged=is_acknowledged)
        self.ledger.note(keys, write)
        with self.acknowledged:
            self.counts[node.address] += is_acknowledged
            self.acknowledged.notify_all()
        return is_acknowledged


def _body(load: Load, keys: tuple[int, int], value: str | None) -> dict[str, Any]:
    place = {"database": load.database, "table": load.table}
    if value is None:
        return {"operation": "delete", "ids": list(keys), **place}
    padding = {"padding": "x" * load.padding_bytes} if load.padding_bytes else {}
    records = [{"id": key, **dict.fromkeys(FIELDS, value), **padding} for key in keys]
    return {"operation": "upsert", "records": records, **place}


def _url(node: NodeProcess) -> str:
    """Of a node that may be between two lives, too."""
    return f"https://{node.address}:9925"


def _client(node: NodeProcess) -> httpx.Client:
    return httpx.Client(verify=False, auth=(node.username, node.password), timeout=30, trust_env=False)


@contextmanager
def writing(ledger: Ledger, nodes: Sequence[NodeProcess], load: Load, *, clients: int = 1) -> Iterator[Writers]:
    """``clients`` at each of the nodes write until the block ends; they outlive a node that is killed meanwhile."""
    writers = Writers(ledger, load)
    threads = [
        threading.Thread(target=writers._work, args=(node, number))
        for number, node in enumerate(node for node in nodes for _ in range(clients))
    ]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        writers.is_over.set()
        for thread in threads:
            thread.join(PROGRESS_S_MAX)
    assert not any(thread.is_alive() for thread in threads), "a client does not end"
    assert not writers.problems, writers.problems


@contextmanager
def watching_pairs(nodes: Sequence[NodeProcess], load: Load) -> Iterator[None]:
    """A reader at each node looks all the time at pairs that one transaction wrote; none may be seen in part."""
    is_over = threading.Event()
    seen: list[str] = []
    threads = [threading.Thread(target=_watch_pairs, args=(node, load, is_over, seen)) for node in nodes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(PROGRESS_S_MAX)
    assert not seen, seen


def _watch_pairs(node: NodeProcess, load: Load, is_over: threading.Event, seen: list[str]) -> None:
    generator = random.Random(0)
    with _client(node) as http:
        while not is_over.wait(0.005):
            pair = generator.randrange(load.pairs)
            body = {
                "operation": "search_by_id",
                "database": load.database,
                "table": load.table,
                "ids": [2 * pair, 2 * pair + 1],
                "get_attributes": ["*"],
            }
            try:
                response = http.post(_url(node), content=json.dumps(body), headers={"content-type": "application/json"})
            except httpx.TransportError:
                is_over.wait(_RETRY_S)
                continue
            if response.status_code == 200 and not _is_whole(response.json()):
                seen.append(f"{node.address}: {response.text}")


def _is_whole(pair: Sequence[Mapping[str, Any]]) -> bool:
    return not pair or (
        len(pair) == 2 and value_of(pair[0]) == value_of(pair[1]) and "mixed" not in str(value_of(pair[0]))
    )
