"""An operation as a value: its name, who may call it, its parameters and its handler, declared in one place.

    @operation("drop_table", needs=Structure("dropTable"), params=DropTable)
    async def drop_table(ctx: Context, params: DropTable) -> str:
        \"\"\"Remove a table with its records, indexes and audit entries. Not reversible.\"\"\"

The decorator builds the value and registers nothing; ``ops/reference.py`` names all of them on one page. A handler
gets checked, typed parameters and an allowed user, and holds only its own logic. A text, number or truth value that
it returns becomes ``{"message": x}``, None becomes ``{}``.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ops.context import Context
from ops.params import parse

Handler: TypeAlias = Callable[[Context, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class NoUser:
    """Nobody has to be logged in. With ``if_any_of``, only where the body has one of these fields."""

    if_any_of: tuple[str, ...] = ()

    def is_open_for(self, body: Mapping[str, Any]) -> bool:
        return not self.if_any_of or any(name in body for name in self.if_any_of)


@dataclass(frozen=True, slots=True)
class AnyUser:
    """Every user; what it shows is filtered by the handler."""


@dataclass(frozen=True, slots=True)
class SuperUser:
    """Super users only. ``internal_name`` is what a refusal calls the operation."""

    internal_name: str


@dataclass(frozen=True, slots=True)
class StructureUser:
    """Super users, and roles with ``structure_user``: true, or (``of_database``) a list with the database.

    ``or_table_right`` lets a role with that right on the table in as well.
    """

    internal_name: str
    of_database: bool = True
    or_table_right: str | None = None


@dataclass(frozen=True, slots=True)
class Describe:
    """Whoever may see the database (and the table, where the request names one)."""

    of_table: bool = False


@dataclass(frozen=True, slots=True)
class TableRights:
    """Rights on the request's table. ``attributes_of`` names the attributes that a body touches, for roles with
    attribute permissions: it gets the raw body, as access is checked before parameters are."""

    rights: tuple[str, ...]
    attributes_of: Callable[[Mapping[str, Any]], list[str]] | None = None


Need: TypeAlias = NoUser | AnyUser | SuperUser | StructureUser | Describe | TableRights


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the API.

    ``read`` turns a body into the handler's parameters, raising ``InvalidParams``. ``aliases`` are other names of it. A job
    (``is_job``) answers with the id of its record and works in the background; its parameters are read before that.
    """

    name: str
    needs: Need
    read: Callable[[Mapping[str, Any]], Any]
    handler: Handler
    aliases: tuple[str, ...] = ()
    is_job: bool = False
    is_logged: bool = True
    is_download: bool = False
    params: type | None = None

    @property
    def summary(self) -> str:
        """The first sentence of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


def operation(
    name: str,
    *,
    needs: Need,
    params: type | None = None,
    read: Callable[[Mapping[str, Any]], Any] | None = None,
    aliases: tuple[str, ...] = (),
    is_job: bool = False,
    is_logged: bool = True,
    is_download: bool = False,
    invalid_status: int = 400,
) -> Callable[[Handler], Operation]:
    """Declare an operation. Parameters are a class for ``parse``, or a function ``read`` of the body, or none."""

    def read_params(body: Mapping[str, Any]) -> Any:
        return None if params is None else parse(params, body, status=invalid_status)

    def declare(handler: Handler) -> Operation:
        return Operation(
            name=name,
            needs=needs,
            read=read or read_params,
            handler=handler,
            aliases=aliases,
            is_job=is_job,
            is_logged=is_logged,
            is_download=is_download,
            params=params,
        )

    return declare
