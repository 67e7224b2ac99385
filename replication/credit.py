"""Byte credit: what all subscriptions of a node together have allowed their peers to send, out of one budget.

A subscription's window begins small and grows while the peer uses it up and the budget allows. Memory is bounded by
credit, never by how far a peer is ahead.
"""

from replication.settings import LinkSettings


class CreditBudget:
    """Bytes that may be given out in all."""

    def __init__(self, size_bytes: int) -> None:
        self.free_bytes = size_bytes

    def take(self, wanted_bytes: int) -> int:
        """As many of the wanted bytes as are free."""
        taken = max(0, min(wanted_bytes, self.free_bytes))
        self.free_bytes -= taken
        return taken

    def give_back(self, size_bytes: int) -> None:
        self.free_bytes += size_bytes


class CreditWindow:
    """One subscription's share. ``open`` bytes may still come, ``held`` came and wait to be applied."""

    def __init__(self, budget: CreditBudget, settings: LinkSettings) -> None:
        self._budget = budget
        self._settings = settings
        self.size_bytes = 0
        self.open_bytes = 0
        self.held_bytes = 0

    def begin(self) -> int:
        """The first grant of a subscription. A budget that is used up still grants an entry at a time."""
        self.close()
        self.held_bytes = 0
        wanted = self._settings.credit_bytes_min
        taken = self._budget.take(wanted)
        self.size_bytes = taken
        self.open_bytes = max(taken, 1)
        return self.open_bytes

    def arrived(self, size_bytes: int) -> None:
        self.open_bytes -= size_bytes
        self.held_bytes += size_bytes

    def applied(self, size_bytes: int) -> int:
        """Bytes to grant anew: those that were applied, and more where the peer had used up all it had."""
        self.held_bytes -= size_bytes
        was_exhausted = self.open_bytes <= 0
        if was_exhausted and self.size_bytes < self._settings.credit_bytes_max:
            self.size_bytes += self._budget.take(
                min(self.size_bytes, self._settings.credit_bytes_max - self.size_bytes)
            )
        target = max(self.size_bytes, 1) - self.held_bytes
        grant = max(0, target - self.open_bytes)
        self.open_bytes += grant
        return grant

    def close(self) -> None:
        self._budget.give_back(self.size_bytes)
        self.size_bytes = 0
