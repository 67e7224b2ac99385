import uuid
from typing import Any

import pytest

from storage.errors import InvalidAttribute, InvalidKey, TableNotFound
from storage.schema import Attribute
from storage.table_writes import FIRST_INT_KEY_BELOW, INT_KEY_MAX, delete_records, write_records
from storage.transaction import stored_key_of
from tests.storage.opened import Opened


def plain(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """The record without the times the node gives it."""
    return record and {name: value for name, value in record.items() if not name.startswith("__")}


def test_insert_writes_new_records_and_skips_those_that_are_there(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"})
    written = opened.put("dog", {"id": 1, "name": "x"}, {"id": 2, "name": "Rex"}, mode="insert")
    assert (written.written, written.skipped) == ([2], [1])
    assert plain(opened.get("dog", 1)) == {"id": 1, "name": "Tilda"}


def test_update_changes_records_that_are_there_and_skips_others(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda", "age": 3})
    written = opened.put("dog", {"id": 1, "age": 4}, {"id": 2, "age": 1}, mode="update")
    assert (written.written, written.skipped) == ([1], [2])
    assert plain(opened.get("dog", 1)) == {"id": 1, "name": "Tilda", "age": 4}
    assert opened.get("dog", 2) is None


def test_upsert_does_either(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"})
    written = opened.put("dog", {"id": 1, "age": 4}, {"id": 2})
    assert (written.written, written.skipped) == ([1, 2], [])
    assert plain(opened.get("dog", 1)) == {"id": 1, "name": "Tilda", "age": 4}


def test_an_update_replaces_an_object_as_a_whole(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "owner": {"name": "Ann", "town": "Ulm"}})
    opened.put("dog", {"id": 1, "owner": {"name": "Bob"}}, mode="update")
    assert plain(opened.get("dog", 1)) == {"id": 1, "owner": {"name": "Bob"}}


def test_a_null_is_a_value(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"})
    opened.put("dog", {"id": 1, "name": None}, mode="update")
    assert plain(opened.get("dog", 1)) == {"id": 1, "name": None}
    assert len(opened.index("dog", "name")) == 1


def test_a_key_that_occurs_twice_is_applied_in_order(opened: Opened) -> None:
    written = opened.put("dog", {"id": 1, "a": 1}, {"id": 1, "b": 2}, {"id": 1, "a": 3})
    assert written.written == [1, 1, 1]
    assert plain(opened.get("dog", 1)) == {"id": 1, "a": 3, "b": 2}
    again = opened.put("dog", {"id": 2, "a": 1}, {"id": 2, "a": 9}, mode="insert")
    assert (again.written, again.skipped) == ([2], [2])


def test_what_the_caller_sent_is_not_changed(opened: Opened) -> None:
    sent: list[dict[str, Any]] = [{"id": 1, "tags": ["a"]}, {"name": "no key"}]
    opened.put("dog", *sent)
    assert sent == [{"id": 1, "tags": ["a"]}, {"name": "no key"}]


def test_the_node_sets_both_times_whatever_the_client_sends(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "__createdtime__": 5, "__updatedtime__": 5})
    first = opened.get("dog", 1)
    opened.put("dog", {"id": 1, "__createdtime__": 5, "__updatedtime__": 5})
    second = opened.get("dog", 1)
    assert first is not None
    assert second is not None
    assert first["__createdtime__"] == first["__updatedtime__"] == second["__createdtime__"]
    assert second["__updatedtime__"] > first["__updatedtime__"]


def test_a_deleted_record_that_comes_back_is_new(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "name": "Tilda"})
    first = opened.get("dog", 1)
    opened.delete("dog", 1)
    opened.put("dog", {"id": 1})
    second = opened.get("dog", 1)
    assert first is not None
    assert second is not None
    assert plain(second) == {"id": 1}
    assert second["__createdtime__"] > first["__createdtime__"]


def test_a_dynamic_table_learns_attributes_in_order_of_appearance(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "b": 1}, {"id": 2, "a": 1, "b": 2})
    assert list(opened.table("dog").attributes) == ["id", "__createdtime__", "__updatedtime__", "b", "a"]
    assert {"a", "b"} <= opened.table("dog").index_ids.keys()


@pytest.mark.parametrize("name", ["", "a/b", "a`b", "x" * 251])
def test_a_record_with_an_attribute_that_cannot_be_stored_is_refused(opened: Opened, name: str) -> None:
    with pytest.raises(InvalidAttribute):
        opened.put("dog", {"id": 1}, {"id": 2, name: 1})
    assert opened.ids("dog") == []


def test_a_schema_defined_table_stores_what_it_does_not_know_but_does_not_declare_it(opened: Opened) -> None:
    opened.create_table("cat", Attribute(name="id", is_primary_key=True), Attribute(name="name", indexed=True))
    opened.put("cat", {"id": 1, "name": "Mia", "other": 1})
    assert list(opened.table("cat").attributes) == ["id", "name"]
    assert opened.get("cat", 1) == {"id": 1, "name": "Mia", "other": 1}
    assert opened.table("cat").index_ids.keys() == {"name"}


def test_a_schema_defined_table_may_name_its_own_times(opened: Opened) -> None:
    opened.create_table(
        "cat",
        Attribute(name="id", is_primary_key=True),
        Attribute(name="born", type="Date", assigned_created_time=True),
        Attribute(name="seen", type="String", assigned_updated_time=True),
        Attribute(name="when", type="Long", assigned_updated_time=True),
    )
    opened.put("cat", {"id": 1})
    record = opened.get("cat", 1)
    assert record is not None
    assert record["born"].timestamp() * 1000 == record["when"] == opened.now_us // 1000
    assert record["seen"] == "2026-11-12T13:46:40.003Z"


@pytest.mark.parametrize("key", ["a", "1", 1, 1.5, -3, "x" * 1900, "tab\tnull\0", [1, "a"], 1 << 60])
def test_a_record_is_found_by_its_key_and_type(opened: Opened, key: Any) -> None:
    opened.put("dog", {"id": key, "n": 1})
    record = opened.get("dog", key)
    assert record is not None
    assert record["id"] == key
    opened.delete("dog", key)
    assert opened.get("dog", key) is None


def test_text_and_number_are_two_keys(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "n": "number"}, {"id": "1", "n": "text"})
    opened.delete("dog", "1")
    assert [record["n"] for record in opened.all("dog")] == ["number"]


