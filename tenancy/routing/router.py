"""Find the route to a user's rows (tenant, owner, whether it may be written) and open a connection along it.

Our own code reaches tenants through ``Router.connected`` only. It checks the tenant's state and revision in the catalog
before it connects, and leases the engine meanwhile; the engine has guards of its own (``guards.py``).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from tenancy import context
from tenancy.backends.base import Backend
from tenancy.catalog import READ, WRITE, Catalog, tenants, users
from tenancy.errors import (
    PREPARE_CATALOG,
    ReadOnlyRouteError,
    StaleRouteError,
    TamperedCredentialError,
    TenancyError,
    TenantNotReadyError,
)
from tenancy.models import READABLE, WRITABLE, State, Tenant
from tenancy.routing.bulkhead import Bulkhead
from tenancy.routing.engines import EngineCache, Entry
from tenancy.routing.guards import revision_mismatch, way_on
from tenancy.schema.chain import Chain

log = logging.getLogger(__name__)

MIGRATING_S = 1
"""The ``retry_after_s`` of a tenant that is being migrated; most migrations take far less."""


OnError = Callable[[Tenant, BaseException], None]
"""Is called with each error on the way to a tenant's rows."""


@dataclass(frozen=True, slots=True)
class Route:
    """Describe the way to one owner's rows; ``write`` tells whether it may be written to."""

    owner: int
    tenant: Tenant
    write: bool


class Router:
    """Find routes and open connections along them."""

    def __init__(self, catalog: Catalog, chain: Chain, engines: EngineCache, on_error: OnError) -> None:
        self._catalog = catalog
        self._chain = chain
        self._engines = engines
        self._on_error = on_error
        self.bulkhead = Bulkhead()
        self._reported: set[str] = set()
        self.on_behind: Callable[[Tenant], None] | None = None
        """Is called with a tenant that is behind before its route is refused, and may migrate it."""

    def route(self, owner: int, *, write: bool) -> Route:
        """Return the route to an owner's rows, or raise. The tenant of a web request is known and not read again."""
        here = context.current()
        tenant = (here.tenant if here.owner == owner else None) or self.tenant_of(owner)
        if self.on_behind is not None and self._is_behind(tenant):
            tenant = self._caught_up(owner, self.on_behind)
        try:
            return self._usable(Route(owner, tenant, write))
        except TenancyError as error:
            self._on_error(tenant, error)
            raise

    @contextmanager
    def connected(self, owner: int, *, write: bool) -> Iterator[tuple[sa.Connection, Backend]]:
        """Open a connection to an owner's rows, with the execution options for reading or writing."""
        with self.bulkhead.place(owner), self._connected(owner, write=write) as found:
            yield found

    @contextmanager
    def _connected(self, owner: int, *, write: bool) -> Iterator[tuple[sa.Connection, Backend]]:
        route = self.route(owner, write=write)
        options = (WRITE if write else READ) | {"tenancy_owner": owner}
        try:
            with (
                self._engines.leased(self.acquire(route)) as entry,
                entry.backend.explained(others_pass=True),
                entry.engine.connect().execution_options(**options) as connection,
            ):
                yield connection, entry.backend
        except TenancyError as error:
            self._on_error(route.tenant, error)
            raise

    def acquire(self, route: Route) -> Entry:
        """Begin a lease; where the cached engine is newer than the route, ask the catalog once more and retry."""
        try:
            try:
                return self._engines.acquire(route.tenant)
            except StaleRouteError:
                route = self._usable(Route(route.owner, self.tenant_of(route.owner), route.write))
                return self._engines.acquire(route.tenant)
        except TamperedCredentialError as error:
            self._report_tampering(route.tenant, error)
            raise

    def tenant_of(self, user_id: int) -> Tenant:
        """Read a user's tenant from the catalog; in shared mode that is the shared database."""
        with self._catalog.reading() as connection:
            if self._catalog.multi_tenant:
                return tenants.get(connection, user_id)
            users.get(connection, user_id)
            found = tenants.shared(connection)
        if found is None:
            raise TenantNotReadyError(f"there is no shared database yet: {PREPARE_CATALOG}.")
        return found

    def _is_behind(self, tenant: Tenant) -> bool:
        return tenant.revision not in (None, self._chain.head) and self._chain.knows(tenant.revision or "")

    def _caught_up(self, owner: int, migrate: Callable[[Tenant], None]) -> Tenant:
        """Read the tenant again, as the request's may be outdated, and have it migrated if it is still behind."""
        tenant = self.tenant_of(owner)
        if self._is_behind(tenant):
            migrate(tenant)
            tenant = self.tenant_of(owner)
        return tenant

    def _usable(self, route: Route) -> Route:
        owner, tenant = route.owner, route.tenant
        if tenant.state not in READABLE or not tenant.is_active:
            more = {"retry_after_s": MIGRATING_S} if tenant.state is State.MIGRATING else {}
            raise TenantNotReadyError(
                f"the database of user {owner} is {tenant.state}: {way_on(tenant)}",
                state=str(tenant.state),
                user_id=owner,
                tenant_id=tenant.tenant_id,
                **more,
            )
        if route.write and tenant.state not in WRITABLE:
            raise ReadOnlyRouteError(f"the database of user {owner} is read-only for now.", user_id=owner)
        if not self._chain.serves(tenant.revision, tenant.usable_from):
            raise revision_mismatch(tenant, tenant.revision, self._chain.head)
        return route

    def _report_tampering(self, tenant: Tenant, error: TamperedCredentialError) -> None:
        """Record in the audit log, once, that a stored password was tampered with."""
        log.error("tenant %s of user %s: %s", tenant.tenant_id, tenant.user_id, error.message)
        evidence = hashlib.sha256(f"{tenant.sealed_password} {sorted(tenant.binding.items())}".encode()).hexdigest()
        if evidence in self._reported:
            return
        with self._catalog.writing() as connection:
            self._catalog.audit.append_once(
                connection,
                "credential.tampered",
                user_id=tenant.user_id,
                tenant_id=tenant.tenant_id,
                detail={"evidence": evidence[:16]},
            )
        self._reported.add(evidence)
