from pathlib import Path
from typing import Any

import pytest
import trio

from node.configuration import Configuration
from node.configuration_sources import StartSources, command_line_values, start_configuration
from node.errors import StartError
from ops.errors import InvalidParams, OperationError

PREFIX = "HarperDB config file validation error: "


def started(root: Path, *arguments: str, mode: str = "prod") -> Configuration:
    values: dict[tuple[str, ...], Any] = {
        ("rootPath",): str(root),
        **command_line_values("node.hostname", "node-a", "--set"),
    }
    for argument in arguments:
        name, _, text = argument.partition("=")
        values.update(command_line_values(name, text, "--set"))
    configuration = start_configuration(StartSources(values=values, mode=mode))
    return Configuration(root, configuration.effective)


def text(root: Path) -> str:
    return (root / "logmesh.yaml").read_text()


def backups(root: Path) -> int:
    return len(list((root / "backup").glob("*.bak")))


def test_the_document_is_the_file_with_its_paths_resolved(tmp_path: Path) -> None:
    document = started(tmp_path, "threads.count=2").document()
    assert document == {
        "http": {
            "compressionThreshold": 1200,
            "cors": False,
            "corsAccessList": [None],
            "keepAliveTimeout": 30000,
            "port": None,
            "securePort": 9926,
            "mtls": False,
            "http2": False,
            "timeout": 120000,
        },
        "threads": {"count": 2, "debug": False},
        "authentication": {
            "authorizeLocal": False,
            "cacheTTL": 30000,
            "enableSessions": True,
            "operationTokenTimeout": "1d",
            "refreshTokenTimeout": "30d",
        },
        "analytics": {"aggregatePeriod": 60, "replicate": False},
        "componentsRoot": f"{tmp_path}/components",
        "localStudio": {"enabled": False},
        "logging": {
            "auditAuthEvents": {"logFailed": False, "logSuccessful": False},
            "auditLog": True,
            "auditRetention": "3d",
            "file": True,
            "level": "warn",
            "root": f"{tmp_path}/log",
            "rotation": {
                "enabled": True,
                "compress": False,
                "interval": None,
                "maxSize": "64M",
                "path": f"{tmp_path}/log",
            },
            "stdStreams": False,
        },
        "mqtt": {
            "network": {"port": None, "securePort": 8883, "mtls": False},
            "webSocket": True,
            "requireAuthentication": True,
        },
        "operationsApi": {
            "network": {
                "cors": True,
                "corsAccessList": ["*"],
                "domainSocket": f"{tmp_path}/operations-server",
                "port": None,
                "securePort": 9925,
            }
        },
        "rootPath": str(tmp_path),
        "storage": {
            "writeAsync": False,
            "caching": True,
            "compression": True,
            "noReadAhead": False,
            "path": f"{tmp_path}/database",
            "prefetchWrites": True,
        },
        "tls": {"privateKey": f"{tmp_path}/keys/privateKey.pem"},
        "node": {"hostname": "node-a", "mode": "prod"},
    }


