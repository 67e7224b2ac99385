"""``logmesh start``, ``stop``, ``restart`` and ``status``: a node as a background process.

The process is found by its root folder: the lock there says whether it runs, ``hdb.pid`` who it is.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path as FilePath

import click

from node.configuration_file import FILE_NAME
from node.configuration_sources import StartSources, root_of
from node.errors import AlreadyRunning, StartError
from node.parameter import MODES
from node.paths import ROOT_PATH
from node.process_files import is_running, running_pid
from node.run_arguments import parse_run_arguments

START_WAIT_S = 120.0
STOP_WAIT_S = 90.0
"""Longer than a node's drain."""
_EXIT_WAIT_S = 0.5
"""A process that closes its output by ending is gone this soon."""
_POLL_S = 0.05
_OUTPUT_BYTES_MAX = 1024 * 1024
_FREE_ARGUMENTS = {"ignore_unknown_options": True}
_ROOT_OPTION = click.option("--root-path", metavar="DIR", help="The node's root folder [ROOTPATH, ~/logmesh].")


@click.command(context_settings=_FREE_ARGUMENTS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def start(arguments: Sequence[str]) -> None:
    """Run a node in the background; arguments are those of run.

    Returns when the node is ready, with what it printed until then.
    """
    _start(arguments)


@click.command()
@_ROOT_OPTION
def stop(root_path: str | None) -> None:
    """Stop the node: running requests may end, nothing new is accepted."""
    root = root_folder(root_path)
    if not is_running(root):
        click.echo("logmesh is not running.")
        return
    click.echo("Stopping logmesh.")
    stop_running(root, wait_s=STOP_WAIT_S)


@click.command(context_settings=_FREE_ARGUMENTS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def restart(arguments: Sequence[str]) -> None:
    """Stop the node when it runs, then start it in the background."""
    root = root_of_arguments(arguments)
    if is_running(root):
        click.echo("Stopping logmesh.")
        stop_running(root, wait_s=STOP_WAIT_S)
    _start(arguments)


@click.command()
@_ROOT_OPTION
def status(root_path: str | None) -> None:
    """Tell whether the node is running, stopped, or not installed."""
    click.echo("\n".join(["logmesh:", *(f"  {line}" for line in status_lines(root_folder(root_path)))]))


def status_lines(root: FilePath) -> list[str]:
    if is_running(root):
        pid = running_pid(root)
        return ["status: running", *([] if pid is None else [f"pid: {pid}"])]
    return ["status: stopped" if (root / FILE_NAME).exists() else "status: not installed"]


def root_folder(root_path: str | None) -> FilePath:
    """The root that a command means which takes nothing else from the configuration."""
    values = {} if root_path is None else {ROOT_PATH: root_path}
    return root_of(StartSources(values=values, environment=os.environ))


def stop_running(root: FilePath, *, wait_s: float) -> None:
    """Ask the node of ``root`` to end and wait until it has. Raises ``StartError`` when it does not in time."""
    pid = running_pid(root)
    if pid is None:
        raise StartError(f"The process that serves {root} has not noted its id; try again")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it ended on its own; the lock tells
    except PermissionError as error:
        raise StartError(f"logmesh (pid: {pid}) belongs to another user") from error
    deadline = time.monotonic() + wait_s
    while is_running(root):
        if time.monotonic() > deadline:
            raise StartError(f"logmesh (pid: {pid}) did not stop within {wait_s:g} s")
        time.sleep(_POLL_S)


def start_in_background(command: Sequence[str], *, wait_s: float) -> tuple[int | None, str]:
    """Start ``command`` in a session of its own and wait until it closes its output, which is its sign of being ready.

    Returns the exit code, None for a process that runs, and what it printed. Raises ``StartError`` when neither
    happens in time; the process is ended then.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        try:
            printed = _read_until_closed(output.fileno(), wait_s)
        except TimeoutError as error:
            process.kill()
            process.wait()
            raise StartError(f"logmesh was not ready within {wait_s:g} s") from error
    try:
        exit_code: int | None = process.wait(timeout=_EXIT_WAIT_S)
    except subprocess.TimeoutExpired:
        exit_code = None
        process.returncode = 0  # it lives on without us: not an unreaped child to warn about
    return exit_code, printed.decode("utf-8", "replace")


def _read_until_closed(descriptor: int, wait_s: float) -> bytes:
    printed = b""
    deadline = time.monotonic() + wait_s
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while selector.select(timeout=max(0.0, deadline - time.monotonic())):
            piece = os.read(descriptor, 65_536)
            if not piece:
                return printed
            printed = (printed + piece)[-_OUTPUT_BYTES_MAX:]
    raise TimeoutError


def root_of_arguments(arguments: Sequence[str]) -> FilePath:
    """The root that arguments of ``run`` name; the arguments are checked on the way, before anything is stopped."""
    options = click.Command(
        "run",
        params=[
            click.Option(["--root-path"]),
            click.Option(["--mode"], type=click.Choice(MODES)),
            click.Option(["--set", "assignments"], multiple=True),
            click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED),
        ],
        context_settings=_FREE_ARGUMENTS,
    )
    with options.make_context("run", list(arguments)) as context:
        return root_of(parse_run_arguments(**context.params, environment=os.environ).sources)


def _start(arguments: Sequence[str]) -> None:
    root = root_of_arguments(arguments)
    if is_running(root):
        raise AlreadyRunning(running_pid(root))
    command = [sys.executable, "-m", "node", "run", "--background", *arguments]
    exit_code, printed = start_in_background(command, wait_s=START_WAIT_S)
    click.echo(printed, nl=False)
    if exit_code is not None:
        sys.exit(exit_code or 1)
    click.echo(f"logmesh started (pid: {running_pid(root)}).")
