"""The root of the error tree, and the errors of the storage layer.

    DatabaseError
      StorageError
        NotFound            DatabaseNotFound, TableNotFound, AttributeNotFound
        AlreadyExists       DatabaseExists, TableExists, AttributeExists
        InvalidKey          a value that cannot be a primary key
        InvalidAttribute    an attribute name that cannot be stored
        InvalidValue        a value that does not fit its attribute's declared type
        SchemaConflict      a change that the schema does not allow
        TooManyTables       the environment's table of sub-databases is full
        TransactionTooLarge one entry would pass the largest payload
        LogTrimmed          the log no longer reaches back that far: a copy is needed
        VectorBehind        not all is applied here yet that a copy has to cover
        RolledBack          a peer's copy knows more of our own entries than we do
        Unwritable          MapFull, DiskFull, DiskFailed, ClockUnset, BeingCopied: nothing was written
        RecordsElsewhere    a write needs records that this node holds only the indexed part of
        Overloaded          the commit queue is longer than a client should wait
        Corrupt             bytes on disk that this software did not write so
        DatabaseClosed      the database was dropped or the node is stopping

Lower layers know no HTTP: ``ops/errors.py`` gives each type its status. The message is complete as it stands:
it names database and table and is shown to clients unchanged.
"""

from collections.abc import Sequence


class DatabaseError(Exception):
    """Root of every error that a layer raises on purpose."""


class StorageError(DatabaseError):
    """Something the storage layer refuses or cannot do."""


class NotFound(StorageError):
    """A database, table or attribute that does not exist."""


class DatabaseNotFound(NotFound):
    def __init__(self, database: str) -> None:
        super().__init__(f"database '{database}' does not exist")


class TableNotFound(NotFound):
    def __init__(self, database: str, table: str) -> None:
        super().__init__(f"Table '{database}.{table}' does not exist")


class AttributeNotFound(NotFound):
    def __init__(self, attribute: str) -> None:
        super().__init__(f"{attribute} is not a defined attribute")


class AlreadyExists(StorageError):
    """A database, table or attribute of that name is there already."""


class DatabaseExists(AlreadyExists):
    def __init__(self, database: str) -> None:
        super().__init__(f"database '{database}' already exists")


class TableExists(AlreadyExists):
    def __init__(self, database: str, table: str) -> None:
        super().__init__(f"Table '{table}' already exists in '{database}'")


class AttributeExists(AlreadyExists):
    def __init__(self, database: str, table: str, attribute: str) -> None:
        super().__init__(f"attribute '{attribute}' already exists in {database}.{table}")


class InvalidKey(StorageError):
    """A value that cannot be a primary key: wrong type, not finite, or too long."""


class InvalidAttribute(StorageError):
    """An attribute name that cannot be stored."""


class InvalidValue(StorageError):
    """A value that does not fit the declared type of its attribute."""


class SchemaConflict(StorageError):
    """A change that the schema does not allow."""


class TooManyTables(StorageError):
    def __init__(self, database: str) -> None:
        super().__init__(f"Too many tables and indexed attributes in database '{database}'")


class TransactionTooLarge(StorageError):
    def __init__(self, size_bytes: int, bytes_max: int) -> None:
        super().__init__(f"Transaction of {size_bytes} bytes is larger than replication.maxPayload ({bytes_max} bytes)")


class LogTrimmed(StorageError):
    """The log no longer holds the wanted entries."""


class VectorBehind(StorageError):
    """A copy has to cover more than is applied here now; asked again later, it may be."""

    def __init__(self, database: str, node: str, oseq: int, needed: int) -> None:
        super().__init__(
            f"Database '{database}' has entries of '{node}' up to {oseq}, a copy needs them up to {needed}"
        )


class RolledBack(StorageError):
    """A copy holds more of this node's own current incarnation than the node itself: it must begin a new one first."""

    def __init__(self, database: str, oseq: int, known: int) -> None:
        super().__init__(f"Database '{database}' is at its own entry {oseq}, but a copy of it knows of entry {known}")


class Unwritable(StorageError):
    """The database cannot be written now; nothing of the write has happened."""

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"Database '{database}' cannot be written: {reason}")


class MapFull(Unwritable):
    def __init__(self, database: str, map_bytes: int) -> None:
        super().__init__(database, f"its map of {map_bytes} bytes is full (storage.mapSize)")


class DiskFull(Unwritable):
    def __init__(self, database: str) -> None:
        super().__init__(database, "the disk is full")


class DiskFailed(Unwritable):
    def __init__(self, database: str, text: str) -> None:
        super().__init__(database, f"the disk failed: {text}")


class BeingCopied(Unwritable):
    def __init__(self, database: str) -> None:
        StorageError.__init__(self, f"Database '{database}' is still being copied to this node")


class ClockUnset(Unwritable):
    def __init__(self, database: str) -> None:
        super().__init__(database, "the clock of this machine is not set")


class RecordsElsewhere(StorageError):
    """Records are needed whole that only other nodes hold so; with them at hand the write can be tried again."""

    def __init__(self, database: str, table: str, stored_keys: Sequence[bytes]) -> None:
        self.stored_keys = tuple(stored_keys)
        super().__init__(f"{len(self.stored_keys)} records of table '{database}.{table}' are held by other nodes only")


class Overloaded(StorageError):
    def __init__(self) -> None:
        super().__init__("Service unavailable, exceeded request queue limit")


class Corrupt(StorageError):
    """Bytes on disk that this software did not write so."""


class NotOpened(StorageError):
    def __init__(self, database: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"Database '{database}' was not opened: {reason}")


class DatabaseClosed(StorageError):
    """The database was dropped, or the node is stopping."""
