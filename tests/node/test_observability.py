"""The application log as a whole: records of the ``logging`` module in, lines in files and streams out."""

import io
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.log_rotation import rotate_if_due
from node.observability import COMPONENTS, ApplicationLog
from node.settings import SectionLog
from ops.log_reader import read_entries
from ops.log_thread import log_thread
from storage.log_levels import LEVELS, NOTIFY, TRACE
from tests.node.log_settings import logging_settings, rotation_settings


@asynccontextmanager
async def running(log: ApplicationLog) -> AsyncIterator[None]:
    with log.installed():
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            yield
            nursery.cancel_scope.cancel()


def messages(path: Path) -> list[str]:
    """What a log file holds; nothing where no line ever made it."""
    return [entry["message"] for entry in read_entries(path)] if path.exists() else []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_records_of_every_logger_reach_the_file(tmp_path: Path) -> None:
    async with running(ApplicationLog(logging_settings(tmp_path))):
        logging.getLogger("node").log(NOTIFY, "logmesh successfully started.")
        logging.getLogger("storage").warning("database '%s' is %s", "zoo", "odd")
        logging.getLogger("some.library").error("not ours")
    first, second, third = read_entries(tmp_path / "hdb.log")
    assert first["message"] == "logmesh successfully started." and first["level"] == "notify" and first["tags"] == []
    assert second["message"] == "database 'zoo' is odd" and second["tags"] == ["storage"]
    assert third["tags"] == ["some.library"]


def test_lines_before_and_after_the_service_ran_are_written_too(tmp_path: Path) -> None:
    log = ApplicationLog(logging_settings(tmp_path))

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            logging.getLogger("node").info("while")
            nursery.cancel_scope.cancel()

    with log.installed():
        logging.getLogger("node").info("before")
        trio.run(serve)
        logging.getLogger("node").info("after")
    assert messages(tmp_path / "hdb.log") == ["before", "while", "after"]


def test_a_start_that_fails_before_the_service_ran_is_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"), ApplicationLog(logging_settings(tmp_path)).installed():
        logging.getLogger("node").error("cannot start")
        raise OSError("port in use")
    assert messages(tmp_path / "hdb.log") == ["cannot start"]


def test_afterwards_the_logging_module_is_as_it_was(tmp_path: Path) -> None:
    root, storage = logging.getLogger(), logging.getLogger("storage")
    before = (list(root.handlers), root.level, storage.level)
    settings = logging_settings(tmp_path, sections={"storage": SectionLog(level="trace")})
    with ApplicationLog(settings).installed():
        pass
    assert (list(root.handlers), root.level, storage.level) == before


@pytest.mark.parametrize("level", list(LEVELS))
def test_a_level_includes_all_more_severe_ones(tmp_path: Path, level: str) -> None:
    with ApplicationLog(logging_settings(tmp_path, level=level)).installed():
        for name, number in LEVELS.items():
            logging.getLogger("node").log(number, name)
    names = list(LEVELS)
    assert messages(tmp_path / "hdb.log") == names[names.index(level) :]


@pytest.mark.parametrize(("level", "heard"), [("trace", ["careful"]), ("error", [])])
def test_talkative_libraries_are_heard_from_warnings_on(tmp_path: Path, level: str, heard: list[str]) -> None:
    with ApplicationLog(logging_settings(tmp_path, level=level)).installed():
        logging.getLogger("httpx").info("GET https://example.org/?signature=secret")
        logging.getLogger("httpx").warning("careful")
    assert messages(tmp_path / "hdb.log") == heard


