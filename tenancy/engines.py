"""Keep one engine per tenant, lease it, and stay within the process's limits (``budget.py``).

Every connection is checked against the identity row when it opens, every transaction that does not say it only reads
passes the fence when it begins (``guards.py``). So whoever gets an engine, by whichever way, is guarded.
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
from sqlalchemy import event

from tenancy import guards
from tenancy.backends.base import Backend
from tenancy.budget import ConnectionBudget, connection_limit
from tenancy.errors import StaleRouteError
from tenancy.forks import after_fork
from tenancy.models import Placement

IDLE_S = 30.0


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
        event.listen(engine, "begin", lambda connection: guards.begin(backend, tenant, connection))
        return engine

    def _connect(self, entry: Entry, backend: Backend, secret: str | None) -> Any:
        if entry.retired and entry.leases == 0:
            raise StaleRouteError("this engine was retired: ask the manager for the tenant's engine again.")
        self.budget.take(self._make_room, may_wait=getattr(self._held, "count", 0) <= 1)
        try:
            driver = backend.connect(entry.placement, secret)
            try:
                guards.check_identity(backend, entry.placement, driver, self._head())
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


def _dispose(entries: list[Entry]) -> None:
    """Close what lies unused in the pools. The pools stay: what is in use comes back to them and is counted."""
    for entry in entries:
        entry.engine.pool.dispose()
