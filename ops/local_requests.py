"""Which requests come from this machine's own user, so that they need no credentials. Pure.

The listener says what came over the local socket; a missing address says nothing. A proxy makes every client look
local, and a web page may send requests to a node on its visitor's machine: both show in headers and are kept out.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from ops.http import Request

FORWARDING: Final = ("x-forwarded-for", "forwarded", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


def is_local(request: Request, *, authorize_loopback: bool) -> bool:
    """Whether the request may run without credentials; ``authorize_loopback`` lets those over TCP in as well."""
    headers = request.headers
    if any(name in headers for name in FORWARDING) or not _is_own_page(headers):
        return False
    return request.peer.is_local_socket or (authorize_loopback and _is_loopback(request.peer.address))


def _is_loopback(address: str | None) -> bool:
    """``127.0.0.*``, ``::1`` and the former written as IPv6."""
    if address is None:
        return False
    try:
        parsed: IPv4Address | IPv6Address | None = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return parsed.is_loopback
        parsed = parsed.ipv4_mapped
    return parsed is not None and parsed.packed[:3] == b"\x7f\x00\x00"


def _is_own_page(headers: Mapping[str, str]) -> bool:
    """Whether the request comes from no web page, or from one that this machine serves."""
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    return host == "localhost" or _is_loopback(host)
