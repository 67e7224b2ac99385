"""Facts about the machine for ``system_information``: system, time, processors, memory. Read from the machine alone.

Names and units are those that clients of the API know. What a machine does not tell is null, empty or 0.
"""

import os
import platform
import re
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from ops.load_measurement import LoadMeasurement

_CPU_INFO: Final = Path("/proc/cpuinfo")
_MEMORY_INFO: Final = Path("/proc/meminfo")
_LOCAL_TIME: Final = Path("/etc/localtime")
_ARCHITECTURES: Final = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "i686": "ia32"}
_MARKS: Final = re.compile(r"\((?:R|TM|C)\)", re.IGNORECASE)
_NOMINAL_SPEED: Final = re.compile(r"@\s*([0-9.]+)\s*GHz")
_MHZ_GHZ: Final = 0.001
_KIB: Final = 1024


def system_facts() -> dict[str, Any]:
    """The operating system. The full name is the host's own: nobody is asked to resolve it."""
    release = _os_release()
    machine = platform.machine().lower()
    hostname = socket.gethostname()
    return {
        "platform": sys.platform,
        "distro": release.get("NAME", platform.system()),
        "release": release.get("VERSION_ID", platform.release()),
        "codename": release.get("VERSION_CODENAME", ""),
        "kernel": platform.release(),
        "arch": _ARCHITECTURES.get(machine, machine),
        "hostname": hostname,
        "fqdn": hostname,
        "node_version": platform.python_version(),
        "npm_version": None,
    }


def time_facts() -> dict[str, Any]:
    now_s = time.time()
    return {
        "current": int(now_s * 1000),
        "uptime": round(now_s - psutil.boot_time(), 2),
        "timezone": f"UTC{time.strftime('%z')}",
        "timezoneName": _zone_name(),
    }


def cpu_facts(measurement: LoadMeasurement) -> dict[str, Any]:
    """Processors, their speed in GHz and their load in percent."""
    first, sockets = _cpu_info()
    brand = first.get("model name", platform.processor())
    flags = first.get("flags", first.get("Features", ""))
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    speeds = _cpu_speeds()
    nominal = _NOMINAL_SPEED.search(brand)
    return {
        "manufacturer": _manufacturer(brand),
        "brand": " ".join(_MARKS.sub("", brand).partition("@")[0].split()),
        "vendor": first.get("vendor_id", first.get("CPU implementer", "")),
        "speed": float(nominal[1]) if nominal else speeds["avg"],
        "speedMin": _frequency_bound("min"),
        "speedMax": _frequency_bound("max"),
        "cores": psutil.cpu_count() or 1,
        "physicalCores": physical,
        "performanceCores": physical,
        "efficiencyCores": 0,
        "processors": sockets,
        "flags": flags,
        "virtualization": not {"vmx", "svm"}.isdisjoint(flags.split()),
        "cpu_speed": speeds,
        "current_load": measurement.cpu_load(),
    }


def memory_facts() -> dict[str, Any]:
    """Memory of the machine and of this process in bytes. "Used" includes the caches that "active" leaves out."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    own = psutil.Process().memory_info()
    kernel = _memory_info()
    heap = getattr(own, "data", 0)
    return {
        "total": memory.total,
        "free": memory.free,
        "used": memory.total - memory.free,
        "active": memory.total - memory.available,
        "available": memory.available,
        "reclaimable": kernel.get("SReclaimable", 0),
        "swaptotal": swap.total,
        "swapused": swap.used,
        "swapfree": swap.free,
        "writeback": kernel.get("Writeback", 0),
        "dirty": kernel.get("Dirty", 0),
        "rss": own.rss,
        "heapTotal": heap,
        "heapUsed": min(heap, own.rss),
        "external": 0,
        "arrayBuffers": 0,
    }


def _os_release() -> Mapping[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _zone_name() -> str:
    """Such as ``Europe/Amsterdam``; the abbreviation where the system does not tell."""
    zone = os.environ.get("TZ", "").lstrip(":")
    if not zone:
        _, found, name = str(_LOCAL_TIME.resolve()).partition("/zoneinfo/")
        zone = name if found else time.strftime("%Z")
    return zone


def _cpu_info() -> tuple[Mapping[str, str], int]:
    """What the system tells about the first processor, and the number of sockets."""
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}, 1
    processors = [_fields(block) for block in text.strip().split("\n\n")]
    sockets = {processor["physical id"] for processor in processors if "physical id" in processor}
    return processors[0], max(1, len(sockets))


def _memory_info() -> dict[str, int]:
    """Bytes by name, as the kernel counts them."""
    try:
        text = _MEMORY_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    numbers = {name: value.split() for name, value in _fields(text).items()}
    return {name: int(words[0]) * _KIB for name, words in numbers.items() if words and words[0].isdigit()}


def _fields(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _manufacturer(brand: str) -> str:
    words = _MARKS.sub("", brand).split()
    return words[0] if words else ""


def _cpu_speeds() -> dict[str, Any]:
    cores = [round(core.current * _MHZ_GHZ, 2) for core in psutil.cpu_freq(percpu=True) or ()]
    if not cores:
        return {"min": 0.0, "max": 0.0, "avg": 0.0, "cores": []}
    return {"min": min(cores), "max": max(cores), "avg": round(sum(cores) / len(cores), 2), "cores": cores}


def _frequency_bound(name: str) -> float | None:
    frequency = psutil.cpu_freq()
    value = 0.0 if frequency is None else float(getattr(frequency, name))
    return round(value * _MHZ_GHZ, 2) if value > 0 else None
