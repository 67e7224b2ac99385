"""``HARPER_DEFAULT_CONFIG`` and ``HARPER_SET_CONFIG``: whole pieces of configuration as JSON in the environment.

SET always wins; DEFAULT fills only what nobody has set. Both write into the file, so what they wrote must be told
from what people wrote: a state file in the backup folder remembers, per path, which variable set it, to what, and
what it replaced. From that follows, at each start:

* a path that left its variable gets back what it replaced, or goes when there was nothing;
* a value in the file that is not what the variable last wrote is a user's edit: DEFAULT leaves it alone from then on, SET
  writes over it and will give it back;
* a value equal to the built-in default counts as set by nobody.

The state is written before the file: after a crash in between SET still knows the original, the other way round it
would take its own value for it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Literal, TypeAlias

from node.configuration_file import BACKUP_FOLDER, ConfigurationFile, replace_file
from node.errors import StartError
from node.modes import MODE_PATH, template_value
from node.parameter import Json, Mode, Path
from node.parameters import BY_PATH
from node.tree import get_value, leaves

Variable: TypeAlias = Literal["HARPER_DEFAULT_CONFIG", "HARPER_SET_CONFIG"]
DEFAULT: Variable = "HARPER_DEFAULT_CONFIG"
SET: Variable = "HARPER_SET_CONFIG"
STATE_FILE_NAME = ".harper-config-state.json"
_STATE_VERSION = "1.0"
_DEPTH_MAX = 32
_DECIDED_ELSEWHERE: frozenset[Path] = frozenset({("rootPath",), MODE_PATH})
"""The root is known before any file is read, and the mode decides what the file holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentConfig:
    """Both variables, parsed. An absent variable is an empty object."""

    default: Mapping[str, Json] = field(default_factory=dict)
    set: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "EnvironmentConfig":
        """Raises ``StartError`` for a variable that holds no JSON object."""
        return cls(default=_parse(DEFAULT, environment), set=_parse(SET, environment))

    def mode(self, variable: Variable) -> Json:
        return get_value(self._of(variable), MODE_PATH)

    def values(self, variable: Variable) -> dict[Path, Json]:
        found = dict(leaves(self._of(variable)))
        if "threads" in self._of(variable) and ("threads",) in found:
            found["threads", "count"] = found.pop(("threads",))
        return {path: value for path, value in found.items() if path not in _DECIDED_ELSEWHERE}

    def _of(self, variable: Variable) -> Mapping[str, Json]:
        return self.set if variable == SET else self.default


