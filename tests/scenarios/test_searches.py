"""The three searches, asked of a whole node over HTTPS: what is found, in which order and form, and what is refused."""

import functools
import json
from collections.abc import Callable
from typing import Any

import cbor2
import ormsgpack
import pytest

from tests.animals import ANIMALS
from tests.node_process import NodeProcess
from tests.scenarios.asking import Answer, Credentials, ask, forbidden, missing_rights

DB = "farm3"
A: dict[str, Any] = {"database": DB, "table": "animal"}
HERDER: Credentials = ("searches-herder", "Straw-1")
MIXED: list[Any] = [None, False, True, -1, 0, 1, 4.5, 10, "", "10", "B", "a", "é", "😀"]
"""Values in their order across types; each is the value ``v`` of the record with its place as key, from 0."""
ABSENT = len(MIXED)


def refused(status: int, text: str) -> Answer:
    return status, {"error": text}


def condition(attribute: Any, comparator: Any, value: Any) -> dict[str, Any]:
    return {"attribute": attribute, "comparator": comparator, "value": value}


def either(*conditions: Any) -> dict[str, Any]:
    return {"operator": "or", "conditions": list(conditions)}


@pytest.fixture(scope="module")
def farm(node: NodeProcess) -> NodeProcess:
    """The shared node with the sample data of ``farm3``; nothing here changes it."""
    node.post(operation="create_table", **A, primary_key="id")
    node.post(operation="insert", **A, records=ANIMALS)
    node.post(operation="create_table", database=DB, table="mixed", primary_key="id")
    records: list[dict[str, Any]] = [{"id": n, "v": value} for n, value in enumerate(MIXED)]
    node.post(operation="insert", database=DB, table="mixed", records=[*records, {"id": ABSENT, "w": 1}])
    _make_typed(node)
    _make_keys(node)
    staff = [{"id": 1, "name": "Ann", "pay": 5}, {"id": 2, "name": "Bo", "pay": 6}]
    node.post(operation="create_table", database=DB, table="staff", primary_key="id")
    node.post(operation="insert", database=DB, table="staff", records=staff)
    name = {"attribute_name": "name", "read": True, "insert": False, "update": False}
    pay = {"attribute_name": "pay", "read": False, "insert": True, "update": False}
    rights = {"read": True, "insert": True, "update": False, "delete": False}
    tables = {
        "staff": rights | {"attribute_permissions": [name, pay]},
        "animal": rights | {"read": False, "attribute_permissions": []},
    }
    node.post(operation="add_role", role=HERDER[0], permission={DB: {"tables": tables}})
    node.post(operation="add_user", role=HERDER[0], username=HERDER[0], password=HERDER[1], active=True)
    return node


def _make_typed(node: NodeProcess) -> None:
    kinds = {
        "i": "Int",
        "f": "Float",
        "b": "Boolean",
        "d": "Date",
        "s": "String",
        "a": "Any",
        "l": "Long",
        "g": "BigInt",
    }
    declared = [{"name": name, "type": kind, "indexed": name != "f"} for name, kind in kinds.items()]
    where: dict[str, Any] = {"database": DB, "table": "typed"}
    node.post(operation="create_table", **where, primary_key="id", attributes=[{"name": "id", "type": "ID"}, *declared])
    first = {
        "id": "1",
        "i": 38,
        "f": 1.5,
        "b": True,
        "d": "2020-01-02T03:04:05.678Z",
        "s": "38",
        "a": 38,
        "l": 38,
        "g": 38,
    }
    second = {"id": "2", "i": 7, "f": 2.5, "b": False, "d": 0, "s": "x", "a": "38", "extra": [1]}
    node.post(operation="insert", **where, records=[first, second, {"id": "3", "i": None, "d": None, "s": ""}])


def _make_keys(node: NodeProcess) -> None:
    node.post(operation="create_table", database=DB, table="keys", primary_key="id")
    keys = [2, [2, "a"], [2, "b"], 10, "a", ["a", 1], ["a", 2], ["a", 2, "x"], "b"]
    node.post(operation="insert", database=DB, table="keys", records=[{"id": key} for key in keys])


def by_conditions(node: NodeProcess, *conditions: Any, table: str = "animal", **fields: Any) -> list[Any]:
    """Ids of what is found."""
    body = {"database": DB, "table": table, "conditions": list(conditions), "get_attributes": ["id"]} | fields
    return [record["id"] for record in node.post(operation="search_by_conditions", **body)]


def by_value(node: NodeProcess, attribute: str, value: Any, table: str = "animal", **fields: Any) -> list[Any]:
    body = {"database": DB, "table": table, "attribute": attribute, "value": value, "get_attributes": ["id"]} | fields
    return [record["id"] for record in node.post(operation="search_by_value", **body)]


# Conditions on the sample data

ALL = condition("id", "greater_than", 0)
BY_KIND = {"attribute": "kind", "next": {"attribute": "name", "descending": True}}


