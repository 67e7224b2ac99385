"""What the links count, for the status. Figures of a pair (peer, database) outlive its connections.

Each value is set where it becomes true, and a figure about durable data only behind its commit. ``link_status.py``
turns them into what clients see.
"""

from dataclasses import dataclass, field

from storage.entry import Origin


@dataclass(slots=True)
class Inbox:
    """What came from the peer. Instants are microseconds: ``_us`` by our clock, ``_ts`` commit times of entries."""

    connections: int = 0
    received_entries: int = 0
    received_bytes: int = 0
    received_us: int = 0
    """When the last batch came."""
    newest_ts: int = 0
    """Of what was received."""
    applied_ts: int = 0
    """Of what is durable here."""
    conflicts_lost: int = 0
    head: int = 0
    """The publisher's last ``lseq``, as far as it has told."""
    place: int = 0
    """The ``lseq`` up to which it has sent us what we want."""
    behind_since_us: int = 0
    """Since when we know that it has more for us, 0 where we have been sent all."""
    tables_equal: bool | None = None
    """What the last comparison at equal vectors found."""

    def begin(self) -> None:
        """A new connection: nothing is known of the publisher's log, nor of how equal the tables are."""
        self.head = self.place = self.behind_since_us = 0
        self.tables_equal = None

    def note_place(self, head: int, place: int, now_us: int) -> None:
        """The publisher told how long its log is, and up to where it has sent."""
        self.head, self.place = head, place
        if not self.unsent:
            self.behind_since_us = 0
        elif not self.behind_since_us:
            self.behind_since_us = now_us

    @property
    def unsent(self) -> int:
        """Entries of the publisher's log that it has yet to look at for us, some of which may be none of ours."""
        return max(0, self.head - self.place)


@dataclass(slots=True)
class Outbox:
    """What went to the peer."""

    connections: int = 0
    sent_entries: int = 0
    sent_bytes: int = 0
    skipped_entries: int = 0
    sending_ts: int = 0
    """Commit time of the newest entry that is being sent now, 0 where none is."""
    sent_us: int = 0
    """When an entry was last sent."""
    confirmed_ts: int = 0
    """Commit time of the newest entry that the peer has said is durable there."""
    window_bytes: int = 0
    """The most credit that the subscription had at once."""
    left_out: frozenset[Origin] | None = None
    """Origins that the peer does not take from us; None while it never subscribed."""


@dataclass(slots=True)
class LinkFigures:
    """Both directions of one pair."""

    inbox: Inbox = field(default_factory=Inbox)
    outbox: Outbox = field(default_factory=Outbox)
    alive_us: int = 0
    """Last proof of life that connections which have ended gave."""
