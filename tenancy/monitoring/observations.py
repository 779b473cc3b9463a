"""Collect errors of tenants' databases and measure their sizes, and write both outside of requests."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from functools import partial
from itertools import islice
from typing import TypeVar

import sqlalchemy as sa

from tenancy import context, deadline
from tenancy.backends import Backends
from tenancy.backends.access import NO_ACCESS, Access
from tenancy.catalog import Catalog, tenant_errors, tenant_sizes
from tenancy.catalog.tenant_errors import TenantErrorEntry
from tenancy.errors import (
    BackendError,
    CredentialError,
    DatabaseTimeoutError,
    DatabaseUnreachableError,
    IdentityError,
    MigrationError,
    ProvisionError,
    TenancyError,
)
from tenancy.forks import after_fork
from tenancy.models import Tenant

log = logging.getLogger(__name__)

TOLD = (BackendError, CredentialError, IdentityError, MigrationError, ProvisionError)
"""Errors that show a problem of a database; that it is busy, suspended or read-only is none."""

MOST_NOTES = 10_000
LONGEST = 1000
LARGEST = 2**63 - 1
MEASURING_S = 30.0
"""How long one round of measuring may take; a single silent database takes ``deadline.REQUEST_S`` at most."""

_AT_ONCE = 200

Item = TypeVar("Item")


class Observations:
    """Collect errors in memory until ``flush``; measure each used database once a day."""

    _gathered: dict[tuple[int, str], TenantErrorEntry]
    _day: date | None
    _measured: set[uuid.UUID]

    def __init__(
        self, catalog: Catalog, backends: Backends, access: Callable[[Tenant], Access] = lambda tenant: NO_ACCESS
    ) -> None:
        self._catalog = catalog
        self._backends = backends
        self._access = access
        self._reset()
        after_fork(self._reset)

    def note(self, owner: int, code: str, message: str, request_id: str | None) -> None:
        """Collect an error of a tenant; repetitions are counted."""
        moment = datetime.now(UTC)
        with self._lock:
            known = self._gathered.get((owner, code))
            if known is not None:
                known.count += 1
                known.last_at, known.message, known.request_id = moment, message[:LONGEST], request_id
            elif len(self._gathered) < MOST_NOTES:
                self._gathered[owner, code] = TenantErrorEntry(message[:LONGEST], moment, moment, request_id)

    def noticed(self, tenant: Tenant, error: BaseException) -> None:
        """Collect an error if it shows a problem of the tenant's database."""
        if isinstance(error, TOLD) and isinstance(error, TenancyError):
            self.note(tenant_sizes.owner_of(tenant), error.code, error.message, context.current().request_id)

    def flush(self, used: Iterable[Tenant] = ()) -> None:
        """Write collected errors, and today's sizes of the databases that were used."""
        with self._lock:
            gathered, self._gathered = self._gathered, {}
        for some in _chunks(gathered.items()):
            self._catalog.repeating(partial(tenant_errors.add, noted=dict(some)))
        if gathered:
            with self._catalog.writing() as connection:
                tenant_errors.purge(connection)
        self._measure(used)

    def _measure(self, used: Iterable[Tenant]) -> None:
        """Measure databases not measured today; no catalog transaction is open meanwhile, however long it takes.

        Databases on a silent server, or for which there is no time, are left to a later round.
        """
        day = tenant_sizes.today()
        if day != self._day:
            self._day, self._measured = day, set()
        ends, silent = time.monotonic() + MEASURING_S, set[str | None]()
        for some in _chunks(tenant for tenant in used if tenant.tenant_id not in self._measured):
            with self._catalog.reading() as connection:
                known = tenant_sizes.known(connection, {tenant_sizes.owner_of(tenant) for tenant in some}, day)
            measured: list[tuple[Tenant, int]] = []
            for tenant in some:
                if tenant_sizes.owner_of(tenant) in known:
                    self._measured.add(tenant.tenant_id)
                elif time.monotonic() < ends and (size := self._size(tenant, silent)) is not None:
                    measured.append((tenant, size))
            if measured:
                self._catalog.repeating(partial(_write_sizes, day=day, measured=measured))

    def _size(self, tenant: Tenant, silent: set[str | None]) -> int | None:
        """Ask a database for its size; return None after any error, which must not affect other tenants."""
        server = None
        try:
            backend = self._backends.get(tenant.db_type)
            server = backend.budget_key(tenant)
            if server in silent:
                return None
            self._measured.add(tenant.tenant_id)
            with deadline.within(deadline.REQUEST_S):
                size = backend.size_bytes(tenant, self._access(tenant))
            if size is not None and not 0 <= size <= LARGEST:
                raise DatabaseUnreachableError("what answers gives no size.", tenant_id=tenant.tenant_id)
        except Exception as error:  # noqa: BLE001 - a server that somebody else runs may answer anything at all
            log.warning("tenant %s could not be measured: %s", tenant.tenant_id, type(error).__name__)
            if server is not None and isinstance(error, DatabaseTimeoutError):
                silent.add(server)
            return None
        return size

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._gathered = {}
        self._day = None
        self._measured = set()


def _write_sizes(connection: sa.Connection, day: date, measured: list[tuple[Tenant, int]]) -> None:
    """Write sizes that no other process has written yet; if a user had two databases, the later one's."""
    latest = {tenant_sizes.owner_of(tenant): (tenant, size) for tenant, size in measured}
    known = tenant_sizes.known(connection, set(latest), day)
    fresh = [found for owner, found in latest.items() if owner not in known]
    if fresh:
        tenant_sizes.add(connection, day, fresh)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
