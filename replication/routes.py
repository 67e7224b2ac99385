"""Routes: where a peer is, as people write it down, and the names and URLs that follow from it. Pure.

    server-two                     server-two:9933              wss://server-two:9933
    {hostname | host, port, url, startTime, revokedCertificates, shard, replicates, subscriptions}

A node's name is its host, and the address to dial is a value of its own: an object may give ``hostname`` (who has to be
there) and ``url`` (where). IPv6 addresses stand in brackets in URLs and before a port, and bare as names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from replication.agreements import (
    FULL,
    Directions,
    Subscriptions,
    Unfit,
    read_directions,
    read_serials,
    read_subscriptions,
    refuse_unsupported,
)
from replication.errors import ReplicationError
from replication.identity import normalized_name
from replication.start_time import read_start_time

SECURE_PORT: Final = 9933
"""The port of a peer that nothing else tells of: ``replication.securePort`` of a node that was not asked to differ."""
PORT_MAX: Final = 65535
SHARD_MAX: Final = 65535
HOST_LENGTH_MAX: Final = 253
_URL_LENGTH_MAX: Final = 2048
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?", re.ASCII)
_PORT: Final = re.compile(r"[0-9]{1,5}", re.ASCII)
_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?", re.ASCII)


class BadRoute(ReplicationError):
    """A route that says not where a peer is, or says more than this version can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A peer as the configuration tells of it. ``replicates`` and ``subscriptions`` are from this node's point of view."""

    name: str
    url: str
    has_own_url: bool = False
    """Whether the route gives a port or URL: such an address is dialled whatever the peer says of itself."""
    replicates: Directions = FULL
    shard: int | None = None
    revoked: frozenset[int] = field(default_factory=frozenset)
    subscriptions: Subscriptions = None
    start_time_ms: int | None = None


def parse_route(raw: Any, *, secure_port: int | None, port: int | None) -> Route:
    """The route that a configured value stands for. The ports are this node's own. Raises ``BadRoute``."""
    try:
        if isinstance(raw, str):
            return _route_of_text(raw.strip(), secure_port, port)
        if isinstance(raw, Mapping):
            return _route_of_object(raw, secure_port, port)
    except Unfit as error:
        raise BadRoute(str(error)) from None
    raise BadRoute("a route must be a string or an object")


def derive_url(hostname: str, *, secure_port: int | None, port: int | None) -> str:
    """Where a peer is dialled of which the name is known, or name and port. Raises ``BadRoute``.

    Peers are taken to use the ports of this node.
    """
    host, own_port = split_host(hostname)
    is_plain = secure_port is None and port is not None
    dialled = own_port or (port if is_plain else secure_port) or SECURE_PORT
    return f"{'ws' if is_plain else 'wss'}://{_in_url(host)}:{dialled}"


def name_of_url(url: str) -> str:
    """The node name in a URL: its host. Raises ``BadRoute``."""
    return _host(_split_url(url).hostname or "")


def split_host(text: str) -> tuple[str, int | None]:
    """Host and port of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address. Raises ``BadRoute``."""
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        return _host(bracketed[1]), None if bracketed[2] is None else _port(bracketed[2])
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return _host(host), _port(port)
    return _host(text), None


def is_same_place(url: str, other: str) -> bool:
    """Whether two URLs lead to the same port of the same host."""
    try:
        return _place(_split_url(url)) == _place(_split_url(other))
    except BadRoute:
        return url == other


def is_same_route(a: Any, b: Any) -> bool:
    """Whether two routes, as configured, are one: the same text, or the same host and the same port.

    A route that cannot be read is the same as its equal.
    """
    if isinstance(a, str) and a == b:
        return True
    try:
        (host, port), (other_host, other_port) = _host_and_port(a), _host_and_port(b)
        return normalized_name(host) == normalized_name(other_host) and port == other_port
    except BadRoute:
        return type(a) is type(b) and bool(a == b)


