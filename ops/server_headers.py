"""What the server itself adds to answers, in one place for both ways that answers take, and what it makes of headers."""

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from ops.http import Response

SERVER: Final = "logmesh"
BODILESS: Final = frozenset((HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED))
_FRAMING: Final = frozenset(("connection", "content-length", "date", "server", "transfer-encoding"))
"""The server's own: an answer that brings one of them would be cut in another place by the client than by us."""
_ILLEGAL: Final = re.compile("[^\t\x20-\x7e\x80-\xff]")


class _Clock:
    """The ``Date`` of the current second, formatted once."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def date(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._text = formatdate(second, usegmt=True)
            self._second = second
        return self._text


http_date: Final = _Clock().date


def server_headers() -> tuple[tuple[str, str], ...]:
    """What every answer begins with."""
    return ("server", SERVER), ("date", http_date())


def status_line(status: int) -> str:
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n"


_STATUS_LINES: Final[Mapping[int, str]] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}


def refusal_head(status: HTTPStatus) -> bytes:
    """A whole answer without a body that ends the connection: for what is refused before there is a request."""
    lines = (*server_headers(), ("content-length", "0"), ("connection", "close"))
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{status_line(status)}{text}\r\n".encode("latin-1")


def check_headers(response: Response) -> None:
    """Raises ``ValueError`` for a header that cannot be sent as it is."""
    for name, value in response.headers:
        if name.lower() in _FRAMING:
            raise ValueError(f"an answer may not bring the header {name}")
        if _ILLEGAL.search(name) or _ILLEGAL.search(value):
            raise ValueError(f"the answer's header {name!r} cannot be sent")


def joined_headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Request headers as the dispatcher gets them: lower-case names, the values of a repeated one joined."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        add_header(headers, name, value)
    return headers


def add_header(headers: dict[str, str], raw_name: bytes, raw_value: bytes) -> None:
    name = raw_name.lower().decode("ascii")
    value = raw_value.strip(b" \t").decode("latin-1")
    if name in headers:
        # HTTP/2 lets clients send the cookies one by one.
        value = f"{headers[name]}{'; ' if name == 'cookie' else ', '}{value}"
    headers[name] = value
