"""The life of a node: what starts in which order, what says that it is ready, and how it ends.

Stopping is the nesting, read from inside out: listeners close and running requests end within a bound, then jobs and
upkeep end, then storage closes with all that waits committed, and the log takes the last lines.
"""

import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import click
import trio

from node.assembly import Assembled, assemble
from node.errors import StartError
from node.observability import ApplicationLog
from node.settings import Settings
from ops.first_start import ensure_first_administrator
from ops.log_thread import log_thread
from ops.sections.status import clear_statuses
from ops.system_tables import ensure_system_tables
from ops.temporary_files import remove_leftovers
from storage.catalog import Catalog, open_catalog
from storage.errors import DatabaseError
from storage.log_levels import NOTIFY
from storage.retention import no_peers, run_retention

log = logging.getLogger("node")

FIRST_WORKER: Final = 1
"""One process serves, for now; log lines of its requests bear this number."""
READY: Final = "logmesh is ready:"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """What ends the node: a signal, or an operation that asks for a new start."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self.wants_restart = False

    def stop(self) -> None:
        self._event.set()

    def restart(self) -> None:
        self.wants_restart = True
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


def run_node(
    settings: Settings,
    *,
    warnings: Iterable[str] = (),
    on_ready: Callable[[], None] | None = None,
    prepare_only: bool = False,
) -> bool:
    """Run until the node is told to stop. True: it wants to be started again.

    Raises ``StartError`` where it cannot start. ``on_ready`` is called once, when requests are answered; with
    ``prepare_only`` none are: all that a first start makes is made, and no port is opened.
    """
    application_log = ApplicationLog(settings.logging)
    with application_log.installed():
        for warning in warnings:
            log.warning("%s", warning)
        try:
            return trio.run(_run, settings, application_log, on_ready, prepare_only)
        except BaseExceptionGroup as group:
            raise _sole_reason(group) from group


def _sole_reason(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one expected error in a group of nurseries, worded for the terminal; any other group is our own mistake."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, DatabaseError) and not isinstance(error, StartError):
        return StartError(str(error))
    return error if isinstance(error, StartError) else group


async def _run(
    settings: Settings, application_log: ApplicationLog, on_ready: Callable[[], None] | None, prepare_only: bool
) -> bool:
    stop = Stop()
    async with trio.open_nursery() as last_to_end:
        await last_to_end.start(application_log.run)
        last_to_end.start_soon(_stop_on_signals, stop)
        async with open_catalog(settings.storage, node=settings.replication.node_name) as catalog:
            assembled = await trio.to_thread.run_sync(assemble, settings, catalog, stop)
            await _prepare(settings, catalog, assembled)
            if prepare_only:
                await assembled.token_keys.prepare()
                _print(f"logmesh is installed: {settings.root_path}")
            else:
                async with _background(assembled, settings):
                    await _serve(assembled, stop, on_ready)
        last_to_end.cancel_scope.cancel()
    return stop.wants_restart


async def _prepare(settings: Settings, catalog: Catalog, assembled: Assembled) -> None:
    """What has to be there before the first request.

    A generated password is shown at once: nobody would ever learn it where the start failed after this, for a port in
    use.
    """
    await trio.to_thread.run_sync(remove_leftovers, settings.root_path)
    await ensure_system_tables(catalog)
    first = settings.first_administrator
    password = await ensure_first_administrator(catalog, assembled.services.settings, first.username, first.password)
    if password is not None:
        _print(f"Administrator: {first.username}  Password: {password}")
    await clear_statuses(catalog)
    await assembled.certificate_source.load_files()
    await trio.to_thread.run_sync(assembled.tls.reload_if_changed)
    if assembled.replication_tls is not None:
        await trio.to_thread.run_sync(assembled.replication_tls.reload_if_changed)


@asynccontextmanager
async def _background(assembled: Assembled, settings: Settings) -> AsyncIterator[None]:
    """Jobs, upkeep and watched files; they outlive the listeners, as a last request may still need them."""
    async with trio.open_nursery() as services:
        await services.start(assembled.jobs.run)
        await services.start(assembled.certificate_source.run)
        await services.start(assembled.tls.run)
        if assembled.replication_tls is not None:
            await services.start(assembled.replication_tls.run)
        rules = no_peers if assembled.cluster is None else assembled.cluster.retention.rules
        services.start_soon(partial(run_retention, assembled.services.catalog, rules=rules))
        services.start_soon(assembled.token_keys.prepare)
        if assembled.cluster is not None:
            await services.start(assembled.cluster.run)
        if assembled.join is not None:
            services.start_soon(assembled.join.run)
        yield
        services.cancel_scope.cancel()


async def _serve(assembled: Assembled, stop: Stop, on_ready: Callable[[], None] | None) -> None:
    async with trio.open_nursery() as serving:
        with log_thread("http", FIRST_WORKER):
            urls = await serving.start(assembled.server.run)
        log.log(NOTIFY, "logmesh successfully started.")
        _print(f"{READY} {' '.join(urls)}")
        if on_ready is not None:
            on_ready()
        await stop.wait()
        log.log(NOTIFY, "logmesh is stopping.")
        assembled.server.stop()


def _print(line: str) -> None:
    """To the terminal itself: with ``logging.console`` what goes to ``sys.stdout`` is logged, and passwords never
    are.
    """
    click.echo(line, file=sys.__stdout__)


async def _stop_on_signals(stop: Stop) -> None:
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async for number in signals:
            log.info("received %s", signal.Signals(number).name)
            stop.stop()
