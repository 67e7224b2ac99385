"""Changes of the schema as values: staged like writes, logged as entries, applied inside the same commit.

Creating tables and attributes travels to other nodes; drops are local entries. Stored form, one per change of an
entry of kind ``schema``: ``{op, t table, d definition, a attribute, n attribute name}``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from storage.schema import Attribute, Definition, Table

ChangeKind: TypeAlias = Literal["create_table", "add_attribute", "drop_attribute", "drop_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    kind: ChangeKind
    table: str
    definition: Definition | None = None
    attribute: Attribute | None = None
    name: str | None = None
    table_id: int = 0
    """Of a table to create: reserved when the change is staged."""
    is_local: bool = False
    """Whether the table's records never leave this node."""

    @property
    def is_replicated(self) -> bool:
        return self.kind in ("create_table", "add_attribute") and not self.is_local

    @property
    def new_indexes(self) -> tuple[str, ...]:
        """Attributes that get an index by this change."""
        if self.kind == "create_table" and self.definition is not None:
            return tuple(a.name for a in self.definition.attributes if is_indexed(a))
        return (self.attribute.name,) if self.attribute is not None and is_indexed(self.attribute) else ()

    @property
    def new_sub_databases(self) -> int:
        return len(self.new_indexes) + (2 if self.kind == "create_table" else 0)

    def preview(self, table: Table | None, database: str) -> Table:
        """The table after this change, for the rest of its transaction; its new sub-databases have no number yet (0)."""
        if self.kind == "create_table" and self.definition is not None:
            return Table(
                id=self.table_id,
                database=database,
                definition=self.definition,
                rows_id=0,
                tombstones_id=0,
                index_ids=dict.fromkeys(self.new_indexes, 0),
            )
        assert table is not None, f"{self.kind} on a table that is not there"
        if self.attribute is not None:
            return table.with_attribute(self.attribute, 0 if self.new_indexes else None)
        assert self.name is not None, "a drop names its attribute"
        return table.without_attribute(self.name, dropped_at=0)

    def encoded(self, ts: int) -> dict[str, Any]:
        plain: dict[str, Any] = {"op": self.kind, "t": self.table}
        if self.definition is not None:
            plain["d"] = replace(self.definition, created=ts).encoded()
        if self.attribute is not None:
            plain["a"] = self.attribute.encoded()
        if self.name is not None:
            plain["n"] = self.name
        return plain

    @classmethod
    def decoded(cls, plain: Mapping[str, Any]) -> "SchemaChange":
        return cls(
            kind=plain["op"],
            table=plain["t"],
            definition=Definition.decoded(plain["d"]) if "d" in plain else None,
            attribute=Attribute.decoded(plain["a"]) if "a" in plain else None,
            name=plain.get("n"),
        )


def is_indexed(attribute: Attribute) -> bool:
    """The primary key needs no index beside its table; an expiry is indexed whether or not that was asked for."""
    return not attribute.is_primary_key and bool(attribute.indexed or attribute.expires_at)
