"""Is this value one that the parameter takes? Pure, but for one look at the disk: the databases' folder must exist.

Each check answers a problem's literal text or None; clients compare these texts, so they change only with their tests.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path as FilePath

from node.durations import duration_s
from node.parameter import Json, Kind, Parameter, Path
from node.parameters import BY_PATH, PARAMETERS, PORT_TWINS
from node.paths import resolved_path
from node.ports import parse_port
from node.tree import get_value, has_value
from ops.serving_settings import Address

ROTATION_INTERVAL_PATH: Path = ("logging", "rotation", "interval")
ROTATION_SIZE_PATH: Path = ("logging", "rotation", "maxSize")
STORAGE_PATH: Path = ("storage", "path")
_TEXT_LENGTH_MAX = 65_536
_AMOUNT = re.compile(r"[0-9]+(?:\.[0-9]+)?")


def document_problems(document: Mapping[str, Json], root: FilePath) -> Iterator[str]:
    """Everything wrong with the parameters in ``document``, in the order of the table."""
    for parameter in PARAMETERS:
        if has_value(document, parameter.path):
            problem = value_problem(parameter, get_value(document, parameter.path), root)
            if problem is not None:
                yield problem


def twin_problems(document: Mapping[str, Json]) -> Iterator[str]:
    """Listeners whose plain port and TLS port are the same place. ``document`` holds effective values."""
    for plain_path, secure_path in PORT_TWINS:
        plain, secure = _port_or_none(document, plain_path), _port_or_none(document, secure_path)
        if plain is not None and plain == secure and plain.port != 0:
            yield f"{'.'.join(plain_path)} and {'.'.join(secure_path)} cannot be the same value"


def value_problem(parameter: Parameter, value: Json, root: FilePath) -> str | None:
    """What is wrong with ``value`` for ``parameter``, or None."""
    if value is None:
        return _null_problem(parameter)
    kind = next((kind for kind in parameter.kinds if _IS_OF_KIND[kind](value)), None)
    if kind is None:
        return f"'{parameter.dotted}' {_expectation(parameter)}"
    if kind is Kind.NUMBER:
        return _range_problem(parameter, value)
    if parameter.choices and value not in parameter.choices:
        return f"'{parameter.dotted}' must be one of [{', '.join(parameter.choices)}]"
    if kind is Kind.PATH and not value:
        return f"'{parameter.dotted}' is not allowed to be empty"
    special = _SPECIAL.get(parameter.path)
    return None if special is None else special(value, root)


def _null_problem(parameter: Parameter) -> str | None:
    if parameter.is_required:
        return f"'{parameter.dotted}' is required"
    if parameter.is_nullable:
        return None
    if parameter.choices:
        return f"'{parameter.dotted}' must be one of [{', '.join(parameter.choices)}]"
    return f"'{parameter.dotted}' {_expectation(parameter)}"


_EXPECTATION: Mapping[Kind, str] = {
    Kind.BOOLEAN: "must be a boolean",
    Kind.NUMBER: "must be a number",
    Kind.PORT: "must be a number",
    Kind.TEXT: "must be a string",
    Kind.PATH: "must be a string",
    Kind.DURATION: "must be a duration such as 45s, 30m, 12h or 1d",
    Kind.LIST: "must be an array",
    Kind.OBJECT: "must be an object",
}


def _expectation(parameter: Parameter) -> str:
    if parameter.choices:
        return f"must be one of [{', '.join(parameter.choices)}]"
    if len(parameter.kinds) == 1:
        return _EXPECTATION[parameter.kinds[0]]
    if Kind.DURATION in parameter.kinds:
        return f"{_EXPECTATION[Kind.DURATION]}, or a number"
    names = ("string" if kind is Kind.PATH else kind.value for kind in parameter.kinds)
    return f"must be one of [{', '.join(names)}]"


def _range_problem(parameter: Parameter, value: float) -> str | None:
    if parameter.is_whole and value != int(value):
        return f"'{parameter.dotted}' must be an integer"
    if parameter.at_least is not None and value < parameter.at_least:
        return f"'{parameter.dotted}' must be greater than or equal to {parameter.at_least}"
    if parameter.at_most is not None and value > parameter.at_most:
        return f"'{parameter.dotted}' must be less than or equal to {parameter.at_most}"
    return None


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and len(value) <= _TEXT_LENGTH_MAX and "\0" not in value


def _is_port(value: Json) -> bool:
    try:
        parse_port(value)
    except ValueError:
        return False
    return True


def _is_duration(value: Json) -> bool:
    if not isinstance(value, str):
        return False
    try:
        duration_s(value, number_unit_s=1.0)
    except ValueError:
        return False
    return True


_IS_OF_KIND: Mapping[Kind, Callable[[Json], bool]] = {
    Kind.BOOLEAN: lambda value: isinstance(value, bool),
    Kind.NUMBER: _is_number,
    Kind.TEXT: _is_text,
    Kind.PATH: _is_text,
    Kind.PORT: _is_port,
    Kind.DURATION: _is_duration,
    Kind.LIST: lambda value: isinstance(value, list),
    Kind.OBJECT: lambda value: isinstance(value, dict),
}


def _amount_problem(name: str, value: str, units: str, units_text: str, example: str) -> str | None:
    if value[-1:] not in tuple(units):
        return f"Invalid {name} unit. Available units are {units_text}"
    if not _AMOUNT.fullmatch(value[:-1]):
        return f"Invalid {name} value. Value should be a number followed by unit e.g. '{example}'"
    return None


def _rotation_size_problem(value: Json, _root: FilePath) -> str | None:
    return _amount_problem("logging.rotation.maxSize", value, "GMK", "G, M or K", "10M")


def _rotation_interval_problem(value: Json, _root: FilePath) -> str | None:
    return _amount_problem("logging.rotation.interval", value, "DHM", "D, H or M (minutes)", "10D")


def _storage_path_problem(value: Json, root: FilePath) -> str | None:
    path = resolved_path(value, root)
    is_ours_to_make = path == resolved_path(str(BY_PATH[STORAGE_PATH].default), root)
    return None if is_ours_to_make or path.is_dir() else f"Specified path {path} does not exist."


def _databases_problem(value: Json, _root: FilePath) -> str | None:
    for database, entry in value.items():
        if not isinstance(entry, dict):
            return f"'databases.{database}' must be an object"
        for key in ("path", "auditPath"):
            if entry.get(key) is not None and not _is_text(entry[key]):
                return f"'databases.{database}.{key}' must be a string"
    return None


def _name_problem(parameter: str) -> Callable[[Json, FilePath], str | None]:
    return lambda value, _root: None if value else f"'{parameter}' is not allowed to be empty"


def _texts_problem(parameter: str) -> Callable[[Json, FilePath], str | None]:
    """For lists of names and patterns; null stands for "nobody" in lists of origins."""

    def problem(value: Json, _root: FilePath) -> str | None:
        items = value if isinstance(value, list) else []
        wrong = (place for place, item in enumerate(items) if item is not None and not _is_text(item))
        place = next(wrong, None)
        return None if place is None else f"'{parameter}[{place}]' must be a string"

    return problem


def _tls_problem(parameter: str) -> Callable[[Json, FilePath], str | None]:
    """An object's keys are parameters and checked as such; in a list nobody else looks."""

    def problem(value: Json, _root: FilePath) -> str | None:
        for place, entry in enumerate(value if isinstance(value, list) else []):
            if not isinstance(entry, dict):
                return f"'{parameter}[{place}]' must be an object"
            for key in ("privateKey", "certificate", "certificateAuthority", "host", "ciphers"):
                if entry.get(key) is not None and not _is_text(entry[key]):
                    return f"'{parameter}[{place}].{key}' must be a string"
        return None

    return problem


