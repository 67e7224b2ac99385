"""What a copy holds, as a value: told to the receiver ahead of the file, and kept by it until the copy is merged.

It comes from a peer, so ``decoded`` takes nothing for granted: every type, size and name is checked.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from storage.entry import DIGEST_BYTES, Origin
from storage.errors import Corrupt
from storage.marks import ORIGINS_MAX, Mark
from storage.schema import Definition

TABLES_MAX: Final = 10_000
"""More than an environment has sub-databases for."""
NAME_LENGTH_MAX: Final = 1024
NUMBER_MAX: Final = (1 << 64) - 1
COPIED_KEY: Final = b"copied"
"""In ``meta``: CBOR map from an origin's short id to the highest position that the ``v0`` of a copy covered here."""
_COPY_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,63}")
"""Fit to be part of a file's name."""


class CopiedTable(NamedTuple):
    """A table of a copy. One that is not complete lacks rows for reasons of its publisher alone."""

    definition: Definition
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDescription:
    """``v0`` is the publisher's vector at the instant of the copy, with chain digests, without the origins that it takes
    in part only: for these the copy proves nothing. ``tables`` are in the order of the file.

    ``not_kept``: tables whose entries the publisher lets pass without keeping their rows: dropped there, or local. Its
    vector covers writes of them that the file cannot hold.
    """

    copy_id: str
    publisher: Origin
    v0: Mapping[Origin, tuple[int, bytes]]
    marks: Mapping[str, Mark] = field(repr=False)
    tables: tuple[CopiedTable, ...] = field(repr=False)
    not_kept: tuple[str, ...] = ()
    rows: int
    size_bytes: int
    digest: bytes

    def covers(self, vector: Mapping[Origin, int]) -> bool:
        """Whether ``v0`` is nowhere behind ``vector``."""
        return all(oseq <= self.v0.get(origin, (0, b""))[0] for origin, oseq in vector.items())

    def encoded(self) -> dict[str, Any]:
        return {
            "copy": self.copy_id,
            "publisher": list(self.publisher),
            "v0": [[*origin, oseq, chain] for origin, (oseq, chain) in self.v0.items()],
            "marks": {node: mark.encoded() for node, mark in self.marks.items()},
            "tables": [[table.definition.encoded(), table.is_complete] for table in self.tables],
            "not_kept": list(self.not_kept),
            "rows": self.rows,
            "bytes": self.size_bytes,
            "sum": self.digest,
        }

    @classmethod
    def decoded(cls, plain: Any) -> "CopyDescription":
        """Raises ``Corrupt``. Unknown fields are left out."""
        try:
            return cls(
                copy_id=checked_copy_id(plain["copy"]),
                publisher=checked_origin(*plain["publisher"]),
                v0=_v0(plain["v0"]),
                marks=_marks(plain["marks"]),
                tables=_tables(plain["tables"]),
                not_kept=tuple(_name(name) for name in _list(plain["not_kept"], TABLES_MAX)),
                rows=_natural(plain["rows"]),
                size_bytes=_natural(plain["bytes"]),
                digest=_digest(plain["sum"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"the description of a copy is damaged: {error!r}") from error


def checked_copy_id(value: Any) -> str:
    if type(value) is not str or not _COPY_ID.fullmatch(value):
        raise Corrupt(f"this cannot name a copy: {value!r:.100}")
    return value


def checked_origin(node: Any, store: Any) -> Origin:
    return Origin(_name(node), _name(store))


def _name(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= NAME_LENGTH_MAX:
        raise Corrupt(f"a copy has something else than a name: {value!r:.100}")
    return value


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise Corrupt(f"a copy has something else than a natural number: {value!r:.100}")
    return value


def _digest(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise Corrupt(f"a copy has something else than a digest: {value!r:.100}")
    return value


def _list(value: Any, length_max: int) -> list[Any]:
    if type(value) is not list or len(value) > length_max:
        raise Corrupt(f"a copy has something else than a list of up to {length_max} items")
    return value


def _v0(value: Any) -> dict[Origin, tuple[int, bytes]]:
    parts = _list(value, ORIGINS_MAX)
    v0 = {checked_origin(node, store): (_natural(oseq), _digest(chain)) for node, store, oseq, chain in parts}
    if len(v0) < len(parts):
        raise Corrupt("the vector of a copy names an origin twice")
    return v0


def _marks(value: Any) -> dict[str, Mark]:
    if type(value) is not dict or len(value) > ORIGINS_MAX:
        raise Corrupt("a copy has something else than marks")
    return {_name(node): _mark(node, data) for node, data in value.items()}


def _mark(node: str, data: Any) -> Mark:
    if type(data) is not bytes:
        raise Corrupt("a copy has something else than a mark")
    mark = Mark.decoded(node, data)
    checked_origin(*mark.origin)
    _natural(mark.oseq)
    _natural(mark.ts)
    return mark


def _tables(value: Any) -> tuple[CopiedTable, ...]:
    tables = tuple(_table(*part) for part in _list(value, TABLES_MAX))
    if len({table.definition.name for table in tables}) < len(tables):
        raise Corrupt("a copy has two tables of one name")
    return tables


def _table(plain: Any, is_complete: Any) -> CopiedTable:
    if type(is_complete) is not bool:
        raise Corrupt("a copy does not say whether a table is complete")
    return CopiedTable(Definition.checked(plain), is_complete)
