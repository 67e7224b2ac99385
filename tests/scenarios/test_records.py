"""insert, update, upsert and delete, asked of a whole node over HTTPS: order of checks, answers, what is then stored."""

import re
import uuid
from collections.abc import Iterator
from typing import Any

import cbor2
import ormsgpack
import pytest

from tests.node_process import NodeProcess
from tests.scenarios.asking import Answer, Credentials, ask, forbidden, missing_rights

DB = "farm2"
FARMHAND: Credentials = ("records-farmhand", "Straw-1")
WRITES = ("insert", "update", "upsert")
NO_KEY = "a valid hash attribute must be provided with update record, check log for more info"
PATTERN = "names cannot include backticks or forward slashes"


def refused(status: int, text: str) -> Answer:
    return status, {"error": text}


def inserted(*keys: Any, skipped: tuple[Any, ...] = ()) -> Answer:
    total = len(keys) + len(skipped)
    return 200, {
        "message": f"inserted {len(keys)} of {total} records",
        "inserted_hashes": list(keys),
        "skipped_hashes": list(skipped),
    }


def updated(*keys: Any, skipped: tuple[Any, ...] = ()) -> Answer:
    total = len(keys) + len(skipped)
    return 200, {
        "message": f"updated {len(keys)} of {total} records",
        "update_hashes": list(keys),
        "skipped_hashes": list(skipped),
    }


def upserted(*keys: Any) -> Answer:
    return 200, {"message": f"upserted {len(keys)} of {len(keys)} records", "upserted_hashes": list(keys)}


def deleted(*keys: Any) -> Answer:
    noun = "record" if len(keys) == 1 else "records"
    message = f"{len(keys)} of {len(keys)} {noun} successfully deleted"
    return 200, {"message": message, "deleted_hashes": list(keys), "skipped_hashes": []}


@pytest.fixture(scope="module")
def farm(node: NodeProcess) -> NodeProcess:
    """The shared node with the database ``farm2``, its dynamic table ``animal`` and a user with some rights on it."""
    for table in ("animal", "pen", "byname"):
        node.post(operation="create_table", database=DB, table=table, primary_key="id")
    node.post(operation="insert", database=DB, table="animal", records=[{"id": 1, "name": "Bella"}])
    node.post(operation="insert", database=DB, table="byname", records=[{"id": 1, "name": "Bella", "secret": 1}])
    node.post(operation="add_role", role=FARMHAND[0], permission={DB: {"tables": _tables_of_the_farmhand()}})
    node.post(operation="add_user", role=FARMHAND[0], username=FARMHAND[0], password=FARMHAND[1], active=True)
    return node


def _tables_of_the_farmhand() -> dict[str, Any]:
    name = {"attribute_name": "name", "read": True, "insert": True, "update": False}
    stamp = {"attribute_name": "__createdtime__", "read": True, "insert": True, "update": True}
    rights = {"read": True, "insert": True, "update": True, "delete": False}
    return {
        "animal": {"read": True, "insert": True, "update": False, "delete": False, "attribute_permissions": []},
        "byname": rights | {"attribute_permissions": [name, stamp]},
    }


_tables = iter(range(10_000))


@pytest.fixture
def table(farm: NodeProcess) -> dict[str, Any]:
    """Database and name of an empty dynamic table with the key ``id``."""
    fields = {"database": DB, "table": f"t{next(_tables)}"}
    farm.post(operation="create_table", **fields, primary_key="id")
    return fields


def typed_table(node: NodeProcess, *attributes: dict[str, Any]) -> dict[str, Any]:
    fields = {"database": DB, "table": f"typed{next(_tables)}"}
    node.post(operation="create_table", **fields, primary_key="id", attributes=[{"name": "id"}, *attributes])
    return fields


def stored(node: NodeProcess, table: dict[str, Any], key: Any) -> dict[str, Any] | None:
    """The record as it is, without its timestamps."""
    found = node.post(operation="search_by_value", **table, attribute="id", value=key)
    return {k: v for k, v in found[0].items() if not k.startswith("__")} if found else None


def keys_of(node: NodeProcess, table: dict[str, Any]) -> list[Any]:
    found = node.post(operation="search_by_value", **table, attribute="id", value="*", get_attributes=["id"])
    return [record["id"] for record in found]


# Order of checks


