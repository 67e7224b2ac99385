"""Errors of the operations API, and the one table from exception type to HTTP status.

An answer's error body is ``{"error": <message>}`` unless the error brings a richer ``body`` of its own. Types raised by
the layers below are named in ``STATUS_OF``; a test walks every subclass of ``DatabaseError`` and fails on a gap.
"""

from collections.abc import Mapping
from typing import Any

from replication import errors as replication_errors
from storage import errors as storage_errors
from storage.errors import DatabaseError

UNEXPECTED = "There was an error processing your request. Check logs and try again."
SYSTEM_IS_PROTECTED = (
    "The 'system' database, tables and records are used internally by HarperDB and cannot be updated or removed."
)


class OperationError(DatabaseError):
    """An answer that is not 200: ``status`` and, where it is more than ``{"error": message}``, the whole ``body``."""

    def __init__(self, message: str, *, status: int = 400, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Mapping[str, Any] = {"error": message} if body is None else body


class InvalidParams(OperationError):
    """A body that does not fit its operation. Status 400 unless the reference is known to answer otherwise."""


class UnknownOperation(OperationError):
    def __init__(self, name: str) -> None:
        super().__init__(f"Operation '{name}' not found")


class AuthenticationFailed(OperationError):
    """Missing or wrong credentials: 401."""

    def __init__(self, message: str = "Must login") -> None:
        super().__init__(message, status=401)


class AccessDenied(OperationError):
    """The role does not allow it: 403, with the findings of the whole request in one body."""

    MESSAGE = "This operation is not authorized due to role restrictions and/or invalid database items"

    def __init__(
        self,
        *,
        unauthorized_access: list[Any] | None = None,
        invalid_schema_items: list[str] | None = None,
    ) -> None:
        body = {
            "error": self.MESSAGE,
            "unauthorized_access": unauthorized_access or [],
            "invalid_schema_items": invalid_schema_items or [],
        }
        super().__init__(self.MESSAGE, status=403, body=body)


class SystemProtected(OperationError):
    """A write to the node's own tables: 403 with a plain body."""

    def __init__(self) -> None:
        super().__init__(SYSTEM_IS_PROTECTED, status=403)


class Conflict(OperationError):
    """It exists already, or is still in use: 409."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=409)


class Missing(OperationError):
    """A user, role or other named thing that is not there: 404."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=404)


STATUS_OF: Mapping[type[DatabaseError], int] = {
    DatabaseError: 500,
    storage_errors.StorageError: 500,
    storage_errors.NotFound: 404,
    storage_errors.AlreadyExists: 400,
    storage_errors.InvalidKey: 500,
    storage_errors.InvalidAttribute: 400,
    storage_errors.InvalidValue: 400,
    storage_errors.SchemaConflict: 400,
    storage_errors.TooManyTables: 400,
    storage_errors.TransactionTooLarge: 413,
    storage_errors.LogTrimmed: 500,
    storage_errors.RecordsElsewhere: 502,
    storage_errors.Unwritable: 503,
    storage_errors.Overloaded: 503,
    storage_errors.Corrupt: 500,
    storage_errors.NotOpened: 503,
    storage_errors.DatabaseClosed: 503,
    replication_errors.NotConfirmed: 504,
}


def answer_for(error: DatabaseError) -> tuple[int, Mapping[str, Any]]:
    """Status and body of the answer that tells the client about ``error``."""
    if isinstance(error, OperationError):
        return error.status, error.body
    for ancestor in type(error).__mro__:
        if ancestor in STATUS_OF:
            return STATUS_OF[ancestor], {"error": str(error)}
    return 500, {"error": UNEXPECTED}
