"""Keep restore points of SQLite tenants: files in a folder beside them, made and put back by the backup API.

A copy of a live file made in any other way loses commits, or takes the process's locks away
(``files.py``). Putting back is one transaction in the live file: other connections go on with it and see
what was restored, and a kill leaves either all of it or nothing.
"""

from __future__ import annotations

import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tenancy.backends.base import WHOSE_SQL, Held, Step
from tenancy.backends.server.restore_points import is_of, no_point, raising_epoch, refuse_later
from tenancy.backends.sqlite.driver import open_file
from tenancy.backends.sqlite.files import BUSY_TIMEOUT_S, file_id, storage_explained, sync_folder, write_durably
from tenancy.errors import DatabaseBusyError, DatabaseUnreachableError, StorageFullError
from tenancy.models import Tenant

STEPS = 8
"""A point is put back in about so many steps; the file stays locked from the first to the last."""

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
"""What a disk that ends, a quota and a limit of file sizes come back as."""


def make_point(live: sqlite3.Connection, path: Path, tenant: Tenant, step: Step) -> None:
    """Copy what an open connection sees into a file of this name, which it gets once it is whole and on the disk."""
    draft = path.with_name(f"{path.name}.new")
    with storage_explained():
        _make_folder(path.parent)
        draft.unlink(missing_ok=True)
        try:
            step("copy database")
            write_durably(draft, b"")  # made this way it is private from its first moment
            ours = file_id(str(draft))
            _copy_into(draft, live, tenant)
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


def return_to(live: sqlite3.Connection, path: Path, tenant: Tenant, claim: Held | None, step: Step) -> None:
    """Put a point's content into the live file, in one durable transaction of SQLite's."""
    if not path.exists():
        raise no_point(tenant, path.suffix[1:])
    with _opened(path) as point, closing(open_file(Path(live.path))) as beside:  # type: ignore[attr-defined]  # as open_file gave it
        _check(point, tenant)

        def locked() -> None:
            _refuse_later(beside, tenant)
            if claim is not None:
                claim.check()

        with _raised(point, claim) as content:
            step("put back")
            transfer(content, live, pages=_some_of(content), locked=locked)


def remove_point(path: Path) -> None:
    for name in (path, path.with_name(f"{path.name}.new")):
        name.unlink(missing_ok=True)
    if path.parent.exists():
        sync_folder(path.parent)


def points_of(any_point: Path) -> list[str]:
    """Name the points that stand beside one of the same tenant's, drafts among them."""
    found = any_point.parent.glob(f"{any_point.stem}.*")
    return sorted({path.name.removeprefix(f"{any_point.stem}.").partition(".")[0] for path in found})


def transfer(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    *,
    pages: int = -1,
    locked: Callable[[], None] = lambda: None,
) -> None:
    """Copy a database; wait for locks, not for ever: left alone the driver would, where the target stays locked.

    By default it is one step, so that a writer elsewhere cannot make it begin anew. ``locked`` is called once the
    target is locked, which it stays to the end (sqlite.org/c3ref/backup_finish.html), and may raise: then nothing was
    changed. That takes more than one step.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    looked = False

    def watch(status: int, remaining: int, total: int) -> None:
        nonlocal looked
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            if time.monotonic() >= deadline:
                raise DatabaseBusyError("the database is locked by another writer: try again.")
        elif not looked:
            looked = True
            locked()

    source.backup(target, pages=pages, progress=watch, sleep=0.05)


def draft_connection(draft: Path) -> sqlite3.Connection:
    """Open a draft that is thrown away if anything fails: it needs no journal, and is synced when it is whole."""
    driver = sqlite3.connect(draft, isolation_level=None)
    driver.execute("PRAGMA journal_mode = OFF")
    driver.execute("PRAGMA synchronous = FULL")
    return driver


def _copy_into(draft: Path, live: sqlite3.Connection, tenant: Tenant) -> None:
    try:
        with closing(draft_connection(draft)) as target:
            transfer(live, target)
            _refuse_later(target, tenant)
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


@contextmanager
def _raised(point: sqlite3.Connection, claim: Held | None) -> Iterator[sqlite3.Connection]:
    """Give a point's content under a claim's epoch: from a copy without a name, which SQLite removes by itself."""
    if claim is None:
        yield point
        return
    with closing(sqlite3.connect("", isolation_level=None)) as copy:
        transfer(point, copy)
        copy.execute(raising_epoch(claim))
        yield copy


def _some_of(point: sqlite3.Connection) -> int:
    """Give a number of pages that is less than all: a file with tables has two at least."""
    return max(1, int(point.execute("PRAGMA page_count").fetchone()[0]) // STEPS)


def _refuse_later(driver: sqlite3.Connection, tenant: Tenant) -> None:
    row = driver.execute(WHOSE_SQL).fetchone()
    refuse_later(tenant, row and row[3])


def _check(point: sqlite3.Connection, tenant: Tenant) -> None:
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
