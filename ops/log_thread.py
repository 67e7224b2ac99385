"""Who speaks in a log line: ``main/0``, ``http/1`` (requests, by worker) or ``job/7``.

A context variable, so that it follows a request into the tasks and worker threads that it starts.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

MAIN_THREAD: Final = "main/0"
_log_thread: ContextVar[str] = ContextVar("log_thread", default=MAIN_THREAD)


def current_log_thread() -> str:
    return _log_thread.get()


@contextlib.contextmanager
def log_thread(name: str, number: int | str) -> Iterator[None]:
    """Lines logged in the body, and by the tasks begun in it, are those of ``name``/``number``."""
    token = _log_thread.set(f"{name}/{number}")
    try:
        yield
    finally:
        _log_thread.reset(token)
