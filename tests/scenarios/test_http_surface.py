"""The HTTP surface of a whole node: routes, content types, order of checks, error bodies, headers and CORS."""

import base64
import datetime
import json
import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import httpx
import ormsgpack
import pytest
from ruamel.yaml import YAML

from tests.node_process import NodeProcess
from tests.scenarios.asking import Credentials, ask, forbidden

DB = "farm4"
CLERK: Credentials = ("surface-clerk", "Straw-1")
NO_OPERATION = "Request body must include an 'operation' property."
SUPPORTED = (
    "No supported content types found in Accept header, supported types include: application/json, application/cbor, "
    "application/x-msgpack, text/csv, text/plain, text/yaml, text/event-stream, application/x-www-form-urlencoded, */*, "
)
JSON = "application/json"
CBOR = "application/cbor"
MSGPACK = "application/x-msgpack"
GHOST = {"operation": "describe_database", "database": "ghost"}
PENS = {"operation": "search_by_id", "database": DB, "table": "pen", "ids": [1, 2], "get_attributes": ["id"]}
GHOST_ERROR = {"error": "database 'ghost' does not exist"}


class Client:
    """Requests to the shared node with nothing added: no credentials, no ``Accept``."""

    def __init__(self, node: NodeProcess, http: httpx.Client) -> None:
        self.node = node
        self._http = http
        self.credentials = {"authorization": basic(node.username, node.password)}

    def send(
        self,
        method: str = "POST",
        path: str = "/",
        content: bytes | str | None = None,
        headers: dict[str, str] | None = None,
        *,
        scheme: str = "https",
        is_known: bool = True,
    ) -> httpx.Response:
        request = httpx.Request(method, self.node.url(scheme).rstrip("/") + path, content=content)
        request.headers.update((headers or {}) | (self.credentials if is_known else {}))
        return self._http.send(request)

    def post(self, body: Any, *, accept: str | None = None, **headers: str) -> httpx.Response:
        """``body`` as JSON, by the administrator."""
        sent = {"content-type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(content=json.dumps(body), headers=sent | ({} if accept is None else {"accept": accept}))


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def client(node: NodeProcess) -> Iterator[Client]:
    node.post(operation="create_table", database=DB, table="pen", primary_key="id")
    node.post(operation="insert", database=DB, table="pen", records=[{"id": n, "name": f"p{n}"} for n in (1, 2)])
    node.post(operation="add_role", role=CLERK[0], permission={})
    node.post(operation="add_user", role=CLERK[0], username=CLERK[0], password=CLERK[1], active=True)
    with httpx.Client(verify=False, timeout=30) as http:
        yield Client(node, http)


# Routes


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_health_is_told_to_anybody(client: Client, scheme: str) -> None:
    response = client.send("GET", "/health", scheme=scheme, is_known=False)
    assert (response.status_code, response.text) == (200, "HarperDB is running.")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/"),
        ("HEAD", "/"),
        ("PUT", "/"),
        ("PATCH", "/"),
        ("GET", "/nothing"),
        ("POST", "/nothing"),
        ("POST", "/health"),
    ],
)
def test_what_has_no_route_is_not_found(client: Client, method: str, path: str) -> None:
    response = client.send(method, path)
    assert response.status_code == 404
    assert response.text == ("" if method == "HEAD" else "Not found\n")


def test_a_request_without_route_and_body_of_a_json_type_is_told_of_the_body(client: Client) -> None:
    response = client.send("DELETE", "/", headers={"content-type": JSON})
    assert response.status_code == 400
    assert response.json() == {"error": "Body cannot be empty when content-type is set to 'application/json'"}


def test_the_root_shows_a_page(client: Client) -> None:
    response = client.send("GET", "/", is_known=False)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "running" in response.text.lower()


# Bodies


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8"])
def test_json_is_read_whatever_its_parameters(client: Client, content_type: str) -> None:
    response = client.send(content='{"operation":"describe_all"}', headers={"content-type": content_type})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(JSON)


