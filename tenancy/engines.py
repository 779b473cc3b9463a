"""Keep one engine per tenant, lease it, guard it, and stay within the process's limits.

Every connection is checked against the identity row when it opens, every transaction that does not say it
only reads passes the fence when it begins. So whoever gets an engine, by whichever way, is guarded.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from tenancy.backends.base import IDENTITY_SQL, WHOSE_SQL, Backend
from tenancy.errors import (
    DatabaseBusyError,
    DatabaseUnreachableError,
    IdentityError,
    RevisionMismatchError,
    StaleRouteError,
    TenancyError,
)
from tenancy.forks import after_fork
from tenancy.models import WRITABLE, Placement

IDLE_S = 30.0
_DESCRIPTORS_A_CONNECTION = 4
_DESCRIPTORS_KEPT = 128


def connection_limit() -> int:
    """Derive how many connections this process may open from its limit on open files."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(8, min(4096, (soft - _DESCRIPTORS_KEPT) // _DESCRIPTORS_A_CONNECTION))


class ConnectionBudget:
    """Bound open connections of all engines together; those who wait are served in order."""

    def __init__(self, limit: int, patience_s: float = 5.0) -> None:
        self.limit = limit
        self.open = 0
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._line: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """Count those in line: while there are any, a connection that comes free is closed, not kept."""
        return len(self._line)

    def take(self, make_room: Callable[[], None], may_wait: bool) -> None:
        """Take a place; make room, then wait for one, or raise DatabaseBusyError."""
        turn = threading.Event()
        with self._lock:
            if self.open < self.limit:
                self.open += 1
                return
            self._line.append(turn)
        make_room()  # once in line: what comes free from here on is ours when our turn comes
        if turn.wait(self._patience_s if may_wait else 0):
            return
        with self._lock:
            if turn.is_set():
                return
            self._line.remove(turn)
        raise DatabaseBusyError("all database connections of this process are in use: try again.")

    def give_back(self) -> None:
        """Free a place, or pass it on to the first in line."""
        with self._lock:
            if self._line:
                self._line.popleft().set()
            else:
                self.open -= 1


class Entry:
    __slots__ = ("connected", "engine", "leases", "placement", "retired", "used_at")

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.engine: sa.Engine
        self.leases = 0
        self.retired = False
        self.connected = False
        self.used_at = 0.0


