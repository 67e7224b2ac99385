"""The configuration of whole nodes: where values come from, what is refused, what a restart makes of them."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node_process import READY, NodeProcess, free_address
from tests.scenarios.asking import Answer, ask, with_keys_of

REPOSITORY = Path(__file__).parents[2]
SET = {"message": "Configuration successfully set. You must restart HarperDB for new config settings to take effect."}
PROBLEM = "HarperDB config file validation error: "
LEVELS = "[notify, fatal, error, warn, info, debug, trace]"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    root = tmp_path_factory.mktemp("configuration") / "root"
    with NodeProcess(root, options=["--set", "authentication.hashFunction=sha256"]) as running:
        yield running
        assert running.stop() == 0


def start_refused(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A start that has to end by itself, with its exit code and what it said."""
    command = [sys.executable, "-m", "node", "run", "--root-path", str(root), *arguments]
    address = free_address()
    command += ["--set", f"operationsApi.network.securePort={address}:9925"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=REPOSITORY, env={**os.environ, **environment}
    )


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[list[str]]:
    """A node with these arguments and nothing else; the URLs that it names when it is ready."""
    command = [sys.executable, "-m", "node", "run", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY)
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(READY):
                break
        else:
            raise AssertionError("".join(said))
        yield line.removeprefix(READY).split()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def value_at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree[key]
    return tree


