"""Settings of the replication layer: read once, passed in. Durations are seconds, sizes bytes."""

from dataclasses import dataclass
from typing import Final

MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """What all links of a node have in common."""

    ping_interval_s: float = 30.0
    ping_timeout_s: float = 60.0
    """Silence after which a peer counts as gone; also the time it has to answer a subscription."""
    frame_bytes_max: int = 100_000_000 + MEBIBYTE
    """Largest frame accepted: the largest entry and what stands around it."""
    entry_bytes_max: int = 100_000_000
    """Largest payload of one entry that this node takes (``replication.maxPayload``)."""
    receive_memory_bytes: int = 256 * MEBIBYTE
    """Credit that all links together may have given out."""
    credit_bytes_min: int = MEBIBYTE
    """What every subscription begins with."""
    credit_bytes_max: int = 8 * MEBIBYTE
    """What a subscription grows to while the budget allows."""
    batch_bytes: int = MEBIBYTE
    batch_items: int = 256
    """A batch ends at either: the subscriber applies it in one transaction, between the writes of its clients."""
    scan_entries: int = 1024
    """Entries looked at per step where few are wanted: bounds how long the event loop waits."""
    reconnect_s_min: float = 0.5
    reconnect_s_max: float = 30.0
    fail_over: bool = True
    copies_to_catch_up: bool = True
    copy_patience_s: float = 2.0
    """How long a database waits for another peer to serve what this one cannot, before it takes a copy."""
    clock_skew_s_max: float = 60.0
    confirmation_timeout_s: float = 60.0
    mark_interval_s: float = 60.0
