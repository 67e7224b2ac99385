"""Why a node does not start: errors for the person at the command line, never an answer to a client.

The message stands alone after ``Error: `` on the terminal; ``exit_code`` is the process's. Nothing of a secret is in
it.
"""

from storage.errors import DatabaseError


class StartError(DatabaseError):
    """The node cannot start as it is asked to: a wrong setting, a folder of another product, a port in use."""

    exit_code = 1


class AlreadyRunning(StartError):
    """Another process serves this root folder. ``pid`` is None while that process has not noted its own yet."""

    exit_code = 4

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"logmesh is already running (pid: {'unknown' if pid is None else pid})")
        self.pid = pid


class UnknownCommand(DatabaseError):
    """A word on the command line that is neither a command nor an operation."""

    def __init__(self, word: str) -> None:
        super().__init__(f'The "{word}" command is not understood.')
