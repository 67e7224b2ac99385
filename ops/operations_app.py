"""``POST /`` as an ASGI application: what the general server answers operations with, in HTTP/2 above all.

Plain ASGI rather than a route of the web application: a framework reads more out of a request than the fast lane
does, and then refuses what the other way answers. It also takes as long as three answers.
"""

import logging
import re
from collections.abc import AsyncIterator, Iterable
from typing import Final, cast
from urllib.parse import unquote

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

from ops.connection import Connections
from ops.cors import CorsPolicy, Headers, cors_headers
from ops.fast_lane import close_stream
from ops.http import Dispatcher, Peer, Request, Response
from ops.server_answers import BODY_TOO_LARGE, TOO_LATE
from ops.server_headers import BODILESS, joined_headers
from ops.serving_settings import ServingSettings

log = logging.getLogger("http")

ROOT: Final = b"/"
_ABSOLUTE_FORM: Final = re.compile(rb"https?://[^/]*(?P<path>/.*)?")


class ClientLeft(Exception):
    """The client went away before its request was whole."""


class OperationsApp:
    def __init__(
        self, dispatcher: Dispatcher, cors: CorsPolicy, connections: Connections, settings: ServingSettings
    ) -> None:
        self._dispatcher = dispatcher
        self._cors = cors
        self._connections = connections
        self._body_bytes_max = settings.body_bytes_max
        self._timeout_s = settings.timeout_s

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        headers = joined_headers(scope["headers"])
        try:
            body = await self._body(headers, receive)
        except ClientLeft:
            return
        if isinstance(body, Response):
            await self._send(scope, send, body, headers)
            return
        request = Request(
            method="POST",
            target=target_of(scope),
            headers=headers,
            body=body,
            peer=cast(Peer, scope["state"]["peer"]),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_left, receive, nursery.cancel_scope)
            await self._send(scope, send, await self._dispatcher(request), headers)
            nursery.cancel_scope.cancel()

    async def _body(self, headers: dict[str, str], receive: ASGIReceiveCallable) -> bytes | Response:
        """The whole body, or the answer that refuses it. Raises ``ClientLeft``."""
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._body_bytes_max:
            return BODY_TOO_LARGE
        pieces: list[bytes] = []
        size = 0
        has_more = True
        while has_more:
            with trio.move_on_after(self._timeout_s) as silence:
                message = await receive()
            if silence.cancelled_caught:
                return TOO_LATE
            if message["type"] != "http.request":
                raise ClientLeft
            pieces.append(message["body"])
            size += len(message["body"])
            if size > self._body_bytes_max:
                return BODY_TOO_LARGE
            has_more = message["more_body"]
        return b"".join(pieces)

    async def _send(
        self, scope: HTTPScope, send: ASGISendCallable, response: Response, request_headers: dict[str, str]
    ) -> None:
        cors = () if response is TOO_LATE else cors_headers(self._cors, request_headers.get("origin"))
        closes = (response.close or self._connections.keeps_none) and scope["http_version"] != "2"
        fields = (*cors, *response.headers, *_framing(response), *((("connection", "close"),) if closes else ()))
        await send({"type": "http.response.start", "status": response.status, "headers": _encoded(fields)})
        if isinstance(response.body, bytes):
            body = b"" if response.status in BODILESS else response.body
            await send({"type": "http.response.body", "body": body, "more_body": False})
        else:
            await _send_stream(send, response.body)


def target_of(scope: HTTPScope) -> str:
    query = scope["query_string"]
    return (scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")


def is_operation(scope: HTTPScope) -> bool:
    return scope["method"] == "POST" and scope["raw_path"] == ROOT


def with_origin_form(scope: HTTPScope) -> HTTPScope:
    """The same request with the path alone where its target is a whole URL, as clients of proxies send it."""
    whole = _ABSOLUTE_FORM.fullmatch(scope["raw_path"])
    if whole is None:
        return scope
    raw_path = whole["path"] or ROOT
    return {**scope, "raw_path": raw_path, "path": unquote(raw_path.decode("ascii"))}


def _framing(response: Response) -> Headers:
    """Without a length HTTP/1.1 is sent in chunks, and HTTP/2 needs none."""
    if not isinstance(response.body, bytes) or response.chunked or response.status in BODILESS:
        return ()
    return (("content-length", str(len(response.body))),)


def _encoded(fields: Headers) -> Iterable[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


async def _send_stream(send: ASGISendCallable, pieces: AsyncIterator[bytes]) -> None:
    """When the pieces break off, the answer is left without an end, so that the connection breaks off too."""
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except Exception:
        log.exception("an answer broke off")
        return
    finally:
        await close_stream(pieces)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _cancel_when_left(receive: ASGIReceiveCallable, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
