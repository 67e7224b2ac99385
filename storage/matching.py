"""When a condition holds: decided on key encodings, so that an index range and a filter over records always agree.

A condition becomes a ``ValueTest``: ranges of encodings, and where a range alone does not decide, a test of one
encoding. An index walks the ranges; a filter encodes the record's value and asks the same test. The rules beside the
order itself:

- An absent attribute, an object and binary data satisfy nothing; null satisfies only what names it or lies below it.
- ``less_than`` never holds for null, nor for ``false`` under a bound that is a number or text.
- An array satisfies a condition if any element does. A primary key that is an array is one value, placed by its
  elements; text comparators do not hold for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from storage.conditions import BOUNDED, Comparator, Condition, Node
from storage.errors import InvalidKey
from storage.keys import (
    ABOVE_ALL,
    ELEMENT_END,
    FALSE,
    NULL,
    NUMBER,
    STRING,
    TRUE,
    encode_array,
    encode_elements,
    encode_scalar,
    scalar_encoder,
)
from storage.text_form import text_of

Record: TypeAlias = Mapping[str, Any]
Predicate: TypeAlias = Callable[[Record], bool]
Accepts: TypeAlias = Callable[[bytes], bool]

ABSENT: Final = object()
_JUST_ABOVE: Final = b"\x00"
"""Appended to an encoding: nothing lies between the two."""
_ABOVE_ELEMENTS: Final = b"\x02"
"""In place of the last element end: above every array that begins with these elements."""


class Range(NamedTuple):
    """Encodings from ``low`` on, up to but without ``high``."""

    low: bytes
    high: bytes

    @property
    def is_point(self) -> bool:
        return self.high == self.low + _JUST_ABOVE


EVERYTHING: Final = Range(b"", ABOVE_ALL)
_NON_NULL: Final = Range(FALSE, ABOVE_ALL)
"""null is the lowest value of all."""
_TEXTS: Final = Range(STRING, bytes((STRING[0] + 1,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTest:
    """``ranges`` are ascending and disjoint. ``accepts`` decides inside them; None: they decide alone.

    ``needs_record``: the entries in the ranges are only where to look, the record's whole value decides.
    """

    ranges: tuple[Range, ...]
    accepts: Accepts | None = None
    needs_record: bool = False

    def holds(self, encoded: bytes) -> bool:
        """Whether an encoded scalar (or array key) satisfies the condition."""
        for low, high in self.ranges:
            if low <= encoded < high:
                return self.accepts is None or self.accepts(encoded)
        return False

    @property
    def is_exact_set(self) -> bool:
        """Whether the condition asks for single values."""
        return self.accepts is None and not self.needs_record and all(wanted.is_point for wanted in self.ranges)

    @property
    def covers_all(self) -> bool:
        """Whether the ranges leave out nothing, so that an index, which lacks absent values and ``[]``, is no help."""
        return self.ranges == (EVERYTHING,)


NOTHING: Final = ValueTest(ranges=())
NON_NULL: Final = ValueTest(ranges=(_NON_NULL,))


def value_test(condition: Condition, *, is_key: bool) -> ValueTest:
    """The test of a condition; ``is_key`` where its attribute is the primary key.

    Raises ``InvalidKey`` where the value has no place in the order.
    """
    comparator, value = condition.comparator, condition.value
    if comparator in BOUNDED:
        return ValueTest(ranges=_between(comparator, encode_bound(value[0]), encode_bound(value[1])))
    if comparator is Comparator.IN:
        return ValueTest(ranges=tuple(point(one) for one in sorted({encode_bound(one) for one in value})))
    if comparator is Comparator.PREFIX:
        return _prefix(value, is_key=is_key)
    if comparator in _TEXT_TESTS:
        return _TEXT_TESTS[comparator](value, is_key)
    return ValueTest(ranges=_existing(_ORDER_RANGES[comparator](encode_bound(value))))


def predicate(node: Node, primary_key: str) -> Predicate:
    """The node as a function of a record."""
    if isinstance(node, Condition):
        if node.attribute == primary_key:
            return _key_predicate(node)
        if node.comparator is Comparator.PREFIX:
            return _prefix_predicate(node)
        return _value_predicate(node)
    members = [predicate(member, primary_key) for member in node.members]
    if node.operator == "or":
        return lambda record: any(holds(record) for holds in members)
    return all_predicates(members)


def all_predicates(members: list[Predicate]) -> Predicate:
    if len(members) == 1:
        return members[0]
    if len(members) == 2:
        first, second = members
        return lambda record: first(record) and second(record)
    return lambda record: all(holds(record) for holds in members)


def encode_bound(value: Any) -> bytes:
    """Encoding of a condition's value: a scalar, or an array as one composite value. Raises ``InvalidKey``."""
    encoded = encode_array(value) if isinstance(value, list | tuple) else encode_scalar(value)
    if encoded is None:
        raise InvalidKey(f"Unable to serialize {'binary data' if isinstance(value, bytes) else 'object'} as a key")
    return encoded


