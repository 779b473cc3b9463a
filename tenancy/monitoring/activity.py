"""Collect who was seen and which tenants were used in memory, and write it every few minutes, outside of requests.

One background thread in each process does this. It also closes idle connections and completes interrupted operations
(``lifecycle/reconcile.py``). Requests start the thread, so it runs in the workers and not in the process they were
forked from, and is started again if it dies.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from tenancy.catalog import Catalog, login_failures, sessions, touch
from tenancy.catalog.tables import (
    api_keys,
    sessions as session_rows,
    shared_database,
    user_database_configs,
    users as accounts,
)
from tenancy.errors import TenancyError
from tenancy.forks import after_fork
from tenancy.models import Principal, Tenant
from tenancy.monitoring.observations import Observations
from tenancy.upkeep import Upkeep

log = logging.getLogger(__name__)

FLUSH_S = 300
SETTLE_S = 60
_TICK_S = 10


class Activity:
    """Collect sightings in memory; ``flush`` writes them."""

    _users: dict[int, datetime]
    _sessions: dict[str, datetime]
    _keys: dict[uuid.UUID, datetime]
    _tenants: dict[uuid.UUID, tuple[Tenant, datetime]]

    def __init__(
        self,
        catalog: Catalog,
        sweep: Callable[[], None],
        observations: Observations | None = None,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self._catalog = catalog
        self._sweep = sweep
        self._observations = observations
        self._settle = settle
        self._reset()
        after_fork(self._reset)

    def seen(self, principal: Principal) -> None:
        """Record a request, which is only a few dictionary writes."""
        moment = datetime.now(UTC)
        self._users[principal.user.id] = moment
        if principal.session_hash is not None:
            self._sessions[principal.session_hash] = moment
        if principal.key_id is not None:
            self._keys[principal.key_id] = moment
        if principal.tenant is not None:
            self._tenants[principal.tenant.tenant_id] = (principal.tenant, moment)
        self.upkeep.ensure()

    def flush(self) -> None:
        """Write what was collected, and delete what has expired."""
        users, self._users = self._users, {}
        seen, self._sessions = self._sessions, {}
        keys, self._keys = self._keys, {}
        tenants, self._tenants = self._tenants, {}
        if users:
            self._write(users, seen, keys, {tenant: moment for tenant, (_, moment) in tenants.items()})
        if self._observations is not None:
            self._observations.flush(tenant for tenant, _ in tenants.values())

    def close(self) -> None:
        """Stop the thread and write what was collected; a catalog that takes no writes does not stop the closing."""
        self.upkeep.stop()
        try:
            self.flush()
        except TenancyError as error:
            log.warning("sightings could not be written at the end: %s", error.message)

    def _write(
        self,
        users: dict[int, datetime],
        seen: dict[str, datetime],
        keys: dict[uuid.UUID, datetime],
        tenants: dict[uuid.UUID, datetime],
    ) -> None:
        with self._catalog.writing() as connection:
            touch(connection, accounts.c.id, accounts.c.last_seen_at, users)
            touch(connection, session_rows.c.token_hash, session_rows.c.last_seen_at, seen)
            touch(connection, api_keys.c.id, api_keys.c.last_used_at, keys)
            for table in (user_database_configs, shared_database):
                touch(connection, table.c.tenant_id, table.c.last_used_at, tenants)
        # In separate transactions: each DELETE locks index ranges (gap locks) into which sign-ins insert.
        for purge in (sessions.purge, login_failures.purge):
            with self._catalog.writing() as connection:
                purge(connection)

    def _reset(self) -> None:
        self._users = {}
        self._sessions = {}
        self._keys = {}
        self._tenants = {}
        self.failures = 0
        """How many pieces of housekeeping have failed since the start."""
        self.upkeep = Upkeep("unify-housekeeping", self._run)

    def _run(self) -> None:
        ticks, upkeep = 0, self.upkeep
        while not upkeep.stopped.wait(_TICK_S):
            ticks += 1
            self._attempt("idle connections could not be given back", self._sweep)
            if ticks % (SETTLE_S // _TICK_S) == 0:
                self._attempt("databases could not be settled", self._settle)
            if ticks % (FLUSH_S // _TICK_S) == 0:
                self._attempt("sightings could not be written", self.flush)

    def _attempt(self, failed: str, work: Callable[[], object]) -> None:
        """Do one piece of the housekeeping; log its error, so that the next ones are done."""
        try:
            work()
        except TenancyError as error:
            self.failures += 1
            log.warning("%s: %s", failed, error.message)
        except Exception:  # logged with its traceback; the thread must go on
            self.failures += 1
            log.exception("%s", failed)
