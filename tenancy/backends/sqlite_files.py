"""Make, open and publish SQLite's files: durably, under their final name only when they are whole.

A live file is only ever opened through SQLite: opening and closing it by other means drops the process's
POSIX locks (sqlite.org/howtocorrupt.html, 2.2), and another process could then delete the WAL.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DisconnectionError

from tenancy.backends.base import Storage
from tenancy.errors import AccessDeniedError, ConfigurationError, DatabaseExistsError, StorageFullError

BUSY_TIMEOUT_S = 5.0
PAGE_CACHE_KIB = 512
SIDE_FILES = ("-wal", "-shm", "-journal")
_WAL_HEADER = b"\x02\x02"  # bytes 18 and 19 of a file: read and written by WAL (sqlite.org/fileformat2.html, 1.3.3)


class FileConnection(sqlite3.Connection):
    """Remember which file was opened: one that is deleted or replaced can still be written to, and nobody finds it."""

    path: str
    file: tuple[int, int] | None

    def in_place(self) -> bool:
        """Say whether the file that was opened still stands under its name; it is looked at, and not opened."""
        return self.file == file_id(self.path)


def open_file(path: Path) -> sqlite3.Connection:
    """Open a file that is there, as every connection here is: durable, bounded, with foreign keys, without ATTACH."""
    file = file_id(str(path))
    driver = sqlite3.connect(
        f"file:{urllib.parse.quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=BUSY_TIMEOUT_S,
        check_same_thread=False,
        factory=FileConnection,
    )
    driver.path, driver.file = str(path), file
    try:
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        driver.execute("PRAGMA trusted_schema = OFF")
        driver.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    except sqlite3.Error:
        driver.close()
        raise
    return driver


def check_file(driver: Any, record: Any, proxied: Any) -> None:
    """Have a pool open the file anew where another one, or none, stands in its place by now; a pool's event."""
    if isinstance(driver, FileConnection) and not driver.in_place():
        raise DisconnectionError("the database file was deleted or replaced.")


def url_path(url: str, setting: str) -> Path:
    """Give the file of a ``sqlite:///path`` URL; memory, ``file:`` and query options are refused."""
    parsed = make_url(url)
    name = parsed.database or ""
    if name in ("", ":memory:") or name.startswith("file:") or parsed.query or parsed.host:
        raise ConfigurationError(f"{setting} must name a file: sqlite:///path/to/file.db", field=setting)
    return Path(name).absolute()


def make_empty_file(path: Path) -> None:
    """Make an empty database that is in WAL from its first moment, unless another process just did.

    Processes that switch one file to WAL at once do not wait for each other: some are told it is locked.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        for statement in ("CREATE TABLE first_page (x)", "DROP TABLE first_page", "VACUUM"):
            memory.execute(statement)
        content = memory.serialize()
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    try:
        write_durably(draft, in_wal(content))
        publish(draft, path)
    except DatabaseExistsError:
        if not path.exists():
            raise
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def in_wal(content: bytes) -> bytes:
    return b"".join((content[:18], _WAL_HEADER, content[20:]))


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file that no process has open, to the disk."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless the name is taken.

    A WAL that was left of an earlier file of this name would be replayed into the new one.
    """
    left = [name for name in (path.name + suffix for suffix in SIDE_FILES) if path.with_name(name).exists()]
    if left:
        raise DatabaseExistsError(f"{left[0]} is left of another database: move it away.", file=left[0])
    try:
        if hasattr(os, "link"):
            os.link(draft, path)
        else:
            draft.rename(path)
    except FileExistsError as error:
        raise DatabaseExistsError(f"{path.name} exists already.", file=path.name) from error


@contextmanager
def storage_explained() -> Iterator[None]:
    """Say of a file that could not be written whether the disk is full or the folder refused."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFullError("the disk that holds TENANT_DATA_DIR is full.") from error
        raise AccessDeniedError(
            f"nothing can be written in TENANT_DATA_DIR: {error.strerror or type(error).__name__}."
        ) from error


def sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no way to sync a folder, and needs none
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def look_at_folder(folder: Path) -> Storage:
    """Say whether files could be written in a folder, or the folder made; nothing is, to find out."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), None)
    if there is None:
        return Storage(str(folder), False, "TENANT_DATA_DIR cannot be made: no folder above it is there.", None, None)
    exists = there == folder
    able = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    space = shutil.disk_usage(there) if there.is_dir() else None
    what = "cannot be written" if exists else "cannot be made"
    why = "this process may not write there" if there.is_dir() else f"{there.name} is not a folder"
    problem = "" if able else f"TENANT_DATA_DIR {what}: {why}."
    return Storage(str(folder), exists, problem, space and space.free, space and space.total)


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def file_id(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
