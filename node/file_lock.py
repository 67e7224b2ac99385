"""Advisory locks on files, which the system gives back when their process ends, however it ends.

A lock belongs to the open file, so two threads of one process exclude each other like two processes do.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_RETRY_S = 0.01


class LockBusy(Exception):
    """Somebody else held the lock for the whole time that the caller was ready to wait."""


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock of ``path`` in the body. Blocks the calling thread for ``wait_s`` at most, then ``LockBusy``."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(descriptor, path, wait_s)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Does anybody hold the lock of ``path``? False when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquire(descriptor: int, path: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockBusy(f"{path} is in use") from None
            time.sleep(_RETRY_S)
