"""Searches against a naive search, the documented examples, and pages across concurrent writes."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.conditions import BOUNDED, Comparator, Condition, Group, Node, Query, Sort, all_of
from storage.errors import AttributeNotFound, InvalidKey, TableNotFound
from storage.planner import Direction
from storage.query import Search, explained, pages, records_in, row_pages
from storage.schema import Attribute
from tests.animals import ANIMALS
from tests.storage.naive_search import DATE_MS, NUMBER_TEXTS, matching, promised_order
from tests.storage.small_database import SmallDatabase, small_database

LONG = "x" * 700
TEXTS = ["", "a", "ab", "B", "calm", "milk", "5", "\x00", "\x00\x01", "\x02", "\x02\x00", "é", "0", "true"]
LONG_TEXTS = ["x" * 493, "x" * 494, "x" * 495, LONG, LONG + "a", LONG + "b", LONG + "b\x00"]
DATE = datetime.fromtimestamp(DATE_MS / 1000, UTC)
NUMBERS = list(NUMBER_TEXTS)
SCALARS = [None, False, True, DATE, *NUMBERS, *TEXTS, *LONG_TEXTS]

KEYS = [*range(-2, 30), 0.5, "1", "a", "ab", "é", *LONG_TEXTS, [1, "a"], [1], ["a"], ["a", 1], [LONG, 1], [LONG, 2]]
NOT_INDEXED = [{"chip": "A1"}, b"\x00\x01", [], [{"x": 1}], [[1], "a"]]
ATTRIBUTES = st.sampled_from(["a", "b", "c", "id"])
TAKES_TEXT = (Comparator.CONTAINS, Comparator.STARTS_WITH, Comparator.ENDS_WITH, Comparator.TEXT_STARTS_WITH)


@st.composite
def conditions(draw: st.DrawFn, pool: list[Any]) -> Condition:
    attribute = draw(ATTRIBUTES)
    comparator = draw(st.sampled_from(list(Comparator)))
    bounds = st.sampled_from(KEYS if attribute == "id" else pool)
    if comparator in BOUNDED:
        value: Any = (draw(bounds), draw(bounds))
    elif comparator is Comparator.IN:
        value = tuple(draw(st.lists(bounds, max_size=4)))
    elif comparator is Comparator.PREFIX:
        value = draw(st.sampled_from([[], 1, [LONG], [1, "a"], *pool, pool[:1], pool[:2]]))
    elif comparator in TAKES_TEXT:
        value = draw(st.sampled_from([*pool, "x" * 600, "l", "b", "e", "", None]))
    else:
        value = draw(bounds)
    return Condition(attribute=attribute, comparator=comparator, value=value)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], Query]:
    """A table's contents and a query. Both draw from a small pool of values, so that they meet."""
    pool = draw(st.lists(st.sampled_from(SCALARS), min_size=2, max_size=6))
    scalars = st.sampled_from(pool)
    values = st.one_of(scalars, scalars, st.lists(scalars, max_size=3), st.sampled_from([*NOT_INDEXED, [*pool, {}]]))
    records = st.fixed_dictionaries({}, optional={"a": values, "b": values, "c": values})
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=40, unique_by=repr))
    contents = [{**draw(records), "id": key} for key in keys]
    nodes = st.recursive(
        conditions(pool),
        lambda inner: st.builds(
            Group, operator=st.sampled_from(["and", "or"]), members=st.lists(inner, min_size=1, max_size=3).map(tuple)
        ),
        max_leaves=5,
    )
    links = st.builds(Sort, attribute=ATTRIBUTES, descending=st.booleans())
    query = st.builds(
        Query,
        where=st.one_of(st.none(), conditions(pool), nodes),
        sort=st.none() | st.lists(links, min_size=1, max_size=3).map(_chain),
        limit=st.none() | st.integers(0, 12),
        offset=st.sampled_from([0, 0, 0, 1, 3]),
        reverse=st.booleans(),
    )
    return contents, draw(query)


def _chain(links: list[Sort]) -> Sort:
    chain: Sort | None = None
    for link in reversed(links):
        chain = Sort(attribute=link.attribute, descending=link.descending, next=chain)
    assert chain is not None
    return chain


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDatabase]:
    with small_database(tmp_path_factory.mktemp("query")) as opened:
        yield opened


_names = (f"t{number}" for number in itertools.count())


