"""The bodies of ``add_node``, ``update_node``, ``remove_node`` and ``configure_cluster`` as checked values.

What is wrong is told all at once, joined with ``. ``. A body is checked without knowing the node; ``resolved`` then adds
what depends on it: the URL of a peer that was named only, and that a node does not add itself.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from ops.errors import InvalidParams
from ops.params import Boolean, ListOf, Number, Problem, Text
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
from replication.identity import normalized_name
from replication.routes import SHARD_MAX, BadRoute, derive_url, is_same_place, name_of_url, split_host
from replication.start_time import read_start_time

NO_URL: Final = "url required for this operation"
NO_NAME: Final = "url or hostname is required for remove_node operation"
NO_OWN_URL: Final = "replication url is missing from logmesh.yaml"
OWN_NAME: Final = "'hostname' cannot be this nodes name"
BAD_AUTHORIZATION: Final = (
    "'authorization' must be an object with username and password, or the value of an Authorization header"
)
HOSTNAMES: Final = ("hostname", "node_name", "name")
"""Names under which the host name may be sent, the one that wins first."""
AUTHORIZATION_LENGTH_MAX: Final = 16_384
_AUTHORIZATION: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]* [\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class AddNode:
    """A peer as a request describes it. ``replicates`` and ``subscriptions`` are this node's point of view."""

    name: str
    url: str | None
    """None until ``resolved``, where only the name was given."""
    label: str
    """What answers call the peer: the host name as it was sent, else the URL."""
    port: int | None = None
    """Of a host name with a port."""
    verify_tls: bool = True
    authorization: str | None = field(default=None, repr=False)
    """The value of an HTTP header."""
    retain_authorization: bool = False
    revoked: frozenset[int] = frozenset()
    shard: int | None = None
    start_time_ms: int | None = None
    replicates: Directions = FULL
    subscriptions: Subscriptions = None
    """None: full replication."""
    is_leader: bool = False
    force_signing: bool = False
    given: frozenset[str] = frozenset()
    """The fields of this class that the body had: an update changes only these."""


def add_node_params(body: Mapping[str, Any]) -> AddNode:
    """Raises ``InvalidParams``."""
    return _add_node(body, needs_hostname=False)


def update_node_params(body: Mapping[str, Any]) -> AddNode:
    """Raises ``InvalidParams``."""
    return _add_node(body, needs_hostname=True)


def configure_cluster_params(body: Mapping[str, Any]) -> tuple[AddNode, ...]:
    """All peers of a new set-up. Raises ``InvalidParams`` for the first element that is wrong, or that comes twice."""
    if "connections" not in body:
        raise InvalidParams("'connections' is required")
    try:
        connections = ListOf(of_objects=True).convert("connections", body["connections"])
    except Problem as problem:
        raise InvalidParams(str(problem)) from None
    found: dict[str, AddNode] = {}
    for place, element in enumerate(connections):
        request = add_node_params(element)
        if normalized_name(request.name) in found:
            raise InvalidParams(f"'connections[{place}]' names '{request.label}' again")
        found[normalized_name(request.name)] = request
    return tuple(found.values())


def remove_node_params(body: Mapping[str, Any]) -> str:
    """The name of the node to remove, which need not be one that could be added. Raises ``InvalidParams``."""
    key = next((key for key in (*HOSTNAMES, "url") if body.get(key) is not None), None)
    if key is None:
        raise InvalidParams(NO_NAME)
    try:
        text = Text().convert(key, body[key])
        if key == "url":
            return name_of_url(text)
    except (Problem, BadRoute) as error:
        raise InvalidParams(str(error)) from None
    try:
        return split_host(text)[0]
    except BadRoute:
        return text


def resolved(
    request: AddNode, *, own_name: str, own_url: str | None, secure_port: int | None, port: int | None
) -> AddNode:
    """The request with the peer's URL. The ports are this node's own. Raises ``InvalidParams``."""
    if own_url is None:
        raise InvalidParams(NO_OWN_URL)
    url = request.url
    if url is None:
        host = f"[{request.name}]" if ":" in request.name else request.name
        named = host if request.port is None else f"{host}:{request.port}"
        url = derive_url(named, secure_port=secure_port, port=port)
    if normalized_name(request.name) == normalized_name(own_name) or is_same_place(url, own_url):
        raise InvalidParams(OWN_NAME)
    return replace(request, url=url)


def _add_node(body: Mapping[str, Any], *, needs_hostname: bool) -> AddNode:
    fields = _Fields(body)
    fields.check(lambda: refuse_unsupported(body))
    sent_name = fields.get("hostname", HOSTNAMES, Text().convert)
    url = fields.get("url", ("url",), _url)
    host = None if sent_name is None else fields.check(lambda: split_host(sent_name))
    if needs_hostname and not any(name in body for name in HOSTNAMES):
        fields.problems.append("'hostname' is required")
    elif not any(name in body for name in (*HOSTNAMES, "url")):
        fields.problems.append(NO_URL)
    flag = Boolean().convert
    values: dict[str, Any] = {
        "verify_tls": fields.get("verify_tls", ("verify_tls", "rejectUnauthorized"), flag),
        "authorization": fields.get("authorization", ("authorization",), _authorization),
        "retain_authorization": fields.get("retain_authorization", ("retain_authorization",), flag),
        "revoked": fields.get("revoked", ("revoked_certificates",), read_serials),
        "shard": fields.get("shard", ("shard",), Number(is_integer=True, at_least=0, at_most=SHARD_MAX).convert),
        "start_time_ms": fields.get("start_time_ms", ("start_time",), read_start_time),
        "replicates": fields.get("replicates", ("replicates",), read_directions),
        "subscriptions": fields.get("subscriptions", ("subscriptions",), _subscriptions),
        "is_leader": fields.get("is_leader", ("isLeader",), flag),
        "force_signing": fields.get("force_signing", ("force_signing",), flag),
    }
    if fields.problems:
        raise InvalidParams(". ".join(fields.problems))
    name, port = host if host is not None else (name_of_url(url or ""), None)
    return AddNode(
        name=name,
        url=url,
        label=sent_name or url or name,
        port=port,
        given=frozenset(fields.given),
        **{key: value for key, value in values.items() if value is not None},
    )


class _Fields:
    """The fields of a body as they are read one by one; what is wrong is gathered."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body
        self.given: set[str] = set()
        self.problems: list[str] = []

    def get(self, field_name: str, sent_as: tuple[str, ...], read: Callable[[str, Any], T]) -> T | None:
        """The value under the first of these names that was sent; None where there is none, or a wrong one."""
        label = next((name for name in sent_as if name in self._body), None)
        if label is None:
            return None
        self.given.add(field_name)
        return self.check(lambda: read(label, self._body[label]))

    def check(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (Problem, Unfit, BadRoute) as problem:
            self.problems.append(str(problem))
            return None


def _url(label: str, value: Any) -> str:
    text = Text().convert(label, value)
    name_of_url(text)
    return text


def _subscriptions(label: str, value: Any) -> Subscriptions:
    return None if value is None else read_subscriptions(label, value)


def _authorization(label: str, value: Any) -> str:
    """The header's value, made of a name and a password where those are sent."""
    if isinstance(value, Mapping):
        name, password = value.get("username"), value.get("password")
        if not (isinstance(name, str) and name and isinstance(password, str)) or ":" in name:
            raise Problem(BAD_AUTHORIZATION)
        value = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    if not isinstance(value, str) or len(value) > AUTHORIZATION_LENGTH_MAX or not _AUTHORIZATION.fullmatch(value):
        raise Problem(BAD_AUTHORIZATION)
    return value
