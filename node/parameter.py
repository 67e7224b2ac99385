"""One configuration parameter as a value: its place in the file, what it takes, and what holds when nobody sets it.

The parameters themselves are in ``parameters.py``. Paths are tuples of keys (``("http", "port")``), because database
and component names may contain dots; ``dotted`` and ``flat`` are their spellings in messages and in flat names.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Mode: TypeAlias = Literal["prod", "dev"]
MODES: tuple[Mode, ...] = ("prod", "dev")
Path: TypeAlias = tuple[str, ...]
Json: TypeAlias = Any
"""A value as JSON has it: None, bool, int, float, str, list or dict with text keys."""


class Kind(enum.Enum):
    """What a parameter takes. The value is the word that messages use."""

    BOOLEAN = "boolean"
    NUMBER = "number"
    TEXT = "string"
    PATH = "path"
    """Text naming a file or folder; a relative one counts from the root folder."""
    PORT = "port"
    DURATION = "duration"
    """Text with a unit (``durations.py``). A parameter that takes bare numbers too lists ``NUMBER`` as well."""
    LIST = "array"
    OBJECT = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class PerMode:
    """A default that differs by mode. A callable is asked when the value is needed (host name, number of cores)."""

    prod: Json | Callable[[], Json]
    dev: Json | Callable[[], Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    path: Path
    kinds: tuple[Kind, ...]
    default: Json | PerMode
    """None when nothing holds until somebody sets it; lists are written as tuples."""
    sentence: str
    at_least: float | None = None
    at_most: float | None = None
    is_whole: bool = False
    choices: tuple[str, ...] = ()
    is_required: bool = False
    """Null is refused: the parameter always has a value."""
    may_be_null: bool = False
    """Null switches it off, although there is a default."""
    has_effect: bool = True
    """False for settings of other runtimes: stored, checked and returned, nothing else."""
    in_template: bool = False
    """Written into a new configuration file, so that people find it there."""
    template_value: Json = None
    """What a new file gets instead of the default."""

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def flat(self) -> str:
        return "_".join(self.path)

    @property
    def is_nullable(self) -> bool:
        """Null means "not set": only where there is nothing to fall back to, and for ports, which it closes."""
        if self.is_required:
            return False
        return self.may_be_null or Kind.PORT in self.kinds or any(self.default_for(mode) is None for mode in MODES)

    def default_for(self, mode: Mode) -> Json:
        """The built-in value in ``mode``: a fresh copy."""
        default = self.default
        if isinstance(default, PerMode):
            default = default.prod if mode == "prod" else default.dev
        return plain(default() if callable(default) else default)


def plain(value: Json) -> Json:
    """A copy of ``value`` made of dicts and lists, tuples included."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value
