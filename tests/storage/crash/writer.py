"""A process that writes until it is killed, and says on standard output what was acknowledged to it.

Usage: ``python -m tests.storage.crash.writer FOLDER FIRST``. Each of ``KEYS`` keys is written by one task, step by
step from ``FIRST`` on; what a step does to its key follows from its number (``outcome_of``), so whoever reads the
lines knows what must be there. Retention runs at the same time, with a very short memory.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from storage.catalog import Catalog, open_catalog
from storage.errors import TableExists
from storage.retention import run_retention
from storage.schema import Definition, dynamic_attributes
from storage.settings import StorageSettings
from storage.table_writes import delete_records, write_records
from storage.write_transaction import WriteTransaction

KEYS: Final = 8
NODE: Final = "n1"


def settings(folder: Path) -> StorageSettings:
    return StorageSettings(path=folder, map_size_bytes=256 << 20, audit_retention_s=0.05)


def outcome_of(step: int) -> dict[str, Any] | None:
    """What stands under a key after its step: a record with the step's number, or nothing."""
    if step % 5 == 0:
        return None
    return {"step": step, f"a{step % 30}": step, "text": "x" * (step % 3000)}


def run_step(tx: WriteTransaction, key: int, step: int) -> None:
    """The same in two tables, so that half a transaction would show."""
    record = outcome_of(step)
    for table in ("left", "right"):
        delete_records(tx, table, [key])
        if record is not None:
            write_records(tx, table, [{"id": key, **record}], "insert")


def make_table(tx: WriteTransaction, name: str) -> None:
    tx.create_table(Definition(name=name, primary_key="id", attributes=dynamic_attributes("id")))


def drop_table(tx: WriteTransaction, name: str) -> None:
    tx.drop_table(tx.table(name))


async def write_key(catalog: Catalog, key: int, first: int) -> None:
    step = first
    while True:
        await catalog.write("data", partial(run_step, key=key, step=step))
        print(key, step, flush=True)  # noqa: T201 - the protocol of this process
        step += 1


async def make_tables(catalog: Catalog, first: int) -> None:
    """Tables that come and go, for the sub-databases that are used again."""
    number = 0
    while True:
        name = f"t{first}-{number}"
        await catalog.write("data", partial(make_table, name=name))
        await catalog.write("data", partial(drop_table, name=name))
        number += 1


async def main(folder: Path, first: int) -> None:
    async with open_catalog(settings(folder), node=NODE) as catalog, trio.open_nursery() as nursery:
        if "data" not in catalog.names:
            await catalog.create("data")
        for name in ("left", "right"):
            try:
                await catalog.write("data", partial(make_table, name=name))
            except TableExists:
                pass
        print("ready", flush=True)  # noqa: T201
        nursery.start_soon(partial(run_retention, catalog, interval_s=0.01))
        nursery.start_soon(make_tables, catalog, first)
        for key in range(KEYS):
            nursery.start_soon(write_key, catalog, key, first)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
