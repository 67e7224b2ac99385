"""Putting matches in order in memory, for orders that no index delivers.

Of each match only its sort values and stored key are kept; rows are loaded again when they are delivered. With a
limit no more than twice the wanted number is kept: what cannot be among the first is dropped at once.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from storage.conditions import Node, Sort
from storage.keys import NULL, encode_elements, is_shortened, scalar_encoder
from storage.matching import NON_NULL, Record, ValueTest, encode_key_value, value_test
from storage.planner import first_condition
from storage.scan import Found

SortValue: TypeAlias = Callable[[Record], bytes]

KEPT_MIN: Final = 1024
"""Sorting what was collected pays only once that is a lot more than what is wanted."""
_COMPLEMENT: Final = bytes(255 - byte for byte in range(256))
_END: Final = b"\xff"
"""Ends a complemented encoding: a shorter one then comes behind those that it begins."""


def sort_value(sort: Sort, where: Node | None, primary_key: str) -> SortValue:
    """A record's place in one order, as an encoding; null where it has none."""
    if sort.attribute == primary_key:
        return lambda record: encode_key_value(record.get(primary_key)) or NULL
    condition = first_condition(where, sort.attribute)
    test = NON_NULL if condition is None else value_test(condition, is_key=False)
    return _element_value(sort.attribute, test, at=-1 if sort.descending else 0)


def _element_value(name: str, test: ValueTest, *, at: int) -> SortValue:
    """The value, of an array the first (``at`` 0) or last element that satisfies ``test``."""

    def value_of(record: Record) -> bytes:
        value = record.get(name)
        encode = scalar_encoder(type(value))
        if encode is not None:
            return encode(value)
        if type(value) is list:
            eligible = [element for element in encode_elements(value) if test.holds(element)]
            return eligible[at] if eligible else NULL
        return NULL

    return value_of


class Sorter:
    """Collects matches; ``stored_keys`` are those of the first ``wanted`` (None: of all) in order."""

    def __init__(self, chain: Sequence[Sort], where: Node | None, primary_key: str, wanted: int | None) -> None:
        self._values = [(sort_value(sort, where, primary_key), sort.descending) for sort in chain]
        self._primary_key = primary_key
        self._wanted = wanted
        self._kept_max = None if wanted is None else max(KEPT_MIN, 2 * wanted)
        self._kept: list[tuple[bytes, ...]] = []
        self._worst: tuple[bytes, ...] | None = None

    def add(self, found: Sequence[Found]) -> None:
        kept, worst = self._kept, self._worst
        for key, record, _ in found:
            place = self._place(key, record)
            if worst is None or place < worst:
                kept.append(place)
        if self._kept_max is not None and len(kept) > self._kept_max:
            self._prune()

    def stored_keys(self) -> list[bytes]:
        self._kept.sort()
        return [place[-1] for place in self._kept[: self._wanted]]

    def _place(self, key: bytes, record: Record) -> tuple[bytes, ...]:
        """Sort values (complemented where descending), full key, stored key."""
        parts = [
            value_of(record).translate(_COMPLEMENT) + _END if descending else value_of(record)
            for value_of, descending in self._values
        ]
        full_key = (encode_key_value(record.get(self._primary_key)) or key) if is_shortened(key) else key
        return (*parts, full_key, key)

    def _prune(self) -> None:
        self._kept.sort()
        del self._kept[self._wanted :]
        if self._kept:
            self._worst = self._kept[-1]