@pytest.mark.parametrize("operation", WRITES)
@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"records": [{"id": 1}]}, 400, "'table' is required"),
        ({"table": "", "records": []}, 400, "'table' is not allowed to be empty"),
        ({"table": True, "records": []}, 400, "'table' must be one of [string, number]"),
        ({"table": ["x"], "records": []}, 400, "'table' must be one of [string, number]"),
        ({"table": "a/b", "records": []}, 400, f"'table' {PATTERN}"),
        ({"table": "a`b", "records": []}, 400, f"'table' {PATTERN}"),
        (
            {"table": "x" * 251, "records": []},
            400,
            "'table' length must be less than or equal to 250 characters long",
        ),
        ({"table": "animal"}, 400, "'records' is required"),
        ({"table": "animal", "records": {"id": 9}}, 400, "'records' must be an array"),
        ({"table": "animal", "records": "x"}, 400, "'records' must be an array"),
        ({"table": "animal", "records": [5]}, 400, "'records[0]' must be of type object"),
        ({"table": "animal", "records": [{"id": 1}, [1]]}, 400, "'records[1]' must be of type object"),
        ({"table": "animal", "records": [{"id": 1}, None]}, 400, "'records[1]' must be of type object"),
        ({"table": "", "records": 5}, 400, "'table' is not allowed to be empty. 'records' must be an array"),
        ({"table": "animal", "records": [{"id": 8, "": 1}]}, 400, "Invalid attribute name: ''"),
        ({"table": "animal", "records": [{"id": 8, "null": 1}]}, 400, "Invalid attribute name: 'null'"),
        ({"table": "animal", "records": [{"id": 8, "undefined": 1}]}, 400, "Invalid attribute name: 'undefined'"),
        (
            {"table": "animal", "records": [{"id": 8, "null": 1, "": 2}]},
            400,
            "Invalid attribute name: ''. Invalid attribute name: 'null'",
        ),
        ({"table": "ghost", "records": [{"id": 8, "": 1}]}, 400, "Invalid attribute name: ''"),
        ({"table": "ghost", "records": [{"id": 1}]}, 400, f"Table '{DB}.ghost' does not exist"),
        ({"table": "ghost", "records": []}, 400, f"Table '{DB}.ghost' does not exist"),
        ({"database": "ghost", "table": "x", "records": [{"id": "null"}]}, 400, "database 'ghost' does not exist"),
        ({"schema": "ghost", "database": None, "table": "x", "records": []}, 400, "database 'ghost' does not exist"),
        ({"table": "animal", "records": [{"id": "null"}]}, 400, "NULL_KEY"),
        ({"table": "animal", "records": [{"id": "undefined"}]}, 400, "UNDEFINED_KEY"),
        ({"table": "animal", "records": [{"id": 8, "a/b": 1}]}, 400, f"Attribute {PATTERN}"),
        ({"table": "animal", "records": [{"id": 8, "a`b": 1}]}, 400, f"Attribute {PATTERN}"),
        (
            {"table": "animal", "records": [{"id": 8, "é" * 126: 1}]},
            400,
            (
                f"transaction aborted due to attribute name {'é' * 126} being too long. "
                "Attribute names cannot be longer than 250 bytes."
            ),
        ),
        ({"table": "animal", "records": [{"id": True}]}, 500, "Invalid primary key type: boolean"),
        ({"table": "animal", "records": [{"id": ["a", ["b"]]}]}, 500, "Invalid primary key type: object"),
        ({"table": "animal", "records": [{"id": {"a": 1}}]}, 400, "Invalid primary key type: object"),
        ({"table": "animal", "records": [{"id": "k" * 2000}]}, 500, "Primary key size is too large: "),
    ],
)
def test_a_write_is_refused(
    farm: NodeProcess, operation: str, fields: dict[str, Any], status: int, problem: str
) -> None:
    for word in ("null", "undefined"):
        problem = problem.replace(
            f"{word.upper()}_KEY",
            f"Invalid hash value: '{word}' is not a valid hash attribute value, check log for more info",
        )
    sent = {"database": DB} | fields
    sent = {name: value for name, value in sent.items() if not (name == "database" and value is None)}
    got_status, answer = ask(farm, operation, **sent)
    assert got_status == status
    assert answer.keys() == {"error"}
    assert answer["error"].startswith(problem) if problem.endswith(": ") else answer["error"] == problem


