"""Hypothesis strategies over the value model."""

from datetime import UTC
from typing import Any

from hypothesis import strategies as st

from storage.values import at_milliseconds, number

GREATEST = int(1.7976931348623157e308)

texts = st.text(max_size=20)
word_integers = st.integers(-(1 << 63), (1 << 64) - 1)
integers = st.one_of(st.integers(-100, 100), word_integers, st.integers(-GREATEST, GREATEST))
finite_numbers = st.floats(allow_nan=False, allow_infinity=False).map(number)
numbers = st.floats().map(number)
instants = st.datetimes(timezones=st.just(UTC)).map(lambda moment: at_milliseconds(moment.replace(fold=0)))


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """``scalars``, and lists and objects of them."""
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=5)),
        max_leaves=20,
    )


json_values = nested(st.one_of(st.none(), st.booleans(), integers, finite_numbers, texts))
values = nested(st.one_of(st.none(), st.booleans(), integers, numbers, texts, st.binary(max_size=20), instants))
message_pack_values = nested(
    st.one_of(st.none(), st.booleans(), word_integers, numbers, texts, st.binary(max_size=20), instants)
)
