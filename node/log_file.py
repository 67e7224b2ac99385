"""An append-only log file that several processes may write, and that may be moved away while they do.

Each batch of lines is one append of the system, so lines of several processes do not mix. Before each batch the path is
looked at: where it no longer names the open file (rotation by another process or a tool), a new file is begun.
"""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from node.log_line import LogLine

_FILE_MODE: Final = 0o600
"""Bodies of requests are logged: for the node's user alone."""


class LogFile:
    """Safe to use from several threads. Opened by the first write, so that making one touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._is_torn = False
        """The last write ended in the middle of a line: the disk was full."""

    def write(self, lines: Iterable[LogLine]) -> None:
        """Append ``lines``. Raises ``OSError`` where the disk refuses; some of them may be there then."""
        data = b"".join(line.encoded() for line in lines)
        with self._lock:
            self._append(data)

    def move(self, to: Path, first_line: Callable[[], LogLine]) -> None:
        """Rename the file to ``to`` and begin a new one with ``first_line()``. Raises ``OSError``; nothing moved
        then.
        """
        with self._lock:
            os.rename(self.path, to)
            self._append(first_line().encoded())

    def close(self) -> None:
        with self._lock:
            self._close()

    def _append(self, data: bytes) -> None:
        descriptor = self._opened()
        if self._is_torn:
            data = b"\n" + data
        view = memoryview(data)
        while view:
            try:
                written = os.write(descriptor, view)
            except OSError:
                self._is_torn = self._is_torn or len(view) < len(data)
                raise
            view = view[written:]
        self._is_torn = False

    def _opened(self) -> int:
        if self._descriptor is not None and not self._is_current(self._descriptor):
            self._close()
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, _FILE_MODE)
        return self._descriptor

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._is_torn = False