@pytest.mark.parametrize("record", [{}, {"a": 1}, {"id": None}, {"id": ""}])
def test_an_update_needs_a_key_in_each_record(farm: NodeProcess, table: dict[str, Any], record: dict[str, Any]) -> None:
    farm.post(operation="insert", **table, records=[{"id": 1, "a": 0}])
    assert ask(farm, "update", **table, records=[{"id": 1, "a": 1}, record]) == refused(400, NO_KEY)
    assert stored(farm, table, 1) == {"id": 1, "a": 0}


@pytest.mark.parametrize("bad", [{"id": "null"}, {"id": True}, {"id": 3, "a/b": 1}, {"id": {"x": 1}}, 7])
def test_one_bad_record_keeps_all_others_out(farm: NodeProcess, table: dict[str, Any], bad: Any) -> None:
    for operation in ("insert", "upsert"):
        assert ask(farm, operation, **table, records=[{"id": 1, "new": 1}, bad, {"id": 2}])[0] in (400, 500)
    assert keys_of(farm, table) == []
    described = farm.post(operation="describe_table", **table)
    assert [a["attribute"] for a in described["attributes"]] == ["id", "__createdtime__", "__updatedtime__"]


# Answers


@pytest.mark.parametrize("database_field", ["database", "schema"])
def test_inserts_write_what_is_absent_and_skip_what_is_there(
    farm: NodeProcess, table: dict[str, Any], database_field: str
) -> None:
    where = {database_field: DB, "table": table["table"]}
    assert ask(farm, "insert", **where, records=[{"id": 1, "n": "a"}]) == inserted(1)
    both = [{"id": 1, "n": "dup"}, {"id": 7, "n": "Nell"}]
    assert ask(farm, "insert", **where, records=both) == inserted(7, skipped=(1,))
    assert stored(farm, table, 1) == {"id": 1, "n": "a"}
    assert ask(farm, "insert", **where, records=[]) == inserted()
    assert ask(farm, "insert", **where, records=[{"id": 8, "n": 1}, {"id": 8, "n": 2}]) == inserted(8, skipped=(8,))
    assert stored(farm, table, 8) == {"id": 8, "n": 1}


def test_an_update_merges_the_top_level_and_skips_what_is_absent(farm: NodeProcess, table: dict[str, Any]) -> None:
    farm.post(operation="insert", **table, records=[{"id": 1, "n": "a", "info": {"x": 1, "y": 2}}])
    records = [{"id": 1, "info": {"z": 3}}, {"id": 77, "n": 1}]
    assert ask(farm, "update", **table, records=records) == updated(1, skipped=(77,))
    assert stored(farm, table, 1) == {"id": 1, "n": "a", "info": {"z": 3}}
    assert stored(farm, table, 77) is None
    assert ask(farm, "update", **table, records=[]) == updated()
    assert ask(farm, "update", **table, records=[{"id": 1, "n": "b"}, {"id": 1, "n": "c"}]) == updated(1, 1)
    assert stored(farm, table, 1) == {"id": 1, "n": "c", "info": {"z": 3}}
    described = farm.post(operation="describe_table", **table)
    assert "skip" not in [attribute["attribute"] for attribute in described["attributes"]]


def test_an_upsert_merges_and_writes(farm: NodeProcess, table: dict[str, Any]) -> None:
    farm.post(operation="insert", **table, records=[{"id": 3, "n": "a", "m": 1}])
    assert ask(farm, "upsert", **table, records=[{"id": 3, "m": 2}, {"id": 6, "n": "Pip"}]) == upserted(3, 6)
    assert stored(farm, table, 3) == {"id": 3, "n": "a", "m": 2}
    assert stored(farm, table, 6) == {"id": 6, "n": "Pip"}
    assert ask(farm, "upsert", **table, records=[]) == upserted()
    twice = [{"id": 9, "n": 1}, {"id": 9, "m": 2}, {"id": "9", "n": 3}]
    assert ask(farm, "upsert", **table, records=twice) == upserted(9, 9, "9")
    assert stored(farm, table, 9) == {"id": 9, "n": 1, "m": 2}
    assert stored(farm, table, "9") == {"id": "9", "n": 3}


