"""Keep restore points of SQLite tenants: files in a folder beside them, made and put back by the backup API.

A copy of a live file made in any other way loses commits, or takes the process's locks away
(``sqlite_files.py``). Putting back is one transaction in the live file: other connections go on with it and see
what was restored, and a kill leaves either all of it or nothing.
"""

from __future__ import annotations

import sqlite3
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tenancy.backends.base import WHOSE_SQL, Step
from tenancy.backends.points import is_of, no_point
from tenancy.backends.sqlite_files import (
    BUSY_TIMEOUT_S,
    file_id,
    storage_explained,
    sync_folder,
    write_durably,
)
from tenancy.errors import DatabaseBusyError, DatabaseUnreachableError, StorageFullError
from tenancy.models import Placement

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
"""What a disk that ends, a quota and a limit of file sizes come back as."""


def make_point(live: sqlite3.Connection, path: Path, step: Step) -> None:
    """Copy what an open connection sees into a file of this name, which it gets once it is whole and on the disk."""
    draft = path.with_name(f"{path.name}.new")
    with storage_explained():
        _make_folder(path.parent)
        draft.unlink(missing_ok=True)
        try:
            step("copy database")
            write_durably(draft, b"")  # made this way it is private from its first moment
            ours = file_id(str(draft))
            _copy_into(draft, live)
            step("publish point")
            if file_id(str(draft)) != ours:
                raise FileExistsError
            draft.replace(path)
        except FileExistsError as error:
            raise DatabaseBusyError("another restore point of this database is being made: try again.") from error
        finally:
            draft.unlink(missing_ok=True)
        step("sync folder")
        sync_folder(path.parent)


def return_to(live: sqlite3.Connection, path: Path, tenant: Placement, step: Step) -> None:
    """Put a point's content into the live file, in one durable transaction of SQLite's."""
    if not path.exists():
        raise no_point(tenant, path.suffix[1:])
    with _opened(path) as point:
        _check(point, tenant)
        step("put back")
        transfer(point, live)


def remove_point(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}.new")):
        name.unlink(missing_ok=True)
    if path.parent.exists():
        sync_folder(path.parent)


def points_of(any_point: Path) -> list[str]:
    """Name the points that stand beside one of the same tenant's, drafts among them."""
    found = any_point.parent.glob(f"{any_point.stem}.*")
    return sorted({path.name.removeprefix(f"{any_point.stem}.").partition(".")[0] for path in found})


def transfer(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy a database in one step, so that a writer elsewhere cannot make it begin anew; wait for locks, not for ever.

    Left alone the driver would try again for ever where the target stays locked.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S

    def watch(status: int, remaining: int, total: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() >= deadline:
            raise DatabaseBusyError("the database is locked by another writer: try again.")

    source.backup(target, pages=-1, progress=watch, sleep=0.05)


def draft_connection(draft: Path) -> sqlite3.Connection:
    """Open a draft that is thrown away if anything fails: it needs no journal, and is synced when it is whole."""
    driver = sqlite3.connect(draft, isolation_level=None)
    driver.execute("PRAGMA journal_mode = OFF")
    driver.execute("PRAGMA synchronous = FULL")
    return driver


def _copy_into(draft: Path, live: sqlite3.Connection) -> None:
    try:
        with closing(draft_connection(draft)) as target:
            transfer(live, target)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) in _FULL:
            raise StorageFullError("the disk that holds TENANT_DATA_DIR is full: no restore point was made.") from error
        raise


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a finished point, which nobody writes: so it gets no WAL of its own, though its header asks for one."""
    name = f"file:{urllib.parse.quote(str(path))}?mode=ro&immutable=1"
    with closing(sqlite3.connect(name, uri=True, isolation_level=None)) as driver:
        yield driver


def _check(point: sqlite3.Connection, tenant: Placement) -> None:
    """Refuse a damaged point, and one of another tenant's, before anything is changed."""
    try:
        sound = point.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        whose = point.execute(WHOSE_SQL).fetchone()
    except sqlite3.DatabaseError:
        sound, whose = False, None
    if not sound or whose is None or not is_of(tenant, whose[0]):
        raise DatabaseUnreachableError(
            f"the restore point of user {tenant.user_id} is damaged: nothing was changed.", tenant_id=tenant.tenant_id
        )


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)
