from pathlib import Path

import pytest

from node.errors import StartError
from node.verify import database_folders, verify_root
from storage.catalog import open_catalog
from storage.settings import StorageSettings


async def make_databases(folder: Path, *names: str) -> None:
    settings = StorageSettings(path=folder, map_size_bytes=1 << 24)
    folder.mkdir()
    async with open_catalog(settings, node="n1") as catalog:
        for name in names:
            await catalog.create(name)


async def test_every_database_of_the_root_is_found_by_its_true_name(tmp_path: Path) -> None:
    await make_databases(tmp_path / "database", "data", "My.DB")
    (tmp_path / "database" / "unrelated").mkdir()
    assert {name for name, _ in database_folders(tmp_path)} == {"data", "My.DB"}


async def test_databases_are_looked_for_where_the_configuration_says(tmp_path: Path) -> None:
    await make_databases(tmp_path / "elsewhere", "data")
    await make_databases(tmp_path / "single", "other")
    (tmp_path / "logmesh.yaml").write_text("storage:\n  path: elsewhere\ndatabases:\n  other:\n    path: single\n")
    assert {name for name, _ in database_folders(tmp_path)} == {"data", "other"}


async def test_problems_are_printed_and_give_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await make_databases(tmp_path / "database", "good", "bad")

    def check(folder: Path) -> list[str]:
        return ["row 5 is in no index"] if folder.name == "bad" else []

    assert verify_root(tmp_path, [], check) == 1
    assert capsys.readouterr().out == "bad: 1 problem(s)\n  row 5 is in no index\ngood: ok\n"
    assert verify_root(tmp_path, ["good"], check) == 0


def test_a_name_that_no_database_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No database 'x'"):
        verify_root(tmp_path, ["x"], lambda folder: [])
