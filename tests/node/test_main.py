import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node.__main__ import COMMANDS, command_line
from node.process_files import claimed_root

OPERATION_HELP = "<operation> k=v ..."


def logmesh(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, list(arguments), prog_name="logmesh")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_the_help_names_every_command(arguments: list[str]) -> None:
    result = logmesh(*arguments)
    assert result.exit_code == 0
    for name in [*COMMANDS, "version", "help", OPERATION_HELP]:
        assert name in result.stdout


def test_the_help_of_one_command() -> None:
    assert logmesh("help", "status").stdout.startswith("Usage: logmesh status [OPTIONS]")


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version(arguments: list[str]) -> None:
    assert logmesh(*arguments).stdout == f"logmesh {version('logmesh')}\n"


@pytest.mark.parametrize("arguments", [["strat"], ["foo-bar", "a=b"], ["Describe_all"], ["help", "strat"]])
def test_an_unknown_command_is_told_with_the_help(arguments: list[str]) -> None:
    result = logmesh(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f'The "{arguments[-1] if arguments[0] == "help" else arguments[0]}" command')
    assert "Commands:" in result.stderr


def test_the_status_of_a_root(tmp_path: Path) -> None:
    status = ("status", "--root-path", str(tmp_path))
    assert logmesh(*status).stdout == "logmesh:\n  status: not installed\n"
    (tmp_path / "logmesh.yaml").write_text("")
    assert logmesh(*status).stdout == "logmesh:\n  status: stopped\n"
    with claimed_root(tmp_path):
        lines = logmesh(*status).stdout.splitlines()
    assert lines[:2] == ["logmesh:", "  status: running"]
    assert lines[2].startswith("  pid: ")


def test_a_client_does_not_load_the_node() -> None:
    """The command line answers at once because commands are loaded by name: storage and the servers stay out."""
    code = "import sys; import node.__main__, node.client; print([m for m in sys.modules if m in %r])"
    heavy = ["lmdb", "trio", "quart", "hypercorn", "storage.database"]
    done = subprocess.run([sys.executable, "-c", code % (heavy,)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
