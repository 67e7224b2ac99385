"""Tables as describe operations show them. Pure: a table and its figures in, the description out.

The order of fields is part of the contract, and so is that what a table does not say is left out, never null. The words
``schema`` and ``hash_attribute`` stay whatever spelling the request used.
"""

from collections.abc import Collection
from typing import Any

from storage.clock import milliseconds
from storage.schema import Attribute, Table
from storage.table_figures import TableFigures
from storage.text_form import number_text


def describe_table(
    table: Table, figures: TableFigures, *, audits_by_default: bool, attributes: Collection[str]
) -> dict[str, Any]:
    """The description, with those of the table's attributes whose names are given. Counts are always exact."""
    definition = table.definition
    described: dict[str, Any] = {
        "schema": table.database,
        "name": table.name,
        "hash_attribute": table.primary_key,
        "audit": is_audited(table, audits_by_default=audits_by_default),
        "schema_defined": definition.schema_defined,
        "attributes": [describe_attribute(a) for a in definition.attributes if a.name in attributes],
        "db_size": figures.database_bytes,
    }
    if definition.replicate is not None:
        described["replicate"] = definition.replicate
    if definition.expiration_s is not None:
        described["expiration"] = f"{number_text(definition.expiration_s)}s"
    if definition.sealed is not None:
        described["sealed"] = definition.sealed
    described["record_count"] = figures.record_count
    described["table_size"] = figures.table_bytes
    described["db_audit_size"] = figures.log_bytes
    if figures.last_write_ts is not None:
        described["last_updated_record"] = milliseconds(figures.last_write_ts)
    return described


def describe_attribute(attribute: Attribute) -> dict[str, Any]:
    said: dict[str, Any] = {
        "attribute": attribute.name,
        "type": attribute.type,
        "elements": attribute.elements,
        "indexed": attribute.indexed,
        "is_primary_key": attribute.is_primary_key or None,
        "assigned_created_time": attribute.assigned_created_time or None,
        "assigned_updated_time": attribute.assigned_updated_time or None,
        "nullable": attribute.nullable,
        "properties": [_describe_property(member) for member in attribute.properties] or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def is_audited(table: Table, *, audits_by_default: bool) -> bool:
    """Whether the table's history is shown; what the table says goes before the node's setting."""
    return audits_by_default if table.definition.audit is None else table.definition.audit


def _describe_property(member: Attribute) -> dict[str, Any]:
    said: dict[str, Any] = {
        "type": member.type,
        "name": member.name,
        "elements": member.elements,
        "properties": [_describe_property(inner) for inner in member.properties] or None,
    }
    return {name: value for name, value in said.items() if value is not None}
