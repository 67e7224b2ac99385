"""What ``"replicated": true`` adds to an answer: the answers of the other nodes to the same operation.

The operation has been carried out here first. Then it goes to all members at once, as an operation of a node and
without the flag; a member that is not connected is reported as failed, never left out: "success" with nobody reached
would be a lie.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio

from ops.context import Context
from replication.errors import ReplicationError

TIMEOUT_S: Final = 600.0
"""For operations that take their time, a deployment for one; pings keep the connection meanwhile."""


async def with_answers_of_peers(
    ctx: Context, message: str, *, replicated: bool, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """The whole answer of an operation that was carried out here with ``message``."""
    answer: dict[str, Any] = {"message": message}
    if replicated:
        answer["replicated"] = await answers_of_peers(ctx, timeout_s=timeout_s)
    return answer


async def answers_of_peers(ctx: Context, *, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
    """What each member answers to this request, in the order of their names, as clients see it."""
    return [_named(answer) for answer in await ask_peers(ctx, timeout_s=timeout_s)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAnswer:
    """``failure`` says why there is no result."""

    node: str
    result: Any = None
    failure: str | None = None


async def ask_peers(ctx: Context, *, timeout_s: float = TIMEOUT_S, **changes: Any) -> list[PeerAnswer]:
    """This request, with ``changes`` to its fields, to all members at once; one answer for each, in their order."""
    cluster = ctx.services.cluster
    if cluster is None:
        return []
    operation = {**ctx.body, "operation": ctx.operation, "replicated": False, **changes}
    peers = list(cluster.watch.membership.peers)
    answers: dict[str, PeerAnswer] = {}

    async def ask(peer: str) -> None:
        try:
            result = await cluster.call(peer, operation, timeout_s=timeout_s)
        except ReplicationError as error:
            answers[peer] = PeerAnswer(node=peer, failure=str(error))
        else:
            answers[peer] = PeerAnswer(node=peer, result=result)

    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(ask, peer)
    return [answers[peer] for peer in peers]


def _named(answer: PeerAnswer) -> dict[str, Any]:
    if answer.failure is not None:
        return {"status": "failed", "reason": answer.failure, "node": answer.node}
    fields = answer.result if isinstance(answer.result, Mapping) else {"result": answer.result}
    return {**fields, "node": answer.node}
