"""From the sources of a start to one configuration: environment, command line and file, strongest first.

1. ``HARPER_SET_CONFIG``, 2. command line, 3. environment variables, 4. the file, 5. ``HARPER_DEFAULT_CONFIG`` where
nobody has set a value, 6. built-in defaults. Whatever wins is written into the file, so that the next start without
the variable or argument is the same; credentials are not parameters and never get there.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

from node.configuration_file import BACKUP_FOLDER, FILE_NAME, OTHER_PRODUCT_FILE_NAME, ConfigurationFile
from node.environment_config import DEFAULT, SET, EnvironmentConfig, EnvironmentState
from node.errors import StartError
from node.flat_names import find_database_path, find_parameter, nearest_name
from node.modes import MODE_PATH, as_mode, switch_mode, twins_to_close, with_defaults, write_template
from node.parameter import Json, Mode, Path, plain
from node.parameter_checks import document_problems, twin_problems, value_problem
from node.parameters import BY_PATH, OPEN_OBJECTS, PARAMETERS, PORT_TWINS, SECTIONS
from node.paths import ROOT_PATH, resolve_paths
from node.tree import get_value, has_value, leaves, remove_value
from node.value_forms import assignments, value_for

_MODE_VARIABLE = "DEFAULTS_MODE"
_DEFAULT_ROOT = "~/logmesh"
_TOLERANT_SECTION = "replication"
"""A wrong number here falls back to its default: a node without its peers is worse than one with default timing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSources:
    """What a start is given from outside. ``values`` maps places in the file to what the command line says for them."""

    values: Mapping[Path, Json] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    mode: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedConfiguration:
    """``effective`` holds every parameter that has a value; ``warnings`` are for the log, once there is one."""

    root: FilePath
    mode: Mode
    effective: Mapping[str, Json]
    warnings: tuple[str, ...]
    is_first_start: bool


def command_line_values(name: str, text: str, option: str) -> dict[Path, Json]:
    """Places and values of one ``name=text`` of ``option``. Raises ``StartError`` that names the nearest parameter."""
    parameter = find_parameter(name)
    if parameter is not None:
        return dict(assignments(parameter, value_for(parameter, text)))
    path = find_database_path(name)
    if path is not None:
        return {path: text}
    raise StartError(f"{option}: unknown parameter '{name}'{_hint(name)}")


def root_of(sources: StartSources) -> FilePath:
    """The root folder, absolute: command line, else ``ROOTPATH`` or an old name of it, else ``~/logmesh``."""
    from_environment = _environment_values(sources.environment)
    text = sources.values.get(ROOT_PATH) or from_environment.get(ROOT_PATH) or _DEFAULT_ROOT
    return FilePath(os.path.abspath(os.path.expanduser(str(text))))


def start_configuration(sources: StartSources) -> StartedConfiguration:
    """Join all sources, check the result and write it into the file of the root, which must exist as a folder.

    Raises ``StartError`` when something is wrong; the file is as it was then.
    """
    root = root_of(sources)
    refuse_other_product(root)
    config = EnvironmentConfig.from_environment(sources.environment)
    file = ConfigurationFile.load(root)
    is_first = not file.exists
    state = EnvironmentState.load(root)
    mode = _enter_mode(file, sources, config, root)

    state.restore_dropped(config, file)
    state.apply_default(config, file, mode, is_first=is_first)
    given = {**_environment_values(sources.environment), **sources.values}
    for path, value in (given | {MODE_PATH: mode, ROOT_PATH: str(root)}).items():
        file.set(path, value)
    state.apply_set(config, file)

    _refuse(
        [*_misshapen_sections(file.plain()), *document_problems(_without_bad_numbers(file.plain(), root, []), root)]
    )
    _close_twins(file, given, config, state, mode)
    warnings = [*_unknown_keys(file.plain()), *_mode_warnings(file, mode)]
    effective = with_defaults(_without_bad_numbers(file.plain(), root, warnings), mode)
    _refuse(twin_problems(effective))
    resolve_paths(effective, root)
    _write(file, state, warnings)
    return StartedConfiguration(
        root=root, mode=mode, effective=effective, warnings=tuple(warnings), is_first_start=is_first
    )


def refuse_other_product(root: FilePath) -> None:
    """Raises ``StartError`` for a root that holds another product's data: this node would not find it in there."""
    if (root / OTHER_PRODUCT_FILE_NAME).exists() and not (root / FILE_NAME).exists():
        raise StartError(f"{root} holds {OTHER_PRODUCT_FILE_NAME} but no {FILE_NAME}: it belongs to another product")


def _enter_mode(file: ConfigurationFile, sources: StartSources, config: EnvironmentConfig, root: FilePath) -> Mode:
    """The mode of this start; the file is made for it, or changed to it."""
    mode = _mode(file, sources, config)
    if not file.exists:
        write_template(file, mode, root)
        return mode
    _spell_out_threads(file)
    old = as_mode(file.get(MODE_PATH) or "prod", f"'node.mode' in {FILE_NAME}")
    if mode != old:
        switch_mode(file, old, mode)
    return mode


