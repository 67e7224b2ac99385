"""Which properties an answer shows."""

from typing import Any

import pytest

from ops.errors import InvalidParams
from ops.selection import Selection, compile_selection, name_of, selected_names
from storage.record import Row, encode_row
from storage.schema import Attribute, Definition, Table, dynamic_attributes

RECORD: dict[str, Any] = {
    "id": 1,
    "name": "Bella",
    "info": {"chip": "A1", "born": {"y": 2019}},
    "visits": [{"on": "mon", "by": "x"}, {"on": "tue"}],
    "__createdtime__": 5,
    "__updatedtime__": 6,
}
ROW = Row(1_800_000_000_000_500, 1, 1, 1, b"", expires_at_ms=77)


def _table(*, schema_defined: bool) -> Table:
    attributes = (
        *dynamic_attributes("id"),
        *(Attribute(name=name, indexed=True) for name in ("name", "weight", "info", "visits")),
    )
    definition = Definition(name="animal", primary_key="id", attributes=attributes, schema_defined=schema_defined)
    return Table(id=1, database="farm", definition=definition, rows_id=1, tombstones_id=2, index_ids={})


DYNAMIC = _table(schema_defined=False)
SCHEMA_DEFINED = _table(schema_defined=True)


def _shown(elements: list[Any] | None, table: Table = DYNAMIC) -> list[tuple[str, Any]]:
    """Properties in order."""
    return list(compile_selection(elements, table).of(RECORD, ROW).items())


def test_named_attributes_come_in_the_order_of_the_names_and_missing_ones_as_null() -> None:
    assert _shown(["weight", "name", "id"]) == [("weight", None), ("name", "Bella"), ("id", 1)]


def test_a_name_that_is_repeated_is_one_property() -> None:
    selection = compile_selection(["name", "name"], DYNAMIC)
    assert selection.columns == ("name",)
    assert selection.of(RECORD) == {"name": "Bella"}


def test_a_star_on_a_dynamic_table_is_every_attribute_in_table_order() -> None:
    assert [name for name, _ in _shown(["*", "ignored"])] == list(DYNAMIC.attributes)
    assert dict(_shown(["*"]))["weight"] is None


@pytest.mark.parametrize(("elements", "table"), [(["*"], SCHEMA_DEFINED), (None, SCHEMA_DEFINED), (None, DYNAMIC)])
def test_the_stored_record_comes_as_it_is(elements: list[Any] | None, table: Table) -> None:
    assert dict(_shown(elements, table)) == RECORD
    assert compile_selection(elements, table).columns == tuple(table.attributes)


def test_a_star_behind_other_elements_is_expanded_in_place() -> None:
    assert [name for name, _ in _shown(["name", "*"])] == [
        "name",
        "id",
        "__createdtime__",
        "__updatedtime__",
        "weight",
        "info",
        "visits",
    ]
    assert dict(_shown(["name", "*"], SCHEMA_DEFINED)) == RECORD


def test_a_nested_selection_shows_part_of_an_object() -> None:
    assert _shown(["id", {"name": "info", "select": ["chip"]}]) == [("id", 1), ("info", {"chip": "A1"})]
    assert _shown([{"name": "info", "select": ["gone", {"name": "born", "select": ["y"]}]}]) == [
        ("info", {"gone": None, "born": {"y": 2019}})
    ]
    assert _shown([{"name": "info", "select": ["*"]}]) == [("info", RECORD["info"])]


def test_a_nested_selection_reaches_into_arrays_and_leaves_scalars_alone() -> None:
    assert _shown([{"name": "visits", "select": ["on"]}]) == [("visits", [{"on": "mon"}, {"on": "tue"}])]
    assert _shown([{"name": "name", "select": ["x"]}, {"name": "weight", "select": ["x"]}]) == [
        ("name", "Bella"),
        ("weight", None),
    ]


def test_metadata_comes_from_the_row() -> None:
    shown = dict(_shown(["$id", "$updatedtime", "$updatedTime", "$expiresAt", "$record", "$other"]))
    assert shown == {
        "$id": 1,
        "$updatedtime": 1_800_000_000_000.5,
        "$updatedTime": 1_800_000_000_000.5,
        "$expiresAt": 77,
        "$record": RECORD,
        "$other": None,
    }


def test_a_row_is_decoded_only_where_metadata_needs_it() -> None:
    assert not compile_selection(["$id", "name"], DYNAMIC).needs_row
    assert compile_selection(["$expiresAt"], DYNAMIC).needs_row


@pytest.mark.parametrize(
    ("elements", "expected"),
    [(None, RECORD), (["name"], {"name": "Bella"}), (["$id"], {"$id": 1}), (["$expiresAt"], {"$expiresAt": 77})],
)
def test_a_page_is_shown_like_its_records(elements: list[Any] | None, expected: dict[str, Any]) -> None:
    selection: Selection = compile_selection(elements, DYNAMIC)
    assert selection.of_page([(b"k", RECORD, encode_row(ROW))] * 2) == [expected] * 2


def test_names_for_the_check_leave_out_wildcards_and_metadata() -> None:
    assert selected_names(["a", "*", "$id", {"name": "b", "select": ["c"]}, 5]) == ["a", "b", "5"]
    assert selected_names(None) == []


@pytest.mark.parametrize("element", [{"name": "info"}, {"select": ["x"]}, {"name": "info", "select": "x"}, {"name": 5}])
def test_an_object_that_selects_nothing_is_refused(element: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams, match=r"^Invalid select\[object Object\]$"):
        name_of(element)


@pytest.mark.parametrize("elements", [None, ["*"], ["name", "authorization"], ["$record", "authorization"]])
def test_retained_credentials_of_a_peer_are_never_shown(elements: list[Any] | None) -> None:
    definition = Definition(
        name="hdb_node_links", primary_key="name", attributes=dynamic_attributes("name"), schema_defined=True
    )
    links = Table(id=1, database="system", definition=definition, rows_id=1, tombstones_id=2, index_ids={})
    shown = compile_selection(elements, links).of({"name": "b", "authorization": "Basic c2VjcmV0"}, ROW)
    assert "c2VjcmV0" not in str(shown)
