"""Disks and network interfaces for ``system_information``. No outside host is contacted, no remote file system
touched.
"""

import socket
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psutil

from ops.load_measurement import LoadMeasurement

NO_NETWORK: Final[Mapping[str, Any]] = {
    "default_interface": None,
    "latency": {},
    "interfaces": [],
    "stats": [],
    "connections": [],
}
CONNECTIONS_MAX: Final = 1000
"""A busy node has tens of thousands; nobody reads them in one answer."""
_ROUTES: Final = Path("/proc/net/route")
_ALSO_DISKS: Final = frozenset(("overlay", "zfs", "btrfs", "tmpfs"))
"""File systems without a device of their own that people keep data on."""
_NOT_DISKS: Final = ("/dev", "/proc", "/sys", "/run")


def disk_facts(measurement: LoadMeasurement) -> dict[str, Any]:
    return {
        "io": measurement.disk_io(),
        "read_write": measurement.disk_bytes(),
        "size": [size for size in map(_disk_size, _partitions()) if size is not None],
    }


def network_facts() -> dict[str, Any]:
    default = _default_interface()
    states = psutil.net_if_stats()
    return {
        "default_interface": default,
        "latency": {},
        "interfaces": [
            _interface(name, addresses, states.get(name), is_default=name == default)
            for name, addresses in psutil.net_if_addrs().items()
        ],
        "stats": [
            _traffic(name, counters, states.get(name)) for name, counters in psutil.net_io_counters(pernic=True).items()
        ],
        "connections": [_connection(found) for found in islice(_connections(), CONNECTIONS_MAX)],
    }


def _partitions() -> Iterable[Any]:
    """Mounted file systems that hold data on this machine, each mount once."""
    by_mount = {
        partition.mountpoint: partition
        for partition in psutil.disk_partitions(all=True)
        if partition.device.startswith("/dev/") or partition.fstype in _ALSO_DISKS
    }
    return [
        partition
        for mount, partition in by_mount.items()
        if not any(mount == top or mount.startswith(f"{top}/") for top in _NOT_DISKS)
    ]


def _disk_size(partition: Any) -> dict[str, Any] | None:
    """None for what may not be looked at, or has no size."""
    try:
        usage = psutil.disk_usage(partition.mountpoint)
    except OSError:
        return None
    if usage.total == 0:
        return None
    return {
        "fs": partition.device,
        "type": partition.fstype,
        "size": usage.total,
        "used": usage.used,
        "available": usage.free,
        "use": usage.percent,
        "mount": partition.mountpoint,
        "rw": "rw" in partition.opts.split(","),
    }


def _default_interface() -> str | None:
    """The interface of the IPv4 default route. (Columns: interface, destination, gateway, flags, …)"""
    try:
        lines = _ROUTES.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    routes = (line.split() for line in lines)
    return next((fields[0] for fields in routes if len(fields) > 7 and fields[1] == fields[7] == "00000000"), None)


def _interface(name: str, addresses: Sequence[Any], state: Any, *, is_default: bool) -> dict[str, Any]:
    ip4, ip4subnet = _address(addresses, socket.AF_INET)
    ip6, ip6subnet = _address(addresses, socket.AF_INET6)
    mac, _ = _address(addresses, psutil.AF_LINK)
    flags = [] if state is None else state.flags.split(",")
    return {
        "iface": name,
        "ifaceName": name,
        "default": is_default,
        "ip4": ip4,
        "ip4subnet": ip4subnet,
        "ip6": ip6,
        "ip6subnet": ip6subnet,
        "mac": mac,
        "operstate": _operation_state(state),
        "type": "loopback" if "loopback" in flags else "wireless" if _is_wireless(name) else "wired",
        "duplex": "" if state is None else _DUPLEX.get(state.duplex, ""),
        "speed": state.speed if state is not None and state.speed > 0 else None,
    }


_DUPLEX: Final = {psutil.NIC_DUPLEX_FULL: "full", psutil.NIC_DUPLEX_HALF: "half"}


def _address(addresses: Sequence[Any], family: int) -> tuple[str, str]:
    """The first address of a family and its mask, without the zone that IPv6 adds; empty where there is none."""
    found = next((address for address in addresses if address.family == family), None)
    return ("", "") if found is None else (found.address.partition("%")[0], found.netmask or "")


def _operation_state(state: Any) -> str:
    return "unknown" if state is None else "up" if state.isup else "down"


def _is_wireless(name: str) -> bool:
    return Path("/sys/class/net", name, "wireless").exists()


def _traffic(name: str, counters: Any, state: Any) -> dict[str, Any]:
    return {
        "iface": name,
        "operstate": _operation_state(state),
        "rx_bytes": counters.bytes_recv,
        "rx_dropped": counters.dropin,
        "rx_errors": counters.errin,
        "tx_bytes": counters.bytes_sent,
        "tx_dropped": counters.dropout,
        "tx_errors": counters.errout,
    }


def _connections() -> Iterable[Any]:
    """Listeners first, then what is connected; what has ended waits longest for a place in the answer."""
    try:
        found = psutil.net_connections(kind="inet")
    except psutil.AccessDenied:
        return ()  # some systems show connections to administrators only
    ranks = {psutil.CONN_LISTEN: 0, psutil.CONN_ESTABLISHED: 1}
    return sorted(found, key=lambda connection: ranks.get(connection.status, len(ranks)))


def _connection(found: Any) -> dict[str, Any]:
    local, peer = found.laddr or None, found.raddr or None
    return {
        "protocol": ("tcp" if found.type == socket.SOCK_STREAM else "udp")
        + ("6" if found.family == socket.AF_INET6 else ""),
        "localAddress": "" if local is None else local.ip,
        "localPort": "" if local is None else str(local.port),
        "peerAddress": "" if peer is None else peer.ip,
        "peerPort": "" if peer is None else str(peer.port),
        "state": found.status,
        "pid": found.pid,
    }
