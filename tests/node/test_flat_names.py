import pytest

from node.flat_names import find_database_path, find_parameter, nearest_name

OLD_NAMES = {
    "hdb_root": "rootPath",
    "operationsapi_root": "rootPath",
    "server_port": "operationsApi.network.port",
    "certificate": "tls.certificate",
    "private_key": "tls.privateKey",
    "cors_on": "operationsApi.network.cors",
    "cors_whitelist": "operationsApi.network.corsAccessList",
    "cors_accesslist": "operationsApi.network.corsAccessList",
    "server_timeout_ms": "operationsApi.network.timeout",
    "server_keep_alive_timeout": "operationsApi.network.keepAliveTimeout",
    "server_headers_timeout": "operationsApi.network.headersTimeout",
    "max_http_threads": "threads.count",
    "max_hdb_processes": "threads.count",
    "http_threads": "threads.count",
    "threads": "threads.count",
    "log_level": "logging.level",
    "log_path": "logging.root",
    "log_to_file": "logging.file",
    "log_to_stdstreams": "logging.stdStreams",
    "disable_transaction_log": "logging.auditLog",
    "operation_token_timeout": "authentication.operationTokenTimeout",
    "refresh_token_timeout": "authentication.refreshTokenTimeout",
    "custom_functions_port": "http.port",
    "custom_functions_directory": "componentsRoot",
    "customfunctions_root": "componentsRoot",
    "local_studio_on": "localStudio.enabled",
}


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_old_name_still_means_its_parameter(old: str, new: str) -> None:
    for spelling in (old, old.upper()):
        parameter = find_parameter(spelling)
        assert parameter is not None
        assert parameter.dotted == new


@pytest.mark.parametrize("name", ["LOGGING_ROTATION_MAXSIZE", "logging_rotation_maxSize", "logging.rotation.maxsize"])
def test_flat_and_dotted_names_match_without_regard_to_case(name: str) -> None:
    parameter = find_parameter(name)
    assert parameter is not None
    assert parameter.dotted == "logging.rotation.maxSize"


def test_what_is_no_parameter_is_not_found() -> None:
    assert find_parameter("PATH") is None
    assert find_parameter("logging") is None


@pytest.mark.parametrize(
    ("typed", "meant"), [("http.prot", "http.port"), ("logging_levle", "logging.level"), ("zzzzzzzz", None)]
)
def test_the_nearest_name_is_what_was_meant(typed: str, meant: str | None) -> None:
    assert nearest_name(typed) == meant


def test_the_folder_of_a_database_has_a_place_even_with_dots_in_its_name() -> None:
    assert find_database_path("databases.my.db-1.path") == ("databases", "my.db-1", "path")
    assert find_database_path("databases.db.size") is None
    assert find_database_path("http.port") is None
