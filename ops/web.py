"""What is served beside operations: health, a page for people, preflights, and "Not found" for everything else.

``create_web_app`` is an ordinary quart application; further pages (dashboard, metrics) are registered on it by whoever
builds the node. Its life-cycle hooks do not run: what a page needs is owned by the node's nurseries.
"""

import logging
from typing import Any, Final, cast

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Quart, Request, Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from ops.cors import CorsPolicy, cors_headers, preflight
from ops.decoding import decode_body
from ops.errors import answer_for
from ops.http import Response as Answer
from ops.operations_app import OperationsApp, is_operation, with_origin_form
from ops.server_answers import (
    BODY_TOO_LARGE,
    HEALTH_TEXT,
    NOT_FOUND_TEXT,
    PLAIN_TEXT,
    TOO_LATE,
    UNEXPECTED_ERROR,
    json_answer,
)
from ops.serving_settings import ServingSettings
from storage.errors import DatabaseError

log = logging.getLogger("http")

RUNNING_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>logmesh</title></head>
<body><h1>logmesh is running</h1><p>Operations are sent to this address by <code>POST</code>.</p></body>
</html>
"""
HTML: Final = "text/html; charset=utf-8"
_METHODS_WITH_BODY: Final = frozenset(("POST", "PUT", "PATCH", "DELETE"))


class WebServer:
    """The ASGI application of a port: operations on the short way, all else through ``pages``."""

    def __init__(self, operations: OperationsApp, pages: QuartTrio) -> None:
        self._operations = operations
        self._pages = pages

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            scope = with_origin_form(scope)
            if is_operation(scope):
                await self._operations(scope, receive, send)
                return
        await self._pages(scope, receive, send)


def create_web_app(cors: CorsPolicy, settings: ServingSettings, *, front_page: str = RUNNING_PAGE) -> QuartTrio:
    """``front_page`` is the HTML that ``GET /`` shows."""
    app = QuartTrio(__name__, static_folder=None)
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes_max
    app.config["BODY_TIMEOUT"] = settings.timeout_s
    app.config["RESPONSE_TIMEOUT"] = None

    @app.before_request
    async def answer_other_methods() -> Response | None:
        """A route for ``GET`` takes ``HEAD`` as well in quart, but not here."""
        if request.method == "HEAD":
            return await _not_found(request)
        answer = preflight(cors, _origin()) if request.method == "OPTIONS" else None
        return None if answer is None else _as_quart(answer)

    @app.after_request
    async def add_cors_headers(response: Response) -> Response:
        for name, value in cors_headers(cors, _origin()):
            response.headers[name] = value
        return response

    @app.get("/health", provide_automatic_options=False)
    async def health() -> Response:
        return _text(HEALTH_TEXT)

    @app.get("/", provide_automatic_options=False)
    async def front() -> Response:
        return _text(front_page, content_type=HTML)

    _add_error_handlers(app)
    return app


def _add_error_handlers(app: Quart) -> None:
    @app.errorhandler(HTTPException)
    async def refuse(error: HTTPException) -> Response:
        return await _not_found(request)

    @app.errorhandler(Exception)
    async def report(error: Exception) -> Response:
        log.error("a page failed", exc_info=error)
        return _as_quart(UNEXPECTED_ERROR)


async def _not_found(asked: Request) -> Response:
    """A JSON body is read before the route is looked for, so that a bad one is what the client hears of."""
    if asked.method in _METHODS_WITH_BODY and asked.mimetype == "application/json":
        try:
            decode_body(asked.mimetype, cast(bytes, await asked.get_data(cache=False)))
        except RequestEntityTooLarge:
            return _as_quart(BODY_TOO_LARGE)
        except RequestTimeout:
            return _as_quart(TOO_LATE)
        except DatabaseError as error:
            status, body = answer_for(error)
            return _as_quart(json_answer(status, body))
    return _text(NOT_FOUND_TEXT, status=404)


def _origin() -> str | None:
    return request.headers.get("origin")


def _text(text: str, *, status: int = 200, content_type: str = PLAIN_TEXT) -> Response:
    return Response(text, status=status, content_type=content_type)


def _as_quart(answer: Answer) -> Response:
    body: Any = answer.body
    response = Response(body, status=answer.status)
    del response.headers["content-type"]
    response.headers.extend(answer.headers)
    if answer.close and request.http_version != "2":
        response.headers["connection"] = "close"
    return response