def test_missing_is_not_null(farm: NodeProcess, table: dict[str, Any]) -> None:
    farm.post(operation="insert", **table, records=[{"id": 1, "a": None}, {"id": 2}])
    assert stored(farm, table, 1) == {"id": 1, "a": None}
    assert stored(farm, table, 2) == {"id": 2}
    found = farm.post(operation="search_by_value", **table, attribute="a", value=None, get_attributes=["id"])
    assert found == [{"id": 1}]


def test_new_attributes_join_a_dynamic_table_in_order_of_appearance(farm: NodeProcess, table: dict[str, Any]) -> None:
    farm.post(operation="insert", **table, records=[{"zeta": 1, "id": 1, "alpha": 1}, {"id": 2, "mid": 1, "zeta": 2}])
    farm.post(operation="update", **table, records=[{"id": 2, "later": 1}])
    described = farm.post(operation="describe_table", **table)
    assert [a["attribute"] for a in described["attributes"]][3:] == ["zeta", "alpha", "mid", "later"]
    assert all(attribute["indexed"] is True for attribute in described["attributes"][1:])


def test_an_update_that_is_skipped_makes_no_attribute(farm: NodeProcess, table: dict[str, Any]) -> None:
    assert ask(farm, "update", **table, records=[{"id": 1, "a": 1}]) == updated(skipped=(1,))
    assert keys_of(farm, table) == []


@pytest.mark.parametrize("operation", ["insert", "upsert"])
def test_a_missing_key_is_generated_and_returned(farm: NodeProcess, table: dict[str, Any], operation: str) -> None:
    answer = farm.post(operation=operation, **table, records=[{"n": 1}, {"id": None, "n": 2}, {"id": "", "n": 3}])
    first, second, empty = answer["inserted_hashes" if operation == "insert" else "upserted_hashes"]
    assert type(first) is int and second == first + 1 and empty == ""
    assert 0 <= first < 2**49 + 10
    assert stored(farm, table, second) == {"id": second, "n": 2}
    assert stored(farm, table, "") == {"id": "", "n": 3}


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("ID", lambda key: str(uuid.UUID(key)) == key),
        ("String", lambda key: str(uuid.UUID(key)) == key),
        ("Int", lambda key: type(key) is int and 0 <= key < 2**31),
        ("Long", lambda key: type(key) is int and 0 <= key < 2**49 + 10),
        ("Any", lambda key: type(key) is int),
    ],
)
def test_a_generated_key_has_the_type_of_the_key(farm: NodeProcess, kind: str, holds: Any) -> None:
    table = {"database": DB, "table": f"key_{kind}"}
    farm.post(operation="create_table", **table, primary_key="id", attributes=[{"name": "id", "type": kind}])
    (key,) = farm.post(operation="insert", **table, records=[{"n": 1}])["inserted_hashes"]
    assert holds(key)
    assert stored(farm, table, key) == {"id": key, "n": 1}


# Keys and values


@pytest.mark.parametrize(
    "key",
    [0, 1, "1", -5, 2.5, -0.25, 1e300, 2**53 + 1, 2**80, "", "ä/`\n", "x" * 1900, [1, "a"], ["a", "b", 2.5], [0], " "],
)
def test_a_key_finds_its_record_again(farm: NodeProcess, table: dict[str, Any], key: Any) -> None:
    assert ask(farm, "insert", **table, records=[{"id": key, "of": "it"}]) == inserted(key)
    assert ask(farm, "insert", **table, records=[{"id": key}]) == inserted(skipped=(key,))
    found = farm.post(operation="search_by_value", **table, attribute="of", value="it", get_attributes=["id"])
    assert found == [{"id": key}]
    assert type(found[0]["id"]) is type(key)
    assert ask(farm, "upsert", **table, records=[{"id": key, "of": "us"}]) == upserted(key)
    assert stored(farm, table, key) == {"id": key, "of": "us"}
    assert ask(farm, "delete", **table, ids=[key]) == deleted(key)
    assert keys_of(farm, table) == []


def test_numbers_of_one_value_are_one_key_and_texts_are_others(farm: NodeProcess, table: dict[str, Any]) -> None:
    assert ask(farm, "insert", **table, records=[{"id": 4}, {"id": 4.0}, {"id": "4"}]) == inserted(4, "4", skipped=(4,))
    assert ask(farm, "insert", **table, records=[{"id": 0}, {"id": -0.0}]) == inserted(0, skipped=(0,))
    assert keys_of(farm, table) == [0, 4, "4"]


