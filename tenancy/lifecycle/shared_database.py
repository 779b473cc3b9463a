"""Create the one database that all users share where MULTI_TENANT_MODE is off, or bring it to head.

The steps are those of one user's database, with two differences: other tables may be there, and no user's first rows
are written.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.backends.server.backend import fresh_password
from tenancy.catalog import claims, tenants
from tenancy.catalog.claims import Claim
from tenancy.errors import DatabaseExistsError, TenantExistsError
from tenancy.lifecycle.decision import Decision, Work
from tenancy.lifecycle.placement import sealed
from tenancy.lifecycle.provision import Provisioner
from tenancy.lifecycle.upgrade import Reached
from tenancy.models import Kind, State, Tenant
from tenancy.schema import identity
from tenancy.schema.tables import tenancy_identity as identity_table, tenancy_tables
from tenancy.types import new_id


class SharedDatabase(Provisioner):
    """Provision the one database of all users."""

    def provision_shared(self, url: str) -> list[str]:
        """Create the shared database, or bring it to head; return the revisions applied now.

        It may hold other tables: the catalog's, for example.
        """
        backend = self.backends.for_url(url, "SHARED_DATABASE_URL")
        wanted = backend.shared_plan(url)
        with self.catalog.writing() as connection:
            decided = self._decided(connection, backend, wanted)
        if decided.work is Work.NOTHING:
            self.found(decided.tenant, backend)
            return []
        applied: list[str] = []

        def work(decided: Decision, claim: Claim) -> Reached:
            reached = self._upgrade_shared(decided.tenant, claim, backend)
            applied.extend(reached.steps)
            return reached

        self.carried_out(decided, work)
        return applied

    def _decided(self, connection: sa.Connection, backend: Backend, wanted: dict[str, Any]) -> Decision:
        """Decide what is to be done, record it and take the claim, in the caller's transaction."""
        tenant = tenants.shared(connection)
        if tenant is None:
            wanted = self._with_shared_login(backend, wanted)
            return self.decisions.recorded(connection, None, backend, wanted)
        if any(getattr(tenant, name) != wanted[name] for name in wanted if name != "owned"):
            raise TenantExistsError(
                "SHARED_DATABASE_URL names another database than the one in use: move the data, then the setting.",
                field="SHARED_DATABASE_URL",
            )
        whole = tenant.state is State.READY and tenant.revision == self.chain.head
        if whole and not claims.interrupted(connection, tenant.tenant_id):
            return Decision(Work.NOTHING, tenant, backend)
        return self.decisions.resumed(connection, tenant, backend)

    def _with_shared_login(self, backend: Backend, wanted: dict[str, Any]) -> dict[str, Any]:
        """Add a login of its own, where the product has row-level security that holds a login to its owner's rows."""
        wanted = {"tenant_id": new_id(), **wanted}
        user = backend.shared_login(wanted["tenant_id"])
        if user is None:
            return wanted
        wanted["db_user"] = user
        return wanted | sealed(self.services, None, wanted, fresh_password())

    def _upgrade_shared(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached:
        """Apply missing revisions in the shared database, once its identity row says that it is ours."""
        access = self.services.access(tenant)
        if tenant.revision is None:
            backend.make_empty(tenant, access)
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            self._adopt_shared(connection, tenant.with_(epoch=claim.epoch))
        return self._upgrade(tenant, claim, backend)

    def _adopt_shared(self, connection: sa.Connection, tenant: Tenant) -> None:
        tenancy_tables.create_all(connection)
        row = connection.execute(sa.select(identity_table)).first()
        if row is None:
            identity.write(connection, tenant)
        elif (row.tenant_id, row.kind) != (tenant.tenant_id, Kind.SHARED):
            raise DatabaseExistsError("SHARED_DATABASE_URL names a database that belongs to somebody else.")
        connection.commit()
