"""Tables and attributes as values, their stored and logged form, and what a write needs to know of them.

A ``Definition`` is what nodes share: it travels in schema entries. A ``Table`` is a definition at home in one
environment: it adds the short ids of the sub-databases that hold its rows, tombstones and indexes, which differ per
node.

A dropped attribute of a dynamic table leaves a *drop mark*, the time of the drop: reads leave out values of it that
were written before. Nothing rewrites a row under its old stamp, as one stamp means the same bytes on every node.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Final

from storage.errors import Corrupt, InvalidAttribute

CREATED_TIME: Final = "__createdtime__"
UPDATED_TIME: Final = "__updatedtime__"
ATTRIBUTE_NAME_BYTES_MAX: Final = 250
ATTRIBUTES_MAX: Final = 20_000
"""Of one received definition; more than an environment has sub-databases for their indexes."""

KNOWN_TYPES: Final = frozenset(
    ("ID", "String", "Int", "Long", "Float", "BigInt", "Boolean", "Date", "Any", "Bytes", "Blob", "array")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute. None means "not said", which describe operations leave out."""

    name: str
    type: str | None = None
    elements: str | None = None
    properties: tuple["Attribute", ...] = ()
    indexed: bool | None = None
    nullable: bool | None = None
    is_primary_key: bool = False
    assigned_created_time: bool = False
    assigned_updated_time: bool = False
    expires_at: bool = False
    sealed: bool = False

    def encoded(self) -> dict[str, Any]:
        """The attribute as a plain value, without what is not said."""
        plain: dict[str, Any] = {"name": self.name}
        for name in _ATTRIBUTE_FIELDS:
            value = getattr(self, name)
            if value or (value is False and name in _SAID_WHEN_FALSE):
                plain[name] = value
        if self.properties:
            plain["properties"] = [member.encoded() for member in self.properties]
        return plain

    @classmethod
    def decoded(cls, plain: Mapping[str, Any]) -> "Attribute":
        known = {spec.name: plain[spec.name] for spec in fields(cls) if spec.name in plain}
        known["properties"] = tuple(cls.decoded(member) for member in plain.get("properties", ()))
        return cls(**known)


