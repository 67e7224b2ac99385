"""Records of system tables within a write transaction."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ops.system_records import delete_record, find_key, find_record, put_record
from ops.system_tables import STATUS, SYSTEM, ensure_system_tables
from storage.catalog import Catalog, open_catalog
from storage.settings import StorageSettings
from storage.write_transaction import WriteTransaction


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    settings = StorageSettings(path=tmp_path, map_size_bytes=1 << 30, sync=False)
    async with open_catalog(settings, node="n1") as catalog:
        await ensure_system_tables(catalog)
        yield catalog


def put(tx: WriteTransaction, name: str, status: str, **kwargs: Any) -> None:
    put_record(tx, tx.table(STATUS), {"id": name, "status": status}, **kwargs)


def statuses(tx: WriteTransaction) -> dict[str, Any]:
    found = list(tx.records(tx.table(STATUS)))
    assert len({record["id"] for record in found}) == len(found), "each record once"
    return {record["id"]: record["status"] for record in found}


async def test_a_transaction_sees_stored_records_as_it_has_left_them(catalog: Catalog) -> None:
    def prepare(tx: WriteTransaction) -> None:
        for name in ("kept", "changed", "deleted"):
            put(tx, name, "old")

    def change(tx: WriteTransaction) -> dict[str, Any]:
        put(tx, "changed", "new")
        put(tx, "added", "new")
        delete_record(tx, tx.table(STATUS), "deleted")
        return statuses(tx)

    await catalog.write(SYSTEM, prepare)
    assert await catalog.write(SYSTEM, change) == {"kept": "old", "changed": "new", "added": "new"}


async def test_what_was_staged_and_deleted_again_is_not_seen(catalog: Catalog) -> None:
    def change(tx: WriteTransaction) -> dict[str, Any]:
        put(tx, "a", "new")
        delete_record(tx, tx.table(STATUS), "a")
        return statuses(tx)

    assert await catalog.write(SYSTEM, change) == {}


async def test_a_record_that_has_expired_is_not_seen(catalog: Catalog) -> None:
    await catalog.write(SYSTEM, lambda tx: put(tx, "a", "old", lives_s=-1))
    assert await catalog.write(SYSTEM, statuses) == {}


async def test_a_record_is_found_by_its_name(catalog: Catalog) -> None:
    def find(tx: WriteTransaction) -> list[Any]:
        return [find_record(tx, tx.table(STATUS), name) for name in ("a", "b", 5, None, "x" * 5000)]

    await catalog.write(SYSTEM, lambda tx: put(tx, "a", "here"))
    found = await catalog.write(SYSTEM, find)
    assert found[0]["status"] == "here"
    assert found[1:] == [None] * 4


@pytest.mark.parametrize("name", [None, 5, ["a"], "x" * 5000, "\ud800"])
def test_what_cannot_be_the_name_of_a_record_has_no_key(name: Any) -> None:
    assert find_key(name) is None