def _made(small: SmallDatabase, contents: list[dict[str, Any]]) -> str:
    """A table with indexes on ``a`` and ``b``, none on ``c``."""
    name = next(_names)
    small.create(name, Attribute(name="a", indexed=True), Attribute(name="b", indexed=True), Attribute(name="c"))
    small.put(name, contents)
    return name


def _searched(small: SmallDatabase, table: str, query: Query, *, page_records: int = 1000) -> list[dict[str, Any]]:
    found = pages(small.database, table, query, page_records=page_records)
    return [record for page in found for record in page]


def _check(query: Query, found: list[dict[str, Any]], contents: list[dict[str, Any]]) -> None:
    expected = promised_order(query, contents)
    if expected is not None:
        assert [record["id"] for record in found] == [record["id"] for record in expected]
        return
    candidates = [record["id"] for record in matching(query, contents)]
    ids = [record["id"] for record in found]
    left = max(0, len(candidates) - query.offset)
    assert len(ids) == (left if query.limit is None else min(left, query.limit))
    assert all(ids.count(key) == 1 for key in ids)
    assert all(key in candidates for key in ids)


@settings(max_examples=300, deadline=None)
@given(case=cases(), page_records=st.sampled_from([1, 2, 5, 1000]))
def test_a_search_finds_what_a_naive_search_finds(
    small: SmallDatabase, case: tuple[list[dict[str, Any]], Query], page_records: int
) -> None:
    contents, query = case
    table = _made(small, contents)
    try:
        _check(query, _searched(small, table, query, page_records=page_records), contents)
    finally:
        small.drop(table)


# -- larger tables, where other plans are cheaper ---------------------------------------------------------------------

MANY = [
    {
        "id": number,
        "a": None if number % 50 == 7 else [number, -number] if number % 50 == 9 else number * 7919 % 1000,
        "b": "goat" if number % 3 else "sheep",
        "c": number % 2 == 0,
    }
    for number in range(1000)
]
for _record in MANY[::40]:
    del _record["a"]
EVERY = Condition(attribute="id", comparator=Comparator.GREATER_THAN_EQUAL, value=0)
GOATS = Condition(attribute="b", value="goat")
SHEEP = Condition(attribute="b", value="sheep")
EVEN = Condition(attribute="c", value=True)
HIGH = Condition(attribute="a", comparator=Comparator.GREATER_THAN, value=300)
LOW = Condition(attribute="a", comparator=Comparator.LESS_THAN, value=600)


@pytest.fixture(scope="module")
def many(small: SmallDatabase) -> str:
    return _made(small, MANY)


@pytest.mark.parametrize("where", [None, EVERY, GOATS, EVEN, HIGH, all_of(HIGH, LOW), all_of(GOATS, EVEN, HIGH)])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("limit", [1, 10, 100, None])
def test_a_sort_is_the_same_whichever_way_is_cheaper(
    small: SmallDatabase, many: str, where: Node | None, descending: bool, limit: int | None
) -> None:
    query = Query(where=where, sort=Sort(attribute="a", descending=descending), limit=limit, offset=3)
    _check(query, _searched(small, many, query), MANY)


def test_the_sort_index_is_walked_for_a_small_limit_and_not_for_few_matches(small: SmallDatabase, many: str) -> None:
    by_a = Sort(attribute="a", descending=True)
    walked = Search(small.database, many, Query(where=GOATS, sort=by_a, limit=10)).plan
    assert (walked.steps[0].attribute, walked.steps[0].direction) == ("a", Direction.VALUES_BACKWARD)
    one = Condition(attribute="id", value=5)
    assert Search(small.database, many, Query(where=one, sort=by_a, limit=10)).plan.sort


def test_probing_another_index_finds_what_filtering_finds(small: SmallDatabase, many: str) -> None:
    query = Query(where=all_of(HIGH, SHEEP))
    search = Search(small.database, many, query)
    assert any(step.probes for step in search.plan.steps)
    found = [record["id"] for page in iter(search.next_page, None) for _, record, _ in page]
    assert sorted(found) == [record["id"] for record in matching(query, MANY)]


def test_a_record_with_several_matching_elements_comes_once(small: SmallDatabase, many: str) -> None:
    found = [record["id"] for record in _searched(small, many, Query(where=LOW), page_records=3)]
    assert len(found) == len(set(found))


