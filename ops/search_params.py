"""What a search request says: its body checked with the literal texts that clients know, and turned into a query.

Two steps, as clients see the errors in this order: ``read_...`` checks the body alone; ``bind`` needs the table
(which may not exist) to tell unknown attributes and to convert values. Statuses differ: what is wrong with the body
of ``search_by_id`` and ``search_by_value`` is answered 500, of ``search_by_conditions`` 400.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ops.errors import InvalidParams, Missing
from ops.params import Boolean, Number
from ops.selection import INVALID_SELECT, METADATA, WILDCARD, Selection, compile_selection, name_of, selected_names
from ops.sent_query import (
    DEPTH_MAX,
    EQUALS,
    MISSING,
    Problems,
    SentCondition,
    SentGroup,
    SentNode,
    SentSort,
    as_json,
    first_of_path,
    has_object,
    is_text_or_number,
    names_in_conditions,
    names_in_sort,
    not_a_key,
    read_group,
    read_operator,
    read_path,
    read_sort,
)
from ops.system_tables import SYSTEM
from ops.target import DEFAULT_DATABASE
from storage.coercion import coerced
from storage.conditions import Comparator, Condition, Group, Node, Query, Sort
from storage.schema import Table

_LIMIT: Final = Number(is_integer=True, at_least=1)
_OFFSET: Final = Number(is_integer=True, at_least=0)
_FLAG: Final = Boolean()
_METADATA_OF_ROWS: Final = ("$id", "$updatedtime", "$updatedTime", "$expiresAt")
_PATTERN: Final = "pattern"
"""Comparator name of a wildcard: its value is text, whatever the attribute's type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdSearch:
    database: str
    table: str
    ids: list[Any]
    get_attributes: list[Any]
    asks_residents: bool = True
    """Whether records that other nodes hold are fetched from them; else they are left out (``replicateFrom: false``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search as sent. ``status`` is that of an answer that refuses it, ``is_wildcard`` that its value is a pattern."""

    database: str
    table: str
    where: SentNode | None
    named: tuple[str, ...] = ()
    """Attributes named beside those of ``where``."""
    get_attributes: list[Any] | None = None
    sort: SentSort | None = None
    limit: int | None = None
    offset: int = 0
    reverse: bool = False
    explain: bool = False
    status: int = 400
    asks_residents: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundSearch:
    """``shows_indexed_only``: all that is shown of a record is in its indexes, or its key."""

    query: Query
    selection: Selection
    shows_indexed_only: bool


# -- the three bodies -------------------------------------------------------------------------------------------------


def read_id_search(body: Mapping[str, Any]) -> IdSearch:
    """Raises ``InvalidParams``, 500, with the texts of ``search_by_id``."""
    problems = Problems(500)
    database, table = _target(body, problems)
    ids = body["ids"] if "ids" in body else body.get("hash_values")
    if ids is None:
        problems.add("'hash_values' is required")
    elif not isinstance(ids, list):
        problems.add("'hash_values' must be an array")
    elif not all(is_text_or_number(key) for key in ids):
        problems.add("'hash_values' must be strings or numbers")
    elements = _sent_attributes(body)
    if elements is None:
        problems.add("'get_attributes' is required")
    elif not isinstance(elements, list):
        problems.add("'get_attributes' must be an array")
    elif not elements:
        problems.add("'get_attributes' must contain at least 1 item")
    elif not all(is_text_or_number(element) for element in elements):
        problems.add("'get_attributes' must be strings or numbers")
    problems.raise_if_any()
    return IdSearch(
        database=database,
        table=table,
        ids=ids or [],
        get_attributes=elements or [],
        asks_residents=_asks_residents(body),
    )


def read_value_search(body: Mapping[str, Any]) -> Search:
    """Raises ``InvalidParams``, 500 but for a selection that selects nothing."""
    problems = Problems(500)
    database, table = _target(body, problems)
    attribute = body.get("search_attribute", body.get("attribute"))
    value = body.get("search_value", body.get("value", MISSING))
    if attribute is None:
        problems.add("'attribute' is required")
    if value is MISSING:
        problems.add("'value' is required")
    elements = _checked_attributes(body, problems)
    limit = problems.converted(_LIMIT, "limit", body, None)
    offset = problems.converted(_OFFSET, "offset", body, 0)
    reverse = [problems.converted(_FLAG, label, body, False) for label in ("desc", "reverse")]
    sort = read_sort(body.get("sort", MISSING), problems)
    problems.raise_if_any()
    path = read_path(attribute)
    if path is None:
        raise InvalidParams("'attribute' must be a string", status=500)
    if has_object(value):
        raise InvalidParams(not_a_key(value), status=500)
    return Search(
        database=database,
        table=table,
        where=_value_condition(path, value),
        named=(",".join(path),),
        get_attributes=elements,
        sort=sort,
        limit=limit,
        offset=offset,
        reverse=any(reverse),
        status=500,
        asks_residents=_asks_residents(body),
    )


