"""Conditions and orders as clients send them, read into values: names as sent, comparators known, nothing looked up.

Whatever sends conditions in JSON goes through here, so that nesting is bounded and the literal texts are the same. What
needs the table (types, unknown attributes) comes later: ``ops/search_params.py``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ops.errors import InvalidParams
from ops.params import Kind, Problem
from storage.conditions import BOUNDED, COMPARATORS, Comparator, Operator

DEPTH_MAX: Final = 100
"""Deepest nesting of groups, selections and ``next``."""
EQUALS: Final = "equals"
MISSING: Final = object()
"""Stands for a field that was not sent, as null is a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentCondition:
    """A condition as sent; ``name`` is the comparator's, which decides on casts. A path has several attributes."""

    path: tuple[str, ...]
    name: str
    comparator: Comparator
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SentGroup:
    operator: Operator
    members: tuple["SentNode", ...]


SentNode: TypeAlias = SentCondition | SentGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class SentSort:
    path: tuple[str, ...]
    descending: bool
    next: "SentSort | None"


class Problems:
    """What is wrong with a body, told together."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._texts: list[str] = []

    def add(self, text: str) -> None:
        self._texts.append(text)

    def converted(self, kind: Kind, label: str, body: Mapping[str, Any], default: Any) -> Any:
        """The field's value; ``default`` where it was not sent or does not fit."""
        if label not in body:
            return default
        try:
            return kind.convert(label, body[label])
        except Problem as problem:
            self.add(str(problem))
            return default

    def raise_if_any(self) -> None:
        if self._texts:
            raise InvalidParams(". ".join(self._texts), status=self._status)


def read_group(operator: Operator, conditions: list[Any], label: str, depth: int) -> SentNode:
    if depth > DEPTH_MAX:
        raise InvalidParams(f"'{label}' is nested too deeply")
    if operator == "or" and len(conditions) < 2:
        raise InvalidParams('An "or" operator requires at least two conditions', status=500)
    if not conditions:
        raise InvalidParams('An "and" operator requires at least one condition', status=500)
    members = tuple(_node(sent, f"{label}[{at}]", depth) for at, sent in enumerate(conditions))
    return SentGroup(operator=operator, members=members)


def _node(sent: Any, label: str, depth: int) -> SentNode:
    if not isinstance(sent, dict):
        raise InvalidParams(f"'{label}' does not match any of the allowed types")
    if "conditions" in sent:
        operator = read_operator(sent.get("operator", "and"))
        if operator is None or not isinstance(sent["conditions"], list):
            raise InvalidParams(f"'{label}' does not match any of the allowed types")
        return read_group(operator, sent["conditions"], f"{label}.conditions", depth + 1)
    return _condition(sent, label)


def _condition(sent: dict[str, Any], label: str) -> SentCondition:
    path = read_path(sent.get("attribute", sent.get("search_attribute")))
    if path is None:
        raise InvalidParams(f"'{label}.attribute' is required")
    name = sent.get("comparator", sent.get("search_type"))
    name = EQUALS if name is None else name
    comparator = COMPARATORS.get(name) if isinstance(name, str) else None
    if comparator is None:
        raise InvalidParams(f'Unknown query comparator "{name}"')
    value = sent.get("value", sent.get("search_value", MISSING))
    if value is MISSING:
        raise InvalidParams(f"Search condition for {','.join(path)} must have a value")
    if comparator in BOUNDED:
        if not isinstance(value, list) or len(value) != 2:
            raise InvalidParams(f"'{label}.value' must contain 2 items")
        value = tuple(value)
    if has_object(value):
        raise InvalidParams(not_a_key(value))
    return SentCondition(path=path, name=name, comparator=comparator, value=value)


def read_sort(sent: Any, problems: Problems) -> SentSort | None:
    """The order as sent, its ``next`` followed to the end."""
    links: list[tuple[tuple[str, ...], bool]] = []
    label = "sort"
    while sent is not MISSING:
        if not isinstance(sent, dict):
            problems.add(f"'{label}' must be of type object")
            return None
        path = read_path(sent.get("attribute"))
        if path is None:
            problems.add("Sort requires an attribute")
            return None
        descending = sent.get("descending", False)
        if not isinstance(descending, bool):
            problems.add(f"'{label}.descending' must be a boolean")
            return None
        links.append((path, descending))
        if len(links) > DEPTH_MAX:
            problems.add(f"'sort' must contain less than or equal to {DEPTH_MAX} attributes")
            return None
        label += ".next"
        sent = MISSING if sent.get("next") is None else sent["next"]
    chain: SentSort | None = None
    for path, descending in reversed(links):
        chain = SentSort(path=path, descending=descending, next=chain)
    return chain


def read_operator(sent: Any) -> Operator | None:
    match sent.lower() if isinstance(sent, str) else sent:
        case "and":
            return "and"
        case "or":
            return "or"
    return None


def read_path(sent: Any) -> tuple[str, ...] | None:
    """The name or names of an attribute; None where there is none."""
    if isinstance(sent, list):
        return tuple(map(str, sent)) if sent and all(is_text_or_number(name) for name in sent) else None
    return (str(sent),) if is_text_or_number(sent) and sent != "" else None


def first_of_path(sent: Any) -> Any:
    return sent[0] if isinstance(sent, list) and sent else sent


def names_in_conditions(conditions: Any, depth: int) -> Iterator[Any]:
    for sent in conditions if isinstance(conditions, list) and depth <= DEPTH_MAX else ():
        if isinstance(sent, dict):
            if "conditions" in sent:
                yield from names_in_conditions(sent["conditions"], depth + 1)
            else:
                yield first_of_path(sent.get("attribute", sent.get("search_attribute")))


def names_in_sort(sort: Any) -> Iterator[Any]:
    for _ in range(DEPTH_MAX):
        if not isinstance(sort, dict):
            return
        yield first_of_path(sort.get("attribute"))
        sort = sort.get("next")


def has_object(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(isinstance(element, list) or has_object(element) for element in value)
    return isinstance(value, dict | bytes)


def not_a_key(value: Any) -> str:
    return f"Unable to serialize object as a key: {as_json(value)}"


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def is_text_or_number(value: Any) -> bool:
    return type(value) in (str, int, float)