@pytest.mark.parametrize(
    ("conditions", "fields", "ids"),
    [
        ([condition("kind", "equals", "goat")], {}, [1, 3, 5]),
        ([condition("kind", "equals", "goat"), condition("weight", "greater_than", 40)], {}, [1]),
        ([condition("kind", "equals", "sheep"), condition("name", "equals", "Otis")], {"operator": "or"}, [4, 2]),
        ([condition("kind", "equals", "sheep"), condition("name", "equals", "Otis")], {"operator": "OR"}, [4, 2]),
        ([condition("kind", "equals", "goat"), condition("id", "gt", 1)], {"operator": "AND"}, [3, 5]),
        ([condition("weight", "less_than", 100)], {}, [3, 1]),
        ([condition("weight", "less_than_equal", 38)], {}, [3]),
        ([condition("weight", "between", [38, 41.5])], {}, [3, 1]),
        ([condition("weight", "not_equal", 38)], {}, [1, 2]),
        ([condition("weight", "equals", None)], {}, [4]),
        ([condition("weight", "not_equal", None)], {}, [3, 1, 2]),
        ([condition("pen_id", "equals", None)], {}, [5]),
        ([condition("name", "starts_with", "O")], {}, [2]),
        ([condition("name", "ends_with", "y")], {}, [5]),
        ([condition("name", "contains", "z")], {}, [4, 5]),
        ([condition("tags", "equals", "calm")], {}, [1, 2]),
        ([condition("tags", "contains", "il")], {}, [1]),
        ([condition("tame", "equals", True)], {}, [1, 2]),
        (
            [
                condition("pen_id", "greater_than", 0),
                either(condition("kind", "equals", "donkey"), condition("name", "starts_with", "F")),
            ],
            {},
            [2, 3],
        ),
        (
            [
                condition("pen_id", "gt", 0),
                {"operator": "OR", "conditions": [condition("id", "eq", 2), condition("id", "eq", 3)]},
            ],
            {},
            [2, 3],
        ),
        ([{"conditions": [condition("kind", "equals", "goat"), condition("id", "lt", 3)]}], {}, [1]),
        ([ALL], {"sort": BY_KIND}, [2, 5, 3, 1, 4]),
        ([ALL], {"sort": {"attribute": "weight", "descending": True}, "limit": 3}, [2, 1, 3]),
        ([ALL], {"limit": 2, "offset": 1}, [2, 3]),
        ([ALL], {"limit": "2", "offset": "1"}, [2, 3]),
        ([ALL], {"reverse": True}, [5, 4, 3, 2, 1]),
        (
            [ALL],
            {"onlyIfCached": True, "noCache": False, "noCacheStore": True, "replicateFrom": False, "limit": 1},
            [1],
        ),
        ([{"attribute": "kind", "value": "sheep"}], {}, [4]),
        ([condition("kind", None, "sheep")], {}, [4]),
        ([{"search_attribute": "kind", "search_type": "starts_with", "search_value": "sh"}], {}, [4]),
        (
            [
                condition("kind", "equals", "sheep")
                | {"search_attribute": "x", "search_type": "in", "search_value": "y"}
            ],
            {},
            [4],
        ),
        ([condition("kind", "equals", "go*")], {}, []),
        ([condition("info", "equals", "x")], {}, []),
        ([condition("info", "not_equal", "x")], {}, []),
    ],
)
def test_conditions_find(farm: NodeProcess, conditions: list[Any], fields: dict[str, Any], ids: list[int]) -> None:
    assert by_conditions(farm, *conditions, **fields) == ids


def test_a_nested_selection_picks_from_an_object(farm: NodeProcess) -> None:
    selection = ["id", {"name": "info", "select": ["chip"]}]
    search = {"operation": "search_by_conditions", **A, "conditions": [condition("id", "equals", 1)]}
    assert farm.post(**search, get_attributes=selection) == [{"id": 1, "info": {"chip": "A1"}}]
    deep = [{"name": "info", "select": ["chip", {"name": "born", "select": ["y"]}]}]
    assert farm.post(**search, get_attributes=deep) == [{"info": {"chip": "A1", "born": {"y": 2019}}}]
    assert farm.post(operation="search_by_value", **A, attribute="id", value=1, get_attributes=selection) == [
        {"id": 1, "info": {"chip": "A1"}}
    ]


# Comparators, against rules written down once more

Matches = Callable[[int, int], bool]
"""Of the places of a value and of the bound in ``MIXED``."""

COMPARATORS: dict[tuple[str, ...], Matches] = {
    ("equals", "equal"): lambda value, bound: value == bound,
    ("not_equal", "notEqual"): lambda value, bound: value != bound,
    ("greater_than", "greaterThan", ">"): lambda value, bound: value > bound,
    ("greater_than_equal", "greaterThanEqual", ">="): lambda value, bound: value >= bound,
    ("less_than", "lessThan", "<"): lambda value, bound: MIXED[value] is not False and value < bound,
    ("less_than_equal", "lessThanEqual", "<="): lambda value, bound: MIXED[value] is not False and value <= bound,
}
NAMED = [(name, matches) for names, matches in COMPARATORS.items() for name in names]


def place(value: Any) -> int:
    """Where a value is in the order across types."""
    return next(n for n, known in enumerate(MIXED) if known == value and type(known) is type(value))


@pytest.mark.parametrize("is_second", [False, True])
@pytest.mark.parametrize(("name", "matches"), NAMED)
def test_a_comparison_follows_the_order_across_types(
    farm: NodeProcess, name: str, matches: Matches, is_second: bool
) -> None:
    first = [condition("id", "greater_than_equal", 0)] if is_second else []
    for bound in [-1, 0, 4.5, 10, "", "10", "a", "é"]:
        wanted = [n for n in range(1, len(MIXED)) if matches(n, place(bound))]
        assert by_conditions(farm, *first, condition("v", name, bound), table="mixed") == wanted, bound