def test_keys_are_ordered_across_types(farm: NodeProcess, table: dict[str, Any]) -> None:
    ordered = [-1, 0, 1, 2, [2, "a"], 10, "", "10", "B", "a", ["a", 1], "b", "é", "😀"]
    farm.post(operation="insert", **table, records=[{"id": key} for key in reversed(ordered)])
    assert keys_of(farm, table) == ordered


@pytest.mark.parametrize("length", [500, 511, 512, 600, 1900])
def test_long_keys_that_begin_alike_are_told_apart_and_ordered(
    farm: NodeProcess, table: dict[str, Any], length: int
) -> None:
    keys = ["k" * length + end for end in ("", "a", "b", "c")]
    assert ask(farm, "insert", **table, records=[{"id": k} for k in (keys[2], keys[0], keys[3], keys[1])])[0] == 200
    assert keys_of(farm, table) == keys
    found = farm.post(operation="search_by_id", **table, ids=keys[1:3], get_attributes=["id"])
    assert [record["id"] for record in found] == keys[1:3]
    assert ask(farm, "delete", **table, ids=[keys[1]]) == deleted(keys[1])
    assert keys_of(farm, table) == [keys[0], *keys[2:]]


def test_a_key_may_take_1978_bytes_encoded_and_no_more(farm: NodeProcess, table: dict[str, Any]) -> None:
    fits = [
        length for length in range(1960, 1990) if ask(farm, "insert", **table, records=[{"id": "k" * length}])[0] == 200
    ]
    assert fits == list(range(1960, fits[-1] + 1))
    assert 1970 <= fits[-1] <= 1978
    status, answer = ask(farm, "insert", **table, records=[{"id": "k" * 3000}])
    assert (status, answer["error"].rsplit(" ", 1)[0]) == (500, "Primary key size is too large:")
    assert 3000 <= int(answer["error"].rsplit(" ", 1)[1]) <= 3010


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        1e-300,
        1.7976931348623157e308,
        2**53 + 1,
        -(2**63) - 1,
        2**64,
        10**299 + 7,
        "",
        "\u0000",
        "x" * 100_000,
        "null",
        "ünï😀",
        [],
        [1, [2, [None]]],
        {},
        {"a": {"b": [{"c": None}]}, "": 1, "null": 2},
    ],
)
def test_a_value_comes_back_as_it_was_sent(farm: NodeProcess, table: dict[str, Any], value: Any) -> None:
    farm.post(operation="insert", **table, records=[{"id": 1, "v": value}])
    found = stored(farm, table, 1)
    assert found == {"id": 1, "v": value}
    assert type(found["v"]) is type(value)


def test_a_value_of_binary_types_comes_back_in_them(farm: NodeProcess, table: dict[str, Any]) -> None:
    body = {"operation": "insert", **table, "records": [{"id": 1, "v": b"\x00\xff", "n": {"deep": b"1"}}]}
    search = {"operation": "search_by_id", **table, "ids": [1], "get_attributes": ["v", "n"]}
    assert post_encoded(farm, "application/cbor", cbor2.dumps(body)).status_code == 200
    answer = post_encoded(farm, "application/cbor", cbor2.dumps(search))
    assert cbor2.loads(answer.content) == [{"v": b"\x00\xff", "n": {"deep": b"1"}}]
    answer = post_encoded(farm, "application/x-msgpack", ormsgpack.packb(search))
    assert ormsgpack.unpackb(answer.content) == [{"v": b"\x00\xff", "n": {"deep": b"1"}}]


