"""The compose file and the image as far as that goes without docker: what a node would read is read, files are there."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from node.configuration_sources import start_configuration
from node.flat_names import find_parameter
from node.paths import ROOT_PATH
from node.run_arguments import RunArguments, parse_run_arguments
from node.settings import Settings
from node.settings_reader import read_settings, settings_warnings

REPOSITORY = Path(__file__).parent.parent.parent
FOLDER = REPOSITORY / "deploy" / "compose"
CREDENTIALS = {"HDB_ADMIN_USERNAME", "HDB_ADMIN_PASSWORD"}
OWN_OF_IMAGE = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
NODES = ("node-1", "node-2", "node-3")
_VARIABLE = re.compile(r"\$\{(\w+):([-?])([^}]*)\}")


def compose(**variables: str) -> Any:
    """The file with its variables put in, as docker compose does."""

    def value(found: re.Match[str]) -> str:
        name, kind, text = found.groups()
        if kind == "?" and name not in variables:
            raise KeyError(text)
        return variables.get(name, text)

    text = _VARIABLE.sub(value, (FOLDER / "compose.yaml").read_text())
    return YAML(typ="safe", pure=True).load(text)


def dockerfile() -> list[tuple[str, str]]:
    """Instructions with their arguments, in order."""
    text = re.sub(r"\\\n", " ", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: list[tuple[str, str]] = [tuple(line.split(maxsplit=1)) for line in lines]  # type: ignore[misc]
    return found


def image_environment() -> dict[str, str]:
    (text,) = [arguments for name, arguments in dockerfile() if name == "ENV"]
    return dict(pair.split("=", 1) for pair in text.split())


def arguments_of(name: str, root: Path) -> RunArguments:
    service = compose(HDB_ADMIN_PASSWORD="Otter-1")["services"][name]
    environment: Mapping[str, str] = {**image_environment(), **service["environment"], "ROOTPATH": str(root)}
    return parse_run_arguments(root_path=None, mode=None, assignments=(), rest=(), environment=environment)


def settings_of(name: str, root: Path) -> tuple[Settings, tuple[str, ...]]:
    """What the node of this service starts with, and what it is warned of."""
    arguments = arguments_of(name, root)
    configuration = start_configuration(arguments.sources)
    settings = read_settings(configuration, first_administrator=arguments.first_administrator)
    return settings, settings_warnings(settings, configuration)


@pytest.mark.parametrize("name", NODES)
def test_every_variable_is_a_setting_of_the_node(name: str) -> None:
    service = compose(HDB_ADMIN_PASSWORD="Otter-1")["services"][name]
    for variable, value in service["environment"].items():
        assert isinstance(value, str), f"{variable} is no text: docker would pass on what YAML makes of it"
        assert variable in CREDENTIALS or find_parameter(variable) is not None, variable
    for variable in image_environment().keys() - OWN_OF_IMAGE:
        assert find_parameter(variable) is not None, variable


@pytest.mark.parametrize("name", NODES)
def test_a_node_takes_part_under_its_name_and_joins_the_others(name: str, tmp_path: Path) -> None:
    settings, warnings = settings_of(name, tmp_path)
    replication = settings.replication
    assert warnings == ()
    assert replication.takes_part
    assert (replication.node_name, replication.url) == (name, f"wss://{name}:9933")
    assert set(replication.join) == set(NODES) - {name}
    assert replication.port is None, "only the secure port is open"
    assert settings.operations_api.port is None
    assert settings.first_administrator.username == "admin"
    assert settings.first_administrator.password == "Otter-1"
    assert settings.logging.std_streams is True


def test_a_cluster_without_a_password_is_not_started() -> None:
    with pytest.raises(KeyError, match="set a password"):
        compose()


def test_all_services_are_alike_but_for_name_port_and_volume() -> None:
    content = compose(HDB_ADMIN_PASSWORD="Otter-1")
    assert tuple(content["services"]) == NODES
    assert set(content["volumes"]) == set(NODES)
    ports = []
    for name, service in content["services"].items():
        assert service["hostname"] == name, "peers find a node by its name"
        assert service["volumes"] == [f"{name}:{image_environment()['ROOTPATH']}"]
        (published,) = service["ports"]
        address, port, inside = published.split(":")
        assert (address, inside) == ("127.0.0.1", "9925"), "who wants it reachable from elsewhere says so"
        ports.append(port)
        alike = {key: value for key, value in service.items() if key not in ("hostname", "ports", "volumes")}
        alike["environment"] = {k: v for k, v in service["environment"].items() if k != "REPLICATION_HOSTNAME"}
        first = content["services"][NODES[0]]
        assert alike["environment"].items() <= first["environment"].items()
        assert alike["build"] == first["build"]
    assert len(set(ports)) == len(NODES)


def test_the_build_finds_the_dockerfile_from_its_context() -> None:
    build = compose(HDB_ADMIN_PASSWORD="Otter-1")["services"]["node-1"]["build"]
    context = (FOLDER / build["context"]).resolve()
    assert context == REPOSITORY
    assert (context / build["dockerfile"]) == FOLDER / "Dockerfile"


def test_the_image_is_made_of_all_packages_and_the_context_has_what_it_copies() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    sources: set[str] = set()
    for name, arguments in dockerfile():
        if name == "COPY" and not arguments.startswith("--from"):
            sources.update(arguments.split()[:-1])
    assert sources >= packages | {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    assert all((REPOSITORY / source).exists() for source in sources)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == sources


def test_the_node_runs_as_nobody_in_particular_on_the_folder_it_owns(tmp_path: Path) -> None:
    instructions = dockerfile()
    root = image_environment()["ROOTPATH"]
    assert ("USER", "logmesh") in instructions
    assert ("VOLUME", root) in instructions
    made = next(arguments for name, arguments in instructions if name == "RUN" and "useradd" in arguments)
    assert f"--owner logmesh --group logmesh --mode 0700 {root}" in made
    assert find_parameter("ROOTPATH") is not None
    assert arguments_of("node-1", tmp_path).sources.environment["ROOTPATH"] == str(tmp_path)
    assert find_parameter("ROOTPATH").path == ROOT_PATH  # type: ignore[union-attr]


def test_the_open_ports_and_the_health_check_are_those_of_the_node(tmp_path: Path) -> None:
    settings, _ = settings_of("node-1", tmp_path)
    assert settings.operations_api.secure_port is not None
    assert settings.replication.secure_port is not None
    operations, replication = settings.operations_api.secure_port.port, settings.replication.secure_port.port
    instructions = dict(dockerfile())
    assert instructions["EXPOSE"].split() == [str(operations), str(replication)]
    assert f"https://127.0.0.1:{operations}/health" in instructions["HEALTHCHECK"]
