"""Make, publish and remove SQLite files: each is synced to the disk, and gets its final name when it is whole.

A live file is opened through SQLite alone. Opening and closing it by other means drops the process's POSIX locks
(sqlite.org/howtocorrupt.html, 2.2), and another process could then delete the WAL.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy.engine import make_url

from tenancy.backends.base import Storage
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseExistsError,
    StorageFullError,
    TenancyError,
)

BUSY_TIMEOUT_S = 4.0
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)
"""Errors of os.link on file systems without hard links: exFAT, SMB, shared folders of virtual machines."""

_TAKEN_S = 60.0
"""After this time an empty file that reserves a name was left by a killed process: a rename follows at once."""

_SETTLING_S = 2.0
SIDE_FILES = ("-wal", "-shm", "-journal")
_WAL_HEADER = b"\x02\x02"  # bytes 18 and 19 of a file: read and written by WAL (sqlite.org/fileformat2.html, 1.3.3)


def url_path(url: str, setting: str) -> Path:
    """Return the file of a ``sqlite:///path`` URL; ``:memory:``, ``file:`` and query options are refused."""
    parsed = make_url(url)
    name = parsed.database or ""
    if name in ("", ":memory:") or name.startswith("file:") or parsed.query or parsed.host:
        raise ConfigurationError(f"{setting} must name a file: sqlite:///path/to/file.db", field=setting)
    return Path(name).absolute()


def make_empty_file(path: Path) -> None:
    """Make an empty database in WAL mode, unless another process just made it.

    The file is written in WAL mode, not switched to it: of processes that switch one file at once, some fail as locked.
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
        _wait_until_renamed(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _wait_until_renamed(path: Path) -> None:
    """Wait for another process that reserved the name with an empty file; after that time use the file as it is."""
    deadline = time.monotonic() + _SETTLING_S
    while not size_of(path) and time.monotonic() < deadline:
        time.sleep(0.01)


def in_wal(content: bytes) -> bytes:
    return b"".join((content[:18], _WAL_HEADER, content[20:]))


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file, readable by this user alone, and sync it."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(draft: Path, path: Path) -> None:
    """Rename a finished draft, or raise DatabaseExistsError if the name, or that of a WAL beside it, is taken.

    SQLite would replay the WAL of an earlier file of this name into the new file.
    """
    left = [name for name in (path.name + suffix for suffix in SIDE_FILES) if path.with_name(name).exists()]
    if left:
        raise DatabaseExistsError(f"{left[0]} is left of another database: move it away.", file=left[0])
    try:
        _rename_to_free_name(draft, path)
    except FileExistsError as error:
        raise DatabaseExistsError(f"{path.name} exists already: move it away.", file=path.name) from error


def _rename_to_free_name(draft: Path, path: Path) -> None:
    """Rename without replacing, or raise FileExistsError: by a hard link, which fails if the name is taken.

    On file systems without hard links the name is reserved with an empty file, which the rename then replaces.
    """
    if not hasattr(os, "link"):
        draft.rename(path)  # on Windows a rename fails if the name is taken
        return
    try:
        os.link(draft, path)
        return
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    if size_of(path) == 0 and time.time() - path.stat().st_mtime > _TAKEN_S:
        path.unlink()
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        draft.replace(path)
    except BaseException:
        path.unlink()
        raise


Seen = dict[Path, tuple[int, ...]]
"""Files with what tells each from a later file of the same name; an inode number alone may be used again."""


def seen_of(path: Path) -> Seen:
    """Look at a database's file, and at its side files that exist."""
    files = (path, *(path.with_name(path.name + suffix) for suffix in SIDE_FILES))
    return {file: found for file in files if (found := _looks(file)) is not None}


def _looks(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def remove(seen: Seen, mark: str) -> bool:
    """Delete the files in ``seen``; False if one of them was replaced or written to since, which then stays.

    Each is renamed first, to a name that holds ``mark``, and compared there, as nobody opens it under that name. A file
    that differs gets its name back.
    """
    for file, found in seen.items():
        aside = gone(file, mark)
        try:
            file.rename(aside)
        except FileNotFoundError:
            continue
        if _looks(aside) != found:
            _rename_to_free_name(aside, file)
            aside.unlink(missing_ok=True)
            return False
        aside.unlink()
    return True


def forget_replica(path: Path) -> None:
    """Delete the folder that Litestream keeps beside a database that is gone: pages of the database are in it."""
    shutil.rmtree(path.with_name(f".{path.name}-litestream"), ignore_errors=True)


def gone(file: Path, mark: str) -> Path:
    """Return the name under which ``remove`` deletes a file."""
    return file.with_name(f"{file.name}.{mark}.gone")


@contextmanager
def storage_explained(folder: str = "TENANT_DATA_DIR") -> Iterator[None]:
    """Translate OSError: the disk is full, or this process has no permission."""
    try:
        yield
    except OSError as error:
        raise refused_by_system(error, folder) from error


def refused_by_system(error: OSError, folder: str = "TENANT_DATA_DIR") -> TenancyError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFullError(f"the disk that holds {folder} is full.")
    name = f" {Path(os.fsdecode(error.filename)).name}" if error.filename else ""
    return AccessDeniedError(f"this process cannot use{name} in {folder}: {error.strerror or type(error).__name__}.")


def sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot sync a folder, and does not need to
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def look_at_folder(folder: Path) -> Storage:
    """Say whether files could be made in a folder, or the folder itself; nothing is made to find out."""
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


def unwritable(path: Path) -> Path | None:
    """Return the path (folder, file or side file) for which this process lacks write permission; None if none."""
    if all(os.access(f"{path}{suffix}", os.W_OK) for suffix in ("", "-wal", "-shm")):  # open, and as a rule all is well
        journal = f"{path}-journal"
        return Path(journal) if os.path.lexists(journal) and not os.access(journal, os.W_OK) else None
    folder = path.parent
    if not os.access(folder, os.X_OK):
        return folder if os.path.lexists(folder) else None
    files = (str(path), *(f"{path}{suffix}" for suffix in SIDE_FILES))
    there = [file for file in files if os.path.lexists(file)]
    closed = next((Path(file) for file in there if not os.access(file, os.W_OK)), None)
    if closed is None and not {f"{path}-wal", f"{path}-shm"} <= set(there) and not os.access(folder, os.W_OK):
        return folder  # SQLite has to make the missing one
    return closed


def not_writable(found: Path) -> AccessDeniedError:
    """Say which path cannot be written, and who owns it; or that its file system takes no writes from anybody."""
    if _is_read_only(found):
        return AccessDeniedError(
            f"{found.name} is on a file system that is mounted read-only: mount it so that it can be written.",
            file=found.name,
        )
    return AccessDeniedError(
        f"{found.name} cannot be written by the user that this process runs as: it belongs to {_owner(found)}. "
        "Give it to the user that serves.",
        file=found.name,
    )


def _is_read_only(path: Path) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except (AttributeError, OSError):  # Windows has no statvfs
        return False


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except KeyError:
        return f"user {path.stat().st_uid}, who has no name here"
    except (OSError, NotImplementedError):
        return "a user who cannot be found out"


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
