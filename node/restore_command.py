"""``logmesh restore``."""

from pathlib import Path as FilePath

import click

from node.errors import AlreadyRunning, StartError
from node.process_commands import root_folder
from node.process_files import is_running, running_pid
from node.verify import databases_folder
from ops.params import NAME_LENGTH_MAX, Problem, Text
from storage.errors import StorageError
from storage.snapshot import restore_database

_NAME = Text(length_max=NAME_LENGTH_MAX, is_name=True)


def _checked_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return _NAME.convert("database", value)
    except Problem as problem:
        raise click.BadParameter(str(problem)) from problem


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=FilePath))
@click.argument("database", callback=_checked_name)
@click.option("--root-path", metavar="DIR", help="The node's root folder [ROOTPATH, ~/logmesh].")
def restore(file: FilePath, database: str, root_path: str | None) -> None:
    """Make DATABASE from FILE, an answer of get_backup.

    For a stopped node without a database of this name: it opens what it finds at its next start.
    """
    root = root_folder(root_path)
    if is_running(root):
        raise AlreadyRunning(running_pid(root))
    try:
        folder = restore_database(file, databases_folder(root), database)
    except StorageError as error:
        raise StartError(str(error)) from error
    click.echo(f"{database}: restored to {folder}")
