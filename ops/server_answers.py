"""Answers that the server gives by itself, and the guard around a dispatcher, for both ways that requests take."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import orjson

from ops.errors import UNEXPECTED
from ops.http import Dispatcher, Request, Response
from ops.server_headers import check_headers

log = logging.getLogger("http")

PLAIN_TEXT: Final = "text/plain; charset=utf-8"
HEALTH_TEXT: Final = "HarperDB is running."
NOT_FOUND_TEXT: Final = "Not found\n"


def json_answer(status: int, body: Mapping[str, object], *, close: bool = False) -> Response:
    headers = (("content-type", "application/json"),)
    return Response(status=status, headers=headers, body=orjson.dumps(body), close=close)


UNEXPECTED_ERROR: Final = json_answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": UNEXPECTED})
BODY_TOO_LARGE: Final = json_answer(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "Request body is too large"}, close=True
)
TOO_LATE: Final = Response(status=HTTPStatus.REQUEST_TIMEOUT, close=True)


def guarded(dispatcher: Dispatcher) -> Dispatcher:
    """``dispatcher``, but what is our own mistake is logged and answered with 500 instead of ending the connection."""

    async def dispatch(request: Request) -> Response:
        try:
            response = await dispatcher(request)
            check_headers(response)
            return response
        except Exception:
            log.exception("the dispatcher failed")
            return UNEXPECTED_ERROR

    return dispatch
