"""Cache one engine per tenant, lease it, and stay within the process's limits (``connection_limits.py``).

Every new connection is checked against the identity row. Every transaction passes the write fence when it begins,
unless it is marked as reading only (``guards.py``). Both are part of the engine, so all its users are guarded.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from tenancy.backends.access import Access
from tenancy.backends.base import Backend
from tenancy.backends.tenant_engine import tend
from tenancy.errors import StaleRouteError
from tenancy.forks import after_fork
from tenancy.models import Tenant
from tenancy.routing import guards
from tenancy.routing.connection_limits import Budgets, ConnectionBudget, connection_limit, give_back, take, waited_for

IDLE_S = 30.0


class Entry:
    """Hold a tenant's engine, guard its transactions and count its connections."""

    __slots__ = ("backend", "budgets", "connected", "engine", "leases", "retired", "tenant", "used_at")

    def __init__(self, tenant: Tenant, backend: Backend, budgets: list[ConnectionBudget]) -> None:
        self.tenant = tenant
        self.backend = backend
        self.budgets = budgets
        self.engine: sa.Engine
        self.leases = 0
        self.retired = False
        self.connected = False
        self.used_at = 0.0

    def begin(self, connection: sa.Connection) -> None:
        guards.begin(self.backend, self.tenant, connection)

    def may_keep(self) -> bool:
        """Return whether the pool keeps a returned connection: not if the engine is retired or others wait."""
        if self.retired or waited_for(self.budgets):
            return False
        self.connected = True
        return True

    def closed(self) -> None:
        give_back(self.budgets)


class Holder:
    """Count the leases of one thread; a thread that holds one never waits for a second (deadlock)."""

    __slots__ = ("leases",)

    def __init__(self) -> None:
        self.leases = 0


class _ThisThread(threading.local):
    def __init__(self) -> None:
        self.holder = Holder()