@pytest.mark.parametrize(
    ("comparator", "value", "found"),
    [
        ("between", [0, 10], [0, 1, 4.5, 10]),
        ("gele", [0, 10], [0, 1, 4.5, 10]),
        ("gelt", [0, 10], [0, 1, 4.5]),
        ("...", [0, 10], [0, 1, 4.5]),
        ("gtlt", [0, 10], [1, 4.5]),
        ("gtle", [0, 10], [1, 4.5, 10]),
        ("between", [10, 0], []),
        ("between", [4.5, "B"], [4.5, 10, "", "10", "B"]),
        ("contains", "1", [-1, 1, 10, "10"]),
        ("ct", "1", [-1, 1, 10, "10"]),
        ("contains", "b", []),
        ("starts_with", "1", ["10"]),
        ("startsWith", "1", ["10"]),
        ("sw", "1", ["10"]),
        ("starts_with", "b", []),
        ("ends_with", "0", [0, 10, "10"]),
        ("endsWith", ".5", [4.5]),
        ("ew", "é", ["é"]),
        ("not_equal", True, [False, -1, 0, 1, 4.5, 10, "", "10", "B", "a", "é", "😀"]),
        ("equals", False, [False]),
        ("equals", "", [""]),
    ],
)
def test_a_comparator_finds(farm: NodeProcess, comparator: str, value: Any, found: list[Any]) -> None:
    wanted = sorted(place(each) for each in found)
    assert by_conditions(farm, condition("v", comparator, value), table="mixed") == wanted
    second = by_conditions(farm, condition("id", "ge", 0), condition("v", comparator, value), table="mixed")
    assert second == wanted


def test_an_empty_text_is_contained_in_all_but_null(farm: NodeProcess) -> None:
    assert by_conditions(farm, condition("v", "contains", ""), table="mixed") == list(range(1, len(MIXED)))


@pytest.mark.parametrize(
    "name", ["in", "like", "gte", "lte", "=", "==", "===", "!=", "!==", "Equals", "", "constructor"]
)
def test_a_name_that_is_no_comparator_is_refused(farm: NodeProcess, name: str) -> None:
    answer = ask(farm, "search_by_conditions", **A, conditions=[condition("kind", name, ["goat"])])
    assert answer == refused(400, f'Unknown query comparator "{name}"')


@pytest.mark.parametrize(
    ("value", "found"),
    [(["a"], [["a", 1], ["a", 2], ["a", 2, "x"]]), (["a", 2], [["a", 2], ["a", 2, "x"]]), ([2], [[2, "a"], [2, "b"]])],
)
def test_a_prefix_finds_the_array_keys_that_start_with_it(farm: NodeProcess, value: Any, found: list[Any]) -> None:
    keys = by_conditions(farm, condition("id", "prefix", value), table="keys")
    assert [key for key in keys if isinstance(key, list) and key != value] == [key for key in found if key != value]


def test_array_keys_follow_their_first_element(farm: NodeProcess) -> None:
    ordered = [2, [2, "a"], [2, "b"], 10, "a", ["a", 1], ["a", 2], ["a", 2, "x"], "b"]
    assert by_value(farm, "id", "*", table="keys") == ordered


# Coercion


@pytest.mark.parametrize(
    ("comparator", "value", "ids"),
    [
        ("equals", "38", []),
        ("eq", "38", [3]),
        ("ne", "38", [1, 2]),
        ("gt", "38", [1, 2]),
        ("ge", "41.5", [1, 2]),
        ("lt", "41.5", [3]),
        ("le", "38", [3]),
        ("greater_than", "38", []),
        ("eq", "null", [4]),
        ("eq", "NULL", [4]),
        ("eq", "undefined", [4]),
        ("eq", "038", []),
        ("eq", "38.0", [3]),
        ("eq", "3.8e1", []),
    ],
)
def test_a_short_name_casts_text_on_an_untyped_attribute(
    farm: NodeProcess, comparator: str, value: str, ids: list[int]
) -> None:
    assert by_conditions(farm, condition("weight", comparator, value)) == ids


@pytest.mark.parametrize("text", ["true", "TRUE"])
def test_a_short_name_casts_words_for_booleans(farm: NodeProcess, text: str) -> None:
    assert by_conditions(farm, condition("tame", "eq", text)) == [1, 2]
    assert by_conditions(farm, condition("tame", "equals", text)) == []
    assert by_conditions(farm, condition("tame", "eq", "True")) == []


@pytest.mark.parametrize(
    ("attribute", "value", "ids"),
    [
        ("i", "38", ["1"]),
        ("i", 38, ["1"]),
        ("i", "", ["3"]),
        ("i", "null", ["3"]),
        ("l", "38", ["1"]),
        ("f", "1.5", ["1"]),
        ("g", "38", ["1"]),
        ("b", "TRUE", ["1"]),
        ("b", "False", ["2"]),
        ("d", "2020-01-02T03:04:05.678Z", ["1"]),
        ("d", "2020-01-02T03:04:05.678", ["1"]),
        ("d", 1577934245678, ["1"]),
        ("d", "1577934245678", ["1"]),
        ("d", "1970-01-01", ["2"]),
        ("d", "null", ["3"]),
        ("s", 38, []),
        ("s", "38", ["1"]),
        ("s", "", ["3"]),
        ("a", "38", ["1"]),
        ("id", 1, []),
        ("id", "1", ["1"]),
    ],
)
def test_a_value_becomes_the_type_of_its_attribute(
    farm: NodeProcess, attribute: str, value: Any, ids: list[str]
) -> None:
    assert by_conditions(farm, condition(attribute, "equals", value), table="typed") == ids
    assert by_value(farm, attribute, value, table="typed") == ids


