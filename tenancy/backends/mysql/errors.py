"""Translate the errors of MySQL and MariaDB, and of PyMySQL, by their numbers."""

from __future__ import annotations

import pymysql
from pymysql.constants import CR, ER

from tenancy.backends.server.errors import DENIED, EXISTS, FULL, LOCKED, LOGIN, MANY, MET, Said
from tenancy.backends.server.network import GONE, UNENCRYPTED, of_network
from tenancy.errors import (
    DatabaseMissingError,
    DatabaseUnreachableError,
    LoginRefusedError,
    ReadOnlyRouteError,
    StatementTooLongError,
    TenancyError,
)

_MISSING = (DatabaseMissingError, "the server has no database of this name.")
_LATE = (StatementTooLongError, "the server took too long to answer.")
_GONE = (DatabaseUnreachableError, GONE)

_BY_CODE: dict[int, Said] = {
    ER.BAD_DB_ERROR: _MISSING,
    ER.DB_CREATE_EXISTS: EXISTS,
    ER.ACCESS_DENIED_ERROR: LOGIN,
    ER.HOST_NOT_PRIVILEGED: (LoginRefusedError, "the server does not take logins from this machine."),
    ER.DBACCESS_DENIED_ERROR: DENIED,
    ER.TABLEACCESS_DENIED_ERROR: DENIED,
    ER.COLUMNACCESS_DENIED_ERROR: DENIED,
    ER.SPECIFIC_ACCESS_DENIED_ERROR: DENIED,
    ER.CON_COUNT_ERROR: MANY,
    ER.TOO_MANY_USER_CONNECTIONS: MANY,
    ER.USER_LIMIT_REACHED: MANY,
    ER.DISK_FULL: FULL,
    ER.RECORD_FILE_FULL: FULL,
    ER.LOCK_WAIT_TIMEOUT: LOCKED,
    ER.LOCK_DEADLOCK: MET,
    1792: (ReadOnlyRouteError, "this unit of work may only read."),  # a write in START TRANSACTION READ ONLY
    ER.QUERY_INTERRUPTED: _LATE,
    1969: _LATE,  # MariaDB: max_statement_time exceeded
    3024: _LATE,  # MySQL: max_execution_time exceeded
    1698: LOGIN,
    1020: MET,  # MariaDB: the record has changed since it was read
    1053: _GONE,  # the server is shutting down
    1927: _GONE,  # the connection was killed
    CR.CR_SSL_CONNECTION_ERROR: (DatabaseUnreachableError, UNENCRYPTED),
}


def explain(error: BaseException) -> TenancyError | None:
    if isinstance(error, OSError):  # from the socket that we open for the driver
        return of_network(error)
    if not isinstance(error, pymysql.err.Error):
        return None
    code = _code(error)
    if code in _BY_CODE:
        kind, text = _BY_CODE[code]
        return kind(text)
    if not 2000 <= code < 3000:  # client errors (dev.mysql.com, "Client Error Message Reference")
        return DatabaseUnreachableError(GONE) if isinstance(error, pymysql.err.InterfaceError) else None
    origin = getattr(error, "original_exception", None) or error.__context__  # PyMySQL keeps the cause in either place
    return of_network(origin) if isinstance(origin, OSError) else DatabaseUnreachableError(GONE)


def lacks(error: BaseException) -> bool:
    return _code(getattr(error, "orig", None) or error) in (ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR)


def _code(error: BaseException) -> int:
    """Return the number of an error; 0 if it has none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0
