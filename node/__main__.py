"""The command ``logmesh``: which commands there are, and where each is.

Commands are loaded by name when they are called, here and nowhere else: a client that sends one operation must not
wait for the import of a whole node. A word that is no command but looks like an operation (an underscore in it, or
followed by ``key=value``) is sent to the node; only the node knows all operations.
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as version_of

import click

from node.errors import StartError, UnknownCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A command's module, its name there, and its line in the help."""

    module: str
    name: str
    sentence: str


COMMANDS: Mapping[str, Entry] = {
    "run": Entry(
        module="node.run_command", name="run", sentence="Run a node in the foreground; also without a command."
    ),
    "dev": Entry(module="node.run_command", name="dev", sentence="Run in dev mode and reload components."),
    "start": Entry(module="node.process_commands", name="start", sentence="Run a node in the background."),
    "stop": Entry(module="node.process_commands", name="stop", sentence="Stop the node."),
    "restart": Entry(module="node.process_commands", name="restart", sentence="Stop the node, then start it."),
    "status": Entry(module="node.process_commands", name="status", sentence="Tell whether the node is running."),
    "install": Entry(module="node.run_command", name="install", sentence="Set a node up and exit."),
    "verify": Entry(module="node.verify_command", name="verify", sentence="Check the databases on disk."),
    "restore": Entry(module="node.restore_command", name="restore", sentence="Make a database from a backup."),
}
_OPERATION = Entry(module="node.client", name="operation", sentence="Send an operation to a node.")
_OPERATION_ALIASES = frozenset({"deploy", "package"})
_OPERATION_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_GROUP_FLAGS = frozenset({"--help", "-h", "--version"})
_USAGE_EXIT_CODE = 2


class CommandLine(click.Group):
    """A group whose commands are loaded when they are called, ``run`` when none is, and operations by their shape."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        is_run = not args or (args[0].startswith("-") and args[0] not in _GROUP_FLAGS)
        return super().parse_args(ctx, ["run", *args] if is_run else args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry is None else _load(entry)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        if self.get_command(ctx, word) is not None:
            return super().resolve_command(ctx, args)
        if not _is_operation(word, args[1:]):
            raise UnknownCommand(word)
        return word, _load(_OPERATION), args

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str() for name, command in self.commands.items()}
        rows = [(name, entry.sentence) for name, entry in COMMANDS.items()] + list(own.items())
        with formatter.section("Commands"):
            formatter.write_dl([*rows, ("<operation> k=v ...", _OPERATION.sentence)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except StartError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except UnknownCommand as error:
            click.echo(str(error), err=True)
            click.echo(ctx.get_help(), err=True)
            ctx.exit(_USAGE_EXIT_CODE)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version_of("logmesh"), prog_name="logmesh", message="%(prog)s %(version)s")
def command_line() -> None:
    """A database node for clusters, built around a replicated commit log.

    Without a command it runs a node: the first start needs nothing and prints the URL and the administrator's password.

    An operation goes to the node on this machine, or to target=<host or URL> with username= and password= (or
    CLI_TARGET, CLI_TARGET_USERNAME and CLI_TARGET_PASSWORD in the environment).

    \b
    logmesh run --mode dev
    logmesh describe_all
    logmesh search_by_id table=dog ids='[1,2]' get_attributes='["*"]' json=true
    """


@command_line.command()
def version() -> None:
    """Print the version."""
    click.echo(f"logmesh {version_of('logmesh')}")


@command_line.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_command(context: click.Context, command: str | None) -> None:
    """Print this help, or that of a command."""
    group = context.parent
    assert group is not None
    if command is None:
        click.echo(group.get_help())
        return
    found = command_line.get_command(group, command)
    if found is None:
        raise UnknownCommand(command)
    with click.Context(found, info_name=command, parent=group) as shown:
        click.echo(found.get_help(shown))


def main() -> None:
    """The console entry ``logmesh``."""
    command_line(prog_name="logmesh")


def _load(entry: Entry) -> click.Command:
    command = getattr(importlib.import_module(entry.module), entry.name)
    assert isinstance(command, click.Command)
    return command


def _is_operation(word: str, arguments: Sequence[str]) -> bool:
    has_shape = _OPERATION_NAME.fullmatch(word) is not None
    is_meant = "_" in word or word in _OPERATION_ALIASES or any("=" in argument for argument in arguments)
    return has_shape and is_meant


if __name__ == "__main__":
    main()
