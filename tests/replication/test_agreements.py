"""Directions, subscriptions, serial numbers and databases as they come from outside."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.agreements import (
    FULL,
    NONE,
    Directions,
    ReplicatedDatabase,
    Subscription,
    Unfit,
    combined,
    encoded_databases,
    is_replicated,
    read_directions,
    read_serial,
    read_serials,
    read_stored_databases,
    read_stored_directions,
    read_subscriptions,
    reversed_subscriptions,
    serial_text,
)

SENDS = Directions(sends=True, receives=False, only_named=True)
RECEIVES = Directions(sends=False, receives=True, only_named=True)
directions = st.builds(Directions, sends=st.booleans(), receives=st.booleans(), only_named=st.booleans())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, FULL),
        (False, NONE),
        ({"sends": True, "receives": True}, FULL),
        ({"sends": True}, SENDS),
        ({"receives": True, "sends": False}, RECEIVES),
        ({}, Directions(sends=False, receives=False, only_named=True)),
    ],
    ids=str,
)
def test_directions_are_both_ways_one_way_or_none(value: Any, expected: Directions) -> None:
    assert read_directions("replicates", value) == expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (1, "'replicates' must be one of [boolean, object]"),
        (None, "'replicates' must be one of [boolean, object]"),
        ({"sends": "yes"}, "'replicates.sends' must be a boolean"),
        ({"sendsTo": ["b"]}, "'sendsTo' is not supported"),
        ({"sends": True, "receivesFrom": []}, "'receivesFrom' is not supported"),
    ],
    ids=str,
)
def test_directions_that_cannot_be_followed_are_refused(value: Any, problem: str) -> None:
    with pytest.raises(Unfit) as caught:
        read_directions("replicates", value)
    assert str(caught.value) == problem


def test_an_object_in_a_row_marks_a_directed_node_even_where_it_allows_both_ways() -> None:
    assert read_stored_directions({"sends": True, "receives": True}) == Directions(
        sends=True, receives=True, only_named=True
    )
    assert read_stored_directions(True) == FULL
    assert read_stored_directions(None) == NONE


@given(directions.filter(lambda one: one.only_named or one.sends == one.receives))
def test_directions_read_back_from_a_row_are_the_same(one: Directions) -> None:
    assert read_stored_directions(one.encoded()) == one


@given(directions, directions)
def test_what_two_agreements_allow_does_not_depend_on_their_order_or_side(a: Directions, b: Directions) -> None:
    assert a.within(b) == b.within(a)
    assert a.within(b).reversed() == a.reversed().within(b.reversed())


def test_one_directed_agreement_makes_the_node_directed() -> None:
    assert combined([]) is None
    assert combined([FULL, FULL]) == FULL
    assert combined([SENDS, SENDS]) == SENDS
    assert combined([FULL, SENDS]) == Directions(sends=True, receives=True, only_named=True)
    assert combined([SENDS, RECEIVES]) == Directions(sends=True, receives=True, only_named=True)


def test_subscriptions_are_read_with_either_name_of_the_database() -> None:
    assert read_subscriptions(
        "subscriptions",
        [
            {"database": "dev", "table": "dog", "subscribe": True, "publish": False},
            {"schema": "dev", "table": "cat", "publish": True},
        ],
    ) == (
        Subscription(database="dev", table="dog", subscribe=True, publish=False),
        Subscription(database="dev", table="cat", subscribe=False, publish=True),
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "'subscriptions' must be an array"),
        (["dog"], "'subscriptions[0]' must be of type object"),
        ([{"database": 5, "table": "dog", "publish": True}], "'subscriptions[0].database' must be a string"),
        ([{"database": "dev", "table": "x" * 251, "publish": True}], "'subscriptions[0].table' must be a string"),
        (
            [{"database": "dev", "table": "dog", "publish": 1}],
            "'subscriptions[0].publish' must be a boolean",
        ),
        *(
            (
                [{"database": "dev", "table": "dog", "publish": True}, element],
                "'subscriptions[1]' subscribe and/or publish must be set to true when adding a node",
            )
            for element in (
                {"database": "dev", "table": "dog"},
                {"database": "dev", "table": "dog", "subscribe": False, "publish": False},
                {"table": "dog", "subscribe": True},
                {"database": "dev", "subscribe": True},
            )
        ),
    ],
    ids=str,
)
def test_a_subscription_names_a_table_and_a_way(value: Any, problem: str) -> None:
    with pytest.raises(Unfit) as caught:
        read_subscriptions("subscriptions", value)
    assert str(caught.value) == problem


def test_reversed_subscriptions_exchange_the_two_ways() -> None:
    one = Subscription(database="dev", table="dog", subscribe=True, publish=False)
    assert reversed_subscriptions((one,)) == (Subscription(database="dev", table="dog", subscribe=False, publish=True),)
    assert reversed_subscriptions(None) is None


@pytest.mark.parametrize("value", ["0A:FF", "00aff", "AFF", " a:ff ", 0xAFF])
def test_one_serial_number_has_many_spellings(value: Any) -> None:
    assert serial_text(read_serial("serial", value)) == "AFF"


@pytest.mark.parametrize(
    "value", ["", "0x1F", "1_0", "g", "-1", -1, 1.5, True, None, [], "1" * 1000, 1 << 256], ids=str
)
def test_what_is_no_serial_number_is_refused(value: Any) -> None:
    with pytest.raises(Unfit) as caught:
        read_serials("revoked_certificates", ["1", value])
    assert str(caught.value) == "'revoked_certificates[1]' must be the serial number of a certificate"


def test_databases_read_back_from_a_row_are_the_same() -> None:
    some = (ReplicatedDatabase(name="a"), ReplicatedDatabase(name="b", sharded=True))
    assert encoded_databases(some) == ["a", {"name": "b", "sharded": True}]
    assert read_stored_databases(encoded_databases(some)) == some
    assert read_stored_databases(encoded_databases(())) == ()
    assert read_stored_databases(encoded_databases(None)) is None
    assert read_stored_databases(None) is None


@pytest.mark.parametrize(
    "value", ["data", 5, [5], [""], [{"sharded": True}], [{"name": "a", "sharded": "yes"}]], ids=str
)
def test_databases_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(Unfit):
        read_stored_databases(value)


def test_a_sharded_database_stays_within_its_shard() -> None:
    some = (ReplicatedDatabase(name="a"), ReplicatedDatabase(name="b", sharded=True))
    assert is_replicated("a", some, is_same_shard=False)
    assert is_replicated("b", some, is_same_shard=True)
    assert not is_replicated("b", some, is_same_shard=False)
    assert not is_replicated("c", some, is_same_shard=True)
    assert is_replicated("c", None, is_same_shard=False)
