import base64
import io
import json
import ssl
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import trustme
from click.testing import CliRunner, Result

from node.__main__ import command_line
from node.client import domain_socket, parse_call
from node.process_files import claimed_root
from tests.node.fake_node import FakeNode, serving


def logmesh(*arguments: str, **environment: str) -> Result:
    cleared = dict.fromkeys(("CLI_TARGET", "CLI_TARGET_USERNAME", "CLI_TARGET_PASSWORD", "ROOTPATH"))
    return CliRunner().invoke(command_line, list(arguments), env={**cleared, **environment}, prog_name="logmesh")


@pytest.fixture
def local(tmp_path: Path) -> Iterator[FakeNode]:
    """A running node of the root ``tmp_path``."""
    with claimed_root(tmp_path), serving(FakeNode(), socket_path=tmp_path / "operations-server") as fake:
        yield fake


@pytest.fixture
def remote() -> Iterator[FakeNode]:
    with serving(FakeNode()) as fake:
        yield fake


def url(fake: FakeNode, credentials: str = "") -> str:
    return f"http://{credentials}127.0.0.1:{fake.address[1]}"


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def test_an_operation_goes_to_the_socket_of_the_root_without_credentials(local: FakeNode, tmp_path: Path) -> None:
    result = logmesh("describe_all", ROOTPATH=str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "message: ok\n")
    (request,) = local.received
    assert (request.path, request.body) == ("/", {"operation": "describe_all"})
    assert "authorization" not in request.headers


def test_the_root_may_be_an_option(local: FakeNode, tmp_path: Path) -> None:
    assert logmesh("describe_all", "--root-path", str(tmp_path)).exit_code == 0


def test_values_are_json_where_they_parse_and_text_otherwise(local: FakeNode, tmp_path: Path) -> None:
    arguments = ["ids=[1,2]", "limit=5", "note=a=b", "flag=true", "nan=NaN", "big=1e999", "password=123"]
    logmesh("search_by_id", *arguments, ROOTPATH=str(tmp_path))
    assert local.received[0].body == {
        "operation": "search_by_id",
        "ids": [1, 2],
        "limit": 5,
        "note": "a=b",
        "flag": True,
        "nan": "NaN",
        "big": "1e999",
        "password": "123",
    }


def test_json_true_prints_json_and_does_not_travel(local: FakeNode, tmp_path: Path) -> None:
    result = logmesh("describe_all", "json=true", ROOTPATH=str(tmp_path))
    assert result.stdout == '{\n  "message": "ok"\n}\n'
    assert local.received[0].body == {"operation": "describe_all"}


def test_an_error_answer_is_printed_as_its_body_and_gives_exit_code_1(local: FakeNode, tmp_path: Path) -> None:
    local.status, local.answer = 404, {"error": "Table 'zoo.x' does not exist"}
    result = logmesh("describe_table", "table=x", ROOTPATH=str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "error: Table 'zoo.x' does not exist\n")


def test_an_answer_that_is_no_json_is_passed_on_byte_by_byte(local: FakeNode, tmp_path: Path) -> None:
    local.content_type, local.answer = "application/octet-stream", b"\x00\xff\x01"
    assert logmesh("get_backup", "database=x", ROOTPATH=str(tmp_path)).stdout_bytes == b"\x00\xff\x01"


def test_a_name_that_the_node_does_not_know_is_not_understood(local: FakeNode, tmp_path: Path) -> None:
    local.status, local.answer = 400, {"error": "Operation 'make_tea' not found"}
    result = logmesh("make_tea", ROOTPATH=str(tmp_path))
    assert result.exit_code == 2
    assert result.stderr.startswith('The "make_tea" command is not understood.\nUsage: logmesh')


def test_a_node_that_does_not_run_is_told(tmp_path: Path) -> None:
    result = logmesh("describe_all", ROOTPATH=str(tmp_path))
    assert (result.exit_code, result.stderr) == (1, "logmesh must be running to perform this operation\n")


def test_a_running_node_without_a_socket_is_told(tmp_path: Path) -> None:
    with claimed_root(tmp_path):
        result = logmesh("describe_all", ROOTPATH=str(tmp_path))
    assert result.stderr == "No domain socket found, unable to perform this operation\n"
    assert result.exit_code == 1


def test_a_socket_that_nobody_listens_on_is_a_node_that_does_not_run(tmp_path: Path) -> None:
    with serving(FakeNode(), socket_path=tmp_path / "operations-server"):
        pass
    with claimed_root(tmp_path):
        result = logmesh("describe_all", ROOTPATH=str(tmp_path))
    assert result.stderr == "logmesh must be running to perform this operation\n"