def _mode(file: ConfigurationFile, sources: StartSources, config: EnvironmentConfig) -> Mode:
    environment = {name.upper(): value for name, value in sources.environment.items()}
    candidates = (
        (SET, config.mode(SET)),
        ("--mode", sources.mode or sources.values.get(MODE_PATH)),
        (_MODE_VARIABLE, environment.get(_MODE_VARIABLE)),
        ("NODE_MODE", environment.get("NODE_MODE")),
        (f"'node.mode' in {FILE_NAME}", file.get(MODE_PATH)),
        (DEFAULT, config.mode(DEFAULT)),
    )
    return next((as_mode(value, source) for source, value in candidates if value), "prod")


def _spell_out_threads(file: ConfigurationFile) -> None:
    """``threads: n`` is short for ``threads: {count: n}``."""
    threads = file.get(("threads",))
    if threads is not None and not isinstance(threads, Mapping):
        file.set(("threads", "count"), threads)


def _close_twins(
    file: ConfigurationFile, given: Mapping[Path, Json], config: EnvironmentConfig, state: EnvironmentState, mode: Mode
) -> None:
    """A twin closed for a variable's port opens again when the variable goes, so the state has to know."""
    of_default, of_set = config.values(DEFAULT), config.values(SET)
    for path, twin in list(twins_to_close(file.plain(), {*given, *of_default, *of_set}, mode)):
        if path in of_set:
            state.write(SET, twin, None, file)
        elif path in of_default and path not in given:
            state.write(DEFAULT, twin, None, file)
        else:
            file.set(twin, None)


def _environment_values(environment: Mapping[str, str]) -> dict[Path, Json]:
    """Parameters among the environment variables. The new name of a parameter is stronger than an old one.

    An empty variable counts as none: compose files make one of every variable that they pass on.
    """
    found: dict[Path, Json] = {}
    for name, text in sorted(environment.items(), key=lambda item: _is_current_name(item[0])):
        parameter = find_parameter(name) if text and "." not in name else None
        if parameter is not None:
            found.update(assignments(parameter, value_for(parameter, text)))
    return found


def _is_current_name(name: str) -> bool:
    parameter = find_parameter(name)
    return parameter is not None and parameter.flat.lower() == name.lower()


def _refuse(problems: Iterator[str] | list[str]) -> None:
    text = ". ".join(problems)
    if text:
        raise StartError(f"logmesh configuration is not valid: {text}")


def _misshapen_sections(document: Mapping[str, Json]) -> Iterator[str]:
    """Sections of the node that hold a single value: everything in them would silently be at its default."""
    for section, value in document.items():
        if section in SECTIONS and (section,) not in BY_PATH and value is not None and not isinstance(value, Mapping):
            yield f"'{section}' must be an object"


def _without_bad_numbers(document: dict[str, Json], root: FilePath, warnings: list[str]) -> dict[str, Json]:
    """``document`` without numbers of replication that do not fit; each is told in ``warnings``."""
    tolerant: dict[str, Json] = plain(document)
    for parameter in PARAMETERS:
        is_number = parameter.at_least is not None or parameter.is_whole
        if parameter.path[0] == _TOLERANT_SECTION and is_number and has_value(document, parameter.path):
            problem = value_problem(parameter, get_value(document, parameter.path), root)
            if problem is not None:
                remove_value(tolerant, parameter.path)
                warnings.append(f"{problem}; the default holds")
    return tolerant


def _unknown_keys(document: Mapping[str, Json]) -> Iterator[str]:
    for section, value in document.items():
        if section in SECTIONS:
            wrong = [".".join(path) for path, _ in leaves({section: value}) if not _is_known(path)]
        else:
            wrong = [] if isinstance(value, Mapping | bool) or value is None else [section]
        for name in wrong:
            yield f"Unknown key '{name}' in {FILE_NAME}{_hint(name)}"


def _is_known(path: Path) -> bool:
    """A parameter or the way to one, or something in an object that has no parameters of its own."""
    return any(known[: len(path)] == path for known in BY_PATH) or any(
        path[:length] in OPEN_OBJECTS for length in range(1, len(path))
    )


def _hint(name: str) -> str:
    nearest = nearest_name(name)
    return "" if nearest is None else f"; did you mean '{nearest}'?"


def _mode_warnings(file: ConfigurationFile, mode: Mode) -> Iterator[str]:
    if mode == "dev":
        return
    for plain_path, _ in PORT_TWINS:
        if file.get(plain_path) is not None:
            yield f"'{'.'.join(plain_path)}' opens a port without encryption"
    if file.get(("authentication", "authorizeLocal")):
        yield "'authentication.authorizeLocal' has no effect in prod mode: credentials are always needed"


def _write(file: ConfigurationFile, state: EnvironmentState, warnings: list[str]) -> None:
    """A file that cannot be written (mounted read-only) does not prevent a start: the values hold for this one."""
    try:
        (file.path.parent / BACKUP_FOLDER).mkdir(mode=0o700, exist_ok=True)
        state.save()
        file.save()
    except OSError as error:
        warnings.append(f"{file.path} cannot be written ({error.strerror}): this start's values are not kept")
