"""Marks: entries that tell how far a node is, so that others know when a tombstone has done its work.

A mark carries its node's vector. It is ordered among the node's entries like any other, so it vouches for all that
node wrote before it, and its time for the clock of all it writes later. Beside the positions each node keeps the last
mark of every other that it has applied, and its own.

Payload: CBOR list of ``[node, store, oseq]``. Kept in ``meta`` under ``mark:<node>``: CBOR
``[store, oseq, ts, vector]``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from storage import codec
from storage.entry import Origin
from storage.errors import Corrupt
from storage.transaction import ReadTransaction

MARK_KEY: Final = b"mark:"
ORIGINS_MAX: Final = 10_000
"""More origins than any cluster has: bounds what a received mark may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The newest mark of a node: its place among the node's entries, its time, and the node's vector at that time."""

    origin: Origin
    oseq: int
    ts: int
    vector: Mapping[Origin, int]

    def encoded(self) -> bytes:
        return codec.encode([self.origin.store, self.oseq, self.ts, _plain(self.vector)])

    @classmethod
    def decoded(cls, node: str, data: bytes) -> "Mark":
        """Raises ``Corrupt``."""
        try:
            store, oseq, ts, vector = codec.decode(data)
        except (TypeError, ValueError) as error:
            raise Corrupt(f"the mark of '{node}' is damaged: {error}") from error
        if [type(store), type(oseq), type(ts)] != [str, int, int]:
            raise Corrupt(f"the mark of '{node}' is damaged")
        return cls(origin=Origin(node, store), oseq=oseq, ts=ts, vector=_vector(vector))


def encode_mark(vector: Mapping[Origin, int]) -> bytes:
    """The payload of a mark entry."""
    return codec.encode(_plain(vector))


def decode_mark(payload: bytes) -> dict[Origin, int]:
    """The vector of a mark entry. Raises ``Corrupt``."""
    return _vector(codec.decode(payload))


def mark_key(node: str) -> bytes:
    return MARK_KEY + node.encode()


def read_marks(items: Iterator[tuple[bytes, bytes]]) -> dict[str, Mark]:
    """Marks by node, out of ``meta`` from ``MARK_KEY`` on."""
    marks: dict[str, Mark] = {}
    for key, data in items:
        if not key.startswith(MARK_KEY):
            break
        node = key[len(MARK_KEY) :].decode()
        marks[node] = Mark.decoded(node, data)
    return marks


def marks_of(tx: ReadTransaction) -> dict[str, Mark]:
    """The newest mark of each node that was heard, and of this one."""
    with tx.txn.cursor(db=tx.environment.handles["meta"]) as cursor:
        return read_marks(iter(cursor)) if cursor.set_range(MARK_KEY) else {}


def mark_of(tx: ReadTransaction, node: str) -> Mark | None:
    data = tx.txn.get(mark_key(node), db=tx.environment.handles["meta"])
    return None if data is None else Mark.decoded(node, data)


def _plain(vector: Mapping[Origin, int]) -> list[list[Any]]:
    return [[*origin, oseq] for origin, oseq in vector.items()]


def _vector(plain: Any) -> dict[Origin, int]:
    try:
        if len(plain) > ORIGINS_MAX:
            raise Corrupt(f"a mark with {len(plain)} origins")
        vector = {Origin(node, store): oseq for node, store, oseq in plain}
    except (TypeError, ValueError) as error:
        raise Corrupt(f"the vector of a mark is damaged: {error}") from error
    if not all(type(part) is str for origin in vector for part in origin) or not all(
        type(oseq) is int and oseq >= 0 for oseq in vector.values()
    ):
        raise Corrupt("the vector of a mark is damaged")
    return vector
