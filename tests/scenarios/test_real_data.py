"""Real data sets, loaded through HTTP in batches, searched, and compared with answers worked out from the files.

The files come with the package ``vega_datasets``: airports.csv (3,376 rows), cars.json (406 records, some with nulls),
seattle-weather.csv (1,461) and seattle-temps.csv (8,759).
"""

import csv
import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.node_process import NodeProcess

Record = dict[str, Any]
DATA = files("vega_datasets") / "_data"
DATABASE = "vega"
BATCH = 500


def _csv(name: str, numbers: tuple[str, ...]) -> list[Record]:
    rows = csv.DictReader((DATA / name).read_text(encoding="utf-8").splitlines())
    return [{k: float(v) if k in numbers else v for k, v in row.items()} for row in rows]


AIRPORTS = _csv("airports.csv", ("latitude", "longitude"))
CARS = [{"id": n, **car} for n, car in enumerate(json.loads((DATA / "cars.json").read_text(encoding="utf-8")))]
WEATHER = _csv("seattle-weather.csv", ("precipitation", "temp_max", "temp_min", "wind"))
TEMPS = _csv("seattle-temps.csv", ("temp",))
TABLES = {
    "airports": ("iata", AIRPORTS),
    "cars": ("id", CARS),
    "weather": ("date", WEATHER),
    "temps": ("date", TEMPS),
}


@pytest.fixture(scope="module")
def loaded(node: NodeProcess) -> NodeProcess:
    for table, (primary_key, records) in TABLES.items():
        node.post(operation="create_table", database=DATABASE, table=table, primary_key=primary_key)
        for begin in range(0, len(records), BATCH):
            batch = records[begin : begin + BATCH]
            answer = node.post(operation="insert", database=DATABASE, table=table, records=batch)
            assert answer["message"] == f"inserted {len(batch)} of {len(batch)} records"
            assert answer["inserted_hashes"] == [record[primary_key] for record in batch]
    return node


@pytest.mark.parametrize("table", TABLES)
def test_every_record_comes_back_as_it_was_sent(loaded: NodeProcess, table: str) -> None:
    primary_key, records = TABLES[table]
    found = loaded.post(
        operation="search_by_value",
        database=DATABASE,
        table=table,
        attribute=primary_key,
        value="*",
        get_attributes=list(records[0]),
    )
    assert found == sorted(records, key=lambda record: record[primary_key])
    described = loaded.post(operation="describe_table", database=DATABASE, table=table)
    assert described["record_count"] == len(records)
    assert [a["attribute"] for a in described["attributes"]] == [
        primary_key,
        "__createdtime__",
        "__updatedtime__",
        *[name for name in records[0] if name != primary_key],
    ]


def condition(attribute: str, comparator: str, value: Any) -> Record:
    return {"attribute": attribute, "comparator": comparator, "value": value}


def either(*conditions: Record) -> Record:
    return {"operator": "or", "conditions": list(conditions)}


def both(*conditions: Record) -> Record:
    return {"operator": "and", "conditions": list(conditions)}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


