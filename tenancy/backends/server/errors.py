"""Hold the errors that every database server has: which of ours each becomes, and what it says."""

from __future__ import annotations

from tenancy.errors import (
    AccessDeniedError,
    DatabaseBusyError,
    DatabaseExistsError,
    LoginRefusedError,
    StorageFullError,
    TenancyError,
    TooManyConnectionsError,
    WriteConflictError,
)

Said = tuple[type[TenancyError], str]
"""The error, and its message."""

DENIED: Said = (AccessDeniedError, "the login has no right to do this.")
EXISTS: Said = (DatabaseExistsError, "a database of this name already exists.")
FULL: Said = (StorageFullError, "the server's disk is full.")
LOCKED: Said = (DatabaseBusyError, "the database is locked by another writer: try again.")
LOGIN: Said = (LoginRefusedError, "the server does not take this login or its password.")
MANY: Said = (TooManyConnectionsError, "the server takes no further connections: try again.")
MET: Said = (WriteConflictError, "another writer was first: try again.")