def _route_of_text(text: str, secure_port: int | None, port: int | None) -> Route:
    if "://" in text:
        return Route(name=name_of_url(text), url=text, has_own_url=True)
    host, own_port = split_host(text)
    return Route(name=host, url=derive_url(text, secure_port=secure_port, port=port), has_own_url=own_port is not None)


def _route_of_object(raw: Mapping[str, Any], secure_port: int | None, port: int | None) -> Route:
    refuse_unsupported(raw)
    host, own_port = _host_and_port(raw)
    url = raw.get("url")
    if url is None:
        named = _in_url(host) if own_port is None else f"{_in_url(host)}:{own_port}"
        address = derive_url(named, secure_port=secure_port, port=port)
    else:
        address = url
    replicates, subscriptions = raw.get("replicates"), raw.get("subscriptions")
    start_time = raw.get("startTime")
    return Route(
        name=host,
        url=address,
        has_own_url=url is not None or own_port is not None,
        replicates=FULL if replicates is None else read_directions("replicates", replicates),
        shard=_shard(raw.get("shard")),
        revoked=read_serials("revokedCertificates", raw.get("revokedCertificates") or ()),
        subscriptions=None if subscriptions is None else read_subscriptions("subscriptions", subscriptions),
        start_time_ms=None if start_time is None else read_start_time("startTime", start_time),
    )


def _host_and_port(raw: Any) -> tuple[str, int | None]:
    """The two things that tell routes apart: who, and the port if the route gives one."""
    if isinstance(raw, str):
        text = raw.strip()
        return _place_as_written(_split_url(text)) if "://" in text else split_host(text)
    if not isinstance(raw, Mapping):
        raise BadRoute("a route must be a string or an object")
    url, port = raw.get("url"), raw.get("port")
    of_url = None if url is None else _place_as_written(_split_url(url))
    name = raw["hostname"] if raw.get("hostname") is not None else raw.get("host")
    if name is None:
        if of_url is None:
            raise BadRoute("a route needs a 'hostname' or a 'url'")
        host, own_port = of_url
    else:
        host, own_port = split_host(name if isinstance(name, str) else "")
        if own_port is None and of_url is not None:
            own_port = of_url[1]
    return host, own_port if port is None else _port(port)


def _split_url(url: Any) -> SplitResult:
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or len(url) > _URL_LENGTH_MAX:
        raise BadRoute("'url' must be a string such as wss://host:9933")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadRoute(f"'{url}' is not a URL") from None
    if parts.username is not None or parts.password is not None:
        raise BadRoute("'url' must not hold credentials")
    if parts.scheme not in ("ws", "wss") or parts.path not in ("", "/") or parts.query or parts.fragment or port == 0:
        raise BadRoute(f"'{url}' is not of the form wss://host:port or ws://host:port")
    _host(parts.hostname or "")
    return parts


def _place(parts: SplitResult) -> tuple[str, int]:
    return normalized_name(parts.hostname or ""), parts.port or (443 if parts.scheme == "wss" else 80)


def _place_as_written(parts: SplitResult) -> tuple[str, int | None]:
    return _host(parts.hostname or ""), parts.port


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host(text: str) -> str:
    if ":" in text:
        try:
            return IPv6Address(text).compressed
        except ValueError:
            raise BadRoute(f"'{text}' is not a host name or address") from None
    if len(text) > HOST_LENGTH_MAX or not _HOST.fullmatch(text):
        raise BadRoute(f"'{text[:HOST_LENGTH_MAX]}' is not a host name or address")
    return text


def _port(value: Any) -> int:
    if isinstance(value, str) and _PORT.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= PORT_MAX:
        raise BadRoute("'port' must be a number from 1 to 65535")
    return value


def _shard(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SHARD_MAX:
        raise BadRoute(f"'shard' must be a whole number from 0 to {SHARD_MAX}")
    return value
