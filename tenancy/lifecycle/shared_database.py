"""Make the database that all users share where MULTI_TENANT_MODE is off, or bring it to head.

The same steps as for one user's, with two differences: other tables may stand there, and nobody's first rows are
written.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.backends.server.backend import fresh_password
from tenancy.catalog import claims, tenants
from tenancy.catalog.claims import Claim
from tenancy.errors import DatabaseExistsError, TenantExistsError
from tenancy.lifecycle.placement import sealed
from tenancy.lifecycle.provision import Begun, Provisioner, Work
from tenancy.lifecycle.upgrade import Reached
from tenancy.models import Kind, State, Tenant
from tenancy.schema import identity
from tenancy.schema.tables import tenancy_identity as identity_table, tenancy_tables
from tenancy.types import new_id


class SharedDatabase(Provisioner):
    """Provision the one database of all users."""

    def provision_shared(self, url: str) -> list[str]:
        """Make the database that all users share, or bring it to head; give the revisions applied now.

        Other tables may stand in it: the catalog's, for example.
        """
        backend = self.backends.for_url(url, "SHARED_DATABASE_URL")
        wanted = backend.shared_plan(url)
        with self.catalog.writing() as connection:
            begun = self._begun_shared(connection, backend, wanted)
        tenant, claim = begun.tenant, begun.claim
        if claim is None:
            self._found(tenant, backend)
            return []
        applied: list[str] = []

        def work() -> Reached:
            reached = self._upgrade_shared(tenant, claim, backend)
            applied.extend(reached.steps)
            return reached

        self._guarded(tenant, claim, work, begun)
        return applied

    def _begun_shared(self, connection: sa.Connection, backend: Backend, wanted: dict[str, Any]) -> Begun:
        """Decide what is to be done, record it and take the claim, in the caller's transaction."""
        tenant = tenants.shared(connection)
        if tenant is None:
            return Begun(Work.FINISH, *self._first(connection, None, self._with_shared_login(backend, wanted), backend))
        if any(getattr(tenant, name) != wanted[name] for name in wanted if name != "owned"):
            raise TenantExistsError(
                "SHARED_DATABASE_URL names another database than the one in use: move the data, then the setting.",
                field="SHARED_DATABASE_URL",
            )
        whole = tenant.state is State.READY and tenant.revision == self.chain.head
        if whole and not claims.interrupted(connection, tenant.tenant_id):
            return Begun(Work.NOTHING, tenant, backend)
        return self._resumed(connection, tenant, backend)

    def _with_shared_login(self, backend: Backend, wanted: dict[str, Any]) -> dict[str, Any]:
        """Give the shared database a login of its own, where the product can hold that one to its owner's rows."""
        wanted = {"tenant_id": new_id(), **wanted}
        user = backend.shared_login(wanted["tenant_id"])
        if user is None:
            return wanted
        wanted["db_user"] = user
        return wanted | sealed(self.services, None, wanted, fresh_password())

    def _upgrade_shared(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached:
        """Apply what is missing in the database that all share, once it says whose it is."""
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
