"""The configuration file as operations, and the restart that makes a change of it take effect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ops.context import Context
from ops.fan_out import with_answers_of_peers
from ops.operation import Operation, SuperUser, operation
from ops.params import Flag, parse

SET: Final = "Configuration successfully set. You must restart HarperDB for new config settings to take effect."
RESTARTING: Final = "Restarting HarperDB. This may take up to 60 seconds."
NOT_SETTINGS: Final = frozenset(("operation", "replicated"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    replicated: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetConfiguration:
    """``values`` are what else the request holds: flat names, which the configuration checks."""

    values: Mapping[str, Any]
    replicated: bool


def set_configuration_params(body: Mapping[str, Any]) -> SetConfiguration:
    replicated = parse(Replicated, body).replicated
    values = {name: value for name, value in body.items() if name not in NOT_SETTINGS}
    return SetConfiguration(values=values, replicated=replicated)


@operation("set_configuration", needs=SuperUser("setConfiguration"), read=set_configuration_params)
async def set_configuration(ctx: Context, params: SetConfiguration) -> dict[str, Any]:
    """Change settings in the configuration file; they take effect at the next start."""
    await ctx.services.configuration.change(params.values)
    return await with_answers_of_peers(ctx, SET, replicated=params.replicated)


@operation("get_configuration", needs=SuperUser("getConfiguration"))
async def get_configuration(ctx: Context, params: None) -> dict[str, Any]:
    """The content of the configuration file, changes included that wait for a restart."""
    return ctx.services.configuration.document()


@operation("restart", needs=SuperUser("restart"))
async def restart(ctx: Context, params: None) -> str:
    """End the node's process gracefully and start it again."""
    ctx.services.control.restart()
    return RESTARTING


OPERATIONS: Final[tuple[Operation, ...]] = (set_configuration, get_configuration, restart)
