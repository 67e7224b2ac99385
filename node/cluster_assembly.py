"""Builds a node's part in a cluster out of its settings: membership, links, port and TLS. Starts nothing."""

import logging
import random
from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import trio

from node.replication_tls import ReplicationTls
from node.settings import ReplicationSettings
from ops.authentication import Authenticator
from ops.errors import AuthenticationFailed
from ops.http import Peer, Request
from ops.joining import authority_fields
from replication.admission import Admission
from replication.cluster import Cluster, Ports
from replication.dialer import Dialer
from replication.listener import ReplicationListener
from replication.membership_changes import OwnNode
from replication.membership_watch import MembershipWatch
from replication.remote_calls import Handler
from replication.routes import BadRoute, Route, parse_route
from replication.settings import MEBIBYTE, LinkSettings
from replication.supervisor import Supervisor
from replication.transport import TransportSettings
from storage.catalog import Catalog
from storage.errors import Overloaded

log = logging.getLogger("replication")


def assemble_cluster(
    settings: ReplicationSettings,
    catalog: Catalog,
    tls: ReplicationTls,
    *,
    authenticator: Authenticator,
    handler: Handler,
    authority_pem: str,
) -> Cluster:
    """The cluster of a node that takes part. ``authority_pem`` is that of the certificate that it shows."""
    own = OwnNode(
        name=settings.node_name,
        url=settings.url,
        shard=settings.shard,
        databases=settings.databases,
        **authority_fields(authority_pem),
    )
    ports = Ports(
        secure=None if settings.secure_port is None else settings.secure_port.port,
        plain=None if settings.port is None else settings.port.port,
    )
    watch = MembershipWatch(
        catalog,
        own,
        list(usable_routes(settings.routes, ports)),
        databases=settings.databases,
        before_change=partial(trio.to_thread.run_sync, tls.reload_if_changed),
    )
    transport = TransportSettings()
    dial = Dialer(tls.client_context, transport, local_address=_own_loopback(settings))
    supervisor = Supervisor(
        catalog=catalog,
        policy=watch,
        dial=dial,
        handler=handler,
        settings=link_settings(settings),
        url=settings.url,
        shard=settings.shard,
        rng=random.Random(),
    )
    if settings.port is not None:
        log.warning("the insecure replication port %s is open: peers are known by their addresses alone", settings.port)
    listener = ReplicationListener(
        settings.secure_port,
        settings.port,
        tls.server_context,
        Admission(watch, SuperUserCheck(authenticator)),
        transport,
    )
    return Cluster(
        catalog=catalog,
        watch=watch,
        supervisor=supervisor,
        listener=listener,
        dial=dial,
        ports=ports,
        shard=settings.shard,
        replicate_to=settings.replicate_to,
    )


def link_settings(settings: ReplicationSettings) -> LinkSettings:
    """What the links read, out of the node's settings."""
    return LinkSettings(
        ping_interval_s=settings.ping_interval_s,
        ping_timeout_s=settings.ping_timeout_s,
        frame_bytes_max=settings.payload_bytes_max + MEBIBYTE,
        entry_bytes_max=settings.payload_bytes_max,
        receive_memory_bytes=settings.receive_memory_bytes,
        fail_over=settings.fail_over,
        copies_to_catch_up=settings.copy_tables_to_catch_up,
        clock_skew_s_max=settings.clock_skew_s_max,
        confirmation_timeout_s=settings.confirmation_timeout_s,
        mark_interval_s=settings.mark_interval_s,
    )


def usable_routes(configured: Iterable[Any], ports: Ports) -> Iterable[Route]:
    """The configured routes; a bad one is logged and left out, it never prevents a start."""
    for raw in configured:
        try:
            yield parse_route(raw, secure_port=ports.secure, port=ports.plain)
        except BadRoute as error:
            log.error("a route of the configuration is left out: %s", error)


class SuperUserCheck:
    """Whether the value of an ``Authorization`` header is that of a super user of this node."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def __call__(self, authorization: str) -> bool:
        request = Request(method="GET", target="/", headers={"authorization": authorization}, body=b"", peer=Peer())
        try:
            user = await self._authenticator.authenticate(request, {})
        except (AuthenticationFailed, Overloaded):
            return False
        return user is not None and user.is_super_user and user.is_active


def _own_loopback(settings: ReplicationSettings) -> str | None:
    """Where insecure links come from: the address by which peers of the same machine know this node."""
    host = urlsplit(settings.url or "").hostname or ""
    return host if settings.port is not None and host.startswith("127.") else None
