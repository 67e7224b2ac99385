"""Which database and table a request is about: resolved once, by one rule, for access checks and handlers alike.

Two resolutions that differ are a hole: a check that looks at another name than the execution does checks nothing.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

DEFAULT_DATABASE: Final = "data"


class Target(NamedTuple):
    """Names as text; None where none is given, or it is neither text nor number and the parameters will refuse it."""

    database: str | None
    table: str | None


def target_of(body: Mapping[str, Any]) -> Target:
    """``database`` before ``schema``, else the database ``data``. Numbers stand for their decimal text."""
    database = body["database"] if "database" in body else body.get("schema", DEFAULT_DATABASE)
    return Target(_as_name(database), _as_name(body.get("table")))


def _as_name(value: Any) -> str | None:
    if type(value) in (int, float):
        return str(value)
    return value if isinstance(value, str) else None
