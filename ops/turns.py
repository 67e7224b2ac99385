"""Costly work in threads, shared out fairly: one client cannot keep the others waiting for ever.

A client has one piece of work running at a time, so that however many it sends, the other places are free for others.
Waiting is bounded in number and in time; what finds no place is refused, which a client sees as 503.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

from storage.errors import Overloaded

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Client:
    """One client's queue; gone when nothing of it waits or runs."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    count: int = 0


class Turns:
    """``await turns.run(client, function, ...)``."""

    def __init__(
        self, *, at_once: int, wait_s_max: float = 20.0, of_client_max: int = 32, count_max: int = 256
    ) -> None:
        self._limiter = trio.CapacityLimiter(at_once)
        self._wait_s_max = wait_s_max
        self._of_client_max = of_client_max
        self._count_max = count_max
        self._count = 0
        self._clients: dict[str, _Client] = {}

    async def run(self, client: str, function: Callable[..., T], *args: Any) -> T:
        """``function(*args)`` in a worker thread, when it is ``client``'s turn. Raises ``Overloaded``.

        Work that has begun is finished, however long it takes: only the wait is bounded.
        """
        queue = self._clients.get(client) or _Client()
        if queue.count >= self._of_client_max or self._count >= self._count_max:
            raise Overloaded
        self._clients[client] = queue
        queue.count += 1
        self._count += 1
        try:
            with trio.fail_after(self._wait_s_max):
                async with queue.lock:
                    return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)
        except trio.TooSlowError:
            raise Overloaded from None
        finally:
            self._count -= 1
            queue.count -= 1
            if not queue.count:
                del self._clients[client]
