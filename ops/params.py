"""Kinds of parameter: what an operation's fields may hold, with the literal texts that tell a client what is wrong.

An operation declares its fields as a frozen dataclass; each field's ``Annotated`` type carries its kind:

    @dataclass(frozen=True, slots=True, kw_only=True)
    class DropTable:
        database: DatabaseName = "data"
        table: TableName

``parse`` checks all fields in order and joins what is wrong with ``. ``. Unknown fields of a body are ignored. A field's
label in a message is the name under which the client sent it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Annotated, Any, Final, Protocol, TypeVar, get_args, get_type_hints

from ops.errors import InvalidParams
from storage.text_form import number_text

NAME_LENGTH_MAX: Final = 250
_NAME: Final = re.compile(r"[\x20-\x2E\x30-\x5F\x61-\x7E]*", re.ASCII)
_NUMBER_TEXT: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?", re.ASCII)

P = TypeVar("P")


class Problem(Exception):
    """What is wrong with a value, worded for the client."""


class Kind(Protocol):
    def convert(self, label: str, value: Any) -> Any:
        """The value as the handler gets it. Raises ``Problem``."""


@dataclass(frozen=True, slots=True)
class Also:
    """Older names of a field; the field's own name wins where both are sent, unless ``wins`` says otherwise."""

    names: tuple[str, ...]
    wins: bool = False
    when_missing: str | None = None
    """Label of the field in the message that it is required, where clients know another than its own name."""


@dataclass(frozen=True, slots=True)
class Anything:
    def convert(self, label: str, value: Any) -> Any:
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A string; ``may_be_number`` takes a number as its decimal string."""

    may_be_empty: bool = False
    may_be_number: bool = False
    length_max: int | None = None
    is_name: bool = False
    pattern_label: str | None = None
    """Label of the pattern's message where it differs from the field's."""

    def convert(self, label: str, value: Any) -> str:
        if self.may_be_number and type(value) in (int, float):
            return number_text(value)
        if not isinstance(value, str):
            raise Problem(f"'{label}' must be {'one of [string, number]' if self.may_be_number else 'a string'}")
        if not value and not self.may_be_empty:
            raise Problem(f"'{label}' is not allowed to be empty")
        if self.length_max is not None and len(value) > self.length_max:
            raise Problem(f"'{label}' length must be less than or equal to {self.length_max} characters long")
        if self.is_name and not _NAME.fullmatch(value):
            raise Problem(f"'{self.pattern_label or label}' names cannot include backticks or forward slashes")
        return value


@dataclass(frozen=True, slots=True)
class Boolean:
    def convert(self, label: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise Problem(f"'{label}' must be a boolean")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number, or its text; ``at_least`` and ``at_most`` are inclusive."""

    is_integer: bool = False
    at_least: int | None = None
    at_most: int | None = None

    def convert(self, label: str, value: Any) -> int | float:
        number = self._read(label, value)
        if not math.isfinite(number):
            raise Problem(f"'{label}' must be a number")
        if self.is_integer and number != int(number):
            raise Problem(f"'{label}' must be an integer")
        if self.at_least is not None and number < self.at_least:
            raise Problem(f"'{label}' must be greater than or equal to {self.at_least}")
        if self.at_most is not None and number > self.at_most:
            raise Problem(f"'{label}' must be less than or equal to {self.at_most}")
        return int(number) if self.is_integer else number

    def _read(self, label: str, value: Any) -> int | float:
        if type(value) in (int, float):
            return value  # type: ignore[no-any-return]
        if isinstance(value, str) and _NUMBER_TEXT.fullmatch(value):
            return float(value) if "." in value else int(value)
        raise Problem(f"'{label}' must be a number")


@dataclass(frozen=True, slots=True)
class OneOf:
    values: tuple[str, ...]

    def convert(self, label: str, value: Any) -> str:
        if value not in self.values:
            raise Problem(f"'{label}' must be one of [{', '.join(self.values)}]")
        return str(value)


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array; ``of_objects`` checks its elements."""

    of_objects: bool = False

    def convert(self, label: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Problem(f"'{label}' must be an array")
        if self.of_objects:
            for position, element in enumerate(value):
                if not isinstance(element, dict):
                    raise Problem(f"'{label}[{position}]' must be of type object")
        return value


@dataclass(frozen=True, slots=True)
class Timestamp:
    """Epoch milliseconds."""

    def convert(self, label: str, value: Any) -> int | float:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise Problem(f"'{label}' must be in timestamp or number of milliseconds format")
        return value  # type: ignore[no-any-return]


DatabaseName = Annotated[str, Text(), Also(("schema",))]
"""Of a database that is looked up, hence not checked against the rules for new names."""
NewDatabaseName = Annotated[str, Text(length_max=NAME_LENGTH_MAX, is_name=True), Also(("schema",))]
TableName = Annotated[str, Text()]
NewTableName = Annotated[str, Text(length_max=NAME_LENGTH_MAX, is_name=True)]
RecordsDatabase = Annotated[str, Text(may_be_number=True, length_max=NAME_LENGTH_MAX, is_name=True), Also(("schema",))]
RecordsTable = Annotated[str, Text(may_be_number=True, length_max=NAME_LENGTH_MAX, is_name=True)]
Flag = Annotated[bool, Boolean()]
Anyhow = Annotated[Any, Anything()]


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one field of a body is found and read."""

    name: str
    kind: Kind
    sent_as: tuple[str, ...]
    """Names under which it may be sent, the one that wins first."""
    is_required: bool
    label_when_missing: str


@cache
def rules_of(kind: type[Any]) -> tuple[FieldRule, ...]:
    """The field rules that a parameter class declares, in order."""
    return tuple(_rules(kind))


def _rules(kind: type[Any]) -> Iterator[FieldRule]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        marks = _marks(hints[field.name])
        also = next((mark for mark in marks if isinstance(mark, Also)), Also(()))
        value_kind = next((mark for mark in marks if not isinstance(mark, Also)), Anything())
        names = (*also.names, field.name) if also.wins else (field.name, *also.names)
        is_required = field.default is MISSING and field.default_factory is MISSING
        yield FieldRule(field.name, value_kind, names, is_required, also.when_missing or names[0])


def _marks(hint: Any) -> tuple[Any, ...]:
    """What an ``Annotated`` type carries, also inside ``Annotated[...] | None``."""
    if hasattr(hint, "__metadata__"):
        return tuple(hint.__metadata__)
    return tuple(mark for part in get_args(hint) for mark in _marks(part))


def parse(kind: type[P], body: Mapping[str, Any], *, status: int = 400) -> P:
    """The parameters that ``body`` gives. Raises ``InvalidParams`` with everything that is wrong."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    declaring: Any = kind
    for rule in rules_of(declaring):
        label = next((name for name in rule.sent_as if name in body), None)
        if label is None:
            if rule.is_required:
                problems.append(f"'{rule.label_when_missing}' is required")
            continue
        try:
            values[rule.name] = rule.kind.convert(label, body[label])
        except Problem as problem:
            problems.append(str(problem))
    if problems:
        raise InvalidParams(". ".join(problems), status=status)
    return kind(**values)