def test_the_document_may_be_changed_by_whoever_asked(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    configuration.document()["http"]["cors"] = "changed"
    assert configuration.document()["http"]["cors"] is False


async def test_a_change_is_visible_at_once_here_and_in_other_processes(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    other = Configuration(tmp_path, {})
    assert other.document()["logging"]["level"] == "warn"
    await configuration.change({"LOGGING_LEVEL": "info"})
    assert configuration.document()["logging"]["level"] == "info"
    assert other.document()["logging"]["level"] == "info"


async def test_a_change_keeps_comments_and_backs_the_old_file_up(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    before = text(tmp_path)
    await configuration.change({"logging_level": "info"})
    assert "level: info # Least severe level that is written" in text(tmp_path)
    (backup,) = (tmp_path / "backup").glob("*-logmesh.yaml.bak")
    assert backup.read_text() == before


@pytest.mark.parametrize(
    ("name", "sent", "place", "stored"),
    [
        ("http_timeout", "5000", ("http", "timeout"), 5000),
        ("http_cors", "true", ("http", "cors"), True),
        ("logging_rotation_maxSize", "undefined", ("logging", "rotation", "maxSize"), None),
        ("http_corsAccessList", '["a","b"]', ("http", "corsAccessList"), ["a", "b"]),
        ("http_mtls", {"required": True}, ("http", "mtls"), {"required": True}),
        ("server_port", "127.0.0.2:9000", ("operationsApi", "network", "port"), "127.0.0.2:9000"),
        ("threads", 7, ("threads", "count"), 7),
        ("node_hostname", "123", ("node", "hostname"), "123"),
        ("my_app_package", "org/repo", ("my_app", "package"), "org/repo"),
        ("myapp_port", "8080", ("myapp", "port"), 8080),
    ],
)
async def test_a_value_is_converted_and_stored_in_its_place(
    name: str, sent: Any, place: tuple[str, ...], stored: Any, tmp_path: Path
) -> None:
    configuration = started(tmp_path)
    await configuration.change({name: sent})
    value: Any = configuration.document()
    for key in place:
        value = value[key]
    assert value == stored


async def test_unknown_names_and_nested_objects_are_ignored(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    before = text(tmp_path)
    await configuration.change(
        {
            "operation": "set_configuration",
            "nope": 1,
            "logging": {"level": "info"},
            "threads": {"count": 9},
            "http.cors": True,
        }
    )
    await configuration.change({"http_package": "x", "_package": "x", "a b_package": "x", "hdb_user": {"a": 1}})
    assert text(tmp_path) == before
    assert backups(tmp_path) == 0


async def test_databases_are_added_from_a_list(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    await configuration.change({"databases": [{"a": {"path": "/a"}}]})
    await configuration.change({"databases": [{"b": {"path": "relative"}}]})
    assert configuration.document()["databases"] == {"a": {"path": "/a"}, "b": {"path": f"{tmp_path}/relative"}}


async def test_values_that_run_already_are_not_written(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    before = text(tmp_path)
    await configuration.change({"http_cors": False, "http_headersTimeout": "60000", "logging_root": f"{tmp_path}/log"})
    assert text(tmp_path) == before
    assert backups(tmp_path) == 0


async def test_a_change_can_be_taken_back_before_the_restart(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    await configuration.change({"http_cors": True})
    await configuration.change({"http_cors": False})
    assert configuration.document()["http"]["cors"] is False


async def test_a_secure_port_sent_as_the_text_of_the_running_plain_port_takes_its_place(tmp_path: Path) -> None:
    configuration = started(tmp_path, mode="dev")
    await configuration.change({"http_securePort": "9926"})
    http = configuration.document()["http"]
    assert (http["port"], http["securePort"]) == (None, 9926)


async def test_a_secure_port_sent_as_the_number_of_the_plain_port_is_refused(tmp_path: Path) -> None:
    configuration = started(tmp_path, mode="dev")
    with pytest.raises(InvalidParams) as raised:
        await configuration.change({"http_securePort": 9926})
    assert str(raised.value) == PREFIX + "http.port and http.securePort cannot be the same value"


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        (
            {"http_cors": "x", "threads_count": -1},
            "'http.cors' must be a boolean. 'threads.count' must be greater than or equal to 0",
        ),
        ({"http_port": "abc"}, "'http.port' must be a number"),
        ({"storage_path": "/nope/x"}, "Specified path /nope/x does not exist."),
        ({"myapp_port": "abc"}, "'myapp.port' must be a number"),
        ({"myapp_package": 5}, "'myapp.package' must be a string"),
        ({"databases": 5}, "'databases' must be an object"),
        ({"rootPath": "/elsewhere"}, "'rootPath' can only be set at start, with --root-path or ROOTPATH"),
        (
            {"operationsApi_network_port": 9925},
            "operationsApi.network.port and operationsApi.network.securePort cannot be the same value",
        ),
    ],
)
async def test_a_wrong_value_is_refused_and_nothing_is_written(
    values: dict[str, Any], problems: str, tmp_path: Path
) -> None:
    configuration = started(tmp_path)
    before = text(tmp_path)
    with pytest.raises(InvalidParams) as raised:
        await configuration.change({"logging_level": "info", **values})
    assert str(raised.value) == PREFIX + problems
    assert raised.value.status == 400
    assert text(tmp_path) == before
    assert backups(tmp_path) == 0


async def test_a_new_mode_brings_its_values_along(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    await configuration.change({"node_mode": "dev"})
    assert configuration.document()["operationsApi"]["network"]["port"] == 9925
    assert configuration.document()["node"]["mode"] == "dev"


async def test_changes_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    async with trio.open_nursery() as nursery:
        for name in ("http_timeout", "http_keepAliveTimeout", "http_headersTimeout", "http_maxHeaderSize"):
            nursery.start_soon(configuration.change, {name: 4321})
    http = configuration.document()["http"]
    assert [http[key] for key in ("timeout", "keepAliveTimeout", "headersTimeout", "maxHeaderSize")] == [4321] * 4


async def test_a_file_broken_by_hand_is_told_and_not_overwritten(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    (tmp_path / "logmesh.yaml").write_text("http: [")
    with pytest.raises(StartError, match="not valid YAML"):
        configuration.document()
    with pytest.raises(StartError, match="not valid YAML"):
        await configuration.change({"http_cors": True})
    assert text(tmp_path) == "http: ["


async def test_a_port_broken_by_hand_can_be_mended(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    (tmp_path / "logmesh.yaml").write_text("http:\n  port: abc\n")
    with pytest.raises(InvalidParams, match=r"'http\.port' must be a number"):
        await configuration.change({"http_cors": True})
    await configuration.change({"http_port": 9000})
    assert configuration.document()["http"]["port"] == 9000


async def test_a_disk_that_refuses_is_an_error_of_the_operation(tmp_path: Path) -> None:
    configuration = started(tmp_path)
    (tmp_path / "backup").rmdir()
    (tmp_path / "backup").write_text("a file where the folder should be")
    with pytest.raises(OperationError, match=r"logmesh\.yaml cannot be written") as raised:
        await configuration.change({"http_cors": True})
    assert raised.value.status == 500