def read_condition_search(body: Mapping[str, Any]) -> Search:
    """Raises ``InvalidParams``, 400 but for groups that are too small."""
    problems = Problems(400)
    database = _database(body, problems)
    operator = read_operator(body.get("operator", "and"))
    if operator is None:
        problems.add("'operator' must be one of [and, or]")
    offset = problems.converted(_OFFSET, "offset", body, 0)
    limit = problems.converted(_LIMIT, "limit", body, None)
    elements = _checked_attributes(body, problems)
    sort = read_sort(body.get("sort", MISSING), problems)
    flags = {label: problems.converted(_FLAG, label, body, False) for label in ("reverse", "explain")}
    conditions = body.get("conditions", MISSING)
    if conditions is MISSING:
        problems.add("'conditions' is required")
    elif not isinstance(conditions, list):
        problems.add("'conditions' must be an array")
    elif not conditions:
        problems.add("'conditions' must contain at least 1 items")
    problems.raise_if_any()
    assert operator is not None, "a bad operator is a problem"
    assert isinstance(conditions, list), "anything else is a problem"
    return Search(
        database=database,
        table=_table_text(body.get("table", "undefined")),
        where=read_group(operator, conditions, "conditions", 0),
        get_attributes=elements,
        sort=sort,
        limit=limit,
        offset=offset,
        reverse=flags["reverse"],
        explain=flags["explain"],
        asks_residents=_asks_residents(body),
    )


def names_in_search(body: Mapping[str, Any]) -> list[str]:
    """Every attribute that a search's body touches, for access checks: lenient, as the body was not checked yet.

    The whole stored record (``$record``) counts as an attribute that no role has been given.
    """
    names: list[Any] = []
    elements = _sent_attributes(body)
    for element in elements if isinstance(elements, list) else ():
        names.append(element.get("name") if isinstance(element, dict) else element)
    names = [name for name in names if not (isinstance(name, str) and name.startswith(METADATA)) or name == "$record"]
    names.append(first_of_path(body.get("search_attribute", body.get("attribute"))))
    names.extend(names_in_conditions(body.get("conditions"), 0))
    names.extend(names_in_sort(body.get("sort")))
    return list(dict.fromkeys(str(name) for name in names if name is not None))


# -- binding to the table ---------------------------------------------------------------------------------------------


def bind(search: Search, table: Table) -> BoundSearch:
    """The query and selection of a search on ``table``.

    Raises ``InvalidParams`` for unknown attributes and ``InvalidValue`` for values that do not fit their type.
    """
    is_system = table.database == SYSTEM
    condition_names = [*search.named, *_condition_names(search.where)]
    if not is_system:
        check_known([*selected_names(search.get_attributes), *condition_names], table, status=search.status)
    where = None if search.where is None else _bound(search.where, table)
    if is_system and search.where is None:
        _declared(search.named, table)
    return BoundSearch(
        query=Query(
            where=where,
            sort=_bound_sort(search.sort, table),
            limit=search.limit,
            offset=search.offset,
            reverse=search.reverse,
        ),
        selection=compile_selection(search.get_attributes, table),
        shows_indexed_only=_are_indexed(search.get_attributes, table),
    )


def _are_indexed(elements: list[Any] | None, table: Table) -> bool:
    """Whether an index-only row has all that these elements show of a record."""
    names: list[Any] = [WILDCARD] if elements is None else list(elements)
    if WILDCARD in names and table.is_dynamic:
        names = [name for name in names if name != WILDCARD] + list(table.attributes)
    kept = {*table.index_ids, table.primary_key, *_METADATA_OF_ROWS}
    return all((name_of(name) if isinstance(name, dict) else name) in kept for name in names)


def check_known(names: Sequence[str], table: Table, *, status: int) -> None:
    """Raises ``InvalidParams`` that lists the names that are no attributes of the table."""
    unknown = list(dict.fromkeys(name for name in names if name not in table.attributes))
    if unknown:
        listed = unknown[0] if len(unknown) == 1 else f"{', '.join(unknown[:-1])} and {unknown[-1]}"
        raise InvalidParams(f"unknown attribute '{listed}'", status=status)