_ATTRIBUTE_FIELDS: Final = tuple(field.name for field in fields(Attribute) if field.name != "name")
_SAID_WHEN_FALSE: Final = ("indexed", "nullable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A table as nodes tell each other of it. ``created`` is the ``ts`` of its creation."""

    name: str
    primary_key: str
    attributes: tuple[Attribute, ...]
    schema_defined: bool = False
    created: int = 0
    audit: bool | None = None
    replicate: bool | None = None
    sealed: bool | None = None
    expiration_s: float | None = None
    is_local: bool = False
    """Its records never leave this node."""

    @classmethod
    def checked(cls, plain: Any) -> "Definition":
        """A definition out of what another node sent. Raises ``Corrupt`` where it could not have been made here."""
        try:
            definition = cls.decoded(plain)
            _check_received(definition)
        except (KeyError, TypeError, AttributeError, RecursionError, InvalidAttribute) as error:
            raise Corrupt(f"{error!r}") from error
        return definition

    def encoded(self) -> dict[str, Any]:
        plain = {spec.name: getattr(self, spec.name) for spec in fields(self) if getattr(self, spec.name) is not None}
        plain["attributes"] = [attribute.encoded() for attribute in self.attributes]
        return plain

    @classmethod
    def decoded(cls, plain: Mapping[str, Any]) -> "Definition":
        known = {spec.name: plain[spec.name] for spec in fields(cls) if spec.name in plain}
        known["attributes"] = tuple(Attribute.decoded(attribute) for attribute in plain["attributes"])
        return cls(**known)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A definition with this environment's short ids. ``dropped`` maps attribute -> ``ts`` of its drop.

    ``id`` is never used again; the numbers of sub-databases are, hence a table is looked up in the transaction that
    uses it and never kept across transactions.
    """

    id: int
    database: str
    definition: Definition
    rows_id: int
    tombstones_id: int
    index_ids: Mapping[str, int]
    dropped: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def primary_key(self) -> str:
        return self.definition.primary_key

    @cached_property
    def attributes(self) -> Mapping[str, Attribute]:
        """Attributes by name, in table order."""
        return {attribute.name: attribute for attribute in self.definition.attributes}

    @cached_property
    def created_time_attributes(self) -> tuple[Attribute, ...]:
        return tuple(a for a in self.definition.attributes if a.assigned_created_time or a.name == CREATED_TIME)

    @cached_property
    def updated_time_attributes(self) -> tuple[Attribute, ...]:
        return tuple(a for a in self.definition.attributes if a.assigned_updated_time or a.name == UPDATED_TIME)

    @cached_property
    def expires_at_attribute(self) -> str | None:
        return next((a.name for a in self.definition.attributes if a.expires_at), None)

    @cached_property
    def is_dynamic(self) -> bool:
        """Created without ``attributes``: it learns new ones from the records written to it."""
        return not self.definition.schema_defined

    @cached_property
    def is_typed(self) -> bool:
        """Whether a value written to it has to be checked."""
        return bool(self.definition.sealed) or any(a.type or a.nullable is False for a in self.definition.attributes)

    def visible(self, record: dict[str, Any], ts: int) -> dict[str, Any]:
        """``record``, written at ``ts``, without the attributes that were dropped since."""
        if not self.dropped or all(ts > mark for mark in self.dropped.values()):
            return record
        return {name: value for name, value in record.items() if ts > self.dropped.get(name, 0)}

    def with_attribute(self, attribute: Attribute, index_id: int | None) -> "Table":
        """The table with one attribute more, at the end."""
        return replace(
            self,
            definition=replace(self.definition, attributes=(*self.definition.attributes, attribute)),
            index_ids=self.index_ids if index_id is None else {**self.index_ids, attribute.name: index_id},
        )

    def without_attribute(self, name: str, *, dropped_at: int) -> "Table":
        """The table without the attribute; on a dynamic table its older values are hidden from now on."""
        kept = tuple(attribute for attribute in self.definition.attributes if attribute.name != name)
        return replace(
            self,
            definition=replace(self.definition, attributes=kept),
            index_ids={attribute: index for attribute, index in self.index_ids.items() if attribute != name},
            dropped={**self.dropped, name: dropped_at} if self.is_dynamic else self.dropped,
        )

    def encoded(self) -> dict[str, Any]:
        return {
            "definition": self.definition.encoded(),
            "rows_id": self.rows_id,
            "tombstones_id": self.tombstones_id,
            "index_ids": dict(self.index_ids),
            "dropped": dict(self.dropped),
            "complete": self.complete,
        }

    @classmethod
    def decoded(cls, table_id: int, database: str, plain: Mapping[str, Any]) -> "Table":
        return cls(
            id=table_id,
            database=database,
            definition=Definition.decoded(plain["definition"]),
            rows_id=plain["rows_id"],
            tombstones_id=plain["tombstones_id"],
            index_ids=plain["index_ids"],
            dropped=plain["dropped"],
            complete=plain["complete"],
        )


def dynamic_attributes(primary_key: str) -> tuple[Attribute, ...]:
    """What a table created without ``attributes`` begins with."""
    return (
        Attribute(name=primary_key, is_primary_key=True),
        Attribute(name=CREATED_TIME, indexed=True),
        Attribute(name=UPDATED_TIME, indexed=True),
    )


def _check_received(definition: Definition) -> None:
    """Raises ``TypeError`` for a field of another type than its own, ``InvalidAttribute`` for a name that cannot be."""
    if type(definition.name) is not str or not definition.name or "/" in definition.name:
        raise TypeError("a table needs a name")
    if type(definition.created) is not int or not 0 <= definition.created < 1 << 64:
        raise TypeError("a definition needs the time of its creation")
    if definition.expiration_s is not None and type(definition.expiration_s) not in (int, float):
        raise TypeError("an expiration is a number of seconds")
    names = [attribute.name for attribute in definition.attributes]
    if len(names) > ATTRIBUTES_MAX or len(set(names)) != len(names) or definition.primary_key not in names:
        raise TypeError("a definition has its primary key among its attributes, each named once")
    for attribute in definition.attributes:
        check_attribute_name(attribute.name)
        if not isinstance(attribute.type, str | None) or not isinstance(attribute.elements, str | None):
            raise TypeError("the type of an attribute is a text")


def check_attribute_name(name: str) -> None:
    """Raises ``InvalidAttribute`` with the text that clients know."""
    if not name:
        raise InvalidAttribute("Attribute name is required")
    if "/" in name or "`" in name:
        raise InvalidAttribute("Attribute names cannot include backticks or forward slashes")
    if len(name.encode()) > ATTRIBUTE_NAME_BYTES_MAX:
        raise InvalidAttribute(
            f"transaction aborted due to attribute name {name} being too long. "
            "Attribute names cannot be longer than 250 bytes."
        )
