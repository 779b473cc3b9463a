"""Report to operators on the whole fleet: overview, list of accounts, a tenant's report, health.

Nothing is changed, and no secrets are returned. Counts over the whole fleet are read from the catalog's indexes only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.base import Backend
from tenancy.catalog import claims, job_workers, statistics, tenant_errors, tenant_sizes, tenants, users
from tenancy.catalog.listing import Filter, Listing, Place
from tenancy.credentials.rotation import keys_in_use
from tenancy.errors import DatabaseUnreachableError, TenancyError
from tenancy.lifecycle.operation import Services
from tenancy.models import Tenant
from tenancy.monitoring.backups import BackupReports
from tenancy.monitoring.inspection import Inspection
from tenancy.routing import guards
from tenancy.routing.engines import EngineCache
from tenancy.schema import ledger
from tenancy.schema.chain import Chain
from tenancy.schema.tables import tenancy_identity

Rows = list[dict[str, Any]]


class Reports(Inspection):
    """Report on one tenant (``inspection.py``) and on all of them, as ``manager.reports``."""

    def __init__(
        self,
        services: Services,
        catalog_chain: Chain,
        tenant_of: Callable[[int], Tenant],
        engines: EngineCache,
        backups: BackupReports,
    ) -> None:
        super().__init__(services, catalog_chain, tenant_of)
        self.backups = backups
        self._engines = engines
        self._listing = Listing(multi_tenant=services.catalog.multi_tenant)

    def overview(self) -> dict[str, Any]:
        """Count accounts and databases; report growth, the largest ones, those with errors, and backups."""
        mode = self._catalog.multi_tenant
        with self._catalog.reading() as connection:
            found: dict[str, Any] = dict(statistics.accounts(connection))
            found |= statistics.databases(connection, multi_tenant=mode, head=self._services.chain.head)
            found |= statistics.sizes(connection, multi_tenant=mode) | statistics.movement(connection)
            found["largest"] = statistics.largest(connection) if mode else []
            found["troubled"] = statistics.troubled(connection)
            found["backups"] = self.backups.standing(connection)
        return found | {"without_database": found["accounts"] - found["databases"] if mode else 0}

    def accounts_page(
        self,
        *,
        sort: str = "id",
        descending: bool = False,
        limit: int = 50,
        after: Place | None = None,
        query: str | None = None,
        state: str | None = None,
        db_type: str | None = None,
        behind: bool = False,
        account: str | None = None,
        inactive_since: datetime | None = None,
    ) -> tuple[Rows, Place | None]:
        """List accounts with their databases; return the rows and the place to pass as ``after``, None at the end."""
        wanted, head = Filter(query, state, db_type, behind, account, inactive_since), self._services.chain.head
        asked: dict[str, Any] = {"sort": sort, "descending": descending, "limit": limit, "after": after}
        with self._catalog.reading() as connection:
            return self._listing.page(connection, wanted, head, **asked)

    def tenant(self, user_id: int) -> dict[str, Any]:
        """Report on a user's database: account, configuration without secrets, claim, sizes, errors.

        Identity and ledger are read from the database itself, where it answers.
        """
        user_id, mode = names.user_id(user_id), self._catalog.multi_tenant
        with self._catalog.reading() as connection:
            user = users.get(connection, user_id)
            tenant = tenants.find(connection, user_id) if mode else tenants.shared(connection)
            owner = tenant_sizes.owner_of(tenant) if tenant else user_id
            report: dict[str, Any] = {
                "account": user.to_dict(),
                "claim": claims.held(connection, tenant.tenant_id) if tenant else None,
                "sizes": tenant_sizes.of_owner(connection, owner),
                "errors": tenant_errors.of_owner(connection, owner),
            }
        report["config"] = self.described(tenant, user_id) if tenant else None
        return report | (self._asked_itself(tenant) if tenant else {"identity": None, "ledger": []})

    def database_types(self) -> Rows:
        """List the backends, each with the fields that a form for creating a database has to ask for."""
        return [
            {"name": backend.name, "label": backend.label, "fields": [asdict(asked) for asked in backend.asks]}
            for backend in self._services.backends.registered()
        ]

    def health(self) -> dict[str, Any]:
        """Return the health of catalog, folders, engines, keys and backups.

        A catalog that cannot be reached is reported, not raised.
        """
        started = time.perf_counter()
        catalog = self.catalog()
        catalog["latency_ms"] = round((time.perf_counter() - started) * 1000, 2)
        catalog["db_type"] = self._catalog.engine.dialect.name
        storages = ((backend.name, backend.storage()) for backend in self._services.backends.registered())
        return {
            "catalog": catalog,
            "multi_tenant": self._catalog.multi_tenant,
            "head_revision": self._services.chain.head,
            "storage": {name: asdict(found) for name, found in storages if found},
            "engines": self._engines.stats()
            | {"size": self._engines.size, "connection_limit": self._engines.budget.limit},
            "tenants": self._tenants() if catalog["reachable"] else None,
            "credential_keys": self._keys() if catalog["reachable"] else None,
            "jobs": self.jobs() if catalog["reachable"] else None,
            "backups": self._backups() if catalog["reachable"] else None,
        }

    def jobs(self) -> dict[str, Any] | None:
        """Report the workers that take jobs, and how many jobs are due, running and failed; None where unreadable."""
        try:
            with self._catalog.reading() as connection:
                return job_workers.status(connection)
        except TenancyError:
            return None

    def _tenants(self) -> dict[str, Any] | None:
        mode, head = self._catalog.multi_tenant, self._services.chain.head
        try:
            with self._catalog.reading() as connection:
                counts = statistics.databases(connection, multi_tenant=mode, head=head)
        except TenancyError:
            return None
        kept = ("databases", "behind", "by_state", "by_revision")
        return {name: counts[name] for name in kept} | {"failed": counts["by_state"].get("failed", 0)}

    def _backups(self) -> dict[str, Any] | None:
        try:
            return self.backups.standing()
        except TenancyError:
            return None

    def _keys(self) -> Rows | None:
        try:
            with self._catalog.reading() as connection:
                used = keys_in_use(connection)
        except TenancyError:
            return None
        ring = self._services.keyring
        known = [
            {"key_id": key, "newest": key == ring.newest, "known": True, "used_by": used[key]} for key in ring.key_ids
        ]
        lost = [key for key in used if key not in ring.key_ids]
        return known + [{"key_id": key, "newest": False, "known": False, "used_by": used[key]} for key in lost]

    def _asked_itself(self, tenant: Tenant) -> dict[str, Any]:
        services = self._services
        try:
            backend = services.backend(tenant)
            with guards.explained(backend), closing(backend.connect(tenant, services.serving(tenant))) as driver:
                guards.check_identity(backend, tenant, driver, None)
                return _identity_and_ledger(backend, tenant, driver)
        except TenancyError as error:
            found = {"code": error.code, "message": error.message}
        except sa.exc.SQLAlchemyError:
            found = {
                "code": DatabaseUnreachableError.code,
                "message": "the database answers with an error: see the log.",
            }
        return {"identity": None, "ledger": [], "unreachable": found}


def _identity_and_ledger(backend: Backend, tenant: Tenant, driver: Any) -> dict[str, Any]:
    """Read a database's identity row and ledger; the identity has been checked."""
    engine = backend.engine(lambda: driver)
    with engine.connect().execution_options(tenancy_write=False) as connection:
        guards.begin(backend, tenant, connection)
        row = connection.execute(sa.select(tenancy_identity)).mappings().one()
        applied = ledger.entries(connection)
    who = {name: row[name] for name in ("user_id", "kind", "epoch", "state")}
    return {
        "identity": {"tenant_id": str(row["tenant_id"]), **who},
        "ledger": [{name: value for name, value in entry.items() if name != "id"} for entry in applied],
    }
