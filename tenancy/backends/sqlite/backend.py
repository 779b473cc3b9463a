"""Serve tenants from SQLite files: one file per user, in WAL mode, every commit synced to the disk.

Beside it: ``files.py`` makes and removes files, ``driver.py`` opens them, ``engines.py`` makes engines over them, and
``templates.py`` keeps the migrated, empty databases that new tenants are copied from.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from tenancy import deadline, names
from tenancy.backends.access import Access
from tenancy.backends.base import (
    WHOSE_SQL,
    Attempt,
    Backend,
    Blueprint,
    Check,
    DatabaseFields,
    Making,
    Storage,
    Whose,
)
from tenancy.backends.gates import Words
from tenancy.backends.placeholders import Rules
from tenancy.backends.sqlite import errors
from tenancy.backends.sqlite.checks import SQLiteChecks
from tenancy.backends.sqlite.copying import SQLiteCopying
from tenancy.backends.sqlite.driver import RULES, WORDS, FileConnection, check_file, open_file
from tenancy.backends.sqlite.engines import make_engine, schema_changes, tenant_engine
from tenancy.backends.sqlite.files import (
    BUSY_TIMEOUT_S,
    forget_replica,
    gone,
    look_at_folder,
    make_empty_file,
    publish,
    remove,
    seen_of,
    size_of,
    storage_explained,
    sync_folder,
    url_path,
    write_durably,
)
from tenancy.backends.sqlite.probe import look_at_place
from tenancy.backends.sqlite.restore_points import SQLiteRestorePoints
from tenancy.backends.sqlite.templates import Templates
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseBusyError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    MigrationError,
    StorageFullError,
)
from tenancy.models import Server, Tenant

log = logging.getLogger(__name__)

SPACE_BYTES = 2**20
"""With less free space than this, no database is made."""

WRITERS = 4
"""How many files are written at once: syncing several takes a disk little more time than syncing one."""

_LOOKS = 3
"""How often ``drop`` looks at a file again that another process wrote to since the last look."""

_TEMPLATES = ".templates"


class SQLiteBackend(Backend):
    """Keep ``user_{id}.db`` files in one folder, under names that the application alone chooses."""

    name: ClassVar[str] = "sqlite"
    label: ClassVar[str] = "SQLite"
    rules: ClassVar[Rules] = RULES
    words: ClassVar[Words] = WORDS
    driver_errors = (sqlite3.Error,)
    _explain, lacks = staticmethod(errors.explain), staticmethod(errors.lacks)

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._templates = Templates(data_dir / _TEMPLATES)
        self.restore_points = SQLiteRestorePoints(self)
        self.checks = SQLiteChecks(self)
        self.copying = SQLiteCopying(self)

    def given(self, fields: DatabaseFields) -> dict[str, Any]:
        for name in ("db_host", "db_port", "db_name", "db_user", "db_password", "db_path", "db_options"):
            if getattr(fields, name) is not None:
                where = self._outside(fields.db_path) if name == "db_path" and fields.db_path else ""
                raise ConfigurationError(
                    f"{name} cannot be given for sqlite: Unify names SQLite's files itself{where}.", field=name
                )
        return {}

    def plan(self, whose: Whose, given: dict[str, Any], server: Server | None) -> dict[str, Any]:
        return {"db_type": self.name, "db_path": names.sqlite_file(whose.owner, whose.epoch)}

    def probe(self, tenant: Tenant, access: Access) -> Iterator[Check]:
        found = self.storage()
        if found.problem:
            yield Check("folder", found.problem, AccessDeniedError.code)
            return
        yield Check("folder", "TENANT_DATA_DIR can be written." if found.exists else "TENANT_DATA_DIR can be made.")
        if found.free_bytes is not None and found.free_bytes < SPACE_BYTES:
            yield Check("space", "the disk that holds TENANT_DATA_DIR is full.", StorageFullError.code)
            return
        yield Check("space", f"{(found.free_bytes or 0) // 2**20} MiB are free.")
        yield from look_at_place(self.path(tenant))

    @storage_explained()
    def storage(self) -> Storage:
        return look_at_folder(self.data_dir)

    def shared_plan(self, url: str) -> dict[str, Any]:
        return {"db_type": self.name, "db_path": str(url_path(url, "SHARED_DATABASE_URL")), "owned": False}

    def catalog_engine(self, url: str) -> sa.Engine:
        path = url_path(url, "ADMIN_DATABASE_URL")
        pool = {"poolclass": QueuePool, "pool_size": 2, "max_overflow": -1}
        engine = make_engine(lambda: open_file(path), path=str(path), **pool)
        event.listen(engine, "checkout", check_file)

        def come_back(driver: Any, record: ConnectionPoolEntry) -> None:
            if isinstance(driver, FileConnection) and not driver.usable():
                record.invalidate()
                if driver.spoiled:
                    engine.dispose()

        event.listen(engine, "checkin", come_back)
        event.listen(engine, "begin", self._begin_catalog)
        engine.update_execution_options(tenancy_backend=self)
        return engine

    @storage_explained("the folder that ADMIN_DATABASE_URL names")
    def make_catalog(self, engine: sa.Engine) -> None:
        _make_once(Path(engine.url.database or ""))

    @storage_explained("the folder that ADMIN_DATABASE_URL names")
    def has_catalog(self, engine: sa.Engine) -> bool:
        return bool(size_of(Path(engine.url.database or "")))

    @storage_explained()
    def connect(self, tenant: Tenant, access: Access) -> Any:
        path = self.path(tenant)
        try:
            return open_file(path)
        except sqlite3.DatabaseError as error:  # not OperationalError alone: "file is not a database" is none
            ours = self.explain(error)
            if not isinstance(ours, AccessDeniedError) and not path.exists():
                raise DatabaseMissingError(
                    f"the database file {path.name} is gone from TENANT_DATA_DIR; none is made in its place: "
                    "restore it.",
                    tenant_id=tenant.tenant_id,
                ) from error
            raise ours or DatabaseUnreachableError("the database file cannot be opened.") from error

    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        return tenant_engine(creator)

    def begin(self, connection: sa.Connection, write: bool) -> None:
        """BEGIN IMMEDIATE to write, or BEGIN with ``query_only`` to read.

        A deferred transaction that turns from reading to writing fails at once if the file is locked, whatever the busy
        timeout. The wait for the lock ends at the caller's deadline.
        """
        _opened(connection).begin(write=write, waits_s=deadline.left(BUSY_TIMEOUT_S))

    def read_singly(self, connection: sa.Connection) -> None:
        _opened(connection).begin(write=None, waits_s=deadline.left(BUSY_TIMEOUT_S))

    @contextmanager
    def migrating(self, driver: Any) -> Iterator[sa.Connection]:
        with closing(driver), self.explained(), schema_changes(driver) as connection:
            yield connection

    def check_before_commit(self, connection: sa.Connection) -> None:
        """Run foreign_key_check: keys are not enforced in migrations, as a table rebuild would delete child rows."""
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise MigrationError(f"the migration would leave rows of {broken[0]} without their parent in {broken[2]}.")

    @storage_explained()
    def exists(self, tenant: Tenant, access: Access) -> bool:
        return bool(size_of(self.path(tenant)))  # an empty file only reserves the name (``publish``)

    def create(self, tenant: Tenant, access: Access, blueprint: Blueprint, attempt: Attempt) -> None:
        path = self.path(tenant)
        attempt.step("template")
        with storage_explained():
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = self._templates.filled(blueprint)
            draft = _draft(path, tenant, attempt.number)
            try:
                attempt.step("write file")
                write_durably(draft, content)
                attempt.step("publish file")
                publish(draft, path)
            finally:
                draft.unlink(missing_ok=True)
            attempt.step("sync folder")
            sync_folder(path.parent)

    def create_many(self, makings: Sequence[Making]) -> dict[uuid.UUID, Exception]:
        """Write all drafts, several at once, then rename them to their names and sync the folder once for all."""
        with storage_explained():
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        failed: dict[uuid.UUID, Exception] = {}
        try:
            with ThreadPoolExecutor(WRITERS, "unify-files") as writers:
                for making, error in writers.map(lambda making: (making, _tried(self._write, making)), makings):
                    if error is not None:
                        failed[making.tenant.tenant_id] = error
            for making in makings:
                error = None if making.tenant.tenant_id in failed else _tried(self._publish, making)
                if error is not None:
                    failed[making.tenant.tenant_id] = error
        finally:
            for making in makings:
                self._draft_of(making).unlink(missing_ok=True)
        makings[-1].attempt.step("sync folder")
        with storage_explained():
            sync_folder(self.data_dir)
        return failed

    def _write(self, making: Making) -> None:
        making.attempt.step("write file")
        with storage_explained():
            write_durably(self._draft_of(making), self._templates.filled(making.blueprint))

    def _publish(self, making: Making) -> None:
        making.attempt.step("publish file")
        with storage_explained():
            publish(self._draft_of(making), self.path(making.tenant))

    def _draft_of(self, making: Making) -> Path:
        return _draft(self.path(making.tenant), making.tenant, making.attempt.number)

    @storage_explained()
    def make_empty(self, tenant: Tenant, access: Access) -> None:
        _make_once(self.path(tenant))

    @storage_explained()
    def clear_attempts(self, tenant: Tenant, attempt: int) -> None:
        path = self.path(tenant)
        for earlier in range(1, attempt):  # by name, as a folder with 100,000 files is slow to list
            _draft(path, tenant, earlier).unlink(missing_ok=True)
            aside = gone(path, _mark(tenant, earlier))
            if aside.exists() and not self._is_anothers(aside, tenant):
                aside.unlink(missing_ok=True)

    @storage_explained()
    def drop(self, tenant: Tenant, access: Access) -> None:
        """Delete the file, unless it is another tenant's by now: earlier versions used a name again."""
        path = self.path(tenant)
        for _ in range(_LOOKS):
            seen = seen_of(path)
            if self._is_anothers(path, tenant):
                log.warning("tenant %s: %s is another tenant's by now and stays", tenant.tenant_id, path.name)
                return
            if remove(seen, _mark(tenant, tenant.epoch)):
                break
        else:
            raise DatabaseBusyError(f"{path.name} is being written to: try again.")
        forget_replica(path)
        if path.parent.exists():
            sync_folder(path.parent)

    def _is_anothers(self, path: Path, tenant: Tenant) -> bool:
        """Say whether a file's identity row names another tenant; a missing, empty or damaged file names none."""
        if not size_of(path):
            return False
        try:
            with closing(open_file(path)) as driver:
                row = driver.execute(WHOSE_SQL).fetchone()
            return row is not None and uuid.UUID(str(row[0])) != tenant.tenant_id
        except ValueError:
            return False
        except sqlite3.Error as error:
            ours = self.explain(error)
            if isinstance(ours, (DatabaseBusyError, AccessDeniedError)):
                raise ours from error
            return False

    def is_place_of(self, tenant: Tenant) -> bool:
        found = names.sqlite_file_in(tenant.db_path or "")
        return tenant.user_id is None or (found is not None and found[:2] == (tenant.db_path, tenant.user_id))

    def shown_path(self, tenant: Tenant) -> str | None:
        return str(self.path(tenant))

    @storage_explained()
    def size_bytes(self, tenant: Tenant, access: Access) -> int | None:
        path = self.path(tenant)
        sizes = [size_of(path), size_of(path.with_name(path.name + "-wal"))]
        return None if sizes[0] is None else sum(size or 0 for size in sizes)

    @storage_explained()
    def modified(self, tenant: Tenant) -> datetime | None:
        path = self.path(tenant)
        times = []
        for file in (path, path.with_name(path.name + "-wal")):
            with contextlib.suppress(FileNotFoundError):
                times.append(file.stat().st_mtime)
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def _outside(self, path: str) -> str:
        inside = (self.data_dir / path).absolute().is_relative_to(self.data_dir.absolute()) and ".." not in path
        return "" if inside else ", and this one lies outside TENANT_DATA_DIR"

    def path(self, tenant: Tenant) -> Path:
        """Return the tenant's file, or raise IdentityError if the stored name is not one made for this user."""
        if tenant.user_id is None:
            return Path(tenant.db_path or "")
        if tenant.db_path is None or not self.is_place_of(tenant):
            raise IdentityError(
                f"the configuration of user {tenant.user_id} names a file that is not theirs.", user_id=tenant.user_id
            )
        return self.data_dir / tenant.db_path

    def _begin_catalog(self, connection: sa.Connection) -> None:
        try:
            self.begin(connection, connection.get_execution_options().get("tenancy_write", True))
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(
                "BEGIN", None, error
            ) from error  # as SQLAlchemy raises errors of its own statements


def _tried(work: Callable[[Making], None], making: Making) -> Exception | None:
    """Run one of many calls and return its error, so that the others go on."""
    try:
        work(making)
    except Exception as error:  # noqa: BLE001 - create_many returns it, by tenant
        return error
    return None


def _opened(connection: sa.Connection) -> FileConnection:
    driver: Any = connection.connection.dbapi_connection
    assert isinstance(driver, FileConnection)  # noqa: S101 - open_file makes them, for every engine here
    return driver


def _draft(path: Path, tenant: Tenant, attempt: int) -> Path:
    return path.with_name(f"{path.name}.{_mark(tenant, attempt)}.new")


def _mark(tenant: Tenant, attempt: int) -> str:
    return f"{tenant.tenant_id.hex}.{attempt}"


def _make_once(path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_empty_file(path)
