"""Which of two writes of a record had seen the other? Found in the log while an entry is applied.

A write names the version that it replaced at its origin (``p``), that one names its own, and so on: what is reached
this way had been seen. When two writes of a record meet, the smaller stamp is looked for along the greater one's
chain; where it is not found, neither had seen the other and one of two clients lost without knowing: a conflict.
"""

from collections import OrderedDict
from typing import Any, Final, NamedTuple, TypeAlias

from storage.entry import Conflict, Entry, Stamp, decode_stored
from storage.keys import encode_primary_key, stored
from storage.merge import Outcome
from storage.row_merge import Known
from storage.write_state import WriteState

STEPS_MAX: Final = 16
"""Steps along a record's chain: bounds the work for a record with a long history."""
DECODED_MAX: Final = 8
"""Entries kept decoded: the records of one batch tend to have been written by few others."""

_Writes: TypeAlias = dict[tuple[str, bytes], tuple[int, dict[str, Any]]]


class _Version(NamedTuple):
    """A write of the log: what it replaced at its origin, and the entry that wrote the record here before it."""

    replaced: Stamp | None
    previous_lseq: int


class ConflictSearch:
    """For one LMDB transaction. ``table`` and ``stored_key`` name the record in every call."""

    def __init__(self, state: WriteState) -> None:
        self._state = state
        self._decoded: OrderedDict[int, tuple[Entry, _Writes] | None] = OrderedDict()

    def find(
        self,
        table: str,
        stored_key: bytes,
        *,
        write: int,
        incoming: Stamp,
        replaced: Stamp | None,
        known: Known,
        known_stamp: Stamp,
        outcome: Outcome,
    ) -> Conflict | None:
        """The conflict of an incoming write, the ``write``-th of its entry, with what was known of its record.

        ``replaced`` is the version that it replaced at its origin.
        """
        if incoming == known_stamp or outcome == "restated":
            return None
        if outcome == "applied":
            had_seen = replaced == known_stamp
        else:
            had_seen = self._is_behind(table, stored_key, known.row.lseq, incoming)
        return None if had_seen else Conflict(write, known_stamp, known.row.lseq)

    def _is_behind(self, table: str, stored_key: bytes, lseq: int, wanted: Stamp) -> bool:
        """Whether ``wanted`` is reached from the write in entry ``lseq`` over what each write replaced."""
        for _ in range(STEPS_MAX):
            version = self._version(table, stored_key, lseq)
            if version is None or version.replaced is None or version.replaced < wanted:
                return False
            if version.replaced == wanted:
                return True
            lseq = version.previous_lseq
        return False

    def _version(self, table: str, stored_key: bytes, lseq: int) -> _Version | None:
        found = self._writes_of(lseq) if lseq else None
        if found is None:
            return None
        entry, writes = found
        at, write = writes.get((table, stored_key), (0, None))
        if write is None:
            return None
        return _Version(Stamp(*write["p"]) if "p" in write else None, entry.previous[at])

    def _writes_of(self, lseq: int) -> tuple[Entry, _Writes] | None:
        if lseq not in self._decoded:
            data = self._state.get("log", lseq.to_bytes(8))
            self._decoded[lseq] = None if data is None else _decoded(decode_stored(lseq, data))
            if len(self._decoded) > DECODED_MAX:
                self._decoded.popitem(last=False)
        self._decoded.move_to_end(lseq)
        return self._decoded[lseq]


def _decoded(entry: Entry) -> tuple[Entry, _Writes]:
    writes = enumerate(entry.writes())
    return entry, {(write["t"], stored(encode_primary_key(write["k"]))): (at, write) for at, write in writes}
