"""The storage layer alone, beside raw LMDB puts of the same bytes.

The baseline replays every sub-database's final content of the same load (log, rows, index entries, counters) with one
``put`` each, in commits of the same size: what any program must pay to have these bytes on disk in this structure.
"""

import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import trio

from storage.catalog import Catalog, open_catalog
from storage.schema import Definition, dynamic_attributes
from storage.settings import StorageSettings
from storage.table_writes import write_records
from storage.write_transaction import WriteTransaction
from tests.bench.records import make_record

BATCH = 1000


def measure_storage(batches: int, folder: Path) -> tuple[float, float]:
    """``(records/s of the storage layer, records/s of raw puts of the same bytes)``."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        layer_s = trio.run(_load, Path(root), batches)
        raw_s = _replay(Path(root) / "bench", Path(root) / "raw", batches)
    return batches * BATCH / layer_s, batches * BATCH / raw_s


async def _load(root: Path, batches: int) -> float:
    records = [[make_record(batch * BATCH + i) for i in range(BATCH)] for batch in range(batches)]
    async with open_catalog(StorageSettings(path=root), node="bench") as catalog:
        await catalog.create("bench")
        await catalog.write("bench", _create_table)
        began = time.perf_counter()
        for batch in records:
            await _insert(catalog, batch)
        return time.perf_counter() - began


def _create_table(tx: WriteTransaction) -> None:
    tx.create_table(Definition(name="t", primary_key="id", attributes=dynamic_attributes("id")))


async def _insert(catalog: Catalog, batch: list[dict[str, Any]]) -> None:
    await catalog.write("bench", lambda tx: write_records(tx, "t", batch, "insert"), operation="insert")


def _replay(source: Path, target: Path, batches: int) -> float:
    """Seconds that putting every item of ``source`` takes, commit by commit, each sub-database in stored order of
    arrival.
    """
    content = _read_all(source)
    target.mkdir()
    environment = lmdb.open(str(target), map_size=1 << 40, max_dbs=1000)
    handles = {name: environment.open_db(name.encode(), dupsort=dup) for name, (dup, _) in content.items()}
    shares = {name: list(_split(items, batches)) for name, (_, items) in content.items()}
    began = time.perf_counter()
    for number in range(batches):
        with environment.begin(write=True) as txn:
            for name, parts in shares.items():
                handle = handles[name]
                for key, value in parts[number]:
                    txn.put(key, value, db=handle)
    elapsed_s = time.perf_counter() - began
    environment.close()
    shutil.rmtree(target)
    return elapsed_s


def _read_all(source: Path) -> dict[str, tuple[bool, list[tuple[bytes, bytes]]]]:
    environment = lmdb.open(str(source), readonly=True, max_dbs=10_100)
    content = {}
    with environment.begin() as txn:
        names = [key.decode() for key in txn.cursor().iternext(values=False)]
        for name in names:
            handle = environment.open_db(name.encode(), txn=txn, create=False)
            is_duplicates = bool(txn.stat(handle)) and environment_flags(handle, txn)
            content[name] = (is_duplicates, list(txn.cursor(db=handle)))
    environment.close()
    return content


def environment_flags(handle: Any, txn: Any) -> bool:
    return bool(handle.flags(txn)["dupsort"])


def _split(items: list[tuple[bytes, bytes]], parts: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """``items`` dealt round-robin, so that each commit touches all of a sub-database as a load of arbitrary records
    does.
    """
    for number in range(parts):
        yield list(itertools.islice(items, number, None, parts))
