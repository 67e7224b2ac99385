"""The command line as an administrator types it: every command, what it prints, where, and its exit code."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.node_process import NodeProcess, free_address
from tests.scenarios.asking import KEY_FILES, with_keys_of

REPOSITORY = Path(__file__).parents[2]
Ended = subprocess.CompletedProcess[str]
COMMANDS = ("run", "dev", "start", "stop", "restart", "status", "install", "verify", "restore", "version", "help")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("command") / "root"
    with NodeProcess(root, options=["--set", "authentication.hashFunction=sha256"]) as running:
        running.post(operation="create_table", database="zoo", table="otter", primary_key="id")
        yield running
        assert running.stop() == 0


def logmesh(*arguments: str, root: Path, environment: Mapping[str, str] = MappingProxyType({})) -> Ended:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLI_TARGET")}
    return subprocess.run(
        [sys.executable, "-m", "node", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        cwd=REPOSITORY,
        env={**kept, "ROOTPATH": str(root), **environment},
    )


def printed(ended: Ended) -> str:
    """What a command that has to succeed wrote."""
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


# Operations


def test_answers_are_yaml_and_json_on_demand(node: NodeProcess) -> None:
    yaml = printed(
        logmesh("insert", "database=zoo", "table=otter", 'records=[{"id":1,"name":"Tarka"}]', root=node.root)
    )
    assert yaml == "message: inserted 1 of 1 records\ninserted_hashes:\n- 1\nskipped_hashes: []\n"
    found = printed(
        logmesh(
            "search_by_id",
            "database=zoo",
            "table=otter",
            "ids=[1]",
            'get_attributes=["name"]',
            "json=true",
            root=node.root,
        )
    )
    assert found == '[\n  {\n    "name": "Tarka"\n  }\n]\n'


def test_values_are_json_where_they_can_be_and_split_at_the_first_equals_sign(node: NodeProcess) -> None:
    printed(logmesh("set_status", "status=a=b", root=node.root))
    assert node.post(operation="get_status", id="primary")["status"] == "a=b"
    printed(logmesh("set_configuration", "analytics_aggregatePeriod=75", "http_maxParamLength=200", root=node.root))
    assert node.post(operation="get_configuration")["analytics"]["aggregatePeriod"] == 75
    ids = ['ids=["1","2"]', 'get_attributes=["id"]', "database=zoo", "table=otter"]
    assert printed(logmesh("search_by_id", *ids, root=node.root)) == "[]\n"


def test_an_error_answer_is_printed_and_is_a_failure(node: NodeProcess) -> None:
    ended = logmesh("describe_table", "database=zoo", "table=x", root=node.root)
    assert (ended.returncode, ended.stdout) == (1, "error: Table 'zoo.x' does not exist\n")
    ended = logmesh("get_job", "json=true", root=node.root)
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == {"error": "'id' is required"}


def test_users_are_added_through_the_socket(node: NodeProcess) -> None:
    fields = ["username=tarka", "password=12345", "role=super_user", "active=true"]
    assert printed(logmesh("add_user", *fields, root=node.root)) == "message: tarka successfully added\n"
    assert node.request({"operation": "user_info"}, auth=("tarka", "12345")).status_code == 200
    assert printed(logmesh("drop_user", "username=tarka", root=node.root)) == "message: tarka successfully deleted\n"


def test_a_word_that_is_no_field_is_refused(node: NodeProcess) -> None:
    ended = logmesh("search_by_id", "zoo", root=node.root)
    assert ended.returncode == 2
    assert "is not of the form key=value" in ended.stderr


@pytest.mark.parametrize("arguments", [["nope"], ["nope", "a=1"], ["help", "nope"]])
def test_an_unknown_command_is_named_and_the_help_shown(node: NodeProcess, arguments: list[str]) -> None:
    ended = logmesh(*arguments, root=node.root)
    assert ended.returncode == 2
    assert ended.stdout == ""
    first, _, rest = ended.stderr.partition("\n")
    assert first == 'The "nope" command is not understood.'
    assert rest.startswith("Usage: logmesh")


# Another node


def test_a_target_takes_credentials_from_fields_url_or_environment(node: NodeProcess, tmp_path: Path) -> None:
    accept, secure = "rejectUnauthorized=false", node.url().removeprefix("https://")
    ways: list[tuple[list[str], dict[str, str]]] = [
        ([f"target={node.address}", "username=admin", f"password={node.password}"], {}),
        ([f"target=https://admin:{node.password}@{secure}"], {}),
        (
            [],
            {
                "CLI_TARGET": node.url(),
                "CLI_TARGET_USERNAME": "admin",
                "CLI_TARGET_PASSWORD": node.password,
            },
        ),
    ]
    for arguments, environment in ways:
        ended = logmesh("user_info", "json=true", accept, *arguments, root=tmp_path, environment=environment)
        assert json.loads(printed(ended))["username"] == "admin"


def test_a_target_that_cannot_be_used(node: NodeProcess, tmp_path: Path) -> None:
    wrong = f"target=https://admin:wrong@{node.address}:9925"
    refused = logmesh("user_info", wrong, "rejectUnauthorized=false", root=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "error: Login failed\n")
    untrusted = logmesh("user_info", wrong, root=tmp_path)
    assert untrusted.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in untrusted.stderr
    assert "rejectUnauthorized=false" in untrusted.stderr
    address = free_address()
    absent = logmesh("user_info", f"target={address}", root=tmp_path)
    assert absent.returncode == 1
    assert absent.stderr.startswith(f"Cannot connect to https://{address}:9925/: ")
    assert "wrong" not in refused.stderr + untrusted.stderr


# Commands


def test_the_help_names_every_command(tmp_path: Path) -> None:
    shown = printed(logmesh("help", root=tmp_path))
    assert printed(logmesh("--help", root=tmp_path)) == shown
    for command in COMMANDS:
        assert f"\n  {command} " in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize("command", ["run", "start", "verify"])
def test_a_command_has_a_help_of_its_own(tmp_path: Path, command: str) -> None:
    shown = printed(logmesh("help", command, root=tmp_path))
    assert shown.startswith(f"Usage: logmesh {command} ")
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_the_version_is_that_of_the_project(tmp_path: Path) -> None:
    version = printed(logmesh("version", root=tmp_path))
    assert version.startswith("logmesh ")
    assert printed(logmesh("--version", root=tmp_path)) == version


def test_status_of_a_node_that_runs_and_of_none(node: NodeProcess, tmp_path: Path) -> None:
    assert printed(logmesh("status", root=node.root)) == f"logmesh:\n  status: running\n  pid: {node.pid}\n"
    assert printed(logmesh("status", root=tmp_path)) == "logmesh:\n  status: not installed\n"
    ended = logmesh("user_info", root=tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "logmesh must be running to perform this operation\n")
    assert list(tmp_path.iterdir()) == []


def test_verify_checks_a_running_node_and_names_what_it_does_not_find(node: NodeProcess) -> None:
    assert printed(logmesh("verify", root=node.root)) == "system: ok\nzoo: ok\n"
    assert printed(logmesh("verify", "zoo", "--root-path", str(node.root), root=Path("/nowhere"))) == "zoo: ok\n"
    ended = logmesh("verify", "moon", root=node.root)
    assert ended.returncode == 1
    assert "No database 'moon'" in ended.stderr


def test_a_second_start_is_refused_while_the_node_runs(node: NodeProcess) -> None:
    for command in ("start", "run"):
        ended = logmesh(command, root=node.root)
        assert (ended.returncode, ended.stderr) == (4, f"Error: logmesh is already running (pid: {node.pid})\n")


def test_a_node_without_a_socket_says_so(node: NodeProcess, tmp_path: Path) -> None:
    root = with_keys_of(node, tmp_path / ("too-long-for-a-socket-" * 5) / "root")
    with NodeProcess(root):
        ended = logmesh("user_info", root=root)
        assert (ended.returncode, ended.stderr) == (1, "No domain socket found, unable to perform this operation\n")
        assert "[warn]: No domain socket: " in (root / "log" / "hdb.log").read_text()


def pid_of(root: Path) -> int:
    (line,) = [line for line in printed(logmesh("status", root=root)).splitlines() if "pid:" in line]
    assert int((root / "hdb.pid").read_text()) == int(line.split()[1])
    return int(line.split()[1])


@contextlib.contextmanager
def stopped_afterwards(root: Path) -> Iterator[None]:
    try:
        yield
    finally:
        logmesh("stop", root=root)


def test_a_node_in_the_background_starts_restarts_and_stops(node: NodeProcess, tmp_path: Path) -> None:
    root, address = with_keys_of(node, tmp_path / "root"), free_address()
    arguments = ("--set", f"operationsApi.network.securePort={address}:9925")
    with stopped_afterwards(root):
        said = printed(logmesh("start", *arguments, root=root, environment={"HDB_ADMIN_PASSWORD": "Background-1"}))
        assert f"logmesh is ready: https://{address}:9925" in said
        assert "Background-1" not in said
        first = pid_of(root)
        assert printed(logmesh("set_status", "status=up", root=root)) == "{}\n"
        said = printed(logmesh("restart", root=root))
        assert f"logmesh is ready: https://{address}:9925" in said
        assert pid_of(root) != first
        assert printed(logmesh("get_status", "id=primary", root=root)) == "{}\n"
        assert printed(logmesh("stop", root=root)) == "Stopping logmesh.\n"
        assert printed(logmesh("status", root=root)) == "logmesh:\n  status: stopped\n"
        assert not (root / "hdb.pid").exists()
        assert printed(logmesh("stop", root=root)) == "logmesh is not running.\n"


def test_install_makes_a_node_and_opens_no_port(node: NodeProcess, tmp_path: Path) -> None:
    root, port = tmp_path / "root", f"operationsApi.network.securePort={node.address}:9925"
    first = {"HDB_ADMIN_USERNAME": "boss", "HDB_ADMIN_PASSWORD": "First-1", "TC_AGREEMENT": "yes"}
    said = printed(logmesh("install", "--set", port, root=root, environment=first))
    assert said == f"logmesh is installed: {root}\n"
    assert all((root / "keys" / name).exists() for name in KEY_FILES)
    assert printed(logmesh("status", root=root)) == "logmesh:\n  status: stopped\n"
    assert printed(logmesh("verify", root=root)) == "system: ok\n"
    second = {"HDB_ADMIN_USERNAME": "other", "HDB_ADMIN_PASSWORD": "Second-2"}
    with stopped_afterwards(root):
        port = f"operationsApi.network.securePort={free_address()}:9925"
        printed(logmesh("start", "--set", port, root=root, environment=second))
        users = json.loads(printed(logmesh("list_users", "json=true", root=root)))
        assert [user["username"] for user in users] == ["boss"]


def test_a_generated_password_is_shown_also_when_the_first_start_fails(node: NodeProcess, tmp_path: Path) -> None:
    root = with_keys_of(node, tmp_path / "root")
    failed = logmesh("run", "--set", f"operationsApi.network.securePort={node.address}:9925", root=root)
    assert failed.returncode == 1
    assert f"{node.address}:9925" in failed.stderr
    assert failed.stdout.startswith("Administrator: admin  Password: ")
    password = failed.stdout.split("Password:")[1].strip()
    with NodeProcess(root, password=None) as other:
        assert other.request({"operation": "user_info"}, auth=("admin", password)).status_code == 200