def test_cbor_and_messagepack_are_read(client: Client) -> None:
    body = {"operation": "describe_table", "database": DB, "table": "pen"}
    for content_type, content in ((CBOR, cbor2.dumps(body)), (MSGPACK, ormsgpack.packb(body))):
        response = client.send(content=content, headers={"content-type": content_type, "accept": JSON})
        assert (response.status_code, response.json()["name"]) == (200, "pen")


@pytest.mark.parametrize(
    "content_type", ["application/xml", "application/msgpack", "application/x-www-form-urlencoded", "text/csv"]
)
def test_another_content_type_is_unsupported(client: Client, content_type: str) -> None:
    response = client.send(content="<a/>", headers={"content-type": content_type})
    assert (response.status_code, response.json()) == (415, {"error": f"Unsupported Media Type: {content_type}"})


def test_a_body_without_content_type_is_unsupported(client: Client) -> None:
    response = client.send(content=b'{"operation":"describe_all"}')
    assert response.status_code == 415
    assert response.json()["error"].startswith("Unsupported Media Type: ")


@pytest.mark.parametrize("body", ["{}", "[]", "5", '"text"', "null", "true", "0", '""'])
def test_a_body_that_is_no_filled_object_has_the_longer_error(client: Client, body: str) -> None:
    response = client.send(content=body, headers={"content-type": JSON})
    assert response.status_code == 400
    assert response.json() == {"statusCode": 400, "error": "Bad Request", "message": NO_OPERATION}


def test_text_has_no_operation(client: Client) -> None:
    response = client.send(content='{"operation":"describe_all"}', headers={"content-type": "text/plain"})
    assert response.status_code == 400
    assert response.json() == {"statusCode": 400, "error": "Bad Request", "message": NO_OPERATION}


@pytest.mark.parametrize("body", [{"a": 1}, {"operation": None}, [1], [{"operation": "describe_all"}]])
@pytest.mark.parametrize("is_known", [True, False])
def test_a_body_without_operation_is_told_before_anything_else(client: Client, body: Any, is_known: bool) -> None:
    response = client.send(content=json.dumps(body), headers={"content-type": JSON}, is_known=is_known)
    assert (response.status_code, response.json()) == (400, {"error": NO_OPERATION})


@pytest.mark.parametrize(
    "body", ["{", '{"operation":"describe_all"', '{"operation":"describe_all",}', "{'a':1}", "\x00"]
)
def test_a_json_error_is_told(client: Client, body: str) -> None:
    response = client.send(content=body, headers={"content-type": JSON}, is_known=False)
    assert response.status_code == 400
    assert response.json().keys() == {"error"}


@pytest.mark.parametrize("content_type", [CBOR, MSGPACK])
@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"\xa1\x61", b"\xc1"])
def test_bytes_that_cannot_be_decoded_are_told(client: Client, content_type: str, content: bytes) -> None:
    response = client.send(content=content, headers={"content-type": content_type, "accept": JSON})
    assert response.status_code == 400
    assert "error" in response.json()


def value_body(value: str) -> str:
    return f'{{"operation":"insert","database":"{DB}","table":"pen","records":[{{"id":"bad","v":{value}}}]}}'


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "Infinity",
        "1e999",
        "9" * 5000,
        '"\\ud800"',
        "[" * 900 + "]" * 900,
        "[" * 100_000 + "]" * 100_000,
        '"\t"',
        "01",
    ],
    ids=range(9),
)
def test_a_value_that_json_or_the_node_does_not_have_is_refused(client: Client, value: str) -> None:
    response = client.send(content=value_body(value), headers={"content-type": JSON})
    assert response.status_code == 400
    assert response.json().keys() == {"error"}
    search = {"operation": "search_by_id", "database": DB, "table": "pen", "ids": ["bad"], "get_attributes": ["id"]}
    assert client.post(search).json() == []


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        (CBOR, b"\xa1\x69operation" + b"\x81" * 100_000 + b"\x01"),
        (MSGPACK, b"\x81\xa9operation" + b"\x91" * 100_000 + b"\x01"),
        (CBOR, cbor2.dumps({"operation": "describe_all"}) * 2),
        (MSGPACK, ormsgpack.packb({"operation": "describe_all"}) * 2),
        (CBOR, cbor2.dumps({"operation": "describe_all", "x": cbor2.CBORTag(4000, 1)})),
    ],
    ids=range(5),
)
def test_a_binary_body_that_is_not_one_plain_item_is_refused(client: Client, content_type: str, content: bytes) -> None:
    response = client.send(content=content, headers={"content-type": content_type, "accept": JSON})
    assert response.status_code == 400
    assert response.json().keys() == {"error"}


