"""One open database: snapshots for readers, and commits of what writers have ready.

Synchronous; ``storage/commit_queue.py`` brings the writes of many tasks here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import lmdb

from storage.clock import RELEASED_AT_US, WallClock
from storage.environment import Environment, translated
from storage.errors import ClockUnset, Corrupt, DatabaseClosed, DiskFailed, StorageError
from storage.transaction import ReadTransaction, SchemaCache
from storage.write_state import WriteState
from storage.write_transaction import WriteTransaction

WriteFunction: TypeAlias = Callable[[WriteTransaction], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A transaction to run: its function, and what the log says of who asked for what."""

    function: WriteFunction
    user: str | None = None
    operation: str | None = None
    is_local: bool = False
    """Whether it stays on this node, whatever tables it touches."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a write: the function's value, or the error that refused it. Exactly one is meant."""

    value: Any = None
    error: BaseException | None = None


class Database:
    """``commit`` is called by one thread at a time; ``read`` from any."""

    def __init__(self, environment: Environment, clock: WallClock) -> None:
        self.environment = environment
        self._clock = clock
        self._cache = SchemaCache()
        self._failure: StorageError | None = None
        self._is_closed = False

    @property
    def name(self) -> str:
        return self.environment.name

    def read(self, *, now_ms: int | None = None) -> ReadTransaction:
        """A snapshot, to be closed before the next ``await``. ``now_ms`` is the instant that decides on expiry."""
        if self._is_closed:
            raise DatabaseClosed(f"Database '{self.name}' is closed")
        return ReadTransaction(self.environment, self._cache, self._clock() // 1000 if now_ms is None else now_ms)

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Run all in one LMDB transaction, commit and sync once; an outcome for each, in order.

        A write that is refused while it is sealed leaves the others alone. When the environment fails, nothing of the
        whole LMDB transaction is there; then each is tried alone, as one too large for the map must not fail the rest.
        """
        if self._is_closed:
            return [Outcome(error=DatabaseClosed(f"Database '{self.name}' is closed")) for _ in writes]
        if self._failure is not None:
            return [Outcome(error=self._failure) for _ in writes]
        try:
            return self._commit_together(writes)
        except StorageError as error:
            if len(writes) == 1 or self._remember(error):
                return [Outcome(error=error) for _ in writes]
        return [outcome for write in writes for outcome in self.commit([write])]

    def close(self) -> None:
        """After the last reader and the last commit; further calls raise ``DatabaseClosed``."""
        self._is_closed = True
        self.environment.close()

    def _commit_together(self, writes: Sequence[Write]) -> list[Outcome]:
        with translated(self.name, self.environment.settings.map_size_bytes):
            state = WriteState(self.environment, self._cache)
            try:
                outcomes = [self._run(write, state) for write in writes]
                state.commit()
            except BaseException:
                state.abort()
                raise
            return outcomes

    def _run(self, write: Write, state: WriteState) -> Outcome:
        now_us = self._clock()
        if now_us < RELEASED_AT_US:
            return Outcome(error=ClockUnset(self.name))
        transaction = WriteTransaction(
            state, user=write.user, operation=write.operation, is_local=write.is_local, now_us=now_us
        )
        try:
            value = write.function(transaction)
            transaction.seal()
        except (lmdb.Error, OSError, Corrupt):
            raise
        except Exception as error:
            return Outcome(error=error)
        transaction.apply()
        return Outcome(value=value)

    def _remember(self, error: StorageError) -> bool:
        """Whether no further commit may be tried: a failed sync tells nothing of what is on disk (and a later one that
        succeeds does not either), so this database is written no more until it is opened again."""
        if isinstance(error, DiskFailed | Corrupt):
            self._failure = error
        return self._failure is not None
