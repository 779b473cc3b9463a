"""Gather who was seen and which tenants were used, and write it seldom, off the request, with what was observed.

One background thread a process does this and gives back idle connections; it starts with the first
request, so that it runs in the workers and not in the process they were forked from.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from tenancy.catalog import Catalog, api_keys, configs, sessions, throttle
from tenancy.catalog import users as user_rows
from tenancy.errors import TenancyError
from tenancy.forks import after_fork
from tenancy.models import Placement, Principal
from tenancy.observations import Observations

log = logging.getLogger(__name__)

FLUSH_S = 300
_TICK_S = 10


class Activity:
    """Remember sightings in memory; ``flush`` writes them, off the request."""

    _users: dict[int, datetime]
    _sessions: dict[str, datetime]
    _keys: dict[uuid.UUID, datetime]
    _tenants: dict[uuid.UUID, tuple[Placement, datetime]]
    _thread: threading.Thread | None

    def __init__(self, catalog: Catalog, sweep: Callable[[], None], observations: Observations | None = None) -> None:
        self._catalog = catalog
        self._sweep = sweep
        self._observations = observations
        self._reset()
        after_fork(self._reset)

    def seen(self, principal: Principal) -> None:
        """Note a request: three dictionary writes, nothing else."""
        moment = datetime.now(UTC)
        self._users[principal.user.id] = moment
        if principal.session_hash is not None:
            self._sessions[principal.session_hash] = moment
        if principal.key_id is not None:
            self._keys[principal.key_id] = moment
        if principal.placement is not None:
            self._tenants[principal.placement.tenant_id] = (principal.placement, moment)
        if self._thread is None:
            self._start()

    def flush(self) -> None:
        """Write what was gathered, and clear away what has expired."""
        users, self._users = self._users, {}
        seen, self._sessions = self._sessions, {}
        keys, self._keys = self._keys, {}
        tenants, self._tenants = self._tenants, {}
        if users:
            self._write(users, seen, keys, {tenant: moment for tenant, (_, moment) in tenants.items()})
        if self._observations is not None:
            self._observations.flush(placement for placement, _ in tenants.values())

    def close(self) -> None:
        """Stop the thread and write what is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()

    def _write(
        self,
        users: dict[int, datetime],
        seen: dict[str, datetime],
        keys: dict[uuid.UUID, datetime],
        tenants: dict[uuid.UUID, datetime],
    ) -> None:
        with self._catalog.writing() as connection:
            user_rows.touch(connection, users)
            if seen:
                sessions.touch(connection, seen)
            if keys:
                api_keys.touch(connection, keys)
            if tenants:
                configs.touch(connection, tenants)
        # Each on its own: a server locks the ranges that these search, and sign-ins write there.
        for purge in (sessions.purge, throttle.purge):
            with self._catalog.writing() as connection:
                purge(connection)

    def _reset(self) -> None:
        self._users = {}
        self._sessions = {}
        self._keys = {}
        self._tenants = {}
        self._thread = None
        self._starting = threading.Lock()
        self._stop = threading.Event()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="unify-housekeeping", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        ticks = 0
        while not self._stop.wait(_TICK_S):
            ticks += 1
            self._sweep()
            if ticks % (FLUSH_S // _TICK_S) == 0:
                try:
                    self.flush()
                except TenancyError as error:
                    log.warning("sightings could not be written: %s", error.message)
