"""What ``scripts/cluster`` runs: a cluster of plain processes, one address of the loopback range for each node.

Every node is told the same list of members to join, as the nodes of ``deploy/compose`` are. All there is to know of the
cluster is in its folder: a root folder per node, named by the node's address, and the administrator's password.
"""

import ipaddress
import os
import secrets
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import httpx
from rich.console import Console
from rich.table import Table

from node.configuration_file import FILE_NAME, replace_file
from node.errors import StartError
from node.process_commands import start_in_background, stop_running
from node.process_files import is_running, running_pid

REPOSITORY: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = REPOSITORY / "logmesh" / "cluster"
USERNAME: Final = "admin"
PASSWORD_FILE: Final = "password"
OPERATIONS_PORT: Final = 9925
REPLICATION_PORT: Final = 9933
PING_INTERVAL_MS: Final = "1000"
"""On one machine a ping costs nothing, and somebody is watching: the table shows soon what it can."""
NODES_MAX: Final = 50
START_WAIT_S: Final = 120.0
JOIN_WAIT_S: Final = 60.0
STOP_WAIT_S: Final = 90.0
ANSWER_WAIT_S: Final = 10.0
POLL_S: Final = 0.2
TABLE_WIDTH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    root: Path

    @property
    def name(self) -> str:
        """Its address, too."""
        return self.root.name

    @property
    def url(self) -> str:
        return f"https://{self.name}:{OPERATIONS_PORT}"

    @property
    def is_running(self) -> bool:
        return self.root.is_dir() and is_running(self.root)

    def start(self, members: Sequence[str]) -> str | None:
        """Start it and wait until it answers; what went wrong, None where nothing did."""
        settings = {
            "operationsApi.network.securePort": f"{self.name}:{OPERATIONS_PORT}",
            "replication.hostname": self.name,
            "replication.securePort": f"{self.name}:{REPLICATION_PORT}",
            "replication.join": ",".join(members),
            "replication.pingInterval": PING_INTERVAL_MS,
        }
        assignments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "node", "run", "--background", "--root-path", str(self.root), *assignments]
        try:
            exit_code, printed = start_in_background(command, wait_s=START_WAIT_S)
        except StartError as error:
            return str(error)
        return None if exit_code is None else printed.strip() or f"it ended with exit code {exit_code}"

    def stop(self) -> str | None:
        """What went wrong, None where nothing did."""
        try:
            stop_running(self.root, wait_s=STOP_WAIT_S)
        except StartError as error:
            return str(error)
        return None

    def cluster_status(self, password: str) -> Mapping[str, Any]:
        """Raises ``httpx.HTTPError``, ``OSError``."""
        with httpx.Client(
            verify=_authorities(self.root.parent), auth=(USERNAME, password), timeout=ANSWER_WAIT_S, trust_env=False
        ) as client:
            response = client.post(self.url, json={"operation": "cluster_status"})
            response.raise_for_status()
            status: Mapping[str, Any] = response.json()
            return status


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cluster() -> None:
    """A cluster on this machine: nodes at 127.0.0.2, 127.0.0.3, ... as plain processes that join each other."""


folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    help="Where everything is kept [logmesh/cluster].",
)


@cluster.command()
@click.option("--nodes", "count", type=click.IntRange(1, NODES_MAX), default=3, show_default=True)
@click.option("--first", default="127.0.0.2", show_default=True, help="Address of the first node; the others follow.")
@folder_option
def up(count: int, first: str, folder: Path) -> None:
    """Start the nodes that do not run, and wait until all have joined."""
    folder = folder.resolve()
    members = _addresses(first, count)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    nodes = [LocalNode(root=folder / member) for member in members]
    password, is_new = _password(folder)
    if is_new:
        click.echo(f"Administrator: {USERNAME}  Password: {password}  (kept in {folder / PASSWORD_FILE})")
    idle = [node for node in nodes if not node.is_running]
    for node in nodes:
        if node not in idle:
            click.echo(f"{node.name} runs already (pid {running_pid(node.root)})")
    # In the environment, as other users of the machine see the arguments of a process.
    os.environ.update(HDB_ADMIN_USERNAME=USERNAME, HDB_ADMIN_PASSWORD=password)
    problems = _for_all(idle, lambda node: node.start(members))
    for node in idle:
        problem = problems[node.name]
        click.echo(f"{node.name} is ready: {node.url}" if problem is None else f"{node.name} did not start: {problem}")
    if any(problems.values()):
        sys.exit(1)
    missing = _wait_until_joined(nodes, password)
    if missing:
        raise click.ClickException(f"not joined within {JOIN_WAIT_S:g} s: {', '.join(missing)}")
    click.echo(f"{count} nodes form a cluster" if count > 1 else "1 node is up")


