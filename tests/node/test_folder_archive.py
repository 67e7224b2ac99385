import io
import tarfile
from pathlib import Path

import pytest

from node.folder_archive import pack_folder


def members(packed: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        return {member.name: member for member in archive.getmembers()}


def test_the_archive_holds_the_folder_without_a_wrapping_one(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("hello")
    (tmp_path / ".env").write_text("A=1")
    packed = pack_folder(tmp_path)
    assert members(packed).keys() == {"web", "web/index.html", ".env"}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        content = archive.extractfile("web/index.html")
        assert content is not None
        assert content.read() == b"hello"


def test_what_a_deploy_makes_again_is_left_out(tmp_path: Path) -> None:
    for name in ("node_modules/a", "__pycache__", ".venv/lib", "cache/webpack/x", "cache/other"):
        (tmp_path / name).mkdir(parents=True)
    assert members(pack_folder(tmp_path)).keys() == {"cache", "cache/other"}


def test_a_link_inside_is_followed_and_one_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.txt").symlink_to("a.txt")
    assert members(pack_folder(folder))["b.txt"].isfile()
    (tmp_path / "secret").write_text("s")
    (folder / "c.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leads out"):
        pack_folder(folder)


def test_owners_do_not_travel(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    member = members(pack_folder(tmp_path))["a"]
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")


def test_the_same_folder_gives_the_same_archive(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).write_text(name)
    assert pack_folder(tmp_path) == pack_folder(tmp_path)
