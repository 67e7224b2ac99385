"""What nodes answer each other where replicas are compared: as values, and in the form in which they travel.

Decoding checks all that is relied on, and raises ``ValueError``, ``TypeError``, ``KeyError`` or ``IndexError``.

======= =============================================================================
state   ``{vector, rows, digest, now, old, apart}``
ranges  ``[[rows, digest], ...]``, one for each range that was asked for
page    ``{vector, versions, last}``
rows    ``{vector, rows: [null or [version, value, expires at, is logged], ...]}``
version ``[stored key, key, stamp, position, is tombstone, content]``
vector  ``[[node, store, oseq], ...]``
======= =============================================================================
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from replication.replica_comparison import Page
from storage.entry import DIGEST_BYTES, Origin, Stamp
from storage.keys import STORED_BYTES_MAX
from storage.range_digests import RangeDigest, Version
from storage.repair import Held

_U64_MAX: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A table in one transaction: how far the node is, and the digest that it keeps.

    ``old_us``: what was written earlier may have been deleted, and the delete be forgotten. ``apart``: origins whose
    entries the two nodes do not exchange, as they know different ones under their numbers.
    """

    vector: Mapping[Origin, int]
    rows: int
    digest: bytes
    now_ms: int
    old_us: int
    apart: frozenset[Origin] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPage:
    """What a side has of records that were asked for, in their order: of a first part of them at least."""

    held: Sequence[Held | None]
    vector: Mapping[Origin, int]


# -- encoding ---------------------------------------------------------------------------------------------------------


def encoded_state(state: State) -> dict[str, Any]:
    return {
        "vector": _encoded_vector(state.vector),
        "rows": state.rows,
        "digest": state.digest,
        "now": state.now_ms,
        "old": state.old_us,
        "apart": [list(origin) for origin in state.apart],
    }


def encoded_ranges(ranges: Iterable[RangeDigest]) -> list[list[Any]]:
    return [[one.rows, one.digest] for one in ranges]


def encoded_page(page: Page) -> dict[str, Any]:
    encoded = [_encoded_version(version) for version in page.versions]
    return {"vector": _encoded_vector(page.vector), "versions": encoded, "last": page.is_last}


def encoded_held(page: HeldPage) -> dict[str, Any]:
    rows = [
        None if one is None else [_encoded_version(one.version), one.value, one.expires_at_ms, one.is_logged]
        for one in page.held
    ]
    return {"vector": _encoded_vector(page.vector), "rows": rows}


def _encoded_version(version: Version) -> list[Any]:
    origin, oseq = version.position
    return [
        version.stored_key,
        version.key,
        list(version.stamp),
        [*origin, oseq],
        version.is_tombstone,
        version.content,
    ]


def _encoded_vector(vector: Mapping[Origin, int]) -> list[list[Any]]:
    return [[*origin, oseq] for origin, oseq in vector.items()]


# -- decoding ---------------------------------------------------------------------------------------------------------


def decoded_state(answer: Any) -> State:
    return State(
        vector=_vector(answer["vector"]),
        rows=_natural(answer["rows"]),
        digest=_digest(answer["digest"]),
        now_ms=_natural(answer["now"]),
        old_us=_natural(answer["old"]),
        apart=frozenset(_origin(*plain) for plain in answer["apart"]),
    )


def decoded_ranges(places: Sequence[bytes | None], answer: Any) -> list[RangeDigest]:
    """``places`` are the ends and cuts that were asked for."""
    ends = list(pairwise(places))
    if len(answer) != len(ends):
        raise ValueError(f"{len(answer)} ranges for {len(ends)}")
    return [
        RangeDigest(low, high, _natural(rows), _digest(digest))
        for (low, high), (rows, digest) in zip(ends, answer, strict=True)
    ]


def decoded_page(answer: Any, *, low: bytes | None, high: bytes | None, after: bytes | None) -> Page:
    found = [_version(plain) for plain in answer["versions"]]
    keys = [version.stored_key for version in found]
    is_last = answer["last"] is True
    if not keys:
        return Page(found, _vector(answer["vector"]), True)
    if any(before >= behind for before, behind in pairwise(keys)) or (after is not None and keys[0] <= after):
        raise ValueError("versions out of order")
    if (low is not None and keys[0] < low) or (high is not None and keys[-1] >= high):
        raise ValueError("versions of another range")
    return Page(found, _vector(answer["vector"]), is_last)


def decoded_held(stored_keys: Sequence[bytes], answer: Any) -> HeldPage:
    rows = answer["rows"]
    if not 0 < len(rows) <= len(stored_keys):
        raise ValueError(f"{len(rows)} records for {len(stored_keys)}")
    held = [_held(plain, stored_key) for plain, stored_key in zip(rows, stored_keys, strict=False)]
    return HeldPage(held=held, vector=_vector(answer["vector"]))


def _held(plain: Any, stored_key: bytes) -> Held | None:
    if plain is None:
        return None
    version, value, expires_at_ms, is_logged = plain
    if expires_at_ms is not None:
        _natural(expires_at_ms)
    held = Held(_version(version), _bytes(value), expires_at_ms, is_logged is True)
    if held.version.stored_key != stored_key:
        raise ValueError("another record than was asked for")
    return held


def _version(plain: Any) -> Version:
    stored_key, key, stamp, position, is_tombstone, content = plain
    ts, node, store, oseq = stamp
    *origin, at = position
    if not 0 < len(_bytes(stored_key)) <= STORED_BYTES_MAX or len(_bytes(content)) not in (0, DIGEST_BYTES):
        raise ValueError("a version with an impossible key or digest")
    return Version(
        stored_key=stored_key,
        key=key,
        stamp=Stamp(_natural(ts), *_origin(node, store), _natural(oseq)),
        position=(_origin(*origin), _natural(at)),
        is_tombstone=is_tombstone is True,
        content=content,
    )


def _vector(plain: Any) -> dict[Origin, int]:
    return {_origin(node, store): _natural(oseq) for node, store, oseq in plain}


def _origin(node: Any, store: Any) -> Origin:
    if type(node) is not str or type(store) is not str:
        raise TypeError("an origin is two texts")
    return Origin(node, store)


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _U64_MAX:
        raise ValueError(f"{value!r:.50} is no number of this kind")
    return value


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise TypeError("bytes were expected")
    return value


def _digest(value: Any) -> bytes:
    if len(_bytes(value)) != DIGEST_BYTES:
        raise ValueError("a digest of another length")
    return bytes(value)
