"""Make engines that weigh little: one class of engine and one of pool, listened to once for all tenants.

An engine of SQLAlchemy's own with QueuePool costs each tenant a queue with its locks, and a collection for every event
that is listened to: half of its memory and most of the time that making it takes. Here what happens to an engine is
told to whoever tends it, by methods.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from tenancy.backends.gates import TWO_PHASES, Gated
from tenancy.errors import UnfencedError

KEPT = 2
"""A thread uses one connection of a tenant, and few tenants are used by more than two threads at once."""


class Tended(Protocol):
    """Hear what happens to one engine."""

    def begin(self, connection: sa.Connection) -> None:
        """Begin a transaction, or refuse it."""

    def may_keep(self) -> bool:
        """Say whether a connection that comes back is kept."""

    def closed(self) -> None:
        """Count a connection that is closed now."""


class TenantPool(Pool):
    """Keep up to KEPT connections, the last one used first; open as many as are asked for at once.

    One that comes back in a transaction, or spoiled, is closed.

    How many there may be in all is not a pool's business but the budget's, which the creator asks.
    """

    def __init__(self, creator: Callable[[], Any], tended: Tended | None = None, **kw: Any) -> None:
        super().__init__(creator, **kw)
        self.tended = tended
        self._kept: list[ConnectionPoolEntry] = []

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
                self._invalidate_time = time.time()  # those in use now are opened anew before their next use
                self.dispose()
            record.close()
            return
        if len(self._kept) >= KEPT or not self._may_keep():
            record.close()
            return
        self._kept.append(record)
        if not self._may_keep():  # retired, or asked to make room, between the question and the answer
            self.dispose()

    def _may_keep(self) -> bool:
        return self.tended is None or self.tended.may_keep()

    def _close_connection(self, connection: Any, *, terminate: bool = False) -> None:
        """Count it after it is closed; the pool's own event comes before."""
        try:
            super()._close_connection(connection, terminate=terminate)
        finally:
            if self.tended is not None:
                self.tended.closed()

    def dispose(self) -> None:
        while self._kept:
            try:
                record = self._kept.pop()
            except IndexError:  # another thread took the last one
                return
            record.close()

    def recreate(self) -> TenantPool:
        return type(self)(
            self._creator,  # type: ignore[arg-type]  # the creator that was given
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
    """Be an ordinary engine over a ``TenantPool``; whoever tends it begins its transactions."""


def tend(engine: sa.Engine, tended: Tended) -> None:
    """Have an engine tended; one of another kind would pass every guard by."""
    if not isinstance(engine, TenantEngine) or not isinstance(engine.pool, TenantPool):
        raise TypeError("a backend must make engines of TenantEngine over TenantPool: others cannot be guarded.")
    engine.pool.tended = tended


@event.listens_for(TenantEngine, "begin")
def _begin(connection: sa.Connection) -> None:
    pool = connection.engine.pool  # also that of an engine's engine.execution_options(...)
    if isinstance(pool, TenantPool) and pool.tended is not None:
        pool.tended.begin(connection)


@event.listens_for(TenantEngine, "begin_twophase")
def _begin_twophase(connection: sa.Connection, xid: Any) -> None:
    raise UnfencedError(TWO_PHASES)