def is_open(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


# get_configuration


def test_a_new_node_has_the_defaults_of_prod_mode(node: NodeProcess) -> None:
    shown = node.post(operation="get_configuration")
    root = str(node.root)
    defaults: dict[str, Any] = {
        "rootPath": root,
        "componentsRoot": f"{root}/components",
        "node.mode": "prod",
        "node.hostname": socket.gethostname(),
        "operationsApi.network.port": f"{node.address}:9924",
        "operationsApi.network.securePort": f"{node.address}:9925",
        "operationsApi.network.cors": True,
        "operationsApi.network.corsAccessList": ["*"],
        "operationsApi.network.domainSocket": f"{root}/operations-server",
        "http.port": None,
        "http.securePort": 9926,
        "http.cors": False,
        "http.corsAccessList": [None],
        "http.compressionThreshold": 1200,
        "http.keepAliveTimeout": 30000,
        "http.timeout": 120000,
        "http.mtls": False,
        "http.http2": False,
        "threads.count": len(os.sched_getaffinity(0)),
        "authentication.authorizeLocal": False,
        "authentication.cacheTTL": 30000,
        "authentication.enableSessions": True,
        "authentication.operationTokenTimeout": "1d",
        "authentication.refreshTokenTimeout": "30d",
        "analytics.aggregatePeriod": 60,
        "analytics.replicate": False,
        "localStudio.enabled": False,
        "logging.auditAuthEvents": {"logFailed": False, "logSuccessful": False},
        "logging.auditLog": True,
        "logging.auditRetention": "3d",
        "logging.file": True,
        "logging.level": "warn",
        "logging.root": f"{root}/log",
        "logging.rotation.enabled": True,
        "logging.rotation.compress": False,
        "logging.rotation.interval": None,
        "logging.rotation.maxSize": "64M",
        "logging.rotation.path": f"{root}/log",
        "logging.stdStreams": False,
        "mqtt.network.port": None,
        "mqtt.network.securePort": 8883,
        "mqtt.webSocket": True,
        "mqtt.requireAuthentication": True,
        "storage.writeAsync": False,
        "storage.caching": True,
        "storage.compression": True,
        "storage.noReadAhead": False,
        "storage.path": f"{root}/database",
        "storage.prefetchWrites": True,
        "tls.privateKey": f"{root}/keys/privateKey.pem",
    }
    assert {path: value_at(shown, path) for path in defaults} == defaults


def test_dev_mode_has_its_own_defaults_and_the_other_mode_takes_them_back(node: NodeProcess, tmp_path: Path) -> None:
    root, address = with_keys_of(node, tmp_path / "root"), free_address()
    dev = {
        "node": {"hostname": "localhost", "mode": "dev"},
        "authentication.authorizeLocal": True,
        "http.port": 9926,
        "http.securePort": 9927,
        "http.cors": True,
        "http.corsAccessList": ["*"],
        "threads.count": 1,
        "logging.level": "info",
        "logging.stdStreams": True,
        "localStudio.enabled": True,
        "mqtt.network.port": 1883,
        "mqtt.network.securePort": 8883,
    }
    with NodeProcess(root, mode="dev", address=address) as other:
        shown = other.post(operation="get_configuration")
        assert {path: value_at(shown, path) for path in dev} == dev
        other.post(operation="set_configuration", logging_level="error")
        other.stop()
    with NodeProcess(root, mode="prod", address=address) as other:
        shown = other.post(operation="get_configuration")
        assert shown["node"] == {"hostname": socket.gethostname(), "mode": "prod"}
        assert shown["authentication"]["authorizeLocal"] is False
        assert shown["http"]["port"] is None
        assert shown["http"]["securePort"] == 9926
        assert shown["logging"]["stdStreams"] is False
        assert shown["logging"]["level"] == "error"


# set_configuration


def test_a_change_shows_at_once_and_leaves_a_copy_of_the_old_file(node: NodeProcess) -> None:
    file = node.root / "logmesh.yaml"
    file.write_text("# kept by hand\n" + file.read_text())
    before = file.read_text()
    copies = set((node.root / "backup").glob("*-logmesh.yaml.bak"))
    assert node.post(operation="set_configuration", analytics_aggregatePeriod=90) == SET
    assert node.post(operation="get_configuration")["analytics"]["aggregatePeriod"] == 90
    (copy,) = set((node.root / "backup").glob("*-logmesh.yaml.bak")) - copies
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d[.-]\d{3}Z-logmesh\.yaml\.bak", copy.name)
    assert copy.read_text() == before
    assert file.read_text().startswith("# kept by hand\n")
    assert "aggregatePeriod: 90 #" in file.read_text()


def test_a_value_that_already_runs_is_not_written(node: NodeProcess) -> None:
    file = node.root / "logmesh.yaml"
    before = file.read_bytes(), sorted(os.listdir(node.root / "backup"))
    assert node.post(operation="set_configuration", http_timeout=120000) == SET
    assert (file.read_bytes(), sorted(os.listdir(node.root / "backup"))) == before


@pytest.mark.parametrize(
    ("name", "value", "path", "stored"),
    [
        ("HTTP_COMPRESSIONTHRESHOLD", 1300, "http.compressionThreshold", 1300),
        ("http_compressionthreshold", "1400", "http.compressionThreshold", 1400),
        ("http_cors", "true", "http.cors", True),
        ("http_corsAccessList", '["https://a.example"]', "http.corsAccessList", ["https://a.example"]),
        ("http_corsAccessList", ["https://b.example"], "http.corsAccessList", ["https://b.example"]),
        ("logging_rotation_interval", "3D", "logging.rotation.interval", "3D"),
        ("logging_rotation_interval", "undefined", "logging.rotation.interval", None),
        ("log_level", "error", "logging.level", "error"),
        ("operation_token_timeout", "2d", "authentication.operationTokenTimeout", "2d"),
        ("REFRESH_TOKEN_TIMEOUT", 86400, "authentication.refreshTokenTimeout", 86400),
        ("cors_whitelist", ["*"], "operationsApi.network.corsAccessList", ["*"]),
        ("server_timeout_ms", 5000, "operationsApi.network.timeout", 5000),
        ("max_http_threads", 3, "threads.count", 3),
        ("local_studio_on", True, "localStudio.enabled", True),
        ("threads", 4, "threads.count", 4),
        ("my-thing_port", 9999, "my-thing.port", 9999),
        ("my-thing_package", "thing@1", "my-thing.package", "thing@1"),
        ("databases", [{"zoo": {"path": "/tmp"}}], "databases.zoo.path", "/tmp"),
    ],
)
def test_names_and_values_as_clients_send_them(
    node: NodeProcess, name: str, value: Any, path: str, stored: Any
) -> None:
    assert ask(node, "set_configuration", **{name: value}) == (200, SET)
    assert value_at(node.post(operation="get_configuration"), path) == stored


@pytest.mark.parametrize("fields", [{"no_such_thing": 1}, {"logging": {"level": "trace"}}, {}])
def test_names_it_does_not_know_are_ignored(node: NodeProcess, fields: dict[str, Any]) -> None:
    before = node.post(operation="get_configuration")
    assert ask(node, "set_configuration", **fields) == (200, SET)
    assert node.post(operation="get_configuration") == before


def wrong_unit(name: str, units: str) -> str:
    return f"Invalid logging.rotation.{name} unit. Available units are {units}"


def wrong_number(name: str, example: str) -> str:
    return f"Invalid logging.rotation.{name} value. Value should be a number followed by unit e.g. '{example}'"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"logging_level": "loud"}, f"'logging.level' must be one of {LEVELS}"),
        ({"http_cors": "maybe"}, "'http.cors' must be a boolean"),
        ({"analytics_aggregatePeriod": "often"}, "'analytics.aggregatePeriod' must be a number"),
        ({"threads_count": -1}, "'threads.count' must be greater than or equal to 0"),
        ({"threads_count": 1001}, "'threads.count' must be less than or equal to 1000"),
        ({"operationsApi_network_timeout": 0}, "'operationsApi.network.timeout' must be greater than or equal to 1"),
        (
            {"authentication_hashFunction": "crc"},
            "'authentication.hashFunction' must be one of [md5, sha256, argon2id]",
        ),
        ({"logging_rotation_maxSize": "10X"}, wrong_unit("maxSize", "G, M or K")),
        ({"logging_rotation_maxSize": "xM"}, wrong_number("maxSize", "10M")),
        ({"logging_rotation_interval": "10X"}, wrong_unit("interval", "D, H or M (minutes)")),
        ({"logging_rotation_interval": "xD"}, wrong_number("interval", "10D")),
        ({"storage_path": "/nope/x"}, "Specified path /nope/x does not exist."),
        (
            {"http_port": 9930, "http_securePort": 9930},
            "http.port and http.securePort cannot be the same value",
        ),
        (
            {"operationsApi_network_port": 9930, "operationsApi_network_securePort": 9930},
            "operationsApi.network.port and operationsApi.network.securePort cannot be the same value",
        ),
        ({"http_port": "abc"}, "'http.port' must be a number"),
        ({"http_port": 70000}, "'http.port' must be a number"),
        ({"http_port": "127.0.0.1:port"}, "'http.port' must be a number"),
        (
            {"logging_level": "loud", "http_cors": "maybe"},
            f"'http.cors' must be a boolean. 'logging.level' must be one of {LEVELS}",
        ),
    ],
)
def test_a_wrong_value_is_refused_and_nothing_is_written(
    node: NodeProcess, fields: dict[str, Any], problem: str
) -> None:
    before = (node.root / "logmesh.yaml").read_bytes()
    expected: Answer = (400, {"error": PROBLEM + problem})
    assert ask(node, "set_configuration", **fields, http_maxParamLength=77) == expected
    assert (node.root / "logmesh.yaml").read_bytes() == before


