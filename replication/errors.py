"""Errors of the replication layer.

    ReplicationError
      LocalProtocolError   our own side broke the protocol: a bug here
      RemoteProtocolError  the peer sent what the protocol does not allow
      PeerRefused          the peer said why it does not want this connection
      LinkLost             the connection ended or fell silent
      NotConfirmed         a write is durable here, but too few peers confirmed it in time

The supervisor expects these on a link and dials again; any other error stops the node.
"""

from storage.errors import DatabaseError


class ReplicationError(DatabaseError):
    """Something between this node and a peer."""


class LocalProtocolError(ReplicationError):
    """A mistake of our own: a message that this side must not send now."""


class RemoteProtocolError(ReplicationError):
    """The peer broke the protocol; the connection ends. ``code`` is the error code it is told."""

    def __init__(self, message: str, *, code: str = "corrupt") -> None:
        super().__init__(message)
        self.code = code


class PeerRefused(ReplicationError):
    """The peer does not want this connection. ``after_s`` is when to dial again: None by the usual delays, negative
    never before the membership changes.
    """

    def __init__(self, reason: str, *, code: str = "not-permitted", after_s: float | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.after_s = after_s


class LinkLost(ReplicationError):
    """The connection ended: closed by the peer, cut, or silent for too long."""


class NotConfirmed(ReplicationError):
    """Fewer peers than asked confirmed a write in time. It stays committed and goes on replicating."""