@pytest.mark.parametrize(
    ("attribute", "value", "kind"),
    [
        ("i", "x", "Int"),
        ("i", "1.5", "Int"),
        ("i", " 1", "Int"),
        ("l", "1e3", "Long"),
        ("f", "x", "Float"),
        ("g", "x", "BigInt"),
        ("b", "yes", "Boolean"),
        ("d", "gibberish", "Date"),
    ],
)
def test_a_value_of_another_type_is_refused(farm: NodeProcess, attribute: str, value: str, kind: str) -> None:
    expected = refused(400, f'Invalid value for attribute {attribute}: "{value}", expecting {kind}')
    where: dict[str, Any] = {"database": DB, "table": "typed"}
    assert ask(farm, "search_by_conditions", **where, conditions=[condition(attribute, "equals", value)]) == expected
    assert ask(farm, "search_by_value", **where, attribute=attribute, value=value) == expected


def test_dates_compare_in_ranges(farm: NodeProcess) -> None:
    late = condition("d", "greater_than", "2000-01-01")
    assert by_conditions(farm, late, table="typed") == ["1"]
    both = condition("d", "between", ["1960-01-01", "2030-01-01T00:00:00+02:00"])
    assert by_conditions(farm, both, table="typed") == ["2", "1"]


# Sorting


@pytest.mark.parametrize("attribute", ["v", ["v"]])
def test_a_sort_keeps_nulls_and_absent_values(farm: NodeProcess, attribute: Any) -> None:
    everything = condition("id", "ge", 0)
    ascending = by_conditions(farm, everything, table="mixed", sort={"attribute": attribute})
    assert ascending == [0, ABSENT, *range(1, len(MIXED))]
    descending = by_conditions(farm, everything, table="mixed", sort={"attribute": attribute, "descending": True})
    assert descending == [*range(len(MIXED) - 1, 0, -1), 0, ABSENT]


def test_a_sort_works_with_or_and_pages(farm: NodeProcess) -> None:
    conditions = [condition("kind", "equals", "sheep"), condition("kind", "equals", "goat")]
    sort = {"attribute": "name", "descending": True}
    assert by_conditions(farm, *conditions, operator="or", sort=sort) == [5, 4, 3, 1]
    assert by_conditions(farm, *conditions, operator="or", sort=sort, limit=2, offset=1) == [4, 3]


def test_a_sort_by_an_attribute_without_index(farm: NodeProcess) -> None:
    ids = by_conditions(farm, condition("id", "ge", ""), table="typed", sort={"attribute": "f", "descending": True})
    assert ids == ["2", "1", "3"]


def test_search_by_value_sorts_too(farm: NodeProcess) -> None:
    assert by_value(farm, "kind", "goat", sort={"attribute": "name", "descending": True}) == [5, 3, 1]


# Errors of search_by_conditions


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"conditions": []}, 400, "'conditions' must contain at least 1 items"),
        ({}, 400, "'conditions' is required"),
        ({"conditions": None}, 400, "'conditions' must be an array"),
        ({"conditions": {"attribute": "a"}}, 400, "'conditions' must be an array"),
        ({"conditions": [{"value": 1}]}, 400, "'conditions[0].attribute' is required"),
        ({"conditions": [ALL, {"comparator": "equals", "value": 1}]}, 400, "'conditions[1].attribute' is required"),
        ({"conditions": [{"attribute": "kind"}]}, 400, "Search condition for kind must have a value"),
        ({"conditions": [condition("kind", "in", ["goat"])]}, 400, 'Unknown query comparator "in"'),
        ({"conditions": [ALL], "operator": "xor"}, 400, "'operator' must be one of [and, or]"),
        ({"conditions": [ALL], "operator": 5}, 400, "'operator' must be one of [and, or]"),
        (
            {"conditions": [{"operator": "xor", "conditions": [ALL]}]},
            400,
            "'conditions[0]' does not match any of the allowed types",
        ),
        ({"conditions": [ALL], "operator": "or"}, 500, 'An "or" operator requires at least two conditions'),
        ({"conditions": [either(ALL)]}, 500, 'An "or" operator requires at least two conditions'),
        ({"conditions": [{"conditions": []}]}, 500, 'An "and" operator requires at least one condition'),
        ({"conditions": [condition("x", "equals", 1)]}, 400, "unknown attribute 'x'"),
        ({"conditions": [condition("info.chip", "equals", 1)]}, 400, "unknown attribute 'info.chip'"),
        (
            {
                "conditions": [condition("c", "eq", 1), either(condition("d", "eq", 1), ALL)],
                "get_attributes": ["a", "id", "b"],
            },
            400,
            "unknown attribute 'a, b, c and d'",
        ),
        ({"conditions": [condition("b", "eq", 1)], "get_attributes": ["a"]}, 400, "unknown attribute 'a and b'"),
        (
            {"conditions": [condition(["info", "chip"], "equals", "A1")]},
            400,
            'Unable to query by attribute ["info","chip"]',
        ),
        ({"conditions": [ALL], "limit": 0}, 400, "'limit' must be greater than or equal to 1"),
        ({"conditions": [ALL], "limit": None}, 400, "'limit' must be a number"),
        ({"conditions": [ALL], "limit": "x"}, 400, "'limit' must be a number"),
        ({"conditions": [ALL], "limit": 1.5}, 400, "'limit' must be an integer"),
        ({"conditions": [ALL], "offset": -1}, 400, "'offset' must be greater than or equal to 0"),
        ({"conditions": [ALL], "sort": "name"}, 400, "'sort' must be of type object"),
        ({"conditions": [ALL], "sort": ["name"]}, 400, "'sort' must be of type object"),
        ({"conditions": [ALL], "sort": {}}, 400, "Sort requires an attribute"),
        (
            {"conditions": [ALL], "sort": {"attribute": "name", "descending": "x"}},
            400,
            "'sort.descending' must be a boolean",
        ),
        ({"conditions": [ALL], "sort": {"attribute": "x"}}, 404, "x is not a defined attribute"),
        ({"conditions": [condition("weight", "between", [1])]}, 400, "'conditions[0].value' must contain 2 items"),
        ({"conditions": [ALL, condition("weight", "gelt", 1)]}, 400, "'conditions[1].value' must contain 2 items"),
        ({"table": "ghost", "conditions": [ALL]}, 400, "Table ghost not found"),
        ({"table": None, "conditions": [ALL]}, 400, "Table undefined not found"),
        ({"database": "ghost", "conditions": [ALL]}, 404, "database 'ghost' does not exist"),
        ({"conditions": [ALL], "get_attributes": []}, 400, "'get_attributes' must contain at least 1 items"),
        ({"conditions": [ALL], "get_attributes": "id"}, 400, "'get_attributes' must be an array"),
        ({"conditions": [ALL], "get_attributes": ["x"]}, 400, "unknown attribute 'x'"),
        ({"conditions": [ALL], "get_attributes": [{"name": "info"}]}, 400, "Invalid select[object Object]"),
    ],
)
def test_search_by_conditions_is_refused(farm: NodeProcess, fields: dict[str, Any], status: int, problem: str) -> None:
    sent = {name: value for name, value in (A | fields).items() if not (name == "table" and value is None)}
    assert ask(farm, "search_by_conditions", **sent) == refused(status, problem)