# -- the documented examples ------------------------------------------------------------------------------------------


def _is(attribute: str, comparator: Comparator, value: Any) -> Condition:
    return Condition(attribute=attribute, comparator=comparator, value=value)


@pytest.fixture(scope="module")
def animals(small: SmallDatabase) -> str:
    small.create("animal")
    small.put("animal", ANIMALS)
    return "animal"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (Query(where=_is("kind", Comparator.EQUALS, "goat")), [1, 3, 5]),
        (Query(where=_is("kind", Comparator.EQUALS, "goat"), reverse=True), [5, 3, 1]),
        (Query(where=_is("kind", Comparator.EQUALS, "goat"), limit=1, offset=1), [3]),
        (
            Query(
                where=all_of(_is("kind", Comparator.EQUALS, "goat"), _is("weight", Comparator.GREATER_THAN, 40)),
            ),
            [1],
        ),
        (
            Query(
                where=Group(
                    operator="or",
                    members=(_is("kind", Comparator.EQUALS, "sheep"), _is("name", Comparator.EQUALS, "Otis")),
                )
            ),
            [4, 2],
        ),
        (Query(where=_is("weight", Comparator.LESS_THAN, 100)), [3, 1]),
        (Query(where=_is("weight", Comparator.LESS_THAN_EQUAL, 38)), [3]),
        (Query(where=_is("weight", Comparator.BETWEEN, (38, 41.5))), [3, 1]),
        (Query(where=_is("weight", Comparator.NOT_EQUAL, 38)), [1, 2]),
        (Query(where=_is("weight", Comparator.EQUALS, None)), [4]),
        (Query(where=_is("weight", Comparator.NOT_EQUAL, None)), [3, 1, 2]),
        (Query(where=_is("pen_id", Comparator.EQUALS, None)), [5]),
        (Query(where=_is("name", Comparator.STARTS_WITH, "O")), [2]),
        (Query(where=_is("name", Comparator.ENDS_WITH, "y")), [5]),
        (Query(where=_is("name", Comparator.CONTAINS, "z")), [4, 5]),
        (Query(where=_is("tags", Comparator.EQUALS, "calm")), [1, 2]),
        (Query(where=_is("tags", Comparator.CONTAINS, "il")), [1]),
        (Query(where=_is("tame", Comparator.EQUALS, True)), [1, 2]),
        (Query(where=_is("tame", Comparator.NOT_EQUAL, True)), [3]),
        (Query(where=_is("weight", Comparator.EQUALS, "38")), []),
        (Query(where=_is("weight", Comparator.BETWEEN, (50, 40))), []),
        (Query(where=_is("info", Comparator.NOT_EQUAL, None)), []),
        (
            Query(
                where=all_of(
                    _is("pen_id", Comparator.GREATER_THAN, 0),
                    Group(
                        operator="or",
                        members=(_is("kind", Comparator.EQUALS, "donkey"), _is("name", Comparator.STARTS_WITH, "F")),
                    ),
                )
            ),
            [2, 3],
        ),
        (
            Query(
                where=_is("id", Comparator.GREATER_THAN, 0),
                sort=Sort(attribute="kind", next=Sort(attribute="name", descending=True)),
            ),
            [2, 5, 3, 1, 4],
        ),
        (
            Query(where=_is("id", Comparator.GREATER_THAN, 0), sort=Sort(attribute="weight", descending=True), limit=3),
            [2, 1, 3],
        ),
        (
            Query(where=_is("id", Comparator.GREATER_THAN, 0), sort=Sort(attribute="weight", descending=True)),
            [2, 1, 3, 4, 5],
        ),
        (Query(where=_is("id", Comparator.GREATER_THAN, 0), sort=Sort(attribute="weight"), limit=3), [4, 5, 3]),
        (Query(where=_is("id", Comparator.GREATER_THAN, 0), limit=2, offset=1), [2, 3]),
        (Query(), [1, 2, 3, 4, 5]),
        (Query(limit=0), []),
        (Query(reverse=True, limit=2), [5, 4]),
    ],
)
def test_the_documented_examples(small: SmallDatabase, animals: str, query: Query, ids: list[int]) -> None:
    assert [record["id"] for record in _searched(small, animals, query)] == ids


