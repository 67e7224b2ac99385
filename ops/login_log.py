"""The log of logins (``auth-event``): who tried, from where, how; never with what."""

import json
import logging
from typing import Any, Final

from ops.http import Request
from ops.settings import OpsSettings

log = logging.getLogger("auth-event")

TEXT_LENGTH_MAX: Final = 250
"""What a client sent is cut to this many characters."""


def log_failure(settings: OpsSettings, request: Request, strategy: str, username: str | None) -> None:
    """Note a failed login where the settings ask for it. ``strategy`` is the way it was tried, as ``Basic``."""
    if settings.log_failed_logins:
        log.error(_event(request, strategy, username, "failure"))


def log_success(settings: OpsSettings, request: Request, strategy: str, username: str) -> None:
    """Note a login where the settings ask for it; what is remembered from an earlier one is none."""
    if settings.log_successful_logins:
        log.info(_event(request, strategy, username, "success"))


def _event(request: Request, strategy: str, username: str | None, status: str) -> str:
    headers = request.headers
    event: dict[str, Any] = {
        "username": username,
        "status": status,
        "type": "authentication",
        "originating_ip": headers.get("x-forwarded-for") or request.peer.address,
        "request_method": request.method,
        "path": request.target,
        "auth_strategy": strategy,
    }
    event |= {name: headers[name] for name in ("referer", "origin") if name in headers}
    return json.dumps({name: value[:TEXT_LENGTH_MAX] for name, value in event.items() if value is not None})
