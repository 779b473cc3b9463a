"""Report to operators on single databases: place, size, state, health. Nothing is changed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.catalog import tenants, users
from tenancy.catalog.tables import shared_database, user_database_configs
from tenancy.errors import TenancyError
from tenancy.lifecycle.operation import Services
from tenancy.models import State, Tenant
from tenancy.routing.guards import check_identity, way_on
from tenancy.schema.chain import Chain

_MIB = 1024 * 1024
_INFO = (
    "user_id",
    "tenant_id",
    "db_type",
    "db_host",
    "db_port",
    "db_name",
    "db_user",
    "db_path",
    "password_set",
    "is_active",
    "status",
    "revision",
    "last_error",
    "last_error_code",
    "last_used_at",
    "created_at",
)


class Inspection:
    """Report on tenants' databases; ``overview.py`` adds reports on the whole fleet."""

    def __init__(self, services: Services, catalog_chain: Chain, tenant_of: Callable[[int], Tenant]) -> None:
        self._services = services
        self._catalog = services.catalog
        self._catalog_chain = catalog_chain
        self._tenant_of = tenant_of

    def shown(self, tenant: Tenant, user_id: int) -> dict[str, Any]:
        """Return a tenant's fields for people: without secrets, with the absolute ``db_path``."""
        return tenant.to_dict() | {
            "user_id": user_id,
            "db_path": self._path(tenant),
            "head_revision": self._services.chain.head,
        }

    def config(self, user_id: int) -> dict[str, Any]:
        return self.shown(self._tenant_of(names.user_id(user_id)), user_id)

    def info(self, user_id: int) -> dict[str, Any]:
        """Return the answer of GET /admin/user/<user_id>/database/info."""
        user_id = names.user_id(user_id)
        with self._catalog.reading() as connection:
            users.get(connection, user_id)
        return self.described(self._tenant_of(user_id), user_id)

    def described(self, tenant: Tenant, user_id: int) -> dict[str, Any]:
        return self._row(tenant, user_id) | {"size_bytes": self._size(tenant)}

    def databases(
        self,
        *,
        after: int | None = None,
        limit: int = 50,
        state: str | None = None,
        db_type: str | None = None,
        behind: bool = False,
        inactive_since: datetime | None = None,
        query: str | None = None,
    ) -> list[dict[str, Any]]:
        """List users' databases with the users' addresses, by user id; ``after`` is the last user id seen.

        In shared mode every user has the configuration of the shared database.
        """
        asked: dict[str, Any] = {"state": state, "db_type": db_type, "inactive_since": inactive_since, "query": query}
        after = after or 0
        with self._catalog.reading() as connection:
            if not self._catalog.multi_tenant:
                return self._shared_page(connection, after, limit, behind=behind, **asked)
            found = tenants.page(connection, after, limit, self._conditions(user_database_configs, behind, **asked))
        return [self._row(tenant, tenant.user_id or 0) | _listed(email, tenant) for email, tenant in found]

    def stats(self) -> dict[str, Any]:
        """Return totals, counts by status and type, and an entry for each database; no database is opened.

        The size of a file is its current one. That of a database on a server was measured at ``measured_at``, or is
        None if it never was; ``measured`` is the number of databases that the total includes. ``_mb`` counts MiB.
        """
        with self._catalog.reading() as connection:
            rows = tenants.measured(connection) if self._catalog.multi_tenant else tenants.shared_measured(connection)
            found = [self._entry(tenant, size, at) for tenant, size, at in rows]
        known = [size for _, size in found if size is not None]
        databases = [entry for entry, _ in found]
        return {
            "total_databases": len(databases),
            "total_size_mb": round(sum(known) / _MIB, 3),
            "measured": len(known),
            "by_status": dict(Counter(entry["status"] for entry in databases)),
            "by_type": dict(Counter(entry["db_type"] for entry in databases)),
            "databases": databases,
        }

    def _entry(
        self, tenant: Tenant, size: int | None, measured_at: datetime | None
    ) -> tuple[dict[str, Any], int | None]:
        """Return a database's entry of the statistics, and its size in bytes."""
        modified = None
        if not self._on_server(tenant):
            size, measured_at, modified = self._size(tenant), datetime.now(UTC), self._modified(tenant)
        entry = {
            "user_id": tenant.user_id,
            "name": Path(self._path(tenant) or tenant.db_name or "").name,
            "size_mb": None if size is None else round(size / _MIB, 3),
            "measured_at": None if size is None else measured_at,
            "modified": modified,
            "status": str(tenant.state),
            "db_type": tenant.db_type,
        }
        return entry | ({"damaged": list(tenant.damaged)} if tenant.damaged else {}), size

    def _on_server(self, tenant: Tenant) -> bool:
        """Return whether a database is on a server; True for unknown products, whose files are not looked for."""
        try:
            return self._services.backends.get(tenant.db_type).on_server
        except TenancyError:
            return True

    def test(self, user_id: int) -> dict[str, Any]:
        """Connect to a user's database and return how it is; a failure is returned, not raised."""
        services, user_id = self._services, names.user_id(user_id)
        tenant = self._tenant_of(user_id)
        answer = {"user_id": user_id, "revision": tenant.revision, "head_revision": services.chain.head}
        started = time.perf_counter()
        try:
            backend = services.backend(tenant)
            with closing(backend.connect(tenant, services.serving(tenant))) as driver:
                check_identity(backend, tenant, driver, services.chain.head)
                backend.checks.check_writable(driver)
            code, message = "ok", "the database answers."
            if tenant.state is not State.READY:
                code, message = "tenant_not_ready", f"the database answers, and is {tenant.state}: {way_on(tenant)}"
        except TenancyError as error:
            code, message = error.code, error.message
        took_ms = round((time.perf_counter() - started) * 1000, 2)
        return answer | {"ok": code == "ok", "code": code, "message": message, "latency_ms": took_ms}

    def catalog(self) -> dict[str, Any]:
        """Return whether the catalog, and in shared mode the shared database, can be reached and is at head."""
        head = self._catalog_chain.head
        try:
            revision = self._catalog.revision()
            shared = self._shared_is_ready() if revision == head and not self._catalog.multi_tenant else True
        except TenancyError:
            return {"reachable": False, "revision": None, "head": head, "at_head": False}
        return {"reachable": True, "revision": revision, "head": head, "at_head": revision == head and shared}

    def _shared_is_ready(self) -> bool:
        with self._catalog.reading() as connection:
            tenant = tenants.shared(connection)
        return tenant is not None and tenant.revision == self._services.chain.head

    def _shared_page(
        self, connection: sa.Connection, after: int, limit: int, *, behind: bool, query: str | None, **asked: Any
    ) -> list[dict[str, Any]]:
        conditions = self._conditions(shared_database, behind, query=None, **asked)
        tenant = tenants.shared(connection, *conditions)
        if tenant is None:
            return []
        return [
            self._row(tenant, user.id) | _listed(user.email, tenant)
            for user in users.page(connection, after, limit, query)
        ]

    def _conditions(
        self,
        table: sa.Table,
        behind: bool,
        state: str | None,
        db_type: str | None,
        inactive_since: datetime | None,
        query: str | None,
    ) -> list[sa.ColumnElement[bool]]:
        conditions: list[sa.ColumnElement[bool]] = []
        if state:
            conditions.append(table.c.state == state)
        if db_type:
            conditions.append(table.c.db_type == db_type)
        if behind:
            conditions.append(sa.or_(table.c.revision.is_(None), table.c.revision != self._services.chain.head))
        if inactive_since:
            used = sa.func.coalesce(table.c.last_used_at, table.c.created_at)
            conditions.append(used < inactive_since)
        if query:
            conditions.append(users.matches(query))
        return conditions

    def _row(self, tenant: Tenant, user_id: int) -> dict[str, Any]:
        shown = self.shown(tenant, user_id)
        return {name: shown[name] for name in _INFO} | {
            "head_revision": self._services.chain.head,
            "behind": tenant.revision != self._services.chain.head,
        }

    def _path(self, tenant: Tenant) -> str | None:
        try:
            return self._services.backends.get(tenant.db_type).shown_path(tenant)
        except TenancyError:
            return tenant.db_path

    def _size(self, tenant: Tenant) -> int | None:
        try:
            return self._services.backends.get(tenant.db_type).size_bytes(tenant, self._services.access(tenant))
        except (TenancyError, OSError):
            return None

    def _modified(self, tenant: Tenant) -> datetime | None:
        try:
            moment = self._services.backends.get(tenant.db_type).modified(tenant)
        except (TenancyError, OSError):
            return None
        return None if moment is None else moment.astimezone(UTC)


def _listed(email: str, tenant: Tenant) -> dict[str, Any]:
    """Return the additional fields of a row in a list: the user's address and the columns that cannot be read."""
    return {"email": email, "damaged": list(tenant.damaged)}
