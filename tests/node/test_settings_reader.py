import pickle
from pathlib import Path
from typing import Any

import pytest

from node.configuration_sources import StartSources, command_line_values, start_configuration
from node.settings import FirstAdministrator, Settings, TlsFiles
from node.settings_reader import read_settings, settings_warnings
from ops.serving_settings import Address
from replication.agreements import ReplicatedDatabase


def settings(root: Path, *arguments: str, mode: str = "prod", file: str | None = None) -> Settings:
    if file is not None:
        (root / "logmesh.yaml").write_text(file)
    values: dict[tuple[str, ...], Any] = {("rootPath",): str(root)}
    for argument in arguments:
        name, _, text = argument.partition("=")
        values.update(command_line_values(name, text, "--set"))
    return read_settings(start_configuration(StartSources(values=values, mode=mode)))


def test_the_settings_of_a_new_prod_node(tmp_path: Path) -> None:
    new = settings(tmp_path)
    assert (new.operations_api.port, new.operations_api.secure_port) == (None, Address(port=9925))
    assert (new.http.port, new.http.secure_port) == (None, Address(port=9926))
    assert new.http.cors_access_list == ()
    assert new.operations_api.cors_access_list == ("*",)
    assert new.operations_api.keep_alive_timeout_s == 30.0
    assert new.authentication.operation_token_timeout_s == 86400.0
    assert new.storage.path == tmp_path / "database"
    assert new.storage.queue_wait_s_max == 45.0
    assert new.storage.audit_retention_s == 3 * 86400.0
    assert new.logging.path == tmp_path / "log" / "hdb.log"
    assert new.logging.rotation.size_bytes_max == 64_000_000
    assert new.disk.blob_paths == (tmp_path / "blobs",)
    assert new.tls == (TlsFiles(private_key=tmp_path / "keys" / "privateKey.pem"),)
    assert new.is_first_start


def test_a_node_without_replication_settings_opens_no_port_for_peers(tmp_path: Path) -> None:
    replication = settings(tmp_path).replication
    assert not replication.takes_part
    assert replication.secure_port is None
    assert replication.url is None


@pytest.mark.parametrize(
    "argument",
    ["replication.hostname=n1", "replication.url=wss://n1:1", 'replication.routes=["n2"]', "replication.join=n2"],
)
def test_a_node_takes_part_when_name_url_routes_or_join_are_set(argument: str, tmp_path: Path) -> None:
    replication = settings(tmp_path, argument).replication
    assert replication.takes_part
    assert replication.secure_port == Address(port=9933)


def test_the_url_for_peers_follows_from_name_and_port(tmp_path: Path) -> None:
    replication = settings(
        tmp_path, "replication.hostname=127.0.0.2", "replication.securePort=127.0.0.2:9933"
    ).replication
    assert replication.url == "wss://127.0.0.2:9933"
    assert replication.node_name == "127.0.0.2"


def test_the_name_for_peers_falls_back_to_the_nodes_name(tmp_path: Path) -> None:
    assert settings(tmp_path, "node.hostname=n7", "replication.join=n1").replication.node_name == "n7"


def test_a_node_does_not_join_itself(tmp_path: Path) -> None:
    joined = settings(tmp_path, "replication.hostname=n1", "replication.join=n1, n2,n3").replication
    assert joined.join == ("n2", "n3")


def test_the_ping_timeout_is_twice_the_interval_unless_set(tmp_path: Path) -> None:
    assert settings(tmp_path, "replication.pingInterval=1000").replication.ping_timeout_s == 2.0
    assert settings(tmp_path, "replication.pingTimeout=500").replication.ping_timeout_s == 0.5


def test_replicated_databases_are_all_or_those_named(tmp_path: Path) -> None:
    assert settings(tmp_path).replication.databases is None
    named = settings(tmp_path, 'replication.databases=["a",{"name":"b","sharded":true,"replicateTo":2}]').replication
    assert named.databases == (
        ReplicatedDatabase(name="a"),
        ReplicatedDatabase(name="b", sharded=True, replicate_to=2),
    )


def test_the_local_bypass_exists_in_dev_mode_only(tmp_path: Path) -> None:
    assert not settings(tmp_path, "authentication.authorizeLocal=true").authentication.authorize_local
    assert settings(tmp_path, mode="dev").authentication.authorize_local


def test_no_workers_count_as_one(tmp_path: Path) -> None:
    assert settings(tmp_path, "threads.count=0").threads_count == 1


def test_a_negative_period_turns_recording_off(tmp_path: Path) -> None:
    analytics = settings(tmp_path, "analytics.aggregatePeriod=-1").analytics
    assert not analytics.is_recording
    assert analytics.aggregate_period_s == 0.0


def test_rotation_counts_in_its_own_units(tmp_path: Path) -> None:
    rotation = settings(tmp_path, "logging.rotation.interval=90M", "logging.rotation.maxSize=1.5K").logging.rotation
    assert (rotation.interval_s, rotation.size_bytes_max) == (5400.0, 1500)


@pytest.mark.parametrize(
    ("text", "is_wanted", "user"), [("false", False, None), ("true", True, "CN"), ('{"user":null}', True, None)]
)
def test_client_certificates_are_off_on_or_an_object(
    text: str, is_wanted: bool, user: str | None, tmp_path: Path
) -> None:
    wanted = settings(tmp_path, f"http.mtls={text}").http.client_certificates
    assert (wanted is not None) == is_wanted
    assert wanted is None or wanted.user == user


def test_certificates_may_be_a_list_by_host(tmp_path: Path) -> None:
    file = "tls:\n- privateKey: a.pem\n  host: a\n- certificate: /b.pem\n"
    assert settings(tmp_path, file=file).tls == (
        TlsFiles(private_key=tmp_path / "a.pem", host="a"),
        TlsFiles(certificate=Path("/b.pem")),
    )


def test_sections_of_components_are_passed_on_and_databases_have_their_folders(tmp_path: Path) -> None:
    file = "myapp:\n  package: x\ndatabases:\n  a:\n    path: /a\n  b: {}\n"
    read = settings(tmp_path, file=file)
    assert read.components.entries == {"myapp": {"package": "x"}}
    assert read.storage.database_paths == {"a": Path("/a")}


def test_a_section_with_a_log_of_its_own(tmp_path: Path) -> None:
    read = settings(tmp_path, "replication.logging.level=debug", "replication.logging.path=log/peers.log").logging
    assert read.sections.keys() == {"replication"}
    assert read.sections["replication"].level == "debug"
    assert read.sections["replication"].path == tmp_path / "log" / "peers.log"


def test_a_socket_path_that_the_system_cannot_bind_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = "/" + "x" * 107
    values = {("rootPath",): str(tmp_path), **command_line_values("operationsApi.network.domainSocket", path, "--set")}
    configuration = start_configuration(StartSources(values=values))
    read = read_settings(configuration)
    assert read.operations_api.domain_socket is None
    assert settings_warnings(read, configuration) == (f"No domain socket: '{path}' is longer than 107 bytes",)


def test_a_password_is_in_no_printed_form_of_the_settings(tmp_path: Path) -> None:
    configuration = start_configuration(StartSources(values={("rootPath",): str(tmp_path)}))
    read = read_settings(configuration, first_administrator=FirstAdministrator(password="s3cret"))
    assert "s3cret" not in repr(read)
    assert read.first_administrator.password == "s3cret"


def test_settings_travel_to_worker_processes(tmp_path: Path) -> None:
    read = settings(tmp_path)
    assert pickle.loads(pickle.dumps(read)) == read