def post_encoded(node: NodeProcess, content_type: str, content: bytes) -> Any:
    assert node._client is not None
    return node._client.post(
        node.url(), content=content, headers={"content-type": content_type, "accept": content_type}
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_key_that_is_not_finite_is_refused(farm: NodeProcess, table: dict[str, Any], number: float) -> None:
    body = {"operation": "insert", **table, "records": [{"id": number}]}
    answer = post_encoded(farm, "application/cbor", cbor2.dumps(body))
    assert (answer.status_code, cbor2.loads(answer.content)) == refused(500, "Invalid primary key type: number")


# delete


def test_ids_that_do_not_exist_count_as_deleted(farm: NodeProcess, table: dict[str, Any]) -> None:
    farm.post(operation="insert", **table, records=[{"id": 1}, {"id": 2}])
    assert ask(farm, "delete", **table, ids=[1]) == deleted(1)
    assert ask(farm, "delete", **table, hash_values=[1, 999]) == deleted(1, 999)
    assert ask(farm, "delete", **table, ids=["2"]) == deleted("2")
    assert ask(farm, "delete", **table, ids=[]) == deleted()
    assert ask(farm, "delete", **table, ids=[], hash_values=[2]) == deleted()
    assert keys_of(farm, table) == [2]


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"table": "animal"}, 400, "'hash_values' is required"),
        ({"table": "animal", "ids": 5}, 400, "'hash_values' must be an array. 'ids' must be an array"),
        ({"table": "animal", "hash_values": 5}, 400, "'hash_values' must be an array"),
        ({"ids": [1]}, 400, "'table' is required"),
        ({"database": "ghost", "table": "x", "ids": [1]}, 404, "database 'ghost' does not exist"),
        ({"table": "ghost", "ids": [1]}, 404, f"Table '{DB}.ghost' does not exist"),
        ({"table": "animal", "ids": [1, None]}, 400, "Invalid primary key of null"),
    ],
)
def test_a_delete_is_refused(farm: NodeProcess, fields: dict[str, Any], status: int, problem: str) -> None:
    assert ask(farm, "delete", **{"database": DB} | fields) == refused(status, problem)
    assert keys_of(farm, {"database": DB, "table": "animal"}) == [1]


@pytest.mark.parametrize("operation", ["insert", "update", "upsert", "delete"])
def test_more_confirmations_than_peers_are_refused(farm: NodeProcess, table: dict[str, Any], operation: str) -> None:
    what = {"ids": [1]} if operation == "delete" else {"records": [{"id": 1}]}
    status, answer = ask(farm, operation, **table, **what, replicatedConfirmation=1)
    assert status == 400
    assert answer.keys() == {"error"}
    assert keys_of(farm, table) == []


# Typed tables


def integer_problem(value: str, low: int, high: int) -> str:
    return f"Value {value} in property v must be an integer (from {low} to {high})"


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("Int", "x", integer_problem('"x"', -(2**31), 2**31 - 1)),
        ("Int", "4", integer_problem('"4"', -(2**31), 2**31 - 1)),
        ("Int", 2**31, integer_problem("2147483648", -(2**31), 2**31 - 1)),
        ("Int", 1.5, integer_problem("1.5", -(2**31), 2**31 - 1)),
        ("Int", True, integer_problem("true", -(2**31), 2**31 - 1)),
        ("Long", 2**53 + 1, integer_problem("9007199254740993", -(2**53), 2**53)),
        ("Long", {"a": 1}, integer_problem('{"a":1}', -(2**53), 2**53)),
        ("Float", "1", 'Value "1" in property v must be a number'),
        ("BigInt", "x", 'Value "x" in property v must be a bigint'),
        ("BigInt", 1.5, "Value 1.5 in property v must be a bigint"),
        ("String", 1, "Value 1 in property v must be a string"),
        ("String", ["a"], 'Value ["a"] in property v must be a string'),
        ("ID", 1, "Value 1 in property v must be a string, or an array of strings"),
        ("ID", ["a", 1], 'Value ["a",1] in property v must be a string, or an array of strings'),
        ("Boolean", "true", 'Value "true" in property v must be a boolean'),
        ("Boolean", 1, "Value 1 in property v must be a boolean"),
        ("Date", "gibberish", 'Value "gibberish" in property v must be a Date'),
        ("Date", True, "Value true in property v must be a Date"),
        ("Bytes", 5, "Value 5 in property v must be a Buffer or Uint8Array"),
        ("array", "x", 'Value "x" in property v must be an Array'),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_refused(farm: NodeProcess, kind: str, value: Any, problem: str) -> None:
    table = typed_table(farm, {"name": "v", "type": kind})
    for operation in ("insert", "upsert"):
        assert ask(farm, operation, **table, records=[{"id": 1}, {"id": 2, "v": value}]) == refused(400, problem)
    assert keys_of(farm, table) == []


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("Int", 4, 4),
        ("Int", 4.0, 4),
        ("Int", -(2**31), -(2**31)),
        ("Int", None, None),
        ("Long", 2**53, 2**53),
        ("Float", 1, 1),
        ("Float", 1.25, 1.25),
        ("BigInt", 10**40, 10**40),
        ("BigInt", "123456789012345678901234567890", 123456789012345678901234567890),
        ("String", "", ""),
        ("ID", ["a", "b"], ["a", "b"]),
        ("Boolean", False, False),
        ("Date", 0, "1970-01-01T00:00:00.000Z"),
        ("Date", "2020-02-29T12:00:00Z", "2020-02-29T12:00:00.000Z"),
        ("Date", "2020-02-29", "2020-02-29T00:00:00.000Z"),
        ("Bytes", "hé", {"type": "Buffer", "data": [104, 195, 169]}),
        ("Any", [{"a": 1}], [{"a": 1}]),
        ("Unknown", 7, 7),
        ("array", [1, "a"], [1, "a"]),
    ],
)
def test_a_value_that_fits_is_read_in_its_type(farm: NodeProcess, kind: str, value: Any, read: Any) -> None:
    table = typed_table(farm, {"name": "v", "type": kind})
    assert ask(farm, "insert", **table, records=[{"id": 1, "v": value}]) == inserted(1)
    assert stored(farm, table, 1) == {"id": 1, "v": read}


