"""A search as one would write it without an index: loops over Python values, with comparison rules of its own.

Shares no code with the engine that it checks. Numbers show the text that ``NUMBER_TEXTS`` gives them.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from storage.conditions import Comparator, Condition, Node, Query, Sort

INDEXED = ("a", "b")
DATE_MS = 1795422602682
NUMBER_TEXTS = {
    0: "0",
    1: "1",
    -1: "-1",
    5: "5",
    15: "15",
    0.5: "0.5",
    -2.25: "-2.25",
    1e21: "1e+21",
    1e-7: "1e-7",
    9007199254740993: "9007199254740993",
    DATE_MS: "1795422602682",
}
TEXT_COMPARATORS = (
    Comparator.CONTAINS,
    Comparator.ENDS_WITH,
    Comparator.STARTS_WITH,
    Comparator.TEXT_STARTS_WITH,
)

Rank = tuple[Any, ...]


def rank(value: Any) -> Rank | None:
    """A scalar's place in the order of everything; None where it has none."""
    if value is None:
        return (0,)
    if value is False:
        return (1,)
    if value is True:
        return (2,)
    if isinstance(value, datetime):
        return (3, round(value.timestamp() * 1000))
    if isinstance(value, int | float):
        return (3, value)
    if isinstance(value, str):
        return (4, [ord(character) for character in value])
    return None


def key_rank(value: Any) -> Rank:
    """A primary key's place: an array directly behind its bare first element, then element by element."""
    if isinstance(value, list):
        ranks = [rank(element) for element in value]
        return (ranks[0], (0,), *ranks[1:])
    return (rank(value),)


def text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return str(DATE_MS)
    return value if isinstance(value, str) else NUMBER_TEXTS.get(value, str(value))


def scalar_satisfies(comparator: Comparator, value: Any, bound: Any) -> bool:
    place = rank(value)
    if place is None:
        return False
    match comparator:
        case Comparator.CONTAINS:
            return value is not None and (text(bound) or "") in (text(value) or "") and bound is not None
        case Comparator.ENDS_WITH:
            return value is not None and bound is not None and (text(value) or "").endswith(text(bound) or "")
        case Comparator.STARTS_WITH:
            return bound is not None and isinstance(value, str) and value.startswith(text(bound) or "")
        case Comparator.TEXT_STARTS_WITH:
            return value is not None and bound is not None and (text(value) or "").startswith(text(bound) or "")
        case Comparator.IN:
            return any(place == rank(one) for one in bound)
    return placed_satisfies(comparator, (place,), bound, lambda bound: (rank(bound),))


def placed_satisfies(comparator: Comparator, place: Rank, bound: Any, rank_of: Callable[[Any], Rank]) -> bool:
    """The comparators that only compare places."""
    null, false, number = ((0,),), ((1,),), ((3,),)
    if comparator in (
        Comparator.BETWEEN,
        Comparator.FROM_TO_BEFORE,
        Comparator.ABOVE_TO_BEFORE,
        Comparator.ABOVE_TO,
    ):
        low, high = rank_of(bound[0]), rank_of(bound[1])
        above = place >= low if comparator in (Comparator.BETWEEN, Comparator.FROM_TO_BEFORE) else place > low
        below = place <= high if comparator in (Comparator.BETWEEN, Comparator.ABOVE_TO) else place < high
        return above and below and place != null
    limit = rank_of(bound)
    match comparator:
        case Comparator.EQUALS:
            return place == limit
        case Comparator.NOT_EQUAL:
            return place not in (limit, null)
        case Comparator.GREATER_THAN:
            return place > limit
        case Comparator.GREATER_THAN_EQUAL:
            return place >= limit
    below = place < limit if comparator is Comparator.LESS_THAN else place <= limit
    return below and place != null and not (place == false and limit >= number)


def satisfying(condition: Condition, value: Any) -> list[Any]:
    """The value, or the elements of an array, for which a condition on an attribute that is no key holds."""
    if condition.comparator is Comparator.PREFIX:
        wanted = condition.value if isinstance(condition.value, list) else [condition.value]
        starts = isinstance(value, list) and [rank(e) for e in value[: len(wanted)]] == [rank(e) for e in wanted]
        return value[:1] if starts else []
    elements = value if isinstance(value, list) else [value]
    return [element for element in elements if scalar_satisfies(condition.comparator, element, condition.value)]


