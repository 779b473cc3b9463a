"""Make, open and publish SQLite's files: durably, under their final name only when they are whole.

A live file is only ever opened through SQLite: opening and closing it by other means drops the process's
POSIX locks (sqlite.org/howtocorrupt.html, 2.2), and another process could then delete the WAL.
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
"""How exFAT, SMB and the shared folders of virtual machines refuse a second link."""

_TAKEN_S = 60.0
"""Between taking a name and renaming to it pass microseconds: a name taken for longer is nobody's."""

_SETTLING_S = 2.0
SIDE_FILES = ("-wal", "-shm", "-journal")
_WAL_HEADER = b"\x02\x02"  # bytes 18 and 19 of a file: read and written by WAL (sqlite.org/fileformat2.html, 1.3.3)


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
        _wait_until_renamed(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def _wait_until_renamed(path: Path) -> None:
    """Let another process finish that has taken a name with an empty file; one that stays empty is used as it is."""
    deadline = time.monotonic() + _SETTLING_S
    while not size_of(path) and time.monotonic() < deadline:
        time.sleep(0.01)


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
        _rename_to_free_name(draft, path)
    except FileExistsError as error:
        raise DatabaseExistsError(f"{path.name} exists already: move it away.", file=path.name) from error


def _rename_to_free_name(draft: Path, path: Path) -> None:
    """Move a file, or raise FileExistsError: by a second link, or, where a file system has none, by taking the name.

    It is taken with an empty file; one that has been empty for long is left of a process that was killed.
    """
    if not hasattr(os, "link"):
        draft.rename(path)  # Windows renames over nothing
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
"""Hold files with what tells each from a later one of its name; a number of a node alone is used again."""


def seen_of(path: Path) -> Seen:
    """Look at a database's file and those beside it that are there."""
    files = (path, *(path.with_name(path.name + suffix) for suffix in SIDE_FILES))
    return {file: found for file in files if (found := _looks(file)) is not None}


def _looks(file: Path) -> tuple[int, ...] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def remove(seen: Seen, mark: str) -> bool:
    """Remove files that were looked at, and none that took one's name or was written to since; say whether all went.

    Each is moved to a name that carries ``mark`` and compared there; one that is another gets its name back.
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


def gone(file: Path, mark: str) -> Path:
    return file.with_name(f"{file.name}.{mark}.gone")


@contextmanager
def storage_explained(folder: str = "TENANT_DATA_DIR") -> Iterator[None]:
    """Say of what the system would not do with a file whether the disk is full or this process may not."""
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


def unwritable(path: Path) -> Path | None:
    """Name what of a database (its folder, its file, or one beside it) this process may not write."""
    folder = path.parent
    if not os.access(folder, os.X_OK):
        return folder if os.path.lexists(folder) else None
    files = (str(path), *(f"{path}{suffix}" for suffix in SIDE_FILES))
    there = [file for file in files if os.path.lexists(file)]
    closed = next((Path(file) for file in there if not os.access(file, os.W_OK)), None)
    if closed is None and not {f"{path}-wal", f"{path}-shm"} <= set(there) and not os.access(folder, os.W_OK):
        return folder  # SQLite makes these two where they are not there
    return closed


def not_writable(found: Path) -> AccessDeniedError:
    """Name what cannot be written, and who it belongs to."""
    return AccessDeniedError(
        f"{found.name} cannot be written by the user that this process runs as: it belongs to {_owner(found)}. "
        "Give it to the user that serves.",
        file=found.name,
    )


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
