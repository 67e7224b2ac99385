"""Starts of a root with arguments and variables: what holds, what the file says afterwards, and what is refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from node.configuration_sources import (
    StartedConfiguration,
    StartSources,
    command_line_values,
    root_of,
    start_configuration,
)
from node.errors import StartError


def start(
    root: Path, *arguments: str, mode: str | None = None, environment: Mapping[str, str] | None = None
) -> StartedConfiguration:
    values: dict[tuple[str, ...], Any] = {("rootPath",): str(root)}
    for argument in arguments:
        name, _, text = argument.partition("=")
        values.update(command_line_values(name, text, "--set"))
    return start_configuration(StartSources(values=values, environment=environment or {}, mode=mode))


def document(root: Path) -> Any:
    return YAML(typ="safe", pure=True).load(root / "logmesh.yaml")


def write(root: Path, text: str) -> None:
    (root / "logmesh.yaml").write_text(text)


def at(started: StartedConfiguration, dotted: str) -> Any:
    value: Any = started.effective
    for key in dotted.split("."):
        value = value[key]
    return value


def test_the_first_start_writes_the_mode_and_its_values(tmp_path: Path) -> None:
    started = start(tmp_path, mode="dev")
    assert started.is_first_start
    written = document(tmp_path)
    assert written["node"]["mode"] == "dev"
    assert written["operationsApi"]["network"]["port"] == 9925
    assert written["rootPath"] == str(tmp_path)
    assert not start(tmp_path).is_first_start


def test_a_new_file_explains_its_lines(tmp_path: Path) -> None:
    start(tmp_path)
    text = (tmp_path / "logmesh.yaml").read_text()
    assert "cors: false # Answer cross-origin requests" in text
    assert "caching: true # Cache records (kept, but without effect here)" in text


def test_the_mode_is_prod_unless_something_says_otherwise(tmp_path: Path) -> None:
    assert start(tmp_path).mode == "prod"
    assert at(start(tmp_path), "operationsApi.network.securePort") == 9925


def test_argument_then_environment_then_file_decide_the_mode(tmp_path: Path) -> None:
    assert start(tmp_path, mode="dev", environment={"DEFAULTS_MODE": "prod"}).mode == "dev"
    assert start(tmp_path).mode == "dev"
    assert start(tmp_path, environment={"DEFAULTS_MODE": "prod"}).mode == "prod"
    assert start(tmp_path, "node.mode=dev").mode == "dev"


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"DEFAULTS_MODE must be one of \[prod, dev\]"):
        start(tmp_path, environment={"DEFAULTS_MODE": "staging"})


def test_another_mode_replaces_only_values_that_still_are_the_old_modes(tmp_path: Path) -> None:
    start(tmp_path, "logging.level=trace", mode="prod")
    start(tmp_path, mode="dev")
    written = document(tmp_path)
    assert written["logging"] | {"level": "trace", "stdStreams": True} == written["logging"]
    assert written["http"]["corsAccessList"] == ["*"]
    assert (
        written["operationsApi"]["network"] | {"port": 9925, "securePort": 9943} == written["operationsApi"]["network"]
    )


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, "http:\n  timeout: 1000\n  keepAliveTimeout: 1000\n  headersTimeout: 1000\n")
    variables = {"HTTP_TIMEOUT": "2000", "http_keepAliveTimeout": "2000"}
    started = start(tmp_path, "http.timeout=3000", environment=variables)
    assert at(started, "http.timeout") == 3000
    assert at(started, "http.keepAliveTimeout") == 2000
    assert at(started, "http.headersTimeout") == 1000


def test_values_given_at_start_are_kept_in_the_file_after_a_backup(tmp_path: Path) -> None:
    write(tmp_path, "# mine\nhttp:\n  timeout: 1000 # short\n")
    start(tmp_path, environment={"HTTP_TIMEOUT": "2000"})
    assert "# mine\nhttp:\n  timeout: 2000 # short\n" in (tmp_path / "logmesh.yaml").read_text()
    (backup,) = (tmp_path / "backup").glob("*.bak")
    assert backup.read_text() == "# mine\nhttp:\n  timeout: 1000 # short\n"


def test_a_start_that_changes_nothing_leaves_the_file_alone(tmp_path: Path) -> None:
    start(tmp_path)
    before = (tmp_path / "logmesh.yaml").stat()
    start(tmp_path)
    after = (tmp_path / "logmesh.yaml").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert list((tmp_path / "backup").glob("*.bak")) == []


def test_credentials_and_foreign_variables_never_reach_the_file(tmp_path: Path) -> None:
    variables = {
        "HDB_ADMIN_USERNAME": "tarka",
        "HDB_ADMIN_PASSWORD": "s3cret",
        "CLI_TARGET_PASSWORD": "s3cret",
        "LANG": "C",
    }
    start(tmp_path, environment=variables)
    assert "s3cret" not in (tmp_path / "logmesh.yaml").read_text()
    assert "tarka" not in (tmp_path / "logmesh.yaml").read_text()


def test_an_old_name_in_the_environment_counts_unless_the_new_one_is_there(tmp_path: Path) -> None:
    assert at(start(tmp_path, environment={"LOG_LEVEL": "error"}), "logging.level") == "error"
    both = {"LOGGING_LEVEL": "fatal", "LOG_LEVEL": "error"}
    assert at(start(tmp_path, environment=both), "logging.level") == "fatal"


def test_an_empty_variable_counts_as_none(tmp_path: Path) -> None:
    assert at(start(tmp_path, environment={"HTTP_TIMEOUT": ""}), "http.timeout") == 120000


def test_the_root_comes_from_argument_environment_or_home(tmp_path: Path) -> None:
    assert root_of(StartSources(values={("rootPath",): "/a"}, environment={"ROOTPATH": "/b"})) == Path("/a")
    assert root_of(StartSources(environment={"ROOTPATH": "/b"})) == Path("/b")
    assert root_of(StartSources(environment={"HDB_ROOT": "/c"})) == Path("/c")
    assert root_of(StartSources()) == Path.home() / "logmesh"
    assert root_of(StartSources(values={("rootPath",): "relative"})).is_absolute()


def test_a_moved_root_takes_its_paths_along(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    start(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    started = start(tmp_path / "new")
    assert at(started, "storage.path") == str(tmp_path / "new" / "database")
    assert document(tmp_path / "new")["rootPath"] == str(tmp_path / "new")


def test_an_unknown_name_names_the_nearest_one() -> None:
    with pytest.raises(StartError, match=r"--set: unknown parameter 'http\.prot'; did you mean 'http\.port'\?"):
        command_line_values("http.prot", "1", "--set")


def test_unknown_keys_in_sections_are_told_and_components_are_not(tmp_path: Path) -> None:
    write(
        tmp_path,
        "http:\n  prot: 1\nmyapp:\n  package: x\n  anything: 1\nrest: true\nstray: 5\nthreads:\n"
        "databases:\n  a:\n    path: x\nhttp_x:\n  y: 1\nstorage:\n  compression:\n    dictionary: x\n",
    )
    assert start(tmp_path).warnings == (
        "Unknown key 'http.prot' in logmesh.yaml; did you mean 'http.port'?",
        "Unknown key 'stray' in logmesh.yaml",
    )


def test_a_section_without_content_has_its_defaults(tmp_path: Path) -> None:
    write(tmp_path, "threads:\nhttp:\n  mtls:\n")
    started = start(tmp_path, mode="prod")
    assert at(started, "threads.count") >= 1
    assert at(started, "http.mtls") is None


def test_the_short_form_of_threads_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, "threads: 4\n")
    assert at(start(tmp_path), "threads.count") == 4


def test_a_section_that_holds_a_value_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "http: 9926\n")
    with pytest.raises(StartError, match="'http' must be an object"):
        start(tmp_path)


def test_all_problems_are_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    write(tmp_path, "http:\n  cors: maybe\nthreads:\n  count: -1\n")
    with pytest.raises(StartError) as raised:
        start(tmp_path, "http.timeout=5")
    assert str(raised.value) == (
        "logmesh configuration is not valid: "
        "'http.cors' must be a boolean. 'threads.count' must be greater than or equal to 0"
    )
    assert (tmp_path / "logmesh.yaml").read_text() == "http:\n  cors: maybe\nthreads:\n  count: -1\n"


def test_a_wrong_number_of_replication_falls_back_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "replication:\n  blobTimeout: soon\n")
    started = start(tmp_path)
    assert at(started, "replication.blobTimeout") == 120000
    assert started.warnings == ("'replication.blobTimeout' must be a number; the default holds",)


def test_the_root_of_another_product_is_refused(tmp_path: Path) -> None:
    (tmp_path / "harperdb-config.yaml").write_text("rootPath: /x\n")
    with pytest.raises(StartError, match=r"holds harperdb-config\.yaml but no logmesh\.yaml"):
        start(tmp_path)
    write(tmp_path, "http:\n  port: 1\n")
    start(tmp_path)


def test_unset_ports_follow_the_address_of_the_operations_port(tmp_path: Path) -> None:
    started = start(tmp_path, "operationsApi.network.port=127.0.0.2:9925", mode="dev")
    assert at(started, "operationsApi.network.securePort") == "127.0.0.2:9943"
    assert at(started, "http.port") == "127.0.0.2:9926"
    assert at(started, "mqtt.network.securePort") == "127.0.0.2:8883"
    assert at(started, "replication.securePort") == "127.0.0.2:9933"
    moved = start(tmp_path, "operationsApi.network.port=127.0.0.3:9925")
    assert at(moved, "http.port") == "127.0.0.3:9926"


def test_a_port_of_ones_own_choice_keeps_its_address(tmp_path: Path) -> None:
    started = start(tmp_path, "operationsApi.network.port=127.0.0.2:9925", "http.port=9000", mode="dev")
    assert at(started, "http.port") == 9000


@pytest.mark.parametrize("port", ["9925", "127.0.0.2:9925"])
def test_a_port_given_at_start_that_equals_its_twin_turns_the_twin_off(port: str, tmp_path: Path) -> None:
    started = start(tmp_path, environment={"OPERATIONSAPI_NETWORK_PORT": port}, mode="prod")
    assert str(at(started, "operationsApi.network.port")) == port
    assert at(started, "operationsApi.network.securePort") is None
    assert document(tmp_path)["operationsApi"]["network"]["securePort"] is None


def test_a_secure_port_given_at_start_turns_its_plain_twin_off(tmp_path: Path) -> None:
    started = start(tmp_path, "http.securePort=9926", mode="dev")
    assert (at(started, "http.port"), at(started, "http.securePort")) == (None, 9926)


def test_twins_that_were_both_given_cannot_be_the_same(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"http\.port and http\.securePort cannot be the same value"):
        start(tmp_path, "http.port=9000", "http.securePort=9000")


def test_both_twins_may_be_left_to_the_system(tmp_path: Path) -> None:
    started = start(tmp_path, "http.port=127.0.0.1:0", "http.securePort=127.0.0.1:0")
    assert at(started, "http.port") == at(started, "http.securePort") == "127.0.0.1:0"


def test_prod_warns_of_plain_ports_and_of_the_local_bypass(tmp_path: Path) -> None:
    started = start(tmp_path, "http.port=9000", "authentication.authorizeLocal=true", mode="prod")
    assert started.warnings == (
        "'http.port' opens a port without encryption",
        "'authentication.authorizeLocal' has no effect in prod mode: credentials are always needed",
    )
    assert start(tmp_path, mode="dev").warnings == ()


def test_databases_from_the_environment_are_a_list_and_add_to_the_file(tmp_path: Path) -> None:
    write(tmp_path, "databases:\n  a:\n    path: /a\n")
    started = start(tmp_path, environment={"DATABASES": '[{"b":{"path":"/b"}}]'})
    assert at(started, "databases") == {"a": {"path": "/a"}, "b": {"path": "/b"}}


def test_a_file_that_cannot_be_written_does_not_prevent_the_start(tmp_path: Path) -> None:
    write(tmp_path, "http:\n  timeout: 1000\n")
    (tmp_path / "backup").write_text("a file where the folder should be")
    started = start(tmp_path, "http.timeout=2000")
    assert at(started, "http.timeout") == 2000
    assert started.warnings[-1].endswith("this start's values are not kept")