class EngineCache:
    """Lease engines by tenant and configuration version.

    An engine in use is never closed. Beyond ``size`` engines the least recently used idle ones are evicted. An engine
    that was idle for IDLE_S stays in the cache but closes its connections.
    """

    def __init__(
        self,
        size: int,
        serving: Callable[[Tenant], Access],
        backend_of: Callable[[str], Backend],
        head: Callable[[], str],
        limit: int | None = None,
        server_limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = size
        self.budgets = Budgets(limit or connection_limit(), server_limit)
        self.evicted = 0
        self._serving = serving
        self._backend_of = backend_of
        self._head = head
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[uuid.UUID, Entry] = OrderedDict()
        self._held = _ThisThread()
        self._left_to_parent: list[sa.Pool] = []
        after_fork(self._forget)

    @property
    def budget(self) -> ConnectionBudget:
        """The budget of all connections of this process."""
        return self.budgets.process

    @contextmanager
    def leased(self, entry: Entry) -> Iterator[Entry]:
        """End the lease of an acquired entry when the block ends."""
        try:
            yield entry
        finally:
            self.release(entry)

    def acquire(self, tenant: Tenant) -> Entry:
        """Begin a lease; ``release`` must follow."""
        holder = self.holder()
        with self._lock:
            entry, out = self._current(tenant)
            entry.leases += 1
            holder.leases += 1
            out += self._over_size()
        _dispose(out)
        return entry

    def holder(self) -> Holder:
        """Return this thread's count of leases."""
        return self._held.holder

    def release(self, entry: Entry, holder: Holder | None = None) -> None:
        """End a lease; if another thread may have begun it, ``holder`` is that thread's."""
        holder = holder or self.holder()
        with self._lock:
            entry.leases -= 1
            holder.leases -= 1
            entry.used_at = self._clock()
            over = (entry.retired and entry.leases == 0) or waited_for(entry.budgets)
            out = ([entry] if over else []) + self._over_size()
        _dispose(out)

    def retire(self, tenant_id: uuid.UUID) -> None:
        """Close a tenant's engine: at once if it is idle, else when its last lease ends."""
        with self._lock:
            entry = self._entries.pop(tenant_id, None)
            out = [entry] if entry is not None and self._retired(entry) else []
        _dispose(out)

    def sweep(self) -> None:
        """Close the connections of engines that have been idle for IDLE_S."""
        self._close_idle(self._clock() - IDLE_S)

    def stats(self) -> dict[str, int]:
        with self._lock:
            leased = sum(1 for entry in self._entries.values() if entry.leases)
            return {
                "open": len(self._entries),
                "leased": leased,
                "evicted": self.evicted,
                "connections": self.budgets.process.open,
            }

    def close(self) -> None:
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
            for entry in entries:
                entry.retired = True
        _dispose(entries)

    def _current(self, tenant: Tenant) -> tuple[Entry, list[Entry]]:
        """Return the tenant's entry, and the older one that it replaced if that can be closed."""
        entry = self._entries.get(tenant.tenant_id)
        if entry is not None and entry.tenant.version == tenant.version:
            self._entries.move_to_end(tenant.tenant_id)
            return entry, []
        if entry is not None and entry.tenant.version > tenant.version:
            raise StaleRouteError(
                "the tenant's configuration changed meanwhile: try again.", tenant_id=tenant.tenant_id
            )
        fresh = self._make(tenant)
        self._entries[tenant.tenant_id] = fresh
        self._entries.move_to_end(tenant.tenant_id)
        return fresh, [entry] if entry is not None and self._retired(entry) else []

    def _over_size(self) -> list[Entry]:
        """Remove the least recently used idle engines beyond ``size``, which leased engines may exceed."""
        if len(self._entries) <= self.size:
            return []
        surplus = len(self._entries) - self.size
        idle = (entry for entry in self._entries.values() if entry.leases == 0)
        out = [entry for entry, _ in zip(idle, range(surplus), strict=False)]
        for entry in out:
            del self._entries[entry.tenant.tenant_id]
            entry.retired = True
        self.evicted += len(out)
        return out

    @staticmethod
    def _retired(entry: Entry) -> bool:
        """Mark an entry as retired; return whether it can be closed now."""
        entry.retired = True
        return entry.leases == 0

    def _close_idle(self, before: float) -> None:
        with self._lock:
            idle = [e for e in self._entries.values() if e.leases == 0 and e.connected and e.used_at <= before]
            for entry in idle:
                entry.connected = False
        _dispose(idle)

    def _make_room(self, budget: ConnectionBudget) -> None:
        """Close pooled connections, least recently used first, until nobody waits for this budget any more."""
        with self._lock:
            entries = [entry for entry in self._entries.values() if entry.connected and budget in entry.budgets]
        for entry in entries:
            if not budget.waiting:
                return
            if entry.leases == 0:
                entry.connected = False
            _dispose([entry])

    def _make(self, tenant: Tenant) -> Entry:
        access = self._serving(tenant)  # first, so that a tampered password is found before a driver is loaded
        backend = self._backend_of(tenant.db_type)
        entry = Entry(tenant, backend, self.budgets.of(backend.budget_key(tenant)))
        entry.engine = backend.engine(lambda: self._connect(entry, access))
        tend(entry.engine, entry)
        return entry

    def _connect(self, entry: Entry, access: Access) -> Any:
        if entry.retired and entry.leases == 0:
            raise StaleRouteError("this engine was retired: ask the manager for the tenant's engine again.")
        take(entry.budgets, self._make_room, may_wait=self._held.holder.leases <= 1)
        try:
            driver = entry.backend.connect(entry.tenant, access)
            try:
                guards.check_identity(entry.backend, entry.tenant, driver, entry.tenant.revision or self._head())
                driver.rollback()
                driver = entry.backend.gated(driver)
            except BaseException:
                driver.close()
                raise
        except BaseException:
            give_back(entry.budgets)
            raise
        entry.connected = True
        return driver

    def _forget(self) -> None:
        """Start empty in a forked child; the parent's connections are kept, and never used or closed here."""
        for entry in self._entries.values():
            entry.retired, entry.leases = True, 0  # whoever still has the engine is refused, as with any retired one
            self._left_to_parent.append(entry.engine.pool)
            entry.engine.dispose(close=False)
        self._entries = OrderedDict()
        self._lock = threading.Lock()
        self._held = _ThisThread()
        self.budgets = Budgets(self.budgets.process.limit, self.budgets.server_limit)


def _dispose(entries: list[Entry]) -> None:
    """Close pooled connections. The pools stay, because connections in use return to them and must be counted."""
    for entry in entries:
        entry.engine.pool.dispose()