class EngineCache:
    """Lease engines by tenant and configuration version.

    An engine in use is never closed; idle ones go least recently used first once there are more than
    ``size``; one that has been idle for IDLE_S keeps its place and gives back its connections.
    """

    def __init__(
        self,
        size: int,
        open_secret: Callable[[Placement], str | None],
        backend_of: Callable[[str], Backend],
        head: Callable[[], str],
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = size
        self.budget = ConnectionBudget(limit or connection_limit())
        self.evicted = 0
        self._open_secret = open_secret
        self._backend_of = backend_of
        self._head = head
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[uuid.UUID, Entry] = OrderedDict()
        self._held = threading.local()
        self._left_to_parent: list[sa.Pool] = []
        after_fork(self._forget)

    @contextmanager
    def lease(self, placement: Placement) -> Iterator[sa.Engine]:
        """Use a tenant's engine; it stays open until the block ends."""
        entry = self.acquire(placement)
        try:
            yield entry.engine
        finally:
            self.release(entry)

    def acquire(self, placement: Placement) -> Entry:
        """Begin a lease by hand; ``release`` must follow."""
        with self._lock:
            entry, out = self._current(placement)
            entry.leases += 1
            out += self._over_size()
        self._held.count = getattr(self._held, "count", 0) + 1
        _dispose(out)
        return entry

    def release(self, entry: Entry) -> None:
        self._held.count = getattr(self._held, "count", 1) - 1
        with self._lock:
            entry.leases -= 1
            entry.used_at = self._clock()
            over = (entry.retired and entry.leases == 0) or self.budget.waiting
            out = ([entry] if over else []) + self._over_size()
        _dispose(out)

    def retire(self, tenant_id: uuid.UUID) -> None:
        """Close a tenant's engine: at once when idle, else when its last lease ends."""
        with self._lock:
            entry = self._entries.pop(tenant_id, None)
            out = [entry] if entry is not None and self._retired(entry) else []
        _dispose(out)

    def sweep(self) -> None:
        """Give back the connections of engines that have been idle for IDLE_S."""
        self._close_idle(self._clock() - IDLE_S)

    def stats(self) -> dict[str, int]:
        with self._lock:
            leased = sum(1 for entry in self._entries.values() if entry.leases)
            return {
                "open": len(self._entries),
                "leased": leased,
                "evicted": self.evicted,
                "connections": self.budget.open,
            }

    def close(self) -> None:
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
            for entry in entries:
                entry.retired = True
        _dispose(entries)

    def _current(self, placement: Placement) -> tuple[Entry, list[Entry]]:
        """Give the tenant's entry, and the older one it replaced when that can be closed."""
        entry = self._entries.get(placement.tenant_id)
        if entry is not None and entry.placement.version == placement.version:
            self._entries.move_to_end(placement.tenant_id)
            return entry, []
        if entry is not None and entry.placement.version > placement.version:
            raise StaleRouteError(
                "the tenant's configuration changed meanwhile: try again.", tenant_id=placement.tenant_id
            )
        fresh = Entry(placement)
        fresh.engine = self._make(fresh)
        self._entries[placement.tenant_id] = fresh
        self._entries.move_to_end(placement.tenant_id)
        return fresh, [entry] if entry is not None and self._retired(entry) else []

    def _over_size(self) -> list[Entry]:
        """Take out the least recently used idle engines above the cap; where all are leased, it is exceeded."""
        if len(self._entries) <= self.size:
            return []
        surplus = len(self._entries) - self.size
        idle = (entry for entry in self._entries.values() if entry.leases == 0)
        out = [entry for entry, _ in zip(idle, range(surplus), strict=False)]
        for entry in out:
            del self._entries[entry.placement.tenant_id]
            entry.retired = True
        self.evicted += len(out)
        return out

    @staticmethod
    def _retired(entry: Entry) -> bool:
        """Mark an entry as out of use; say whether it can be closed now."""
        entry.retired = True
        return entry.leases == 0

    def _close_idle(self, before: float) -> None:
        with self._lock:
            idle = [e for e in self._entries.values() if e.leases == 0 and e.connected and e.used_at <= before]
            for entry in idle:
                entry.connected = False
        _dispose(idle)

    def _make_room(self) -> None:
        """Close every connection that lies unused in a pool."""
        with self._lock:
            entries = [entry for entry in self._entries.values() if entry.connected]
        _dispose(entries)

    def _make(self, entry: Entry) -> sa.Engine:
        tenant = entry.placement
        backend = self._backend_of(tenant.db_type)
        secret = self._open_secret(tenant)
        engine = backend.engine(lambda: self._connect(entry, backend, secret))
        event.listen(engine, "close", lambda *_: self.budget.give_back())
        event.listen(engine, "close_detached", lambda *_: self.budget.give_back())
        event.listen(engine, "checkin", lambda _, record: self._checked_in(entry, record))
        event.listen(engine, "begin", lambda connection: _begin(backend, tenant, connection))
        return engine

    def _connect(self, entry: Entry, backend: Backend, secret: str | None) -> Any:
        if entry.retired and entry.leases == 0:
            raise StaleRouteError("this engine was retired: ask the manager for the tenant's engine again.")
        self.budget.take(self._make_room, may_wait=getattr(self._held, "count", 0) <= 1)
        try:
            driver = backend.connect(entry.placement, secret)
            try:
                check_identity(backend, entry.placement, driver, self._head())
            except BaseException:
                driver.close()
                raise
        except BaseException:
            self.budget.give_back()
            raise
        entry.connected = True
        return driver

    def _checked_in(self, entry: Entry, record: Any) -> None:
        """Close a connection that comes back to a retired engine, or that somebody waits for; keep any other."""
        if entry.retired or self.budget.waiting:
            record.close()
        else:
            entry.connected = True

    def _forget(self) -> None:
        """Start empty in a forked child; the parent's connections are kept untouched, never used or closed here."""
        for entry in self._entries.values():
            entry.retired, entry.leases = True, 0  # whoever kept the engine is refused, as with any retired one
            self._left_to_parent.append(entry.engine.pool)
            entry.engine.dispose(close=False)
        self._entries = OrderedDict()
        self._lock = threading.Lock()
        self._held = threading.local()
        self.budget = ConnectionBudget(self.budget.limit)


def check_identity(backend: Backend, tenant: Placement, driver: Any, head: str | None) -> None:
    """Compare a fresh connection's database with what the catalog says stands there.

    Without ``head`` the revision is left aside: the caller is about to migrate, or to look.
    """
    cursor = driver.cursor()
    try:
        cursor.execute(IDENTITY_SQL if head is not None else WHOSE_SQL)
        rows = cursor.fetchall()
    except Exception as error:
        raise backend.explain(error) or IdentityError(
            "the database does not say whose it is: it was not made by this system.", tenant_id=tenant.tenant_id
        ) from error
    finally:
        cursor.close()
    if len(rows) != 1:
        raise IdentityError("the database's identity or version is missing.", tenant_id=tenant.tenant_id)
    tenant_id, user_id, kind, epoch, revision = rows[0]
    if (uuid.UUID(str(tenant_id)), user_id, kind) != (tenant.tenant_id, tenant.user_id, tenant.kind):
        raise IdentityError(
            f"the database configured for user {tenant.user_id} belongs to another tenant.", tenant_id=tenant.tenant_id
        )
    if epoch != tenant.epoch:
        raise StaleRouteError("the database was replaced or retired.", tenant_id=tenant.tenant_id)
    if head is not None and revision != head:
        raise revision_mismatch(tenant, revision, head)


def revision_mismatch(tenant: Placement, revision: str | None, head: str) -> RevisionMismatchError:
    """Say that a tenant and the code are not at the same revision, and what to do."""
    whose = "the shared database" if tenant.user_id is None else f"the database of user {tenant.user_id}"
    cure = "unify db create-config-table" if tenant.user_id is None else f"unify db init {tenant.user_id}"
    return RevisionMismatchError(
        f"{whose} is at revision {revision}, the application needs {head}: run `{cure}`, "
        "or start the version of the application that made it.",
        tenant_id=tenant.tenant_id,
        revision=revision,
        head_revision=head,
    )


def _begin(backend: Backend, tenant: Placement, connection: sa.Connection) -> None:
    """Begin a transaction; unless it says that it only reads, it must pass the fence."""
    write = connection.get_execution_options().get("tenancy_write", True)
    try:
        backend.begin(connection, write)
        if write:
            _pass_fence(backend, tenant, connection)
    except TenancyError:
        connection.connection.rollback()
        raise
    except Exception as error:
        raise backend.explain(error) or DatabaseUnreachableError("the database cannot be reached.") from error


def _pass_fence(backend: Backend, tenant: Placement, connection: sa.Connection) -> None:
    cursor = connection.connection.cursor()
    try:
        cursor.execute(backend.fence_sql)
        row = cursor.fetchone()
    finally:
        cursor.close()
    if row is None or row[0] != tenant.epoch or row[1] not in WRITABLE:
        raise StaleRouteError(
            "the tenant was moved, retired or stopped meanwhile: nothing was written.", tenant_id=tenant.tenant_id
        )


@contextmanager
def explained(backend: Backend) -> Iterator[None]:
    """Turn a driver's error about the database's health into ours; other errors pass."""
    try:
        yield
    except DBAPIError as error:
        ours = backend.explain(error)
        if ours is None:
            raise
        raise ours from error


def _dispose(entries: list[Entry]) -> None:
    """Close what lies unused in the pools. The pools stay: what is in use comes back to them and is counted."""
    for entry in entries:
        entry.engine.pool.dispose()
