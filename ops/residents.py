"""Records that other nodes hold in full, fetched from them over the control connections.

The connected resident that answers soonest is asked, the next one where the network fails; what a resident answers
with an error is the answer. Requests are bounded both ways: so many keys, and an answer that ends after so many bytes.
What no resident has received yet may still be in this node's own log.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from ops.context import Context
from ops.errors import OperationError
from replication.errors import LinkLost
from replication.remote_calls import RemoteFailure
from storage.elsewhere import Elsewhere, Stamps, Version, elsewhere, logged_version
from storage.entry import Stamp
from storage.transaction import stored_key_of

log = logging.getLogger("ops")

FETCH_RECORDS: Final = "fetch_records"
KEYS_MAX: Final = 256
"""Records of one request."""
ANSWER_BYTES_MAX: Final = 8 << 20
"""An answer ends after these, but never before one record."""
TIMEOUT_S: Final = 10.0
"""After which a resident counts as gone, and the next one is asked."""
NOT_NOW: Final = 503


@dataclass(slots=True)
class Fetched:
    """What was found, by stored key, and the records of which no resident could be reached.

    A version may be newer than the row here, or older where nobody has the newer one any more. What residents answered
    not to have is in neither.
    """

    versions: dict[bytes, Version] = field(default_factory=dict)
    unreachable: list[Elsewhere] = field(default_factory=list)
    failure: OperationError | None = None


def no_connection(places: Iterable[Elsewhere], node: str) -> OperationError:
    names = dict.fromkeys(name for place in places for name in place.residents if name != node)
    return OperationError(f"No connection to any other nodes are available: {', '.join(names)}", status=502)


def places_of(ctx: Context, database: str, table_name: str, stored_keys: Iterable[bytes]) -> list[Elsewhere]:
    """Those of the records that are here as index-only rows."""
    with ctx.catalog.database(database).read() as tx:
        table, stamps = tx.table(table_name), Stamps(tx)
        rows = ((stored_key, tx.row(table, stored_key)) for stored_key in dict.fromkeys(stored_keys))
        return [elsewhere(stamps, table, key, row) for key, row in rows if row is not None and not row.is_resident]


async def fetch(ctx: Context, database: str, table: str, places: Sequence[Elsewhere]) -> Fetched:
    """The whole records of these index-only rows. Raises ``OperationError`` for what a resident refuses."""
    fetched = Fetched()
    by_residents: dict[tuple[str, ...], list[Elsewhere]] = {}
    for place in places:
        by_residents.setdefault(place.residents, []).append(place)
    async with trio.open_nursery() as nursery:
        for of_some in by_residents.values():
            for start in range(0, len(of_some), KEYS_MAX):
                part = of_some[start : start + KEYS_MAX]
                nursery.start_soon(_fetch_part, ctx, database, table, part, fetched)
    if fetched.failure is not None:
        raise fetched.failure
    return fetched


async def _fetch_part(ctx: Context, database: str, table: str, places: Sequence[Elsewhere], fetched: Fetched) -> None:
    """Records that have the same residents."""
    cluster = ctx.services.cluster
    waiting = list(places)
    has_answer = False
    for peer in () if cluster is None else cluster.supervisor.nearest(places[0].residents):
        try:
            for place, version in zip(waiting, await _ask(ctx, peer, database, table, waiting), strict=True):
                known = fetched.versions.get(place.stored_key)
                if version is not None and (known is None or version.stamp > known.stamp):
                    fetched.versions[place.stored_key] = version
        except RemoteFailure as error:
            if error.status != NOT_NOW:
                fetched.failure = OperationError(str(error), status=error.status)
                return
            continue
        except LinkLost as error:
            log.debug("records of '%s.%s' are not fetched from '%s': %s", database, table, peer, error)
            continue
        has_answer = True
        waiting = [place for place in waiting if _is_missing(place, fetched)]
        if not waiting:
            return
    if has_answer:
        _take_from_log(ctx, database, table, waiting, fetched)
    else:
        fetched.unreachable.extend(places)


def _is_missing(place: Elsewhere, fetched: Fetched) -> bool:
    version = fetched.versions.get(place.stored_key)
    return version is None or version.stamp < place.stamp


def _take_from_log(ctx: Context, database: str, table: str, places: Sequence[Elsewhere], fetched: Fetched) -> None:
    """What was written here, or came by here, and has not arrived at a resident yet."""
    with ctx.catalog.database(database).read() as tx:
        for place in places:
            version = logged_version(tx, table, place)
            if version is not None:
                fetched.versions[place.stored_key] = version


async def _ask(ctx: Context, peer: str, database: str, table: str, places: Sequence[Elsewhere]) -> list[Version | None]:
    """What ``peer`` has of these records, in their order; in as many requests as its answers take."""
    cluster = ctx.services.cluster
    assert cluster is not None, "a peer was found"
    versions: list[Version | None] = []
    while len(versions) < len(places):
        keys = [place.key for place in places[len(versions) :]]
        request = {"operation": FETCH_RECORDS, "database": database, "table": table, "keys": keys}
        answer = await cluster.call(peer, request, timeout_s=TIMEOUT_S)
        versions += _read_answer(answer, places[len(versions) :], peer)
    return versions


# -- the answer: [[stamp, record] or null, ...], for a first part of the keys at least --------------------------------


def encoded_version(version: Version | None) -> list[Any] | None:
    return None if version is None else [list(version.stamp), version.record]


def _read_answer(answer: Any, places: Sequence[Elsewhere], peer: str) -> Iterator[Version | None]:
    if not isinstance(answer, list) or not 0 < len(answer) <= len(places):
        raise LinkLost(f"'{peer}' answered with other records than were asked for")
    return (_read_version(item, peer) for item in answer)


def _read_version(item: Any, peer: str) -> Version | None:
    match item:
        case None:
            return None
        case [[int(ts), str(node), str(store), int(oseq)], dict(record)]:
            return Version(Stamp(ts, node, store, oseq), record)
        case _:
            raise LinkLost(f"the answer of '{peer}' cannot be read")


# -- the other side ---------------------------------------------------------------------------------------------------


def held_versions(ctx: Context, database: str, table_name: str, keys: Sequence[Any]) -> list[Version | None]:
    """What this node holds in full of the records with these keys, in their order: as many as fit into one answer.

    Records that never leave this node count as not held.
    """
    versions: list[Version | None] = []
    size_bytes = 0
    with ctx.catalog.database(database).read() as tx:
        table, stamps = tx.table(table_name), Stamps(tx)
        for key in keys:
            row = tx.row(table, stored_key_of(key))
            if row is None or not row.is_resident or not row.oseq:
                versions.append(None)
                continue
            if size_bytes and size_bytes + len(row.value) > ANSWER_BYTES_MAX:
                break
            size_bytes += len(row.value)
            versions.append(Version(stamps.of(row), tx.record(table, row)))
    return versions
