"""Cross-origin requests: which headers an answer carries for the page it came from. Pure.

An origin that is not allowed gets an answer without these headers, and the browser keeps it from the page; whether the
request itself may run is decided by its credentials alone.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from ops.http import Response
from ops.serving_settings import ServingSettings

Headers: TypeAlias = tuple[tuple[str, str], ...]

ALLOWED_METHODS: Final = "POST, GET, PUT, DELETE, PATCH, OPTIONS"
ANY_ORIGIN: Final = "*"
_VARY: Final[Headers] = (("vary", "Origin"),)
_INVALID_PREFLIGHT: Final = Response(
    status=400,
    headers=(*_VARY, ("content-type", "text/plain; charset=utf-8")),
    body=b"Invalid Preflight Request",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsPolicy:
    is_on: bool
    origins: frozenset[str]
    allow_headers: str
    allows_credentials: bool


def cors_policy(settings: ServingSettings) -> CorsPolicy:
    return CorsPolicy(
        is_on=settings.cors,
        origins=frozenset(settings.cors_access_list),
        allow_headers=settings.cors_allow_headers,
        allows_credentials=settings.allows_credentials,
    )


def cors_headers(policy: CorsPolicy, origin: str | None) -> Headers:
    """What every answer to a request from ``origin`` carries. ``Vary`` is there as soon as origins matter at all: a
    cache must not give one page's answer to another.
    """
    if not policy.is_on:
        return ()
    if not _is_allowed(policy, origin):
        return _VARY
    allowed = (*_VARY, ("access-control-allow-origin", origin or ""))
    return (*allowed, ("access-control-allow-credentials", "true")) if policy.allows_credentials else allowed


def preflight(policy: CorsPolicy, origin: str | None) -> Response | None:
    """The answer to an ``OPTIONS`` request; None where it is an ordinary request, as CORS is off or not for
    ``origin``.
    """
    if not policy.is_on:
        return None
    if not origin:
        return _INVALID_PREFLIGHT
    if not _is_allowed(policy, origin):
        return None
    return Response(
        headers=(
            *cors_headers(policy, origin),
            ("access-control-allow-methods", ALLOWED_METHODS),
            ("access-control-allow-headers", policy.allow_headers),
        )
    )


def _is_allowed(policy: CorsPolicy, origin: str | None) -> bool:
    return bool(origin) and (ANY_ORIGIN in policy.origins or origin in policy.origins)