def test_types_stand_in_one_order(small: SmallDatabase) -> None:
    order: list[Any] = [None, False, True, -1, 0, 1, "10", "B", "a"]
    table = _made(small, [{"id": number, "a": value} for number, value in enumerate(reversed(order))])
    found = _searched(small, table, Query(sort=Sort(attribute="a")))
    assert [record["a"] for record in found] == order


def test_array_keys_stand_behind_their_first_element(small: SmallDatabase) -> None:
    order: list[Any] = [2, [2, "a"], 10, "a", ["a", 1], "b"]
    table = _made(small, [{"id": key} for key in reversed(order)])
    assert [record["id"] for record in _searched(small, table, Query())] == order


@pytest.mark.parametrize(
    ("comparator", "value", "keys"),
    [
        (Comparator.CONTAINS, "a", ["a", "ba"]),
        (Comparator.CONTAINS, "1", [1, 21]),
        (Comparator.ENDS_WITH, "a", ["a", "ba"]),
        (Comparator.STARTS_WITH, "a", ["a"]),
        (Comparator.TEXT_STARTS_WITH, "2", [2, 21]),
        (Comparator.PREFIX, ["a"], [["a", 1]]),
        (Comparator.PREFIX, [], [[2, "a"], ["a", 1]]),
        (Comparator.GREATER_THAN, "a", [["a", 1], "ba"]),
    ],
)
def test_conditions_on_a_primary_key(small: SmallDatabase, comparator: Comparator, value: Any, keys: list[Any]) -> None:
    table = _made(small, [{"id": key} for key in (1, 2, 21, [2, "a"], "a", ["a", 1], "ba")])
    found = _searched(small, table, Query(where=_is("id", comparator, value)))
    assert [record["id"] for record in found] == keys


def test_every_array_begins_with_nothing(small: SmallDatabase) -> None:
    values: list[Any] = [[], ["x"], [{"no": "entry"}], "x", None]
    table = _made(small, [{"id": number, "a": value} for number, value in enumerate(values)])
    found = _searched(small, table, Query(where=_is("a", Comparator.PREFIX, [])))
    assert [record["id"] for record in found] == [0, 1, 2]


# -- pages and snapshots ----------------------------------------------------------------------------------------------


def test_pages_are_bounded_and_come_to_an_end(small: SmallDatabase, many: str) -> None:
    sizes = [len(page) for page in pages(small.database, many, Query(where=GOATS), page_records=100)]
    assert max(sizes) < 200
    assert sum(sizes) == len(matching(Query(where=GOATS), MANY))


def test_what_fits_a_page_is_one_snapshot(small: SmallDatabase) -> None:
    table = _made(small, [{"id": number, "a": 1} for number in range(600)])
    search = Search(small.database, table, Query(where=_is("a", Comparator.EQUALS, 1)))
    page = search.next_page()
    assert page is not None
    assert len(page) == 600
    assert search.is_done
    assert search.next_page() is None


@pytest.mark.parametrize("sort", [None, Sort(attribute="a"), Sort(attribute="c", descending=True)])
def test_a_search_goes_on_behind_its_last_record_while_others_are_written(
    small: SmallDatabase, sort: Sort | None
) -> None:
    table = _made(small, [{"id": number, "a": number, "c": number} for number in range(300)])
    query = Query(where=_is("a", Comparator.GREATER_THAN_EQUAL, 0), sort=sort)
    untouched = {number for number in range(300) if number % 3}
    met: list[int] = []
    for at, page in enumerate(pages(small.database, table, query, page_records=20)):
        met.extend(record["id"] for record in page)
        last = met[-1] if met else 0
        small.delete(table, [number for number in range(0, 300, 3) if abs(number - last) < 30])
        small.put(table, [{"id": 1000 + at, "a": last + 0.5, "c": last}])
    assert untouched <= set(met)
    old = [number for number in met if number < 1000]
    assert len(old) == len(set(old))


def test_a_record_that_stopped_matching_is_not_delivered_from_a_sorted_list(small: SmallDatabase) -> None:
    table = _made(small, [{"id": number, "a": number, "c": "x"} for number in range(100)])
    query = Query(where=_is("a", Comparator.LESS_THAN, 1000), sort=Sort(attribute="c"))
    search = Search(small.database, table, query, page_records=10)
    first = [record["id"] for _, record, _ in search.next_page() or ()]
    small.put(table, [{"id": 99, "a": 5000}])
    rest = [record["id"] for page in iter(search.next_page, None) for _, record, _ in page]
    assert 99 not in rest
    assert sorted(first + rest) == list(range(99))