def _replicated_databases_problem(value: Json, _root: FilePath) -> str | None:
    for place, entry in enumerate(value if isinstance(value, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else entry
        if not (_is_text(name) and name):
            return f"'replication.databases[{place}]' must be a name, or an object with one"
    return None


_LISTS_OF_TEXTS = (
    "storage.blobPaths",
    "replication.join",
    "operationsApi.network.corsAccessList",
    "http.corsAccessList",
    "authentication.cookie.domains",
    "bulk.filePaths",
)
_SPECIAL: Mapping[Path, Callable[[Json, FilePath], str | None]] = {
    ("node", "hostname"): _name_problem("node.hostname"),
    ("replication", "hostname"): _name_problem("replication.hostname"),
    ("tls",): _tls_problem("tls"),
    ("operationsApi", "tls"): _tls_problem("operationsApi.tls"),
    ("replication", "databases"): _replicated_databases_problem,
    **{tuple(dotted.split(".")): _texts_problem(dotted) for dotted in _LISTS_OF_TEXTS},
    ROTATION_SIZE_PATH: _rotation_size_problem,
    ROTATION_INTERVAL_PATH: _rotation_interval_problem,
    STORAGE_PATH: _storage_path_problem,
    ("databases",): _databases_problem,
}


def _port_or_none(document: Mapping[str, Json], path: Path) -> Address | None:
    value = get_value(document, path)
    return parse_port(value) if _is_port(value) else None