def test_an_empty_json_body_is_told(client: Client) -> None:
    response = client.send(headers={"content-type": JSON}, content=b"")
    assert response.status_code == 400
    assert response.json() == {"error": "Body cannot be empty when content-type is set to 'application/json'"}


# Order of checks

NOT_BUILT = [
    "sql",
    "csv_data_load",
    "csv_file_load",
    "csv_url_load",
    "import_from_s3",
    "export_local",
    "add_component",
    "cluster_network",
    "purge_stream",
    "set_node_replication",
]


@pytest.mark.parametrize(
    "name", ["", "nothing", "Describe_All", "describe_all ", "__class__", "constructor", "é", *NOT_BUILT]
)
def test_an_unknown_operation_is_not_found_by_those_who_may_ask(client: Client, name: str) -> None:
    response = client.post({"operation": name})
    assert (response.status_code, response.json()) == (400, {"error": f"Operation '{name}' not found"})
    response = client.send(content=json.dumps({"operation": name}), headers={"content-type": JSON}, is_known=False)
    assert (response.status_code, response.json()) == (401, {"error": "Must login"})
    assert ask(client.node, name, user=CLERK) == (400, {"error": f"Operation '{name}' not found"})


@pytest.mark.parametrize(
    ("value", "text"),
    [(5, "5"), (True, "true"), (1.5, "1.5"), (False, "false"), (0, "0"), ({"a": 1}, '{"a":1}'), ([1], "[1]")],
)
def test_an_operation_that_is_no_text_is_not_found(client: Client, value: Any, text: str) -> None:
    response = client.post({"operation": value})
    assert (response.status_code, response.json()) == (400, {"error": f"Operation '{text}' not found"})


def test_a_missing_right_is_told_before_a_missing_field(client: Client) -> None:
    refused = forbidden("Operation 'createTable' is restricted to 'super_user' roles")
    assert ask(client.node, "create_table", user=CLERK, table=5) == refused


def test_the_servers_own_keys_are_taken_out_of_a_body(client: Client) -> None:
    own = {"hdb_user": {"role": {"permission": {"super_user": True}}}, "bypass_auth": True, "hdbAuthHeader": "x"}
    refused = forbidden("Operation 'listUsersExternal' is restricted to 'super_user' roles")
    assert (
        ask(client.node, "list_users", user=CLERK, **own, baseRequest={}, baseResponse={}, fastifyResponse=1) == refused
    )


def test_an_operation_does_not_run_when_its_answer_is_not_acceptable(client: Client) -> None:
    response = client.post({"operation": "create_database", "database": "never"}, accept="text/html")
    assert response.status_code == 406
    assert response.headers["content-type"].startswith(JSON)
    assert response.json() == {"statusCode": 406, "error": "Not Acceptable", "message": SUPPORTED}
    assert ask(client.node, "describe_database", database="never")[0] == 404


# Credentials


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "Must login"),
        ("Digest x", "Must login"),
        ("Basic", "Must login"),
        (basic("", ""), "Must login"),
        (basic("admin", "wrong"), "Login failed"),
        (basic("nobody-here", "wrong"), "Login failed"),
        ("Basic !!!!", "Invalid character"),
        ("Bearer nonsense", "invalid token"),
    ],
)
def test_an_unknown_caller_is_refused(client: Client, value: str | None, text: str) -> None:
    headers = {"content-type": JSON} | ({} if value is None else {"authorization": value})
    response = client.send(content='{"operation":"describe_all"}', headers=headers, is_known=False)
    assert (response.status_code, response.json()) == (401, {"error": text})
    assert "www-authenticate" not in response.headers


