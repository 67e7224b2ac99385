"""A dispatcher over a real catalog, without a server: ``node`` takes requests as clients word them."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import rsa

from node.certificate_source import CertificateSource
from node.certificate_store import CertificateStore
from ops.authentication import Authenticator
from ops.context import Services
from ops.dispatch import OperationsDispatcher
from ops.first_start import ensure_first_administrator
from ops.http import Peer, Request, Response
from ops.jobs import JobRunner
from ops.passwords import Passwords
from ops.reference import OPERATIONS
from ops.settings import OpsSettings
from ops.system_tables import ensure_system_tables
from ops.tokens import Tokens
from storage.catalog import open_catalog
from storage.clock import wall_clock
from storage.settings import StorageSettings

ADMIN = "admin"
PASSWORD = "Otter-1"
SIGNING_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Keys:
    """A key pair that is there at once: making one as large as a node's takes seconds."""

    async def signing_key(self) -> rsa.RSAPrivateKey:
        return SIGNING_KEY

    async def verification_key(self) -> rsa.RSAPublicKey:
        return SIGNING_KEY.public_key()


@dataclass
class FakeControl:
    restarts: int = 0

    def restart(self) -> None:
        self.restarts += 1


@dataclass
class FakeConfiguration:
    """Keeps what it is told; the real one is tested with its file."""

    values: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return dict(self.values)

    async def change(self, values: Mapping[str, Any]) -> None:
        self.values |= values


@dataclass
class Node:
    """``await node.post({"operation": ...})`` as the administrator, ``user=`` (name, password) for others, None for
    nobody.
    """

    services: Services
    dispatcher: OperationsDispatcher
    control: FakeControl

    async def post(
        self, body: Any, *, user: tuple[str, str] | None = (ADMIN, PASSWORD), headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded JSON body of the answer."""
        response = await self.respond(body, user=user, headers=headers)
        content = await whole_body(response)
        return response.status, json.loads(content) if content else None

    async def respond(
        self, body: Any, *, user: tuple[str, str] | None = (ADMIN, PASSWORD), headers: Mapping[str, str] | None = None
    ) -> Response:
        sent = {"content-type": "application/json", "host": "127.0.0.1:9925", **(headers or {})}
        if user is not None:
            sent["authorization"] = basic(*user)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        peer = Peer(address="127.0.0.1")
        return await self.dispatcher(Request(method="POST", target="/", headers=sent, body=content, peer=peer))

    async def ok(self, **body: Any) -> Any:
        """The answer to a request of the administrator's that has to succeed."""
        status, answer = await self.post(body)
        assert status == 200, answer
        return answer


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


async def whole_body(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([piece async for piece in response.body])


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    settings = OpsSettings(
        node="n1",
        version="0",
        root_path=tmp_path,
        keys_path=tmp_path / "keys",
        log_path=tmp_path / "log",
        hash_function="sha256",
    )
    storage = StorageSettings(path=tmp_path / "database", map_size_bytes=1 << 30)
    async with open_catalog(storage, node="n1") as catalog, trio.open_nursery() as nursery:
        await ensure_system_tables(catalog)
        await ensure_first_administrator(catalog, settings, ADMIN, PASSWORD)
        jobs = JobRunner(catalog)
        await nursery.start(jobs.run)
        control = FakeControl()
        services = Services(
            catalog=catalog,
            certificates=CertificateStore(
                catalog, CertificateSource(catalog, keys=settings.keys_path, node=settings.node)
            ),
            configuration=FakeConfiguration(),
            control=control,
            jobs=jobs,
            passwords=Passwords(function="sha256"),
            tokens=Tokens(Keys()),
            settings=settings,
            clock=wall_clock,
        )
        authenticator = Authenticator(
            catalog=catalog, settings=settings, passwords=services.passwords, tokens=services.tokens
        )
        yield Node(services, OperationsDispatcher(services, OPERATIONS, authenticator), control)
        nursery.cancel_scope.cancel()
