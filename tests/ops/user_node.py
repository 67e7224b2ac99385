"""A node as far as users need one: a real catalog, the dispatcher, and the operations on users and records.

Its password hashing is cheap, its keys are short; all else is what a node runs. Requests are whole ones: bytes in,
status and decoded body out.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import rsa

from ops.authentication import Authenticator
from ops.context import Services
from ops.dispatch import OperationsDispatcher
from ops.first_start import ensure_first_administrator
from ops.http import Peer, Request
from ops.passwords import Argon2Cost, Passwords
from ops.sections import records, roles, sessions, tokens, users
from ops.settings import OpsSettings
from ops.system_records import stored_records
from ops.system_tables import SYSTEM, ensure_system_tables
from ops.tokens import Tokens
from storage.catalog import Catalog, open_catalog
from storage.clock import wall_clock
from storage.schema import Attribute, Definition, dynamic_attributes
from storage.settings import StorageSettings
from storage.write_transaction import WriteTransaction

CHEAP = Argon2Cost(memory_kib=64, iterations=1, lanes=1)
ADMIN = ("admin", "secret of admin")
FAR = Peer(address="192.0.2.7")
SECTIONS = (records, roles, sessions, tokens, users)


@cache
def key_pair() -> rsa.RSAPrivateKey:
    """Short, as making a long one takes seconds."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class HeldKeys:
    """A key pair in memory."""

    async def signing_key(self) -> rsa.RSAPrivateKey:
        return key_pair()

    async def verification_key(self) -> rsa.RSAPublicKey:
        return key_pair().public_key()


@dataclass(slots=True)
class TimeOfDay:
    """A clock for tokens that a test sets forward."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class UserNode:
    catalog: Catalog
    authenticator: Authenticator
    dispatcher: OperationsDispatcher
    services: Services

    async def ask(
        self,
        body: Mapping[str, Any],
        user: tuple[str, str] | str | None = ADMIN,
        *,
        headers: Mapping[str, str] | None = None,
        peer: Peer = FAR,
    ) -> Answer:
        """The answer to ``body``, sent by ``user``: name and password, a token, or nobody."""
        request = request_of(body, user, headers=headers, peer=peer)
        response = await self.dispatcher(request)
        assert isinstance(response.body, bytes)
        headers_sent = dict(response.headers)
        is_json = headers_sent["content-type"] == "application/json"
        return Answer(response.status, json.loads(response.body) if is_json else response.body.decode(), headers_sent)

    async def done(self, operation: str, **fields: Any) -> Any:
        """The result of an operation that must succeed, as the administrator."""
        answer = await self.ask({"operation": operation, **fields})
        assert answer.status == 200, answer
        return answer.body

    async def add_user(self, name: str, role: str = "keeper", *, active: bool = True) -> tuple[str, str]:
        """A new user; returns its name and password."""
        await self.done("add_user", username=name, password=f"secret of {name}", role=role, active=active)
        return name, f"secret of {name}"

    def stored(self, table: str) -> list[dict[str, Any]]:
        """All records of a system table."""
        with self.catalog.database(SYSTEM).read() as tx:
            return list(stored_records(tx, tx.table(table)))


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def request_of(
    body: Mapping[str, Any],
    user: tuple[str, str] | str | None,
    *,
    headers: Mapping[str, str] | None = None,
    peer: Peer = FAR,
) -> Request:
    sent = {"content-type": "application/json", **(headers or {})}
    if user is not None:
        sent["authorization"] = f"Bearer {user}" if isinstance(user, str) else basic(*user)
    return Request(method="POST", target="/", headers=sent, body=json.dumps(body).encode(), peer=peer)


OTTER = Definition(
    name="otter",
    primary_key="id",
    attributes=(
        *dynamic_attributes("id"),
        *(Attribute(name=name, indexed=True) for name in ("name", "weight", "age")),
    ),
)
STAFF = Definition(name="staff", primary_key="id", attributes=dynamic_attributes("id"))


def permission_of(rights: str, *attributes: tuple[str, str], **more: Any) -> dict[str, Any]:
    """A permission object for zoo.otter: letters of r, i, u, d for the table, of r, i, u for each attribute."""
    letters = {"read": "r", "insert": "i", "update": "u", "delete": "d"}
    listed = [
        {"attribute_name": name, **{right: letters[right] in granted for right in ("read", "insert", "update")}}
        for name, granted in attributes
    ]
    table = {right: letter in rights for right, letter in letters.items()} | {"attribute_permissions": listed}
    return {"super_user": False, "zoo": {"tables": {"otter": table}}, **more}


@asynccontextmanager
async def open_user_node(
    path: Path, *, passwords: Passwords | None = None, now_s: TimeOfDay | None = None, **settings: Any
) -> AsyncIterator[UserNode]:
    """A node with the administrator ``ADMIN``, and database ``zoo`` with two tables. Nothing is synced to disk."""
    ops_settings = OpsSettings(
        node="n1", version="0", root_path=path, keys_path=path / "keys", log_path=path / "log", **settings
    )
    storage = StorageSettings(path=path / "database", map_size_bytes=1 << 30, sync=False)
    async with open_catalog(storage, node="n1") as catalog:
        await ensure_system_tables(catalog)
        await ensure_first_administrator(catalog, ops_settings, *ADMIN, cost=CHEAP)
        await catalog.create("zoo")
        await catalog.write("zoo", _create_tables)
        made = passwords or Passwords(function=ops_settings.hash_function, cost=CHEAP)
        services = Services(
            catalog=catalog,
            certificates=cast(Any, None),
            configuration=cast(Any, None),
            control=cast(Any, None),
            jobs=cast(Any, None),
            settings=ops_settings,
            clock=wall_clock,
            passwords=made,
            tokens=Tokens(HeldKeys(), now_s=now_s) if now_s else Tokens(HeldKeys()),
        )
        authenticator = Authenticator(catalog=catalog, settings=ops_settings, passwords=made, tokens=services.tokens)
        operations = {operation.name: operation for section in SECTIONS for operation in section.OPERATIONS}
        yield UserNode(catalog, authenticator, OperationsDispatcher(services, operations, authenticator), services)


def _create_tables(tx: WriteTransaction) -> None:
    tx.create_table(OTTER)
    tx.create_table(STAFF)
