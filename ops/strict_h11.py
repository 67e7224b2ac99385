"""HTTP/1.1 as Hypercorn speaks it, minus what two readers of the same bytes could take for different requests.

h11 is lenient where old clients were sloppy: bare line feeds, folded headers, control characters, both length headers
at once. Behind a proxy each of these can hide a second request in the first (request smuggling, RFC 9112 section
11.2), and no client of today needs them. HTTP/2 is left to TLS: an ``Upgrade: h2c`` is ignored, as a server may.

Uses names of Hypercorn that it does not document (``H11Protocol.connection``, ``_check_protocol``): the conformance
suite fails when a new version moves them.
"""

import re
from http import HTTPStatus
from typing import Any, Final

import h11
from hypercorn.protocol.h11 import H11Protocol

END_OF_HEAD: Final = b"\r\n\r\n"
_AMBIGUOUS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r[^\n]|\n[ \t]")
"""Control characters, line ends that are not CR LF, lines that continue another. Also right for the beginning of a
head.
"""
_VERSIONS: Final = frozenset((b"1.0", b"1.1"))
_TARGET: Final = re.compile(rb"/.*|\*|https?://.*")


class StrictConnection(h11.Connection):
    def __init__(self, head_bytes_max: int, body_bytes_max: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=head_bytes_max)
        self._head_bytes_max = head_bytes_max
        self._body_bytes_max = body_bytes_max
        self._is_too_large = False

    def next_event(self) -> Any:
        """As in h11, where it is typed with private names. Raises ``h11.RemoteProtocolError`` for what is refused."""
        if self.their_state is h11.IDLE:
            self._check_head(self.trailing_data[0])
        elif self.their_state is h11.MUST_CLOSE and self.trailing_data[0]:
            # Bytes after a request that was said to be the last are not ours to judge: h11 would refuse that request.
            return h11.PAUSED
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._check_request(event)
        return event

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        """Nobody is asked to go on with a body that will be refused for its length."""
        return super().they_are_waiting_for_100_continue and not self._is_too_large

    def _check_head(self, received: bytes) -> None:
        end = received.find(END_OF_HEAD)
        size = len(received) if end < 0 else end + len(END_OF_HEAD)
        if size > self._head_bytes_max or (end < 0 and size == self._head_bytes_max):
            raise h11.RemoteProtocolError("head too large", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if _AMBIGUOUS.search(received, 0, size):
            raise h11.RemoteProtocolError("ambiguous head")

    def _check_request(self, request: h11.Request) -> None:
        headers = dict(request.headers)
        if request.http_version not in _VERSIONS:
            raise h11.RemoteProtocolError("unknown version", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if not request.method.isupper():
            raise h11.RemoteProtocolError("unknown method", HTTPStatus.NOT_IMPLEMENTED)
        if not _TARGET.fullmatch(request.target):
            raise h11.RemoteProtocolError("not a target")
        if b"transfer-encoding" in headers and (b"content-length" in headers or request.http_version == b"1.0"):
            raise h11.RemoteProtocolError("two lengths of one body")
        self._is_too_large = int(headers.get(b"content-length", 0)) > self._body_bytes_max


class StrictH11Protocol(H11Protocol):
    def __init__(self, *arguments: Any, body_bytes_max: int) -> None:
        super().__init__(*arguments)
        self.connection = StrictConnection(self.config.h11_max_incomplete_size, body_bytes_max)

    @property
    def has_whole_request(self) -> bool:
        return self.connection.their_state in (h11.DONE, h11.MUST_CLOSE)

    @property
    def may_have_unread(self) -> bool:
        """Whether the client may be in the middle of sending: it broke off, or was refused, before the end of a
        request.
        """
        return self.connection.their_state in (h11.IDLE, h11.SEND_BODY, h11.ERROR)

    async def _check_protocol(self, event: h11.Request) -> None:
        pass
