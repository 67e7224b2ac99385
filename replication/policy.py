"""Who may do what, and which links this node wants: what the supervisor asks of the membership."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from replication.connection import PeerIdentity
from replication.subscription import TableSelection
from replication.wanted_links import WantedLinks


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a peer is turned away. With ``is_final`` it need not come back before the membership changes."""

    code: str
    reason: str
    is_final: bool = False


class Policy(Protocol):
    """The current membership, as rules."""

    def wanted(self, local: Collection[str], remote: Mapping[str, Collection[str]]) -> WantedLinks:
        """The links to keep, given the databases here and those that each peer has announced."""

    def refusal(self, peer: PeerIdentity, name: str, kind: str) -> Refusal | None:
        """Why a peer that calls itself ``name`` may not have a connection of this kind (``control`` or ``stream``) now;
        asked again whenever members change.
        """

    def may_subscribe(self, peer: str, database: str, tables: TableSelection) -> str | None:
        """Why a peer may not take these tables; None where it may."""

    def may_create(self, database: str, created: int) -> bool:
        """Whether a database that a peer announced, and that is not here, may be created."""

    async def wait_for_change(self) -> None:
        """Wait until any of the answers may have changed."""
