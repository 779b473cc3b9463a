"""Serve tenants from SQLite files: one file a user, in WAL, written durably.

A live file is only ever opened through SQLite: opening and closing it by other means drops the process's
POSIX locks (sqlite.org/howtocorrupt.html, 2.2), and another process could then delete the WAL.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import urllib.parse
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine import make_url
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import LRUCache

from tenancy import names
from tenancy.backends.base import WHOSE_SQL, Attempt, Backend, Blueprint, DatabaseFields
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseBusyError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    MigrationError,
    ProvisionError,
    ReadOnlyRouteError,
    StorageFullError,
    TenancyError,
)
from tenancy.models import Placement
from tenancy.placeholders import Rules

BUSY_TIMEOUT_S = 5.0
_PAGE_CACHE_KIB = 512
_TEMPLATES = ".templates"
_WAL_HEADER = b"\x02\x02"  # bytes 18 and 19 of a file: read and written by WAL (sqlite.org/fileformat2.html, 1.3.3)
_SIDE_FILES = ("-wal", "-shm", "-journal")


class SharedSQLiteDialect(SQLiteDialect_pysqlite):
    """Compare equal to its like, so that engines find each other's compiled SQL in the shared cache.

    SQLAlchemy's cache keys hold the dialect object; two of these compile every statement alike.
    """

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


registry.register("sqlite.unify", __name__, "SharedSQLiteDialect")
_compiled: LRUCache[Any, Any] = LRUCache(1000)


class FileConnection(sqlite3.Connection):
    """Remember which file was opened: one that is deleted or replaced can still be written to, and nobody finds it."""

    path: str
    file: tuple[int, int] | None

    def in_place(self) -> bool:
        """Say whether the file that was opened still stands under its name; it is looked at, and not opened."""
        return self.file == _file_id(self.path)


class SQLiteBackend(Backend):
    """Keep ``user_{id}.db`` files in one folder that the server alone names."""

    name: ClassVar[str] = "sqlite"
    rules: ClassVar[Rules] = Rules(brackets=True, backticks=True)

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._templates = _Templates(data_dir / _TEMPLATES)

    def plan(self, owner: int, fields: DatabaseFields) -> dict[str, Any]:
        for name in ("db_host", "db_port", "db_name", "db_user", "db_password", "db_path"):
            if getattr(fields, name) is not None:
                raise ConfigurationError(
                    f"{name} cannot be given for sqlite: the server names its files itself.", field=name
                )
        return {"db_type": self.name, "db_path": names.sqlite_file(owner)}

    def shared_plan(self, url: str) -> dict[str, Any]:
        return {"db_type": self.name, "db_path": str(url_path(url, "SHARED_DATABASE_URL")), "owned": False}

    def catalog_engine(self, url: str) -> sa.Engine:
        path = url_path(url, "ADMIN_DATABASE_URL")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        modes = iter(("rwc",))  # made by the first connection alone: one that is lost while it serves is not replaced
        engine = self.engine(lambda: _open(path, next(modes, "rw")))
        event.listen(engine, "begin", self._begin_catalog)
        return engine

    def connect(self, tenant: Placement, password: str | None) -> Any:
        path = self._path(tenant)
        try:
            return _open(path, "rw")
        except sqlite3.DatabaseError as error:  # also "file is not a database", which is no OperationalError
            if not path.exists():
                raise DatabaseMissingError(
                    f"the database file {path.name} is gone; none is made in its place: restore it.",
                    tenant_id=tenant.tenant_id,
                ) from error
            raise self.explain(error) or error from error

    def engine(self, creator: Callable[[], Any]) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite+unify://",
            creator=creator,
            poolclass=QueuePool,
            pool_size=2,
            max_overflow=-1,
            query_cache_size=0,
            hide_parameters=True,
            execution_options={"compiled_cache": _compiled},
        )
        event.listen(engine, "checkout", _check_file)
        return engine

    def begin(self, connection: sa.Connection, write: bool) -> None:
        """Take the write lock at once, or forbid writing: a read that turns into a write cannot wait for the lock."""
        record = connection.connection
        driver = record.dbapi_connection
        assert driver is not None  # noqa: S101 - a connection that begins is open
        if record.info.get("query_only", False) is write:
            driver.execute(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
            record.info["query_only"] = not write
        driver.execute("BEGIN IMMEDIATE" if write else "BEGIN")

    @contextmanager
    def migrating(self, driver: Any) -> Iterator[sa.Connection]:
        with closing(driver), _schema_changes(driver) as connection:
            yield connection

    def check_before_commit(self, connection: sa.Connection) -> None:
        """Foreign keys are off while tables are rebuilt, so that a rebuild deletes no child rows."""
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise MigrationError(f"the migration would leave rows of {broken[0]} without their parent in {broken[2]}.")

    def exists(self, tenant: Placement) -> bool:
        return self._path(tenant).exists()

    def create(self, tenant: Placement, blueprint: Blueprint, attempt: Attempt) -> None:
        path = self._path(tenant)
        attempt.step("template")
        with _storage_explained():
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = self._templates.filled(blueprint)
            draft = _draft(path, tenant, attempt.number)
            try:
                attempt.step("write file")
                _write_durably(draft, content)
                attempt.step("publish file")
                with attempt.holding():
                    _publish(draft, path)
            finally:
                draft.unlink(missing_ok=True)
            attempt.step("sync folder")
            _sync_folder(path.parent)

    def make_empty(self, tenant: Placement) -> None:
        path = self._path(tenant)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _open(path, "rwc").close()

    def clear_attempts(self, tenant: Placement, attempt: int) -> None:
        path = self._path(tenant)
        for earlier in range(1, attempt):  # by name: a folder of 100,000 tenants is slow to list
            _draft(path, tenant, earlier).unlink(missing_ok=True)

    def drop(self, tenant: Placement) -> None:
        path = self._path(tenant)
        for name in (path.name, *(path.name + suffix for suffix in _SIDE_FILES)):
            path.with_name(name).unlink(missing_ok=True)
        if path.parent.exists():
            _sync_folder(path.parent)

    def shown_path(self, tenant: Placement) -> str | None:
        return str(self._path(tenant))

    def size_bytes(self, tenant: Placement) -> int | None:
        path = self._path(tenant)
        sizes = [_size(path), _size(path.with_name(path.name + "-wal"))]
        return None if sizes[0] is None else sum(size or 0 for size in sizes)

    def modified(self, tenant: Placement) -> datetime | None:
        path = self._path(tenant)
        times = []
        for file in (path, path.with_name(path.name + "-wal")):
            with contextlib.suppress(FileNotFoundError):
                times.append(file.stat().st_mtime)
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def explain(self, error: BaseException) -> TenancyError | None:
        code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
        if code is None:
            return None
        primary = code & 0xFF  # the low byte is the primary result code (sqlite.org/rescode.html)
        if primary == sqlite3.SQLITE_READONLY:
            return ReadOnlyRouteError("this unit of work may only read.")
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return DatabaseBusyError("the database is locked by another writer: try again.")
        if primary == sqlite3.SQLITE_FULL:
            return StorageFullError("the disk is full.")
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DatabaseUnreachableError("the database file is damaged: restore it from a backup.")
        if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
            return DatabaseUnreachableError("the database file cannot be opened.")
        return None

    def _path(self, tenant: Placement) -> Path:
        """Give the file; a tenant's stored name must be the one the server made for its owner."""
        if tenant.user_id is None:
            return Path(tenant.db_path or "")
        expected = names.sqlite_file(tenant.user_id)
        if tenant.db_path != expected:
            raise IdentityError(
                f"the configuration of user {tenant.user_id} names a file that is not theirs.", user_id=tenant.user_id
            )
        return self.data_dir / expected

    def _begin_catalog(self, connection: sa.Connection) -> None:
        try:
            self.begin(connection, connection.get_execution_options().get("tenancy_write", True))
        except sqlite3.Error as error:
            raise sa.exc.OperationalError("BEGIN", None, error) from error  # as SQLAlchemy does with its own statements