# Answers


def test_a_text_is_wrapped_in_a_message(client: Client) -> None:
    response = client.post({"operation": "drop_attribute", "database": DB, "table": "pen", "attribute": "none"})
    assert (response.status_code, response.content) == (
        200,
        b'{"message":"successfully deleted attribute \'none\'"}',
    )


@pytest.mark.parametrize("body", [{"operation": "describe_all"}, GHOST, {"operation": "nothing"}])
def test_every_answer_carries_the_same_headers(client: Client, body: Any) -> None:
    headers = client.post(body).headers
    assert headers["server"] == "logmesh"
    assert headers["vary"] == "Origin"
    name, _, duration = headers["server-timing"].partition(";dur=")
    assert name == "db"
    assert 0 <= float(duration) < 60_000
    assert headers["content-length"]


def test_the_example_of_a_missing_table_has_these_bytes(client: Client) -> None:
    response = client.post({"operation": "describe_table", "database": DB, "table": "otter"})
    assert response.status_code == 404
    assert response.content == b'{"error":"Table \'farm4.otter\' does not exist"}'
    assert response.headers["content-type"] == JSON


ACCEPTED = [
    (None, JSON),
    ("*/*", JSON),
    (JSON, JSON),
    ("Application/JSON", JSON),
    (CBOR, CBOR),
    (MSGPACK, MSGPACK),
    ("text/yaml", "text/yaml"),
    ("text/csv", "text/csv"),
    ("text/plain", "text/plain"),
    ("text/event-stream", "text/event-stream"),
    (f"{JSON}, {CBOR}", CBOR),
    (f"{JSON};q=1, {CBOR};q=0.7", JSON),
    (f"{JSON}, {CBOR};q=0.8", JSON),
    ("text/html, */*;q=0.1", JSON),
    ("text/html,application/xhtml+xml,*/*;q=0.8", JSON),
    (f"{MSGPACK}, {CBOR}", CBOR),
    (f"{MSGPACK}, {JSON}", MSGPACK),
    ("text/csv, text/yaml", "text/yaml"),
    (f"{CBOR};q=0, {JSON}", JSON),
]


@pytest.mark.parametrize(("accept", "content_type"), ACCEPTED)
@pytest.mark.parametrize("body", [{"operation": "user_info"}, GHOST])
def test_answers_and_errors_have_the_negotiated_type(
    client: Client, accept: str | None, content_type: str, body: Any
) -> None:
    response = client.post(body, accept=accept)
    assert response.headers["content-type"].split(";")[0] == content_type


def test_an_error_reads_the_same_in_every_type(client: Client) -> None:
    assert client.post(GHOST, accept=JSON).json() == GHOST_ERROR
    assert cbor2.loads(client.post(GHOST, accept=CBOR).content) == GHOST_ERROR
    assert ormsgpack.unpackb(client.post(GHOST, accept=MSGPACK).content) == GHOST_ERROR
    assert YAML(typ="safe", pure=True).load(client.post(GHOST, accept="text/yaml").text) == GHOST_ERROR
    assert client.post(GHOST, accept="text/csv").text == '"error"\n"database \'ghost\' does not exist"'
    event = client.post(GHOST, accept="text/event-stream").text
    assert event == f"data: {json.dumps(GHOST_ERROR, separators=(',', ':'))}\n\n"


@pytest.mark.parametrize("accept", ["text/html", "application/msgpack", "image/*", "application/cbor;q=0"])
def test_no_acceptable_type(client: Client, accept: str) -> None:
    response = client.post({"operation": "describe_all"}, accept=accept)
    assert (response.status_code, response.json()["message"]) == (406, SUPPORTED)


def test_an_object_is_one_row_of_csv(client: Client) -> None:
    response = client.post(
        {"operation": "drop_attribute", "database": DB, "table": "pen", "attribute": "x"}, accept="text/csv"
    )
    assert response.text == '"message"\n"successfully deleted attribute \'x\'"'
    assert response.headers["content-disposition"] == 'attachment; filename="data.csv"'


