"""One open database: snapshots for readers, and commits of what writers have ready.

Synchronous; ``storage/commit_queue.py`` brings the writes of many tasks here.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import lmdb

from storage.clock import RELEASED_AT_US, WallClock
from storage.environment import Environment, translated
from storage.errors import ClockUnset, Corrupt, DatabaseClosed, DiskFailed, DiskFull, MapFull
from storage.transaction import ReadTransaction, SchemaCache
from storage.write_state import WriteState
from storage.write_transaction import WriteTransaction

log = logging.getLogger("storage")

RESERVE_BYTES: Final = 64 << 20
"""Address space that upkeep may use beyond a full map."""

WriteFunction: TypeAlias = Callable[[WriteTransaction], Any]
MaintenanceFunction: TypeAlias = Callable[[WriteState], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A transaction to run: its function, and what the log says of who asked for what."""

    function: WriteFunction
    user: str | None = None
    operation: str | None = None
    is_local: bool = False
    """Whether it stays on this node, whatever tables it touches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """A chunk of upkeep to run between writes, see ``storage/maintenance.py``: it puts at once and logs nothing."""

    function: MaintenanceFunction


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
        self._failure: Exception | None = None
        self._is_closed = False

    @property
    def name(self) -> str:
        return self.environment.name

    def read(self, *, now_ms: int | None = None) -> ReadTransaction:
        """A snapshot, to be closed before the next ``await``. ``now_ms`` is the instant that decides on expiry."""
        return ReadTransaction(self.environment, self._cache, self._clock() // 1000 if now_ms is None else now_ms)

    def commit(self, writes: Sequence[Write | Maintenance], *, may_grow: bool = True) -> list[Outcome]:
        """Run all in one LMDB transaction, commit and sync once; an outcome for each, in order.

        A write that is refused while it is sealed leaves the others alone. When putting or committing fails, nothing
        of the whole LMDB transaction is there; then each is tried alone, as one too large for the map must not fail
        the rest. So a function may run twice, and keeps what it makes to itself until it returns.
        """
        if self._is_closed:
            return [Outcome(error=DatabaseClosed(f"Database '{self.name}' is closed")) for _ in writes]
        if self._failure is not None:
            return [Outcome(error=_again(self._failure)) for _ in writes]
        try:
            return self._commit_together(writes)
        except Exception as error:
            if self._is_final(error) or isinstance(error, DiskFull):
                return [Outcome(error=_again(error)) for _ in writes]
            if isinstance(error, MapFull) and may_grow and self._grow_map():
                return self.commit(writes)
            if len(writes) == 1:
                return [self._run_in_reserve(writes[0], error)]
        return [outcome for write in writes for outcome in self.commit([write], may_grow=False)]

    def close(self) -> None:
        """After the last commit; waits for the readers that are still there. Further calls raise ``DatabaseClosed``."""
        if not self._is_closed:
            self._is_closed = True
            self.environment.close()

    def _commit_together(self, writes: Sequence[Write | Maintenance]) -> list[Outcome]:
        with translated(self.environment):
            state = WriteState(self.environment, self._cache)
            try:
                outcomes = [self._run(write, state) for write in writes]
                state.commit()
            except BaseException:
                state.abort()
                raise
            return outcomes

    def _run(self, write: Write | Maintenance, state: WriteState) -> Outcome:
        if isinstance(write, Maintenance):
            return Outcome(value=write.function(state))
        now_us = self._clock()
        if now_us < RELEASED_AT_US:
            return Outcome(error=ClockUnset(self.name))
        transaction = WriteTransaction(
            state, user=write.user, operation=write.operation, is_local=write.is_local, now_us=now_us
        )
        try:
            value = write.function(transaction)
            transaction.seal()
        except lmdb.Error:
            raise
        except Exception as error:
            return Outcome(error=error)
        transaction.apply()
        return Outcome(value=value)

    def _grow_map(self) -> bool:
        """Take more of the wanted reservation, where the machine could not give all of it at the start."""
        wanted, now = self.environment.settings.map_size_bytes, self.environment.map_bytes
        return now < wanted and self.environment.resize_map(min(2 * now, wanted))

    def _run_in_reserve(self, write: Write | Maintenance, error: Exception) -> Outcome:
        """A chunk of upkeep that found the map full gets a larger one for itself: what makes room needs some first."""
        map_bytes = self.environment.map_bytes
        if not (isinstance(write, Maintenance) and isinstance(error, MapFull)):
            return Outcome(error=error)
        if not self.environment.resize_map(map_bytes + RESERVE_BYTES):
            return Outcome(error=error)
        try:
            (outcome,) = self._commit_together([write])
            return outcome
        except Exception as again:
            self._is_final(again)
            return Outcome(error=again)
        finally:
            self.environment.resize_map(map_bytes)

    def _is_final(self, error: Exception) -> bool:
        """Whether no further commit may be tried: a failed sync tells nothing of what is on disk (and a later one
        that succeeds does not either), and where LMDB finds its own pages damaged, writing makes it worse. Such a
        database is written no more until it is opened again. A single row that cannot be decoded fails only who meets
        it.
        """
        is_of_file = isinstance(error, Corrupt) and isinstance(error.__cause__, lmdb.Error)
        if isinstance(error, DiskFailed) or is_of_file:
            self._failure = error
            log.critical("%s; it is not written any more until it is opened again", error)
        return self._failure is not None


def _again(error: Exception) -> Exception:
    """The same error as an object of its own: one that is raised in many tasks would gather the traces of all."""
    copied = type(error).__new__(type(error))
    copied.args = error.args
    copied.__dict__.update(error.__dict__)
    copied.__cause__ = error.__cause__
    return copied
