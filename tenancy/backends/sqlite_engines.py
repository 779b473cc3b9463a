"""Make SQLAlchemy engines over SQLite connections: engines that share compiled SQL, and one for schema changes."""

from __future__ import annotations

import sqlite3
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


@contextmanager
def schema_changes(driver: sqlite3.Connection) -> Iterator[sa.Connection]:
    """Give a connection for schema changes: foreign keys off before BEGIN, transactions that cover DDL.

    The driver's connection is closed in the end.
    """
    driver.execute("PRAGMA foreign_keys = OFF")
    driver.execute("PRAGMA query_only = OFF")  # a pooled connection may come from a unit of work that only read
    given = _to_change.set(driver)
    try:
        with _changing().connect() as connection:
            yield connection
    finally:
        _to_change.reset(given)


_to_change: ContextVar[sqlite3.Connection] = ContextVar("to_change")


@cache
def _changing() -> sa.Engine:
    """Give the one engine through which all schemas change: a new one for each would cost as much as the change."""
    engine = make_engine(_to_change.get, poolclass=sa.NullPool)
    event.listen(engine, "begin", _begin_at_once)
    return engine


def _begin_at_once(connection: sa.Connection) -> None:
    connection.connection.driver_connection.execute("BEGIN IMMEDIATE")  # type: ignore[union-attr]  # it is open
