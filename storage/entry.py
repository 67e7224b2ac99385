"""A commit log entry: one transaction's writes (or schema changes) with the header that orders and chains it.

What is stored under an ``lseq`` is

    u32 length of local part | local part | u32 length of header | header | payload

each part CBOR. *Header and payload* are made once at the origin and never change: they are relayed byte for byte.
What differs per node (commit time here, the previous ``lseq`` of each record, conflicts that were noticed when it
came) is the local part, beside them: ``[committed_at, previous, is_reduced, conflicts]``, the last two left out where
there is nothing to say. A *reduced* entry lost some writes of its payload; its header and so its place in the chain
are whole.

Header: ``o`` [node name, store id] of the origin, ``n`` oseq (0: local only), ``ts``, ``user``, ``k`` kind, ``q``
operation as requested, ``pd`` digest of the payload, ``ch`` chain digest = H(previous entry's ``ch`` of this origin,
header without ``ch``). Unknown fields are kept.

Payload of kind ``tx``: a list of writes ``{t table, op, k key, v image, a changed attributes, p [ts, name, store, oseq]
of the version it replaced, x expires at, r residency, s restated stamp}``, at most one per record; ``v`` is the
record's CBOR as a byte string, so that storing a write decodes no record. Kind ``schema``: a list of changes
(``storage/schema.py``).
"""

import struct
from collections.abc import Callable, Sequence
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


class Conflict(NamedTuple):
    """A write of an entry met another of its record, and neither had seen the other. The greater stamp won.

    ``lseq`` is the entry of the other one here, 0 where there is none.
    """

    write: int
    other: Stamp
    lseq: int


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
    conflicts: tuple[Conflict, ...] = ()

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
    chain: bytes | None = None,
) -> tuple[bytes, bytes]:
    """``(header bytes, chain digest)`` of a new entry. A local-only entry (oseq 0) is in no chain.

    ``chain`` is given for a skip, which stands for entries that are not here.
    """
    fields: dict[str, Any] = {"o": list(origin), "n": oseq, "ts": ts, "k": kind, "pd": digest(payload)}
    if user is not None:
        fields["user"] = user
    if operation is not None:
        fields["q"] = operation
    if chain is None:
        chain = chain_digest(previous_chain, fields) if oseq else NO_CHAIN
    return codec.encode({**fields, "ch": chain}), chain


def chain_digest(previous_chain: bytes, fields: dict[str, Any]) -> bytes:
    """H(previous chain digest, header without ``ch``), over the header's fields in the order they stand."""
    return digest(previous_chain, codec.encode({name: value for name, value in fields.items() if name != "ch"}))


def encode_stored(
    *,
    committed_at: int,
    previous: list[int],
    header: bytes,
    payload: bytes,
    is_reduced: bool = False,
    conflicts: Sequence[Conflict] = (),
) -> bytes:
    parts: list[Any] = [committed_at, previous]
    if is_reduced or conflicts:
        parts.append(is_reduced)
    if conflicts:
        parts.append([[conflict.write, list(conflict.other), conflict.lseq] for conflict in conflicts])
    local = codec.encode(parts)
    return b"".join((_LENGTH.pack(len(local)), local, _LENGTH.pack(len(header)), header, payload))


def encode_reduced(entry: Entry, keep: Callable[[dict[str, Any]], bool]) -> bytes | None:
    """The stored form of ``entry`` with only the writes (or schema changes) that ``keep`` wants; None: it loses
    nothing.
    """
    writes = entry.writes()
    previous = entry.previous or (0,) * len(writes)
    at = [number for number, write in enumerate(writes) if keep(write)]
    if len(at) == len(writes):
        return None
    now_at = {number: position for position, number in enumerate(at)}
    return encode_stored(
        committed_at=entry.committed_at,
        previous=[previous[number] for number in at] if entry.previous else [],
        header=entry.header.raw,
        payload=codec.encode([writes[number] for number in at]),
        is_reduced=True,
        conflicts=[c._replace(write=now_at[c.write]) for c in entry.conflicts if c.write in now_at],
    )


def follows(header: Header, previous_chain: bytes) -> bool:
    """Whether the chain digest of ``header`` is the one that comes after ``previous_chain``."""
    return chain_digest(previous_chain, codec.decode(header.raw)) == header.chain


def encode_travelling(header: bytes, payload: bytes) -> bytes:
    """The form in which entries go to other nodes: what is stored, without the local part."""
    return b"".join((_LENGTH.pack(len(header)), header, payload))


def decode_travelling(data: bytes) -> tuple[Header, bytes]:
    """Header and payload. Raises ``Corrupt`` where the bytes are not such a form."""
    try:
        (header_bytes,) = _LENGTH.unpack_from(data)
    except struct.error as error:
        raise Corrupt(f"log entry is too short: {error}") from error
    payload_at = _LENGTH.size + header_bytes
    if payload_at > len(data):
        raise Corrupt("log entry is shorter than its header")
    return decode_header(data[_LENGTH.size : payload_at]), data[payload_at:]


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
        committed_at, previous, *more = codec.decode(data[_LENGTH.size : header_at])
        links = tuple(previous)
        conflicts = tuple(Conflict(at, Stamp(*other), of) for at, other, of in more[1]) if len(more) > 1 else ()
    except (TypeError, ValueError) as error:
        raise Corrupt(f"local part of log entry {lseq} is damaged: {error}") from error
    return Entry(
        lseq=lseq,
        committed_at=committed_at,
        previous=links,
        header=decode_header(data[header_at + _LENGTH.size : payload_at]),
        payload=data[payload_at:],
        is_reduced=bool(more and more[0]),
        conflicts=conflicts,
    )
