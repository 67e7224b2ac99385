"""Corrupted and hostile input: group L of the reliability scenarios."""

from collections.abc import Callable
from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.comparison import wait_until_equal

VALUES: Final[dict[str, Any]] = {
    "large int": 2**63,
    "negative int": -(2**63),
    "safe int": 2**53 - 1,
    "small float": 5e-324,
    "large float": 1.7976931348623157e308,
    "third": 1 / 3,
    "minus zero": -0.0,
    "true": True,
    "nothing": None,
    "empty text": "",
    "text with everything": '\u0000\u001f"\\/\u2028\ud7ff\U0001f9ed',
    "date": "2026-11-24T23:59:60.999999Z",
    "empty list": [],
    "empty object": {},
    "nested": [[[[{"a": [{"b": {"c": [1, "2", None, 3.5]}}]}]]]],
    "long text": "ü" * 100_000,
}
KEYS: Final = (
    "k" * 1977,
    "ö" * 900,
    "0",
    "true",
    " ",
    "a\u0000b",
    0,
    -1,
    2**53 - 1,
    0.5,
    -1e300,
    [1, "a"],
    ["1", "a"],
)


def test_l6_values_and_keys_at_their_limits_are_the_same_everywhere(new_cluster: Callable[..., Cluster]) -> None:
    """L6: record values at type limits, keys up to 1978 bytes although LMDB keys end at 511. Identical on all nodes."""
    cluster = new_cluster("abc")
    a, b, c = cluster.form()
    cluster.make_tables("l6", "l6_copied")
    for node, key in zip((a, b, c) * 10, KEYS, strict=False):
        node.upsert("l6", {"id": key, "value": str(key)})
    for node, (name, value) in zip((a, b, c) * 10, VALUES.items(), strict=False):
        node.upsert("l6", {"id": f"value {name}", "value": value})
    shown = wait_until_equal([a, b, c], "l6", count=len(KEYS) + len(VALUES))
    for name, value in VALUES.items():
        assert shown[f"value {name}"].get("value") == value, name
    d = cluster.add("d")
    d.start()
    assert cluster.join("d", "a")[0] == 200
    wait_until_equal(list(cluster), "l6", count=len(KEYS) + len(VALUES))
    simple = [key for key in KEYS if not isinstance(key, list)]
    for node in cluster:
        for key in simple:
            found = node.post(operation="search_by_id", database="data", table="l6", ids=[key], get_attributes=["*"])
            assert [record["value"] for record in found] == [str(key)], f"{node.name}: {key!r:.50}"
    a.post(operation="delete", database="data", table="l6", ids=simple)
    wait_until_equal(list(cluster), "l6", count=len(KEYS) + len(VALUES) - len(simple))
    cluster.finish("l6")
