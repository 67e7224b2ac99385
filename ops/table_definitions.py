"""A request's description of a new table -> the definition that is stored and sent to other nodes. Pure.

Without ``attributes`` a table is dynamic: it begins with its primary key and the two times, and learns from what is
written. With a list, an empty one too, it is schema-defined. The top-level primary key decides: a definition of that
name becomes the key, whatever the definitions say of themselves, and where none has the name an untyped one is put in
front.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ops.errors import InvalidParams
from storage.errors import AttributeExists, InvalidAttribute
from storage.schema import (
    CREATED_TIME,
    UPDATED_TIME,
    Attribute,
    Definition,
    check_attribute_name,
    dynamic_attributes,
)

ATTRIBUTES_MAX: Final = 10_000
"""More could not all be indexed; each write looks at all of them."""
DEPTH_MAX: Final = 16
"""Object types inside of object types."""


def definition_of(
    *,
    database: str,
    name: str,
    primary_key: str,
    attributes: list[Any] | None,
    expiration_s: float | None = None,
    audit: bool | None = None,
    replicate: bool | None = None,
) -> Definition:
    """Raises ``InvalidParams``, ``InvalidAttribute`` or ``AttributeExists``, worded for the client."""
    if primary_key in (CREATED_TIME, UPDATED_TIME):
        raise InvalidParams(f"'primary_key' cannot be an internal timestamp attribute: {primary_key}")
    if attributes is None:
        chosen = dynamic_attributes(primary_key)
    else:
        chosen = _with_primary_key(_members(attributes, depth=1), primary_key)
        _check_names_differ(database, name, chosen)
    return Definition(
        name=name,
        primary_key=primary_key,
        attributes=chosen,
        schema_defined=attributes is not None,
        audit=audit,
        replicate=replicate,
        expiration_s=expiration_s or None,
        is_local=replicate is False,
    )


def _with_primary_key(attributes: tuple[Attribute, ...], primary_key: str) -> tuple[Attribute, ...]:
    if all(attribute.name != primary_key for attribute in attributes):
        return Attribute(name=primary_key, is_primary_key=True), *attributes
    return tuple(_as_primary_key(a) if a.name == primary_key else a for a in attributes)


def _as_primary_key(attribute: Attribute) -> Attribute:
    """Neither a time that the node sets nor an expiry: those change under a record, its key never does."""
    return Attribute(
        name=attribute.name,
        type=attribute.type,
        elements=attribute.elements,
        indexed=attribute.indexed,
        nullable=attribute.nullable,
        is_primary_key=True,
    )


def _check_names_differ(database: str, table: str, attributes: Iterable[Attribute]) -> None:
    seen: set[str] = set()
    for attribute in attributes:
        if attribute.name in seen:
            raise AttributeExists(database, table, attribute.name)
        seen.add(attribute.name)


def _members(described: Any, *, depth: int) -> tuple[Attribute, ...]:
    """The attributes of a table, or the members of an object type."""
    label = "attributes" if depth == 1 else "properties"
    if not isinstance(described, list):
        raise InvalidParams(f"'{label}' must be an array")
    if len(described) > ATTRIBUTES_MAX:
        raise InvalidParams(f"'{label}' must contain less than or equal to {ATTRIBUTES_MAX} items")
    if depth > DEPTH_MAX:
        raise InvalidParams(f"'{label}' must not be nested deeper than {DEPTH_MAX} levels")
    for position, element in enumerate(described):
        if not isinstance(element, Mapping):
            raise InvalidParams(f"'{label}[{position}]' must be of type object")
    return tuple(_attribute(element, depth=depth) for element in described)


def _attribute(described: Mapping[str, Any], *, depth: int) -> Attribute:
    """One definition. The legacy spelling, ``attribute`` for ``name``, makes it indexed as well."""
    is_legacy = "name" not in described and "attribute" in described
    expires_at = _flag(described, "expiresAt") or False
    properties = described.get("properties")
    return Attribute(
        name=_name(described, "attribute" if is_legacy else "name"),
        type=_text(described, "type"),
        elements=_elements(described),
        properties=() if properties is None else _members(properties, depth=depth + 1),
        indexed=True if is_legacy or expires_at else _flag(described, "indexed"),
        nullable=_flag(described, "nullable"),
        assigned_created_time=_flag(described, "assignCreatedTime") or False,
        assigned_updated_time=_flag(described, "assignUpdatedTime") or False,
        expires_at=expires_at,
    )


def _name(described: Mapping[str, Any], field: str) -> str:
    name = _text(described, field)
    if name is None:
        raise InvalidAttribute("Attribute name is required")
    check_attribute_name(name)
    return name


def _elements(described: Mapping[str, Any]) -> str | None:
    elements = described.get("elements")
    if elements is None:
        return None
    if not isinstance(elements, Mapping):
        raise InvalidParams("'elements' must be of type object")
    return _text(elements, "type")


def _text(described: Mapping[str, Any], field: str) -> str | None:
    value = described.get(field)
    if value is not None and not isinstance(value, str):
        raise InvalidParams(f"'{field}' must be a string")
    return value


def _flag(described: Mapping[str, Any], field: str) -> bool | None:
    value = described.get(field)
    if value is not None and not isinstance(value, bool):
        raise InvalidParams(f"'{field}' must be a boolean")
    return value
