"""``logmesh verify``."""

from collections.abc import Sequence

import click

from node.process_commands import root_folder
from node.verify import verify_root
from storage.checker import check_database


@click.command()
@click.argument("databases", nargs=-1)
@click.option("--root-path", metavar="DIR", help="The node's root folder [ROOTPATH, ~/logmesh].")
@click.pass_context
def verify(context: click.Context, databases: Sequence[str], root_path: str | None) -> None:
    """Check databases (all, or those named): rows, indexes, log and its chain of digests.

    Also while the node runs. Exit code 0 when all is well, 1 when a problem was found.
    """
    context.exit(verify_root(root_folder(root_path), databases, check_database))
