"""A commit log entry: one transaction's writes (or schema changes) with the header that orders and chains it.

What is stored under an ``lseq`` is

    u32 length of local part | local part | u32 length of header | header | payload

each part CBOR. *Header and payload* are made once at the origin and never change: they are relayed byte for byte.
What differs per node (commit time here, the previous ``lseq`` of each record) is the local part, beside them. A
*reduced* entry says so there: its payload lost some writes, its header and so its place in the chain are whole.

Header: ``o`` [node name, store id] of the origin, ``n`` oseq (0: local only), ``ts``, ``user``, ``k`` kind, ``q``
operation as requested, ``pd`` digest of the payload, ``ch`` chain digest = H(previous entry's ``ch`` of this origin,
header without ``ch``). Unknown fields are kept.

Payload of kind ``tx``: a list of writes ``{t table, op, k key, v image, a changed attributes, p [ts, name, store, oseq]
of the version it replaced, x expires at, r residency, s restated stamp}``, at most one per record; ``v`` is the
record's CBOR as a byte string, so that storing a write decodes no record. Kind ``schema``: a list of changes
(``storage/schema.py``).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from storage import codec
from storage.errors import Corrupt

Kind: TypeAlias = Literal["tx", "schema", "mark", "skip"]

DIGEST_BYTES: Final = 16
NO_CHAIN: Final = bytes(DIGEST_BYTES)
"""The chain digest before an origin's first entry."""
_LENGTH: Final = struct.Struct(">I")


class Origin(NamedTuple):
    """Node and database life that first committed an entry. Order: by node name, then store id."""

    node: str
    store: str


class Stamp(NamedTuple):
    """What orders two writes of a record; compares as a tuple."""

    ts: int
    node: str
    store: str
    oseq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    origin: Origin
    oseq: int
    ts: int
    kind: Kind
    user: str | None
    operation: str | None
    payload_digest: bytes
    chain: bytes
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored entry. ``previous`` holds, write by write, the ``lseq`` that wrote the record before (0: none here).

    ``is_reduced``: part of the payload is gone, so it no longer has the digest that the header names.
    """

    lseq: int
    committed_at: int
    previous: tuple[int, ...]
    header: Header
    payload: bytes = field(repr=False)
    is_reduced: bool = False

    def writes(self) -> list[dict[str, Any]]:
        """The decoded payload."""
        decoded: list[dict[str, Any]] = codec.decode(self.payload)
        return decoded


def digest(*parts: bytes) -> bytes:
    return blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


def encode_header(
    *,
    origin: Origin,
    oseq: int,
    ts: int,
    kind: Kind,
    user: str | None,
    operation: str | None,
    payload: bytes,
    previous_chain: bytes,
) -> tuple[bytes, bytes]:
    """``(header bytes, chain digest)`` of a new entry. A local-only entry (oseq 0) is in no chain."""
    fields: dict[str, Any] = {"o": list(origin), "n": oseq, "ts": ts, "k": kind, "pd": digest(payload)}
    if user is not None:
        fields["user"] = user
    if operation is not None:
        fields["q"] = operation
    chain = chain_digest(previous_chain, fields) if oseq else NO_CHAIN
    return codec.encode({**fields, "ch": chain}), chain


def chain_digest(previous_chain: bytes, fields: dict[str, Any]) -> bytes:
    """H(previous chain digest, header without ``ch``), over the header's fields in the order they stand."""
    return digest(previous_chain, codec.encode({name: value for name, value in fields.items() if name != "ch"}))


def encode_stored(
    *, committed_at: int, previous: list[int], header: bytes, payload: bytes, is_reduced: bool = False
) -> bytes:
    local = codec.encode([committed_at, previous, True] if is_reduced else [committed_at, previous])
    return b"".join((_LENGTH.pack(len(local)), local, _LENGTH.pack(len(header)), header, payload))


def encode_reduced(entry: Entry, keep: Callable[[dict[str, Any]], bool]) -> bytes | None:
    """The stored form of ``entry`` with only the writes (or schema changes) that ``keep`` wants; None: it loses
    nothing.
    """
    writes = entry.writes()
    previous = entry.previous or (0,) * len(writes)
    kept = [(write, before) for write, before in zip(writes, previous, strict=True) if keep(write)]
    if len(kept) == len(writes):
        return None
    return encode_stored(
        committed_at=entry.committed_at,
        previous=[before for _, before in kept] if entry.previous else [],
        header=entry.header.raw,
        payload=codec.encode([write for write, _ in kept]),
        is_reduced=True,
    )


def decode_header(raw: bytes) -> Header:
    fields = codec.decode(raw)
    try:
        return Header(
            origin=Origin(*fields["o"]),
            oseq=fields["n"],
            ts=fields["ts"],
            kind=fields["k"],
            user=fields.get("user"),
            operation=fields.get("q"),
            payload_digest=fields["pd"],
            chain=fields["ch"],
            raw=raw,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise Corrupt(f"log entry header is damaged: {error}") from error


def decode_stored(lseq: int, data: bytes) -> Entry:
    """Raises ``Corrupt`` where lengths or header do not fit."""
    try:
        (local_bytes,) = _LENGTH.unpack_from(data)
        header_at = _LENGTH.size + local_bytes
        (header_bytes,) = _LENGTH.unpack_from(data, header_at)
    except struct.error as error:
        raise Corrupt(f"log entry {lseq} is too short: {error}") from error
    payload_at = header_at + _LENGTH.size + header_bytes
    try:
        committed_at, previous, *reduced = codec.decode(data[_LENGTH.size : header_at])
        links = tuple(previous)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"local part of log entry {lseq} is damaged: {error}") from error
    return Entry(
        lseq=lseq,
        committed_at=committed_at,
        previous=links,
        header=decode_header(data[header_at + _LENGTH.size : payload_at]),
        payload=data[payload_at:],
        is_reduced=bool(reduced),
    )
