"""Bodies of searches: every refusal with its status and text, and the queries that good ones become."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ops.errors import OperationError
from ops.search_params import (
    BoundSearch,
    Search,
    bind,
    names_in_search,
    read_condition_search,
    read_id_search,
    read_value_search,
)
from storage.conditions import Comparator, Condition, Group, Query, Sort
from storage.errors import InvalidValue
from storage.schema import Attribute, Definition, Table, dynamic_attributes


def _table(database: str = "farm") -> Table:
    attributes = (
        *dynamic_attributes("id"),
        *(Attribute(name=name, indexed=True) for name in ("name", "kind", "weight", "info")),
        Attribute(name="age", type="Int", indexed=True),
    )
    definition = Definition(name="animal", primary_key="id", attributes=attributes)
    return Table(id=1, database=database, definition=definition, rows_id=1, tombstones_id=2, index_ids={})


TABLE = _table()
SYSTEM_TABLE = _table("system")
A: dict[str, Any] = {"database": "farm", "table": "animal"}
GOAT = {"attribute": "kind", "comparator": "equals", "value": "goat"}
KIND = Condition(attribute="kind", value="goat")


def _refusal(
    read: Callable[[Mapping[str, Any]], Any], body: dict[str, Any], table: Table | None = None
) -> tuple[int, str]:
    with pytest.raises(OperationError) as refusal:
        search = read(body)
        if table is not None:
            bind(search, table)
    return refusal.value.status, str(refusal.value)


def _bound(search: Search) -> BoundSearch:
    return bind(search, TABLE)


def _where(*conditions: Any, **fields: Any) -> Any:
    return _bound(read_condition_search({**A, "conditions": list(conditions), **fields})).query.where


# -- search_by_id -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"get_attributes": ["id"]}, "'hash_values' is required"),
        ({"ids": None, "get_attributes": ["id"]}, "'hash_values' is required"),
        ({"ids": 5, "get_attributes": ["id"]}, "'hash_values' must be an array"),
        ({"hash_values": {}, "get_attributes": ["id"]}, "'hash_values' must be an array"),
        ({"ids": [1, None], "get_attributes": ["id"]}, "'hash_values' must be strings or numbers"),
        ({"ids": [True], "get_attributes": ["id"]}, "'hash_values' must be strings or numbers"),
        ({"ids": [[1]], "get_attributes": ["id"]}, "'hash_values' must be strings or numbers"),
        ({}, "'hash_values' is required. 'get_attributes' is required"),
        ({"ids": [1]}, "'get_attributes' is required"),
        ({"ids": [1], "get_attributes": []}, "'get_attributes' must contain at least 1 item"),
        ({"ids": [1], "get_attributes": "id"}, "'get_attributes' must be an array"),
        (
            {"ids": [1], "get_attributes": [{"name": "info", "select": ["chip"]}]},
            "'get_attributes' must be strings or numbers",
        ),
    ],
)
def test_search_by_id_refuses(fields: dict[str, Any], text: str) -> None:
    assert _refusal(read_id_search, {**A, **fields}) == (500, text)


def test_search_by_id_needs_a_table() -> None:
    body = {"database": "farm", "ids": [1], "get_attributes": ["id"]}
    assert _refusal(read_id_search, body) == (500, "'table' is required")


def test_search_by_id_takes_the_old_name_and_numbers_as_names() -> None:
    params = read_id_search({"schema": 7, "table": 5, "hash_values": [1, "a", 1], "select": ["id"]})
    assert (params.database, params.table, params.ids, params.get_attributes) == ("7", "5", [1, "a", 1], ["id"])


# -- search_by_value --------------------------------------------------------------------------------------------------

BY_VALUE: dict[str, Any] = {**A, "attribute": "kind", "value": "goat"}


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"attribute": None}, 500, "'attribute' is required"),
        ({"limit": 0}, 500, "'limit' must be greater than or equal to 1"),
        ({"limit": "x"}, 500, "'limit' must be a number"),
        ({"limit": None}, 500, "'limit' must be a number"),
        ({"limit": 1.5}, 500, "'limit' must be an integer"),
        ({"offset": -1}, 500, "'offset' must be greater than or equal to 0"),
        ({"desc": "x"}, 500, "'desc' must be a boolean"),
        (
            {"limit": 0, "offset": -1},
            500,
            "'limit' must be greater than or equal to 1. 'offset' must be greater than or equal to 0",
        ),
        ({"get_attributes": []}, 500, "'get_attributes' must contain at least 1 items"),
        ({"get_attributes": 5}, 500, "'get_attributes' must be an array"),
        ({"get_attributes": [{"name": "info"}]}, 400, "Invalid select[object Object]"),
        ({"value": {"a": 1}}, 500, 'Unable to serialize object as a key: {"a":1}'),
        ({"attribute": "ghost"}, 500, "unknown attribute 'ghost'"),
        ({"attribute": "ghost", "value": "*"}, 500, "unknown attribute 'ghost'"),
        ({"get_attributes": ["x", "name", "y"], "attribute": "z"}, 500, "unknown attribute 'x, y and z'"),
        ({"get_attributes": ["info.chip"]}, 500, "unknown attribute 'info.chip'"),
        ({"sort": {"attribute": "ghost"}}, 404, "ghost is not a defined attribute"),
    ],
)
def test_search_by_value_refuses(fields: dict[str, Any], status: int, text: str) -> None:
    assert _refusal(read_value_search, {**BY_VALUE, **fields}, TABLE) == (status, text)


def test_search_by_value_needs_attribute_value_and_table() -> None:
    assert _refusal(read_value_search, {**A, "value": 1}) == (500, "'attribute' is required")
    assert _refusal(read_value_search, {**A, "attribute": "kind"}) == (500, "'value' is required")
    assert _refusal(read_value_search, {"attribute": "kind", "value": 1}) == (500, "'table' is required")


def test_search_by_value_in_system_tells_of_undefined_attributes_otherwise() -> None:
    for value in ("x", "*"):
        body = {**BY_VALUE, "attribute": "ghost", "value": value}
        assert _refusal(read_value_search, body, SYSTEM_TABLE) == (404, "ghost is not a defined attribute")
    assert bind(read_value_search({**BY_VALUE, "get_attributes": ["ghost"]}), SYSTEM_TABLE).query.where == KIND


@pytest.mark.parametrize(
    ("value", "comparator", "pattern"),
    [
        ("goat", Comparator.EQUALS, "goat"),
        ("Be*", Comparator.TEXT_STARTS_WITH, "Be"),
        ("Be**", Comparator.TEXT_STARTS_WITH, "Be*"),
        ("*la", Comparator.ENDS_WITH, "la"),
        ("*ell*", Comparator.CONTAINS, "ell"),
        ("**", Comparator.CONTAINS, ""),
        ("B*a", Comparator.EQUALS, "B*a"),
        ("%", Comparator.EQUALS, "%"),
        ("Be%", Comparator.EQUALS, "Be%"),
        (5, Comparator.EQUALS, 5),
        (None, Comparator.EQUALS, None),
        ("38", Comparator.EQUALS, "38"),
    ],
)
def test_wildcards_stand_at_the_ends_of_texts(value: Any, comparator: Comparator, pattern: Any) -> None:
    where = _bound(read_value_search({**BY_VALUE, "value": value})).query.where
    assert where == Condition(attribute="kind", comparator=comparator, value=pattern)


def test_a_lone_star_means_every_record() -> None:
    assert _bound(read_value_search({**BY_VALUE, "value": "*"})).query == Query()


def test_a_pattern_is_text_whatever_the_type_of_the_attribute() -> None:
    where = _bound(read_value_search({**BY_VALUE, "attribute": "age", "value": "*5*"})).query.where
    assert where == Condition(attribute="age", comparator=Comparator.CONTAINS, value="5")


def test_the_value_of_a_typed_attribute_is_converted() -> None:
    where = _bound(read_value_search({**BY_VALUE, "attribute": "age", "value": "5"})).query.where
    assert where == Condition(attribute="age", value=5)
    with pytest.raises(InvalidValue, match='Invalid value for attribute age: "old", expecting Int'):
        _bound(read_value_search({**BY_VALUE, "attribute": "age", "value": "old"}))


def test_old_names_win_in_search_by_value() -> None:
    body = {**BY_VALUE, "search_attribute": "name", "search_value": "Bella"}
    assert _bound(read_value_search(body)).query.where == Condition(attribute="name", value="Bella")


@pytest.mark.parametrize("fields", [{"desc": True}, {"reverse": True}])
def test_desc_and_reverse_turn_the_scan_around(fields: dict[str, Any]) -> None:
    assert _bound(read_value_search({**BY_VALUE, **fields})).query.reverse


def test_numeric_texts_are_numbers_for_limit_and_offset() -> None:
    query = _bound(read_value_search({**BY_VALUE, "limit": "2", "offset": "3"})).query
    assert (query.limit, query.offset) == (2, 3)


# -- search_by_conditions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"conditions": []}, 400, "'conditions' must contain at least 1 items"),
        ({"conditions": None}, 400, "'conditions' must be an array"),
        ({"conditions": {}}, 400, "'conditions' must be an array"),
        ({"conditions": [5]}, 400, "'conditions[0]' does not match any of the allowed types"),
        ({"conditions": [{"value": 1}]}, 400, "'conditions[0].attribute' is required"),
        (
            {"conditions": [GOAT, {"conditions": [GOAT, {}]}]},
            400,
            "'conditions[1].conditions[1].attribute' is required",
        ),
        ({"conditions": [{"attribute": "kind"}]}, 400, "Search condition for kind must have a value"),
        ({"conditions": [{**GOAT, "comparator": "in"}]}, 400, 'Unknown query comparator "in"'),
        ({"conditions": [{**GOAT, "comparator": "=="}]}, 400, 'Unknown query comparator "=="'),
        ({"conditions": [{**GOAT, "comparator": 5}]}, 400, 'Unknown query comparator "5"'),
        ({"operator": "xor"}, 400, "'operator' must be one of [and, or]"),
        ({"operator": 5}, 400, "'operator' must be one of [and, or]"),
        (
            {"conditions": [{"operator": "xor", "conditions": [GOAT]}]},
            400,
            "'conditions[0]' does not match any of the allowed types",
        ),
        ({"conditions": [{"conditions": 5}]}, 400, "'conditions[0]' does not match any of the allowed types"),
        ({"operator": "or"}, 500, 'An "or" operator requires at least two conditions'),
        (
            {"conditions": [{"operator": "or", "conditions": [GOAT]}]},
            500,
            'An "or" operator requires at least two conditions',
        ),
        ({"conditions": [{"conditions": []}]}, 500, 'An "and" operator requires at least one condition'),
        (
            {"conditions": [{**GOAT, "comparator": "between", "value": 5}]},
            400,
            "'conditions[0].value' must contain 2 items",
        ),
        (
            {"conditions": [{**GOAT, "comparator": "gelt", "value": [5]}]},
            400,
            "'conditions[0].value' must contain 2 items",
        ),
        ({"conditions": [{**GOAT, "value": {"a": 1}}]}, 400, 'Unable to serialize object as a key: {"a":1}'),
        ({"conditions": [{**GOAT, "attribute": "x"}]}, 400, "unknown attribute 'x'"),
        (
            {"conditions": [{"conditions": [{**GOAT, "attribute": "b"}]}], "get_attributes": ["a"]},
            400,
            "unknown attribute 'a and b'",
        ),
        (
            {"conditions": [{**GOAT, "attribute": ["info", "chip"]}]},
            400,
            'Unable to query by attribute ["info","chip"]',
        ),
        ({"conditions": [{**GOAT, "attribute": ["gone", "chip"]}]}, 404, "gone,chip is not a defined attribute"),
        ({"get_attributes": []}, 400, "'get_attributes' must contain at least 1 items"),
        ({"get_attributes": "id"}, 400, "'get_attributes' must be an array"),
        ({"get_attributes": [{"name": "info"}]}, 400, "Invalid select[object Object]"),
        ({"get_attributes": [{"name": "info", "select": [5]}]}, 400, "Invalid select[object Object]"),
        ({"get_attributes": [None]}, 400, "'get_attributes' must be strings or numbers"),
        ({"limit": 0}, 400, "'limit' must be greater than or equal to 1"),
        ({"limit": None}, 400, "'limit' must be a number"),
        ({"limit": "x"}, 400, "'limit' must be a number"),
        ({"offset": -1}, 400, "'offset' must be greater than or equal to 0"),
        ({"reverse": "x"}, 400, "'reverse' must be a boolean"),
        ({"sort": "kind"}, 400, "'sort' must be of type object"),
        ({"sort": None}, 400, "'sort' must be of type object"),
        ({"sort": {}}, 400, "Sort requires an attribute"),
        ({"sort": {"attribute": "kind", "descending": "x"}}, 400, "'sort.descending' must be a boolean"),
        ({"sort": {"attribute": "kind", "next": 5}}, 400, "'sort.next' must be of type object"),
        ({"sort": {"attribute": "ghost"}}, 404, "ghost is not a defined attribute"),
        ({"sort": {"attribute": "kind", "next": {"attribute": "ghost"}}}, 404, "ghost is not a defined attribute"),
        (
            {"offset": -1, "operator": "x"},
            400,
            "'operator' must be one of [and, or]. 'offset' must be greater than or equal to 0",
        ),
    ],
)
def test_search_by_conditions_refuses(fields: dict[str, Any], status: int, text: str) -> None:
    assert _refusal(read_condition_search, {**A, "conditions": [GOAT], **fields}, TABLE) == (status, text)


def test_search_by_conditions_needs_conditions() -> None:
    assert _refusal(read_condition_search, A) == (400, "'conditions' is required")


def test_a_missing_table_has_a_name_for_the_message() -> None:
    assert read_condition_search({"conditions": [GOAT]}).table == "undefined"


def test_a_value_that_does_not_fit_its_type_is_refused() -> None:
    with pytest.raises(InvalidValue, match='Invalid value for attribute age: "x", expecting Int'):
        _where({"attribute": "age", "comparator": "gt", "value": "x"})


def test_groups_nest_but_not_without_end() -> None:
    deep: dict[str, Any] = GOAT
    for _ in range(90):
        deep = {"operator": "AND", "conditions": [deep]}
    assert _where(deep) is not None
    for _ in range(20):
        deep = {"conditions": [deep]}
    status, text = _refusal(read_condition_search, {**A, "conditions": [deep]})
    assert status == 400
    assert text.endswith("is nested too deeply")


def test_an_order_does_not_go_on_without_end() -> None:
    sort: dict[str, Any] = {"attribute": "kind"}
    for _ in range(200):
        sort = {"attribute": "kind", "next": sort}
    assert _refusal(read_condition_search, {**A, "conditions": [GOAT], "sort": sort})[0] == 400


def test_one_condition_by_current_and_old_names() -> None:
    expected = Group(members=(KIND,))
    assert _where(GOAT) == expected
    assert _where({"search_attribute": "kind", "search_type": "equals", "search_value": "goat"}) == expected
    assert _where({"attribute": "kind", "value": "goat", "comparator": None}) == expected
    assert _where({**GOAT, "search_attribute": "name", "search_type": "lt", "search_value": 1}) == expected
    assert _where({**GOAT, "attribute": ["kind"]}) == expected


def test_null_is_a_value() -> None:
    assert _where({"attribute": "kind", "value": None}) == Group(members=(Condition(attribute="kind", value=None),))


def test_groups_keep_their_operators_in_any_case() -> None:
    where = _where(GOAT, {"operator": "Or", "conditions": [GOAT, GOAT]}, operator="AND")
    assert where == Group(members=(KIND, Group(operator="or", members=(KIND, KIND))))


def test_short_names_cast_and_long_ones_do_not() -> None:
    def condition(name: str) -> Condition:
        (member,) = _where({"attribute": "weight", "comparator": name, "value": "38"}).members
        assert isinstance(member, Condition)
        return member

    assert condition("eq").value == 38
    assert condition("equals").value == "38"


def test_bounds_become_a_pair() -> None:
    (member,) = _where({"attribute": "age", "comparator": "between", "value": ["1", 9]}).members
    assert member == Condition(attribute="age", comparator=Comparator.BETWEEN, value=(1, 9))


def test_the_rest_of_the_body_becomes_the_query() -> None:
    search = read_condition_search(
        {
            **A,
            "conditions": [GOAT],
            "sort": {"attribute": "kind", "descending": True, "next": {"attribute": ["name"]}},
            "limit": "5",
            "offset": 2,
            "reverse": True,
            "explain": True,
            "select": ["id"],
            "get_attributes": ["name"],
        }
    )
    bound = _bound(search)
    assert search.explain
    assert bound.query == Query(
        where=Group(members=(KIND,)),
        sort=Sort(attribute="kind", descending=True, next=Sort(attribute="name")),
        limit=5,
        offset=2,
        reverse=True,
    )
    assert bound.selection.columns == ("id",)


# -- access -----------------------------------------------------------------------------------------------------------


def test_every_attribute_that_a_search_touches_is_named_for_the_access_check() -> None:
    body = {
        "get_attributes": ["a", {"name": "b", "select": ["x"]}, "$id", "$record", "*"],
        "attribute": "c",
        "conditions": [{"attribute": "d"}, {"conditions": [{"search_attribute": "e"}, {"attribute": ["f", "g"]}]}, 5],
        "sort": {"attribute": "h", "next": {"attribute": "i"}},
    }
    assert names_in_search(body) == ["a", "b", "$record", "*", "c", "d", "e", "f", "h", "i"]
    assert names_in_search({"search_attribute": "s", "attribute": "c"}) == ["s"]


@pytest.mark.parametrize("body", [{"conditions": 5, "sort": 5, "get_attributes": 5}, {"conditions": [None, {}]}, {}])
def test_a_body_that_is_no_search_names_nothing(body: dict[str, Any]) -> None:
    assert names_in_search(body) == []