def test_yaml_and_events_hold_the_records(client: Client) -> None:
    body = {
        "operation": "search_by_value",
        "database": DB,
        "table": "pen",
        "attribute": "id",
        "value": "*",
        "get_attributes": ["id", "name"],
    }
    records = [{"id": 1, "name": "p1"}, {"id": 2, "name": "p2"}]
    assert YAML(typ="safe", pure=True).load(client.post(body, accept="text/yaml").text) == records
    events = client.post(body, accept="text/event-stream").text
    assert [json.loads(event.removeprefix("data: ")) for event in events.split("\n\n") if event] in (records, [records])


# Numbers and dates


def roundtrip(client: Client, text: str) -> str:
    """The value with the JSON text ``text``, stored and read again: its JSON text."""
    client.send(
        content=f'{{"operation":"upsert","database":"{DB}","table":"pen","records":[{{"id":"n","v":{text}}}]}}',
        headers={"content-type": JSON},
    )
    search = {"operation": "search_by_id", "database": DB, "table": "pen", "ids": ["n"], "get_attributes": ["v"]}
    content = client.post(search).text
    assert content.startswith('[{"v":') and content.endswith("}]")
    return content[len('[{"v":') : -2]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("180", "180"),
        ("180.0", "180"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("1e3", "1000"),
        ("0.1", "0.1"),
        ("41.5", "41.5"),
        ("1e21", "1e21"),
        ("1e-7", "1e-7"),
        ("123456789.125", "123456789.125"),
        ("9007199254740993", "9007199254740993"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("18446744073709551617", "18446744073709551617"),
        ("1" + "0" * 299, "1" + "0" * 299),
        ("123456789" * 33, "123456789" * 33),
        ('[1.0,{"a":2.0}]', '[1,{"a":2}]'),
        ('"\\u00e9\\ud83d\\ude00"', '"é😀"'),
    ],
)
def test_a_number_is_written_as_a_client_of_javascript_expects(client: Client, sent: str, read: str) -> None:
    got = roundtrip(client, sent)
    assert got == read or (float(got) == float(read) == 1e21)


def test_nan_is_null_in_json(client: Client) -> None:
    records = [{"id": "nan", "v": math.nan, "w": [math.inf]}]
    body = {"operation": "upsert", "database": DB, "table": "pen", "records": records}
    assert client.send(content=cbor2.dumps(body), headers={"content-type": CBOR}).status_code == 200
    search = {"operation": "search_by_id", "database": DB, "table": "pen", "ids": ["nan"], "get_attributes": ["v", "w"]}
    assert client.post(search).text == '[{"v":null,"w":[null]}]'
    (record,) = cbor2.loads(client.post(search, accept=CBOR).content)
    assert math.isnan(record["v"]) and record["w"] == [math.inf]


def test_a_date_of_cbor_is_a_date_in_every_type(client: Client) -> None:
    when = datetime.datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=datetime.UTC)
    records = [{"id": "date", "at": when}]
    body = {"operation": "upsert", "database": DB, "table": "pen", "records": records}
    assert client.send(content=cbor2.dumps(body), headers={"content-type": CBOR}).status_code == 200
    search = {"operation": "search_by_id", "database": DB, "table": "pen", "ids": ["date"], "get_attributes": ["at"]}
    assert client.post(search).json() == [{"at": "2024-02-29T12:30:15.250Z"}]
    assert client.post(search, accept="text/csv").text == '"at"\n"2024-02-29T12:30:15.250Z"'
    assert cbor2.loads(client.post(search, accept=CBOR).content) == [{"at": when}]
    found = {"attribute": "at", "comparator": "equals", "value": when}
    by_date = {
        "operation": "search_by_conditions",
        "database": DB,
        "table": "pen",
        "conditions": [found],
        "get_attributes": ["id"],
    }
    answer = client.send(content=cbor2.dumps(by_date), headers={"content-type": CBOR, "accept": JSON})
    assert answer.json() == [{"id": "date"}]


