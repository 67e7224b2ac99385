"""``get_attributes``: which properties of a record an answer shows, compiled once per request.

The order of properties is the order of the elements, of the table for ``*``. An attribute that a record lacks is null;
but where the stored record is returned as it is (no selection at all, ``*`` on a schema-defined table) it is left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from ops.errors import InvalidParams
from ops.system_tables import SYSTEM
from replication.membership import NODE_LINKS
from storage.clock import milliseconds
from storage.record import Row, decode_row
from storage.scan import Found
from storage.schema import Table

WILDCARD: Final = "*"
METADATA: Final = "$"
HIDDEN: Final = {(SYSTEM, NODE_LINKS): frozenset(("authorization",))}
"""By table: retained credentials are for dialling a peer, and for nobody's eyes."""
INVALID_SELECT: Final = "Invalid select[object Object]"

Record: TypeAlias = dict[str, Any]
Part: TypeAlias = Callable[[Record, Row | None, Record], None]
"""Puts its properties of the record into the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """``columns`` are the properties in order, as far as known before the records; ``plain`` is the projection where it
    needs the record only, None where it returns records as they are."""

    columns: tuple[str, ...]
    plain: Callable[[Record], Record] | None = None
    parts: tuple[Part, ...] = ()
    needs_row: bool = False
    hidden: frozenset[str] = frozenset()
    """Attributes that no answer shows, whatever was asked for."""

    def of(self, record: Record, row: Row | None = None) -> Record:
        """What is shown of one record. ``row`` may be left out where ``needs_row`` is false."""
        if self.hidden:
            record = {name: value for name, value in record.items() if name not in self.hidden}
        if self.parts:
            shown: Record = {}
            for part in self.parts:
                part(record, row, shown)
            return shown
        return record if self.plain is None else self.plain(record)

    def of_page(self, page: Sequence[Found]) -> list[Record]:
        """What is shown of a page of a search."""
        if self.parts or self.hidden:
            return [self.of(record, decode_row(data) if self.needs_row else None) for _, record, data in page]
        plain = self.plain
        if plain is None:
            return [record for _, record, _ in page]
        return [plain(record) for _, record, _ in page]


def compile_selection(elements: Sequence[Any] | None, table: Table) -> Selection:
    """The selection for ``get_attributes`` as it was sent (None: left out), whose names have been checked.

    Raises ``InvalidParams`` for an object element without ``select``.
    """
    selection = _selection(elements, table)
    hidden = HIDDEN.get((table.database, table.name))
    return selection if hidden is None else replace(selection, hidden=hidden)


def _selection(elements: Sequence[Any] | None, table: Table) -> Selection:
    if elements is None:
        return Selection(columns=tuple(table.attributes))
    if elements[0] == WILDCARD:
        names = tuple(table.attributes)
        return Selection(columns=names, plain=_named(names) if table.is_dynamic else None)
    if all(isinstance(element, str) and element[:1] not in (WILDCARD, METADATA) for element in elements):
        names = tuple(dict.fromkeys(elements))
        return Selection(columns=names, plain=_named(names))
    columns: dict[str, None] = {}
    parts: list[Part] = []
    for element in elements:
        names, part = _part(element, table)
        columns.update(dict.fromkeys(names))
        parts.append(part)
    needs_row = any(isinstance(element, str) and element in _ROW_METADATA for element in elements)
    return Selection(columns=tuple(columns), parts=tuple(parts), needs_row=needs_row)


def selected_names(elements: Sequence[Any] | None) -> list[str]:
    """The attributes that ``get_attributes`` names, without wildcards and metadata."""
    names = [name_of(element) for element in elements or ()]
    return [name for name in names if name != WILDCARD and not name.startswith(METADATA)]


def name_of(element: Any) -> str:
    """The attribute that an element names. Raises ``InvalidParams`` for an object that selects nothing."""
    if isinstance(element, dict):
        name = element.get("name")
        if not isinstance(name, str) or not isinstance(element.get("select"), list):
            raise InvalidParams(INVALID_SELECT)
        return name
    return str(element)


def _named(names: tuple[str, ...]) -> Callable[[Record], Record]:
    def select(record: Record) -> Record:
        get = record.get
        return {name: get(name) for name in names}

    return select


def _part(element: Any, table: Table) -> tuple[tuple[str, ...], Part]:
    """The columns of an element and what fills them."""
    if isinstance(element, dict):
        name = name_of(element)
        return (name,), _nested_part(name, _nested(element["select"]))
    name = str(element)
    if name == WILDCARD:
        names = tuple(table.attributes)
        return names, _all_part(names if table.is_dynamic else None)
    if name.startswith(METADATA):
        return (name,), _metadata_part(name, table.primary_key)
    return (name,), _attribute_part(name)


def _attribute_part(name: str) -> Part:
    def put(record: Record, row: Row | None, shown: Record) -> None:
        shown[name] = record.get(name)

    return put


def _all_part(names: tuple[str, ...] | None) -> Part:
    def put(record: Record, row: Row | None, shown: Record) -> None:
        shown.update(record if names is None else {name: record.get(name) for name in names})

    return put


def _nested_part(name: str, select: Callable[[Any], Any]) -> Part:
    def put(record: Record, row: Row | None, shown: Record) -> None:
        shown[name] = select(record.get(name))

    return put


def _nested(elements: Sequence[Any]) -> Callable[[Any], Any]:
    """A selection inside an object, or inside each object of an array; what is neither is returned as it is."""
    members: list[tuple[str, Callable[[Any], Any]]] = []
    for element in elements:
        is_object = isinstance(element, dict)
        members.append((name_of(element), _nested(element["select"]) if is_object else _unchanged))
    is_everything = not members or members[0][0] == WILDCARD

    def select(value: Any) -> Any:
        if isinstance(value, list):
            return [select(item) for item in value]
        if not isinstance(value, dict) or is_everything:
            return value
        return {name: inner(value.get(name)) for name, inner in members}

    return select


def _unchanged(value: Any) -> Any:
    return value


def _metadata_part(name: str, primary_key: str) -> Part:
    read = _ROW_METADATA.get(name)

    def put(record: Record, row: Row | None, shown: Record) -> None:
        if read is not None:
            shown[name] = None if row is None else read(row)
        elif name == "$id":
            shown[name] = record.get(primary_key)
        else:
            shown[name] = record if name == "$record" else None

    return put


def _updated_time(row: Row) -> int | float:
    return milliseconds(row.ts)


def _expires_at(row: Row) -> int | None:
    return row.expires_at_ms


_ROW_METADATA: Final[Mapping[str, Callable[[Row], Any]]] = {
    "$updatedtime": _updated_time,
    "$updatedTime": _updated_time,
    "$expiresAt": _expires_at,
}
