"""What the mode decides: a new file's content, the change from one mode to the other, and how ports follow each other.

A port *left at its default* is one whose value is the mode's number, whether the file says so or nobody did. Such ports
take the address of the operations port, each time they are read: the file keeps the plain number, so that moving the
operations port moves them all again.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path as FilePath

from node.configuration_file import ConfigurationFile
from node.errors import StartError
from node.parameter import MODES, Json, Mode, Parameter, Path, PerMode, plain
from node.parameters import BY_PATH, PARAMETERS, PORT_TWINS
from node.ports import parse_port, with_address_of
from node.tree import get_value, set_value
from ops.serving_settings import Address

MODE_PATH: Path = ("node", "mode")
_OPERATIONS_PORT_PATHS: tuple[Path, ...] = PORT_TWINS[0]
_SECTION_COMMENTS: Mapping[str, str] = {
    "operationsApi": "POST / with {operation: ...}",
    "http": "REST and components",
    "threads": "worker processes",
    "authentication": "passwords, tokens, sessions",
    "logging": "log file and audit log",
    "mqtt": "MQTT listeners",
    "storage": "databases on disk",
    "tls": "key and certificates of the TLS ports",
    "node": "this node's name and mode",
}


def as_mode(value: Json, source: str) -> Mode:
    """``value`` as a mode. Raises ``StartError`` naming ``source`` for anything but ``prod`` and ``dev``."""
    for mode in MODES:
        if value == mode:
            return mode
    raise StartError(f"{source} must be one of [{', '.join(MODES)}]")


def write_template(file: ConfigurationFile, mode: Mode, root: FilePath) -> None:
    """Fill a new file with what people look for, the values of ``mode``, and a comment on each line."""
    for parameter in PARAMETERS:
        if parameter.in_template:
            file.set(parameter.path, template_value(parameter, mode))
            note = "" if parameter.has_effect else " (kept, but without effect here)"
            file.annotate(parameter.path, parameter.sentence + note)
    file.set(("rootPath",), str(root))
    for section, comment in _SECTION_COMMENTS.items():
        file.annotate((section,), comment)


def template_value(parameter: Parameter, mode: Mode) -> Json:
    """What a new file says for ``parameter``."""
    return parameter.default_for(mode) if parameter.template_value is None else plain(parameter.template_value)


def switch_mode(file: ConfigurationFile, old: Mode, new: Mode) -> None:
    """Replace the values that still are the old mode's by the new one's."""
    for parameter in PARAMETERS:
        if isinstance(parameter.default, PerMode) and file.get(parameter.path) == parameter.default_for(old):
            file.set(parameter.path, parameter.default_for(new))
    file.set(MODE_PATH, new)


def with_defaults(document: Mapping[str, Json], mode: Mode) -> dict[str, Json]:
    """``document`` with the built-in value of every parameter that it does not hold, and ports on their addresses.

    Objects without a default of their own are not made. Ports become text where they have an address.
    """
    effective: dict[str, Json] = plain(document)
    for parameter in PARAMETERS:
        default = parameter.default_for(mode)
        if default is not None and _is_free(effective, parameter.path):
            set_value(effective, parameter.path, default)
    for path, port in ports_of(effective, mode).items():
        set_value(effective, path, _as_setting(port))
    return effective


def ports_of(effective: Mapping[str, Json], mode: Mode) -> dict[Path, Address | None]:
    """Every listener's place. Raises ``ValueError`` for a value that is no port."""
    ports = {path: parse_port(get_value(effective, path)) for twins in PORT_TWINS for path in twins}
    anchor = next((ports[path] for path in _OPERATIONS_PORT_PATHS if _has_address(ports[path])), None)
    return {
        path: with_address_of(port, anchor) if port == parse_port(BY_PATH[path].default_for(mode)) else port
        for path, port in ports.items()
    }


def twins_to_close(document: Mapping[str, Json], given: Collection[Path], mode: Mode) -> Iterator[tuple[Path, Path]]:
    """A port given at start that equals its twin turns the twin off, unless both were given: (port, twin) pairs."""
    ports = ports_of(with_defaults(document, mode), mode)
    for twins in PORT_TWINS:
        for path, twin in (twins, twins[::-1]):
            port = ports[path]
            is_shared = port is not None and port.port != 0 and port == ports[twin]
            if is_shared and path in given and twin not in given:
                yield path, twin


def _is_free(tree: Mapping[str, Json], path: Path) -> bool:
    """Nothing stands at ``path``, and nothing but sections above it: ``mtls: true`` has no keys to fill in.

    A section without content (``threads:`` with every line below commented out) is as good as none.
    """
    here: Json = tree
    for depth, key in enumerate(path):
        if here is None and path[:depth] not in BY_PATH:
            return True
        if not isinstance(here, Mapping):
            return False
        if key not in here:
            return True
        here = here[key]
    return False


def _has_address(port: Address | None) -> bool:
    return port is not None and port.host is not None


def _as_setting(port: Address | None) -> int | str | None:
    if port is None:
        return None
    return port.port if port.host is None else str(port)
