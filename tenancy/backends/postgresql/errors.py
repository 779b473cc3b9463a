"""Translate the errors of PostgreSQL, and of psycopg2, by their SQLSTATE."""

from __future__ import annotations

import psycopg2
from psycopg2 import errorcodes as codes

from tenancy.backends.postgresql.driver import AnswerTimeout, sqlstate
from tenancy.backends.server.errors import DENIED, EXISTS, FULL, LOCKED, LOGIN, MANY, MET, Said
from tenancy.backends.server.network import GONE, SILENT
from tenancy.errors import (
    DatabaseBusyError,
    DatabaseMissingError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    LoginRefusedError,
    ReadOnlyRouteError,
    StatementTooLongError,
    TenancyError,
    WriteConflictError,
)

_BY_STATE: dict[str, Said] = {
    codes.INVALID_CATALOG_NAME: (DatabaseMissingError, "the server has no database of this name."),
    codes.DUPLICATE_DATABASE: EXISTS,
    codes.INVALID_PASSWORD: LOGIN,
    codes.INVALID_AUTHORIZATION_SPECIFICATION: (LoginRefusedError, "the server does not take this login."),
    codes.INSUFFICIENT_PRIVILEGE: DENIED,
    codes.TOO_MANY_CONNECTIONS: MANY,
    codes.DISK_FULL: FULL,
    codes.LOCK_NOT_AVAILABLE: LOCKED,
    codes.DEADLOCK_DETECTED: (WriteConflictError, "the database is locked by another writer: try again."),
    codes.SERIALIZATION_FAILURE: MET,
    codes.OBJECT_IN_USE: (DatabaseBusyError, "the database is in use: try again."),
    codes.QUERY_CANCELED: (StatementTooLongError, "the server took too long to answer."),
    codes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT: (DatabaseUnreachableError, GONE),
    codes.READ_ONLY_SQL_TRANSACTION: (ReadOnlyRouteError, "this unit of work may only read."),
}


def explain(error: BaseException) -> TenancyError | None:
    """Translate by SQLSTATE: a server's sentences are in the language of its locale."""
    if not isinstance(error, psycopg2.Error):
        return None
    if isinstance(error, AnswerTimeout):
        return DatabaseTimeoutError(SILENT)
    state = sqlstate(error)
    if state in _BY_STATE:
        kind, text = _BY_STATE[state]
        return kind(text)
    gone = state is None and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
    if gone or (state or "")[:2] in ("08", "57"):  # connection exceptions; shutdown, crash, starting up
        return DatabaseUnreachableError(GONE)
    return None


def lacks(error: BaseException) -> bool:
    cause = getattr(error, "orig", None) or error
    return isinstance(cause, psycopg2.Error) and sqlstate(cause) in (codes.UNDEFINED_TABLE, codes.UNDEFINED_COLUMN)
