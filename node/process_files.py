"""``hdb.pid`` and the lock that keeps a second process off the same root folder.

The lock decides, the pid file only informs: a pid file left by a crash names a process that is gone, or worse, an
unrelated one that got its number. The lock file stays in place for ever, as a lock on a removed file excludes nobody.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from node.configuration_file import replace_file
from node.errors import AlreadyRunning
from node.file_lock import LockBusy, is_locked, locked

PID_FILE_NAME = "hdb.pid"
_LOCK_FILE_NAME = ".logmesh.lock"
_CLAIM_WAIT_S = 0.5
"""Whoever asks whether a node runs holds the lock for microseconds; that must not keep a node from starting."""


@contextlib.contextmanager
def claimed_root(root: Path) -> Iterator[None]:
    """This process serves ``root`` in the body: its pid is in ``hdb.pid``. Raises ``AlreadyRunning``."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(root / _LOCK_FILE_NAME, wait_s=_CLAIM_WAIT_S))
        except LockBusy:
            raise AlreadyRunning(_noted_pid(root)) from None
        replace_file(root / PID_FILE_NAME, f"{os.getpid()}\n", mode=0o644)
        held.callback((root / PID_FILE_NAME).unlink, missing_ok=True)
        yield


def running_pid(root: Path) -> int | None:
    """Process id of the node that serves ``root``; None when none does, or it has not noted its id yet."""
    return _noted_pid(root) if is_running(root) else None


def is_running(root: Path) -> bool:
    return is_locked(root / _LOCK_FILE_NAME)


def _noted_pid(root: Path) -> int | None:
    try:
        text = (root / PID_FILE_NAME).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() and len(text) < 12 and int(text) > 0 else None
