"""Names of parameters outside the file: ``http_port``, ``HTTP_PORT``, ``http.port``, and the names of older releases.

Names are matched without regard to case, as environment variables are upper case by custom.
"""

import difflib
from collections.abc import Mapping

from node.parameter import Parameter, Path
from node.parameters import BY_PATH, PARAMETERS

_OLD_NAMES: Mapping[str, str] = {
    "hdb_root": "rootPath",
    "operationsapi_root": "rootPath",
    "server_port": "operationsApi_network_port",
    "certificate": "tls_certificate",
    "private_key": "tls_privateKey",
    "cors_on": "operationsApi_network_cors",
    "cors_whitelist": "operationsApi_network_corsAccessList",
    "cors_accesslist": "operationsApi_network_corsAccessList",
    "server_timeout_ms": "operationsApi_network_timeout",
    "server_keep_alive_timeout": "operationsApi_network_keepAliveTimeout",
    "server_headers_timeout": "operationsApi_network_headersTimeout",
    "max_http_threads": "threads_count",
    "max_hdb_processes": "threads_count",
    "http_threads": "threads_count",
    "threads": "threads_count",
    "log_level": "logging_level",
    "log_path": "logging_root",
    "log_to_file": "logging_file",
    "log_to_stdstreams": "logging_stdStreams",
    "disable_transaction_log": "logging_auditLog",
    "operation_token_timeout": "authentication_operationTokenTimeout",
    "refresh_token_timeout": "authentication_refreshTokenTimeout",
    "custom_functions_port": "http_port",
    "custom_functions_directory": "componentsRoot",
    "customfunctions_root": "componentsRoot",
    "local_studio_on": "localStudio_enabled",
}
_DATABASE_PATH_KEYS = ("path", "auditPath")

_BY_FLAT: Mapping[str, Parameter] = {parameter.flat.lower(): parameter for parameter in PARAMETERS} | {
    old: BY_PATH[tuple(new.split("_"))] for old, new in _OLD_NAMES.items()
}
_BY_DOTTED: Mapping[str, Parameter] = {parameter.dotted.lower(): parameter for parameter in PARAMETERS}


def find_parameter(name: str) -> Parameter | None:
    """The parameter with the flat, dotted or old ``name``; None when there is none."""
    lowered = name.lower()
    return _BY_FLAT.get(lowered) or _BY_DOTTED.get(lowered)


def find_database_path(name: str) -> Path | None:
    """The place in the file of a database's folder (``databases.<name>.path``); None when ``name`` is something else."""
    section, _, rest = name.partition(".")
    database, _, key = rest.rpartition(".")
    is_one = section == "databases" and database and key in _DATABASE_PATH_KEYS
    return (section, database, key) if is_one else None


def nearest_name(name: str) -> str | None:
    """The dotted name that somebody who typed ``name`` most likely meant."""
    wanted = name.lower().replace("_", ".")
    close = difflib.get_close_matches(wanted, _BY_DOTTED, n=1, cutoff=0.6)
    return _BY_DOTTED[close[0]].dotted if close else None
