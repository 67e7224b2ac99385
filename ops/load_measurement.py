"""Load of processors and disks: the difference of two readings of the system's counters, a fifth of a second apart."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil

MEASURED_S: Final = 0.2
"""Long enough for the counters' steps of 10 ms to mean something, short enough for a client that waits."""
_BUSY: Final = ("user", "nice", "system", "irq", "softirq", "steal")
_IDLE: Final = ("idle", "iowait")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counters:
    at_s: float
    cpus: Sequence[Any]
    disks: Any
    """None on a machine that shows no disk counters."""


class LoadMeasurement:
    """Begins when it is made; asking for a result waits for the rest of the time."""

    def __init__(self) -> None:
        self._before = _read_counters()
        self._after: _Counters | None = None

    def cpu_load(self) -> dict[str, Any]:
        """Percentages over all processors and for each one."""
        after = self._finished()
        per_cpu = [_differences(*pair) for pair in zip(self._before.cpus, after.cpus, strict=False)]
        overall = {name: sum(cpu[name] for cpu in per_cpu) for name in per_cpu[0]} if per_cpu else {}
        load_1min = psutil.getloadavg()[0]
        return {
            "avgLoad": round(load_1min / max(1, len(per_cpu)), 2),
            **{f"currentLoad{name.removeprefix('load')}": value for name, value in _percentages(overall).items()},
            "cpus": [_percentages(cpu) for cpu in per_cpu],
        }

    def disk_io(self) -> dict[str, Any]:
        """Reads and writes since the machine started, and the share of the measured time spent waiting for them."""
        before, after = self._before.disks, self._finished().disks
        if before is None or after is None:
            return {}
        interval_ms = self._interval_ms()
        waits = {"r": ("read_time", after.read_time), "w": ("write_time", after.write_time)}
        percents = {
            letter: round((value - getattr(before, name)) / interval_ms * 100, 2)
            for letter, (name, value) in waits.items()
        }
        return {
            "rIO": after.read_count,
            "wIO": after.write_count,
            "tIO": after.read_count + after.write_count,
            "rWaitTime": after.read_time,
            "wWaitTime": after.write_time,
            "tWaitTime": after.read_time + after.write_time,
            "rWaitPercent": percents["r"],
            "wWaitPercent": percents["w"],
            "tWaitPercent": round(percents["r"] + percents["w"], 2),
        }

    def disk_bytes(self) -> dict[str, Any]:
        """Bytes since the machine started, and per second in the measured time."""
        before, after = self._before.disks, self._finished().disks
        if before is None or after is None:
            return {}
        interval_ms = self._interval_ms()
        per_s = 1000 / interval_ms
        read_per_s = (after.read_bytes - before.read_bytes) * per_s
        written_per_s = (after.write_bytes - before.write_bytes) * per_s
        return {
            "rx": after.read_bytes,
            "wx": after.write_bytes,
            "tx": after.read_bytes + after.write_bytes,
            "rx_sec": round(read_per_s, 2),
            "wx_sec": round(written_per_s, 2),
            "tx_sec": round(read_per_s + written_per_s, 2),
            "ms": round(interval_ms),
        }

    def _finished(self) -> _Counters:
        if self._after is None:
            time.sleep(max(0.0, self._before.at_s + MEASURED_S - time.monotonic()))
            self._after = _read_counters()
        return self._after

    def _interval_ms(self) -> float:
        return (self._finished().at_s - self._before.at_s) * 1000


def _read_counters() -> _Counters:
    return _Counters(at_s=time.monotonic(), cpus=psutil.cpu_times(percpu=True), disks=_read_disk_counters())


def _read_disk_counters() -> Any:
    try:
        return psutil.disk_io_counters(nowrap=False)
    except (OSError, RuntimeError):  # containers may hide them, and unknown kernels write them differently
        return None


def _differences(before: Any, after: Any) -> dict[str, float]:
    """Seconds spent per kind of work. Counters of a virtual machine may run back a little: that counts as none."""
    names = (*_BUSY, *_IDLE, "guest")
    return {name: max(0.0, getattr(after, name, 0.0) - getattr(before, name, 0.0)) for name in names}


def _percentages(spent_s: Mapping[str, float]) -> dict[str, float]:
    """Shares of the whole time. Guests count as their host's user time, so they are not part of the sum."""
    busy_s = sum(spent_s.get(name, 0.0) for name in _BUSY)
    whole_s = busy_s + sum(spent_s.get(name, 0.0) for name in _IDLE)

    def percent(value_s: float) -> float:
        return round(value_s / whole_s * 100, 2) if whole_s > 0 else 0.0

    return {
        "load": percent(busy_s),
        "loadUser": percent(spent_s.get("user", 0.0)),
        "loadSystem": percent(spent_s.get("system", 0.0)),
        "loadNice": percent(spent_s.get("nice", 0.0)),
        "loadIdle": percent(whole_s - busy_s),
        "loadIrq": percent(spent_s.get("irq", 0.0) + spent_s.get("softirq", 0.0)),
        "loadSteal": percent(spent_s.get("steal", 0.0)),
        "loadGuest": percent(spent_s.get("guest", 0.0)),
    }
