"""Copies as files: what is in them, and that nothing damaged is read as if it were whole."""

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import codec
from storage.copy_description import CopyDescription
from storage.copy_file import CHUNK_BYTES, CHUNK_ROWS, CopyReader, file_digest, read_row
from storage.entry import Origin
from storage.errors import Corrupt, DiskFull, VectorBehind
from storage.marks import Mark, mark_key
from storage.schema import Attribute
from tests.storage.copying import Peer, Peers
from tests.storage.opened import put_dog


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    made.share()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def keys_in(file: Path, offset: int | None = None) -> list[tuple[int, bytes]]:
    with CopyReader(file) as reader:
        return [(chunk.table, key) for chunk in reader.chunks(offset) for key in chunk.keys]


def test_rows_and_tombstones_come_with_their_stamps_in_the_order_of_keys(peers: Peers, file: Path) -> None:
    peers.a.put("dog", *({"id": number, "name": f"dog {number}"} for number in range(9)))
    peers.a.delete("dog", 0, 3, 4, 8, 77)
    peers.b.take_stream(peers.a)
    peers.b.put("dog", {"id": 5, "name": "of b"})
    description = peers.b.write_copy(file)
    expected = {
        key: (stamp, row.value, is_tombstone)
        for is_tombstone in (False, True)
        for key, (stamp, row) in peers.b.stored(tombstones=is_tombstone).items()
    }
    found: dict[bytes, Any] = {}
    with CopyReader(file) as reader:
        for chunk in reader.chunks():
            for key, data in zip(chunk.keys, chunk.rows, strict=True):
                row, is_tombstone = read_row(data)
                found[key] = ((row.ts, *reader.origins[row.origin], row.oseq), row.value, is_tombstone)
    assert found == expected
    assert list(found) == sorted(found)
    assert description.rows == len(found) == 10


def test_what_is_local_stays_out(peers: Peers, file: Path) -> None:
    peers.a.create_table("note", is_local=True)
    peers.a.put("note", {"id": 1})
    peers.a.put("dog", {"id": 1})
    peers.a.write(lambda tx: put_dog(tx, 2), is_local=True)
    description = peers.a.write_copy(file)
    assert description.rows == 1
    assert [table.definition.name for table in description.tables] == ["dog"]


def test_an_expired_row_is_written_as_it_is(peers: Peers, file: Path) -> None:
    peers.a.put("dog", {"id": 1}, expires_at_ms=5)
    peers.a.write_copy(file)
    with CopyReader(file) as reader:
        ((data,),) = [chunk.rows for chunk in reader.chunks()]
    row, is_tombstone = read_row(data)
    assert (row.expires_at_ms, is_tombstone) == (5, False)


def test_the_description_tells_vector_tables_and_size(peers: Peers, file: Path) -> None:
    peers.b.put("dog", {"id": 1})
    peers.a.take_stream(peers.b)
    description = peers.a.write_copy(file)
    assert description.publisher == peers.a.origin
    assert {origin: oseq for origin, (oseq, _) in description.v0.items()} == peers.a.vector()
    assert [(table.definition.name, table.is_complete) for table in description.tables] == [("dog", True)]
    assert description.size_bytes == file.stat().st_size
    assert description.digest == file_digest(file)


def test_a_description_travels_as_plain_values(peers: Peers, file: Path) -> None:
    mark = Mark(origin=peers.b.origin, oseq=0, ts=9, vector={peers.a.origin: 1})
    peers.a.maintain(lambda state: state.put("meta", mark_key("b"), mark.encoded()))
    description = peers.a.write_copy(file)
    assert description.marks == {"b": mark}
    assert CopyDescription.decoded(codec.decode(codec.encode(description.encoded()))) == description


def test_origins_that_are_taken_in_part_are_not_in_the_vector(peers: Peers, file: Path) -> None:
    peers.b.put("dog", {"id": 1})
    peers.a.take_stream(peers.b)
    description = peers.a.write_copy(file, left_out=[peers.b.origin])
    assert peers.b.origin not in description.v0
    assert description.rows == 1


def test_tables_dropped_or_kept_local_are_named(peers: Peers, file: Path) -> None:
    peers.a.create_table("note", is_local=True)
    peers.a.create_table("cat")
    peers.a.write(lambda tx: tx.drop_table(tx.table("cat")))
    peers.a.create_table("owl")
    peers.a.write(lambda tx: tx.drop_table(tx.table("owl")))
    peers.a.create_table("owl")
    assert peers.a.write_copy(file).not_kept == ("cat", "note")


