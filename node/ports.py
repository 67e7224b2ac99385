"""A port setting as a value: a number listens on all interfaces, ``address:port`` on that address only, null is closed.

IPv6 addresses stand in brackets (``[::1]:9925``). Port 0 lets the system choose: for tests and tools.
"""

import re

from ops.serving_settings import Address

PORT_MAX = 65535
_PORT_TEXT = re.compile(r"(?:(?P<address>\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[A-Za-z0-9._-]{1,253}):)?(?P<port>[0-9]{1,5})")


def parse_port(value: object) -> Address | None:
    """The listener that a setting's value asks for, None for a closed one. Raises ``ValueError`` for anything else."""
    if value is None:
        return None
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise ValueError(f"{value!r} is not a port")
    return _checked(int(value), None)


def _parse_text(text: str) -> Address:
    match = _PORT_TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a port")
    address = match["address"]
    return _checked(int(match["port"]), None if address is None else address.strip("[]"))


def _checked(port: int, address: str | None) -> Address:
    if not 0 <= port <= PORT_MAX:
        raise ValueError(f"{port} is not a port")
    return Address(port=port, host=address)


def with_address_of(port: Address | None, other: Address | None) -> Address | None:
    """``port`` on the address of ``other`` where it names none itself."""
    if port is None or other is None or port.host is not None:
        return port
    return Address(port=port.port, host=other.host)
