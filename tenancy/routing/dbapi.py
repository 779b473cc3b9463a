"""Offer plain SQL on a tenant: DBAPI connections that hold a lease on the engine until they are closed.

As PEP 249 says, ``LeasedConnection`` begins a transaction with the first statement: a reading one for SELECT, a fenced
writing one for anything else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import READ, WRITE
from tenancy.errors import UnfencedError

log = logging.getLogger(__name__)

_SENDS = frozenset(("executescript", "callproc", "copy_from", "copy_to", "copy_expert"))
"""Methods of drivers' cursors that would send SQL without passing the fence."""

_READS = re.compile(r"\s*(SELECT|VALUES|EXPLAIN|SHOW)\b", re.IGNORECASE)


def only_reads(sql: str) -> bool:
    """Return whether a statement certainly changes nothing; all others must pass the fence."""
    return _READS.match(sql) is not None and " into " not in f" {sql.lower()} "


class LeasedConnection:
    """Behave as a DBAPI connection of one tenant; ``close()`` rolls back and ends the lease.

    Whatever fails, the lease ends exactly once. A connection that may still be in a transaction is discarded.
    """

    def __init__(self, engine: sa.Engine, release: Callable[[], None]) -> None:
        self._engine = engine
        self._release = [release]
        self._open: sa.Connection | None = None
        self._writing = False

    def cursor(self) -> LeasedCursor:
        return LeasedCursor(self)

    def execute(self, sql: str, params: Sequence[Any] = ()) -> LeasedCursor:
        """Run one statement on a new cursor, as sqlite3's connections do."""
        return self.cursor().execute(sql, params)

    def commit(self) -> None:
        self._end(sa.Connection.commit)

    def rollback(self) -> None:
        self._end(sa.Connection.rollback)

    def close(self) -> None:
        """Roll back and end the lease; calling it twice does no harm.

        A failed rollback is only logged: the connection is closed, which ends its transaction too.
        """
        try:
            release = self._release.pop()  # if two threads close it, one of them gets it
        except IndexError:
            return
        try:
            self._end(sa.Connection.rollback)
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("a tenant's connection could not be rolled back and was closed: %s", type(error).__name__)
        finally:
            release()

    def __enter__(self) -> LeasedConnection:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.close()

    def driver_cursor(self, sql: str) -> Any:
        """Begin the transaction that ``sql`` needs, and return a cursor of the driver in it."""
        if not self._release:
            raise sa.exc.InvalidRequestError("this connection is closed.")
        write = not only_reads(sql)
        if self._open is not None and write and not self._writing:
            self.commit()  # a reading transaction cannot become a writing one
        if self._open is None:
            self._begin(write)
        assert self._open is not None  # noqa: S101 - begun above
        return self._open.connection.cursor()

    @contextmanager
    def rolled_back_if_refused(self) -> Iterator[None]:
        """Roll back the transaction that was begun for a statement which is then refused before it is sent."""
        idle = self._open is None
        try:
            yield
        except UnfencedError:
            if idle:
                self.rollback()
            raise

    def _begin(self, write: bool) -> None:
        """Open a transaction; if the fence refuses it, discard the connection, which could be written to otherwise."""
        opened = self._engine.connect().execution_options(**(WRITE if write else READ))
        try:
            opened.begin()
        except BaseException:
            _discard(opened)
            raise
        self._open, self._writing = opened, write

    def _end(self, how: Callable[[sa.Connection], None]) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        try:
            how(opened)
            opened.close()
        except BaseException:
            _discard(opened)
            raise


def _discard(opened: sa.Connection) -> None:
    """Close a connection instead of returning it to the pool: its transaction's state is unknown."""
    if not opened.closed:
        opened.invalidate()
        opened.close()


class LeasedCursor:
    """Behave as a DBAPI cursor; statements use the driver's own placeholders."""

    def __init__(self, connection: LeasedConnection) -> None:
        self.connection = connection
        self._cursor: Any = None

    def execute(self, sql: str, params: Sequence[Any] = ()) -> LeasedCursor:
        with self.connection.rolled_back_if_refused():
            self._cursor = self.connection.driver_cursor(sql)
            self._cursor.execute(sql, params)
        return self

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> LeasedCursor:
        with self.connection.rolled_back_if_refused():
            self._cursor = self.connection.driver_cursor(sql)
            self._cursor.executemany(sql, rows)
        return self

    def close(self) -> None:
        if self._cursor is not None:
            self._cursor.close()

    def __getattr__(self, name: str) -> Any:
        """Delegate fetchone, fetchall, rowcount, description and the like to the driver's cursor."""
        if name in _SENDS:
            raise UnfencedError(f"{name}() would be sent past the fence: use execute() or executemany().")
        if self._cursor is None:
            raise AttributeError(name)
        return getattr(self._cursor, name)

    def __iter__(self) -> Any:
        return iter(self._cursor)
