"""Definitions of other nodes, merged into what is here: definitions here stay, what is missing is added.

They come as schema entries of the log and, ahead of data that needs them, as a peer's current definitions. A table
that was dropped here comes back only by a definition that is newer than the drop, and is incomplete then until a copy
fills it; an attribute dropped here comes back only by an entry that is newer than the drop.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from storage import codec
from storage.errors import Corrupt, InvalidAttribute
from storage.schema import Attribute, Definition, Table, check_attribute_name
from storage.schema_change import SchemaChange
from storage.write_state import WriteState

Standing: TypeAlias = Literal["here", "dropped", "local", "key conflict"]
"""What a received definition is here: a table that takes its records, one that was dropped, one whose records never
leave this node, one with another primary key."""


def merge_definitions(state: WriteState, definitions: Sequence[Definition]) -> dict[str, Standing]:
    """Merge a peer's current definitions; what each table is here. Raises ``TooManyTables``."""
    return {definition.name: merge_definition(state, definition) for definition in definitions}


def merge_definition(state: WriteState, received: Definition) -> Standing:
    """Merge one definition. Raises ``TooManyTables`` where its sub-databases have no room."""
    table = state.tables.get(received.name)
    dropped_at = state.dropped_at(received.name)
    if table is None:
        if received.created <= dropped_at:
            return "dropped"
        _create(state, received, is_revived=dropped_at > 0)
        return "here"
    if table.definition.is_local:
        return "local"
    if table.primary_key != received.primary_key:
        return "key conflict"
    for attribute in received.attributes:
        if attribute.name not in table.dropped:
            _add_missing(state, table.name, attribute)
    table = state.tables[table.name]
    if dropped_at < received.created < table.definition.created:
        # Both made it on their own: it is as old as the older of the two, or the rows of that one would predate it.
        state.replace_table(replace(table, definition=replace(table.definition, created=received.created)))
    return "here"


def apply_schema_entry(state: WriteState, payload: bytes, ts: int) -> str | None:
    """Apply the changes of a schema entry; the name of a table that would have to be known first, else None.

    Raises ``Corrupt`` and ``TooManyTables``; nothing was put then.
    """
    changes = _decoded(payload)
    created = {change.table for change in changes if change.definition is not None}
    for change in changes:
        is_known = change.table in state.tables or change.table in created or state.dropped_at(change.table)
        if not is_known:
            return change.table
    state.check_room(changes)
    for change in changes:
        if change.definition is not None:
            merge_definition(state, change.definition)
        elif change.attribute is not None:
            table = state.tables.get(change.table)
            if table is not None and not table.definition.is_local and ts > table.dropped.get(change.attribute.name, 0):
                _add_missing(state, change.table, change.attribute)
    return None


def _decoded(payload: bytes) -> list[SchemaChange]:
    try:
        changes = [SchemaChange.decoded(plain) for plain in codec.decode(payload)]
        for change in changes:
            if change.definition is not None:
                Definition.checked(change.definition.encoded())
            elif change.attribute is not None:
                check_attribute_name(change.attribute.name)
    except (KeyError, TypeError, AttributeError, InvalidAttribute) as error:
        raise Corrupt(f"a schema entry is damaged: {error!r}") from error
    if any(change.kind not in ("create_table", "add_attribute") for change in changes):
        raise Corrupt("a schema entry from elsewhere drops something")
    return changes


def _create(state: WriteState, received: Definition, *, is_revived: bool) -> None:
    definition = replace(received, is_local=False)
    change = SchemaChange(
        kind="create_table", table=definition.name, definition=definition, table_id=state.reserve_table_id()
    )
    state.check_room([change])
    state.apply_schema_change(change, definition.created)
    if is_revived:
        state.mark_incomplete(state.tables[definition.name])


def _add_missing(state: WriteState, name: str, attribute: Attribute) -> None:
    table: Table = state.tables[name]
    if attribute.name in table.attributes or attribute.is_primary_key:
        return
    change = SchemaChange(kind="add_attribute", table=name, attribute=attribute)
    state.check_room([change])
    state.apply_schema_change(change, 0)