def test_keys_with_one_long_beginning_are_two_records(opened: Opened) -> None:
    first, second = "k" * 700 + "a", "k" * 700 + "b"
    opened.put("dog", {"id": first, "n": 1}, {"id": second, "n": 2})
    assert [opened.record("dog", key)["n"] for key in (first, second)] == [1, 2]
    opened.delete("dog", first)
    assert [record["n"] for record in opened.all("dog")] == [2]


def test_generated_keys_are_new_integers_in_a_row(opened: Opened) -> None:
    first = opened.put("dog", {"name": "a"}, {"name": "b"}).written
    second = opened.put("dog", {"name": "c"}).written
    assert [*first, *second] == [first[0], first[0] + 1, first[0] + 2]
    assert 0 <= first[0] < 1 << 49


def test_a_generated_key_that_is_taken_is_passed_over(opened: Opened) -> None:
    (key,) = opened.put("dog", {"name": "a"}).written
    opened.put("dog", {"id": key + 1, "name": "taken"})
    assert opened.put("dog", {"name": "b"}).written == [key + 2]
    assert opened.record("dog", key + 1)["name"] == "taken"


def test_keys_given_to_a_refused_transaction_hurt_nobody(opened: Opened) -> None:
    def refused(tx: Any) -> None:
        write_records(tx, "dog", [{"name": "x"}], "insert")
        raise ValueError

    with pytest.raises(ValueError):
        opened.write(refused)
    keys = [opened.put("dog", {"name": "a"}).written[0] for _ in range(3)]
    assert len(set(keys)) == 3
    assert opened.ids("dog") == sorted(keys)


@pytest.mark.parametrize("kind", ["String", "ID"])
def test_text_keys_are_generated_as_uuids(opened: Opened, kind: str) -> None:
    opened.create_table("cat", Attribute(name="id", type=kind, is_primary_key=True))
    (key,) = opened.put("cat", {"name": "a"}).written
    assert str(uuid.UUID(key)) == key


def test_generated_int_keys_stay_in_their_range_and_end(opened: Opened) -> None:
    opened.create_table("cat", Attribute(name="id", type="Int", is_primary_key=True))
    (key,) = opened.put("cat", {"name": "a"}).written
    assert 0 <= key < FIRST_INT_KEY_BELOW
    table_id = opened.table("cat").id
    with opened.environment.lmdb.begin(write=True) as txn:
        txn.put(table_id.to_bytes(4), INT_KEY_MAX.to_bytes(8), db=opened.environment.handles["sequences"])
    assert opened.put("cat", {"name": "last"}).written == [INT_KEY_MAX]
    with pytest.raises(InvalidKey, match="No generated keys are left"):
        opened.put("cat", {"name": "one more"})


def test_a_generated_key_stands_first_in_its_record(opened: Opened) -> None:
    (key,) = opened.put("dog", {"name": "a"}).written
    record = opened.get("dog", key)
    assert record is not None
    assert list(record)[:2] == ["id", "name"]


def test_an_explicit_null_key_is_generated(opened: Opened) -> None:
    (key,) = opened.put("dog", {"id": None, "name": "a"}).written
    assert isinstance(key, int)
    assert plain(opened.get("dog", key)) == {"id": key, "name": "a"}


def test_a_table_that_is_not_there_is_named(opened: Opened) -> None:
    for function in (
        lambda tx: write_records(tx, "cat", [{"id": 1}], "insert"),
        lambda tx: delete_records(tx, "cat", [1]),
    ):
        with pytest.raises(TableNotFound, match=r"Table 'data\.cat' does not exist"):
            opened.write(function)


def test_a_delete_of_a_value_that_is_no_key_is_refused_with_the_others(opened: Opened) -> None:
    opened.put("dog", {"id": 1})
    with pytest.raises(InvalidKey):
        opened.delete("dog", 1, True)
    assert opened.ids("dog") == [1]


def test_index_entries_follow_an_array_as_it_changes(opened: Opened) -> None:
    opened.put("dog", {"id": 1, "tags": [*range(2000), "x", "x"]})
    assert len(opened.index("dog", "tags")) == 2001
    opened.put("dog", {"id": 1, "tags": [*range(1000, 3000)]})
    assert len(opened.index("dog", "tags")) == 2000
    opened.put("dog", {"id": 1, "tags": "x"})
    assert [key for _, key in opened.index("dog", "tags")] == [stored_key_of(1)]


@pytest.mark.parametrize("values", [[1, True], [True, 1], [0, False], [1, 1.0], ["1", 1], [None, False]])
def test_values_that_python_calls_equal_are_indexed_apart(opened: Opened, values: list[Any]) -> None:
    for value in values:
        opened.put("dog", {"id": 1, "v": value})
    record = opened.get("dog", 1)
    assert record is not None
    assert (record["v"], type(record["v"])) == (values[-1], type(values[-1]))
    assert len(opened.index("dog", "v")) == 1
