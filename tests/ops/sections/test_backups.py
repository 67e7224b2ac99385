"""``get_backup``: the file as sent, and that what is restored from it answers as the original did."""

import gzip
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ops.http import Response
from ops.server_headers import check_headers
from ops.temporary_files import FOLDER
from storage.catalog import open_catalog
from storage.history import table_history
from storage.schema import Table
from storage.settings import StorageSettings
from storage.snapshot import restore_database
from tests.ops.conftest import Node, whole_body

DATABASE = "farm"
TABLES = ("animal", "pen", "visit")
Contents = dict[str, tuple[Table, list[dict[str, Any]], list[int]]]


async def fill(node: Node) -> None:
    for table in TABLES[:2]:
        await node.ok(operation="create_table", database=DATABASE, table=table, primary_key="id")
        records = [{"id": n, "name": f"{table} {n}", "legs": n % 5} for n in range(300)]
        await node.ok(operation="insert", database=DATABASE, table=table, records=records)
        await node.ok(operation="delete", database=DATABASE, table=table, ids=[7])
    attributes = [{"name": "id", "type": "ID"}, {"name": "fee", "type": "Float", "indexed": True}]
    await node.ok(
        operation="create_table",
        database=DATABASE,
        table="visit",
        primary_key="id",
        attributes=attributes,
        expiration=9,
    )


async def backup(node: Node, *, headers: dict[str, str] | None = None, **fields: Any) -> Response:
    response = await node.respond({"operation": "get_backup", "database": DATABASE, **fields}, headers=headers)
    assert response.status == 200, await whole_body(response)
    return response


async def restored(response: Response, folder: Path) -> Path:
    """The folder of databases that holds what was sent, as ``farm`` and nothing else."""
    file = folder / "sent"
    file.write_bytes(await whole_body(response))
    databases = folder / "restored"
    restore_database(file, databases, DATABASE)
    return databases


async def contents(databases: Path) -> Contents:
    """Tables, records by index and without, and the history's positions, of a stopped node's ``farm``."""
    async with open_catalog(StorageSettings(path=databases, map_size_bytes=1 << 30), node="n2") as catalog:
        with catalog.database(DATABASE).read() as tx:
            found: Contents = {}
            for table in tx.schema().tables.values():
                records = [tx.record(table, row) for _, row in tx.rows(table)]
                records += [
                    tx.record(table, row)
                    for name in table.index_ids
                    for _, key in tx.index_entries(table, name)
                    if (row := tx.row(table, key)) is not None
                ]
                found[table.name] = (table, records, [entry.lseq for entry in table_history(tx, table)])
            return found


async def described(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = await node.ok(operation="describe_database", database=DATABASE)
    return found


@pytest.fixture
async def farm(node: Node) -> AsyncIterator[Node]:
    await fill(node)
    yield node


async def test_a_restored_database_has_the_same_tables_records_indexes_and_history(farm: Node, tmp_path: Path) -> None:
    sent = await backup(farm)
    with farm.services.catalog.database(DATABASE).read() as tx:
        tables = dict(tx.schema().tables)
        records = {name: [tx.record(table, row) for _, row in tx.rows(table)] for name, table in tables.items()}
        history = {name: [entry.lseq for entry in table_history(tx, table)] for name, table in tables.items()}
    found = await contents(await restored(sent, tmp_path))
    assert {name: table for name, (table, _, _) in found.items()} == tables
    assert {name: rows[: len(records[name])] for name, (_, rows, _) in found.items()} == records
    assert {name: lseqs for name, (_, _, lseqs) in found.items()} == history
    for name, (table, rows, _) in found.items():
        assert len(rows) == len(records[name]) * (1 + len(table.index_ids))


async def test_what_is_written_later_is_not_in_the_backup(farm: Node, tmp_path: Path) -> None:
    sent = await backup(farm)
    await farm.ok(operation="insert", database=DATABASE, table="pen", records=[{"id": "later"}])
    _, records, _ = (await contents(await restored(sent, tmp_path)))["pen"]
    assert len(records) == 299 * 5
    assert not any(record["id"] == "later" for record in records)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"table": "pen"}, {"pen"}),
        ({"tables": ["pen", "visit", "ghost", 5]}, {"pen", "visit"}),
        ({"tables": ["visit"], "table": "pen"}, {"visit"}),
    ],
    ids=str,
)
async def test_a_backup_of_tables_holds_those_that_exist_and_no_history(
    farm: Node, tmp_path: Path, fields: dict[str, Any], expected: set[str]
) -> None:
    found = await contents(await restored(await backup(farm, **fields), tmp_path))
    assert found.keys() == expected
    assert not any(history for _, _, history in found.values())


