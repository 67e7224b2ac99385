"""The format of log lines, and that nothing from outside can break out of it."""

import logging
import sys
from typing import Any

import pytest

from node.log_line import MESSAGE_LENGTH_MAX, line_of, make_line, timestamp
from ops.log_thread import log_thread
from storage.log_levels import LEVELS, NOTIFY, TRACE, level_name

AT_S = 1795422602.6823306


def record(message: str, *args: Any, name: str = "node", level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": name, "levelno": level, "msg": message, "args": args, **fields})
    made.created = AT_S
    return made


def test_a_line_is_timestamp_thread_level_and_message() -> None:
    with log_thread("job", 3):
        line = line_of(record("Starting job: %s", "7c2f5b0e", level=NOTIFY))
    assert line.encoded() == b"2026-11-23T08:30:02.682Z [job/3] [notify]: Starting job: 7c2f5b0e\n"


def test_the_loggers_name_is_the_tag() -> None:
    assert line_of(record("no such", name="operation", level=logging.ERROR)).text == (
        "[main/0] [error] [operation]: no such"
    )


def test_tags_of_the_record_follow_the_loggers_name() -> None:
    assert line_of(record("x", name="storage", tags=("zoo", "two words"))).text == (
        "[main/0] [info] [storage] [zoo] [two-words]: x"
    )


def test_a_routes_tag_stands_instead_of_the_loggers_name() -> None:
    assert line_of(record("x", name="replication"), tag="links").text == "[main/0] [info] [links]: x"


@pytest.mark.parametrize(("number", "name"), [(number, name) for name, number in LEVELS.items()])
def test_every_level_has_its_name(number: int, name: str) -> None:
    assert level_name(number) == name


@pytest.mark.parametrize(("number", "name"), [(0, "trace"), (15, "debug"), (35, "warn"), (55, "fatal"), (99, "notify")])
def test_a_level_between_two_counts_as_the_lower_one(number: int, name: str) -> None:
    assert level_name(number) == name


def test_the_standard_module_knows_the_names_of_the_nodes_own_levels() -> None:
    assert (logging.getLevelName(TRACE), logging.getLevelName(NOTIFY)) == ("TRACE", "NOTIFY")


@pytest.mark.parametrize(
    ("at_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9999999, "1970-01-01T00:00:01.999Z"),
        (1795422602.0011, "2026-11-23T08:30:02.001Z"),
    ],
)
def test_timestamps_are_cut_to_milliseconds(at_s: float, text: str) -> None:
    assert timestamp(at_s) == text


def test_an_exception_follows_the_message_on_lines_of_its_own() -> None:
    try:
        raise ValueError("no otters")
    except ValueError:
        line = line_of(record("failed", level=logging.ERROR, exc_info=sys.exc_info()))
    first, second, *_, last = line.text.split("\n")
    assert (first, last) == ("[main/0] [error]: failed", "ValueError: no otters")
    assert second == "Traceback (most recent call last):"


def test_a_message_cannot_begin_an_entry_of_its_own() -> None:
    forged = "x\n2026-11-23T08:30:01.381Z [main/0] [notify]: all is well\nplain"
    assert line_of(record("%s", forged)).text == (
        "[main/0] [info]: x\n 2026-11-23T08:30:01.381Z [main/0] [notify]: all is well\nplain"
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb", "a\\rb"),
        ("a\r\nb", "a\nb"),
        ("tab\tstays", "tab\tstays"),
        ("\u2028", "\\u2028"),
        ("\0", "\\x00"),
        ("öß", "öß"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(raw: str, shown: str) -> None:
    assert make_line(raw, level=logging.INFO, created_s=AT_S).text == f"[main/0] [info]: {shown}"


def test_a_carriage_return_does_not_hide_a_forged_beginning() -> None:
    line = make_line("x\r\n2026-11-23T08:30:01.381Z [main/0] [info]: y", level=logging.INFO, created_s=AT_S)
    assert "\n2026" not in line.text


def test_half_a_surrogate_pair_does_not_stop_the_line() -> None:
    assert b"\\ud800" in make_line("\ud800", level=logging.INFO, created_s=AT_S).encoded()


def test_a_long_message_is_cut_and_says_so() -> None:
    line = make_line("x" * (MESSAGE_LENGTH_MAX + 7), level=logging.INFO, created_s=AT_S)
    assert line.text.endswith("x… (7 characters more)")


@pytest.mark.parametrize("tag", ["a b", "a]b", "a\nb", "a: b"])
def test_a_tag_cannot_end_before_its_bracket(tag: str) -> None:
    assert make_line("x", level=logging.INFO, created_s=AT_S, tags=[tag]).text == "[main/0] [info] [a-b]: x"
