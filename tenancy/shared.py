"""Make the database that all users share where MULTI_TENANT_MODE is off, or bring it to head.

The same steps as for one user's, with two differences: other tables may stand there, and nobody's first rows are
written.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.backends.server import fresh_password
from tenancy.catalog import configs
from tenancy.catalog.claims import Claim
from tenancy.errors import DatabaseExistsError, TenantExistsError
from tenancy.furnish import write_identity
from tenancy.models import Kind, Placement, State, house_metadata, identity
from tenancy.placing import sealed
from tenancy.provision import Provisioner
from tenancy.types import new_id
from tenancy.upgrade import Reached


class SharedDatabase(Provisioner):
    """Provision the one database of all users."""

    def provision_shared(self, url: str) -> list[str]:
        """Make the database that all users share, or bring it to head; give the revisions applied now.

        Other tables may stand in it: the catalog's, for example.
        """
        backend = self.backends.for_url(url, "SHARED_DATABASE_URL")
        wanted = backend.shared_plan(url)
        with self.catalog.writing() as connection:
            tenant = configs.shared(connection)
            if tenant is not None and any(getattr(tenant, name) != wanted[name] for name in wanted if name != "owned"):
                raise TenantExistsError(
                    "SHARED_DATABASE_URL names another database than the one in use: move the data, then the setting.",
                    field="SHARED_DATABASE_URL",
                )
            if tenant is not None and tenant.state is State.READY and tenant.revision == self.chain.head:
                self._found(tenant, backend)
                return []
            created = tenant is None
            if tenant is None:
                tenant, claim = self._first(connection, None, self._with_shared_login(backend, wanted))
            else:
                tenant, claim = self._claimed(connection, tenant)
        applied: list[str] = []

        def work() -> Reached:
            reached = self._upgrade_shared(tenant, claim, backend)
            applied.extend(reached.steps)
            return reached

        self._guarded(tenant, claim, work, created)
        return applied

    def _with_shared_login(self, backend: Backend, wanted: dict[str, Any]) -> dict[str, Any]:
        """Give the shared database a login of its own, where the product can hold that one to its owner's rows."""
        wanted = {"tenant_id": new_id(), **wanted}
        user = backend.shared_login(wanted["tenant_id"])
        if user is None:
            return wanted
        wanted["db_user"] = user
        return wanted | sealed(self.bench, None, wanted, fresh_password())

    def _upgrade_shared(self, tenant: Placement, claim: Claim, backend: Backend) -> Reached:
        """Apply what is missing in the database that all share, once it says whose it is."""
        access = self.bench.access(tenant)
        if tenant.revision is None:
            backend.make_empty(tenant, access)
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            self._adopt_shared(connection, tenant)
        return self._upgrade(tenant, claim, backend)

    def _adopt_shared(self, connection: sa.Connection, tenant: Placement) -> None:
        house_metadata.create_all(connection)
        row = connection.execute(sa.select(identity)).first()
        if row is None:
            write_identity(connection, tenant)
        elif (row.tenant_id, row.kind) != (tenant.tenant_id, Kind.SHARED):
            raise DatabaseExistsError("SHARED_DATABASE_URL names a database that belongs to somebody else.")
        connection.commit()