@pytest.mark.parametrize("port", [9931, "127.0.0.9:9931", "[::1]:9931", "9932", None])
def test_ports_are_numbers_or_addresses(node: NodeProcess, port: Any) -> None:
    assert ask(node, "set_configuration", mqtt_network_port=port) == (200, SET)
    stored = node.post(operation="get_configuration")["mqtt"]["network"]["port"]
    assert stored == (9932 if port == "9932" else port)


def test_a_secure_port_as_text_takes_the_running_plain_port(tmp_path: Path) -> None:
    address = free_address()
    with NodeProcess(tmp_path / "root", address=address) as node:
        port = f"{address}:9924"
        assert ask(node, "set_configuration", operationsApi_network_securePort=port) == (200, SET)
        network = node.post(operation="get_configuration")["operationsApi"]["network"]
        assert (network["port"], network["securePort"]) == (None, port)


# Sources


def test_command_line_and_environment_are_kept_in_the_file(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGGING_ROTATION_MAXSIZE", "5M")
    monkeypatch.setenv("http_timeout", "111")
    monkeypatch.setenv("HTTP_KEEPALIVETIMEOUT", "222")
    monkeypatch.setenv("NODE_HOSTNAME", "named-node")
    root = with_keys_of(node, tmp_path / "root")
    options = ["--set", "http.timeout=333", "--LOGGING_LEVEL", "debug", "--log_to_stdstreams=true"]
    options += ["--HTTP_MAXPARAMLENGTH=44"]
    expected = {
        "logging.rotation.maxSize": "5M",
        "http.timeout": 333,
        "http.keepAliveTimeout": 222,
        "node.hostname": "named-node",
        "logging.level": "debug",
        "logging.stdStreams": True,
        "http.maxParamLength": 44,
    }
    with NodeProcess(root, options=options) as other:
        shown = other.post(operation="get_configuration")
        assert {path: value_at(shown, path) for path in expected} == expected
        other.stop()
        for name in ("LOGGING_ROTATION_MAXSIZE", "http_timeout", "HTTP_KEEPALIVETIMEOUT", "NODE_HOSTNAME"):
            monkeypatch.delenv(name)
    assert "HDB_ADMIN" not in (root / "logmesh.yaml").read_text()
    with NodeProcess(root) as other:
        shown = other.post(operation="get_configuration")
        assert {path: value_at(shown, path) for path in expected} == expected


def test_configuration_in_the_environment_is_taken_back_with_its_variable(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = with_keys_of(node, tmp_path / "root")
    state = root / "backup" / ".harper-config-state.json"
    monkeypatch.setenv("HARPER_DEFAULT_CONFIG", '{"http": {"timeout": 1001}, "analytics": {"aggregatePeriod": 61}}')
    monkeypatch.setenv("HARPER_SET_CONFIG", '{"logging": {"level": "debug"}, "http": {"keepAliveTimeout": 1002}}')
    with NodeProcess(root, options=["--set", "logging.level=error"]) as other:
        shown = other.post(operation="get_configuration")
        assert shown["http"]["timeout"] == 1001
        assert shown["http"]["keepAliveTimeout"] == 1002
        assert shown["logging"]["level"] == "debug"
        sources = json.loads(state.read_text())["sources"]
        assert sources["http.timeout"] == "HARPER_DEFAULT_CONFIG"
        assert sources["http.keepAliveTimeout"] == "HARPER_SET_CONFIG"
        other.post(operation="set_configuration", http_timeout=2000, http_keepAliveTimeout=2000)
        other.stop()
    monkeypatch.setenv("HARPER_DEFAULT_CONFIG", '{"http": {"timeout": 1003}}')
    with NodeProcess(root) as other:
        shown = other.post(operation="get_configuration")
        assert shown["http"]["timeout"] == 2000, "a user's edit is not overwritten by a default"
        assert shown["http"]["keepAliveTimeout"] == 1002, "what is set always wins"
        assert shown["analytics"]["aggregatePeriod"] == 60, "a path that went brings back what was there"
        other.stop()
    monkeypatch.delenv("HARPER_SET_CONFIG")
    with NodeProcess(root) as other:
        shown = other.post(operation="get_configuration")
        assert shown["logging"]["level"] != "debug"
        assert shown["http"]["keepAliveTimeout"] != 1002


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HARPER_DEFAULT_CONFIG", "{", "Invalid JSON syntax in HARPER_DEFAULT_CONFIG: "),
        ("HARPER_SET_CONFIG", "[]", "HARPER_SET_CONFIG must be a JSON object, got: array"),
    ],
)
def test_broken_configuration_in_the_environment_ends_the_start(
    tmp_path: Path, name: str, value: str, message: str
) -> None:
    refused = start_refused(tmp_path / "root", **{name: value})
    assert refused.returncode == 1
    assert message in refused.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("http.securPort=1", "http.securePort"),
        ("logging.level=loud", f"'logging.level' must be one of {LEVELS}"),
    ],
)
def test_a_wrong_parameter_ends_the_start_and_is_named(tmp_path: Path, option: str, message: str) -> None:
    refused = start_refused(tmp_path / "root", "--set", option)
    assert refused.returncode not in (0, 4)
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_root_of_another_product_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "harperdb-config.yaml").write_text("http:\n  port: 9926\n")
    refused = start_refused(tmp_path)
    assert refused.returncode == 1
    assert "harperdb-config.yaml" in refused.stderr
    assert os.listdir(tmp_path) == ["harperdb-config.yaml"]