def test_an_explained_search_reads_nothing_and_tells_its_plan(farm: NodeProcess) -> None:
    answer = farm.post(
        operation="search_by_conditions", **A, conditions=[condition("kind", "equals", "goat"), ALL], explain=True
    )
    assert answer.keys() == {"conditions", "operator", "postOrdering", "selectApplied", "plan"}
    assert answer["plan"][0].keys() == {"index", "range", "estimated", "filter"}


# search_by_value


@pytest.mark.parametrize(
    ("attribute", "value", "fields", "ids"),
    [
        ("name", "O*", {}, [2]),
        ("name", "*z*", {}, [4, 5]),
        ("name", "*la", {}, [1]),
        ("name", "Be*", {}, [1]),
        ("name", "*ell*", {}, [1]),
        ("name", "B*a", {}, []),
        ("name", "Be**", {}, []),
        ("name", "Be%", {}, []),
        ("name", "%", {}, []),
        ("name", "be*", {}, []),
        ("kind", "goat", {"desc": True}, [5, 3, 1]),
        ("kind", "goat", {"reverse": True}, [5, 3, 1]),
        ("kind", "goat", {"limit": 1, "offset": 1}, [3]),
        ("kind", "goat", {"limit": "1", "offset": "2"}, [5]),
        ("weight", "*", {}, [1, 2, 3, 4, 5]),
        ("name", "*", {"desc": True}, [5, 4, 3, 2, 1]),
        ("weight", "*8*", {}, [3, 2]),
        ("weight", "*.5", {}, [1]),
        ("weight", 38, {}, [3]),
        ("weight", "38", {}, []),
        ("weight", None, {}, [4]),
        ("tame", True, {}, [1, 2]),
        ("tame", "true", {}, []),
        ("tags", "calm", {}, [1, 2]),
        ("tags", "mi*", {}, [1]),
        ("kind", "*o*", {}, [2, 1, 3, 5]),
    ],
)
def test_search_by_value_finds(
    farm: NodeProcess, attribute: str, value: Any, fields: dict[str, Any], ids: list[int]
) -> None:
    assert by_value(farm, attribute, value, **fields) == ids


def test_stars_beyond_the_ends_are_text(farm: NodeProcess) -> None:
    where: dict[str, Any] = {"database": DB, "table": "stars"}
    farm.post(operation="create_table", **where, primary_key="id")
    names = ["B*a", "Be*", "Bee", "%", "a*b*c"]
    farm.post(operation="insert", **where, records=[{"id": n, "name": name} for n, name in enumerate(names)])
    for value, ids in {"B*a": [0], "Be**": [1], "Be*": [1, 2], "%": [3], "*b*c": [4], "a*b*": [4]}.items():
        assert by_value(farm, "name", value, table="stars") == ids


def test_the_legacy_names_of_search_by_value_win(farm: NodeProcess) -> None:
    legacy = {"search_attribute": "kind", "search_value": "sheep"}
    assert farm.post(operation="search_by_value", **A, **legacy, get_attributes=["id"]) == [{"id": 4}]
    assert by_value(farm, "name", "Bella", **legacy) == [4]


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"value": 1}, 500, "'attribute' is required"),
        ({"attribute": "name"}, 500, "'value' is required"),
        ({"table": None, "attribute": "name", "value": 1}, 500, "'table' is required"),
        ({}, 500, "'attribute' is required. 'value' is required"),
        ({"attribute": "name", "value": 1, "limit": 0}, 500, "'limit' must be greater than or equal to 1"),
        ({"attribute": "name", "value": 1, "limit": "x"}, 500, "'limit' must be a number"),
        ({"attribute": "name", "value": 1, "limit": 1.5}, 500, "'limit' must be an integer"),
        ({"attribute": "name", "value": 1, "offset": -1}, 500, "'offset' must be greater than or equal to 0"),
        ({"attribute": "name", "value": 1, "desc": "x"}, 500, "'desc' must be a boolean"),
        ({"attribute": "ghost", "value": "x"}, 500, "unknown attribute 'ghost'"),
        ({"attribute": "name", "value": {"a": 1}}, 500, 'Unable to serialize object as a key: {"a":1}'),
        ({"database": "ghost", "attribute": "name", "value": 1}, 404, "database 'ghost' does not exist"),
        ({"table": "ghost", "attribute": "name", "value": 1}, 404, f"Table '{DB}.ghost' does not exist"),
        (
            {"attribute": "name", "value": 1, "get_attributes": []},
            500,
            "'get_attributes' must contain at least 1 items",
        ),
        ({"attribute": "name", "value": 1, "get_attributes": "id"}, 500, "'get_attributes' must be an array"),
        ({"attribute": "name", "value": 1, "get_attributes": ["x", "y"]}, 500, "unknown attribute 'x and y'"),
        ({"attribute": "c", "value": 1, "get_attributes": ["a", "b"]}, 500, "unknown attribute 'a, b and c'"),
        ({"attribute": "name", "value": 1, "get_attributes": [{"name": "info"}]}, 400, "Invalid select[object Object]"),
    ],
)
def test_search_by_value_is_refused(farm: NodeProcess, fields: dict[str, Any], status: int, problem: str) -> None:
    sent = {name: value for name, value in (A | fields).items() if not (name == "table" and value is None)}
    assert ask(farm, "search_by_value", **sent) == refused(status, problem)


