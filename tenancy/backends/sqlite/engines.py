"""Make SQLAlchemy engines over SQLite connections; all of them share one cache of compiled SQL.

P2 (first use of a tenant), P6 (a revision over many tenants) and P8 (memory of an idle tenant) depend on ``LRUCache``,
``_type_memos``, and the constructors of Engine and of dialects, which are private to SQLAlchemy
(tests/house/test_private_parts.py).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.pool.base import _ConnectionRecord
from sqlalchemy.util import LRUCache

from tenancy import deadline
from tenancy.backends.gates import commit
from tenancy.backends.sqlite.driver import FileConnection, changes, check_file
from tenancy.backends.sqlite.files import BUSY_TIMEOUT_S
from tenancy.backends.tenant_engine import TenantEngine, TenantPool

LOOKS_AGAIN_S = 0.00005
"""How often a schema change tries for the lock; SQLite itself sleeps up to 0.1 s between two tries."""


class SharedSQLiteDialect(SQLiteDialect_pysqlite):
    """A dialect that is equal to every other of its class, so that engines can use each other's compiled SQL.

    The dialect object is part of SQLAlchemy's cache keys, and all these dialects compile a statement alike.
    """

    supports_statement_cache = True

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Do nothing: ``Backend.begin`` begins transactions at every level, and AUTOCOMMIT begins none."""

    def do_commit(self, dbapi_connection: Any) -> None:
        commit(dbapi_connection)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedSQLiteDialect)

    def __hash__(self) -> int:
        return hash(SharedSQLiteDialect)


class FilePool(TenantPool):
    """A pool whose connections are checked against their file before each use (``check_file``)."""

    def _create_connection(self) -> ConnectionPoolEntry:
        """Connect as SQLAlchemy's pools do, but without making a collection of listeners for each pool to ask.

        SQLAlchemy also lets other threads wait while the first connection initializes the dialect: this one is ready.
        """
        record = _ConnectionRecord(self, connect=False)
        record.starttime = time.time()
        record.dbapi_connection = driver = self._invoke_creator(record)
        record.fresh = True
        try:
            if first := self.dispatch.first_connect:
                first.for_modify(self.dispatch).exec_once_unless_exception(driver, record)
            for heard in self.dispatch.connect:
                heard(driver, record)
        except BaseException:
            record.dbapi_connection = None
            self._close_connection(driver, terminate=True)
            raise
        return record


registry.register("sqlite.unify", __name__, "SharedSQLiteDialect")
event.listen(FilePool, "checkout", check_file)
_compiled: LRUCache[Any, Any] = LRUCache(1000)
_URL = sa.URL.create("sqlite+unify")


def make_engine(creator: Callable[[], Any], *, path: str = "", **pool: Any) -> sa.Engine:
    """Make an engine over ``creator``; ``path`` is only what its URL shows."""
    return sa.create_engine(
        sa.URL.create("sqlite+unify", database=path or None),
        creator=creator,
        query_cache_size=0,
        hide_parameters=True,
        execution_options={"compiled_cache": _compiled},
        **pool,
    )


def tenant_engine(creator: Callable[[], Any]) -> TenantEngine:
    """Make the engine of one tenant, like ``make_engine`` does, in a tenth of the time and a third of the memory."""
    return _pattern().like(creator, _ready_dialect()())


@cache
def _pattern() -> TenantEngine:
    dialect = _ready_dialect()()
    return TenantEngine(
        FilePool(_no_file, dialect=dialect),
        dialect,
        _URL,
        query_cache_size=0,
        execution_options={"compiled_cache": _compiled},
        hide_parameters=True,
    )


def _no_file() -> Any:
    raise AssertionError("the pattern of engines opens nothing itself.")


@cache
def _ready_dialect() -> type[SharedSQLiteDialect]:
    """Return a dialect class with what ``initialize`` learns from a connection, which is the same for every file.

    It is kept in the class, so that each engine's dialect object is empty. There is one object per engine because event
    listeners of an engine are kept in its dialect.
    """
    engine = make_engine(lambda: sqlite3.connect(":memory:"), poolclass=sa.StaticPool)
    with engine.connect():
        learned = {name: value for name, value in vars(engine.dialect).items() if name != "dispatch"}
    engine.dispose()
    body = {"__init__": lambda self: None, "_type_memos": engine.dialect._type_memos, **learned}
    return type("ReadySQLiteDialect", (SharedSQLiteDialect,), {"supports_statement_cache": True, **body})


@event.listens_for(FilePool, "connect")
def _add_functions(driver: Any, record: Any) -> None:
    """Add the SQL functions ``regexp`` and ``floor``, as SQLAlchemy's own dialect does on connect."""
    _functions()(driver)


@cache
def _functions() -> Callable[[Any], None]:
    return _ready_dialect()().on_connect()


@contextmanager
def schema_changes(driver: sqlite3.Connection) -> Iterator[sa.Connection]:
    """Yield a SQLAlchemy connection for schema changes: foreign keys off before BEGIN, transactions that cover DDL.

    The pragma does nothing inside a transaction, and pysqlite's implicit transactions leave DDL out. ``driver`` is
    closed at the end.
    """
    driver.execute("PRAGMA foreign_keys = OFF")
    driver.execute("PRAGMA query_only = OFF")  # a pooled connection may have been left read-only
    with _over(driver, _begin_immediate) as connection:
        try:
            yield connection
        except Exception:
            if isinstance(driver, FileConnection) and driver.spoiled:
                driver.check_writable()  # raises the more exact error, if the file can only be read
            raise


def _begin_immediate(driver: sqlite3.Connection) -> None:
    """BEGIN IMMEDIATE as soon as the holder of the write lock gives it up.

    SQLite's lock has no queue: whoever waits tries again after a sleep that grows to 0.1 s, and a writer that begins
    again as soon as it ends would always be first. So the writers of this process wait meanwhile (``Changes``), and
    against writers of other processes we try far more often than SQLite would.
    """
    driver.execute("PRAGMA busy_timeout = 0")
    gives_up = time.monotonic() + deadline.left(BUSY_TIMEOUT_S)
    try:
        with changes.first(getattr(driver, "path", "")):
            while not _begun(driver, gives_up):
                time.sleep(LOOKS_AGAIN_S)
    finally:
        driver.execute(f"PRAGMA busy_timeout = {round(BUSY_TIMEOUT_S * 1000)}")


def _begun(driver: sqlite3.Connection, gives_up: float) -> bool:
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > gives_up:
            raise
        return False
    return True


@contextmanager
def reading(driver: sqlite3.Connection) -> Iterator[sa.Connection]:
    """Yield a SQLAlchemy connection that reads one snapshot and cannot write; ``driver`` is closed at the end."""
    driver.execute("PRAGMA query_only = ON")
    with _over(driver, _begin) as connection:
        yield connection


def _begin(driver: sqlite3.Connection) -> None:
    driver.execute("BEGIN")


_lent: ContextVar[sqlite3.Connection] = ContextVar("lent")


@contextmanager
def _over(driver: sqlite3.Connection, begin: Callable[[sqlite3.Connection], None]) -> Iterator[sa.Connection]:
    given = _lent.set(driver)
    try:
        with _lending(begin).connect() as connection:
            yield connection
    finally:
        _lent.reset(given)


@cache
def _lending(begin: Callable[[sqlite3.Connection], None]) -> sa.Engine:
    """Return one engine that connects to what ``_lent`` holds; a new engine costs as much as the work done in it."""
    engine = make_engine(_lent.get, poolclass=sa.NullPool)

    event.listen(engine, "begin", lambda connection: begin(connection.connection.driver_connection))
    return engine
