"""What an operation's handler can reach, beside its own parameters."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from ops.http import Request
from ops.passwords import Passwords
from ops.settings import OpsSettings
from ops.tokens import Tokens
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
class Services:
    """What a node hands to its operations: one value per node, made by ``node/assembly.py``."""

    catalog: Catalog
    configuration: Configuration
    control: NodeControl
    jobs: Jobs
    passwords: Passwords
    tokens: Tokens
    settings: OpsSettings
    clock: WallClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One request's surroundings. ``body`` is the decoded request as sent, ``operation`` the name it was sent under."""

    services: Services
    user: User | None
    request: Request
    body: Mapping[str, Any]
    operation: str

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
