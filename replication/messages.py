"""Every message of the protocol ``commitlog.v1``, as a value. ``wire.py`` turns them into bytes and back.

A field says in its metadata what it is called on the wire and what it may hold; one that is optional is left out where
it is None. Codes are fixed for ever. Which side sends what, and when, is told in ``session.py``, ``outbound.py`` and
``inbound.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from replication.fields import (
    ANY_MAP,
    BOOL,
    BYTES,
    DEFINITIONS,
    FLOAT,
    FORK_DIGESTS,
    INSTANT,
    INT,
    ITEMS,
    LONG_CHAINED,
    LONG_POSITIONS,
    NAMES,
    NATURAL,
    ORIGIN,
    ORIGIN_SET,
    POSITIONS,
    SHORT_IDS,
    STAMPS,
    TABLE_DIGESTS,
    TABLES,
    TEXT,
    Item,
    on_wire,
)
from replication.subscription import EVERY_TABLE, TableSelection
from storage.entry import Origin
from storage.schema import Definition

PROTOCOL_VERSION: Final = 1

Kind: TypeAlias = Literal["control", "stream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of both sides: who, for what, and how far."""

    version_min: int = on_wire("vmin", NATURAL)
    version_max: int = on_wire("vmax", NATURAL)
    name: str = on_wire("name", TEXT)
    kind: str = on_wire("kind", TEXT)
    url: str | None = on_wire("url", TEXT, None)
    database: str | None = on_wire("db", TEXT, None)
    software: str = on_wire("node", TEXT, "")
    capabilities: tuple[str, ...] = on_wire("caps", NAMES, ())
    now_ms: float = on_wire("now", FLOAT, 0.0)
    clock_us: int = on_wire("hlc", NATURAL, 0)
    frame_bytes_max: int = on_wire("max_frame", NATURAL, 0)
    entry_bytes_max: int = on_wire("max_entry", NATURAL, 0)
    databases: Mapping[str, int] | None = on_wire("dbs", STAMPS, None)
    store: str | None = on_wire("store", TEXT, None)
    vector: Mapping[Origin, tuple[int, bytes]] | None = on_wire("vec", LONG_CHAINED, None)
    floor: Mapping[Origin, int] | None = on_wire("floor", LONG_POSITIONS, None)
    shard: int | None = on_wire("shard", INT, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Short numbers for origins, for this connection and this direction; ahead of the message that uses them."""

    numbers: Mapping[int, Origin] = on_wire("map", SHORT_IDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """What a subscriber wants. Origins that ``want`` does not name are wanted from their beginning.

    ``copy`` asks for a copy instead of the log alone: ``copy_resume`` names one that was begun and ``copy_at`` the byte
    to go on from, ``copy_need`` positions that it must cover.
    """

    id: int = on_wire("id", NATURAL)
    want: Mapping[Origin, int] = on_wire("want", POSITIONS)
    without: frozenset[Origin] = on_wire("except", ORIGIN_SET, frozenset())
    tables: TableSelection = on_wire("tables", TABLES, EVERY_TABLE)
    credit_bytes: int = on_wire("credit", NATURAL, 0)
    copy: bool = on_wire("copying", BOOL, False)
    copy_resume: str | None = on_wire("resume", TEXT, None)
    copy_at: int = on_wire("at", NATURAL, 0)
    copy_is_forced: bool = on_wire("force", BOOL, False)
    copy_need: Mapping[Origin, int] | None = on_wire("need", POSITIONS, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribed:
    """The answer: ``unavailable`` origins cannot be served from where the subscriber is, only above these positions."""

    id: int = on_wire("id", NATURAL)
    mode: str = on_wire("mode", TEXT)
    head: int = on_wire("head", NATURAL)
    place: int = on_wire("place", NATURAL, 0)
    unavailable: Mapping[Origin, int] = on_wire("unavailable", POSITIONS)
    reason: str | None = on_wire("reason", TEXT, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The publisher's current definitions, ahead of entries that may need them."""

    id: int = on_wire("id", NATURAL)
    tables: tuple[Definition, ...] = on_wire("tables", DEFINITIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries in the order of the publisher's log. ``newest_ts``: time of the newest, for the status.

    ``place`` is the last ``lseq`` that was looked at for this batch, of ``head`` in all. One without entries says only
    that: what is left up to there is nothing that the subscriber takes.
    """

    id: int = on_wire("id", NATURAL)
    number: int = on_wire("b", NATURAL)
    items: tuple[Item, ...] = on_wire("e", ITEMS)
    head: int = on_wire("head", NATURAL)
    place: int = on_wire("place", NATURAL, 0)
    newest_ts: int = on_wire("ts", INSTANT, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """The publisher does not have an origin's entries in full from ``at`` on; it sends no more of that origin."""

    id: int = on_wire("id", NATURAL)
    origin: Origin = on_wire("o", ORIGIN)
    at: int = on_wire("at", NATURAL)
    reason: str = on_wire("why", TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """Positions that are durable at the subscriber, and bytes that it can take in addition."""

    id: int = on_wire("id", NATURAL)
    positions: Mapping[Origin, int] = on_wire("vec", POSITIONS)
    newest_ts: int = on_wire("ts", INSTANT, 0)
    credit_bytes: int = on_wire("credit", NATURAL, 0)
    copy: str | None = on_wire("copy", TEXT, None)
    copy_at: int = on_wire("at", NATURAL, 0)

    def followed_by(self, later: "Ack") -> "Ack":
        """One that says the same as both."""
        return replace(
            later,
            positions={
                origin: max(self.positions.get(origin, 0), later.positions.get(origin, 0))
                for origin in {**self.positions, **later.positions}
            },
            newest_ts=max(self.newest_ts, later.newest_ts),
            credit_bytes=self.credit_bytes + later.credit_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resubscribe:
    """A changed subscription on the same stream; the publisher goes on from ``want``."""

    id: int = on_wire("id", NATURAL)
    want: Mapping[Origin, int] = on_wire("want", POSITIONS)
    without: frozenset[Origin] = on_wire("except", ORIGIN_SET, frozenset())
    tables: TableSelection = on_wire("tables", TABLES, EVERY_TABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping:
    token: int = on_wire("t", NATURAL)
    now_ms: float = on_wire("now", FLOAT, 0.0)
    clock_us: int = on_wire("hlc", NATURAL, 0)
    head: int = on_wire("head", NATURAL, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """Answers a ping. ``place`` is a publisher's in its log; every few of a stream bring vector and table digests, both
    of one read transaction.
    """

    token: int = on_wire("t", NATURAL)
    now_ms: float = on_wire("now", FLOAT, 0.0)
    clock_us: int = on_wire("hlc", NATURAL, 0)
    head: int = on_wire("head", NATURAL, 0)
    place: int = on_wire("place", NATURAL, 0)
    positions: Mapping[Origin, int] | None = on_wire("vec", POSITIONS, None)
    digests: Mapping[str, tuple[int, bytes]] | None = on_wire("dig", TABLE_DIGESTS, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStart:
    """What the file that follows holds: ``storage/copy_file.py``."""

    id: int = on_wire("id", NATURAL)
    copy: str = on_wire("copy", TEXT)
    description: Mapping[str, Any] = on_wire("d", ANY_MAP)
    at: int = on_wire("at", NATURAL, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyData:
    """A piece of the file; an empty one says that it is still being written."""

    id: int = on_wire("id", NATURAL)
    copy: str = on_wire("copy", TEXT)
    at: int = on_wire("at", NATURAL)
    data: bytes = on_wire("d", BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyEnd:
    id: int = on_wire("id", NATURAL)
    copy: str = on_wire("copy", TEXT)
    size_bytes: int = on_wire("bytes", NATURAL)
    digest: bytes = on_wire("sum", BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOperation:
    """Run an operation there, with the authority of a node."""

    request_id: int = on_wire("rid", NATURAL)
    operation: Mapping[str, Any] = on_wire("op", ANY_MAP)
    deadline_ms: int = on_wire("deadline", NATURAL, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationResult:
    """The answer's body; ``status`` is that of an HTTP answer, and anything but 200 makes it an error."""

    request_id: int = on_wire("rid", NATURAL)
    status: int = on_wire("status", NATURAL)
    body: bytes = on_wire("body", BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Databases that this node replicates, each with the time of its creation: as many as there are now."""

    databases: Mapping[str, int] = on_wire("add", STAMPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    code: str = on_wire("code", TEXT)
    message: str = on_wire("message", TEXT)
    id: int | None = on_wire("id", NATURAL, None)
    request_id: int | None = on_wire("rid", NATURAL, None)
    may_retry: bool = on_wire("retry", BOOL, True)
    after_ms: int | None = on_wire("after", INT, None)
    origin: Origin | None = on_wire("o", ORIGIN, None)
    digests: tuple[tuple[int, bytes], ...] | None = on_wire("digests", FORK_DIGESTS, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """The connection ends. ``after_ms``: when to come back, 0 by the usual delays, -1 not before members change."""

    code: str = on_wire("code", TEXT)
    reason: str = on_wire("reason", TEXT, "")
    after_ms: int = on_wire("after", INT, 0)


Message: TypeAlias = (
    Hello
    | Origins
    | Subscribe
    | Subscribed
    | Schema
    | Batch
    | Void
    | Ack
    | Resubscribe
    | Ping
    | Pong
    | CopyStart
    | CopyData
    | CopyEnd
    | CallOperation
    | OperationResult
    | Databases
    | Error
    | Bye
)

CODES: Final[Mapping[int, type[Message]]] = {
    0: Hello,
    1: Origins,
    2: Subscribe,
    3: Subscribed,
    4: Schema,
    5: Batch,
    7: Void,
    8: Ack,
    9: Resubscribe,
    10: Ping,
    11: Pong,
    12: CopyStart,
    13: CopyData,
    14: CopyEnd,
    15: CallOperation,
    16: OperationResult,
    19: Error,
    20: Bye,
    21: Databases,
}
"""6 (parts), 17 and 18 (get) are reserved for a later version."""
