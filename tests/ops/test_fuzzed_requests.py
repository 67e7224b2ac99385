"""Whatever a client sends, it gets an answer that says what is wrong: never an unexpected failure, and never a hang."""

import json
from typing import Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.errors import UNEXPECTED
from ops.reference import SECTIONS
from tests.ops.conftest import Node, whole_body

FIELDS = (
    "database schema table tables primary_key hash_attribute attributes attribute records ids hash_values get_attributes "
    "conditions operator sort limit offset desc reverse value search_attribute search_value comparator explain exact_count "
    "expiration audit username password role active permission id expires_in refresh_token level from to order start "
    "filter status timestamp search_type search_values from_date to_date indexed expiresAt include_audit select "
    "replicateTo replicatedConfirmation include_computed log_name until"
).split()
ODD_NAMES = (
    "zoo",
    "otter",
    "system",
    "hdb_user",
    "data",
    "",
    "*",
    "id",
    "name",
    "tags",
    "__createdtime__",
    "$id",
    "a/b",
)
SECTION_NAMES = {"Configuration"}
"""Sections whose operations change the node under test."""
NAMES = [o.name for section, operations in SECTIONS.items() if section not in SECTION_NAMES for o in operations]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(ODD_NAMES)
    | st.just("x" * 2000)
)
keys = st.text(max_size=4) | st.sampled_from((*FIELDS, *ODD_NAMES, "next", "descending", "read", "insert", "tables"))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)
bodies = st.fixed_dictionaries(
    {"operation": st.sampled_from(NAMES)},
    optional={
        **dict.fromkeys(FIELDS, values),
        "database": st.just("zoo") | values,
        "table": st.just("otter") | values,
        "records": st.lists(st.dictionaries(keys, values, max_size=4), max_size=3) | values,
    },
)
fuzz = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


async def answer_to(node: Node, body: bytes, content_type: str = "application/json") -> tuple[int, bytes]:
    with trio.fail_after(20):
        response = await node.respond(body, headers={"content-type": content_type})
        return response.status, await whole_body(response)


async def prepare(node: Node) -> None:
    """The examples may drop what others need: what is there already is left."""
    body = {"operation": "create_table", "database": "zoo", "table": "otter", "primary_key": "id"}
    status, _ = await node.post(body)
    if status == 200:
        records = [{"id": 1, "name": "T", "tags": ["a", 2]}]
        await node.ok(operation="insert", database="zoo", table="otter", records=records)


async def test_bodies_of_any_shape_get_an_expected_answer(node: Node) -> None:
    @fuzz
    @given(body=bodies)
    def check(body: dict[str, Any]) -> None:
        trio.from_thread.run(prepare, node)
        status, content = trio.from_thread.run(answer_to, node, json.dumps(body).encode())
        assert UNEXPECTED.encode() not in content, content
        assert status in (200, 400, 401, 403, 404, 409, 413, 500)

    await trio.to_thread.run_sync(check)


async def test_bytes_of_any_kind_get_an_expected_answer(node: Node) -> None:
    @fuzz
    @given(body=st.binary(max_size=200), content_type=st.sampled_from(("json", "cbor", "x-msgpack", "xml")))
    def check(body: bytes, content_type: str) -> None:
        status, content = trio.from_thread.run(answer_to, node, body, f"application/{content_type}")
        assert UNEXPECTED.encode() not in content
        assert status in (400, 401, 415)

    await trio.to_thread.run_sync(check)
