"""The application log as an operation: ``read_log``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import trio

from ops.context import Context
from ops.errors import InvalidParams
from ops.fan_out import PeerAnswer, ask_peers
from ops.log_reader import Order, read_entries
from ops.operation import Operation, SuperUser, operation
from ops.params import Also, Anything, Number, OneOf, Problem, Text, parse
from storage.log_levels import LEVELS

LOG_NAMES: Final = ("hdb.log", "install.log")
LEVEL_NAMES: Final = tuple(LEVELS)[::-1]
PEER_TIMEOUT_S: Final = 30.0
_DATE_LENGTH_MAX: Final = 40
_YEARS: Final = range(1970, 9999)


@dataclass(frozen=True, slots=True)
class Instant:
    """An ISO 8601 date or date-time; without an offset it is UTC."""

    def convert(self, label: str, value: Any) -> datetime:
        try:
            if not isinstance(value, str) or len(value) > _DATE_LENGTH_MAX:
                raise ValueError(value)
            at = datetime.fromisoformat(value)
        except ValueError:
            raise Problem(_invalid_date(label, value)) from None
        if at.year not in _YEARS:
            raise Problem(_invalid_date(label, value))
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LogName:
    def convert(self, label: str, value: Any) -> str:
        if value not in LOG_NAMES:
            raise Problem(f"'{label}' '{_shown(value)}' is invalid.")
        return str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLog:
    start: Annotated[int | float, Number(at_least=0)] = 0
    limit: Annotated[int | float, Number(at_least=1)] = 1000
    level: Annotated[str | None, OneOf(LEVEL_NAMES)] = None
    from_: Annotated[datetime | None, Instant(), Also(("from",), wins=True)] = None
    to: Annotated[datetime | None, Instant(), Also(("until",))] = None
    order: Annotated[Order | None, OneOf(("asc", "desc"))] = None
    filter: Annotated[str | None, Text(may_be_empty=True)] = None
    log_name: Annotated[str, LogName()] = "hdb.log"
    replicated: Annotated[Any, Anything()] = False


def read_log_params(body: Mapping[str, Any]) -> ReadLog:
    """A field that is null counts as absent: clients send ``"level": null`` for all levels."""
    return parse(ReadLog, {name: value for name, value in body.items() if value is not None})


@operation("read_log", needs=SuperUser("readLog"), read=read_log_params, is_logged=False)
async def read_log(ctx: Context, params: ReadLog) -> list[dict[str, Any]]:
    """Entries of the application log, by level, time or text; with ``desc`` the newest ones, newest first.

    With ``replicated`` those of all nodes: in one order where one is asked for, else node by node.
    """
    if params.replicated is not True:
        return await _read(ctx, params)
    start, limit = int(params.start), int(params.limit)
    if params.order is None:
        return [line for lines in await _of_all_nodes(ctx, params) for line in lines]
    newest_first = params.order == "desc"
    read = replace(params, start=0, limit=start + limit)
    *found, failures = await _of_all_nodes(ctx, read, start=0, limit=start + limit)
    lines = sorted((line for lines in found for line in lines), key=_timestamp, reverse=newest_first)
    page = lines[start : start + limit]
    return [*failures, *page] if newest_first else [*page, *failures]


async def _of_all_nodes(ctx: Context, params: ReadLog, **changes: Any) -> list[list[dict[str, Any]]]:
    """The lines of this node, of each of the others, and one for each that cannot be asked. Each line names its node."""
    lines = [_named(await _read(ctx, params), ctx.services.settings.node)]
    failures = []
    for answer in await ask_peers(ctx, timeout_s=PEER_TIMEOUT_S, **changes):
        if isinstance(answer.result, list):
            lines.append(_named(answer.result, answer.node))
        else:
            failures.append(_failed(ctx, answer))
    return [*lines, failures]


def _named(lines: list[dict[str, Any]], node: str) -> list[dict[str, Any]]:
    return [{**line, "node": node} for line in lines if isinstance(line, dict)]


def _timestamp(line: dict[str, Any]) -> str:
    return str(line.get("timestamp"))


def _failed(ctx: Context, answer: PeerAnswer) -> dict[str, Any]:
    at = datetime.fromtimestamp(ctx.services.clock() / 1_000_000, UTC).isoformat(timespec="milliseconds")
    reason = answer.failure or "an answer that is no list"
    return {
        "timestamp": at.replace("+00:00", "Z"),
        "level": "error",
        "node": answer.node,
        "message": f"Error retrieving logs: {reason}",
    }


async def _read(ctx: Context, params: ReadLog) -> list[dict[str, Any]]:
    path = ctx.services.settings.log_path / params.log_name

    def read() -> list[dict[str, Any]]:
        return read_entries(
            path,
            start=int(params.start),
            limit=int(params.limit),
            level=params.level,
            from_=params.from_,
            to=params.to,
            order=params.order,
            filter=params.filter,
        )

    try:
        return await trio.to_thread.run_sync(read)
    except FileNotFoundError:
        raise InvalidParams(f"'log_name' '{params.log_name}' does not exist.") from None


def _invalid_date(label: str, value: Any) -> str:
    return f"'{label}' date '{_shown(value)}' is invalid."


def _shown(value: Any) -> str:
    is_short = isinstance(value, str | float) or (isinstance(value, int) and value.bit_length() < 64)
    return str(value)[:_DATE_LENGTH_MAX] if is_short else type(value).__name__


OPERATIONS: Final[tuple[Operation, ...]] = (read_log,)
