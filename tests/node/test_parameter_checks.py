from pathlib import Path
from typing import Any

import pytest

from node.parameter_checks import document_problems, twin_problems, value_problem
from node.parameters import BY_PATH

PROBLEMS: list[tuple[str, Any, str]] = [
    ("logging.level", "loud", "'logging.level' must be one of [notify, fatal, error, warn, info, debug, trace]"),
    ("http.cors", "yes", "'http.cors' must be a boolean"),
    ("http.cors", None, "'http.cors' must be a boolean"),
    ("analytics.aggregatePeriod", "x", "'analytics.aggregatePeriod' must be a number"),
    ("analytics.aggregatePeriod", True, "'analytics.aggregatePeriod' must be a number"),
    ("analytics.aggregatePeriod", float("nan"), "'analytics.aggregatePeriod' must be a number"),
    ("threads.count", -1, "'threads.count' must be greater than or equal to 0"),
    ("threads.count", 1001, "'threads.count' must be less than or equal to 1000"),
    ("threads.count", 1.5, "'threads.count' must be an integer"),
    ("operationsApi.network.timeout", 0, "'operationsApi.network.timeout' must be greater than or equal to 1"),
    ("authentication.hashFunction", "crc", "'authentication.hashFunction' must be one of [md5, sha256, argon2id]"),
    ("authentication.cacheTTL", None, "'authentication.cacheTTL' is required"),
    ("logging.file", None, "'logging.file' is required"),
    ("logging.rotation.maxSize", "64X", "Invalid logging.rotation.maxSize unit. Available units are G, M or K"),
    (
        "logging.rotation.maxSize",
        "xM",
        "Invalid logging.rotation.maxSize value. Value should be a number followed by unit e.g. '10M'",
    ),
    (
        "logging.rotation.interval",
        "1X",
        "Invalid logging.rotation.interval unit. Available units are D, H or M (minutes)",
    ),
    (
        "logging.rotation.interval",
        "D",
        "Invalid logging.rotation.interval value. Value should be a number followed by unit e.g. '10D'",
    ),
    ("storage.path", "/nope/x", "Specified path /nope/x does not exist."),
    ("storage.path", "", "'storage.path' is not allowed to be empty"),
    ("http.port", "abc", "'http.port' must be a number"),
    ("http.securePort", 70000, "'http.securePort' must be a number"),
    ("http.corsAccessList", "x", "'http.corsAccessList' must be an array"),
    ("http.corsAccessList", ["a", 5], "'http.corsAccessList[1]' must be a string"),
    ("http.mtls", "x", "'http.mtls' must be one of [boolean, object]"),
    ("node.hostname", 5, "'node.hostname' must be a string"),
    ("node.hostname", "", "'node.hostname' is not allowed to be empty"),
    (
        "authentication.operationTokenTimeout",
        "soon",
        "'authentication.operationTokenTimeout' must be a duration such as 45s, 30m, 12h or 1d, or a number",
    ),
    ("tls", [{"privateKey": 5}], "'tls[0].privateKey' must be a string"),
    ("replication.databases", [{"sharded": True}], "'replication.databases[0]' must be a name, or an object with one"),
    ("databases", {"a": {"path": 5}}, "'databases.a.path' must be a string"),
    ("logging.root", "a\0b", "'logging.root' must be a string"),
]


@pytest.mark.parametrize(("name", "value", "problem"), PROBLEMS)
def test_a_wrong_value_is_told_with_its_literal_text(name: str, value: Any, problem: str, tmp_path: Path) -> None:
    assert value_problem(BY_PATH[tuple(name.split("."))], value, tmp_path) == problem


ALLOWED: list[tuple[str, Any]] = [
    ("http.port", None),
    ("http.port", "[::1]:9925"),
    ("operationsApi.network.domainSocket", None),
    ("logging.rotation.maxSize", None),
    ("logging.rotation.maxSize", "1.5G"),
    ("analytics.aggregatePeriod", -1),
    ("authentication.operationTokenTimeout", 3600),
    ("http.mtls", {"required": True}),
    ("tls", [{"privateKey": "a.pem", "host": "x"}]),
    ("replication.databases", ["data", {"name": "dev", "sharded": True}]),
    ("replication.join", "a,b"),
    ("threads.count", 0),
]


@pytest.mark.parametrize(("name", "value"), ALLOWED)
def test_a_fitting_value_has_no_problem(name: str, value: Any, tmp_path: Path) -> None:
    assert value_problem(BY_PATH[tuple(name.split("."))], value, tmp_path) is None


def test_the_default_folder_of_databases_need_not_exist_yet_but_another_must(tmp_path: Path) -> None:
    parameter = BY_PATH["storage", "path"]
    assert value_problem(parameter, "database", tmp_path) is None
    assert value_problem(parameter, "elsewhere", tmp_path) == f"Specified path {tmp_path}/elsewhere does not exist."
    (tmp_path / "elsewhere").mkdir()
    assert value_problem(parameter, "elsewhere", tmp_path) is None


def test_all_problems_of_a_document_are_found(tmp_path: Path) -> None:
    document = {"http": {"cors": "x", "port": 1}, "threads": {"count": -1}}
    assert list(document_problems(document, tmp_path)) == [
        "'http.cors' must be a boolean",
        "'threads.count' must be greater than or equal to 0",
    ]


def test_twins_on_one_place_are_a_problem_but_not_when_the_system_chooses_the_port() -> None:
    same = {"http": {"port": 5, "securePort": "5"}, "operationsApi": {"network": {"port": "h:1", "securePort": "h:1"}}}
    assert list(twin_problems(same)) == [
        "operationsApi.network.port and operationsApi.network.securePort cannot be the same value",
        "http.port and http.securePort cannot be the same value",
    ]
    assert list(twin_problems({"http": {"port": 0, "securePort": 0}})) == []