SEARCHES: dict[str, tuple[str, list[Record], str, Callable[[Record], bool]]] = {
    "equals text": ("airports", [condition("state", "equals", "CA")], "and", lambda r: r["state"] == "CA"),
    "equals number": ("cars", [condition("Cylinders", "equals", 6)], "and", lambda r: r["Cylinders"] == 6),
    "equals null": ("cars", [condition("Horsepower", "equals", None)], "and", lambda r: r["Horsepower"] is None),
    "not equal leaves nulls out": (
        "cars",
        [condition("Horsepower", "not_equal", 130)],
        "and",
        lambda r: r["Horsepower"] is not None and r["Horsepower"] != 130,
    ),
    "not equal null": (
        "cars",
        [condition("Miles_per_Gallon", "not_equal", None)],
        "and",
        lambda r: r["Miles_per_Gallon"] is not None,
    ),
    "greater than": ("weather", [condition("wind", "greater_than", 7)], "and", lambda r: r["wind"] > 7),
    "greater or equal": (
        "weather",
        [condition("temp_max", "greater_than_equal", 33.9)],
        "and",
        lambda r: r["temp_max"] >= 33.9,
    ),
    "less than skips nulls": (
        "cars",
        [condition("Miles_per_Gallon", "less_than", 12)],
        "and",
        lambda r: is_number(r["Miles_per_Gallon"]) and r["Miles_per_Gallon"] < 12,
    ),
    "less or equal": ("weather", [condition("temp_min", "le", -4.3)], "and", lambda r: r["temp_min"] <= -4.3),
    "between": (
        "cars",
        [condition("Acceleration", "between", [12, 12.5])],
        "and",
        lambda r: 12 <= r["Acceleration"] <= 12.5,
    ),
    "half open": (
        "cars",
        [condition("Weight_in_lbs", "gelt", [2000, 2130])],
        "and",
        lambda r: 2000 <= r["Weight_in_lbs"] < 2130,
    ),
    "starts with": (
        "airports",
        [condition("city", "starts_with", "San ")],
        "and",
        lambda r: r["city"].startswith("San "),
    ),
    "ends with": (
        "airports",
        [condition("name", "ends_with", "Regional")],
        "and",
        lambda r: r["name"].endswith("Regional"),
    ),
    "contains": ("cars", [condition("Name", "contains", "diesel")], "and", lambda r: "diesel" in r["Name"]),
    "contains on the text of numbers": (
        "cars",
        [condition("Displacement", "contains", "5")],
        "and",
        lambda r: "5" in f"{r['Displacement']:g}",
    ),
    "two conditions": (
        "cars",
        [condition("Origin", "equals", "Japan"), condition("Cylinders", "greater_than", 4)],
        "and",
        lambda r: r["Origin"] == "Japan" and r["Cylinders"] > 4,
    ),
    "either": (
        "weather",
        [condition("weather", "equals", "snow"), condition("precipitation", "greater_than", 40)],
        "or",
        lambda r: r["weather"] == "snow" or r["precipitation"] > 40,
    ),
    "nested groups": (
        "cars",
        [
            either(condition("Origin", "equals", "Europe"), condition("Origin", "equals", "Japan")),
            both(condition("Horsepower", "greater_than", 100), condition("Year", "starts_with", "197")),
        ],
        "and",
        lambda r: r["Origin"] in ("Europe", "Japan") and (r["Horsepower"] or 0) > 100 and r["Year"].startswith("197"),
    ),
    "and inside or inside and": (
        "airports",
        [
            condition("latitude", "greater_than", 60),
            either(
                condition("city", "equals", "Nome"),
                both(condition("longitude", "less_than", -165), condition("name", "contains", "Bay")),
            ),
        ],
        "and",
        lambda r: r["latitude"] > 60 and (r["city"] == "Nome" or (r["longitude"] < -165 and "Bay" in r["name"])),
    ),
    "range on the primary key": (
        "temps",
        [condition("date", "between", ["2010/06/01 00:00", "2010/06/02 23:00"])],
        "and",
        lambda r: "2010/06/01 00:00" <= r["date"] <= "2010/06/02 23:00",
    ),
    "no match": ("airports", [condition("state", "equals", "XX")], "and", lambda r: False),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_condition_search_finds_what_the_file_holds(loaded: NodeProcess, name: str) -> None:
    table, conditions, operator, matches = SEARCHES[name]
    primary_key, records = TABLES[table]
    found = loaded.post(
        operation="search_by_conditions",
        database=DATABASE,
        table=table,
        operator=operator,
        conditions=conditions,
        get_attributes=["*"],
    )
    expected = {record[primary_key]: record for record in records if matches(record)}
    assert {record[primary_key] for record in found} == set(expected)
    assert len(found) == len(expected)
    for record in found:
        assert {k: record[k] for k in expected[record[primary_key]]} == expected[record[primary_key]]


def search(node: NodeProcess, table: str, **fields: Any) -> list[Any]:
    key = TABLES[table][0]
    found = node.post(operation="search_by_conditions", database=DATABASE, table=table, get_attributes=[key], **fields)
    return [record[key] for record in found]


def test_sorting_by_an_attribute_with_nulls_puts_them_first(loaded: NodeProcess) -> None:
    found = search(
        loaded, "cars", conditions=[condition("Origin", "equals", "USA")], sort={"attribute": "Horsepower"}, limit=20
    )
    usa = [car for car in CARS if car["Origin"] == "USA"]
    usa.sort(key=lambda r: (r["Horsepower"] is not None, r["Horsepower"] or 0, r["id"]))
    assert found == [car["id"] for car in usa[:20]]


def test_descending_sort_with_a_tie_breaker(loaded: NodeProcess) -> None:
    sort = {"attribute": "temp_max", "descending": True, "next": {"attribute": "wind"}}
    found = search(loaded, "weather", conditions=[condition("weather", "equals", "sun")], sort=sort)
    sunny = sorted((r for r in WEATHER if r["weather"] == "sun"), key=lambda r: (-r["temp_max"], r["wind"], r["date"]))
    assert found == [record["date"] for record in sunny]


@pytest.mark.parametrize("offset", [0, 7, 1390, 1460, 5000])
def test_pages_of_a_sorted_list_join_without_gap(loaded: NodeProcess, offset: int) -> None:
    found = search(
        loaded,
        "weather",
        conditions=[condition("date", "greater_than", "")],
        sort={"attribute": "wind", "descending": True},
        offset=offset,
        limit=70,
    )
    ordered = sorted(WEATHER, key=lambda r: (-r["wind"], r["date"]))
    assert found == [record["date"] for record in ordered[offset : offset + 70]]


def test_a_range_on_an_index_comes_in_its_order(loaded: NodeProcess) -> None:
    found = search(loaded, "temps", conditions=[condition("temp", "greater_than", 70)])
    warm = sorted((r for r in TEMPS if r["temp"] > 70), key=lambda r: (r["temp"], r["date"]))
    assert found == [record["date"] for record in warm]


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ("San*", lambda city: city.startswith("San")),
        ("*burg", lambda city: city.endswith("burg")),
        ("*ville*", lambda city: "ville" in city),
        ("Denver", lambda city: city == "Denver"),
        ("S*n", lambda city: city == "S*n"),
    ],
)
def test_wildcards_in_search_by_value(loaded: NodeProcess, value: str, matches: Callable[[str], bool]) -> None:
    found = loaded.post(
        operation="search_by_value",
        database=DATABASE,
        table="airports",
        attribute="city",
        value=value,
        get_attributes=["iata", "city"],
    )
    expected = [{"iata": r["iata"], "city": r["city"]} for r in AIRPORTS if matches(r["city"])]
    assert sorted(found, key=lambda r: r["iata"]) == sorted(expected, key=lambda r: r["iata"])


def test_search_by_id_keeps_the_order_of_the_ids(loaded: NodeProcess) -> None:
    wanted = ["SFO", "nothing", "JFK", "LAX", "SFO"]
    found = loaded.post(
        operation="search_by_id", database=DATABASE, table="airports", ids=wanted, get_attributes=["iata", "state"]
    )
    states = {record["iata"]: record["state"] for record in AIRPORTS}
    assert found == [{"iata": key, "state": states[key]} for key in wanted if key in states]


def test_csv_answers_read_back_as_the_same_rows(loaded: NodeProcess) -> None:
    body = {
        "operation": "search_by_conditions",
        "database": DATABASE,
        "table": "cars",
        "conditions": [condition("Horsepower", "equals", None)],
        "get_attributes": ["id", "Name", "Horsepower", "Weight_in_lbs"],
    }
    rows = list(csv.DictReader(loaded.request(body, accept="text/csv").text.splitlines()))
    assert [row["Name"] for row in rows] == [record["Name"] for record in loaded.request(body).json()]
    assert {row["Horsepower"] for row in rows} == {""}