class _Template:
    """Hold the migrated, empty database of one schema in memory, and fill copies of it, one at a time.

    The connection is kept: a fresh one would read the whole schema again for every tenant.
    """

    def __init__(self, fingerprint: str, content: bytes) -> None:
        self.fingerprint = fingerprint
        self._content = content
        self._memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._memory.close)
        memory = self._memory
        self._engine = sa.create_engine(
            "sqlite+unify://",
            creator=lambda: memory,
            poolclass=sa.StaticPool,
            query_cache_size=0,
            hide_parameters=True,
            execution_options={"compiled_cache": _compiled},
        )

    def filled(self, fill: Callable[[sa.Connection], None]) -> bytes:
        self._memory.deserialize(self._content)
        with self._engine.connect() as connection:
            self._memory.execute("BEGIN")
            fill(connection)
            connection.commit()
        return _in_wal(self._memory.serialize())


class _Templates:
    """Keep the template of each schema: a file beside the tenants, and the one at hand in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._at_hand: _Template | None = None

    def filled(self, blueprint: Blueprint) -> bytes:
        """Give the bytes of a new database: the template, with the tenant's own rows written in memory."""
        with self._lock:
            if self._at_hand is None or self._at_hand.fingerprint != blueprint.fingerprint:
                self._at_hand = _Template(blueprint.fingerprint, self._load(blueprint))
            return self._at_hand.filled(blueprint.fill)

    def _load(self, blueprint: Blueprint) -> bytes:
        path = self._folder / f"{blueprint.fingerprint}.db"
        if not path.exists():
            self._make(path, blueprint)
        content = path.read_bytes()  # no process ever opens a template as a database
        if not _sound(content):
            raise ProvisionError(
                f"the template {_TEMPLATES}/{path.name} is damaged: delete it, and it is made anew.", file=path.name
            )
        return content

    def _make(self, path: Path, blueprint: Blueprint) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)) as memory:
            with _schema_changes(memory) as connection:
                blueprint.build(connection)
            content = memory.serialize()
        draft = self._folder / f"{uuid.uuid4().hex}.new"
        try:
            _write_durably(draft, content)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(self._folder)


