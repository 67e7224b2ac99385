"""Nodes' certificates, and a listener with a dialler for it on 127.0.0.1."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio
import trustme
from cryptography import x509

from replication.connection import Connection, PeerIdentity, Serve, Target
from replication.dialer import Dialer
from replication.errors import PeerRefused
from replication.listener import Incoming, ReplicationListener
from replication.tcp_ports import Address
from replication.transport import TransportSettings

HOST = "127.0.0.1"
TEST_S_MAX = 20.0
"""No test waits longer than this for anything."""
SETTINGS = TransportSettings()
AUTHORITY = trustme.CA()
OTHER_AUTHORITY = trustme.CA()
NODE_A = AUTHORITY.issue_cert("node-a", common_name="node-a")
NODE_B = AUTHORITY.issue_cert("node-b", common_name="node-b")
STRANGER = OTHER_AUTHORITY.issue_cert("node-a", common_name="node-a")
EXPIRED = AUTHORITY.issue_cert("node-a", common_name="node-a", not_after=datetime(2020, 1, 1, tzinfo=UTC))


def server_context(own: trustme.LeafCert, *, verify_mode: ssl.VerifyMode = ssl.CERT_OPTIONAL) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    context.verify_mode = verify_mode
    own.configure_cert(context)
    AUTHORITY.configure_trust(context)
    return context


def client_context(own: trustme.LeafCert | None, *, verify: bool = True) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if own is not None:
        own.configure_cert(context)
    AUTHORITY.configure_trust(context)
    return context


def parsed(own: trustme.LeafCert) -> x509.Certificate:
    return x509.load_pem_x509_certificate(own.cert_chain_pems[0].bytes())


@dataclass(kw_only=True)
class Door:
    """Lets everybody in whom ``refusal`` does not keep out, and remembers what they showed."""

    refusal: str | None = None
    incoming: list[Incoming] = field(default_factory=list)

    async def __call__(self, incoming: Incoming) -> PeerIdentity:
        self.incoming.append(incoming)
        if self.refusal is not None:
            raise PeerRefused(self.refusal)
        return PeerIdentity(name="node-a", address=incoming.address)


async def serve_nothing(connection: Connection) -> None:
    await connection.close()


async def serve_echo(connection: Connection) -> None:
    try:
        while True:
            await connection.send(await connection.receive(100_000_000))
    finally:
        await connection.close()


@asynccontextmanager
async def listening(
    serve: Serve,
    *,
    admit: Callable[[Incoming], Awaitable[PeerIdentity]] | None = None,
    is_secure: bool = True,
    settings: TransportSettings = SETTINGS,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """The URL of a listener of node-b."""
    context = context or server_context(NODE_B)
    address = Address(port=0, host=HOST)
    listener = ReplicationListener(
        address if is_secure else None,
        None if is_secure else address,
        lambda: context,
        admit or Door(),
        settings,
    )
    with trio.fail_after(TEST_S_MAX):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.run, serve)
            yield listener.urls[0]
            nursery.cancel_scope.cancel()


def dialer(
    own: trustme.LeafCert | None = NODE_A,
    *,
    settings: TransportSettings = SETTINGS,
    local_address: str | None = None,
) -> Dialer:
    def context(*, verify: bool, shows_certificate: bool, authorities_pem: str | None) -> ssl.SSLContext:
        return client_context(own if shows_certificate else None, verify=verify)

    return Dialer(context, settings, local_address=local_address)


def node_b(url: str, **more: object) -> Target:
    return Target(**{"url": url, "name": "node-b", **more})  # type: ignore[arg-type]


@asynccontextmanager
async def dialled_and_accepted(*, is_secure: bool) -> AsyncIterator[tuple[Connection, Connection]]:
    """Both ends of one connection."""
    accepting, accepted = trio.open_memory_channel[Connection](1)
    is_over = trio.Event()

    async def serve(connection: Connection) -> None:
        await accepting.send(connection)
        await is_over.wait()
        await connection.close()

    async with listening(serve, is_secure=is_secure) as url:
        dialled = await dialer()(node_b(url))
        try:
            yield dialled, await accepted.receive()
        finally:
            is_over.set()
            await dialled.close()
