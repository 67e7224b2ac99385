"""``scripts/cluster`` as a person uses it: up, look, kill one, up again, down."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.process_files import is_running, running_pid
from tests.cluster.comparison import wait_until
from tests.node_process import free_address

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "local_cluster.py"


def run(command: str, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines of one call."""
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
    )
    return ended.returncode, ended.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cluster"
    for noted in (tmp_path / "cluster").glob("127.*/hdb.pid"):
        pid = running_pid(noted.parent)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def test_a_cluster_comes_up_shows_itself_and_goes_down(folder: Path) -> None:
    first = free_address()
    second = first.rpartition(".")[0] + f".{int(first.rpartition('.')[2]) + 1}"
    assert free_address() == second, "the test took the next one as well"
    options = ("--folder", str(folder))

    code, lines = run("up", "--nodes", "2", "--first", first, *options)
    assert code == 0, lines
    assert lines[0].startswith("Administrator: admin  Password: ")
    assert f"{first} is ready: https://{first}:9925" in lines
    assert lines[-1] == "2 nodes form a cluster"
    password = folder / "password"
    assert password.read_text().strip() in lines[0]
    assert stat.S_IMODE(password.stat().st_mode) == 0o600

    code, lines = run("status", *options)
    assert code == 0
    assert lines[0].split() == ["node", "state", "peer", "connected", "databases", "behind", "equal"]
    assert [line.split()[:5] for line in lines[1:]] == [
        [first, "running", second, "yes", "system"],
        [second, "running", first, "yes", "system"],
    ]

    killed = running_pid(folder / second)
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not is_running(folder / second), "it is gone")
    _, lines = run("status", *options)
    assert [line.split()[:4] for line in lines[1:]] == [[first, "running", second, "no"], [second, "stopped"]]

    code, lines = run("up", "--nodes", "2", "--first", first, *options)
    assert code == 0, lines
    assert lines[0] == f"{first} runs already (pid {running_pid(folder / first)})"
    assert lines[1:] == [f"{second} is ready: https://{second}:9925", "2 nodes form a cluster"]

    assert run("down", *options) == (0, [f"{first} has stopped", f"{second} has stopped"])
    assert not is_running(folder / first)
    assert not is_running(folder / second)
    assert run("down", *options) == (0, ["no node is running"])


def test_a_node_that_cannot_start_is_told_with_its_reason(folder: Path) -> None:
    folder.mkdir()
    address = free_address()
    (folder / address).write_text("in the way")
    code, lines = run("up", "--nodes", "1", "--first", address, "--folder", str(folder))
    assert code == 1
    assert lines[-1].startswith(f"{address} did not start: ")


@pytest.mark.parametrize("first", ["10.0.0.1", "127.255.255.255", "node-1", "::1"])
def test_only_addresses_of_this_machine_are_taken(folder: Path, first: str) -> None:
    code, lines = run("up", "--nodes", "2", "--first", first, "--folder", str(folder))
    assert code == 2
    assert f"--first: {first}" in lines[-1]
    assert not folder.exists()


def test_there_is_nothing_to_show_without_a_cluster(folder: Path) -> None:
    assert run("status", "--folder", str(folder)) == (1, [f"Error: there is no cluster in {folder}"])
