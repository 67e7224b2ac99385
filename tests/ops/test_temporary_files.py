"""Temporary files: sent whole, compressed or not, and gone in every case."""

import gc
import gzip
import os
from pathlib import Path

import pytest

from ops.temporary_files import CHUNK_BYTES, SentFile, new_path, open_unlinked, remove_leftovers


def made(root: Path, content: bytes) -> Path:
    path = new_path(root, "test")
    path.write_bytes(content)
    return path


async def sent(path: Path, *, compresses: bool) -> bytes:
    return b"".join([chunk async for chunk in SentFile(open_unlinked(path), compresses=compresses)])


@pytest.mark.parametrize("length", [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7])
async def test_a_file_is_sent_whole(tmp_path: Path, length: int) -> None:
    content = os.urandom(length)
    assert await sent(made(tmp_path, content), compresses=False) == content
    assert gzip.decompress(await sent(made(tmp_path, content), compresses=True)) == content


async def test_a_file_that_is_open_stands_in_no_folder_any_more(tmp_path: Path) -> None:
    path = made(tmp_path, b"content")
    stream = SentFile(open_unlinked(path), compresses=False)
    assert not path.exists()
    assert await anext(stream) == b"content"


def test_a_stream_that_nobody_reads_closes_its_file(tmp_path: Path) -> None:
    file = open_unlinked(made(tmp_path, b"content"))
    stream = SentFile(file, compresses=False)
    del stream
    gc.collect()
    assert file.closed


def test_only_the_nodes_own_user_may_look_into_the_folder(tmp_path: Path) -> None:
    folder = new_path(tmp_path, "test").parent
    assert folder.stat().st_mode & 0o777 == 0o700


def test_leftovers_of_a_crash_are_removed_at_the_start(tmp_path: Path) -> None:
    remove_leftovers(tmp_path)
    (made(tmp_path, b"1").parent / "folder").mkdir()
    (tmp_path / "tmp" / "folder" / "file").write_bytes(b"2")
    (tmp_path / "elsewhere").write_bytes(b"3")
    (tmp_path / "tmp" / "link").symlink_to(tmp_path / "elsewhere")
    remove_leftovers(tmp_path)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "elsewhere").exists()