def test_what_has_no_effect_is_named_in_the_log(node: NodeProcess, tmp_path: Path) -> None:
    root = with_keys_of(node, tmp_path / "root")
    options = ["--set", "storage.compactOnStart=true"]
    with NodeProcess(root, options=options) as other:
        other.stop()
        file = root / "logmesh.yaml"
        file.write_text(
            file.read_text().replace("\n  compressionThreshold:", "\n  colour: red\n  compressionThreshold:")
        )
        other.start()
        log = (root / "log" / "hdb.log").read_text()
        assert "http.colour" in log
        assert "[warn]: 'storage.compactOnStart' has no effect yet" in log


def test_a_database_is_made_where_its_own_path_says(node: NodeProcess, tmp_path: Path) -> None:
    root = with_keys_of(node, tmp_path / "root")
    with NodeProcess(root, options=["--set", f"databases.zoo.path={tmp_path / 'elsewhere'}"]) as other:
        other.post(operation="create_table", database="zoo", table="otter", primary_key="id")
        other.post(operation="create_table", database="farm", table="pen", primary_key="id")
        assert [folder.name for folder in (tmp_path / "elsewhere").iterdir()] == ["zoo"]
        assert {folder.name for folder in (root / "database").iterdir()} == {"farm", "system"}
        other.stop()
        other.start()
        assert other.post(operation="describe_all").keys() == {"zoo", "farm"}
        assert other.post(operation="drop_database", database="zoo")["message"] == "successfully deleted 'zoo'"
        assert list((tmp_path / "elsewhere").iterdir()) == []


