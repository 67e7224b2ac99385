"""What the process prints, as lines of the log (``logging.console``): some components print where they should log."""

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Final

log = logging.getLogger("console")

_LINE_LENGTH_MAX: Final = 8 * 1024


@contextlib.contextmanager
def captured_console() -> Iterator[None]:
    """In the body ``print`` goes to the log: standard output at level info, standard error at level error.

    Only what Python code prints; what a child process or a C library writes keeps its way.
    """
    with (
        _LoggedOutput(logging.INFO) as output,
        _LoggedOutput(logging.ERROR) as errors,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        yield


class _LoggedOutput(io.TextIOBase):
    """A text stream whose whole lines are logged; one without an end is logged in pieces."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        if len(self._begun) > _LINE_LENGTH_MAX:
            lines.append(self._begun)
            self._begun = ""
        for line in lines:
            self._log(line)
        return len(text)

    def close(self) -> None:
        self._log(self._begun)
        self._begun = ""
        super().close()

    def _log(self, line: str) -> None:
        if line.strip():
            log.log(self._level, "%s", line.rstrip())