@pytest.mark.parametrize(
    ("file", "expected"),
    [("", "operations-server"), ("operationsApi:\n  network:\n    domainSocket: run/x\n", "run/x")],
)
def test_the_socket_is_where_the_configuration_says(file: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "logmesh.yaml").write_text(file)
    assert domain_socket(tmp_path) == tmp_path / expected


def test_a_socket_may_be_configured_away(tmp_path: Path) -> None:
    (tmp_path / "logmesh.yaml").write_text("operationsApi:\n  network:\n    domainSocket: null\n")
    assert domain_socket(tmp_path) is None


def test_a_target_takes_credentials_from_the_arguments_and_they_do_not_travel_in_the_body(remote: FakeNode) -> None:
    result = logmesh("describe_all", f"target={url(remote)}", "username=tarka", "password=s3cret")
    assert result.exit_code == 0
    (request,) = remote.received
    assert request.headers["authorization"] == basic("tarka", "s3cret")
    assert request.body == {"operation": "describe_all"}
    assert "s3cret" not in result.output


def test_a_target_takes_credentials_from_its_url(remote: FakeNode) -> None:
    logmesh("describe_all", f"target={url(remote, 'tarka:a%40b@')}")
    assert remote.received[0].headers["authorization"] == basic("tarka", "a@b")


def test_target_and_credentials_may_come_from_the_environment(remote: FakeNode) -> None:
    logmesh("describe_all", CLI_TARGET=url(remote), CLI_TARGET_USERNAME="tarka", CLI_TARGET_PASSWORD="x")
    assert remote.received[0].headers["authorization"] == basic("tarka", "x")


def test_an_operation_about_users_keeps_its_own_user(remote: FakeNode) -> None:
    logmesh("add_user", f"target={url(remote, 'admin:x@')}", "username=new", "password=p", "role=r", "active=true")
    assert remote.received[0].headers["authorization"] == basic("admin", "x")
    assert remote.received[0].body == {
        "operation": "add_user",
        "username": "new",
        "password": "p",
        "role": "r",
        "active": True,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node-b", "https://node-b:9925/"),
        ("node-b:8000", "https://node-b:8000/"),
        ("http://node-b", "http://node-b:9925/"),
        ("[::1]", "https://[::1]:9925/"),
    ],
)
def test_a_target_is_https_on_9925_unless_it_says_otherwise(text: str, expected: str) -> None:
    target = parse_call("describe_all", [f"target={text}"], {}).target
    assert target is not None
    assert target.url == expected


@pytest.mark.parametrize("text", ["ftp://x", "https://", "node:port", "http://["])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="target is not a URL or a host"):
        parse_call("describe_all", [f"target={text}"], {})


def test_an_argument_without_a_value_is_refused_without_repeating_it() -> None:
    with pytest.raises(click.UsageError) as raised:
        parse_call("add_user", ["role=x", "s3cret"], {})
    assert raised.value.message == "Argument 2 is not of the form key=value."


def test_a_call_does_not_print_its_secrets() -> None:
    assert "s3cret" not in repr(parse_call("add_user", ["password=s3cret", "target=https://a:s3cret@b"], {}))


def test_a_self_signed_certificate_is_accepted_only_when_asked_for() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serving(FakeNode(), tls=context) as fake:
        target = f"target=127.0.0.1:{fake.address[1]}"
        refused = logmesh("describe_all", target)
        accepted = logmesh("describe_all", target, "rejectUnauthorized=false")
    assert refused.exit_code == 1
    assert "rejectUnauthorized=false accepts it" in refused.stderr
    assert (accepted.exit_code, accepted.stdout) == (0, "message: ok\n")
    assert [request.body for request in fake.received] == [{"operation": "describe_all"}]


def test_a_target_that_cannot_be_reached_is_named_without_its_password(remote: FakeNode) -> None:
    with serving(FakeNode()) as gone:
        target = url(gone, "tarka:s3cret@")
    result = logmesh("describe_all", f"target={target}")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Cannot connect to {url(gone)}/: ")
    assert "s3cret" not in result.output


def test_deploy_packs_the_current_folder(local: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my-app"
    folder.mkdir()
    (folder / "config.yaml").write_text("rest: true\n")
    monkeypatch.chdir(folder)
    assert logmesh("deploy", ROOTPATH=str(tmp_path)).exit_code == 0
    body: Any = local.received[0].body
    assert (body["operation"], body["project"]) == ("deploy_component", "my-app")
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(body["payload"])), mode="r:gz") as archive:
        assert archive.getnames() == ["config.yaml"]


def test_deploy_with_a_package_packs_nothing() -> None:
    body = parse_call("deploy", ["project=x", "package=org/repo"], {}).body
    assert body == {"operation": "deploy_component", "project": "x", "package": "org/repo"}


def test_package_is_short_for_package_component() -> None:
    assert json.dumps(parse_call("package", ["project=x"], {}).body) == (
        '{"project": "x", "operation": "package_component"}'
    )