# Modes and ports


def test_in_prod_only_tls_ports_are_open_and_a_restart_moves_them(node: NodeProcess, tmp_path: Path) -> None:
    address = free_address()
    root = with_keys_of(node, tmp_path / "root")
    with started("--root-path", str(root), "--set", f"operationsApi.network.securePort={address}:9925") as urls:
        assert urls == [f"https://{address}:9925"]
        assert not is_open(address, 9924)
    file = root / "logmesh.yaml"
    file.write_text(file.read_text().replace(f"{address}:9925", f"{address}:9931"))
    with started("--root-path", str(root)) as urls:
        assert urls == [f"https://{address}:9931"]


def test_a_plain_port_that_equals_its_twin_turns_the_twin_off(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, root = free_address(), with_keys_of(node, tmp_path / "root")
    monkeypatch.setenv("OPERATIONSAPI_NETWORK_PORT", f"{address}:9925")
    with started("--root-path", str(root)) as urls:
        assert urls == [f"http://{address}:9925"]
        log = (root / "log" / "hdb.log").read_text()
        assert "[warn]: 'operationsApi.network.port' opens a port without encryption" in log
        assert "securePort: null" in (root / "logmesh.yaml").read_text()


def test_dev_mode_opens_a_plain_port_and_a_tls_port(node: NodeProcess, tmp_path: Path) -> None:
    address = free_address()
    root = with_keys_of(node, tmp_path / "root")
    port = f"operationsApi.network.port={address}:9925"
    with started("--mode", "dev", "--root-path", str(root), "--set", port) as urls:
        assert urls == [f"http://{address}:9925", f"https://{address}:9943"]
