"""``system_information``: the machine, this process and its databases."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import trio

from ops.context import Context
from ops.database_facts import database_metrics, table_sizes, thread_facts
from ops.operation import Operation, SuperUser, operation
from ops.system_information import Sources, asked_groups, collect


def wanted_groups(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What is no list of names asks for all groups, so nothing here is ever refused."""
    return asked_groups(body.get("attributes"))


@operation("system_information", needs=SuperUser("systemInformation"), read=wanted_groups)
async def system_information(ctx: Context, params: tuple[str, ...]) -> dict[str, Any]:
    """Facts about the machine, this process and its databases, by group."""
    settings = ctx.services.settings
    sources = Sources(
        table_size=partial(table_sizes, ctx.catalog),
        metrics=partial(database_metrics, ctx.catalog),
        threads=thread_facts,
        collect_disk=settings.collect_disk,
        collect_network=settings.collect_network,
    )
    return await trio.to_thread.run_sync(collect, params, sources)


OPERATIONS: Final[tuple[Operation, ...]] = (system_information,)
