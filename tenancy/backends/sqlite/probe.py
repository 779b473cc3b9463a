"""Look at the place where a SQLite database is to be made, before it is made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tenancy.backends.base import Check
from tenancy.backends.sqlite.driver import open_file
from tenancy.backends.sqlite.errors import explain
from tenancy.backends.sqlite.files import SIDE_FILES, storage_explained
from tenancy.errors import DatabaseExistsError, DatabaseUnreachableError


def look_at_place(path: Path) -> Iterator[Check]:
    """Look whether the name is free, or a database; a WAL without its database would be replayed into a new one."""
    with storage_explained():
        there, is_file = path.exists(), path.is_file()
    if not there:
        left = [path.name + suffix for suffix in SIDE_FILES if path.with_name(path.name + suffix).exists()]
        if left:
            yield Check("file", f"{left[0]} is left of another database: move it away.", DatabaseExistsError.code)
        else:
            yield Check("file", f"the name {path.name} is free.")
        return
    if not is_file:
        yield Check("file", f"{path.name} is not a file.", DatabaseExistsError.code)
        return
    try:
        with closing(open_file(path)) as driver:
            driver.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        yield Check("file", *_fault(path, error))
    else:
        yield Check("file", f"{path.name} exists and is a database.")


def _fault(path: Path, error: sqlite3.Error) -> tuple[str, str]:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
        return f"{path.name} exists and is not a database: move it away.", DatabaseExistsError.code
    ours = explain(error) or DatabaseUnreachableError("the database file cannot be read.")
    return f"{path.name}: {ours.message}", ours.code
