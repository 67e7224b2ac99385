"""The stored form of a row and of a tombstone: who wrote it last, when it expires, and the record's bytes.

====== ===== ==========================================================================
offset bytes content
====== ===== ==========================================================================
0      1     flags: EXPIRES 1, BY 2, RESIDENCY 4, NOT_RESIDENT 8 (16: kept for patches)
1      8     ``ts`` of the winning write, microseconds
9      4     origin of the winning write, this node's short id
13     8     ``oseq`` of the winning write; 0: local only, never leaves this node
21     8     ``lseq`` of the entry that wrote it here; 0 after a copy
29     8     EXPIRES: instant, milliseconds since 1970
…      12    BY: origin and oseq of the restatement that brought it last
…      2+n   RESIDENCY: length and CBOR list of the nodes that hold the record in full; none: all of them
…      n     CBOR of the record; for a tombstone CBOR of the primary key
====== ===== ==========================================================================
"""

import struct
from typing import Any, Final, NamedTuple

from storage import codec
from storage.errors import Corrupt

EXPIRES: Final = 1
BY: Final = 2
RESIDENCY: Final = 4
NOT_RESIDENT: Final = 8

_HEAD: Final = struct.Struct(">BQIQQ")
_EXPIRY: Final = struct.Struct(">Q")
_BY: Final = struct.Struct(">IQ")
_LENGTH: Final = struct.Struct(">H")
HEAD_BYTES: Final = _HEAD.size
RESIDENCY_BYTES_MAX: Final = (1 << 16) - 1
"""What the length before an encoded residency can say."""


class Row(NamedTuple):
    """One row or tombstone as read. ``origin`` is this node's short id of it; ``value`` is the record's CBOR.

    A named tuple rather than a frozen dataclass: point reads make one each, and it costs a third.
    """

    ts: int
    origin: int
    oseq: int
    lseq: int
    value: bytes
    expires_at_ms: int | None = None
    by: tuple[int, int] | None = None
    residency: bytes = b""
    is_resident: bool = True
    """False where ``value`` is only what is indexed: the record is held in full by the nodes of its residency."""

    def is_expired(self, now_ms: int) -> bool:
        return self.expires_at_ms is not None and self.expires_at_ms <= now_ms

    def decode(self) -> Any:
        """The record; for a tombstone the primary key."""
        return codec.decode(self.value)


def encode_head(ts: int, origin: int, oseq: int, lseq: int, expires_at_ms: int | None = None) -> bytes:
    """What stands before the value of a row without restatement and residency: equal for all rows of one write."""
    if expires_at_ms is None:
        return _HEAD.pack(0, ts, origin, oseq, lseq)
    return _HEAD.pack(EXPIRES, ts, origin, oseq, lseq) + _EXPIRY.pack(expires_at_ms)


def encode_row(row: Row) -> bytes:
    flags = (
        (EXPIRES if row.expires_at_ms is not None else 0)
        | (BY if row.by else 0)
        | (RESIDENCY if row.residency else 0)
        | (0 if row.is_resident else NOT_RESIDENT)
    )
    parts = [_HEAD.pack(flags, row.ts, row.origin, row.oseq, row.lseq)]
    if row.expires_at_ms is not None:
        parts.append(_EXPIRY.pack(row.expires_at_ms))
    if row.by:
        parts.append(_BY.pack(*row.by))
    if row.residency:
        parts.append(_LENGTH.pack(len(row.residency)) + row.residency)
    return b"".join((*parts, row.value))


def decode_row(data: bytes) -> Row:
    """Raises ``Corrupt`` when the bytes end too early."""
    try:
        flags, ts, origin, oseq, lseq = _HEAD.unpack_from(data)
        if not flags:
            return Row(ts, origin, oseq, lseq, data[HEAD_BYTES:])
        return _decode_flagged(data, flags, ts, origin, oseq, lseq)
    except struct.error as error:
        raise Corrupt(f"stored row is too short: {error}") from error


def _decode_flagged(data: bytes, flags: int, ts: int, origin: int, oseq: int, lseq: int) -> Row:
    at = HEAD_BYTES
    expires_at_ms: int | None = None
    by: tuple[int, int] | None = None
    residency = b""
    if flags & EXPIRES:
        (expires_at_ms,) = _EXPIRY.unpack_from(data, at)
        at += _EXPIRY.size
    if flags & BY:
        by = _BY.unpack_from(data, at)
        at += _BY.size
    if flags & RESIDENCY:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        residency = data[at : at + length]
        at += length
    return Row(ts, origin, oseq, lseq, data[at:], expires_at_ms, by, residency, not flags & NOT_RESIDENT)