def test_a_table_that_is_dropped_ends_its_searches(small: SmallDatabase) -> None:
    table = _made(small, [{"id": number} for number in range(50)])
    search = Search(small.database, table, Query(), page_records=10)
    search.next_page()
    small.drop(table)
    small.create(table)
    with pytest.raises(TableNotFound):
        search.next_page()


def test_an_index_that_is_dropped_ends_its_searches(small: SmallDatabase) -> None:
    table = _made(small, [{"id": number, "a": number} for number in range(50)])
    search = Search(small.database, table, Query(where=_is("a", Comparator.LESS_THAN, 99)), page_records=10)
    search.next_page()
    small.write(lambda tx: tx.drop_attribute(tx.table(table), "a"))
    with pytest.raises(AttributeNotFound):
        search.next_page()


def test_expired_records_are_invisible_to_every_way_of_searching(small: SmallDatabase) -> None:
    table = _made(small, [{"id": 1, "a": 1, "b": "x", "c": 1}])
    small.put(table, [{"id": 2, "a": 1, "b": "x", "c": 1}, {"id": 3, "b": "x"}], expires_at_ms=1)
    for query in (
        Query(),
        Query(where=_is("a", Comparator.EQUALS, 1)),
        Query(where=_is("c", Comparator.EQUALS, 1)),
        Query(where=_is("b", Comparator.CONTAINS, "x"), sort=Sort(attribute="a"), limit=1, offset=0),
        Query(sort=Sort(attribute="a", descending=True), limit=2),
        Query(sort=Sort(attribute="c")),
    ):
        assert [record["id"] for record in _searched(small, table, query)] == [1]


def test_values_that_a_drop_hides_stay_hidden_when_the_attribute_comes_back(small: SmallDatabase) -> None:
    small.create("coloured")
    small.put("coloured", [{"id": 1, "colour": "red"}, {"id": 2, "colour": "red"}])
    small.write(lambda tx: tx.drop_attribute(tx.table("coloured"), "colour"))
    small.put("coloured", [{"id": 3, "colour": "red"}, {"id": 2, "name": "seen again"}])
    red = _is("colour", Comparator.EQUALS, "red")
    assert [record["id"] for record in _searched(small, "coloured", Query(where=red))] == [3]
    both = all_of(_is("id", Comparator.GREATER_THAN, 0), red)
    assert [record["id"] for record in _searched(small, "coloured", Query(where=both))] == [3]
    by_colour = Query(sort=Sort(attribute="colour"), limit=3)
    found = _searched(small, "coloured", by_colour)
    assert [record["id"] for record in found] == [1, 2, 3]
    assert "colour" not in found[0]


def test_rows_come_with_the_time_of_their_write(small: SmallDatabase, animals: str) -> None:
    query = Query(where=_is("id", Comparator.EQUALS, 1))
    ((pair,),) = row_pages(small.database, animals, query)
    record, row = pair
    assert record["name"] == "Bella"
    assert row.ts > 0
    assert row.expires_at_ms is None


def test_one_snapshot_can_be_searched_as_a_whole(small: SmallDatabase, animals: str) -> None:
    with small.database.read() as tx:
        found = records_in(tx, animals, Query(where=_is("kind", Comparator.EQUALS, "goat")))
        assert [record["id"] for record in found] == [1, 3, 5]


def test_explain_names_the_index_and_reads_nothing(small: SmallDatabase, animals: str) -> None:
    query = Query(where=_is("kind", Comparator.EQUALS, "goat"), sort=Sort(attribute="name"))
    told = explained(small.database, animals, query)
    (step,) = told["plan"]
    assert (step["index"], step["estimated"], step["filter"]) == ("kind", 3, None)
    assert told["postOrdering"] == {"attribute": "name", "descending": False}


def test_a_value_without_a_place_in_the_order_is_refused(small: SmallDatabase, animals: str) -> None:
    with pytest.raises(InvalidKey):
        Search(small.database, animals, Query(where=_is("kind", Comparator.EQUALS, {"an": "object"})))


def test_a_table_that_is_not_there_is_refused(small: SmallDatabase) -> None:
    with pytest.raises(TableNotFound):
        Search(small.database, "ghost", Query())
