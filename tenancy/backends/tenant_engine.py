"""Make engines that cost little memory: one engine class and one pool class, whose events serve all tenants.

An ordinary engine with QueuePool has a queue with locks, and a collection for each event that is listened to. Those are
half of its memory and most of the time it takes to make it. Here listeners are registered once, on the classes, and
call the methods of the engine's ``Tended``.

This file uses private parts of SQLAlchemy (the methods that a Pool implements, and the constructor of Engine). The
figures P2 (first use of a tenant) and P8 (memory of an idle tenant) depend on it; tests/house/test_private_parts.py
says so when a new version lacks one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Dialect
from sqlalchemy.event.registry import EventTarget
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from tenancy.backends.gates import TWO_PHASES, Gated
from tenancy.errors import UnfencedError

KEPT = 2
"""How many idle connections a pool keeps: few tenants are used by more than two threads at once."""


class Tended(Protocol):
    """What a ``TenantEngine`` calls when something happens to it; ``routing/engines.py`` implements it."""

    def begin(self, connection: sa.Connection) -> None:
        """Begin a transaction on a connection, or raise."""

    def may_keep(self) -> bool:
        """Say whether the pool may keep a connection that was given back."""

    def closed(self) -> None:
        """Called after a connection was closed."""


class TenantPool(Pool):
    """Keep up to KEPT idle connections, and lend the last one used first; there is no limit on open connections.

    The limit is that of the process (``routing/connection_limits.py``), which the creator asks. A connection that comes
    back inside a transaction, or spoiled, is closed.
    """

    def __init__(self, creator: Callable[[], Any], tended: Tended | None = None, **kw: Any) -> None:
        super().__init__(creator, **kw)
        self.tended = tended
        self._kept: list[ConnectionPoolEntry] = []

    def like(self, creator: Callable[[], Any], dialect: Dialect) -> Self:
        """Make an empty pool with the settings of this one."""
        made = _copied(self)
        vars(made).update(
            tended=None,
            _kept=[],
            _dialect=dialect,
            _creator_arg=creator,
            _invoke_creator=lambda record: creator(),
        )
        return made

    def _do_get(self) -> ConnectionPoolEntry:
        try:
            return self._kept.pop()
        except IndexError:
            return self._create_connection()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        driver: Any = record.dbapi_connection
        if isinstance(driver, Gated):
            driver.tidy()
        if isinstance(driver, Gated) and not driver.usable():
            if driver.spoiled:
                self._invalidate_time = (
                    time.time()
                )  # private: connections in use now are reopened before their next use
                self.dispose()
            record.close()
            return
        if len(self._kept) >= KEPT or not self._may_keep():
            record.close()
            return
        self._kept.append(record)
        if not self._may_keep():  # asked again: the engine may have been retired since the first answer
            self.dispose()

    def _may_keep(self) -> bool:
        return self.tended is None or self.tended.may_keep()

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        """Close a connection, then count it; SQLAlchemy's event ``close`` comes before the closing."""
        try:
            super()._close_connection(connection, terminate=terminate)
        finally:
            if self.tended is not None:
                self.tended.closed()

    def dispose(self) -> None:
        while self._kept:
            try:
                record = self._kept.pop()
            except IndexError:  # another thread took the last connection
                return
            record.close()

    def recreate(self) -> TenantPool:
        return type(self)(
            self._creator,  # type: ignore[arg-type]  # the creator that __init__ was given
            self.tended,
            recycle=self._recycle,
            echo=self.echo,
            logging_name=self._orig_logging_name,
            reset_on_return=self._reset_on_return,
            pre_ping=self._pre_ping,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def status(self) -> str:
        return f"Connections in pool: {len(self._kept)}"


class TenantEngine(sa.Engine):
    """An ordinary engine over a ``TenantPool``; its ``Tended`` begins the transactions."""

    def like(self, creator: Callable[[], Any], dialect: Dialect) -> Self:
        """Make an engine with the settings of this one, over a pool of its own."""
        pool: Any = self.pool  # a TenantPool
        made = _copied(self)
        vars(made).update(pool=pool.like(creator, dialect), dialect=dialect)
        return made


_Made = TypeVar("_Made", bound=EventTarget)


def _copied(pattern: _Made) -> _Made:
    """Copy an engine's or a pool's attributes, but not who listens to it: to make one anew takes ten times as long.

    A tenant's first touch (P2) and an idle tenant's memory (P8) depend on it.
    """
    made = object.__new__(type(pattern))
    vars(made).update(vars(pattern))
    vars(made).pop("dispatch", None)
    return made


def tend(engine: sa.Engine, tended: Tended) -> None:
    """Connect an engine with its ``Tended``; TypeError for another kind of engine, as no guard would see it."""
    if not isinstance(engine, TenantEngine) or not isinstance(engine.pool, TenantPool):
        raise TypeError("a backend must make engines of TenantEngine over TenantPool: others cannot be guarded.")
    engine.pool.tended = tended


@event.listens_for(TenantEngine, "begin")
def _begin(connection: sa.Connection) -> None:
    pool = connection.engine.pool  # the same pool for an engine made by engine.execution_options(...)
    if isinstance(pool, TenantPool) and pool.tended is not None:
        pool.tended.begin(connection)


@event.listens_for(TenantEngine, "begin_twophase")
def _begin_twophase(connection: sa.Connection, xid: Any) -> None:
    raise UnfencedError(TWO_PHASES)