class EnvironmentState:
    """What the variables wrote at earlier starts. Paths are spelled with ``\\.`` for a dot inside a key."""

    def __init__(self, path: FilePath) -> None:
        self._path = path
        self._sources: dict[Path, Variable] = {}
        self._originals: dict[Path, Json] = {}
        self._written: dict[Path, Json] = {}
        self._text: str | None = None

    @classmethod
    def load(cls, root: FilePath) -> "EnvironmentState":
        """Raises ``StartError`` for a state file that is damaged: guessing would take people's values away."""
        state = cls(root / BACKUP_FOLDER / STATE_FILE_NAME)
        try:
            state._text = state._path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return state
        except (OSError, UnicodeDecodeError) as error:
            raise StartError(f"{state._path} cannot be read: {error}") from error
        try:
            state._read(json.loads(state._text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StartError(f"{state._path} is damaged; without it values set from the environment stay") from error
        return state

    def restore_dropped(self, config: EnvironmentConfig, file: ConfigurationFile) -> None:
        """Give back what paths held that are no longer in the variable that set them."""
        wanted = {variable: config.values(variable) for variable in (DEFAULT, SET)}
        for path, variable in list(self._sources.items()):
            if path not in wanted[variable]:
                if file.get(path) == self._written[path]:
                    self._give_back(path, file)
                self._forget(path)

    def apply_default(self, config: EnvironmentConfig, file: ConfigurationFile, mode: Mode, *, is_first: bool) -> None:
        for path, value in config.values(DEFAULT).items():
            source = self._sources.get(path)
            if source == DEFAULT and file.get(path) != self._written[path]:
                continue
            if source == DEFAULT or (source is None and (is_first or _is_set_by_nobody(path, file, mode))):
                self.write(DEFAULT, path, value, file)

    def apply_set(self, config: EnvironmentConfig, file: ConfigurationFile) -> None:
        for path, value in config.values(SET).items():
            self.write(SET, path, value, file)

    def write(self, variable: Variable, path: Path, value: Json, file: ConfigurationFile) -> None:
        """Put ``value`` into the file in the name of ``variable``, and remember what it replaces."""
        current = file.get(path)
        if self._sources.get(path) != variable or current != self._written[path]:
            self._originals.pop(path, None)
            if current is not None or file.has(path):
                self._originals[path] = current
        self._sources[path] = variable
        self._written[path] = value
        file.set(path, value)

    def save(self) -> None:
        """Write the state when it changed. Raises ``OSError``."""
        document = {
            "version": _STATE_VERSION,
            "sources": {_spelled(path): variable for path, variable in self._sources.items()},
            "originalValues": {_spelled(path): value for path, value in self._originals.items()},
            "snapshots": self._snapshots(),
        }
        text = json.dumps(document, indent=2)
        if text == self._text or (self._text is None and not self._sources):
            return
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        replace_file(self._path, text, mode=0o600)
        self._text = text

    def _give_back(self, path: Path, file: ConfigurationFile) -> None:
        if path in self._originals:
            file.set(path, self._originals[path])
        else:
            file.remove(path)

    def _forget(self, path: Path) -> None:
        del self._sources[path], self._written[path]
        self._originals.pop(path, None)

    def _snapshots(self) -> dict[str, dict[str, Json]]:
        snapshots: dict[str, dict[str, Json]] = {}
        for path, variable in self._sources.items():
            snapshots.setdefault(variable, {})[_spelled(path)] = self._written[path]
        return snapshots

    def _read(self, document: Mapping[str, Json]) -> None:
        variables: Mapping[str, Variable] = {DEFAULT: DEFAULT, SET: SET}
        for spelled, source in document["sources"].items():
            path = _path_of(spelled)
            self._sources[path] = variables[source]
            self._written[path] = document["snapshots"][source][spelled]
            if spelled in document["originalValues"]:
                self._originals[path] = document["originalValues"][spelled]


def _parse(variable: Variable, environment: Mapping[str, str]) -> Mapping[str, Json]:
    text = environment.get(variable, "")
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StartError(f"Invalid JSON syntax in {variable}: {error}") from error
    if not isinstance(value, dict):
        raise StartError(f"{variable} must be a JSON object, got: {_type_name(value)}")
    if _depth(value) > _DEPTH_MAX:
        raise StartError(f"{variable} is nested too deeply")
    return value


def _type_name(value: Json) -> str:
    if value is None:
        return "null"
    names = ((bool, "boolean"), (int, "number"), (float, "number"), (str, "string"), (list, "array"))
    return next(name for kind, name in names if isinstance(value, kind))


def _depth(value: Json) -> int:
    items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + max((_depth(item) for item in items), default=0)


def _is_set_by_nobody(path: Path, file: ConfigurationFile, mode: Mode) -> bool:
    if not file.has(path):
        return True
    parameter = BY_PATH.get(path)
    return parameter is not None and file.get(path) in (parameter.default_for(mode), template_value(parameter, mode))


def _spelled(path: Path) -> str:
    return ".".join(key.replace("\\", "\\\\").replace(".", "\\.") for key in path)


def _path_of(spelled: str) -> Path:
    return tuple(_keys_of(spelled))


def _keys_of(spelled: str) -> Iterator[str]:
    key = ""
    characters = iter(spelled)
    for character in characters:
        if character == "\\":
            key += next(characters, "")
        elif character == ".":
            yield key
            key = ""
        else:
            key += character
    yield key