async def test_a_backup_of_tables_takes_their_history_along_where_that_is_asked(farm: Node, tmp_path: Path) -> None:
    found = await contents(await restored(await backup(farm, table="pen", include_audit=True), tmp_path))
    assert len(found["pen"][2]) == 2


async def test_an_empty_database_gives_a_valid_empty_backup(node: Node, tmp_path: Path) -> None:
    await node.ok(operation="create_database", database=DATABASE)
    assert await contents(await restored(await backup(node), tmp_path)) == {}


async def test_the_headers_tell_name_and_time_of_the_snapshot(farm: Node) -> None:
    before = datetime.now(UTC)
    sent = await backup(farm, table="pen", headers={"accept": "text/csv"})
    check_headers(sent)
    headers = dict(sent.headers)
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == 'attachment; filename="farm"'
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", headers["x-snapshot-time"])
    taken_at = datetime.fromisoformat(headers["x-snapshot-time"])
    assert abs((taken_at - before).total_seconds()) < 60
    assert "content-encoding" not in headers
    assert "content-length" not in headers


async def test_quotes_in_the_name_of_the_file_are_escaped(node: Node) -> None:
    name = 'a "b" \\c'
    await node.ok(operation="create_database", database=name)
    headers = dict((await backup(node, database=name)).headers)
    assert headers["content-disposition"] == 'attachment; filename="a \\"b\\" \\\\c"'


async def test_a_client_that_accepts_gzip_gets_the_same_bytes_compressed(farm: Node) -> None:
    plain = await backup(farm)
    compressed = await backup(farm, headers={"accept-encoding": "br, gzip;q=0.8"})
    assert dict(compressed.headers)["content-encoding"] == "gzip"
    sent = await whole_body(compressed)
    assert gzip.decompress(sent) == await whole_body(plain)


@pytest.mark.parametrize("accepted", ["identity", "gzip;q=0", "br, gzip; q=0.0"])
async def test_a_client_that_does_not_want_gzip_does_not_get_it(farm: Node, accepted: str) -> None:
    assert "content-encoding" not in dict((await backup(farm, headers={"accept-encoding": accepted})).headers)


async def test_no_file_is_left_also_where_nobody_reads_what_is_sent(farm: Node, tmp_path: Path) -> None:
    await whole_body(await backup(farm))
    await backup(farm, table="pen")
    await farm.post({"operation": "get_backup", "database": DATABASE, "table": "ghost"})
    assert list((tmp_path / FOLDER).iterdir()) == []


async def test_the_original_goes_on_as_before(farm: Node) -> None:
    before = await described(farm)
    await whole_body(await backup(farm))
    await whole_body(await backup(farm, table="pen", include_audit=True))
    assert await described(farm) == before


@pytest.mark.parametrize(
    ("fields", "status", "problem"),
    [
        ({"table": "ghost"}, 500, "Can not find table ghost"),
        ({"tables": ["ghost", "pen"]}, 500, "Can not find table ghost"),
        ({"tables": []}, 500, "Can not find table undefined"),
        ({"tables": "pen"}, 400, "'tables' must be an array"),
        ({"table": 5}, 400, "'table' must be a string"),
        ({"include_audit": "yes"}, 400, "'include_audit' must be a boolean"),
        ({"database": "nowhere"}, 404, "database 'nowhere' does not exist"),
    ],
    ids=str,
)
async def test_what_cannot_be_backed_up_is_told_so(
    farm: Node, fields: dict[str, Any], status: int, problem: str
) -> None:
    request = {"operation": "get_backup", "database": DATABASE, **fields}
    assert await farm.post(request) == (status, {"error": problem})