# search_by_id


@pytest.mark.parametrize("operation", ["search_by_id", "search_by_hash"])
@pytest.mark.parametrize("field", ["ids", "hash_values"])
def test_search_by_id_keeps_the_order_of_ids(farm: NodeProcess, operation: str, field: str) -> None:
    bella = {"id": 1, "name": "Bella", "tags": ["milk", "calm"]}
    body = {field: [3, 1, 77, "1", 1], "get_attributes": ["id", "name", "tags"]}
    assert farm.post(operation=operation, **A, **body) == [{"id": 3, "name": "Fern", "tags": None}, bella, bella]
    assert farm.post(operation=operation, **A, **body | {field: []}) == []


def test_ids_win_over_hash_values(farm: NodeProcess) -> None:
    body = {"ids": [2], "hash_values": [1], "get_attributes": ["id"]}
    assert farm.post(operation="search_by_id", **A, **body) == [{"id": 2}]


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"get_attributes": ["id"]}, 500, "'hash_values' is required"),
        ({"ids": 1, "get_attributes": ["id"]}, 500, "'hash_values' must be an array"),
        ({"ids": [1, None], "get_attributes": ["id"]}, 500, "'hash_values' must be strings or numbers"),
        ({"ids": [True], "get_attributes": ["id"]}, 500, "'hash_values' must be strings or numbers"),
        ({}, 500, "'hash_values' is required. 'get_attributes' is required"),
        ({"table": None, "ids": [1], "get_attributes": ["id"]}, 500, "'table' is required"),
        ({"ids": [1]}, 500, "'get_attributes' is required"),
        ({"ids": [1], "get_attributes": []}, 500, "'get_attributes' must contain at least 1 item"),
        ({"ids": [1], "get_attributes": "id"}, 500, "'get_attributes' must be an array"),
        ({"ids": [1], "get_attributes": ["x"]}, 500, "unknown attribute 'x'"),
        (
            {"ids": [1], "get_attributes": [{"name": "info", "select": ["chip"]}]},
            500,
            "'get_attributes' must be strings or numbers",
        ),
        ({"database": "ghost", "ids": [1], "get_attributes": ["id"]}, 404, "database 'ghost' does not exist"),
        ({"table": "ghost", "ids": [1], "get_attributes": ["id"]}, 404, f"Table '{DB}.ghost' does not exist"),
    ],
)
def test_search_by_id_is_refused(farm: NodeProcess, fields: dict[str, Any], status: int, problem: str) -> None:
    sent = {name: value for name, value in (A | fields).items() if not (name == "table" and value is None)}
    assert ask(farm, "search_by_id", **sent) == refused(status, problem)


# Selection

TABLE_ORDER = ["id", "__createdtime__", "__updatedtime__", "name", "kind", "weight", "pen_id", "tags", "tame", "info"]
SEARCHES: list[dict[str, Any]] = [
    {"operation": "search_by_id", "ids": [4]},
    {"operation": "search_by_value", "attribute": "name", "value": "Hazel"},
    {"operation": "search_by_conditions", "conditions": [condition("id", "equals", 4)]},
]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("field", ["get_attributes", "select"])
def test_a_star_gives_all_attributes_in_table_order(farm: NodeProcess, search: dict[str, Any], field: str) -> None:
    for elements in (["*"], ["*", "name"]):
        (record,) = farm.post(**search, **A, **{field: elements})
        assert list(record) == TABLE_ORDER
        assert [record[name] for name in TABLE_ORDER[3:]] == ["Hazel", "sheep", None, 12, None, None, None]


@pytest.mark.parametrize("search", SEARCHES)
def test_named_attributes_come_in_their_order_and_null_where_absent(farm: NodeProcess, search: dict[str, Any]) -> None:
    (record,) = farm.post(**search, **A, get_attributes=["tags", "kind", "id", "weight"])
    assert list(record.items()) == [("tags", None), ("kind", "sheep"), ("id", 4), ("weight", None)]
    assert farm.post(**search, **A, get_attributes=["id"], select=["name"]) == [{"name": "Hazel"}]


@pytest.mark.parametrize("search", SEARCHES[1:])
def test_without_attributes_the_stored_record_comes_back(farm: NodeProcess, search: dict[str, Any]) -> None:
    (record,) = farm.post(**search, **A)
    assert record.pop("__createdtime__") == record.pop("__updatedtime__")
    assert record == ANIMALS[3]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_star_that_is_not_first_is_expanded_in_place(farm: NodeProcess, search: dict[str, Any]) -> None:
    (record,) = farm.post(**search, **A, get_attributes=["name", "*"])
    assert list(record) == ["name", *[name for name in TABLE_ORDER if name != "name"]]


