"""Each kind of damage, done by hand with raw LMDB, is named by the checker, and nothing else is."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage import codec
from storage.checker import Problem, check_database
from storage.commit_log import HEAD_KEY, Head, Position
from storage.data_file import DATA_FILE, STARTS_FILE
from storage.entry import decode_stored, digest, encode_stored
from storage.environment import Environment
from storage.maintenance import trim_log
from storage.record import decode_row, encode_row
from storage.schema import Attribute, Table
from storage.transaction import stored_key_of
from tests.storage.opened import Opened, put_dog


class Damage:
    """Raw access to an open database, one LMDB transaction for each change."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.environment: Environment = opened.environment
        self.dog: Table = opened.table("dog")

    @property
    def rows(self) -> str:
        return f"p{self.dog.rows_id}"

    @property
    def tombstones(self) -> str:
        return f"p{self.dog.tombstones_id}"

    def index(self, attribute: str) -> str:
        return f"i{self.dog.index_ids[attribute]}"

    def put(self, handle: str, key: bytes, value: bytes) -> None:
        with self.environment.lmdb.begin(write=True) as txn:
            txn.put(key, value, db=self.environment.handles[handle])

    def delete(self, handle: str, key: bytes, value: bytes = b"") -> None:
        with self.environment.lmdb.begin(write=True) as txn:
            assert txn.delete(key, value, db=self.environment.handles[handle])

    def get(self, handle: str, key: bytes) -> bytes:
        with self.environment.lmdb.begin() as txn:
            data = txn.get(key, db=self.environment.handles[handle])
        assert isinstance(data, bytes)
        return data

    def first_pair(self, handle: str) -> tuple[bytes, bytes]:
        with self.environment.lmdb.begin() as txn, txn.cursor(db=self.environment.handles[handle]) as cursor:
            assert cursor.first()
            key, value = cursor.item()
            return key, value

    def change_row(self, key: Any, handle: str | None = None, **changes: Any) -> None:
        place = handle or self.rows
        row = decode_row(self.get(place, stored_key_of(key)))
        self.put(place, stored_key_of(key), encode_row(row._replace(**changes)))

    def change_entry(self, lseq: int, **changes: Any) -> None:
        """Store entry ``lseq`` with other parts than it has."""
        entry = decode_stored(lseq, self.get("log", lseq.to_bytes(8)))
        parts: dict[str, Any] = {
            "committed_at": entry.committed_at,
            "previous": list(entry.previous),
            "header": entry.header.raw,
            "payload": entry.payload,
            **changes,
        }
        self.put("log", lseq.to_bytes(8), encode_stored(**parts))

    def change_header(self, lseq: int, **fields: Any) -> None:
        entry = decode_stored(lseq, self.get("log", lseq.to_bytes(8)))
        self.change_entry(lseq, header=codec.encode({**codec.decode(entry.header.raw), **fields}))

    def change_position(self, **changes: Any) -> None:
        key = self.environment.origin_id.to_bytes(4)
        position = Position.decoded(self.get("origins", key))
        self.put("origins", key, position._replace(**changes).encoded())

    def change_head(self, **changes: Any) -> None:
        self.put("meta", HEAD_KEY, Head.decoded(self.get("meta", HEAD_KEY))._replace(**changes).encoded())

    def change_table(self, **changes: Any) -> None:
        key = self.dog.id.to_bytes(4)
        self.put("tables", key, codec.encode({**codec.decode(self.get("tables", key)), **changes}))

    def change_pool(self, kind: str, number: int, free: list[int]) -> None:
        self.put("meta", b"pool", codec.encode({**codec.decode(self.get("meta", b"pool")), kind: [number, free]}))

    def problems(self) -> list[Problem]:
        return check_database(self.environment, now_ms=self.opened.now_us // 1000)

    def found(self) -> set[tuple[str, str | None]]:
        return {(problem.kind, problem.table) for problem in self.problems()}


@pytest.fixture
def damage(folder: Path) -> Iterator[Damage]:
    """A database with something of everything: entries 1 table, 2 attributes, 3 to 7 writes."""
    opened = Opened.at(folder)
    opened.create_table("dog")
    opened.put("dog", {"id": 1, "name": "Tilda"}, {"id": 2, "name": "Rex", "tags": ["a", "b"]}, {"id": 3})
    opened.put("dog", {"id": 2, "name": "Max"})
    opened.delete("dog", 3)
    opened.put("dog", {"id": 4}, expires_at_ms=opened.now_us // 1000 + 60_000)
    opened.create_table("cat")
    damage = Damage(opened)
    assert damage.problems() == []
    yield damage
    opened.close()


def other_value(record: dict[str, Any]) -> bytes:
    return codec.encode({**record, "name": "Other"})


# -- rows and tombstones -----------------------------------------------------------------------------------------------


def test_a_row_that_cannot_be_decoded(damage: Damage) -> None:
    damage.put(damage.rows, stored_key_of(1), b"short")
    assert ("row", "dog") in damage.found()


def test_a_record_that_cannot_be_decoded(damage: Damage) -> None:
    damage.change_row(1, value=b"\xff\xff")
    assert ("row", "dog") in damage.found()


def test_a_row_that_holds_no_record(damage: Damage) -> None:
    damage.change_row(1, value=codec.encode([1]))
    assert ("row", "dog") in damage.found()


def test_a_row_under_another_key_than_its_own(damage: Damage) -> None:
    damage.put(damage.rows, stored_key_of(9), damage.get(damage.rows, stored_key_of(1)))
    messages = [problem.message for problem in damage.problems() if problem.kind == "row"]
    assert messages == ["it stands under another key than its own, 1"]


def test_a_row_of_an_unknown_origin(damage: Damage) -> None:
    damage.change_row(1, origin=9)
    assert ("row", "dog") in damage.found()


def test_a_row_ahead_of_its_origins_position(damage: Damage) -> None:
    damage.change_row(1, oseq=99)
    assert ("row", "dog") in damage.found()


def test_a_row_from_behind_the_end_of_the_log(damage: Damage) -> None:
    damage.change_row(1, lseq=99)
    assert ("row", "dog") in damage.found()


def test_a_tombstone_that_cannot_be_decoded(damage: Damage) -> None:
    damage.put(damage.tombstones, stored_key_of(3), b"short")
    assert ("tombstone", "dog") in damage.found()


def test_a_tombstone_under_another_key_than_its_own(damage: Damage) -> None:
    damage.change_row(3, damage.tombstones, value=codec.encode(8))
    assert ("tombstone", "dog") in damage.found()


def test_a_tombstone_beside_a_row(damage: Damage) -> None:
    tombstone = decode_row(damage.get(damage.tombstones, stored_key_of(3)))
    damage.put(damage.tombstones, stored_key_of(1), encode_row(tombstone._replace(value=codec.encode(1))))
    assert ("tombstone", "dog") in damage.found()


# -- rows against the log ----------------------------------------------------------------------------------------------


def test_a_row_that_the_log_never_wrote(damage: Damage) -> None:
    row = decode_row(damage.get(damage.rows, stored_key_of(1)))
    damage.put(damage.rows, stored_key_of(9), encode_row(row._replace(value=codec.encode({"id": 9}))))
    (problem,) = [problem for problem in damage.problems() if problem.kind == "fold"]
    assert (problem.table, problem.key) == ("dog", stored_key_of(9).hex())


def test_a_row_with_other_bytes_than_its_write(damage: Damage) -> None:
    record = codec.decode(decode_row(damage.get(damage.rows, stored_key_of(1))).value)
    damage.change_row(1, value=other_value(record))
    assert {("fold", "dog"), ("index", "dog"), ("digest", "dog")} <= damage.found()


def test_a_row_that_is_older_than_the_log(damage: Damage) -> None:
    before = damage.get("log", (3).to_bytes(8))
    write = next(write for write in decode_stored(3, before).writes() if write["k"] == 2)
    row = decode_row(damage.get(damage.rows, stored_key_of(2)))
    older = row._replace(ts=row.ts - 1000, oseq=row.oseq - 1, lseq=3, value=write["v"])
    damage.put(damage.rows, stored_key_of(2), encode_row(older))
    messages = [problem.message for problem in damage.problems() if problem.kind == "fold"]
    assert messages == ["it is older than its write in entry 4"]


def test_a_row_that_is_missing(damage: Damage) -> None:
    damage.delete(damage.rows, stored_key_of(1))
    assert ("fold", "dog") in damage.found()


def test_a_tombstone_that_is_missing(damage: Damage) -> None:
    damage.delete(damage.tombstones, stored_key_of(3))
    assert damage.found() == {("fold", "dog")}


def test_a_deleted_record_that_is_back(damage: Damage) -> None:
    write = next(write for write in decode_stored(3, damage.get("log", (3).to_bytes(8))).writes() if write["k"] == 3)
    tombstone = decode_row(damage.get(damage.tombstones, stored_key_of(3)))
    damage.delete(damage.tombstones, stored_key_of(3))
    damage.put(damage.rows, stored_key_of(3), encode_row(tombstone._replace(value=write["v"])))
    assert ("fold", "dog") in damage.found()


def test_a_row_that_says_another_entry_wrote_it(damage: Damage) -> None:
    damage.change_row(1, lseq=4)
    assert damage.found() == {("fold", "dog")}


def test_a_row_with_another_expiry_than_its_write(damage: Damage) -> None:
    damage.change_row(4, expires_at_ms=5)
    assert {("fold", "dog"), ("expiry", "dog")} <= damage.found()


# -- indexes, expiry, digests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["name", "tags", "__updatedtime__"])
def test_an_index_entry_that_is_missing(damage: Damage, attribute: str) -> None:
    damage.delete(damage.index(attribute), *damage.first_pair(damage.index(attribute)))
    assert damage.found() == {("index", "dog")}


def test_a_count_of_further_entries_that_is_not_that_of_the_rows(damage: Damage) -> None:
    number = int(damage.index("tags")[1:])
    damage.put("extras", number.to_bytes(4), (77).to_bytes(8))
    (problem,) = damage.problems()
    assert (problem.kind, problem.table) == ("index", "dog")
    assert "further entries of 'tags'" in problem.message


@pytest.mark.parametrize("key", [1, 77])
def test_an_index_entry_that_leads_to_no_such_row(damage: Damage, key: int) -> None:
    damage.put(damage.index("name"), stored_key_of("Nobody"), stored_key_of(key))
    (problem,) = damage.problems()
    assert (problem.kind, problem.table, problem.key) == ("index", "dog", stored_key_of(key).hex())


def test_an_index_entry_that_leads_to_the_wrong_row(damage: Damage) -> None:
    value, stored_key = damage.first_pair(damage.index("name"))
    damage.delete(damage.index("name"), value, stored_key)
    damage.put(damage.index("name"), value, stored_key_of(4))
    assert damage.found() == {("index", "dog")}


def test_a_row_that_is_not_in_the_expiry_order(damage: Damage) -> None:
    damage.delete("expiry", *damage.first_pair("expiry"))
    assert damage.found() == {("expiry", "dog")}


def test_an_expiry_that_leads_to_no_such_row(damage: Damage) -> None:
    damage.put("expiry", (7).to_bytes(8) + damage.dog.id.to_bytes(4), stored_key_of(1))
    assert damage.found() == {("expiry", "dog")}


def test_an_expiry_of_a_table_that_is_not_there(damage: Damage) -> None:
    damage.put("expiry", (7).to_bytes(8) + (99).to_bytes(4), stored_key_of(1))
    assert damage.found() == {("expiry", None)}


def test_a_digest_that_is_not_that_of_the_rows(damage: Damage) -> None:
    damage.put("digests", damage.dog.id.to_bytes(4), bytes(15) + b"\x01")
    assert damage.found() == {("digest", "dog")}


def test_a_digest_of_a_table_that_is_not_there(damage: Damage) -> None:
    damage.put("digests", (99).to_bytes(4), bytes(16))
    assert damage.found() == {("digest", None)}


# -- log ---------------------------------------------------------------------------------------------------------------


def test_an_entry_that_is_missing(damage: Damage) -> None:
    damage.delete("log", (4).to_bytes(8))
    assert {("log", None), ("chain", None)} <= damage.found()


def test_the_newest_entry_missing(damage: Damage) -> None:
    damage.delete("log", (7).to_bytes(8))
    assert {("log", None), ("position", None)} <= damage.found()


def test_an_entry_that_cannot_be_decoded(damage: Damage) -> None:
    damage.put("log", (4).to_bytes(8), b"\x00\x00\x00\x01")
    assert ("log", None) in damage.found()


def test_a_payload_that_was_altered(damage: Damage) -> None:
    entry = decode_stored(4, damage.get("log", (4).to_bytes(8)))
    damage.change_entry(4, payload=entry.payload.replace(b"Max", b"Mox"))
    assert ("payload", None) in damage.found()


def test_a_payload_that_was_altered_with_its_digest(damage: Damage) -> None:
    entry = decode_stored(4, damage.get("log", (4).to_bytes(8)))
    payload = entry.payload.replace(b"Max", b"Mox")
    damage.change_entry(4, payload=payload)
    damage.change_header(4, pd=digest(payload))
    assert {("chain", None), ("fold", "dog")} <= damage.found()


@pytest.mark.parametrize("fields", [{"user": "mallory"}, {"ts": 5}, {"q": "insert"}, {"ch": bytes(16)}, {"new": 1}])
def test_a_header_that_was_altered(damage: Damage, fields: dict[str, Any]) -> None:
    damage.change_header(4, **fields)
    assert ("chain", None) in damage.found()


def test_a_position_that_was_used_twice(damage: Damage) -> None:
    damage.change_header(4, n=3)
    assert ("chain", None) in damage.found()


def test_a_time_ahead_of_the_clock(damage: Damage) -> None:
    damage.change_head(last_ts=1)
    assert ("clock", None) in damage.found()


@pytest.mark.parametrize("previous", [[0], [2], [1], [4], [99]])
def test_a_link_that_does_not_lead_to_what_was_replaced(damage: Damage, previous: list[int]) -> None:
    damage.change_entry(4, previous=previous)
    expected = set() if previous == [0] else {("link", "dog")}
    assert damage.found() == expected


def test_links_that_do_not_fit_the_writes(damage: Damage) -> None:
    damage.change_entry(4, previous=[3, 3])
    assert ("log", None) in damage.found()


# -- counters, positions, vectors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("lseq", [3, 99])
def test_an_lseq_counter_that_is_not_the_logs_end(damage: Damage, lseq: int) -> None:
    damage.change_head(lseq=lseq)
    assert ("log", None) in damage.found()


@pytest.mark.parametrize("changes", [{"oseq": 3}, {"oseq": 99}, {"chain": bytes(16)}, {"floor": 99}])
def test_a_position_that_is_not_the_logs(damage: Damage, changes: dict[str, Any]) -> None:
    damage.change_position(**changes)
    assert ("position", None) in damage.found()


def test_a_floor_below_what_was_trimmed(damage: Damage) -> None:
    damage.opened.maintain(lambda state: trim_log(state, before_us=damage.opened.now_us + 1, limit=2))
    assert damage.problems() == []
    damage.change_position(floor=1)
    assert ("chain", None) in damage.found()


def test_a_reduced_entry_above_the_floor(damage: Damage) -> None:
    damage.change_entry(4, payload=codec.encode([]), previous=[], is_reduced=True)
    assert ("position", None) in damage.found()
    damage.change_position(floor=4)
    assert damage.problems() == []


@pytest.mark.parametrize(
    "data", [None, b"\xff", codec.encode([]), codec.encode([["n1", "other", 5]]), codec.encode([[1, 2]])]
)
def test_a_kept_vector_that_is_missing_or_wrong(damage: Damage, data: bytes | None) -> None:
    for _ in range(3):
        damage.opened.write_all([partial(put_dog, key=key) for key in range(400)])
    assert damage.problems() == []
    if data is None:
        damage.delete("vectors", (1024).to_bytes(8))
    else:
        damage.put("vectors", (1024).to_bytes(8), data)
    assert damage.found() == {("vector", None)}


def test_a_vector_where_none_belongs(damage: Damage) -> None:
    damage.put("vectors", (5).to_bytes(8), codec.encode([]))
    assert damage.found() == {("vector", None)}


# -- layout ------------------------------------------------------------------------------------------------------------


def test_a_format_that_is_not_ours(damage: Damage) -> None:
    damage.put("meta", b"format", b"7")
    assert damage.found() == {("meta", None)}


def test_an_incarnation_that_is_no_origin(damage: Damage) -> None:
    damage.put("meta", b"store", b"other")
    assert ("meta", None) in damage.found()


def test_a_table_definition_that_cannot_be_read(damage: Damage) -> None:
    damage.put("tables", damage.dog.id.to_bytes(4), b"\xff")
    assert ("table", None) in damage.found()


def test_two_tables_in_one_sub_database(damage: Damage) -> None:
    damage.change_table(rows_id=damage.opened.table("cat").rows_id)
    assert ("pool", None) in damage.found()


def test_a_sub_database_that_is_used_and_free(damage: Damage) -> None:
    damage.change_pool("p", 4, [damage.dog.rows_id])
    assert damage.found() == {("pool", None)}


def test_a_free_sub_database_that_is_not_empty(damage: Damage) -> None:
    damage.opened.write(lambda tx: tx.drop_table(tx.table("cat")))
    assert damage.problems() == []
    free = codec.decode(damage.get("meta", b"pool"))["p"][1]
    damage.put(f"p{free[0]}", b"x", b"y")
    assert damage.found() == {("pool", None)}


def test_a_sub_database_that_is_neither_used_nor_free(damage: Damage) -> None:
    damage.opened.write(lambda tx: tx.drop_table(tx.table("cat")))
    number, free = codec.decode(damage.get("meta", b"pool"))["p"]
    damage.change_pool("p", number, free[1:])
    assert damage.found() == {("pool", None)}


def test_a_number_above_the_last_one_given_out(damage: Damage) -> None:
    damage.change_pool("p", 1, [])
    assert damage.found() == {("pool", None)}


def test_a_sub_database_that_does_not_exist(damage: Damage) -> None:
    damage.change_table(rows_id=77)
    assert ("pool", None) in damage.found()


def test_an_index_that_nothing_declares(damage: Damage) -> None:
    damage.change_table(index_ids={**damage.dog.index_ids, "ghost": 1})
    assert ("table", "dog") in damage.found()


def test_an_attribute_that_lacks_its_index(damage: Damage) -> None:
    damage.change_table(index_ids={name: i for name, i in damage.dog.index_ids.items() if name != "tags"})
    assert {("table", "dog"), ("pool", None)} <= damage.found()


# -- what is allowed for -----------------------------------------------------------------------------------------------


def test_a_sound_database_has_no_problems_whatever_was_done_to_it(opened: Opened) -> None:
    opened.create_table("cat", Attribute(name="id", is_primary_key=True), Attribute(name="a", indexed=True))
    for key in range(20):
        opened.put("dog", {"id": key % 7, "n": key, f"x{key % 3}": [key, "a"]})
        opened.put("cat", {"id": key, "a": key})
    opened.write(lambda tx: tx.drop_attribute(tx.table("dog"), "x1"))
    opened.write(lambda tx: tx.drop_attribute(tx.table("cat"), "a"))
    opened.write(lambda tx: tx.add_attribute(tx.table("cat"), Attribute(name="a", indexed=True)))
    opened.write(lambda tx: tx.drop_table(tx.table("dog")))
    opened.create_table("dog")
    opened.put("dog", {"id": 1})
    assert check_database(opened.environment, now_ms=opened.now_us // 1000) == []


# -- the check itself --------------------------------------------------------------------------------------------------


def test_a_check_ends_when_its_list_is_full(damage: Damage) -> None:
    for key in range(50, 80):
        damage.put(damage.rows, stored_key_of(key), b"short")
    assert len(check_database(damage.environment, problems_max=5)) == 5


def test_a_problem_reads_as_one_line() -> None:
    assert str(Problem("index", "dog", "20", "it is gone")) == "index dog [20]: it is gone"
    assert str(Problem("log", None, None, "it is gone")) == "log: it is gone"


def test_a_check_of_a_stopped_database_changes_nothing(folder: Path) -> None:
    opened = Opened.at(folder)
    opened.create_table("dog")
    opened.close()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock.mdb"}
    assert check_database(folder) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock.mdb"} == before
    reopened = Opened.at(folder)
    assert not reopened.environment.is_new_incarnation
    reopened.close()


def test_a_check_of_a_bare_data_file_creates_nothing(folder: Path, tmp_path: Path) -> None:
    opened = Opened.at(folder)
    opened.create_table("dog")
    opened.close()
    (tmp_path / "copy").mkdir()
    shutil.copy(folder / DATA_FILE, tmp_path / "copy")
    assert check_database(tmp_path / "copy") == []
    assert [path.name for path in (tmp_path / "copy").iterdir()] == [DATA_FILE]


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"no database" * 5000])
def test_a_file_that_is_no_database_is_a_problem(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / DATA_FILE).write_bytes(content)
    (problem,) = check_database(folder)
    assert problem.kind == "file"


def test_a_file_that_is_cut_short_is_a_problem(damage: Damage, folder: Path, tmp_path: Path) -> None:
    damage.opened.put("dog", {"id": 5, "text": "x" * 100_000})
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / DATA_FILE).write_bytes((folder / DATA_FILE).read_bytes()[:20_000])
    (problem,) = check_database(tmp_path / "copy")
    assert (problem.kind, "cut short" in problem.message) == ("file", True)


def test_a_folder_without_a_data_file_is_a_problem(tmp_path: Path, is_sound: Callable[[Path], bool]) -> None:
    (problem,) = check_database(tmp_path)
    assert problem.kind == "file"


def test_a_database_is_checked_while_another_process_has_it_open(folder: Path) -> None:
    """The other process opens, writes, and waits to be told to end; this one checks meanwhile."""
    source = (
        "import sys\nfrom pathlib import Path\nfrom tests.storage.opened import Opened\n"
        "opened = Opened.at(Path(sys.argv[1]))\nopened.create_table('dog')\nopened.put('dog', {'id': 1, 'a': 2})\n"
        "print('ready', flush=True)\nsys.stdin.readline()\nopened.put('dog', {'id': 2})\nopened.close()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        starts = (folder / STARTS_FILE).read_text()
        assert check_database(folder) == []
        assert (folder / STARTS_FILE).read_text() == starts
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    assert check_database(folder) == []