# CORS


def test_a_request_with_an_origin_is_answered_for_it(client: Client) -> None:
    for body in ({"operation": "describe_all"}, GHOST):
        headers = client.post(body, origin="https://a.example").headers
        assert headers["access-control-allow-origin"] == "https://a.example"
        assert headers["access-control-allow-credentials"] == "true"
    headers = client.send(
        content='{"operation":"describe_all"}',
        headers={"content-type": JSON, "origin": "https://a.example"},
        is_known=False,
    ).headers
    assert headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in client.post({"operation": "describe_all"}).headers


def test_a_preflight_is_answered_without_credentials(client: Client) -> None:
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    response = client.send("OPTIONS", "/", headers=headers, is_known=False)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["access-control-allow-methods"] == "POST, GET, PUT, DELETE, PATCH, OPTIONS"
    assert response.headers["access-control-allow-headers"] == "Accept, Content-Type, Authorization"
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    assert response.headers["access-control-allow-credentials"] == "true"


def test_options_without_origin_is_no_preflight(client: Client) -> None:
    response = client.send("OPTIONS", "/", is_known=False)
    assert (response.status_code, response.text) == (400, "Invalid Preflight Request")


# The connection


@pytest.mark.parametrize(
    "body",
    [
        PENS,
        PENS | {"operation": "search_by_value", "attribute": "id", "value": 1},
        PENS | {"operation": "search_by_conditions", "conditions": [{"attribute": "id", "value": 1}]},
    ],
)
@pytest.mark.parametrize("accept", [JSON, CBOR, MSGPACK, "text/csv"])
def test_a_list_is_sent_in_chunks(client: Client, body: Any, accept: str) -> None:
    headers = client.post(body, accept=accept).headers
    assert headers.get("transfer-encoding") == "chunked"
    assert "content-length" not in headers


def exchange(node: NodeProcess, request: bytes) -> bytes:
    """What a plain connection answers until it is closed."""
    host, port = node.url("http").removeprefix("http://").rstrip("/").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_declared_length_beyond_the_limit_is_refused_at_once(client: Client) -> None:
    head = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {2**30 + 1}\r\n\r\n"
    answer = exchange(client.node, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b'{"error":"Request body is too large"}')
    assert b"connection: close" in answer.lower()


def test_a_connection_is_kept_for_the_next_request(client: Client) -> None:
    body = b'{"operation":"describe_all"}'
    head = f"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {len(body)}\r\n"
    last = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answer = exchange(client.node, head.encode() + b"\r\n" + body + last)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.endswith(b"HarperDB is running.")


def test_headers_beyond_the_limit_are_refused(client: Client) -> None:
    answer = exchange(client.node, b"GET /health HTTP/1.1\r\nhost: x\r\nx-large: " + b"x" * 17_000 + b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


# The local socket


def test_the_local_socket_needs_no_credentials(client: Client) -> None:
    path = client.node.root / "operations-server"
    assert path.stat().st_mode & 0o777 == 0o600
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=20) as local:
        answer = local.post("http://localhost/", json={"operation": "user_info"})
        assert (answer.status_code, answer.json()["username"]) == (200, client.node.username)
        wrong = local.post("http://localhost/", json={"operation": "user_info"}, auth=("admin", "wrong"))
        assert (wrong.status_code, wrong.json()) == (401, {"error": "Login failed"})


# Restart


def test_a_restart_closes_the_connection_and_comes_back(tmp_path: Path) -> None:
    with NodeProcess(tmp_path / "root") as node:
        node.post(operation="create_table", database="kept", table="t", primary_key="id")
        node.post(operation="insert", database="kept", table="t", records=[{"id": 1}])
        answer = node.request({"operation": "restart"})
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        node.wait_until_ready_again()
        assert node.post(operation="search_by_id", database="kept", table="t", ids=[1], get_attributes=["id"]) == [
            {"id": 1}
        ]
        assert node.stop() == 0