def _condition_names(node: SentNode | None) -> Iterator[str]:
    """Attributes of conditions in order; those of paths have an error of their own."""
    if isinstance(node, SentGroup):
        for member in node.members:
            yield from _condition_names(member)
    elif node is not None and len(node.path) == 1:
        yield node.path[0]


def _bound(node: SentNode, table: Table) -> Node:
    if isinstance(node, SentGroup):
        return Group(operator=node.operator, members=tuple(_bound(member, table) for member in node.members))
    name = _declared(node.path, table)
    if node.name == _PATTERN:
        return Condition(attribute=name, comparator=node.comparator, value=node.value)
    value = coerced(table.attributes.get(name), node.name, node.value)
    return Condition(attribute=name, comparator=node.comparator, value=value)


def _bound_sort(sort: SentSort | None, table: Table) -> Sort | None:
    chain: Sort | None = None
    links: list[SentSort] = []
    while sort is not None:
        links.append(sort)
        sort = sort.next
    names = [_declared(link.path, table) for link in links]
    for link, name in zip(reversed(links), reversed(names), strict=True):
        chain = Sort(attribute=name, descending=link.descending, next=chain)
    return chain


def _declared(path: Sequence[str], table: Table) -> str:
    """The attribute that a path of one name means. Raises where it is none, or leads into an object."""
    if path[0] not in table.attributes:
        raise Missing(f"{','.join(path)} is not a defined attribute")
    if len(path) > 1:
        raise InvalidParams(f"Unable to query by attribute {as_json(list(path))}")
    return path[0]


# -- fields that several bodies share ---------------------------------------------------------------------------------


def _target(body: Mapping[str, Any], problems: Problems) -> tuple[str, str]:
    database = _database(body, problems)
    table = body.get("table")
    if table is None:
        problems.add("'table' is required")
    elif table == "":
        problems.add("'table' is not allowed to be empty")
    elif not is_text_or_number(table):
        problems.add("'table' must be one of [string, number]")
    return database, str(table)


def _database(body: Mapping[str, Any], problems: Problems) -> str:
    label = "database" if "database" in body else "schema"
    database = body.get(label, DEFAULT_DATABASE)
    if not is_text_or_number(database):
        problems.add(f"'{label}' must be one of [string, number]")
    return str(database)


def _table_text(table: Any) -> str:
    return "undefined" if table is None else str(table)


def _asks_residents(body: Mapping[str, Any]) -> bool:
    return body.get("replicateFrom") is not False


def _sent_attributes(body: Mapping[str, Any]) -> Any:
    return body["select"] if body.get("select") is not None else body.get("get_attributes")


def _checked_attributes(body: Mapping[str, Any], problems: Problems) -> list[Any] | None:
    elements = _sent_attributes(body)
    if elements is None:
        return None
    if not isinstance(elements, list):
        problems.add("'get_attributes' must be an array")
        return None
    if not elements:
        problems.add("'get_attributes' must contain at least 1 items")
        return None
    for element in elements:
        if isinstance(element, dict):
            _check_select(element, 0)
        elif not is_text_or_number(element):
            problems.add("'get_attributes' must be strings or numbers")
            break
    return elements


def _check_select(element: dict[str, Any], depth: int) -> None:
    name_of(element)
    for inner in element["select"]:
        if depth == DEPTH_MAX or not isinstance(inner, str | dict):
            raise InvalidParams(INVALID_SELECT)
        if isinstance(inner, dict):
            _check_select(inner, depth + 1)


def _value_condition(path: tuple[str, ...], value: Any) -> SentCondition | None:
    """The condition of ``search_by_value``; None where every record is meant."""
    if value == WILDCARD:
        return None
    comparator, pattern = Comparator.EQUALS, value
    if isinstance(value, str):
        if len(value) > 1 and value.startswith(WILDCARD) and value.endswith(WILDCARD):
            comparator, pattern = Comparator.CONTAINS, value[1:-1]
        elif value.startswith(WILDCARD):
            comparator, pattern = Comparator.ENDS_WITH, value[1:]
        elif value.endswith(WILDCARD):
            comparator, pattern = Comparator.TEXT_STARTS_WITH, value[:-1]
    name = EQUALS if comparator is Comparator.EQUALS else _PATTERN
    return SentCondition(path=path, name=name, comparator=comparator, value=pattern)