@cluster.command()
@folder_option
def status(folder: Path) -> None:
    """Show how each node sees each other one."""
    nodes = _nodes_of(folder)
    if not nodes:
        raise click.ClickException(f"there is no cluster in {folder}")
    password, _ = _password(folder)
    table = Table("node", "state", "peer", "connected", "databases", "behind", "equal", box=None, pad_edge=False)
    for row in (row for node in nodes for row in _rows(node, password)):
        table.add_row(*row)
    Console(width=TABLE_WIDTH, highlight=False).print(table)


@cluster.command()
@folder_option
def down(folder: Path) -> None:
    """Stop the nodes; their data stays."""
    running = [node for node in _nodes_of(folder) if node.is_running]
    if not running:
        click.echo("no node is running")
    problems = _for_all(running, LocalNode.stop)
    for node in running:
        problem = problems[node.name]
        click.echo(f"{node.name} has stopped" if problem is None else f"{node.name}: {problem}")
    sys.exit(1 if any(problems.values()) else 0)


def _addresses(first: str, count: int) -> list[str]:
    """Raises ``click.UsageError`` where one of them is not of this machine alone."""
    try:
        addresses = [ipaddress.IPv4Address(first) + number for number in range(count)]
    except ValueError:
        addresses = []
    if not addresses or not all(address.is_loopback for address in addresses):
        raise click.UsageError(f"--first: {first} does not begin a range of addresses like 127.0.0.2")
    return [str(address) for address in addresses]


def _for_all(nodes: Sequence[LocalNode], act: Callable[[LocalNode], str | None]) -> dict[str, str | None]:
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        return dict(zip((node.name for node in nodes), pool.map(act, nodes), strict=True))


def _nodes_of(folder: Path) -> list[LocalNode]:
    """Those that were ever started."""
    roots = [file.parent for file in folder.resolve().glob(f"127.*/{FILE_NAME}")]
    return [LocalNode(root=root) for root in sorted(roots, key=lambda root: ipaddress.IPv4Address(root.name))]


def _password(folder: Path) -> tuple[str, bool]:
    """The administrator's password, and whether it was made now."""
    file = folder / PASSWORD_FILE
    try:
        return file.read_text().strip(), False
    except FileNotFoundError:
        password = secrets.token_urlsafe(12)
        replace_file(file, f"{password}\n", mode=0o600)
        return password, True


def _authorities(folder: Path) -> ssl.SSLContext:
    """Those of all nodes: whoever joins shows a certificate of the node that took it in."""
    trust = ssl.create_default_context()
    for file in folder.glob("127.*/keys/ca.pem"):
        trust.load_verify_locations(cafile=file)
    return trust


def _wait_until_joined(nodes: Sequence[LocalNode], password: str) -> list[str]:
    """The nodes that are not linked with all others in the end."""
    deadline = time.monotonic() + JOIN_WAIT_S
    missing = list(nodes)
    while missing:
        missing = [node for node in missing if not _is_linked(node, nodes, password)]
        if time.monotonic() > deadline:
            break
        if missing:
            time.sleep(POLL_S)
    return [node.name for node in missing]


def _is_linked(node: LocalNode, nodes: Sequence[LocalNode], password: str) -> bool:
    try:
        connections = node.cluster_status(password)["connections"]
    except (httpx.HTTPError, OSError):
        return False
    linked = {connection["name"] for connection in connections if _is_connected(connection)}
    return linked >= {other.name for other in nodes} - {node.name}


def _is_connected(connection: Mapping[str, Any]) -> bool:
    sockets = connection["database_sockets"]
    return bool(sockets) and all(socket["connected"] for socket in sockets)


def _rows(node: LocalNode, password: str) -> Iterator[tuple[str, ...]]:
    """Name, state, peer, connected, databases, entries that the peer has not confirmed, whether tables are equal."""
    if not node.is_running:
        yield node.name, "stopped", *[""] * 5
        return
    try:
        connections = node.cluster_status(password)["connections"]
    except (httpx.HTTPError, OSError) as error:
        yield node.name, f"no answer: {error}", *[""] * 5
        return
    if not connections:
        yield node.name, "running", "none", *[""] * 4
    for connection in connections:
        sockets = connection["database_sockets"]
        behind = [socket.get("behindEntries") for socket in sockets]
        yield (
            node.name,
            "running",
            connection["name"],
            "yes" if _is_connected(connection) else "no",
            ", ".join(socket["database"] for socket in sockets),
            "?" if not behind or None in behind else str(sum(behind)),
            _agreement([socket.get("tablesEqual") for socket in sockets]),
        )


def _agreement(found: Sequence[bool | None]) -> str:
    """Honest: what was not compared does not count as equal."""
    if False in found:
        return "no"
    return "yes" if found and None not in found else "?"


if __name__ == "__main__":
    cluster(prog_name="scripts/cluster")