@pytest.mark.parametrize("search", SEARCHES)
def test_metadata_is_selected_by_its_names(farm: NodeProcess, search: dict[str, Any]) -> None:
    names = ["$id", "$updatedtime", "$updatedTime", "$expiresAt", "$record", "$other", "__updatedtime__"]
    (record,) = farm.post(**search, **A, get_attributes=names)
    assert list(record) == names
    assert (record["$id"], record["$expiresAt"], record["$other"]) == (4, None, None)
    assert record["$updatedtime"] == record["$updatedTime"] == record["__updatedtime__"]
    assert record["$record"]["name"] == "Hazel"


def test_a_star_on_a_declared_table_is_the_record_as_stored(farm: NodeProcess) -> None:
    search = {"operation": "search_by_id", "database": DB, "table": "typed", "ids": ["2"]}
    assert farm.post(**search, get_attributes=["*"]) == [
        {"id": "2", "i": 7, "f": 2.5, "b": False, "d": "1970-01-01T00:00:00.000Z", "s": "x", "a": "38", "extra": [1]}
    ]


# Long values


@pytest.mark.parametrize("length", [250, 256, 480, 505, 511, 512, 1000, 5000])
def test_long_texts_that_begin_alike_are_told_apart_and_ordered(farm: NodeProcess, length: int) -> None:
    where: dict[str, Any] = {"database": DB, "table": f"long{length}"}
    farm.post(operation="create_table", **where, primary_key="id")
    begin = "é" * (length // 2)
    ends = ["d", "b", "a", "", "c"]
    farm.post(operation="insert", **where, records=[{"id": n, "v": begin + end} for n, end in enumerate(ends)])
    find = functools.partial(by_conditions, farm, table=where["table"])
    assert by_value(farm, "v", begin + "b", table=where["table"]) == [1]
    assert by_value(farm, "v", begin, table=where["table"]) == [3]
    assert by_value(farm, "v", begin + "*", table=where["table"]) == [3, 2, 1, 4, 0]
    assert find(condition("v", "equals", begin + "c")) == [4]
    assert find(condition("v", "greater_than", begin + "b")) == [4, 0]
    assert find(condition("v", "less_than_equal", begin + "b")) == [3, 2, 1]
    assert find(condition("v", "between", [begin + "a", begin + "c"])) == [2, 1, 4]
    assert find(condition("v", "ends_with", "éd")) == [0]
    assert find(condition("id", "ge", 0), sort={"attribute": "v", "descending": True}) == [0, 4, 1, 2, 3]
    assert find(condition("v", "starts_with", begin), limit=2, offset=1) == [2, 1]
    farm.post(operation="update", **where, records=[{"id": 3, "v": begin + "e"}])
    assert find(condition("v", "ge", begin), sort={"attribute": "v"}) == [2, 1, 4, 0, 3]


# Formats


def search_as(node: NodeProcess, accept: str, **body: Any) -> Any:
    return node.request(A | body, accept=accept)


PEOPLE = {"conditions": [condition("id", "le", 3)], "get_attributes": ["id", "name", "tags", "tame"]}


@pytest.mark.parametrize("accept", ["text/csv", "text/csv; q=0.5"])
def test_csv_has_a_row_for_each_record(farm: NodeProcess, accept: str) -> None:
    response = search_as(farm, accept, operation="search_by_conditions", **PEOPLE)
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["content-disposition"] == 'attachment; filename="data.csv"'
    assert response.text == (
        '"id","name","tags","tame"\n1,"Bella","[""milk"",""calm""]",true\n2,"Otis","[""calm""]",true\n3,"Fern",,false'
    )


def test_csv_columns_of_a_star_are_the_tables(farm: NodeProcess) -> None:
    body = {"operation": "search_by_id", "ids": [5], "get_attributes": ["*"]}
    header, row = search_as(farm, "text/csv", **body).text.split("\n")
    assert header == ",".join(f'"{name}"' for name in TABLE_ORDER)
    assert row.startswith("5,") and row.endswith(',"ozzy","goat",,,"[]",,')


def test_csv_of_nothing(farm: NodeProcess) -> None:
    none = {"conditions": [condition("id", "gt", 99)], "get_attributes": ["id", "name"]}
    assert search_as(farm, "text/csv", operation="search_by_conditions", **none).text == '"id","name"'
    by_id = {"operation": "search_by_id", "ids": [99], "get_attributes": ["id"]}
    assert search_as(farm, "text/csv", **by_id).content == b""
    assert search_as(farm, "text/csv", operation="search_by_value", attribute="id", value=99).content == b""


@pytest.mark.parametrize("operation", ["search_by_conditions", "search_by_value"])
def test_binary_formats_hold_the_same_records(farm: NodeProcess, operation: str) -> None:
    what = PEOPLE if operation == "search_by_conditions" else {"attribute": "kind", "value": "goat"}
    wanted = search_as(farm, "application/json", operation=operation, **what).json()
    assert len(wanted) == 3
    assert cbor2.loads(search_as(farm, "application/cbor", operation=operation, **what).content) == wanted
    packed = search_as(farm, "application/x-msgpack", operation=operation, **what).content
    if operation == "search_by_conditions":
        assert packed == b"".join(ormsgpack.packb(record) for record in wanted)
    else:
        assert ormsgpack.unpackb(packed) == wanted


def test_a_list_is_chunked_and_an_object_has_a_length(farm: NodeProcess) -> None:
    found = search_as(farm, "application/json", operation="search_by_conditions", **PEOPLE)
    assert found.headers.get("transfer-encoding") == "chunked"
    described = farm.request({"operation": "describe_table", **A})
    assert int(described.headers["content-length"]) == len(described.content)


def test_a_large_list_comes_back_whole_in_every_format(farm: NodeProcess) -> None:
    where: dict[str, Any] = {"database": DB, "table": "many"}
    farm.post(operation="create_table", **where, primary_key="id")
    records = [{"id": n, "half": n % 2, "text": "x" * 20} for n in range(5000)]
    for begin in range(0, 5000, 1000):
        farm.post(operation="insert", **where, records=records[begin : begin + 1000])
    body = {
        "operation": "search_by_conditions",
        **where,
        "conditions": [condition("half", "eq", 1)],
        "get_attributes": ["id"],
    }
    wanted = list(range(1, 5000, 2))
    assert [record["id"] for record in farm.request(body).json()] == wanted
    assert [r["id"] for r in cbor2.loads(farm.request(body, accept="application/cbor").content)] == wanted
    assert [int(line) for line in farm.request(body, accept="text/csv").text.split("\n")[1:]] == wanted
    descending = body | {"sort": {"attribute": "id", "descending": True}, "limit": 2000, "offset": 7}
    assert [record["id"] for record in farm.request(descending).json()] == wanted[::-1][7:2007]


@pytest.mark.parametrize("accept", ["text/html", "application/msgpack"])
def test_nothing_acceptable_is_refused(farm: NodeProcess, accept: str) -> None:
    response = search_as(farm, accept, operation="search_by_conditions", **PEOPLE)
    assert (response.status_code, json.loads(response.content)["error"]) == (406, "Not Acceptable")


def test_a_list_of_a_table_that_is_dropped_meanwhile_ends_with_the_error(farm: NodeProcess) -> None:
    where: dict[str, Any] = {"database": DB, "table": "doomed"}
    farm.post(operation="create_table", **where, primary_key="id")
    for begin in range(0, 20_000, 5000):
        records = [{"id": n, "filler": "x" * 500} for n in range(begin, begin + 5000)]
        farm.post(operation="insert", **where, records=records)
    body = {"operation": "search_by_conditions", **where, "conditions": [condition("id", "ge", 0)]}
    assert farm._client is not None
    with farm._client.stream("POST", farm.url(), json=body) as response:
        chunks = response.iter_bytes()
        begin_of_list = next(chunks)
        farm.post(operation="drop_table", **where)
        found = json.loads(begin_of_list + b"".join(chunks))
    assert response.status_code == 200
    assert found[-1] == {"error": "TableNotFound", "message": f"Table '{DB}.doomed' does not exist"}
    assert [record["id"] for record in found[:-1]] == list(range(len(found) - 1))


# Rights

ON_STAFF = {"database": DB, "table": "staff"}
PAY = missing_rights(f"{DB}.staff", [], {"pay": ["read"]})


@pytest.mark.parametrize(
    ("operation", "fields", "expected"),
    [
        (
            "search_by_id",
            {"table": "animal", "ids": 5, "get_attributes": ["id"]},
            forbidden(missing_rights(f"{DB}.animal", ["read"])),
        ),
        ("search_by_value", {"table": "typed"}, forbidden(unknown=[f"Table '{DB}.typed' does not exist"])),
        (
            "search_by_conditions",
            {"database": "ghost", "table": "x", "conditions": 5},
            forbidden(unknown=["database 'ghost' does not exist"]),
        ),
        ("search_by_id", {"ids": [1], "get_attributes": ["id", "pay"]}, forbidden(PAY)),
        ("search_by_value", {"attribute": "pay", "value": 5, "get_attributes": ["name"]}, forbidden(PAY)),
        ("search_by_conditions", {"conditions": [condition("pay", "eq", 5)], "get_attributes": ["id"]}, forbidden(PAY)),
        (
            "search_by_conditions",
            {"conditions": [either(condition("name", "eq", "x"), condition("pay", "eq", 5))], "get_attributes": ["id"]},
            forbidden(PAY),
        ),
        (
            "search_by_conditions",
            {"conditions": [condition("id", "ge", 0)], "sort": {"attribute": "pay"}, "get_attributes": ["id"]},
            forbidden(PAY),
        ),
        (
            "search_by_id",
            {"ids": [1], "get_attributes": ["none"]},
            forbidden(unknown=[f"Attribute 'none' does not exist on '{DB}.staff'"]),
        ),
    ],
)
def test_a_user_is_told_why_not(farm: NodeProcess, operation: str, fields: dict[str, Any], expected: Answer) -> None:
    assert ask(farm, operation, user=HERDER, **ON_STAFF | fields) == expected


@pytest.mark.parametrize(
    "search",
    [
        {"operation": "search_by_id", "ids": [2], "get_attributes": ["*"]},
        {"operation": "search_by_value", "attribute": "name", "value": "Bo"},
        {"operation": "search_by_value", "attribute": "name", "value": "B*", "get_attributes": ["*"]},
        {"operation": "search_by_conditions", "conditions": [condition("id", "eq", 2)]},
        {"operation": "search_by_conditions", "conditions": [condition("id", "eq", 2)], "get_attributes": ["*"]},
    ],
)
def test_a_user_reads_only_what_the_role_allows(farm: NodeProcess, search: dict[str, Any]) -> None:
    status, found = ask(farm, user=HERDER, **search, **ON_STAFF)
    assert (status, found) == (200, [{"id": 2, "name": "Bo"}])
    assert list(found[0]) == ["name", "id"]
