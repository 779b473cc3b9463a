"""Look at SQLite databases, and list what else is in their folder; nothing is changed."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.checks import Checks
from tenancy.backends.inventory import InventoryItem, ItemKind
from tenancy.backends.sqlite.driver import FileConnection
from tenancy.backends.sqlite.engines import reading, schema_changes
from tenancy.backends.sqlite.files import SIDE_FILES, storage_explained
from tenancy.backends.sqlite.restore_points import FOLDER

if TYPE_CHECKING:
    from tenancy.backends.sqlite.backend import SQLiteBackend

_POINT_WORDS = 2
"""A point's file is named after the database, then tenant, point, and ``new`` while it is made: two words or more."""


class SQLiteChecks(Checks):
    """Look at files."""

    def __init__(self, backend: SQLiteBackend) -> None:
        self.backend = backend

    @contextmanager
    def looking(self, driver: Any) -> Iterator[sa.Connection]:
        with closing(driver), self.backend.explained(), reading(driver) as connection:
            yield connection

    @contextmanager
    def scratch(self, access: Access) -> Iterator[sa.Connection]:
        memory = sqlite3.connect(":memory:", isolation_level=None)
        with closing(memory), schema_changes(memory) as connection:
            yield connection

    def check_writable(self, driver: Any) -> None:
        if isinstance(driver, FileConnection):
            driver.check_writable()

    def damage(self, connection: sa.Connection) -> str | None:
        """Read all pages by quick_check, which skips the slow comparison of indexes with their tables."""
        answer = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        return None if answer == "ok" else answer.splitlines()[0]

    def dangling(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[tuple[str, str]]:
        found = connection.exec_driver_sql("PRAGMA foreign_key_check")
        return sorted({(str(row[0]), str(row[2])) for row in found})

    def inventory(self, access: Access) -> Iterator[InventoryItem]:
        with storage_explained():
            yield from _files(self.backend.data_dir)
            yield from _points(self.backend.data_dir / FOLDER)


def _files(folder: Path) -> Iterator[InventoryItem]:
    """List databases, drafts, and side files whose database does not exist."""
    for name in _listed(folder):
        read = names.sqlite_file_in(name)
        if read is None:
            continue
        database, owner, rest = read
        draft = names.draft_in(rest)
        if not rest:
            yield InventoryItem(ItemKind.DATABASE, name, database, owner)
        elif draft is not None:
            yield InventoryItem(ItemKind.PARTIAL, name, database, owner, *draft)
        elif f"-{rest}" in SIDE_FILES and not (folder / database).exists() and (folder / name).exists():
            yield InventoryItem(ItemKind.SIDE_FILE, name, database, owner)


def _points(folder: Path) -> Iterator[InventoryItem]:
    """List restore points and their drafts."""
    for name in _listed(folder):
        database, owner, rest = names.sqlite_file_in(name) or ("", 0, "")
        words = rest.split(".")
        if len(words) >= _POINT_WORDS and len(words[0]) == len(uuid.UUID(int=0).hex):
            yield InventoryItem(ItemKind.POINT, f"{folder.name}/{name}", database, owner, uuid.UUID(words[0]))


def _listed(folder: Path) -> Iterator[str]:
    """Yield the names in a folder one by one, as there may be more of them than tenants; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield entry.name
    except FileNotFoundError:
        return