def encode_key_value(value: Any) -> bytes | None:
    """Encoding of a primary key as it stands in a record."""
    return encode_array(value) if type(value) is list else encode_scalar(value)


def point(encoded: bytes) -> Range:
    return Range(encoded, encoded + _JUST_ABOVE)


# -- ranges -----------------------------------------------------------------------------------------------------------


def _existing(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    return tuple(wanted for wanted in ranges if wanted.low < wanted.high)


def _not_equal(bound: bytes) -> tuple[Range, ...]:
    if bound <= NULL:
        return (_NON_NULL,)
    return (Range(FALSE, bound), Range(bound + _JUST_ABOVE, ABOVE_ALL))


def _lowest_below(bound: bytes) -> bytes:
    return TRUE if bound >= NUMBER else FALSE


_ORDER_RANGES: Final[Mapping[Comparator, Callable[[bytes], tuple[Range, ...]]]] = {
    Comparator.EQUALS: lambda bound: (point(bound),),
    Comparator.NOT_EQUAL: _not_equal,
    Comparator.GREATER_THAN: lambda bound: (Range(bound + _JUST_ABOVE, ABOVE_ALL),),
    Comparator.GREATER_THAN_EQUAL: lambda bound: (Range(bound, ABOVE_ALL),),
    Comparator.LESS_THAN: lambda bound: (Range(_lowest_below(bound), bound),),
    Comparator.LESS_THAN_EQUAL: lambda bound: (Range(_lowest_below(bound), bound + _JUST_ABOVE),),
}


def _between(comparator: Comparator, low: bytes, high: bytes) -> tuple[Range, ...]:
    if comparator in (Comparator.ABOVE_TO_BEFORE, Comparator.ABOVE_TO):
        low += _JUST_ABOVE
    if comparator in (Comparator.BETWEEN, Comparator.ABOVE_TO):
        high += _JUST_ABOVE
    return _existing((Range(max(low, FALSE), high),))


def _prefix(value: Any, *, is_key: bool) -> ValueTest:
    """Arrays that begin with the elements of ``value``: as keys a range, elsewhere where the first element is
    indexed.
    """
    elements = value if isinstance(value, list | tuple) else [value]
    if not elements:
        return ValueTest(ranges=(EVERYTHING,), needs_record=True)
    if not is_key:
        return ValueTest(ranges=(point(encode_bound(elements[0])),), needs_record=True)
    low = encode_bound(elements)
    return ValueTest(ranges=(Range(low, low.removesuffix(ELEMENT_END) + _ABOVE_ELEMENTS),))


# -- texts ------------------------------------------------------------------------------------------------------------


def _needle(value: Any) -> str | None:
    """The text to look for: of a number its text form; None for what has none."""
    encoded = encode_scalar(value)
    return None if encoded is None else text_of(encoded)


def _contains(value: Any, is_key: bool) -> ValueTest:
    needle = _needle(value)
    if needle is None:
        return NOTHING
    raw = encode_scalar(needle) or b""
    raw = raw[1:]

    def accepts(encoded: bytes) -> bool:
        if encoded[0] == STRING[0]:
            return encoded.find(raw, 1) >= 0
        return needle in (text_of(encoded) or "")

    return ValueTest(ranges=(_NON_NULL,), accepts=accepts, needs_record=is_key)


def _ends_with(value: Any, is_key: bool) -> ValueTest:
    needle = _needle(value)
    if needle is None:
        return NOTHING
    raw = encode_scalar(needle) or b""
    raw = raw[1:]

    def accepts(encoded: bytes) -> bool:
        if encoded[0] == STRING[0]:
            return encoded.endswith(raw, 1)
        return (text_of(encoded) or "").endswith(needle)

    return ValueTest(ranges=(_NON_NULL,), accepts=accepts, needs_record=is_key)


def _texts_from(needle: str) -> Range:
    low = encode_scalar(needle) or STRING
    return Range(low, low[:-1] + bytes((low[-1] + 1,)))


def _starts_with(value: Any, is_key: bool) -> ValueTest:
    needle = _needle(value)
    return NOTHING if needle is None else ValueTest(ranges=(_texts_from(needle),), needs_record=is_key)


def _text_starts_with(value: Any, is_key: bool) -> ValueTest:
    needle = _needle(value)
    if needle is None:
        return NOTHING
    texts = _texts_from(needle)

    def accepts(encoded: bytes) -> bool:
        return encoded >= _TEXTS.low or (text_of(encoded) or "").startswith(needle)

    return ValueTest(ranges=(Range(FALSE, _TEXTS.low), texts), accepts=accepts, needs_record=is_key)


_TEXT_TESTS: Final[Mapping[Comparator, Callable[[Any, bool], ValueTest]]] = {
    Comparator.CONTAINS: _contains,
    Comparator.ENDS_WITH: _ends_with,
    Comparator.STARTS_WITH: _starts_with,
    Comparator.TEXT_STARTS_WITH: _text_starts_with,
}


# -- predicates -------------------------------------------------------------------------------------------------------


def _value_predicate(condition: Condition) -> Predicate:
    name = condition.attribute
    test = value_test(condition, is_key=False)
    holds = _single_test(test)

    def matches(record: Record) -> bool:
        value = record.get(name, ABSENT)
        encode = scalar_encoder(type(value))
        if encode is not None:
            return holds(encode(value))
        return type(value) is list and any(holds(element) for element in encode_elements(value))

    return matches


def _single_test(test: ValueTest) -> Accepts:
    """The cheapest form of ``test.holds``."""
    if test.is_exact_set:
        return frozenset(wanted.low for wanted in test.ranges).__contains__
    if test.accepts is not None or len(test.ranges) != 1:
        return test.holds
    ((low, high),) = test.ranges
    return lambda encoded: low <= encoded < high


def _key_predicate(condition: Condition) -> Predicate:
    name = condition.attribute
    holds = value_test(condition, is_key=True).holds
    takes_arrays = condition.comparator not in _TEXT_TESTS
    takes_scalars = condition.comparator is not Comparator.PREFIX

    def matches(record: Record) -> bool:
        value = record.get(name)
        if not (takes_arrays if type(value) is list else takes_scalars):
            return False
        encoded = encode_key_value(value)
        return encoded is not None and holds(encoded)

    return matches


def _prefix_predicate(condition: Condition) -> Predicate:
    name = condition.attribute
    value = condition.value
    wanted = [encode_bound(element) for element in (value if isinstance(value, list | tuple) else [value])]
    count = len(wanted)

    def matches(record: Record) -> bool:
        value = record.get(name)
        return type(value) is list and [encode_scalar(element) for element in value[:count]] == wanted

    return matches
