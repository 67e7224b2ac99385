"""Request bodies in the log: what is left out, what is cut, and that a huge body costs no more than a small one."""

import json
import tracemalloc
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from ops.request_log import BODY_LENGTH_MAX, VALUE_LENGTH_MAX, loggable_body

SECRET = "tarka-the-otter"


class CountedList(list[Any]):
    """A list that knows how many of its elements were visited."""

    visited = 0

    def __iter__(self) -> Iterator[Any]:
        for element in super().__iter__():
            self.visited += 1
            yield element


def test_a_body_is_logged_as_json() -> None:
    body = {"operation": "insert", "table": "otter", "records": [{"id": 1, "name": "Tarka", "weight": 9.5, "tags": []}]}
    assert json.loads(loggable_body(body)) == body


@pytest.mark.parametrize(
    "name",
    [
        "hdb_user",
        "hdbAuthHeader",
        "password",
        "payload",
        "key",
        "private_key",
        "authorization",
        "refresh_token",
        "license",
        "s3",
        "passthrough_headers",
        "data",
        "Password",
        "new_password",
        "client_secret",
        "operation_token",
    ],
)
def test_a_secret_field_is_left_out(name: str) -> None:
    assert loggable_body({"operation": "x", name: SECRET, "table": "otter"}) == '{"operation":"x","table":"otter"}'


@pytest.mark.parametrize("name", ["password", "private_key", "authorization", "refresh_token", "s3", "secretAccessKey"])
@pytest.mark.parametrize("wrap", [lambda value: {"inner": value}, lambda value: [[value]]], ids=["object", "lists"])
def test_a_secret_is_left_out_at_any_depth(name: str, wrap: Any) -> None:
    assert SECRET not in loggable_body({"operation": "x", "field": wrap({name: {"any": SECRET}})})


@pytest.mark.parametrize("name", ["database", "schema"])
def test_records_of_the_system_database_are_left_out(name: str) -> None:
    body = {"operation": "insert", name: "system", "table": "hdb_user", "records": [{"hash": SECRET}]}
    assert loggable_body(body) == f'{{"operation":"insert","{name}":"system","table":"hdb_user"}}'


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO system.hdb_user (username, x) VALUES ('a', '{SECRET}')",
        f"UPDATE `SYSTEM`.hdb_user SET x = '{SECRET}'",
        f"SELECT '{SECRET}' {' ' * 2000} FROM [system].[hdb_user]",
        f"SELECT '{SECRET}'{' ' * 100_000}FROM system.hdb_user",
    ],
)
def test_a_statement_that_may_touch_the_system_database_is_left_out(statement: str) -> None:
    assert loggable_body({"operation": "sql", "sql": statement}) == '{"operation":"sql"}'
    assert SECRET not in loggable_body({"operation": "export_local", "search_operation": {"sql": statement}})


def test_a_statement_on_other_tables_is_logged() -> None:
    statement = "SELECT * FROM zoo.otter WHERE ecosystem = 'river'"
    assert json.loads(loggable_body({"operation": "sql", "sql": statement}))["sql"] == statement


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://me:{SECRET}@example.org/a.csv", "https://example.org/a.csv"),
        (f"https://example.org/a.csv?signature={SECRET}", "https://example.org/a.csv?…"),
    ],
)
def test_a_url_is_logged_without_what_lets_its_reader_in(url: str, shown: str) -> None:
    assert shown in loggable_body({"operation": "csv_url_load", "csv_url": url})
    assert SECRET not in loggable_body({"operation": "csv_url_load", "csv_url": url})


def test_credentials_in_a_package_reference_are_left_out() -> None:
    assert SECRET not in loggable_body({"operation": "x", "package": f"git+https://{SECRET}@example.org/a/b.git"})


@pytest.mark.parametrize("value", ["x" * 5000, [1] * 5000, {str(number): 1 for number in range(5000)}])
def test_a_value_is_cut_at_1_kib(value: Any) -> None:
    text = loggable_body({"operation": "x", "value": value})
    assert text.endswith("…}")
    assert VALUE_LENGTH_MAX <= len(text) <= VALUE_LENGTH_MAX + 50


def test_fields_after_a_cut_value_are_logged() -> None:
    assert '"last":1' in loggable_body({"operation": "x", "value": "x" * 5000, "last": 1})


def test_a_body_of_many_fields_is_cut_as_a_whole() -> None:
    text = loggable_body({f"field{number}": "x" * 1000 for number in range(900)})
    assert len(text) == BODY_LENGTH_MAX + 1


def test_elements_beyond_the_cut_are_never_visited() -> None:
    records = CountedList({"id": number} for number in range(100_000))
    loggable_body({"operation": "insert", "records": records})
    assert 0 < records.visited < 200


def test_a_huge_text_is_never_copied() -> None:
    body = {"operation": "insert", "records": [{"text": "x" * 50_000_000}]}
    tracemalloc.start()
    loggable_body(body)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 200_000


def test_many_secret_fields_are_not_all_looked_at() -> None:
    class Counted(dict[str, Any]):
        visited = 0

        def items(self) -> Any:
            for item in super().items():
                self.visited += 1
                yield item

    inner = Counted({f"password{number}": SECRET for number in range(50_000)})
    assert SECRET not in loggable_body({"operation": "x", "value": inner})
    assert 0 < inner.visited < 2000


def test_deep_nesting_ends_with_an_ellipsis() -> None:
    value: Any = 1
    for _ in range(5000):
        value = [value]
    assert "…" in loggable_body({"operation": "x", "value": value})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\0" * 10, "<10 bytes>"),
        (datetime(2026, 11, 3, tzinfo=UTC), "<datetime>"),
        (float("nan"), "null"),
        (None, "null"),
        (True, "true"),
        pytest.param(10**5000, "<integer of 16610 bits>", id="huge integer"),
        ("ö\u001b[2J", '"ö\\u001b[2J"'),
    ],
)
def test_values_of_every_type_have_a_short_form(value: Any, shown: str) -> None:
    assert loggable_body({"value": value}) == f'{{"value":{shown}}}'


def test_a_body_whose_inner_keys_are_no_text_is_logged() -> None:
    body: Mapping[str, Any] = {"value": {1: "a", b"x": "b"}}
    assert loggable_body(body) == '{"value":{1:"a",<1 bytes>:"b"}}'
