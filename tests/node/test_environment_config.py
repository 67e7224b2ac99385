"""Each test is a few starts of one root with changing variables: what the file says in the end is what counts."""

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from node.configuration_sources import StartedConfiguration, StartSources, start_configuration
from node.errors import StartError


class Root:
    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, *, default: Any = None, set: Any = None, **environment: str) -> StartedConfiguration:
        variables = {"HARPER_DEFAULT_CONFIG": default, "HARPER_SET_CONFIG": set}
        texts = {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in variables.items() if value
        }
        sources = StartSources(values={("rootPath",): str(self.path)}, environment=texts | environment)
        return start_configuration(sources)

    def edit(self, section: str, key: str, value: Any) -> None:
        document = self.document()
        document[section][key] = value
        with open(self.path / "logmesh.yaml", "w") as stream:
            YAML(typ="safe", pure=True).dump(document, stream)

    def document(self) -> Any:
        return YAML(typ="safe", pure=True).load(self.path / "logmesh.yaml")

    def state(self) -> Any:
        return json.loads((self.path / "backup" / ".harper-config-state.json").read_text())


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_default_overrides_the_template_at_the_first_start(root: Root) -> None:
    root.start(default={"logging": {"level": "debug"}})
    assert root.document()["logging"]["level"] == "debug"
    assert root.state() == {
        "version": "1.0",
        "sources": {"logging.level": "HARPER_DEFAULT_CONFIG"},
        "originalValues": {"logging.level": "warn"},
        "snapshots": {"HARPER_DEFAULT_CONFIG": {"logging.level": "debug"}},
    }


def test_default_follows_its_own_changes(root: Root) -> None:
    root.start(default={"logging": {"level": "debug"}})
    root.start(default={"logging": {"level": "trace"}})
    assert root.document()["logging"]["level"] == "trace"


def test_default_leaves_alone_what_a_user_edited_after_it(root: Root) -> None:
    root.start(default={"logging": {"level": "debug"}})
    root.edit("logging", "level", "error")
    root.start(default={"logging": {"level": "trace"}})
    root.start(default={"logging": {"level": "info"}})
    assert root.document()["logging"]["level"] == "error"


def test_default_at_a_later_start_fills_only_what_nobody_has_set(root: Root) -> None:
    root.start()
    root.edit("http", "timeout", 5)
    root.start(default={"http": {"timeout": 7, "keepAliveTimeout": 8, "maxHeaderSize": 20000}})
    http = root.document()["http"]
    assert (http["timeout"], http["keepAliveTimeout"], http["maxHeaderSize"]) == (5, 8, 20000)


def test_a_dropped_path_gets_back_what_it_replaced_or_goes_when_there_was_nothing(root: Root) -> None:
    root.start(default={"logging": {"level": "debug"}, "http": {"maxHeaderSize": 20000}})
    root.start()
    assert root.document()["logging"]["level"] == "warn"
    assert "maxHeaderSize" not in root.document()["http"]
    assert root.state()["sources"] == {}


def test_a_dropped_path_that_a_user_edited_stays_as_edited(root: Root) -> None:
    root.start(default={"logging": {"level": "debug"}})
    root.edit("logging", "level", "error")
    root.start()
    assert root.document()["logging"]["level"] == "error"


def test_set_wins_over_environment_file_and_default(root: Root) -> None:
    root.start()
    root.edit("logging", "level", "error")
    started = root.start(
        set={"logging": {"level": "trace"}}, default={"logging": {"level": "debug"}}, LOGGING_LEVEL="info"
    )
    assert started.effective["logging"]["level"] == "trace"
    assert root.document()["logging"]["level"] == "trace"


def test_set_writes_over_a_later_edit_and_gives_it_back_in_the_end(root: Root) -> None:
    root.start(set={"logging": {"level": "trace"}})
    root.edit("logging", "level", "error")
    root.start(set={"logging": {"level": "trace"}})
    assert root.document()["logging"]["level"] == "trace"
    root.start()
    assert root.document()["logging"]["level"] == "error"


def test_a_null_that_was_replaced_comes_back_as_null(root: Root) -> None:
    root.start(set={"logging": {"rotation": {"interval": "1D"}}})
    root.start()
    assert root.document()["logging"]["rotation"]["interval"] is None


def test_a_twin_closed_by_set_opens_again_when_set_goes(root: Root) -> None:
    root.start(set={"operationsApi": {"network": {"port": 9925}}})
    assert (
        root.document()["operationsApi"]["network"] | {"port": 9925, "securePort": None}
        == (root.document()["operationsApi"]["network"])
    )
    root.start(set={"operationsApi": {"network": {"port": 9925}}})
    assert root.document()["operationsApi"]["network"]["securePort"] is None
    root.start()
    network = root.document()["operationsApi"]["network"]
    assert (network["port"], network["securePort"]) == (None, 9925)


def test_keys_with_dots_keep_their_place(root: Root) -> None:
    root.start(set={"databases": {"my.db": {"path": "x"}}})
    assert root.document()["databases"] == {"my.db": {"path": "x"}}
    root.start()
    assert "databases" not in root.document()


def test_the_mode_may_come_from_set_and_the_short_form_of_threads_is_understood(root: Root) -> None:
    started = root.start(set={"node": {"mode": "dev"}, "threads": 3})
    assert started.mode == "dev"
    assert root.document()["threads"]["count"] == 3
    assert root.document()["operationsApi"]["network"]["port"] == 9925


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Invalid JSON syntax in HARPER_SET_CONFIG: "),
        ("[1]", "HARPER_SET_CONFIG must be a JSON object, got: array"),
        ('"x"', "HARPER_SET_CONFIG must be a JSON object, got: string"),
        ("5", "HARPER_SET_CONFIG must be a JSON object, got: number"),
        ("true", "HARPER_SET_CONFIG must be a JSON object, got: boolean"),
        ("null", "HARPER_SET_CONFIG must be a JSON object, got: null"),
    ],
)
def test_a_variable_that_holds_no_object_stops_the_start(root: Root, text: str, problem: str) -> None:
    with pytest.raises(StartError) as raised:
        root.start(set=text)
    assert str(raised.value).startswith(problem)
    assert not (root.path / "logmesh.yaml").exists()


def test_a_damaged_state_file_stops_the_start(root: Root) -> None:
    root.start(set={"logging": {"level": "trace"}})
    (root.path / "backup" / ".harper-config-state.json").write_text("{}")
    with pytest.raises(StartError, match="is damaged"):
        root.start()