async def test_the_thread_of_a_line_follows_the_request_into_its_tasks_and_threads(tmp_path: Path) -> None:
    log = logging.getLogger("node")

    async def serve(number: int) -> None:
        with log_thread("http", number):
            await trio.lowlevel.checkpoint()
            log.info("task %d", number)
            await trio.to_thread.run_sync(log.info, "thread %d", number)

    async with running(ApplicationLog(logging_settings(tmp_path))), trio.open_nursery() as nursery:
        nursery.start_soon(serve, 1)
        nursery.start_soon(serve, 2)
    by_thread = {(entry["thread"], entry["message"]) for entry in read_entries(tmp_path / "hdb.log")}
    assert by_thread == {("http/1", "task 1"), ("http/1", "thread 1"), ("http/2", "task 2"), ("http/2", "thread 2")}


def run_with_streams(tmp_path: Path, out: io.StringIO, err: io.StringIO, **changes: Any) -> None:
    settings = logging_settings(tmp_path, std_streams=True, **changes)
    with ApplicationLog(settings, stdout=out, stderr=err).installed():
        for level in (TRACE, logging.INFO, logging.ERROR, NOTIFY):
            logging.getLogger("node").log(level, "hello")


def test_standard_streams_get_the_lines_without_timestamps(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    run_with_streams(tmp_path, out, err)
    assert out.getvalue() == "[main/0] [trace]: hello\n[main/0] [info]: hello\n[main/0] [notify]: hello\n"
    assert err.getvalue() == "[main/0] [error]: hello\n"
    assert len(messages(tmp_path / "hdb.log")) == 4


def test_only_a_terminal_gets_colours(tmp_path: Path) -> None:
    out, err = Terminal(), io.StringIO()
    run_with_streams(tmp_path, out, err)
    assert out.getvalue().count("\x1b[0m") == 3
    assert "\x1b" not in err.getvalue()


def test_colours_can_be_turned_off(tmp_path: Path) -> None:
    out = Terminal()
    run_with_streams(tmp_path, out, Terminal(), colors=False)
    assert "\x1b" not in out.getvalue()


def test_a_terminal_that_knows_few_characters_gets_escapes(tmp_path: Path) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with ApplicationLog(logging_settings(tmp_path, std_streams=True), stdout=out, stderr=out).installed():
        logging.getLogger("node").info("öß \ud800")
    out.seek(0)
    assert out.read() == "[main/0] [info]: \\xf6\\xdf \\ud800\n"


def test_a_stream_that_was_closed_costs_its_lines_and_not_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[str] = []
    monkeypatch.setattr("node.log_writer._complain", complaints.append)
    closed = io.StringIO()
    closed.close()
    run_with_streams(tmp_path, closed, io.StringIO())
    assert [complaint.rstrip(".") for complaint in complaints] == [
        "standard output cannot be written: I/O operation on closed file"
    ]
    assert len(messages(tmp_path / "hdb.log")) == 4


def test_without_the_file_setting_no_file_is_written(tmp_path: Path) -> None:
    out = io.StringIO()
    run_with_streams(tmp_path, out, io.StringIO(), file=False)
    assert out.getvalue() and not list(tmp_path.iterdir())


def test_a_section_may_have_its_own_level(tmp_path: Path) -> None:
    settings = logging_settings(tmp_path, level="warn", sections={"replication": SectionLog(level="debug")})
    with ApplicationLog(settings).installed():
        logging.getLogger("storage").info("not written")
        logging.getLogger("replication").info("written")
        logging.getLogger("replication.link").debug("written too")
    assert messages(tmp_path / "hdb.log") == ["written", "written too"]


def test_a_section_may_have_its_own_tag(tmp_path: Path) -> None:
    settings = logging_settings(tmp_path, sections={"replication": SectionLog(tag="links")})
    with ApplicationLog(settings).installed():
        logging.getLogger("replication").info("x")
    assert read_entries(tmp_path / "hdb.log")[0]["tags"] == ["links"]


@pytest.mark.parametrize(
    ("section", "place"),
    [(SectionLog(path=Path("own.log")), "own.log"), (SectionLog(root=Path("own")), "own/hdb.log")],
    ids=["path", "root"],
)
def test_a_section_may_have_its_own_file(tmp_path: Path, section: SectionLog, place: str) -> None:
    absolute = SectionLog(path=section.path and tmp_path / section.path, root=section.root and tmp_path / section.root)
    with ApplicationLog(logging_settings(tmp_path, sections={"storage": absolute})).installed():
        logging.getLogger("storage").info("there")
        logging.getLogger("node").info("here")
    assert messages(tmp_path / place) == ["there"]
    assert messages(tmp_path / "hdb.log") == ["here"]


def test_components_have_the_external_log(tmp_path: Path) -> None:
    settings = logging_settings(tmp_path, level="error", external=SectionLog(path=tmp_path / "own.log", level="info"))
    with ApplicationLog(settings).installed():
        logging.getLogger(f"{COMPONENTS}.otters").info("theirs")
    assert messages(tmp_path / "own.log") == ["theirs"]


def test_a_record_whose_arguments_do_not_fit_costs_only_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ApplicationLog(logging_settings(tmp_path))
    with log.installed():
        log.handle(logging.makeLogRecord({"name": "storage", "msg": "%d otters", "args": ("many",)}))
        logging.getLogger("storage").info("next")
    assert messages(tmp_path / "hdb.log") == ["next"]
    assert "Logging error" in capsys.readouterr().err


def test_what_the_process_prints_can_be_captured(tmp_path: Path) -> None:
    with ApplicationLog(logging_settings(tmp_path, console=True)).installed():
        print("printed\nin two lines")  # noqa: T201
        print("no end", end="")  # noqa: T201
    entries = read_entries(tmp_path / "hdb.log")
    assert [(entry["level"], entry["tags"], entry["message"]) for entry in entries] == [
        ("info", ["console"], "printed"),
        ("info", ["console"], "in two lines"),
        ("info", ["console"], "no end"),
    ]


async def test_a_log_that_is_due_is_rotated_while_the_service_runs(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_checked = trio.Event()

    def check(*arguments: Any) -> None:
        rotate_if_due(*arguments)
        trio.from_thread.run_sync(is_checked.set)

    monkeypatch.setattr("node.observability.rotate_if_due", check)
    settings = logging_settings(tmp_path, rotation=rotation_settings(tmp_path, size_bytes_max=1))
    log = ApplicationLog(settings)
    with log.installed():
        logging.getLogger("node").info("old")
        for writer in log._all_writers():
            writer.drain()
        async with trio.open_nursery() as nursery:
            await nursery.start(log.run)
            await is_checked.wait()
            nursery.cancel_scope.cancel()
        logging.getLogger("node").info("new")
    rotated = list(tmp_path.glob("HDB-*.log"))
    assert [messages(path) for path in rotated] == [["old"]]
    assert messages(tmp_path / "hdb.log") == [f"hdb.log rotated, old log moved to {rotated[0]}", "new"]


async def test_only_the_first_process_rotates(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    settings = logging_settings(tmp_path, rotation=rotation_settings(tmp_path, size_bytes_max=1))
    async with running(ApplicationLog(settings, rotates=False)):
        logging.getLogger("node").info("stays")
        await trio.sleep(200)
    assert messages(tmp_path / "hdb.log") == ["stays"]


async def test_statistics_count_lines_per_target(tmp_path: Path) -> None:
    log = ApplicationLog(logging_settings(tmp_path))
    async with running(log):
        logging.getLogger("node").info("one")
    (statistics,) = log.statistics().values()
    assert (statistics.lines_written, statistics.lines_dropped, statistics.waiting_bytes) == (1, 0, 0)


def test_a_line_in_the_file_has_exactly_the_documented_form(tmp_path: Path) -> None:
    with ApplicationLog(logging_settings(tmp_path)).installed(), log_thread("http", 1):
        logging.getLogger("operation").error("Error when selecting operation function - Error: Operation 'x' not found")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[http/1\] \[error\] \[operation\]: "
        r"Error when selecting operation function - Error: Operation 'x' not found\n",
        (tmp_path / "hdb.log").read_text(),
    )
