"""``logmesh run``, ``dev`` and ``install``: from arguments to a running node in this process."""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from node.configuration_sources import refuse_other_product, root_of, start_configuration
from node.errors import StartError
from node.lifetime import run_node
from node.process_files import claimed_root
from node.run_arguments import RunArguments, parse_run_arguments
from node.settings_reader import read_settings, settings_warnings

_ROOT_FOLDER_MODE = 0o700
_EXIT_ON_RESTART = "HARPER_EXIT_ON_RESTART"
_FREE_ARGUMENTS = {"ignore_unknown_options": True, "allow_interspersed_args": True}
Handler = TypeVar("Handler", bound=Callable[..., Any])


def _start_options(handler: Handler) -> Handler:
    """The options that every command that starts a node has."""
    for decorate in (
        click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[APP_FOLDER] [--NAME VALUE]..."),
        click.option(
            "--set", "assignments", multiple=True, metavar="SECTION.KEY=VALUE", help="A parameter; repeatable."
        ),
        click.option("--mode", type=click.Choice(["prod", "dev"]), help="prod: TLS and credentials, dev: convenience."),
        click.option("--root-path", metavar="DIR", help="Data, configuration, logs and keys [~/logmesh]."),
    ):
        handler = decorate(handler)
    return handler


@click.command(context_settings=_FREE_ARGUMENTS)
@_start_options
@click.option("--background", is_flag=True, hidden=True, help="Let go of the terminal once the node is ready.")
def run(
    root_path: str | None, mode: str | None, assignments: Sequence[str], rest: Sequence[str], background: bool
) -> None:
    """Run a node in the foreground; the first start sets it up.

    Every parameter of logmesh.yaml can be given as --set http.port=9926, as --HTTP_PORT 9926, or as the environment
    variable HTTP_PORT; it is kept in the file. The first administrator comes from HDB_ADMIN_USERNAME and
    HDB_ADMIN_PASSWORD (better in the environment than here, where other users see it); without a password one is made
    and printed once.

    \b
    logmesh run --root-path n1 --mode dev
    logmesh run --set operationsApi.network.port=127.0.0.2:9925
    """
    _start(root_path, mode, assignments, rest, on_ready=_let_go_of_terminal if background else None)


@click.command(context_settings=_FREE_ARGUMENTS)
@_start_options
def dev(root_path: str | None, mode: str | None, assignments: Sequence[str], rest: Sequence[str]) -> None:
    """Run in dev mode, and load components again when their files change."""
    _start(root_path, mode or "dev", assignments, rest, reload=True)


@click.command(context_settings=_FREE_ARGUMENTS)
@_start_options
def install(root_path: str | None, mode: str | None, assignments: Sequence[str], rest: Sequence[str]) -> None:
    """Set a node up (folders, keys, administrator) and exit."""
    _start(root_path, mode, assignments, rest, prepare_only=True)


def _start(
    root_path: str | None,
    mode: str | None,
    assignments: Sequence[str],
    rest: Sequence[str],
    *,
    on_ready: Callable[[], None] | None = None,
    prepare_only: bool = False,
    reload: bool = False,
) -> None:
    arguments = parse_run_arguments(
        root_path=root_path, mode=mode, assignments=assignments, rest=rest, environment=os.environ
    )
    wants_restart = _serve(arguments, on_ready=on_ready, prepare_only=prepare_only, reload=reload)
    if wants_restart and not os.environ.get(_EXIT_ON_RESTART):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _serve(arguments: RunArguments, *, on_ready: Callable[[], None] | None, prepare_only: bool, reload: bool) -> bool:
    """Claim the root before anything in it is touched, then run until the node ends. True: it wants to start again."""
    root = root_of(arguments.sources)
    refuse_other_product(root)
    with contextlib.ExitStack() as claim:
        try:
            root.mkdir(mode=_ROOT_FOLDER_MODE, parents=True, exist_ok=True)
            claim.enter_context(claimed_root(root))
        except OSError as error:
            raise StartError(f"{root} cannot be used: {error.strerror}") from error
        configuration = start_configuration(arguments.sources)
        settings = read_settings(
            configuration,
            first_administrator=arguments.first_administrator,
            app_folder=arguments.app_folder,
            reload=reload,
        )
        warnings = settings_warnings(settings, configuration)
        return run_node(settings, warnings=warnings, on_ready=on_ready, prepare_only=prepare_only)


def _let_go_of_terminal() -> None:
    """Whoever started this node reads its output until it ends: close it, and keep later prints harmless."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
