"""Whole nodes as processes: how they start, restart, stop and refuse, as a user sees it."""

import json
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.node_process import NodeProcess, free_address

REPOSITORY = Path(__file__).parents[2]


def run(*arguments: str, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "node", *arguments]
    environment = {**os.environ, **({"ROOTPATH": str(root)} if root else {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, env=environment)


def test_a_first_start_needs_nothing_and_a_second_keeps_everything(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "root") as node:
        node.post(operation="create_table", database="zoo", table="otter", primary_key="id")
        node.post(operation="insert", database="zoo", table="otter", records=[{"id": 1, "name": "Tarka"}])
        before = node.post(operation="describe_all")
        assert node.stop() == 0
        node.start()
        assert node.post(operation="describe_all") == before
        found = node.post(operation="search_by_id", database="zoo", table="otter", ids=[1], get_attributes=["name"])
        assert found == [{"name": "Tarka"}]


def test_without_a_password_one_is_generated_shown_once_and_never_logged(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "other", options=["--set", "logging.console=true"], password=None) as node:
        (line,) = [line for line in node.output if "Password:" in line]
        password = line.split("Password:")[1].strip()
        response = node.request({"operation": "user_info"}, auth=("admin", password))
        assert response.status_code == 200
        assert node.stop() == 0
        for file in (tmp_path / "other").rglob("*"):
            if file.is_file():
                assert password.encode() not in file.read_bytes(), file
        node.start()
        assert not any("Password:" in line for line in node.output)


def test_a_second_process_on_the_same_root_is_refused(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "root") as node:
        refused = run("run", "--root-path", str(tmp_path / "root"))
        assert refused.returncode == 4
        assert f"Error: logmesh is already running (pid: {node.pid})" in refused.stderr
        assert node.post(operation="user_info")["username"] == "admin"


def test_a_port_in_use_ends_the_start_and_is_named(tmp_path: Path) -> None:
    address = free_address()
    with NodeProcess(tmp_path / "one", address=address):
        refused = run(
            "run", "--root-path", str(tmp_path / "two"), "--set", f"operationsApi.network.securePort={address}:9925"
        )
        assert refused.returncode == 1
        assert f"{address}:9925" in refused.stderr


def test_client_certificates_are_refused_rather_than_not_checked(tmp_path: Path) -> None:
    refused = run("run", "--root-path", str(tmp_path / "root"), "--set", "operationsApi.network.mtls=true")
    assert refused.returncode == 1
    assert "mtls" in refused.stderr


def test_restart_comes_back_on_the_same_ports_with_the_new_configuration(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "root") as node:
        pid = node.pid
        node.post(operation="set_configuration", logging_level="debug")
        response = node.request({"operation": "restart"})
        assert response.json() == {"message": "Restarting HarperDB. This may take up to 60 seconds."}
        assert response.headers["connection"] == "close"
        node.wait_until_ready_again()
        assert node.pid == pid
        assert node.post(operation="get_configuration")["logging"]["level"] == "debug"
        assert node.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_node_and_leaves_no_socket_or_pid_file(tmp_path: Path, number: signal.Signals) -> None:
    root = tmp_path / "root"
    with NodeProcess(root) as node:
        assert (root / "hdb.pid").exists()
        assert node.stop(number) == 0
        assert not (root / "hdb.pid").exists()
        assert not (root / "operations-server").exists()


def test_the_command_line_reaches_the_node_through_its_socket(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "r") as node:
        node.post(operation="create_table", database="zoo", table="otter", primary_key="id")
        sent = run("insert", "database=zoo", "table=otter", 'records=[{"id": 1}]', "json=true", root=tmp_path / "r")
        assert json.loads(sent.stdout)["inserted_hashes"] == [1]
        refused = run("insert", "database=zoo", "table=ghost", 'records=[{"id": 1}]', root=tmp_path / "r")
        assert (refused.returncode, refused.stdout) == (1, "error: Table 'zoo.ghost' does not exist\n")


def test_the_certificate_is_signed_by_the_authority_in_the_keys_folder(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "root", address="127.0.0.1", ports=(0, 0)) as node:
        trusting = ssl.create_default_context(cafile=tmp_path / "root" / "keys" / "ca.pem")
        answer = httpx.get(node.url("https") + "/health", verify=trusting)
        assert answer.text == "HarperDB is running."
        shown = node.post(
            operation="search_by_value",
            database="system",
            table="hdb_certificate",
            attribute="name",
            value="*",
            get_attributes=["name", "is_authority"],
        )
        assert sorted(row["is_authority"] for row in shown) == [False, True]
