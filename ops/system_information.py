"""``system_information``: groups of facts about the machine, the process and the databases, collected on demand.

A group that cannot be collected is ``{}``: the operation is what people call when something is wrong already.
Collecting reads files and counters, waits a fifth of a second where a load is measured, and contacts no other host.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ops.disk_and_network_facts import NO_NETWORK, disk_facts, network_facts
from ops.host_facts import cpu_facts, memory_facts, system_facts, time_facts
from ops.load_measurement import LoadMeasurement
from ops.process_facts import process_facts

log = logging.getLogger("ops")

GROUPS: Final = (
    "system",
    "time",
    "cpu",
    "memory",
    "disk",
    "network",
    "harperdb_processes",
    "table_size",
    "metrics",
    "threads",
    "replication",
)
ALIASES: Final[Mapping[str, str]] = {"database_metrics": "metrics"}
_Collect: TypeAlias = Callable[[], Any]


def _this_process() -> Sequence[int]:
    return (os.getpid(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What only the node knows. The callables run in the collecting thread and may block."""

    table_size: Callable[[], list[dict[str, Any]]]
    metrics: Callable[[], dict[str, Any]]
    """Per database."""
    threads: Callable[[], list[dict[str, Any]]]
    replication: Callable[[], dict[str, Any]] | None = None
    """The answer of ``cluster_status``; None where the node takes no part, and the group is absent then."""
    process_ids: Callable[[], Sequence[int]] = _this_process
    collect_disk: bool = True
    collect_network: bool = True


def asked_groups(attributes: Any) -> tuple[str, ...]:
    """The groups that a request's ``attributes`` names: all for an empty list or none; unknown names are ignored."""
    if not isinstance(attributes, list) or not attributes:
        return GROUPS
    names = {ALIASES.get(name, name) for name in attributes if isinstance(name, str)}
    return tuple(group for group in GROUPS if group in names)


def collect(groups: Sequence[str], sources: Sources) -> dict[str, Any]:
    """The ``groups``, in their fixed order. Blocks: for a worker thread. A source that raises costs its group only."""
    measurement = LoadMeasurement()
    collectors = _collectors(measurement, sources)
    return {group: _collected(group, collectors[group]) for group in GROUPS if group in groups and group in collectors}


def _collectors(measurement: LoadMeasurement, sources: Sources) -> dict[str, _Collect]:
    collectors: dict[str, _Collect] = {
        "system": system_facts,
        "time": time_facts,
        "cpu": lambda: cpu_facts(measurement),
        "memory": memory_facts,
        "disk": lambda: disk_facts(measurement) if sources.collect_disk else {},
        "network": lambda: network_facts() if sources.collect_network else dict(NO_NETWORK),
        "harperdb_processes": lambda: process_facts(sources.process_ids()),
        "table_size": sources.table_size,
        "metrics": sources.metrics,
        "threads": sources.threads,
    }
    if sources.replication is not None:
        collectors["replication"] = sources.replication
    return collectors


def _collected(group: str, collector: _Collect) -> Any:
    try:
        return collector()
    except Exception:
        log.warning("system information: group '%s' cannot be collected", group, exc_info=True)
        return {}
