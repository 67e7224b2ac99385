"""A database for tests that need no catalog: synchronous, in a temporary folder, with a clock that ticks when asked."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.database import Database, Write
from storage.environment import Environment
from storage.schema import Attribute, Definition, dynamic_attributes
from storage.settings import StorageSettings
from storage.table_writes import delete_records, write_records
from storage.write_transaction import WriteTransaction

BEGIN_US = 1_800_000_000_000_000


class SmallDatabase:
    def __init__(self, path: Path) -> None:
        settings = StorageSettings(path=path, map_size_bytes=1 << 30, sync=False)
        environment = Environment(path / "farm", settings, node="n1", name="farm")
        self._ticks = itertools.count(BEGIN_US, 1000)
        self.database = Database(environment, lambda: next(self._ticks))

    def write(self, function: Callable[[WriteTransaction], Any]) -> Any:
        (outcome,) = self.database.commit([Write(function=function)])
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def create(self, name: str, *attributes: Attribute) -> None:
        """A dynamic table with key ``id``; with ``attributes`` a schema-defined one."""
        definition = Definition(
            name=name,
            primary_key="id",
            attributes=(Attribute(name="id", is_primary_key=True), *attributes)
            if attributes
            else dynamic_attributes("id"),
            schema_defined=bool(attributes),
        )
        self.write(lambda tx: tx.create_table(definition))

    def drop(self, name: str) -> None:
        self.write(lambda tx: tx.drop_table(tx.table(name)))

    def put(self, table: str, records: Sequence[dict[str, Any]], *, expires_at_ms: int | None = None) -> None:
        self.write(lambda tx: write_records(tx, table, records, "upsert", expires_at_ms=expires_at_ms))

    def delete(self, table: str, ids: Sequence[Any]) -> None:
        self.write(lambda tx: delete_records(tx, table, ids))


@contextmanager
def small_database(path: Path) -> Iterator[SmallDatabase]:
    small = SmallDatabase(path)
    try:
        yield small
    finally:
        small.database.close()
