"""Translate the errors of SQLite by their result codes, and those of its files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tenancy.backends.sqlite.files import not_writable, refused_by_system, unwritable
from tenancy.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseUnreachableError,
    ReadOnlyRouteError,
    StorageFullError,
    TenancyError,
)

_ABOUT_RIGHTS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR)
"""The codes that a lack of permission comes back as."""


def explain(error: BaseException) -> TenancyError | None:
    if isinstance(error, OSError):
        return refused_by_system(error)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & 0xFF  # the low byte is the primary result code (sqlite.org/rescode.html)
    path = getattr(error, "path", "")
    if path and primary in _ABOUT_RIGHTS and (found := unwritable(Path(path))) is not None:
        return not_writable(found)
    if primary == sqlite3.SQLITE_READONLY:
        return ReadOnlyRouteError("this unit of work may only read.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusyError("the database is locked by another writer: try again.")
    if primary == sqlite3.SQLITE_FULL:
        return StorageFullError("the disk is full.")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseDamagedError("the database file is damaged: restore it from a backup.")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return DatabaseUnreachableError("the database file cannot be opened.")
    return None


def lacks(error: BaseException) -> bool:
    """Read the message: SQLite has no code of its own for this, and its messages are always in English."""
    return str(getattr(error, "orig", error)).startswith(("no such table", "no such column"))
