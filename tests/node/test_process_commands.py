"""Background processes are real ones here; what stands in for the node is a few lines that claim a root."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from node.__main__ import command_line
from node.errors import StartError
from node.process_commands import root_of_arguments, start_in_background, stop_running
from node.process_files import is_running, running_pid

SERVE = """
import os, pathlib, signal, sys, threading
from node.process_files import claimed_root
ended = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: ended.set() if sys.argv[2] == "polite" else None)
with claimed_root(pathlib.Path(sys.argv[1])):
    print("password: once", flush=True)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    ended.wait(20)
"""


def serve(root: Path, manner: str = "polite") -> list[str]:
    return [sys.executable, "-c", SERVE, str(root), manner]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    pid = running_pid(tmp_path)
    if pid is not None:
        subprocess.run(["kill", "-9", str(pid)], check=True)


def test_a_background_process_is_ready_when_it_closes_its_output(root: Path) -> None:
    exit_code, printed = start_in_background(serve(root), wait_s=20)
    assert (exit_code, printed) == (None, "password: once\n")
    assert is_running(root)


def test_a_process_that_fails_gives_its_output_and_exit_code(root: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('Error: no', file=sys.stderr); sys.exit(4)"]
    assert start_in_background(command, wait_s=20) == (4, "Error: no\n")


def test_a_process_that_is_never_ready_is_ended(root: Path) -> None:
    with pytest.raises(StartError, match=r"not ready within 0\.2 s"):
        start_in_background([sys.executable, "-c", "import time; time.sleep(20)"], wait_s=0.2)


def test_stop_ends_the_process_of_the_root(root: Path) -> None:
    start_in_background(serve(root), wait_s=20)
    result = CliRunner().invoke(command_line, ["stop", "--root-path", str(root)])
    assert (result.exit_code, result.stdout) == (0, "Stopping logmesh.\n")
    assert not is_running(root)


def test_stop_without_a_running_node_says_so(root: Path) -> None:
    result = CliRunner().invoke(command_line, ["stop", "--root-path", str(root)])
    assert (result.exit_code, result.stdout) == (0, "logmesh is not running.\n")


def test_a_process_that_does_not_end_is_told(root: Path) -> None:
    start_in_background(serve(root, "stubborn"), wait_s=20)
    with pytest.raises(StartError, match=r"did not stop within 0\.2 s"):
        stop_running(root, wait_s=0.2)


def test_start_refuses_a_root_that_is_served(root: Path) -> None:
    start_in_background(serve(root), wait_s=20)
    result = CliRunner().invoke(command_line, ["start", "--root-path", str(root)])
    assert result.exit_code == 4
    assert result.stderr == f"Error: logmesh is already running (pid: {running_pid(root)})\n"


@pytest.mark.parametrize(
    "arguments",
    [["--root-path", "/x"], ["--mode", "dev", "--ROOTPATH=/x"], ["--set", "rootPath=/x", "--HTTP_PORT", "1"]],
)
def test_the_root_is_found_among_the_arguments_of_run(arguments: list[str]) -> None:
    assert root_of_arguments(arguments) == Path("/x")
