from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from node.errors import StartError
from node.run_arguments import RunArguments, parse_run_arguments


def parse(
    *rest: str,
    root_path: str | None = None,
    mode: str | None = None,
    assignments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> RunArguments:
    return parse_run_arguments(
        root_path=root_path, mode=mode, assignments=assignments, rest=rest, environment=environment or {}
    )


def test_a_parameter_may_be_given_in_three_ways() -> None:
    parsed = parse("--HTTP_PORT", "9000", "--http_cors=true", assignments=["logging.level=info"])
    assert parsed.sources.values == {("http", "port"): 9000, ("http", "cors"): True, ("logging", "level"): "info"}


def test_a_value_may_hold_equal_signs() -> None:
    assert parse(assignments=["replication.url=wss://a?b=c"]).sources.values == {("replication", "url"): "wss://a?b=c"}


def test_the_option_for_the_root_wins_over_its_other_names() -> None:
    assert parse("--ROOTPATH", "/b", root_path="/a").sources.values == {("rootPath",): "/a"}


def test_credentials_are_no_parameters(tmp_path: Path) -> None:
    parsed = parse("--HDB_ADMIN_USERNAME=tarka", "--hdb_admin_password", "s3cret", "--TC_AGREEMENT=yes")
    assert parsed.first_administrator.username == "tarka"
    assert parsed.first_administrator.password == "s3cret"
    assert parsed.sources.values == {}
    assert "s3cret" not in repr(parsed)


def test_credentials_come_from_the_environment_too_and_default_to_admin() -> None:
    environment = {"HDB_ADMIN_USERNAME": "tarka", "HDB_ADMIN_PASSWORD": "x"}
    assert parse(environment=environment).first_administrator.username == "tarka"
    assert parse().first_administrator.username == "admin"
    assert parse(environment={"HDB_ADMIN_PASSWORD": ""}).first_administrator.password is None


def test_the_mode_may_be_an_old_style_argument() -> None:
    assert parse("--DEFAULTS_MODE=dev").sources.mode == "dev"
    assert parse("--DEFAULTS_MODE=dev", mode="prod").sources.mode == "prod"


def test_one_folder_of_a_component_may_be_given(tmp_path: Path) -> None:
    assert parse(str(tmp_path)).app_folder == tmp_path
    with pytest.raises(StartError, match="is not a folder"):
        parse(str(tmp_path / "missing"))
    with pytest.raises(StartError, match="One component folder"):
        parse(str(tmp_path), str(tmp_path))


def test_what_is_incomplete_or_unknown_is_refused() -> None:
    with pytest.raises(StartError, match="--HTTP_PORT needs a value"):
        parse("--HTTP_PORT")
    with pytest.raises(StartError, match=r"--set needs <section>\.<key>=<value>"):
        parse(assignments=["http.port"])
    with pytest.raises(StartError, match=r"--HTTP_PROT: unknown parameter 'HTTP_PROT'; did you mean 'http\.port'\?"):
        parse("--HTTP_PROT=1")


def test_a_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(StartError) as raised:
        parse("--HDB_ADMIN_PASSWROD=s3cret")
    assert "s3cret" not in str(raised.value)