def test_all_that_does_not_fit_is_told_with_its_path(farm: NodeProcess) -> None:
    members = [{"name": "zip", "type": "String"}, {"name": "no", "type": "Int", "nullable": False}]
    table = typed_table(
        farm,
        {"name": "list", "type": "array", "elements": {"type": "Int"}},
        {"name": "addr", "type": "Address", "properties": members},
        {"name": "must", "type": "String", "nullable": False},
    )
    record = {"id": 1, "list": [1, "x"], "addr": {"zip": 5, "no": 1}}
    assert ask(farm, "insert", **table, records=[record]) == refused(
        400,
        'Value "x" in property list[*] must be an integer (from -2147483648 to 2147483647). '
        "Value 5 in property addr.zip must be a string. "
        "Property must is required (and not does not allow null values)",
    )
    record = {"id": 1, "addr": "x", "must": "m"}
    assert ask(farm, "insert", **table, records=[record]) == refused(
        400, 'Value "x" in property addr must be an object (Address)'
    )
    record = {"id": 1, "list": [1], "addr": {"zip": "z", "no": 1}, "must": "m"}
    assert ask(farm, "insert", **table, records=[record]) == inserted(1)
    assert ask(farm, "update", **table, records=[{"id": 1, "must": None}]) == refused(
        400, "Property must is required (and not does not allow null values)"
    )
    assert ask(farm, "update", **table, records=[{"id": 1, "list": [2]}]) == updated(1)


def test_an_undeclared_attribute_is_kept_but_not_known(farm: NodeProcess) -> None:
    table = typed_table(farm, {"name": "n", "type": "Int"})
    farm.post(operation="insert", **table, records=[{"id": 1, "extra": {"x": 1}}])
    assert farm.post(operation="search_by_id", **table, ids=[1], get_attributes=["*"]) == [{"id": 1, "extra": {"x": 1}}]
    assert ask(farm, "search_by_value", **table, attribute="extra", value=1) == refused(
        500, "unknown attribute 'extra'"
    )
    assert ask(farm, "search_by_id", **table, ids=[1], get_attributes=["extra"]) == refused(
        500, "unknown attribute 'extra'"
    )
    described = farm.post(operation="describe_table", **table)
    assert [attribute["attribute"] for attribute in described["attributes"]] == ["id", "n"]


def test_the_first_bad_value_of_a_request_keeps_all_out(farm: NodeProcess) -> None:
    table = typed_table(farm, {"name": "n", "type": "Int"})
    assert ask(farm, "insert", **table, records=[{"id": 1, "n": 1}, {"id": 2, "n": "x"}]) == refused(
        400, 'Value "x" in property n must be an integer (from -2147483648 to 2147483647)'
    )
    assert keys_of(farm, table) == []


