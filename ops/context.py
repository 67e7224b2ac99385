"""What an operation's handler can reach, beside its own parameters."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from ops.http import Request
from ops.passwords import Passwords
from ops.settings import OpsSettings
from ops.tokens import Tokens
from replication.cluster import Cluster
from storage.catalog import Catalog
from storage.clock import WallClock
from storage.database import WriteFunction


class Configuration(Protocol):
    """The configuration file of this node, as the operations see it."""

    def document(self) -> dict[str, Any]:
        """The file's content: nested, camelCase, paths resolved. A fresh copy; the caller may change it."""

    async def change(self, values: Mapping[str, Any]) -> None:
        """Check flat names with values, back the old file up and write the new one.

        Raises ``InvalidParams`` with the operation's literal text when a value does not fit; nothing is written then.
        """


class NodeControl(Protocol):
    """What an operation may ask of the process it runs in."""

    def restart(self) -> None:
        """Begin to stop accepting, drain and start again; the answer to this request is still sent."""


class Jobs(Protocol):
    """Long operations: ``ops/jobs.py``."""

    async def start(self, context: "Context", kind: str, work: "Work") -> str:
        """Store the job's record, begin ``work`` in the background, and return the job's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCertificate:
    """A certificate to be added, PEM texts unchecked. None leaves a field of a known record as it is."""

    certificate: str
    """May be a chain, the leaf first."""
    is_authority: bool
    name: str | None = None
    """None: it is called after the host it is for."""
    private_key: str | None = field(default=None, repr=False)
    """None: one that the node has already."""
    hosts: list[str] | None = None
    uses: list[str] | None = None
    ciphers: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningRequest:
    pem: str
    private_key_name: str
    """File of the keys folder that holds its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCertificate:
    certificate_pem: str
    authority_pem: str


class Certificates(Protocol):
    """The certificates of this node: ``node/certificate_store.py``. Wrong input is refused with ``InvalidParams``."""

    def rows(self) -> list[dict[str, Any]]:
        """All records of ``hdb_certificate``, by name. No key material is in them."""

    async def add(self, new: NewCertificate, *, user: str | None) -> str:
        """Add a certificate, or replace the one of its name. Returns the name as file names have it."""

    async def remove(self, name: str, *, user: str | None) -> None:
        """Remove a certificate, and its key where no other has it."""

    async def create_csr(self) -> SigningRequest:
        """A request to sign this node's key for its names."""

    async def sign(
        self,
        csr_pem: str,
        *,
        for_node: str | None = None,
        url_host: str | None = None,
        may_take_over: bool = False,
        others: Iterable[str] = (),
    ) -> SignedCertificate:
        """Sign a request with this node's authority.

        With ``for_node`` the certificate is for that node alone, whose URL has ``url_host``. Names of this node and of
        ``others``, the members that the caller is not, are given only where it ``may_take_over`` them.
        """

    async def authority_pem(self) -> str:
        """The authority that peers have to trust to accept this node."""

    async def needs_signature(self) -> bool:
        """Would peers see a certificate that only this node vouches for, or one without its name?"""

    async def accept_signed(self, certificate_pem: str, authority_pem: str) -> None:
        """Show peers this answer to ``create_csr`` from now on, and trust its authority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An authenticated user with its live role. ``role`` is None where that is gone: every operation is refused then."""

    name: str
    role: Mapping[str, Any] | None
    is_active: bool = True
    is_local: bool = False
    """Came in over the local bypass, without credentials."""
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The stored row, for its times; the password hash is never shown."""

    @property
    def permission(self) -> Mapping[str, Any]:
        return {} if self.role is None else self.role.get("permission", {})

    @property
    def is_super_user(self) -> bool:
        return self.permission.get("super_user") is True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCaller:
    """Another node that asks for an operation. One that is no member came with credentials, to join."""

    name: str
    is_member: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a node hands to its operations: one value per node, made by ``node/assembly.py``."""

    catalog: Catalog
    certificates: Certificates
    configuration: Configuration
    control: NodeControl
    jobs: Jobs
    passwords: Passwords
    tokens: Tokens
    settings: OpsSettings
    clock: WallClock
    cluster: Cluster | None = None
    """None: this node takes no part in replication."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One request's surroundings. ``body`` is the decoded request as sent, ``operation`` the name it was sent under."""

    services: Services
    user: User | None
    request: Request
    body: Mapping[str, Any]
    operation: str
    caller: NodeCaller | None = None
    """None for a client's request."""

    @property
    def catalog(self) -> Catalog:
        return self.services.catalog

    @property
    def user_name(self) -> str | None:
        return None if self.user is None else self.user.name

    async def write(self, database: str, function: WriteFunction) -> Any:
        """Run ``function`` as one transaction, logged under this request's user and operation."""
        return await self.catalog.write(database, function, user=self.user_name, operation=self.operation)


class Progress(Protocol):
    """How a running job tells how far it is."""

    async def report(self, done: int, total: int | None, unit: str) -> None:
        """Note the progress in the job's record, at most once a second."""


Work: TypeAlias = Callable[[Progress], Awaitable[Any]]
"""A job's work. A text that it returns becomes the job's message, anything else its result."""
