"""Keep restore points of SQLite tenants: files in a folder beside theirs, copied by SQLite's backup API.

A live file is never copied in another way: that would miss commits that are in the WAL, or drop the process's POSIX
locks (``files.py``). A restore is one transaction in the live file. Other connections stay open and then see what was
restored; a kill leaves all of it or nothing.
"""

from __future__ import annotations

import sqlite3
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.base import WHOSE_SQL, HeldClaim, Rebuild, Step, ignore_step
from tenancy.backends.restore_points import (
    RestorePoints,
    is_of,
    no_point,
    raising_epoch,
    refuse_later,
    refuse_shared,
)
from tenancy.backends.sqlite.driver import open_file
from tenancy.backends.sqlite.files import BUSY_TIMEOUT_S, file_id, storage_explained, sync_folder, write_durably
from tenancy.errors import DatabaseBusyError, DatabaseUnreachableError, StorageFullError
from tenancy.models import Tenant

if TYPE_CHECKING:
    from tenancy.backends.sqlite.backend import SQLiteBackend

FOLDER = ".restore"

STEPS = 8
"""About how many calls a restore makes to the backup API; the file stays locked from the first to the last."""

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
"""The codes for a full disk, a quota, and a limit on file sizes."""


class SQLiteRestorePoints(RestorePoints):
    """Keep each restore point in a file of its own, which nobody opens but to restore it."""

    def __init__(self, backend: SQLiteBackend) -> None:
        self.backend = backend

    def create(self, tenant: Tenant, access: Access, point: str, *, step: Step = ignore_step) -> None:
        path = self._path(tenant, point)
        with closing(self.backend.connect(tenant, access)) as live, self.backend.explained():
            make_point(live, path, tenant, step)

    @storage_explained()
    def has(self, tenant: Tenant, access: Access, point: str) -> bool:
        return self._path(tenant, point).exists()

    def restore(
        self, tenant: Tenant, access: Access, point: str, *, rebuild: Rebuild, claim: HeldClaim | None, step: Step
    ) -> None:
        path = self._path(tenant, point)
        with closing(self.backend.connect(tenant, access)) as live, self.backend.explained():
            return_to(live, path, tenant, claim=claim, step=step)

    @storage_explained()
    def delete(self, tenant: Tenant, access: Access, point: str) -> None:
        path = self._path(tenant, point)
        for name in (path, path.with_name(f"{path.name}.new")):
            name.unlink(missing_ok=True)
        if path.parent.exists():
            sync_folder(path.parent)

    @storage_explained()
    def list(self, tenant: Tenant, access: Access) -> Sequence[str]:
        if tenant.user_id is None:
            return []
        any_point = self._path(tenant, "x")
        found = any_point.parent.glob(f"{any_point.stem}.*")
        return sorted({path.name.removeprefix(f"{any_point.stem}.").partition(".")[0] for path in found})

    def _path(self, tenant: Tenant, point: str) -> Path:
        """Return the file of a point, for a tenant whose own file is in its place."""
        refuse_shared(tenant)
        own = self.backend.path(tenant)
        return self.backend.data_dir / FOLDER / names.point_file(own.name, tenant.tenant_id, point)


def make_point(live: sqlite3.Connection, path: Path, tenant: Tenant, step: Step) -> None:
    """Copy what an open connection sees into a draft; the draft gets the point's name once it is whole and synced."""
    draft = path.with_name(f"{path.name}.new")
    with storage_explained():
        _make_folder(path.parent)
        draft.unlink(missing_ok=True)
        try:
            step("copy database")
            write_durably(draft, b"")  # with mode 0600, which sqlite3.connect() would not give it
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


def return_to(live: sqlite3.Connection, path: Path, tenant: Tenant, claim: HeldClaim | None, step: Step) -> None:
    """Copy a point into the live file: one durable transaction of SQLite's."""
    if not path.exists():
        raise no_point(tenant, path.suffix[1:])
    with _opened(path) as point, closing(open_file(Path(live.path))) as beside:  # type: ignore[attr-defined]  # a FileConnection
        _check(point, tenant)

        def locked() -> None:
            _refuse_later(beside, tenant)
            if claim is not None:
                claim.check()

        with _raised(point, claim) as content:
            step("put back")
            transfer(content, live, pages=_some_of(content), locked=locked)


def transfer(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    *,
    pages: int = -1,
    locked: Callable[[], None] = lambda: None,
) -> None:
    """Copy a database by the backup API; DatabaseBusyError if it is locked for longer than the busy timeout.

    ``sqlite3.Connection.backup`` itself would wait for ever. By default all pages are copied in one step, as between
    two steps a writer can change the source, and the backup then starts again.

    With fewer ``pages`` a step, ``locked`` is called once, after the first. From then on the target is locked to the
    end (sqlite.org/c3ref/backup_finish.html). ``locked`` may raise, and the target is then unchanged.
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
    """Open a draft without a journal, as a draft is deleted if anything fails; writes are synced."""
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
    """Open a finished point as immutable: else SQLite would make a WAL beside it, as its header asks for one."""
    name = f"file:{urllib.parse.quote(str(path))}?mode=ro&immutable=1"
    with closing(sqlite3.connect(name, uri=True, isolation_level=None)) as driver:
        yield driver


@contextmanager
def _raised(point: sqlite3.Connection, claim: HeldClaim | None) -> Iterator[sqlite3.Connection]:
    """Copy a point into a temporary database and raise the epoch there; SQLite removes that database by itself."""
    if claim is None:
        yield point
        return
    with closing(sqlite3.connect("", isolation_level=None)) as copy:
        transfer(point, copy)
        copy.execute(raising_epoch(claim))
        yield copy


def _some_of(point: sqlite3.Connection) -> int:
    """Return a number of pages that is less than all of them: a file with tables has at least two."""
    return max(1, int(point.execute("PRAGMA page_count").fetchone()[0]) // STEPS)


def _refuse_later(driver: sqlite3.Connection, tenant: Tenant) -> None:
    row = driver.execute(WHOSE_SQL).fetchone()
    refuse_later(tenant, row and row[3])


def _check(point: sqlite3.Connection, tenant: Tenant) -> None:
    """Raise DatabaseUnreachableError if a point is damaged or another tenant's, before anything is changed."""
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
