"""Acts when something changed that can only be looked at: files, tables."""

import logging
from collections.abc import Callable
from typing import Final

import trio

from storage.errors import DatabaseError

log = logging.getLogger("tls")

LOOK_EVERY_S: Final = 0.5
"""A new certificate has to be served within two seconds; a look costs some ``stat`` calls."""


class ChangeWatch:
    """``act`` is called when ``look`` returns something else than before; both may block."""

    def __init__(self, look: Callable[[], object], act: Callable[[], None]) -> None:
        """Looks at once: make it before what it watches is read for the first time, or a change in between is missed."""
        self._look = look
        self._act = act
        self._seen = look()

    def check(self) -> None:
        """One look, in the caller's thread. Where acting fails it is tried again at the next one."""
        try:
            seen = self._look()
            if seen != self._seen:
                self._act()
                self._seen = seen
        except (DatabaseError, OSError) as error:
            log.error("what changed could not be read: %s", error)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_EVERY_S)
            await trio.to_thread.run_sync(self.check)
