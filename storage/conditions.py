"""What a search asks for, as plain values: conditions, groups, sort and the whole query.

A query names no index and no HTTP request: the operations, SQL and REST all make these values, the planner reads them.
The rules by which a condition holds are in ``storage/matching.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias


class Comparator(Enum):
    """How a condition compares. The value is the name shown to clients."""

    EQUALS = "equals"
    NOT_EQUAL = "not_equal"
    GREATER_THAN = "greater_than"
    GREATER_THAN_EQUAL = "greater_than_equal"
    LESS_THAN = "less_than"
    LESS_THAN_EQUAL = "less_than_equal"
    CONTAINS = "contains"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    BETWEEN = "between"
    FROM_TO_BEFORE = "gelt"
    ABOVE_TO_BEFORE = "gtlt"
    ABOVE_TO = "gtle"
    PREFIX = "prefix"
    IN = "in"
    """Equal to one of several values. No request may name it; it is what other layers push down."""
    TEXT_STARTS_WITH = "text_starts_with"
    """As ``STARTS_WITH``, but on the text form of every scalar: a wildcard at the end."""


COMPARATORS: Final[Mapping[str, Comparator]] = {
    "equals": Comparator.EQUALS,
    "equal": Comparator.EQUALS,
    "eq": Comparator.EQUALS,
    "not_equal": Comparator.NOT_EQUAL,
    "notEqual": Comparator.NOT_EQUAL,
    "ne": Comparator.NOT_EQUAL,
    "greater_than": Comparator.GREATER_THAN,
    "greaterThan": Comparator.GREATER_THAN,
    "gt": Comparator.GREATER_THAN,
    ">": Comparator.GREATER_THAN,
    "greater_than_equal": Comparator.GREATER_THAN_EQUAL,
    "greaterThanEqual": Comparator.GREATER_THAN_EQUAL,
    "ge": Comparator.GREATER_THAN_EQUAL,
    ">=": Comparator.GREATER_THAN_EQUAL,
    "less_than": Comparator.LESS_THAN,
    "lessThan": Comparator.LESS_THAN,
    "lt": Comparator.LESS_THAN,
    "<": Comparator.LESS_THAN,
    "less_than_equal": Comparator.LESS_THAN_EQUAL,
    "lessThanEqual": Comparator.LESS_THAN_EQUAL,
    "le": Comparator.LESS_THAN_EQUAL,
    "<=": Comparator.LESS_THAN_EQUAL,
    "contains": Comparator.CONTAINS,
    "ct": Comparator.CONTAINS,
    "starts_with": Comparator.STARTS_WITH,
    "startsWith": Comparator.STARTS_WITH,
    "sw": Comparator.STARTS_WITH,
    "ends_with": Comparator.ENDS_WITH,
    "endsWith": Comparator.ENDS_WITH,
    "ew": Comparator.ENDS_WITH,
    "between": Comparator.BETWEEN,
    "gele": Comparator.BETWEEN,
    "gelt": Comparator.FROM_TO_BEFORE,
    "...": Comparator.FROM_TO_BEFORE,
    "gtlt": Comparator.ABOVE_TO_BEFORE,
    "gtle": Comparator.ABOVE_TO,
    "prefix": Comparator.PREFIX,
}
"""Every accepted name. There is no other: not ``in``, not ``like``, not ``==``."""

BOUNDED: Final = frozenset(
    (Comparator.BETWEEN, Comparator.FROM_TO_BEFORE, Comparator.ABOVE_TO_BEFORE, Comparator.ABOVE_TO)
)
"""Comparators whose value is ``(low, high)``."""

Operator: TypeAlias = Literal["and", "or"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison. ``value`` is a scalar, a list (array keys, ``PREFIX``), or for ``BOUNDED`` and ``IN`` a tuple."""

    attribute: str
    comparator: Comparator = Comparator.EQUALS
    value: Any = None

    def described(self) -> dict[str, Any]:
        """As a request would state it."""
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {"attribute": self.attribute, "comparator": self.comparator.value, "value": value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Conditions and groups of which all (``and``) or at least one (``or``) must hold. Never empty."""

    operator: Operator = "and"
    members: tuple["Node", ...]

    def described(self) -> dict[str, Any]:
        return {"operator": self.operator, "conditions": [member.described() for member in self.members]}


Node: TypeAlias = Condition | Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """An order, and what breaks its ties; the last tie is broken by the primary key, ascending.

    null and absent come first, descending last. An array sorts by its smallest element, descending by its greatest;
    where a condition on the attribute must hold for every record, only by elements for which the first such condition
    holds: an array stands where that condition's index range meets it first.
    """

    attribute: str
    descending: bool = False
    next: "Sort | None" = None

    def chain(self) -> Iterator["Sort"]:
        """This order and those that break its ties, in turn."""
        link: Sort | None = self
        while link is not None:
            yield link
            link = link.next

    def described(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"attribute": self.attribute, "descending": self.descending}
        if self.next is not None:
            plain["next"] = self.next.described()
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A whole search. Without ``where`` every record is meant, without ``limit`` all that match.

    ``reverse`` turns the scan around and means nothing beside ``sort``.
    """

    where: Node | None = None
    sort: Sort | None = None
    limit: int | None = None
    offset: int = 0
    reverse: bool = False


def all_of(*nodes: Node | None) -> Node | None:
    """The conjunction, flat; None where nothing is asked."""
    return _grouped("and", tuple(member for node in nodes if node is not None for member in conjuncts(flattened(node))))


def flattened(node: Node) -> Node:
    """The same question without groups in groups of their own kind, and without groups of one."""
    if isinstance(node, Condition):
        return node
    members: list[Node] = []
    for member in node.members:
        flat = flattened(member)
        members.extend(flat.members if isinstance(flat, Group) and flat.operator == node.operator else (flat,))
    grouped = _grouped(node.operator, tuple(members))
    assert grouped is not None, "a group is never empty"
    return grouped


def conjuncts(node: Node | None) -> tuple[Node, ...]:
    """What must hold for every record, of a flat node."""
    if isinstance(node, Group) and node.operator == "and":
        return node.members
    return () if node is None else (node,)


def _grouped(operator: Operator, members: tuple[Node, ...]) -> Node | None:
    if len(members) < 2:
        return members[0] if members else None
    return Group(operator=operator, members=members)
