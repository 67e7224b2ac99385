"""A database in a test: real LMDB and a clock that stands still until it is told to go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from lmdb.verify import verify

from storage.clock import RELEASED_AT_US
from storage.database import Database, Maintenance, MaintenanceFunction, Outcome, Write, WriteFunction
from storage.environment import Environment
from storage.schema import Attribute, Definition, Table, dynamic_attributes
from storage.settings import StorageSettings
from storage.table_writes import Mode, Written, delete_records, write_records
from storage.transaction import stored_key_of
from storage.write_transaction import WriteTransaction

START_US = RELEASED_AT_US + 1_000_000_000_000
MAP_BYTES = 64 << 20


class Opened:
    """One open database; ``now_us`` is its wall clock."""

    def __init__(self, environment: Environment) -> None:
        self.now_us = START_US
        self.environment = environment
        self.database = Database(environment, lambda: self.now_us)

    @classmethod
    def at(cls, path: Path, *, node: str = "n1", name: str = "data", **settings: Any) -> Self:
        chosen = {"map_size_bytes": MAP_BYTES, "sync": False, **settings}
        return cls(Environment(path, StorageSettings(path=path.parent, **chosen), node=node, name=name))

    def close(self) -> None:
        self.database.close()

    def write(self, function: WriteFunction, **write: Any) -> Any:
        """The function's value; raises what refused it."""
        self.now_us += 1000
        (outcome,) = self.database.commit([Write(function=function, **write)])
        return _value(outcome)

    def write_all(self, functions: Sequence[WriteFunction]) -> list[Outcome]:
        """Several client transactions in one LMDB transaction."""
        self.now_us += 1000
        return self.database.commit([Write(function=function) for function in functions])

    def maintain(self, function: MaintenanceFunction) -> Any:
        (outcome,) = self.database.commit([Maintenance(function=function)])
        return _value(outcome)

    def create_table(self, name: str, *attributes: Attribute, primary_key: str = "id", **definition: Any) -> None:
        """A dynamic table, or a schema-defined one where attributes are given."""
        chosen = Definition(
            name=name,
            primary_key=primary_key,
            attributes=attributes or dynamic_attributes(primary_key),
            schema_defined=bool(attributes),
            **definition,
        )
        self.write(lambda tx: tx.create_table(chosen))

    def put(self, table: str, *records: dict[str, Any], mode: Mode = "upsert", **options: Any) -> Written:
        written: Written = self.write(lambda tx: write_records(tx, table, records, mode, **options), operation=mode)
        return written

    def delete(self, table: str, *ids: Any) -> None:
        self.write(lambda tx: delete_records(tx, table, ids), operation="delete")

    def get(self, table: str, key: Any) -> dict[str, Any] | None:
        with self.database.read() as tx:
            found = tx.table(table)
            row = tx.row(found, stored_key_of(key))
            return None if row is None else tx.record(found, row)

    def record(self, table: str, key: Any) -> dict[str, Any]:
        """The record, which has to be there."""
        record = self.get(table, key)
        assert record is not None
        return record

    def all(self, table: str) -> list[dict[str, Any]]:
        """Live records in key order."""
        with self.database.read() as tx:
            found = tx.table(table)
            return [tx.record(found, row) for _, row in tx.rows(found)]

    def ids(self, table: str) -> list[Any]:
        return [record["id"] for record in self.all(table)]

    def table(self, name: str) -> Table:
        with self.database.read() as tx:
            return tx.table(name)

    def index(self, table: str, attribute: str) -> list[tuple[bytes, bytes]]:
        with self.database.read() as tx:
            return list(tx.index_entries(tx.table(table), attribute))


def put_dog(tx: WriteTransaction, key: Any, **values: Any) -> None:
    write_records(tx, "dog", [{"id": key, **values}], "upsert")


def structural_damage(folder: Path) -> list[str]:
    """What LMDB's own check says of a stopped database's file."""
    problems: list[str] = verify(str(folder))  # type: ignore[no-untyped-call]  # lmdb's only untyped module
    return problems


def _value(outcome: Outcome) -> Any:
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
