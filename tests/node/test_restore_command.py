from pathlib import Path

from click.testing import CliRunner, Result

from node.__main__ import command_line
from node.process_files import claimed_root
from node.verify import database_folders
from storage.catalog import open_catalog
from storage.settings import StorageSettings
from storage.snapshot import backup_database


async def make_backup(folder: Path) -> Path:
    async with open_catalog(StorageSettings(path=folder / "made", map_size_bytes=1 << 24), node="n1") as catalog:
        backup_database(await catalog.create("zoo"), folder / "zoo.backup")
    return folder / "zoo.backup"


def restore(file: Path, root: Path) -> Result:
    return CliRunner().invoke(command_line, ["restore", str(file), "My.Zoo", "--root-path", str(root)])


async def test_a_backup_becomes_a_database_of_the_root(tmp_path: Path) -> None:
    result = restore(await make_backup(tmp_path), tmp_path / "root")
    assert result.exit_code == 0, result.output
    assert [name for name, _ in database_folders(tmp_path / "root")] == ["My.Zoo"]


async def test_a_database_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    file = await make_backup(tmp_path)
    restore(file, tmp_path / "root")
    again = restore(file, tmp_path / "root")
    assert (again.exit_code, again.output) == (1, "Error: database 'My.Zoo' already exists\n")


def test_a_file_that_is_no_backup_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello" * 5000)
    result = restore(tmp_path / "file", tmp_path / "root")
    assert result.exit_code == 1
    assert "is no backup" in result.output
    assert list(database_folders(tmp_path / "root")) == []


async def test_a_root_in_use_is_left_alone(tmp_path: Path) -> None:
    file = await make_backup(tmp_path)
    (tmp_path / "root").mkdir()
    with claimed_root(tmp_path / "root"):
        result = restore(file, tmp_path / "root")
    assert result.exit_code == 4
    assert "already running" in result.output
    assert list(database_folders(tmp_path / "root")) == []