# Room


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with little room: for a database and for a transaction."""
    options = ["--set", "storage.mapSize=4194304", "--set", "replication.maxPayload=1048576"]
    with NodeProcess(tmp_path_factory.mktemp("small") / "root", options=options) as running:
        for database in ("full", "other"):
            running.post(operation="create_table", database=database, table="t", primary_key="id")
        yield running
        assert running.stop() == 0


def test_a_database_that_is_full_is_still_read_and_takes_deletes(small: NodeProcess) -> None:
    full: dict[str, Any] = {"database": "full", "table": "t"}
    for written in range(0, 100_000, 100):
        records = [{"id": written + n, "filler": "x" * 500} for n in range(100)]
        status, answer = ask(small, "insert", **full, records=records)
        if status != 200:
            break
    text = "Database 'full' cannot be written: its map of 4194304 bytes is full (storage.mapSize)"
    assert (status, answer) == refused(503, text)
    assert keys_of(small, full) == list(range(written))
    assert ask(small, "delete", **full, ids=[0, 1]) == deleted(0, 1)
    assert keys_of(small, full) == list(range(2, written))
    assert ask(small, "insert", database="other", table="t", records=[{"id": 1}]) == inserted(1)


def test_a_transaction_beyond_the_largest_payload_is_refused(small: NodeProcess) -> None:
    other: dict[str, Any] = {"database": "other", "table": "t"}
    records = [{"id": "large", "v": "x" * 600_000}, {"id": "larger", "w": "y" * 600_000}]
    status, answer = ask(small, "insert", **other, records=records)
    assert status == 413
    assert re.fullmatch(
        r"Transaction of 12\d{5} bytes is larger than replication\.maxPayload \(1048576 bytes\)", answer["error"]
    )
    assert ask(small, "search_by_id", **other, ids=["large", "larger"], get_attributes=["id"]) == (200, [])
    assert ask(small, "insert", **other, records=records[:1]) == inserted("large")


# Rights


@pytest.mark.parametrize(
    ("operation", "fields", "expected"),
    [
        ("insert", {"table": "pen", "records": 5}, forbidden(unknown=[f"Table '{DB}.pen' does not exist"])),
        (
            "insert",
            {"database": "ghost", "table": "pen", "records": 5},
            forbidden(unknown=["database 'ghost' does not exist"]),
        ),
        (
            "update",
            {"table": "animal", "records": [{"id": 1}]},
            forbidden(missing_rights(f"{DB}.animal", ["update"])),
        ),
        (
            "upsert",
            {"table": "animal", "records": [{"id": 1}]},
            forbidden(missing_rights(f"{DB}.animal", ["update"])),
        ),
        ("delete", {"table": "animal", "ids": [1]}, forbidden(missing_rights(f"{DB}.animal", ["delete"]))),
        (
            "insert",
            {"table": "byname", "records": [{"id": 2, "name": "x"}, {"secret": 1, "new": 1}]},
            forbidden(
                unknown=[
                    f"Attribute 'secret' does not exist on '{DB}.byname'",
                    f"Attribute 'new' does not exist on '{DB}.byname'",
                ]
            ),
        ),
        (
            "upsert",
            {"table": "byname", "records": [{"id": 2, "name": "x"}]},
            forbidden(missing_rights(f"{DB}.byname", [], {"id": ["update"], "name": ["update"]})),
        ),
        (
            "insert",
            {"table": "byname", "records": [{"id": 2, "__createdtime__": 1}]},
            refused(
                403,
                "Internal timestamp attributes - '__createdtime_' and '__updatedtime__' - cannot be inserted to or "
                "updated by HDB users.",
            ),
        ),
    ],
)
def test_a_user_is_told_which_right_is_missing(
    farm: NodeProcess, operation: str, fields: dict[str, Any], expected: Answer
) -> None:
    assert ask(farm, operation, user=FARMHAND, **{"database": DB} | fields) == expected


def test_a_user_writes_what_the_role_allows(farm: NodeProcess) -> None:
    assert ask(farm, "insert", user=FARMHAND, database=DB, table="byname", records=[{"id": 5, "name": "x"}]) == (
        inserted(5)
    )


@pytest.mark.parametrize("operation", ["insert", "delete"])
@pytest.mark.parametrize("field", ["replicateTo", "replicatedConfirmation"])
def test_only_a_super_user_says_where_records_go(farm: NodeProcess, operation: str, field: str) -> None:
    what = {"ids": [9]} if operation == "delete" else {"records": [{"id": 9}]}
    status, _ = ask(farm, operation, user=FARMHAND, database=DB, table="animal", **what, **{field: 1})
    assert status == 403
