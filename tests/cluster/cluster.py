"""Some real nodes that know each other, with a network between them that a test can break."""

import os
import re
import shutil
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

import psutil

from tests.cluster.comparison import check_files, contents, wait_until, wait_until_equal
from tests.cluster.proxy import Network
from tests.node_process import NodeProcess, free_address

PORT: Final = 9933
FRONT_PORT: Final = 9934
SHORT_WINDOWS: Final[Mapping[str, Any]] = {
    "replication.pingInterval": 500,
    "replication.pingTimeout": 2000,
    "replication.markInterval": 500,
    "replication.confirmationTimeout": 5000,
}
_KEY_FILES: Final = (".jwtPrivate.key", ".jwtPublic.key", ".jwtPass")
_FAILURE: Final = re.compile(r"\[(error|fatal)\](?! \[operation\])|Traceback")
"""An operation that could not be done is an error too, and the test has seen its answer."""


class ClusterNode(NodeProcess):
    """A node of a cluster. It is named by a word; peers dial its front."""

    def __init__(self, root: Path, name: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        address = free_address()
        self.url_for_peers = f"wss://{address}:{FRONT_PORT}"
        taken = {
            "http.port": None,
            "http.securePort": None,
            "replication.hostname": name,
            "replication.url": self.url_for_peers,
            "replication.securePort": f"{address}:{PORT}",
            **SHORT_WINDOWS,
            **settings,
        }
        super().__init__(root, address=address)
        self.settings = taken

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """With the settings as they are now."""
        self._options = [
            *("--root-path", str(self.root), "--mode", "prod"),
            *("--set", f"operationsApi.network.port={self.address}:9924"),
            *("--set", f"operationsApi.network.securePort={self.address}:9925"),
            *(part for key, value in self.settings.items() for part in ("--set", f"{key}={_as_text(value)}")),
        ]
        super().start()

    def pause(self) -> None:
        """It stands still, and its sockets stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        assert self.stop() == 0
        self.start()

    def upsert(self, table: str, *records: Mapping[str, Any], database: str = "data") -> None:
        self.post(operation="upsert", database=database, table=table, records=list(records))

    def is_filled(self) -> bool:
        """Whether no database is being copied to it: until then such a one takes no writes."""
        answer = self.request({"operation": "get_status", "id": "availability"}).json()
        return bool(answer.get("status") != "Unavailable")

    def create_table(self, table: str, *, database: str = "data", **fields: Any) -> None:
        self.post(operation="create_table", database=database, table=table, primary_key="id", **fields)

    def log(self) -> str:
        file = self.root / "log" / "hdb.log"
        return file.read_text() if file.exists() else ""

    def has_dialled(self, front: tuple[str, int], port: int) -> bool:
        """Whether one of its sockets leads from this local port to that front: another node may use the same port."""
        if not self.is_running:
            return False
        try:
            sockets = psutil.Process(self.pid).net_connections("tcp4")
        except psutil.Error:
            return False
        return any(it.laddr and it.laddr.port == port and it.raddr == front for it in sockets)


def _as_text(value: Any) -> str:
    return "null" if value is None else str(value)


class Cluster:
    """``with Cluster(folder, "abc") as cluster: cluster.form()``; nodes are had by ``cluster["a"]``."""

    alive: ClassVar[list["Cluster"]] = []

    def __init__(self, folder: Path, names: str = "", **settings: Any) -> None:
        """``settings`` are those of all nodes, with ``__`` for the dot of a name."""
        self._folder = folder
        self._settings = {name.replace("__", "."): value for name, value in settings.items()}
        self._stack = ExitStack()
        self.nodes: dict[str, ClusterNode] = {}
        self.network = Network(self._caller_of)
        self._names = names
        self.shares_system = "replication.databases" not in self._settings
        self.is_spoiled = False
        """A test with it has failed: what is left behind need not be in order."""

    def __enter__(self) -> "Cluster":
        self.alive.append(self)
        self._stack.enter_context(self.network)
        for name in self._names:
            self.add(name)
        return self

    def __exit__(self, *_: object) -> None:
        self.alive.remove(self)
        try:
            for node in self.nodes.values():
                if node.is_running:
                    node.resume()
                    node.kill()
        finally:
            self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __getitem__(self, name: str) -> ClusterNode:
        return self.nodes[name]

    def __iter__(self) -> Iterator[ClusterNode]:
        return iter(self.nodes.values())

    def add(self, name: str, **settings: Any) -> ClusterNode:
        """A node more, which is not started and knows nobody."""
        own = {key.replace("__", "."): value for key, value in settings.items()}
        node = ClusterNode(self._folder / name, name, {**self._settings, **own})
        self._take_token_keys(node)
        self.nodes[name] = node
        self.network.open_front(name, (node.address, FRONT_PORT), (node.address, PORT))
        return node

    def _take_token_keys(self, node: ClusterNode) -> None:
        """Those of the first node: to make them takes a core for a second."""
        for other in self:
            if all((other.root / "keys" / name).exists() for name in _KEY_FILES):
                (node.root / "keys").mkdir(parents=True)
                for name in _KEY_FILES:
                    shutil.copy(other.root / "keys" / name, node.root / "keys" / name)
                return

    def _caller_of(self, front: tuple[str, int], port: int) -> str | None:
        return next((node.name for node in self if node.has_dialled(front, port)), None)

    def start(self, *names: str) -> None:
        """These nodes, without names all that do not run, at the same time."""
        nodes = [self[name] for name in names] or [node for node in self if not node.is_running]
        with ThreadPoolExecutor(len(nodes) or 1) as pool:
            list(pool.map(ClusterNode.start, nodes))

    def join(self, name: str, via: str, **fields: Any) -> Any:
        """``name`` asks to be a member through ``via``: status and body of the answer."""
        response = self[name].request(self.join_request(via, **fields))
        return response.status_code, response.json()

    def join_request(self, via: str, **fields: Any) -> dict[str, Any]:
        other = self[via]
        return {
            "operation": "add_node",
            "hostname": other.name,
            "url": other.url_for_peers,
            "verify_tls": False,
            "authorization": {"username": other.username, "password": other.password},
            **fields,
        }

    def form(self) -> "Cluster":
        """Start all, have all join through the first, and wait until each has heard of each."""
        self.start()
        first, *others = self.nodes
        for name in others:
            status, body = self.join(name, first)
            assert (status, body) == (200, {"message": f"Successfully added '{first}' to cluster"})
        self.wait_until_known()
        return self

    def make_tables(self, *tables: str) -> None:
        """Tables that every running node has heard of."""
        nodes = [node for node in self if node.is_running]
        for table in tables:
            nodes[0].create_table(table)
        for table in tables:
            wait_until_equal(nodes, table, count=0)
        wait_until(lambda: all(node.is_filled() for node in nodes), "all take writes")

    def traffic(self, one: str, other: str) -> int:
        """Bytes that went between two nodes, both ways together."""
        return self.network.carried(one, other) + self.network.carried(other, one)

    def wait_until_linked(self, *names: str, connections: int = 3) -> None:
        """Until each of these has so many connections to each: without more databases for control, system and data."""
        pairs = [(one, other) for one in names or self.nodes for other in names or self.nodes if one != other]

        def unlinked() -> list[str]:
            found = ((pair, self.network.open_connections(*pair)) for pair in pairs)
            return [f"{one} to {other}: {count}" for (one, other), count in found if count != connections]

        try:
            wait_until(lambda: not unlinked(), f"{connections} connections between any two")
        except AssertionError as error:
            raise AssertionError(f"{error}, but from {unlinked()}") from error

    def wait_until_carried(self, source: str, destination: str, count: int) -> None:
        wait_until(lambda: self.network.carried(source, destination) >= count, f"{source} has sent {count} bytes")

    def wait_until_known(self) -> None:
        """Until all running nodes list the same members."""
        nodes = [node for node in self if node.is_running]
        names = {node.name for node in nodes}
        wait_until(lambda: all(members(node) >= names for node in nodes), f"all know {sorted(names)}")

    def finish(self, *tables: str) -> None:
        """Stop all that run, in good order, and check what they leave: each file by itself, and against the others."""
        nodes = [node for node in self if node.is_running]
        for table in tables:
            wait_until_equal(nodes, table)
        if self.shares_system:
            wait_until_equal(nodes, "hdb_nodes", database="system", key="name")
        with ThreadPoolExecutor(len(nodes) or 1) as pool:
            assert set(pool.map(ClusterNode.stop, nodes)) <= {0}
        self.check_files()
        self.check_logs()

    def check_files(self) -> None:
        assert not any(node.is_running for node in self)
        check_files({node.name: node.root for node in self}, unequal=() if self.shares_system else ("system",))

    def check_logs(self) -> None:
        failures = [
            f"{node.name}: {line}" for node in self for line in node.log().splitlines() if _FAILURE.search(line)
        ]
        assert not failures, "\n".join(failures[:20])


def members(node: NodeProcess) -> set[str]:
    """Whom a node knows, itself included."""
    found = contents(node, "hdb_nodes", database="system", key="name")
    return set(found or ())


@contextmanager
def running_cluster(folder: Path, names: str, **settings: Any) -> Iterator[Cluster]:
    """A formed cluster, stopped and checked in the end unless something went wrong before."""
    with Cluster(folder / "cluster", names, **settings) as cluster:
        yield cluster.form()
        if not cluster.is_spoiled:
            cluster.finish()
