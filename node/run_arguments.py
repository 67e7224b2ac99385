"""Arguments of ``logmesh run`` and its relatives, and the environment, to what a start needs.

Beside its options ``run`` takes any parameter as ``--<NAME> value`` or ``--<NAME>=value``, the credentials of the first
administrator the same way, and one folder of a component. Credentials are kept apart from parameters from the first
moment on, so that nothing can write them anywhere.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

from node.configuration_sources import StartSources, command_line_values
from node.errors import StartError
from node.parameter import Json, Path
from node.paths import ROOT_PATH
from node.settings import FirstAdministrator

_USERNAME = "HDB_ADMIN_USERNAME"
_PASSWORD = "HDB_ADMIN_PASSWORD"
_DEFAULTS_MODE = "DEFAULTS_MODE"
_AGREEMENT = "TC_AGREEMENT"
"""Accepted and ignored: installers of other products send it."""
_NO_PARAMETERS = frozenset({_USERNAME, _PASSWORD, _DEFAULTS_MODE, _AGREEMENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    sources: StartSources
    first_administrator: FirstAdministrator
    app_folder: FilePath | None


def parse_run_arguments(
    *,
    root_path: str | None,
    mode: str | None,
    assignments: Sequence[str],
    rest: Sequence[str],
    environment: Mapping[str, str],
) -> RunArguments:
    """``assignments`` are the values of ``--set``, ``rest`` is what no option took. Raises ``StartError``."""
    named, folders = _split_rest(rest)
    special = {name.upper(): text for name, text in named if name.upper() in _NO_PARAMETERS}
    values: dict[Path, Json] = {}
    for name, text in named:
        if name.upper() not in _NO_PARAMETERS:
            values.update(command_line_values(name, text, f"--{name}"))
    for name, text in _split_assignments(assignments):
        values.update(command_line_values(name, text, "--set"))
    if root_path is not None:
        values[ROOT_PATH] = root_path
    return RunArguments(
        sources=StartSources(values=values, environment=environment, mode=mode or special.get(_DEFAULTS_MODE)),
        first_administrator=FirstAdministrator(
            username=special.get(_USERNAME) or environment.get(_USERNAME) or FirstAdministrator().username,
            password=special.get(_PASSWORD) or environment.get(_PASSWORD) or None,
        ),
        app_folder=_app_folder(folders),
    )


def _split_rest(rest: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """``--NAME value`` and ``--NAME=value`` as pairs, and everything else."""
    named: list[tuple[str, str]] = []
    others: list[str] = []
    arguments = iter(rest)
    for argument in arguments:
        if not argument.startswith("--"):
            others.append(argument)
            continue
        name, separator, text = argument[2:].partition("=")
        if not separator:
            following = next(arguments, None)
            if following is None:
                raise StartError(f"--{name} needs a value")
            text = following
        named.append((name, text))
    return named, others


def _split_assignments(assignments: Iterable[str]) -> Iterator[tuple[str, str]]:
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator:
            raise StartError("--set needs <section>.<key>=<value>")
        yield name.strip(), text


def _app_folder(folders: Sequence[str]) -> FilePath | None:
    if not folders:
        return None
    if len(folders) > 1:
        raise StartError(f"One component folder can be given, not {len(folders)}")
    folder = FilePath(folders[0]).expanduser().absolute()
    if not folder.is_dir():
        raise StartError(f"{folder} is not a folder")
    return folder
