"""From a request's bytes to an answer's bytes: decode, authenticate, look up, check access, run, encode.

The order is what clients see: an unauthenticated caller of an unknown operation gets 401, an authenticated one 400;
permission errors come before validation errors and before "does not exist"; nothing has run when no response type is
acceptable. Knows no server: ``ops/http_server.py`` brings requests here.
"""

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final, Protocol

import trio

from ops.access import check_access
from ops.compression import COMPRESSED_FROM_BYTES, accepts_gzip, compressed, compressed_stream
from ops.compression import HEADERS as GZIP_HEADERS
from ops.content_types import ListEncoder, MediaType, decode_body, encode, negotiate, require_operation, wrap_result
from ops.context import Context, Services, User
from ops.errors import UNEXPECTED, AuthenticationFailed, UnknownOperation, answer_for
from ops.http import Request, Response
from ops.json_encoding import encode_json
from ops.operation import NoUser, Operation
from ops.request_log import loggable_body
from ops.results import Download, RecordList, RecordStream, WithHeaders
from storage.errors import DatabaseError, DatabaseNotFound, Overloaded
from storage.schema import Table

log = logging.getLogger("ops")
operation_log = logging.getLogger("operation")

JSON: Final = negotiate(None)
LARGE_BODY_BYTES: Final = 1 << 20
"""Bodies up to here decode in about 10 ms at the most, on the event loop and before anybody is asked who sent them."""
PLAIN_TEXT: Final = ("content-type", "text/plain; charset=utf-8")
"""Of the answer to a request that would have to wait too long: clients know it as bare text."""
SERVER_OWNED: Final = frozenset(
    ("hdb_user", "bypass_auth", "hdbAuthHeader", "baseRequest", "baseResponse", "fastifyResponse")
)
"""Names that requests of the reference's own parts use; a client's values are discarded."""


class Authenticates(Protocol):
    async def authenticate(self, request: Request, body: Mapping[str, Any]) -> User | None:
        """The user, None where the request brings no credentials. Raises ``AuthenticationFailed``."""


