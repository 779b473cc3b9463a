"""Translate the errors of SQL Server, and of its drivers: by number, by text, by SQLSTATE."""

from __future__ import annotations

import re

from tenancy.backends.sqlserver.driver import CANNOT_LOAD, NO_DRIVER, Driver
from tenancy.errors import (
    AccessDeniedError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    LoginRefusedError,
    ReadOnlyRouteError,
    StorageFullError,
    TenancyError,
    TooManyConnectionsError,
    UnsupportedBackendError,
    WriteConflictError,
)

_MISSING = (DatabaseMissingError, "the server has no database of this name that the login may enter.")
_LOGIN = (LoginRefusedError, "the server does not take this login or its password.")
_DENIED = (AccessDeniedError, "the login has no right to do this.")
_MET = (WriteConflictError, "another writer was first: try again.")
_BUSY = (DatabaseBusyError, "the database is locked by another writer: try again.")
_FULL = (StorageFullError, "the server's disk is full.")
_EXISTS = (DatabaseExistsError, "a database of this name stands there already.")
_MANY = (TooManyConnectionsError, "the server takes no further connections: try again.")
_LATE = (DatabaseTimeoutError, "the server did not answer in time.")
_GONE = (DatabaseUnreachableError, "the server cannot be reached, or ended the connection.")
_ONLY_READ = (ReadOnlyRouteError, "the database may only be read.")

_BY_NUMBER = {
    4060: _MISSING,
    911: _MISSING,
    18456: _LOGIN,
    18452: _LOGIN,
    18470: _LOGIN,
    18486: _LOGIN,
    916: _DENIED,
    229: _DENIED,
    230: _DENIED,
    262: _DENIED,
    297: _DENIED,
    15247: _DENIED,
    1222: _BUSY,
    1205: _MET,
    1105: _FULL,
    9002: _FULL,
    1801: _EXISTS,
    17809: _MANY,
    17300: _MANY,
    3906: _ONLY_READ,
    6005: _GONE,
}
_BY_WORDS = (
    # mssql-python passes no numbers on, and other products that speak the protocol have one number for most errors.
    (r"Cannot open database|[Dd]atabase ['\"].*['\"] does not exist", _MISSING),
    (r"Login failed|authentication failed", _LOGIN),
    (r"deadlock victim|concurrently updated", _MET),
    (r"lock timeout|Lock request time out", _BUSY),
    (r"permission (was )?denied|is not able to access the database|do(es)? not have permission", _DENIED),
    (r"too many clients|connection slots|maximum number of '.*' user connections|number of configured sessions", _MANY),
    (r"Database '.*' already exists", _EXISTS),
    (r"filegroup is full|transaction log for database .* is full", _FULL),
    (r"because the database is read-only", _ONLY_READ),
    (CANNOT_LOAD, (UnsupportedBackendError, NO_DRIVER)),
    (r"SHUTDOWN is in progress", _GONE),
    (r"[Tt]imeout expired|timed out|statement timeout", _LATE),
)
_BY_STATE = {
    "28000": _LOGIN,
    **dict.fromkeys(("HYT00", "HYT01"), _LATE),
    **dict.fromkeys(("08001", "08003", "08007", "08S01", "HY000"), _GONE),
}


def explain(driver: Driver, error: BaseException) -> TenancyError | None:
    if not isinstance(error, driver.errors.Error) or isinstance(
        error, driver.errors.IntegrityError | driver.errors.DataError
    ):  # their texts may quote users' data, which _BY_WORDS would then read
        return None
    info = driver.error_info(error)
    found = _BY_NUMBER.get(info.number or 0)
    found = found or next((kind for words, kind in _BY_WORDS if re.search(words, info.text)), None)
    found = found or _BY_STATE.get(info.state)
    return None if found is None else found[0](found[1])


def lacks(driver: Driver, error: BaseException) -> bool:
    """Look for error 208 (invalid object name) or 207 (column); mssql-python passes only the words on."""
    cause = getattr(error, "orig", None) or error
    if not isinstance(cause, driver.errors.Error):
        return False
    info = driver.error_info(cause)
    return info.number in (207, 208) or "Invalid object name" in info.text or "Invalid column name" in info.text
