import re
from pathlib import Path

import pytest

from node.configuration_file import ConfigurationFile
from node.errors import StartError


def write(root: Path, text: str) -> Path:
    path = root / "logmesh.yaml"
    path.write_text(text)
    return path


def test_a_change_keeps_comments_order_and_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "# top\nhttp:\n  port: 1 # plain\n  name: 'x'\n# about logging\nlogging:\n  level: info\n")
    file = ConfigurationFile.load(tmp_path)
    file.set(("http", "port"), None)
    assert file.save()
    assert path.read_text() == (
        "# top\nhttp:\n  port: null # plain\n  name: 'x'\n# about logging\nlogging:\n  level: info\n"
    )


def test_the_file_before_a_change_is_kept_in_the_backup_folder(tmp_path: Path) -> None:
    write(tmp_path, "http:\n  port: 1\n")
    file = ConfigurationFile.load(tmp_path)
    for port in (2, 3):
        file.set(("http", "port"), port)
        file.save()
    backups = sorted((tmp_path / "backup").iterdir())
    assert [backup.read_text() for backup in backups] == ["http:\n  port: 1\n", "http:\n  port: 2\n"]
    for backup in backups:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z-logmesh\.yaml\.bak", backup.name)


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    write(tmp_path, "http:\n  port: 1\n")
    file = ConfigurationFile.load(tmp_path)
    file.set(("http", "port"), 1)
    assert not file.save()
    assert not (tmp_path / "backup").exists()


def test_a_new_file_can_be_read_by_its_owner_alone_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    file = ConfigurationFile.load(tmp_path)
    assert not file.exists
    file.set(("http", "port"), 1)
    file.save()
    assert file.path.stat().st_mode & 0o777 == 0o600
    file.path.chmod(0o640)
    file.set(("http", "port"), 2)
    file.save()
    assert file.path.stat().st_mode & 0o777 == 0o640


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real.yaml"
    real.write_text("http:\n  port: 1\n")
    (tmp_path / "logmesh.yaml").symlink_to(real)
    file = ConfigurationFile.load(tmp_path)
    file.set(("http", "port"), 2)
    file.save()
    assert (tmp_path / "logmesh.yaml").is_symlink()
    assert real.read_text() == "http:\n  port: 2\n"


def test_no_half_written_file_is_left_beside(tmp_path: Path) -> None:
    file = ConfigurationFile.load(tmp_path)
    file.set(("http", "port"), 1)
    file.save()
    assert [path.name for path in tmp_path.iterdir()] == ["logmesh.yaml"]


def test_the_content_comes_as_plain_values(tmp_path: Path) -> None:
    write(tmp_path, "a: 0x10\nb: 1.50\nc: 'x'\nd: 2020-01-01\ne: [1, null, true]\n5: f\n")
    assert ConfigurationFile.load(tmp_path).plain() == {
        "a": 16,
        "b": 1.5,
        "c": "x",
        "d": "2020-01-01",
        "e": [1, None, True],
        "5": "f",
    }


def test_a_scalar_on_the_way_gives_way_to_a_section(tmp_path: Path) -> None:
    path = write(tmp_path, "threads: 4\nhttp:\n  port: 1\n")
    file = ConfigurationFile.load(tmp_path)
    file.set(("threads", "count"), 2)
    file.save()
    assert path.read_text() == "threads:\n  count: 2\nhttp:\n  port: 1\n"


def test_removing_the_last_key_of_a_section_removes_the_section(tmp_path: Path) -> None:
    path = write(tmp_path, "a:\n  b:\n    c: 1\nd: 1\n")
    file = ConfigurationFile.load(tmp_path)
    file.remove(("a", "b", "c"))
    file.save()
    assert path.read_text() == "d: 1\n"


@pytest.mark.parametrize("text", ["http: [", "- a\n", "a: 1\na: 2\n", "a: !thing 1\n", "x: " + "[" * 100 + "]" * 100])
def test_a_file_that_cannot_be_used_is_refused(text: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(StartError, match=r"logmesh\.yaml"):
        ConfigurationFile.load(tmp_path).plain()


def test_a_file_of_unreasonable_size_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, "#" * (5 * 1024 * 1024))
    with pytest.raises(StartError, match="larger than"):
        ConfigurationFile.load(tmp_path)
