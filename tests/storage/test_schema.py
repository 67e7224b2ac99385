from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import codec
from storage.errors import InvalidAttribute
from storage.schema import Attribute, Definition, Table, check_attribute_name, dynamic_attributes

flags = st.one_of(st.none(), st.booleans())
names = st.text(min_size=1, max_size=10)
leaves = st.builds(
    Attribute,
    name=names,
    type=st.one_of(st.none(), st.sampled_from(["Int", "Date", "array"])),
    elements=st.one_of(st.none(), st.just("Int")),
    indexed=flags,
    nullable=flags,
    is_primary_key=st.booleans(),
    assigned_created_time=st.booleans(),
    assigned_updated_time=st.booleans(),
    expires_at=st.booleans(),
    sealed=st.booleans(),
)
attributes = st.builds(replace, leaves, properties=st.lists(leaves, max_size=2).map(tuple))
definitions = st.builds(
    Definition,
    name=names,
    primary_key=names,
    attributes=st.lists(attributes, max_size=3).map(tuple),
    schema_defined=st.booleans(),
    created=st.integers(0, 1 << 62),
    audit=flags,
    replicate=flags,
    sealed=flags,
    expiration_s=st.one_of(st.none(), st.floats(0, 1e9)),
    is_local=st.booleans(),
)


def table(*declared: Attribute, is_dynamic: bool = True, **given: Any) -> Table:
    definition = Definition(
        name="dog", primary_key="id", attributes=declared or dynamic_attributes("id"), schema_defined=not is_dynamic
    )
    return Table(
        id=1, database="data", definition=definition, rows_id=1, tombstones_id=2, index_ids={"a": 1, "b": 2}, **given
    )


@given(attributes)
def test_an_attribute_comes_back_as_it_was(attribute: Attribute) -> None:
    assert Attribute.decoded(codec.decode(codec.encode(attribute.encoded()))) == attribute


@given(definitions)
def test_a_definition_comes_back_as_it_was(definition: Definition) -> None:
    assert Definition.decoded(codec.decode(codec.encode(definition.encoded()))) == definition


@given(definitions, st.dictionaries(names, st.integers(0, 1 << 62), max_size=3), st.booleans())
def test_a_table_comes_back_as_it_was(definition: Definition, dropped: dict[str, int], complete: bool) -> None:
    stored = Table(
        id=3,
        database="data",
        definition=definition,
        rows_id=1,
        tombstones_id=2,
        index_ids={"a": 7},
        dropped=dropped,
        complete=complete,
    )
    assert Table.decoded(3, "data", codec.decode(codec.encode(stored.encoded()))) == stored


def test_a_field_of_a_newer_version_is_read_over() -> None:
    plain = Definition(name="dog", primary_key="id", attributes=(Attribute(name="id"),)).encoded()
    plain["new"] = 1
    plain["attributes"][0]["new"] = 1
    assert Definition.decoded(plain).attributes == (Attribute(name="id"),)


def test_an_index_that_is_refused_is_told_from_one_that_is_not_mentioned() -> None:
    assert Attribute(name="a", indexed=False).encoded() == {"name": "a", "indexed": False}
    assert Attribute(name="a").encoded() == {"name": "a"}


def test_a_dropped_attribute_is_hidden_in_what_was_written_until_then() -> None:
    hiding = table(Attribute(name="a"), Attribute(name="b")).without_attribute("a", dropped_at=100)
    record = {"id": 1, "a": 2, "b": 3}
    assert hiding.visible(record, 99) == {"id": 1, "b": 3}
    assert hiding.visible(record, 100) == {"id": 1, "b": 3}
    assert hiding.visible(record, 101) == record


def test_a_dropped_attribute_of_a_schema_defined_table_stays_in_its_records() -> None:
    kept = table(Attribute(name="a"), is_dynamic=False).without_attribute("a", dropped_at=100)
    assert kept.visible({"id": 1, "a": 2}, 50) == {"id": 1, "a": 2}
    assert "a" not in kept.attributes


def test_dropping_takes_the_index_away_and_adding_brings_one() -> None:
    dropped = table(Attribute(name="a"), Attribute(name="b")).without_attribute("a", dropped_at=1)
    assert dropped.index_ids == {"b": 2}
    again = dropped.with_attribute(Attribute(name="a", indexed=True), 9)
    assert again.index_ids == {"b": 2, "a": 9}
    assert list(again.attributes) == ["b", "a"]


def test_an_attribute_without_an_index_adds_none() -> None:
    assert table().with_attribute(Attribute(name="c"), None).index_ids == table().index_ids


def test_a_dynamic_table_begins_with_its_key_and_two_indexed_times() -> None:
    assert [(a.name, a.indexed, a.is_primary_key) for a in dynamic_attributes("id")] == [
        ("id", None, True),
        ("__createdtime__", True, False),
        ("__updatedtime__", True, False),
    ]


@pytest.mark.parametrize("name", ["a", "ä b", "." * 250, "é" * 125, "a.b-c"])
def test_an_attribute_may_have_any_short_name(name: str) -> None:
    check_attribute_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "Attribute name is required"),
        ("a/b", "Attribute names cannot include backticks or forward slashes"),
        ("a`b", "Attribute names cannot include backticks or forward slashes"),
        ("é" * 126, "too long. Attribute names cannot be longer than 250 bytes."),
    ],
)
def test_an_attribute_name_that_cannot_be_stored_is_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidAttribute, match=message):
        check_attribute_name(name)