def key_satisfies(condition: Condition, key: Any) -> bool:
    comparator, bound = condition.comparator, condition.value
    if comparator is Comparator.PREFIX:
        wanted = bound if isinstance(bound, list) else [bound]
        return isinstance(key, list) and [rank(e) for e in key[: len(wanted)]] == [rank(e) for e in wanted]
    if comparator in TEXT_COMPARATORS:
        return not isinstance(key, list) and scalar_satisfies(comparator, key, bound)
    if comparator is Comparator.IN:
        return any(key_rank(key) == key_rank(one) for one in bound)
    return placed_satisfies(comparator, key_rank(key), bound, key_rank)


def holds(node: Node, record: dict[str, Any]) -> bool:
    if not isinstance(node, Condition):
        results = [holds(member, record) for member in node.members]
        return all(results) if node.operator == "and" else any(results)
    if node.attribute not in record:
        return False
    if node.attribute == "id":
        return key_satisfies(node, record["id"])
    return bool(satisfying(node, record[node.attribute])) or _empty_prefix(node, record[node.attribute])


def _empty_prefix(condition: Condition, value: Any) -> bool:
    return condition.comparator is Comparator.PREFIX and condition.value == [] and isinstance(value, list)


def in_key_order(records: Sequence[dict[str, Any]], *, reverse: bool = False) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: key_rank(record["id"]), reverse=reverse)


def in_condition_order(condition: Condition, records: Sequence[dict[str, Any]], reverse: bool) -> list[dict[str, Any]]:
    """What one condition promises: the order of its attribute's index, then of the keys."""
    matching = in_key_order([record for record in records if holds(condition, record)], reverse=reverse)
    if condition.attribute not in INDEXED or condition.value == []:
        return matching
    choose = max if reverse else min

    def place(record: dict[str, Any]) -> Any:
        return choose(rank(value) or () for value in satisfying(condition, record[condition.attribute]))

    return sorted(matching, key=place, reverse=reverse)


def sorted_by(sort: Sort, where: Node | None, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    ordered = in_key_order(records)
    for link in reversed(list(sort.chain())):
        ordered.sort(key=partial(_sort_place, link, where), reverse=link.descending)
    return ordered


def _sort_place(sort: Sort, where: Node | None, record: dict[str, Any]) -> Any:
    """null and what has no place come lowest; an array by its smallest, descending its greatest, element that counts."""
    value = record.get(sort.attribute)
    if sort.attribute == "id":
        return key_rank(value)
    if not isinstance(value, list):
        return (rank(value) or (0,),)
    condition = _first_condition(where, sort.attribute)
    counted = satisfying(condition, value) if condition else value
    places = [place for element in counted if (place := rank(element)) is not None]
    if condition is None:
        places = [place for place in places if place != (0,)]
    if not places:
        return ((0,),)
    return ((max if sort.descending else min)(places),)


def _first_condition(where: Node | None, attribute: str) -> Condition | None:
    if where is None:
        return None
    if isinstance(where, Condition):
        return where if where.attribute == attribute else None
    if where.operator == "or" and len(where.members) > 1:
        return None
    found = (_first_condition(member, attribute) for member in where.members)
    return next((condition for condition in found if condition is not None), None)


def matching(query: Query, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if query.where is None or holds(query.where, record)]


def cut(query: Query, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    end = None if query.limit is None else query.offset + query.limit
    return list(records[query.offset : end])


def promised_order(query: Query, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The exact result where its order is promised; None where any order will do."""
    found = matching(query, records)
    if query.sort is not None:
        return cut(query, sorted_by(query.sort, query.where, found))
    if query.where is None:
        return cut(query, in_key_order(found, reverse=query.reverse))
    members = _or_members(query.where)
    if members is None:
        return None
    ordered: list[dict[str, Any]] = []
    for condition in members:
        new = [record for record in found if record not in ordered]
        ordered.extend(in_condition_order(condition, new, query.reverse))
    return cut(query, ordered)


def _or_members(where: Node) -> list[Condition] | None:
    """The conditions of nested ``or`` groups, in order; None where an ``and`` of several is among them."""
    if isinstance(where, Condition):
        return [where]
    if where.operator == "and" and len(where.members) > 1:
        return None
    members: list[Condition] = []
    for member in where.members:
        inner = _or_members(member)
        if inner is None:
            return None
        members.extend(inner)
    return members
