"""What a seed chooses: how many nodes, how busy, how fast, how often something breaks, and which settings.

No single run tries everything; the sum of the seeds does. The bounds of batches and credit are often tiny: what takes a
backlog of megabytes elsewhere happens here with a few entries.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Any, Final

from replication.settings import LinkSettings

KINDS: Final = (
    *("cut", "isolate", "isolate", "reset", "blackhole", "slow"),
    *("crash", "crash", "crash at", "crash at", "clock", "trim", "trim", "trim"),
)
"""Faults of every run, by weight."""
RARE_KINDS: Final = ("damage", "put back", "power loss", "rewind")
"""Faults of some runs."""
AGING_KINDS: Final = ("away", "away", "wipe")
"""Faults of runs with a retention."""


class Violation(AssertionError):
    """An invariant did not hold; the message says which, and a note how to see it again."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run, repeatable. ``faults_max`` and ``without`` leave faults out, to find those that matter."""

    seed: int
    nodes: int
    minutes: float
    keys: int
    write_every_s: float
    burst: int
    value_bytes: int
    fault_every_s: float
    latency_s: float
    skew_s: float
    rare_kinds: tuple[str, ...]
    settings: LinkSettings
    commit_s: float = 0.002
    """What a commit takes, about."""
    retention_s: float | None = None
    """Where given, logs are trimmed, records expire and tombstones are purged, by the rules."""
    faults_max: int | None = None
    without: frozenset[str] = frozenset()

    @classmethod
    def of(cls, seed: int, *, nodes: int | None = None, minutes: float = 10.0) -> "Plan":
        rng = random.Random(seed)
        count = rng.choice((2, 3, 3, 3, 3, 4, 5))
        ping_s = rng.choice((10.0, 20.0, 30.0))
        settings = LinkSettings(
            ping_interval_s=ping_s,
            ping_timeout_s=2 * ping_s,
            reconnect_s_max=rng.choice((10.0, 30.0)),
            batch_items=rng.choice((2, 256)),
            batch_bytes=rng.choice((1_000, 1 << 20)),
            scan_entries=rng.choice((3, 1024)),
            credit_bytes_min=rng.choice((500, 5_000, 1 << 20)),
            receive_memory_bytes=rng.choice((4_000, 1 << 28)),
            fail_over=rng.random() < 0.9,
        )
        return cls(
            seed=seed,
            nodes=nodes or count,
            minutes=minutes,
            keys=rng.choice((4, 12, 30)),
            write_every_s=rng.choice((8.0, 15.0, 40.0)) * count,
            burst=rng.choice((1, 4, 10)),
            value_bytes=rng.choice((0, 0, 300, 20_000)),
            fault_every_s=rng.choice((12.0, 25.0, 50.0)),
            latency_s=rng.choice((0.0005, 0.005, 0.05)),
            skew_s=rng.choice((0.0, 0.5, 30.0, 600.0)),
            rare_kinds=tuple(kind for kind in RARE_KINDS if rng.random() < 0.3),
            settings=settings,
            commit_s=rng.choice((0.002, 0.002, 0.2)),
        )

    @classmethod
    def aging(cls, seed: int, *, nodes: int | None = None, minutes: float = 20.0) -> "Plan":
        """A run that is long for its retention, in which nodes stay away longer than that, or come back with nothing.

        Clocks are no further apart than what is not reported: age is told by them.
        """
        plan = cls.of(seed, nodes=nodes, minutes=minutes)
        rng = random.Random(f"aging {seed}")
        return plan.changed(
            retention_s=rng.choice((60.0, 120.0, 240.0)),
            skew_s=rng.choice((0.0, 0.5, 8.0)),
            rare_kinds=(*plan.rare_kinds, *AGING_KINDS),
            settings=replace(plan.settings, mark_interval_s=rng.choice((5.0, 20.0, 60.0))),
        )

    def changed(self, **fields: Any) -> "Plan":
        return replace(self, **fields)

    @property
    def command(self) -> str:
        """How to run this again."""
        parts = [f"scripts/simulate --seed {self.seed} --nodes {self.nodes} --minutes {self.minutes:g}"]
        if self.retention_s is not None:
            parts.append("--aging")
        if self.faults_max is not None:
            parts.append(f"--faults {self.faults_max}")
        parts += [f"--without '{kind}'" for kind in sorted(self.without)]
        return " ".join(parts)


@dataclass
class Report:
    """What a run did; ``trace`` is equal for equal plans."""

    plan: Plan
    trace: str = ""
    writes: int = 0
    copies: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    quiet_after_s: float = 0.0
    virtual_s: float = 0.0
