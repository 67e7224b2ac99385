"""What a field of a message may hold: how it goes into CBOR, and how it is checked on the way back.

Everything a peer sends passes through one of these: a wrong type, a size beyond its bound or a name that is no text
is a ``RemoteProtocolError``, never an exception of another kind. Origins are short numbers on the wire, given out per
connection and direction; the two ``LONG`` kinds spell them out, for the hello that comes before any number.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from replication.errors import RemoteProtocolError
from replication.subscription import MODES, TableSelection
from storage.clock import INSTANT_US_MAX
from storage.entry import DIGEST_BYTES, Origin
from storage.errors import Corrupt
from storage.schema import Definition

TEXT_LENGTH_MAX: Final = 1 << 16
NAMES_MAX: Final = 10_000
NATURAL_MAX: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRange:
    """Positions ``first`` to ``last`` of an origin hold nothing for the subscriber; ``chain`` is the digest at
    ``last``.
    """

    origin: Origin
    first: int
    last: int
    chain: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEntry:
    """An entry in the form in which it travels; a reduced one lacks the writes that the subscriber does not take."""

    data: bytes
    is_reduced: bool = False


Item: TypeAlias = SentEntry | SkipRange


class OriginNumbers(Protocol):
    """Short numbers of one direction of a connection."""

    def number(self, origin: Origin) -> int: ...

    def origin(self, number: Any) -> Origin: ...


Encode: TypeAlias = Callable[[Any, OriginNumbers], Any]
Decode: TypeAlias = Callable[[Any, OriginNumbers], Any]


@dataclass(frozen=True, slots=True)
class FieldKind:
    """Both directions of a kind of field."""

    encode: Encode
    decode: Decode


_MISSING: Final = object()


def on_wire(key: str, kind: FieldKind, default: Any = _MISSING) -> Any:
    """A dataclass field that is called ``key`` on the wire; without a default it must be there."""
    metadata = {"key": key, "kind": kind, "is_required": default is _MISSING}
    return field(metadata=metadata) if default is _MISSING else field(default=default, metadata=metadata)


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise RemoteProtocolError(f"the peer sent {what}")


def _as_is(value: Any, _: OriginNumbers) -> Any:
    return value


def _natural(value: Any, _: OriginNumbers | None = None) -> int:
    expect(type(value) is int and 0 <= value <= NATURAL_MAX, "something else than a natural number")
    return int(value)


def _instant(value: Any, _: OriginNumbers) -> int:
    expect(type(value) is int and 0 <= value <= INSTANT_US_MAX, "something else than an instant")
    return int(value)


def _integer(value: Any, _: OriginNumbers) -> int:
    expect(type(value) is int and abs(value) <= NATURAL_MAX, "something else than an integer")
    return int(value)


def _float(value: Any, _: OriginNumbers) -> float:
    expect(type(value) in (int, float) and abs(value) < 1e18, "something else than a number")
    return float(value)


def _bool(value: Any, _: OriginNumbers) -> bool:
    expect(type(value) is bool, "something else than a truth value")
    return bool(value)


def _text(value: Any, _: OriginNumbers | None = None) -> str:
    expect(type(value) is str and len(value) <= TEXT_LENGTH_MAX, "something else than a text")
    return str(value)


def _bytes(value: Any, _: OriginNumbers | None = None) -> bytes:
    expect(type(value) is bytes, "something else than bytes")
    return bytes(value)


def _digest(value: Any) -> bytes:
    expect(type(value) is bytes and len(value) == DIGEST_BYTES, "something else than a digest")
    return bytes(value)


def _map(value: Any, _: OriginNumbers | None = None) -> dict[Any, Any]:
    expect(type(value) is dict and len(value) <= NAMES_MAX, "something else than a map")
    return dict(value)


def _list(value: Any, length: int | None = None) -> list[Any]:
    expect(
        type(value) is list and (len(value) <= NAMES_MAX if length is None else len(value) == length),
        "something else than a list of the right length",
    )
    return list(value)


def _names(value: Any, _: OriginNumbers) -> tuple[str, ...]:
    return tuple(_text(name) for name in _list(value))


def _long_origin(node: Any, store: Any) -> Origin:
    return Origin(_text(node), _text(store))


LONG_POSITIONS: Final = FieldKind(
    lambda positions, _: [[*origin, oseq] for origin, oseq in positions.items()],
    lambda value, _: {
        _long_origin(node, store): _natural(oseq) for node, store, oseq in (_list(part, 3) for part in _list(value))
    },
)
LONG_CHAINED: Final = FieldKind(
    lambda vector, _: [[*origin, oseq, chain] for origin, (oseq, chain) in vector.items()],
    lambda value, _: {
        _long_origin(node, store): (_natural(oseq), _digest(chain))
        for node, store, oseq, chain in (_list(part, 4) for part in _list(value))
    },
)
SHORT_IDS: Final = FieldKind(
    lambda numbers, _: {number: list(origin) for number, origin in numbers.items()},
    lambda value, _: {_natural(number): _long_origin(*_list(origin, 2)) for number, origin in _map(value).items()},
)
POSITIONS: Final = FieldKind(
    lambda positions, numbers: {numbers.number(origin): oseq for origin, oseq in positions.items()},
    lambda value, numbers: {numbers.origin(number): _natural(oseq) for number, oseq in _map(value).items()},
)
ORIGIN: Final = FieldKind(
    lambda origin, numbers: numbers.number(origin),
    lambda value, numbers: numbers.origin(value),
)
ORIGIN_SET: Final = FieldKind(
    lambda origins, numbers: sorted(numbers.number(origin) for origin in origins),
    lambda value, numbers: frozenset(numbers.origin(number) for number in _list(value)),
)


def _encode_tables(selection: TableSelection, _: OriginNumbers) -> dict[str, Any]:
    return {"mode": selection.mode, "names": sorted(selection.names)}


def _decode_tables(value: Any, numbers: OriginNumbers) -> TableSelection:
    plain = _map(value)
    mode = MODES.get(plain.get("mode"))
    if mode is None:
        raise RemoteProtocolError("the peer sent an unknown selection of tables")
    return TableSelection(mode, frozenset(_names(plain.get("names", []), numbers)))


def _encode_items(items: tuple[Item, ...], numbers: OriginNumbers) -> list[Any]:
    return [
        [numbers.number(item.origin), item.first, item.last, item.chain]
        if isinstance(item, SkipRange)
        else ([item.data] if item.is_reduced else item.data)
        for item in items
    ]


def _decode_items(value: Any, numbers: OriginNumbers) -> tuple[Item, ...]:
    return tuple(_decode_item(plain, numbers) for plain in _list(value))


def _decode_item(plain: Any, numbers: OriginNumbers) -> Item:
    """Bytes are an entry, a list of one a reduced entry, a list of four a range to skip."""
    if type(plain) is bytes:
        return SentEntry(data=plain)
    if type(plain) is list and len(plain) == 1:
        return SentEntry(data=_bytes(plain[0]), is_reduced=True)
    number, first, last, chain = _list(plain, 4)
    expect(0 < _natural(first) <= _natural(last), "a range that ends before it begins")
    return SkipRange(origin=numbers.origin(number), first=first, last=last, chain=_digest(chain))


def _decode_definitions(value: Any, _: OriginNumbers) -> tuple[Definition, ...]:
    try:
        return tuple(Definition.checked(plain) for plain in _list(value))
    except Corrupt as error:
        raise RemoteProtocolError(f"the peer sent a damaged definition: {error}") from error


TEXT: Final = FieldKind(_as_is, _text)
NATURAL: Final = FieldKind(_as_is, _natural)
INSTANT: Final = FieldKind(_as_is, _instant)
INT: Final = FieldKind(_as_is, _integer)
FLOAT: Final = FieldKind(_as_is, _float)
BOOL: Final = FieldKind(_as_is, _bool)
BYTES: Final = FieldKind(_as_is, _bytes)
ANY_MAP: Final = FieldKind(_as_is, _map)
NAMES: Final = FieldKind(lambda names, _: list(names), _names)
STAMPS: Final = FieldKind(
    _as_is, lambda value, _: {_text(name): _instant(stamp, _) for name, stamp in _map(value).items()}
)
TABLES: Final = FieldKind(_encode_tables, _decode_tables)
DEFINITIONS: Final = FieldKind(
    lambda definitions, _: [definition.encoded() for definition in definitions], _decode_definitions
)
ITEMS: Final = FieldKind(_encode_items, _decode_items)
TABLE_DIGESTS: Final = FieldKind(
    lambda digests, _: {table: list(digest) for table, digest in digests.items()},
    lambda value, _: {
        _text(table): (_natural(rows), _digest(digest))
        for table, (rows, digest) in ((name, _list(pair, 2)) for name, pair in _map(value).items())
    },
)
FORK_DIGESTS: Final = FieldKind(
    lambda digests, _: [list(pair) for pair in digests],
    lambda value, _: tuple(
        (_natural(oseq), _digest(chain)) for oseq, chain in (_list(pair, 2) for pair in _list(value))
    ),
)
