"""Who may connect: from what a peer has shown to who it is. Nothing that it sends is read before.

On the secure port the certificate names it: the first of its names that is a member's. Without a certificate (a join, or
a peer with retained credentials) the credentials of a super user are needed. On the plain port of the insecure mode the
address is the name.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from cryptography import x509

from replication.connection import PeerIdentity
from replication.errors import PeerRefused
from replication.identity import NO_ENTRY, NO_PROOF, REVOKED, identify, names_of
from replication.listener import Incoming
from replication.membership_watch import MembershipWatch
from replication.wanted_links import revoked_serials

log = logging.getLogger("replication")

IsSuperUser: TypeAlias = Callable[[str], Awaitable[bool]]
"""Whether the value of an ``Authorization`` header is that of a super user of this node."""


class Admission:
    """``await admission(incoming)``: the ``Admit`` of the listener."""

    def __init__(self, watch: MembershipWatch, is_super_user: IsSuperUser) -> None:
        self._watch = watch
        self._is_super_user = is_super_user

    async def __call__(self, incoming: Incoming) -> PeerIdentity:
        """Raises ``PeerRefused``."""
        refusal = NO_PROOF
        if not incoming.is_secure:
            if incoming.address in self._watch.known_names():
                return PeerIdentity(name=incoming.address, address=incoming.address)
            refusal = NO_ENTRY.format(name=incoming.address)
        elif incoming.certificate is not None:
            name = identify(incoming.certificate, self._watch.known_names())
            if name is not None:
                return self._certified(incoming, incoming.certificate, name)
            shown = names_of(incoming.certificate)
            refusal = NO_ENTRY.format(name=shown[0]) if shown else "the certificate names nobody"
        if incoming.authorization is not None:
            if await self._is_super_user(incoming.authorization):
                return PeerIdentity(name=None, address=incoming.address, is_super_user=True)
            refusal = "Login failed"
        raise PeerRefused(refusal)

    def _certified(self, incoming: Incoming, certificate: x509.Certificate, name: str) -> PeerIdentity:
        serial = certificate.serial_number
        if serial in revoked_serials(self._watch.membership, self._watch.routes, name):
            raise PeerRefused(REVOKED.format(serial=serial, name=name), code="revoked")
        return PeerIdentity(
            name=name,
            address=incoming.address,
            serial=serial,
            not_after_s=certificate.not_valid_after_utc.timestamp(),
        )
