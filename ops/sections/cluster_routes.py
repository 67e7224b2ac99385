"""The routes of the configuration file: where peers are. A change takes effect at the next start."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import trio

from ops.context import Configuration, Context
from ops.errors import InvalidParams
from ops.operation import Operation, SuperUser, operation
from ops.params import ListOf, parse
from replication.routes import BadRoute, is_same_route, parse_route

SET: Final = "cluster routes successfully set"
DELETED: Final = "cluster routes successfully deleted"
PARAMETER: Final = "replication_routes"

_changing: Final = trio.Lock()
"""The list is read, changed and written back: two requests at once would lose one change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    routes: Annotated[list[Any], ListOf()]


def new_routes_params(body: Mapping[str, Any]) -> Routes:
    """Routes that a start could use: what it would skip is refused here, all of it at once."""
    params = parse(Routes, body)
    problems = []
    for route in params.routes:
        try:
            parse_route(route, secure_port=None, port=None)
        except BadRoute as error:
            problems.append(str(error))
    if problems:
        raise InvalidParams(". ".join(problems))
    return params


@operation("cluster_set_routes", needs=SuperUser("clusterSetRoutes"), read=new_routes_params)
async def cluster_set_routes(ctx: Context, params: Routes) -> dict[str, Any]:
    """Add routes to the configuration file; those that it has already are skipped."""
    added: list[Any] = []
    skipped: list[Any] = []
    async with _changing:
        stored = _stored_routes(ctx.services.configuration)
        for route in params.routes:
            is_known = any(is_same_route(route, other) for other in (*stored, *added))
            (skipped if is_known else added).append(route)
        if added:
            await ctx.services.configuration.change({PARAMETER: [*stored, *added]})
    return {"message": SET, "set": added, "skipped": skipped}


@operation("cluster_get_routes", needs=SuperUser("clusterGetRoutes"))
async def cluster_get_routes(ctx: Context, params: None) -> list[Any]:
    """The routes of the configuration file."""
    return _stored_routes(ctx.services.configuration)


@operation("cluster_delete_routes", needs=SuperUser("clusterDeleteRoutes"), params=Routes)
async def cluster_delete_routes(ctx: Context, params: Routes) -> dict[str, Any]:
    """Take routes out of the configuration file; the answer names those that went and those that were kept."""
    async with _changing:
        stored = _stored_routes(ctx.services.configuration)
        deleted = [route for route in stored if any(is_same_route(route, named) for named in params.routes)]
        kept = [route for route in stored if route not in deleted]
        if deleted:
            await ctx.services.configuration.change({PARAMETER: kept})
    return {"message": DELETED, "deleted": deleted, "skipped": kept}


def _stored_routes(configuration: Configuration) -> list[Any]:
    section = configuration.document().get("replication")
    routes = section.get("routes") if isinstance(section, Mapping) else None
    return list(routes) if isinstance(routes, list) else []


OPERATIONS: Final[tuple[Operation, ...]] = (cluster_set_routes, cluster_get_routes, cluster_delete_routes)