def test_a_snapshot_that_is_behind_what_is_needed_is_refused(peers: Peers, file: Path) -> None:
    wanted = peers.a.vector()[peers.a.origin] + 1
    with pytest.raises(VectorBehind, match=f"up to {wanted}"):
        peers.a.write_copy(file, need={peers.a.origin: wanted})
    assert not file.exists()
    peers.a.put("dog", {"id": 1})
    assert peers.a.write_copy(file, need={peers.a.origin: wanted}).rows == 1


def test_a_full_disk_leaves_no_file(peers: Peers, file: Path) -> None:
    file.symlink_to("/dev/full")
    with pytest.raises(DiskFull):
        peers.a.write_copy(file)
    assert not file.is_symlink()


def test_no_snapshot_stays_open(peers: Peers, file: Path) -> None:
    peers.a.put("dog", {"id": 1})
    peers.a.write_copy(file)
    assert peers.a.environment.resize_map(peers.a.environment.map_bytes), "which waits for all of them to end"


def test_the_file_is_private(peers: Peers, file: Path) -> None:
    peers.a.write_copy(file)
    assert file.stat().st_mode & 0o077 == 0


def test_chunks_are_bounded_by_rows_and_by_bytes(peers: Peers, file: Path) -> None:
    peers.a.put("dog", *({"id": number} for number in range(2 * CHUNK_ROWS + 1)))
    large = "x" * (CHUNK_BYTES // 3)
    peers.a.create_table("cat", Attribute(name="id", is_primary_key=True), Attribute(name="text"))
    for number in range(7):
        peers.a.put("cat", {"id": number, "text": large})
    peers.a.put("cat", {"id": 7, "text": "y" * (2 * CHUNK_BYTES)})
    peers.a.write_copy(file)
    with CopyReader(file) as reader:
        shapes = [(chunk.table, len(chunk.keys)) for chunk in reader.chunks()]
    assert shapes == [(0, CHUNK_ROWS), (0, CHUNK_ROWS), (0, 1), (1, 2), (1, 2), (1, 2), (1, 1), (1, 1)]


def test_reading_goes_on_from_any_chunk(peers: Peers, file: Path) -> None:
    peers.a.put("dog", *({"id": number} for number in range(3 * CHUNK_ROWS)))
    peers.a.write_copy(file)
    every = keys_in(file)
    with CopyReader(file) as reader:
        places = [chunk.following for chunk in reader.chunks()]
    assert [keys_in(file, place) for place in places] == [every[CHUNK_ROWS:], every[2 * CHUNK_ROWS :], []]


@functools.cache
def sample() -> bytes:
    """A small copy with rows, tombstones, expiry and a residency."""
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer.at(Path(folder) / "a", node="a")
        peer.create_table("dog")
        peer.put("dog", *({"id": number, "name": "x" * number} for number in range(6)))
        peer.put("dog", {"id": 9}, expires_at_ms=1 << 50)
        peer.delete("dog", 2, 3)
        peer.write_copy(Path(folder) / "copy")
        peer.close()
        return (Path(folder) / "copy").read_bytes()


def read_all(file: Path) -> list[tuple[int, bytes]]:
    with CopyReader(file) as reader:
        for chunk in reader.chunks():
            for data in chunk.rows:
                read_row(data)
    return keys_in(file)


def test_a_file_that_ends_early_is_never_read_as_whole(file: Path) -> None:
    whole = sample()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(Corrupt):
            read_all(file)


def test_a_file_that_goes_on_behind_its_end_is_refused(file: Path) -> None:
    file.write_bytes(sample() + bytes(1))
    with pytest.raises(Corrupt):
        read_all(file)


@given(at=st.integers(0, 1 << 16), value=st.integers(0, 255), cut=st.integers(0, 40), junk=st.binary(max_size=40))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    file: Path, at: int, value: int, cut: int, junk: bytes
) -> None:
    damaged = bytearray(sample())
    at %= len(damaged)
    damaged[at] = value
    damaged[at + 1 : at + 1 + cut] = junk
    file.write_bytes(damaged)
    try:
        read_all(file)
    except Corrupt:
        pass


def part(value: Any) -> bytes:
    encoded = codec.encode(value)
    return len(encoded).to_bytes(4) + encoded


