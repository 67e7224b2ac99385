"""The application log: takes the records of the standard ``logging`` module and writes them to files and streams.

Layers and libraries log through ``logging.getLogger(...)`` and know nothing of this. The first part of the logger's
name picks the route: a section with settings of its own (``replication.logging``) has its own level, tag or file,
everything else is the node's.

    with application_log.installed():            # lines wait
        async with trio.open_nursery() as nursery:
            await nursery.start(application_log.run)   # lines are written
            ...
                                                 # the last lines are written
"""

import contextlib
import functools
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import trio

from node.console_capture import captured_console
from node.log_file import LogFile
from node.log_line import LogLine, line_of
from node.log_rotation import CHECK_EVERY_S, is_rotating, rotate_if_due
from node.log_writer import LogStatistics, LogWriter
from node.settings import LoggingSettings, SectionLog
from storage.log_levels import LEVELS, level_name

LOG_FILE_NAME: Final = "hdb.log"
COMPONENTS: Final = "component"
"""Logger of components: ``logging.external`` is its section."""
TALKATIVE_LIBRARIES: Final = (
    "asyncio",
    "botocore",
    "boto3",
    "hpack",
    "httpcore",
    "httpx",
    "hypercorn",
    "sqlglot",
    "urllib3",
)
"""Heard from warnings on only: they log each request, and URLs with what may be secret in them."""
_COLOURS: Final[Mapping[str, str]] = {
    "trace": "\x1b[90m",
    "debug": "\x1b[90m",
    "info": "\x1b[32m",
    "warn": "\x1b[33m",
    "error": "\x1b[31m",
    "fatal": "\x1b[35m",
    "notify": "\x1b[36m",
}
_PLAIN: Final = "\x1b[0m"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """Where the records of one section go. ``level`` None: that of the node."""

    writers: tuple[LogWriter, ...]
    level: str | None = None
    tag: str | None = None


class ApplicationLog(logging.Handler):
    """The log of one process. ``rotates`` is for one process of a node only: the first."""

    def __init__(
        self,
        settings: LoggingSettings,
        *,
        rotates: bool = True,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._rotates = rotates and is_rotating(settings.rotation)
        self._files: dict[Path, LogFile] = {}
        self._writers: dict[Path | None, LogWriter] = {}
        write = functools.partial(
            _write_streams, stdout=stdout or sys.stdout, stderr=stderr or sys.stderr, has_colours=settings.colors
        )
        self._streams = LogWriter("standard output", write)
        self._node_route = _Route(writers=self._writers_for(settings.path, settings.std_streams))
        sections = dict(settings.sections)
        if settings.external is not None:
            sections[COMPONENTS] = settings.external
        self._routes = {name: self._section_route(section) for name, section in sections.items()}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Take all records of this process in the body. At its end everything is written and the files are closed."""
        loggers = self._levels()
        before = {name: logging.getLogger(name).level for name in loggers}
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)
        root = logging.getLogger()
        root.addHandler(self)
        try:
            with captured_console() if self._settings.console else contextlib.nullcontext():
                yield
        finally:
            root.removeHandler(self)
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)
            for writer in self._all_writers():
                writer.drain()
            for file in self._files.values():
                file.close()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write and rotate until cancelled; then write what waits still. Start it first, so that it stops last."""
        async with trio.open_nursery() as nursery:
            for writer in self._all_writers():
                await nursery.start(writer.run)
            if self._rotates:
                nursery.start_soon(self._rotate_regularly)
            task_status.started()

    def emit(self, record: logging.LogRecord) -> None:
        """What ``logging`` calls for each record, in the thread and task that logs."""
        section = record.name.partition(".")[0]
        route = self._routes.get(section, self._node_route)
        try:
            line = line_of(record, tag=route.tag)
        except Exception:
            self.handleError(record)  # a caller's arguments do not fit its format: told on stderr with the place
            return
        for writer in route.writers:
            writer.put(line)

    def statistics(self) -> Mapping[str, LogStatistics]:
        """Per target: a file's path, or ``standard output``."""
        return {writer.name: writer.statistics() for writer in self._all_writers()}

    def _levels(self) -> dict[str, int]:
        """Level of each logger that has one of its own; the name of the root is empty."""
        node_level = LEVELS[self._settings.level]
        levels = {"": node_level}
        levels |= {name: max(node_level, logging.WARNING) for name in TALKATIVE_LIBRARIES}
        return levels | {name: LEVELS[route.level] for name, route in self._routes.items() if route.level is not None}

    def _section_route(self, section: SectionLog) -> _Route:
        path = section.path or (section.root / LOG_FILE_NAME if section.root is not None else self._settings.path)
        has_streams = self._settings.std_streams if section.std_streams is None else section.std_streams
        return _Route(writers=self._writers_for(path, has_streams), level=section.level, tag=section.tag)

    def _writers_for(self, path: Path, has_streams: bool) -> tuple[LogWriter, ...]:
        writers: list[LogWriter] = []
        if self._settings.file:
            if path not in self._files:
                file = self._files[path] = LogFile(path)
                self._writers[path] = LogWriter(f"log file {path}", file.write)
            writers.append(self._writers[path])
        if has_streams:
            writers.append(self._writers.setdefault(None, self._streams))
        return tuple(writers)

    def _all_writers(self) -> Sequence[LogWriter]:
        return tuple(self._writers.values())

    async def _rotate_regularly(self) -> None:
        while True:
            await trio.sleep(CHECK_EVERY_S)
            for file in self._files.values():
                await trio.to_thread.run_sync(rotate_if_due, file, self._settings.rotation, abandon_on_cancel=True)


def _write_streams(lines: Sequence[LogLine], *, stdout: TextIO, stderr: TextIO, has_colours: bool) -> None:
    """Errors to ``stderr``, the rest to ``stdout``, without timestamps: whoever collects them adds those."""
    try:
        for line in lines:
            stream = stderr if logging.ERROR <= line.level <= logging.CRITICAL else stdout
            text = _printable(line.text, stream.encoding or "utf-8")
            if has_colours and stream.isatty():
                text = f"{_COLOURS[level_name(line.level)]}{text}{_PLAIN}"
            stream.write(f"{text}\n")
        for stream in (stdout, stderr):
            stream.flush()
    except ValueError as error:  # what Python raises for a stream that somebody closed
        raise OSError(str(error)) from error


def _printable(text: str, encoding: str) -> str:
    """``text`` with what the stream's encoding does not have written as escapes."""
    return text.encode(encoding, "backslashreplace").decode(encoding)
