"""What two nodes exchange: directions, explicit subscriptions, and the databases that a node replicates.

These values come from requests, from the configuration, from rows that other nodes wrote. The readers here take what
they are given with suspicion and raise ``Unfit`` with the literal text that the sender is shown.

A direction is told from somebody's point of view: ``sends`` in a node's own row means that this node sends, ``sends`` in
a route or a request that it sends *to that peer*. ``Directions.reversed`` goes from one to the other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from replication.identity import normalized_serial

ALL_DATABASES: Final = "*"
NAME_LENGTH_MAX: Final = 250
SERIAL_BITS_MAX: Final = 256
"""RFC 5280 allows 160; some authorities make longer ones."""
SERIAL_LENGTH_MAX: Final = 256
_NOT_SUPPORTED: Final = ("sendsTo", "receivesFrom")


class Unfit(ValueError):
    """A value from outside that is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directions:
    """Which way data flows under full replication. ``only_named`` is the mark of a directed agreement: such a node deals
    with the peers that were named to it, and gossip makes no further links of it.
    """

    sends: bool
    receives: bool
    only_named: bool = False

    def reversed(self) -> "Directions":
        """The same agreement from the other side."""
        return replace(self, sends=self.receives, receives=self.sends)

    def within(self, other: "Directions") -> "Directions":
        """What both allow."""
        return Directions(
            sends=self.sends and other.sends,
            receives=self.receives and other.receives,
            only_named=self.only_named or other.only_named,
        )

    @property
    def is_any(self) -> bool:
        return self.sends or self.receives

    def encoded(self) -> bool | dict[str, bool]:
        """As it stands in a row."""
        if self.only_named:
            return {"sends": self.sends, "receives": self.receives}
        return self.sends and self.receives


FULL: Final = Directions(sends=True, receives=True)
NONE: Final = Directions(sends=False, receives=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One table of an agreement that names its tables: ``subscribe``, we take it; ``publish``, the peer takes it."""

    database: str
    table: str
    subscribe: bool
    publish: bool

    def encoded(self) -> dict[str, Any]:
        return {
            "database": self.database,
            "table": self.table,
            "subscribe": self.subscribe,
            "publish": self.publish,
        }


Subscriptions: TypeAlias = tuple[Subscription, ...] | None
"""None: full replication."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatedDatabase:
    """An element of ``replication.databases``. A sharded one is exchanged by nodes of one shard only."""

    name: str
    sharded: bool = False
    replicate_to: int | None = None


Databases: TypeAlias = tuple[ReplicatedDatabase, ...] | None
"""None: all."""


def read_directions(label: str, value: Any) -> Directions:
    """``replicates`` of a request or route: true, false, or an object in which a missing key counts as false."""
    if isinstance(value, bool):
        return FULL if value else NONE
    if not isinstance(value, Mapping):
        raise Unfit(f"'{label}' must be one of [boolean, object]")
    refuse_unsupported(value)
    sends, receives = (_flag(f"{label}.{key}", value.get(key, False)) for key in ("sends", "receives"))
    return Directions(sends=sends, receives=receives, only_named=not (sends and receives))


def read_stored_directions(value: Any) -> Directions:
    """``replicates`` of a row. An object is a directed agreement even where it allows both ways."""
    if value is None:
        return NONE
    found = read_directions("replicates", value)
    return found if isinstance(value, bool) else replace(found, only_named=True)


def refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Directions by name are for later; ignoring them would send data where it must not go."""
    for key in _NOT_SUPPORTED:
        if key in body:
            raise Unfit(f"'{key}' is not supported")


def read_subscriptions(label: str, value: Any) -> tuple[Subscription, ...]:
    if not isinstance(value, list | tuple):
        raise Unfit(f"'{label}' must be an array")
    return tuple(_subscription(f"{label}[{place}]", element) for place, element in enumerate(value))


def _subscription(label: str, value: Any) -> Subscription:
    if not isinstance(value, Mapping):
        raise Unfit(f"'{label}' must be of type object")
    database = value["database"] if "database" in value else value.get("schema")
    table = value.get("table")
    for key, name in (("database", database), ("table", table)):
        if name is not None and not (isinstance(name, str) and len(name) <= NAME_LENGTH_MAX):
            raise Unfit(f"'{label}.{key}' must be a string")
    subscribe, publish = (_flag(f"{label}.{key}", value.get(key, False)) for key in ("subscribe", "publish"))
    if not (database and table and (subscribe or publish)):
        raise Unfit(f"'{label}' subscribe and/or publish must be set to true when adding a node")
    return Subscription(database=database, table=table, subscribe=subscribe, publish=publish)


def reversed_subscriptions(subscriptions: Subscriptions) -> Subscriptions:
    """The same tables from the other side."""
    if subscriptions is None:
        return None
    return tuple(replace(one, subscribe=one.publish, publish=one.subscribe) for one in subscriptions)


def read_serials(label: str, value: Any) -> frozenset[int]:
    """Serial numbers of certificates: numbers, or hexadecimal digits with or without colons and leading zeros."""
    if not isinstance(value, list | tuple):
        raise Unfit(f"'{label}' must be an array")
    return frozenset(read_serial(f"{label}[{place}]", element) for place, element in enumerate(value))


def read_serial(label: str, value: Any) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError
        if isinstance(value, str) and len(value) > SERIAL_LENGTH_MAX:
            raise ValueError
        serial = normalized_serial(value)
        if not 0 <= serial < 1 << SERIAL_BITS_MAX:
            raise ValueError
    except ValueError:
        raise Unfit(f"'{label}' must be the serial number of a certificate") from None
    return serial


def serial_text(serial: int) -> str:
    """A serial number as it stands in rows: upper-case digits without leading zeros, so that one number is one text."""
    return f"{serial:X}"


def read_stored_databases(value: Any) -> Databases:
    """``databases`` of a row: ``"*"``, or names and objects."""
    if value is None or value in (ALL_DATABASES, [ALL_DATABASES]):
        return None
    if not isinstance(value, list | tuple):
        raise Unfit("'databases' must be an array")
    return tuple(_replicated_database(f"databases[{place}]", element) for place, element in enumerate(value))


def _replicated_database(label: str, value: Any) -> ReplicatedDatabase:
    name = value.get("name") if isinstance(value, Mapping) else value
    if not (isinstance(name, str) and name):
        raise Unfit(f"'{label}' must be a name, or an object with one")
    sharded = _flag(f"{label}.sharded", value.get("sharded", False)) if isinstance(value, Mapping) else False
    return ReplicatedDatabase(name=name, sharded=sharded)


def encoded_databases(databases: Databases) -> str | list[str | dict[str, Any]]:
    """What peers have to know of ``replication.databases``."""
    if databases is None:
        return ALL_DATABASES
    return [{"name": one.name, "sharded": True} if one.sharded else one.name for one in databases]


def is_replicated(database: str, databases: Databases, *, is_same_shard: bool) -> bool:
    """Whether a node with these ``databases`` exchanges ``database`` with a peer."""
    if databases is None:
        return True
    return any(one.name == database and (is_same_shard or not one.sharded) for one in databases)


def combined(agreements: Iterable[Directions]) -> Directions | None:
    """What a node with these agreements is, for its own row; None for a node without any.

    One directed agreement makes the whole node directed: were its row ``true``, gossip would link it with everybody.
    """
    known = tuple(agreements)
    if not known:
        return None
    if all(one == FULL for one in known):
        return FULL
    return Directions(
        sends=any(one.sends for one in known), receives=any(one.receives for one in known), only_named=True
    )


def _flag(label: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit(f"'{label}' must be a boolean")
    return value
