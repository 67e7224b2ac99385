"""Who sends this node what, of one database: which origins each stream leaves out, and when only a copy helps. Pure.

Every connected peer sends all origins but our own and those whose node streams to us itself. When such a direct
stream ends, the others take its origin over at once; what arrives twice is dropped by position, so nothing here can
lose an entry, it can only cost bytes or time. An origin that a peer cannot serve (trimmed, filtered, reduced) is
taken from any other; where no open stream can serve what some peer has, a copy is needed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from storage.entry import Origin

COPY_HELPS_WITH = frozenset(("trimmed", "reduced", "corrupt"))
"""Reasons for a void behind which a copy from that peer brings what is missing. What was filtered away on its way to
that peer is in none of its rows."""


@dataclass(slots=True, kw_only=True)
class Provider:
    """One open stream: whose it is, and what its publisher said it has and does not have."""

    peer: str
    origin: Origin
    """The publisher's own current one."""
    vector: dict[Origin, int]
    unserved: dict[Origin, str] = field(default_factory=dict)
    """Origins that it cannot go on with, and why."""
    takes_all: bool = True
    """Whether it brings all tables, so that others need not bring its origin."""

    def serves(self, origin: Origin, position: int) -> bool:
        """Whether it has more of ``origin`` than we do and can send it."""
        return self.vector.get(origin, 0) > position and origin not in self.unserved


class Intake:
    """The open streams of one database."""

    def __init__(self, *, fail_over: bool = True) -> None:
        self._fail_over = fail_over
        self._providers: dict[str, Provider] = {}
        self._last_known: dict[str, Origin] = {}
        self.own: Origin | None = None

    @property
    def providers(self) -> Mapping[str, Provider]:
        return self._providers

    def open(self, provider: Provider) -> None:
        self._providers[provider.peer] = provider
        self._last_known[provider.peer] = provider.origin

    def close(self, provider: Provider) -> None:
        """Only this very stream: a newer one of the same peer stays."""
        if self._providers.get(provider.peer) is provider:
            del self._providers[provider.peer]

    def left_out(self, peer: str) -> frozenset[Origin]:
        """The origins that ``peer`` must not send: our own, and those that come directly from their node."""
        direct = {
            provider.origin
            for name, provider in self._providers.items()
            if name != peer and provider.takes_all and provider.origin not in provider.unserved
        }
        if not self._fail_over:
            away = self._last_known.keys() - self._providers.keys()
            direct |= {self._last_known[name] for name in away if name != peer}
        return frozenset(direct if self.own is None else direct | {self.own})

    def stuck(self, positions: Mapping[Origin, int]) -> dict[Origin, list[str]]:
        """Origins of which some peer has more but nobody can send it, with the peers whose copy would help."""
        behind: dict[Origin, list[str]] = {}
        for provider in self._providers.values():
            for origin, oseq in provider.vector.items():
                if origin != self.own and oseq > positions.get(origin, 0):
                    behind.setdefault(origin, [])
                    if provider.unserved.get(origin) in COPY_HELPS_WITH:
                        behind[origin].append(provider.peer)
        return {
            origin: peers
            for origin, peers in behind.items()
            if not any(p.serves(origin, positions.get(origin, 0)) for p in self._providers.values())
        }


def is_fresh(positions: Mapping[Origin, int], vector: Mapping[Origin, int]) -> bool:
    """Whether a publisher at ``vector`` holds entries, and the subscriber at ``positions`` none of those origins.

    It starts with a copy even where the log reaches back: a replay would bring back what was dropped since.
    """
    held = [origin for origin, oseq in vector.items() if oseq]
    return bool(held) and not any(positions.get(origin) for origin in held)


def choose_source(
    candidates: Iterable[str], *, leaders: Iterable[str] = (), routes: Iterable[str] = (), latency: Mapping[str, float]
) -> str | None:
    """Whom to copy from: a named leader, else the first route, else the nearest."""
    able = sorted(candidates)
    for preferred in (*leaders, *routes):
        if preferred in able:
            return preferred
    return min(able, key=lambda peer: latency.get(peer, float("inf")), default=None)
