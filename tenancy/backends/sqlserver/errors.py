"""Translate the errors of SQL Server, and of its drivers: by number, by text, by SQLSTATE."""

from __future__ import annotations

import re

from tenancy.backends.server.errors import DENIED, EXISTS, FULL, LOCKED, LOGIN, MANY, MET, Said
from tenancy.backends.sqlserver.driver import CANNOT_LOAD, NO_DRIVER, Driver
from tenancy.errors import (
    DatabaseMissingError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    ReadOnlyRouteError,
    TenancyError,
    UnsupportedBackendError,
)

_MISSING = (DatabaseMissingError, "the server has no database of this name that the login may enter.")
_LATE = (DatabaseTimeoutError, "the server did not answer in time.")
_GONE = (DatabaseUnreachableError, "the server cannot be reached, or ended the connection.")
_ONLY_READ = (ReadOnlyRouteError, "the database may only be read.")

_BY_NUMBER: dict[int, Said] = {
    **dict.fromkeys((911, 4060), _MISSING),
    **dict.fromkeys((18452, 18456, 18470, 18486), LOGIN),
    **dict.fromkeys((229, 230, 262, 297, 916, 15247), DENIED),
    1222: LOCKED,
    1205: MET,
    **dict.fromkeys((1105, 9002), FULL),
    1801: EXISTS,
    **dict.fromkeys((17300, 17809), MANY),
    3906: _ONLY_READ,
    6005: _GONE,
}
_BY_WORDS = (
    # mssql-python passes no numbers on, and other products that speak the protocol have one number for most errors.
    (r"Cannot open database|[Dd]atabase ['\"].*['\"] does not exist", _MISSING),
    (r"Login failed|authentication failed", LOGIN),
    (r"deadlock victim|concurrently updated", MET),
    (r"lock timeout|Lock request time out", LOCKED),
    (r"permission (was )?denied|is not able to access the database|do(es)? not have permission", DENIED),
    (r"too many clients|connection slots|maximum number of '.*' user connections|number of configured sessions", MANY),
    (r"Database '.*' already exists", EXISTS),
    (r"filegroup is full|transaction log for database .* is full", FULL),
    (r"because the database is read-only", _ONLY_READ),
    (CANNOT_LOAD, (UnsupportedBackendError, NO_DRIVER)),
    (r"SHUTDOWN is in progress", _GONE),
    (r"[Tt]imeout expired|timed out|statement timeout", _LATE),
)
_BY_STATE: dict[str, Said] = {
    "28000": LOGIN,
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