class OperationsDispatcher:
    """``await dispatcher(request)`` answers one request."""

    def __init__(self, services: Services, operations: Mapping[str, Operation], authenticator: Authenticates) -> None:
        self._services = services
        self._operations = operations
        self._authenticator = authenticator

    async def __call__(self, request: Request) -> Response:
        began_s = time.perf_counter()
        media_type = JSON
        try:
            body = require_operation(await self._decoded(request))
            if not SERVER_OWNED.isdisjoint(body):
                body = {name: value for name, value in body.items() if name not in SERVER_OWNED}
            name = body["operation"]
            operation = self._operations.get(name) if isinstance(name, str) else None
            user = await self._authenticated(request, operation, body)
            self._log_request(operation, body)
            if operation is None:
                raise UnknownOperation(name if isinstance(name, str) else encode_json(name).decode())
            if user is not None:
                check_access(operation, name, user, body, self._tables_of)
            media_type = JSON if operation.is_download else negotiate(request.headers.get("accept"))
            context = Context(services=self._services, user=user, request=request, body=body, operation=name)
            result = await operation.handler(context, operation.read(body))
            return await self._answer(result, request, media_type, began_s, close=name.startswith("restart"))
        except DatabaseError as error:
            return self._refusal(error, _media_type_for_errors(request, media_type), began_s)
        except Exception:
            log.exception("operation failed unexpectedly")
            return _whole(500, {"error": UNEXPECTED}, _media_type_for_errors(request, media_type), began_s)

    async def _decoded(self, request: Request) -> Any:
        """The decoded body. A large one is worth a thread hop, and is looked at only for somebody who may send it."""
        is_large = len(request.body) > LARGE_BODY_BYTES
        if is_large and await self._authenticator.authenticate(request, {}) is None:
            raise AuthenticationFailed
        decode = partial(
            decode_body,
            request.headers.get("content-type"),
            request.body,
            big_int=self._services.settings.exact_integers,
        )
        return await trio.to_thread.run_sync(decode) if is_large else decode()

    async def _authenticated(
        self, request: Request, operation: Operation | None, body: Mapping[str, Any]
    ) -> User | None:
        if operation is not None and isinstance(operation.needs, NoUser) and operation.needs.is_open_for(body):
            return None
        user = await self._authenticator.authenticate(request, body)
        if user is None:
            raise AuthenticationFailed
        return user

    def _tables_of(self, database: str) -> Mapping[str, Table] | None:
        """The tables of a database as they stand now; None where it does not exist."""
        try:
            with self._services.catalog.database(database).read() as tx:
                return tx.schema().tables
        except DatabaseNotFound:
            return None

    def _log_request(self, operation: Operation | None, body: Mapping[str, Any]) -> None:
        if operation_log.isEnabledFor(logging.INFO) and (operation is None or operation.is_logged):
            operation_log.info(loggable_body(body))

    async def _answer(
        self, result: Any, request: Request, media_type: MediaType, began_s: float, *, close: bool
    ) -> Response:
        headers: tuple[tuple[str, str], ...] = ()
        if isinstance(result, WithHeaders):
            headers = result.headers
            result = result.result
        if isinstance(result, Download):
            return Response(headers=(*headers, *result.headers, _timing(began_s)), body=result.chunks)
        body: bytes | AsyncIterator[bytes]
        if isinstance(result, RecordStream):
            body = await _encoded_stream(result, media_type)
            is_list = True
        else:
            is_list = isinstance(result, list | RecordList)
            columns, value = (result.columns, result.records) if isinstance(result, RecordList) else (None, result)
            body = encode(wrap_result(value), media_type, columns=columns)
        headers = (*headers, *media_type.headers)
        if isinstance(body, bytes):
            if len(body) >= COMPRESSED_FROM_BYTES and accepts_gzip(request.headers):
                body, headers = compressed(body), (*headers, *GZIP_HEADERS)
        elif accepts_gzip(request.headers):
            body, headers = compressed_stream(body), (*headers, *GZIP_HEADERS)
        return Response(headers=(*headers, _timing(began_s)), body=body, chunked=is_list, close=close)

    def _refusal(self, error: DatabaseError, media_type: MediaType, began_s: float) -> Response:
        status, body = answer_for(error)
        if status >= 500:
            operation_log.error("%s", error)
        if isinstance(error, Overloaded):
            return Response(status=status, headers=(PLAIN_TEXT, _timing(began_s)), body=str(error).encode())
        return _whole(status, body, media_type, began_s)


def _media_type_for_errors(request: Request, negotiated: MediaType) -> MediaType:
    """Errors are encoded as negotiated too; where that is what failed, as JSON."""
    if negotiated is not JSON:
        return negotiated
    try:
        return negotiate(request.headers.get("accept"))
    except DatabaseError:
        return JSON


def _whole(status: int, body: Mapping[str, Any], media_type: MediaType, began_s: float) -> Response:
    headers = (*media_type.headers, _timing(began_s))
    return Response(status=status, headers=headers, body=encode(dict(body), media_type))


async def _encoded_stream(stream: RecordStream, media_type: MediaType) -> bytes | AsyncIterator[bytes]:
    """The encoded list: whole where it is one page, so that it goes out at once and a failure is an error answer."""
    encoder = ListEncoder(media_type, columns=stream.columns)
    first = await _next_filled(stream.pages)
    second = None if first is None else await _next_filled(stream.pages)
    if first is None or second is None:
        return encoder.rows(first or ()) + encoder.end()
    return _pieces(encoder, (first, second), stream.pages)


async def _next_filled(pages: AsyncGenerator[Sequence[Any], None]) -> Sequence[Any] | None:
    """The next page that holds something; None once there is no more and ``pages`` is at its end."""
    while (page := await anext(pages, None)) is not None:
        if page:
            return page
    return None


async def _pieces(
    encoder: ListEncoder, pages: Iterable[Sequence[Any]], following: AsyncGenerator[Sequence[Any], None]
) -> AsyncIterator[bytes]:
    """The encoded list, page by page. A failure in the middle ends it with an element that tells of it."""
    async with aclosing(following):
        for page in pages:
            yield encoder.rows(page)
        try:
            async for page in following:
                yield encoder.rows(page)
        except DatabaseError as error:
            yield encoder.failure(type(error).__name__, str(error))
        yield encoder.end()


def _timing(began_s: float) -> tuple[str, str]:
    return "server-timing", f"db;dur={(time.perf_counter() - began_s) * 1000:.3f}"
