"""Look whether SQLite databases are what they should be, and what else stands in their folder; nothing is changed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.inventory import InventoryItem, Sort
from tenancy.backends.sqlite.files import SIDE_FILES

_POINT_WORDS = 2
"""What follows a database's name in that of its point: tenant and point, and ``new`` where it was being made."""


def schema_of(connection: sa.Connection) -> object:
    found = connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
    return tuple(map(tuple, found))


def damage(connection: sa.Connection) -> str | None:
    """Read all pages; indexes are not compared with their tables, which would take long."""
    told = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    return None if told == "ok" else told.splitlines()[0]


def dangling(connection: sa.Connection) -> list[tuple[str, str]]:
    found = connection.exec_driver_sql("PRAGMA foreign_key_check")
    return sorted({(str(row[0]), str(row[2])) for row in found})


def strays(folder: Path) -> Iterator[InventoryItem]:
    """List databases, drafts, and side files whose database is not there."""
    for name in _listed(folder):
        read = names.sqlite_file_in(name)
        if read is None:
            continue
        database, owner, rest = read
        draft = names.draft_in(rest)
        if not rest:
            yield InventoryItem(Sort.DATABASE, name, database, owner)
        elif draft is not None:
            yield InventoryItem(Sort.PARTIAL, name, database, owner, *draft)
        elif f"-{rest}" in SIDE_FILES and not (folder / database).exists() and (folder / name).exists():
            yield InventoryItem(Sort.SIDE_FILE, name, database, owner)


def strayed_points(folder: Path) -> Iterator[InventoryItem]:
    """List restore points, and what was being made into one."""
    for name in _listed(folder):
        database, owner, rest = names.sqlite_file_in(name) or ("", 0, "")
        words = rest.split(".")
        if len(words) >= _POINT_WORDS and len(words[0]) == len(uuid.UUID(int=0).hex):
            yield InventoryItem(Sort.POINT, f"{folder.name}/{name}", database, owner, uuid.UUID(words[0]))


def _listed(folder: Path) -> Iterator[str]:
    """Go through a folder name by name: it may hold as many files as there are tenants, and more."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name
    except FileNotFoundError:
        return
