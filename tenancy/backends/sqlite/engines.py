"""Make SQLAlchemy engines over SQLite connections: engines that share compiled SQL, and those that are lent one."""

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
from sqlalchemy.util import LRUCache

from tenancy import deadline
from tenancy.backends.gates import commit
from tenancy.backends.sqlite.driver import FileConnection, changes, check_file
from tenancy.backends.sqlite.files import BUSY_TIMEOUT_S
from tenancy.backends.tenant_engine import TenantEngine, TenantPool

LOOKS_AGAIN_S = 0.00005
"""How soon a schema change looks again whether the file is free: SQLite itself looks after up to 0.1 s."""


class SharedSQLiteDialect(SQLiteDialect_pysqlite):
    """Compare equal to its like, so that engines find each other's compiled SQL in the shared cache.

    SQLAlchemy's cache keys hold the dialect object; two of these compile every statement alike.
    """

    supports_statement_cache = True

    def set_isolation_level(self, dbapi_connection: Any, level: Any) -> None:
        """Leave the driver as it is: transactions are begun by ours in every level, AUTOCOMMIT begins none."""

    def do_commit(self, dbapi_connection: Any) -> None:
        commit(dbapi_connection)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedSQLiteDialect)

    def __hash__(self) -> int:
        return hash(SharedSQLiteDialect)


class FilePool(TenantPool):
    """Look at a tenant's file before each use of a connection to it."""


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
    """Make the engine of one tenant: what ``make_engine`` gives, in a tenth of the time and a third of the memory."""
    dialect = _ready_dialect()()
    pool = FilePool(creator, dialect=dialect)
    return TenantEngine(
        pool,
        dialect,
        _URL,
        query_cache_size=0,
        execution_options={"compiled_cache": _compiled},
        hide_parameters=True,
    )


@cache
def _ready_dialect() -> type[SharedSQLiteDialect]:
    """Give a dialect class that knows already what a dialect asks its first connection: every file answers it alike.

    Each engine has a dialect of its own, for whoever listens to that one engine, but it holds nothing else.
    """
    engine = make_engine(lambda: sqlite3.connect(":memory:"), poolclass=sa.StaticPool)
    with engine.connect():
        learned = {name: value for name, value in vars(engine.dialect).items() if name != "dispatch"}
    engine.dispose()
    body = {"__init__": lambda self: None, "_type_memos": engine.dialect._type_memos, **learned}
    return type("ReadySQLiteDialect", (SharedSQLiteDialect,), {"supports_statement_cache": True, **body})


@event.listens_for(FilePool, "connect")
def _add_functions(driver: Any, record: Any) -> None:
    """Give a connection the functions that SQLAlchemy gives each of its own: ``regexp`` and ``floor``."""
    _functions()(driver)


@cache
def _functions() -> Callable[[Any], None]:
    return _ready_dialect()().on_connect()


@contextmanager
def schema_changes(driver: sqlite3.Connection) -> Iterator[sa.Connection]:
    """Give a connection for schema changes: foreign keys off before BEGIN, transactions that cover DDL.

    The driver's connection is closed in the end.
    """
    driver.execute("PRAGMA foreign_keys = OFF")
    driver.execute("PRAGMA query_only = OFF")  # a pooled connection may come from a unit of work that only read
    with _over(driver, _begin_immediate) as connection:
        try:
            yield connection
        except Exception:
            if isinstance(driver, FileConnection) and driver.spoiled:
                driver.check_writable()  # says which file, and whose it is, where it can only be read
            raise


def _begin_immediate(driver: sqlite3.Connection) -> None:
    """Take the write lock as soon as its holder gives it up.

    SQLite gives the lock to nobody in turn: each who waits looks again after a sleep that grows to 0.1 s, and a writer
    that begins anew as it ends would always find the file free. So the writers of this process wait meanwhile
    (``Changes``), and those of others meet somebody who looks far more often.
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
    """Give a connection that sees one state of the database, and cannot write; the driver's is closed in the end."""
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
    """Give the one engine over what is lent to it: a new one for each database would cost as much as the work there."""
    engine = make_engine(_lent.get, poolclass=sa.NullPool)

    event.listen(engine, "begin", lambda connection: begin(connection.connection.driver_connection))
    return engine