HEADER = part(["logmesh copy", 1, "c", [[1, "a", "s"]]])
ROW = bytes(21) + b"\xa0"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xff\xff\xff",
        part(["another file", 1, "c", []]),
        part(["logmesh copy", 2, "c", []]),
        part(["logmesh copy", 1, "../c", []]),
        part(["logmesh copy", 1, "c", [[1, "a"]]]),
        part(["logmesh copy", 1, "c", [[1, "a", "s"], [1, "b", "s"]]]),
        part(["logmesh copy", 1, "c", {}]),
        HEADER + b"\x7f\xff\xff\xff",
        HEADER + part({}),
        HEADER + part([1]),
        HEADER + part([0, []]),
        HEADER + part([0, [b"k"]]),
        HEADER + part([0, [b"k", "row"]]),
        HEADER + part([0, [b"", ROW]]),
        HEADER + part([0, [b"k" * 512, ROW]]),
        HEADER + part([0, [b"k", b"short"]]),
        HEADER + part([0, [b"k", ROW, b"k", ROW]]),
        HEADER + part([0, [b"l", ROW, b"k", ROW]]),
        HEADER + part([-1, [b"k", ROW]]),
        HEADER + part([True, [b"k", ROW]]),
        HEADER + part([0, [member for number in range(257) for member in (number.to_bytes(2), ROW)]]),
        HEADER + part([]) + part([]),
    ],
)
def test_what_is_no_copy_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Corrupt):
        read_all(file)


def test_a_row_of_a_newer_version_is_refused() -> None:
    with pytest.raises(Corrupt, match="newer version"):
        read_row(b"\x40" + ROW)


def test_a_place_before_the_first_chunk_is_refused(file: Path) -> None:
    file.write_bytes(sample())
    with pytest.raises(Corrupt):
        keys_in(file, 3)


@pytest.mark.parametrize("read", [CopyReader, file_digest])
def test_a_file_that_is_gone_is_a_damaged_copy(file: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(Corrupt):
        read(file)


def test_a_closed_reader_holds_no_descriptor(file: Path) -> None:
    file.write_bytes(sample())
    before = len(os.listdir("/proc/self/fd"))
    with CopyReader(file):
        pass
    file.write_bytes(b"")
    with pytest.raises(Corrupt):
        CopyReader(file)
    assert len(os.listdir("/proc/self/fd")) == before


def plain_description() -> dict[str, Any]:
    return CopyDescription(
        copy_id="c", publisher=Origin("a", "s"), v0={}, marks={}, tables=(), rows=0, size_bytes=9, digest=bytes(16)
    ).encoded()


TABLE = {"name": "dog", "primary_key": "id", "attributes": [{"name": "id"}], "created": 0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("copy", "../../x"),
        ("copy", ".."),
        ("copy", 7),
        ("copy", "x" * 65),
        ("publisher", ["a"]),
        ("publisher", ["a", 1]),
        ("publisher", None),
        ("v0", {}),
        ("v0", [["a", "s", -1, bytes(16)]]),
        ("v0", [["a", "s", 1 << 64, bytes(16)]]),
        ("v0", [["a", "s", 1, b"short"]]),
        ("v0", [["a", "s", True, bytes(16)]]),
        ("v0", [["a", "s", 1, bytes(16)]] * 2),
        ("v0", [["", "s", 1, bytes(16)]]),
        ("v0", [["a", "s", 1]]),
        ("marks", []),
        ("marks", {"a": "text"}),
        ("marks", {"a": b"\xff"}),
        ("marks", {"a": codec.encode(["s", -1, 0, []])}),
        ("marks", {"a": codec.encode(["s", 1, 0, [["b", "s"]]])}),
        ("tables", [[{}, True]]),
        ("tables", [[TABLE, 1]]),
        ("tables", [TABLE]),
        ("tables", [[TABLE, True]] * 2),
        ("not_kept", "dog"),
        ("not_kept", [1]),
        ("rows", -1),
        ("rows", "1"),
        ("bytes", 1.5),
        ("sum", "digest"),
    ],
)
def test_a_damaged_description_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Corrupt):
        CopyDescription.decoded({**plain_description(), name: value})


@pytest.mark.parametrize("plain", [None, [], "text", {}])
def test_something_else_than_a_description_is_refused(plain: Any) -> None:
    with pytest.raises(Corrupt):
        CopyDescription.decoded(plain)


def test_a_description_covers_a_vector_that_is_nowhere_ahead() -> None:
    a, b = Origin("a", "s"), Origin("b", "s")
    description = replace(CopyDescription.decoded(plain_description()), v0={a: (5, bytes(16))})
    assert description.covers({})
    assert description.covers({a: 5, b: 0})
    assert not description.covers({a: 6})
    assert not description.covers({a: 5, b: 1})