@contextmanager
def _schema_changes(driver: sqlite3.Connection) -> Iterator[sa.Connection]:
    """Give a connection for schema changes: foreign keys off before BEGIN, transactions that cover DDL."""
    driver.execute("PRAGMA foreign_keys = OFF")
    driver.execute("PRAGMA query_only = OFF")  # a pooled connection may come from a unit of work that only read
    engine = sa.create_engine("sqlite+unify://", creator=lambda: driver, poolclass=sa.StaticPool, hide_parameters=True)
    event.listen(engine, "begin", lambda connection: driver.execute("BEGIN IMMEDIATE"))
    with engine.connect() as connection:
        yield connection


def url_path(url: str, setting: str) -> Path:
    """Give the file of a ``sqlite:///path`` URL; memory, ``file:`` and query options are refused."""
    parsed = make_url(url)
    name = parsed.database or ""
    if name in ("", ":memory:") or name.startswith("file:") or parsed.query or parsed.host:
        raise ConfigurationError(f"{setting} must name a file: sqlite:///path/to/file.db", field=setting)
    return Path(name).absolute()


def _open(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file as every connection here is: durable, bounded, with foreign keys, without ATTACH."""
    if mode == "rwc" and not path.exists():
        _make_empty(path)
    file = _file_id(str(path))
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
        if mode == "rwc":
            driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("PRAGMA synchronous = FULL")
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute(f"PRAGMA cache_size = -{_PAGE_CACHE_KIB}")
        driver.execute("PRAGMA trusted_schema = OFF")
        driver.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    except sqlite3.Error:
        driver.close()
        raise
    return driver


def _make_empty(path: Path) -> None:
    """Make an empty database that is in WAL from its first moment, unless another process just did.

    Processes that switch one file to WAL at once do not wait for each other: some are told it is locked.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        for statement in ("CREATE TABLE first_page (x)", "DROP TABLE first_page", "VACUUM"):
            memory.execute(statement)
        content = memory.serialize()
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    try:
        _write_durably(draft, _in_wal(content))
        _publish(draft, path)
    except DatabaseExistsError:
        if not path.exists():
            raise
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _in_wal(content: bytes) -> bytes:
    return b"".join((content[:18], _WAL_HEADER, content[20:]))


def _check_file(driver: Any, record: Any, proxied: Any) -> None:
    """Have the pool open the file anew where another one, or none, stands in its place by now."""
    if isinstance(driver, FileConnection) and not driver.in_place():
        raise sa.exc.DisconnectionError("the database file was deleted or replaced.")


def _file_id(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _draft(path: Path, tenant: Placement, attempt: int) -> Path:
    return path.with_name(f"{path.name}.{tenant.tenant_id.hex}.{attempt}.new")


def _sound(content: bytes) -> bool:
    """Say whether these bytes are a whole database that holds the house's tables."""
    with closing(sqlite3.connect(":memory:")) as memory:
        try:
            memory.deserialize(content or b"empty")  # nothing at all would be MemoryError
            memory.execute(WHOSE_SQL)
            return bool(memory.execute("PRAGMA integrity_check").fetchone()[0] == "ok")
        except sqlite3.Error:
            return False


def _write_durably(path: Path, content: bytes) -> None:
    """Write a new file that no process has open, to the disk."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(draft: Path, path: Path) -> None:
    """Give a finished file its name, unless the name is taken.

    A WAL that was left of an earlier file of this name would be replayed into the new one.
    """
    left = [name for name in (path.name + suffix for suffix in _SIDE_FILES) if path.with_name(name).exists()]
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
def _storage_explained() -> Iterator[None]:
    """Say of a file that could not be written whether the disk is full or the folder refused."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFullError("the disk that holds TENANT_DATA_DIR is full.") from error
        raise AccessDeniedError(
            f"nothing can be written in TENANT_DATA_DIR: {error.strerror or type(error).__name__}."
        ) from error


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no way to sync a folder, and needs none
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
