"""Take a tenant out of use: stop it for a while, or remove it for good.

Its own database is told first, under the claim: writes that began before find the change at the fence.
"""

from __future__ import annotations

import logging

from tenancy.backends.base import Backend
from tenancy.catalog import configs, sizes, troubles
from tenancy.catalog.claims import Claim
from tenancy.errors import IdentityError, TenantNotReadyError
from tenancy.guards import explained
from tenancy.models import Placement, State
from tenancy.operation import Operation

log = logging.getLogger(__name__)


class Retirement(Operation):
    """Suspend, resume and delete tenants."""

    def delete(self, user_id: int) -> None:
        """Retire a database, then remove it: what was still going to write there is refused first.

        A file that stands in its place and is not its own is left alone.
        """
        with self.catalog.writing() as connection:
            tenant = configs.get(connection, user_id)
            claim = self.claim(connection, tenant.tenant_id, "delete")
            configs.change(connection, tenant, state=State.ARCHIVED)
        backend = self.backends.get(tenant.db_type)
        with self.told(tenant, claim, State.ARCHIVED), explained(backend):
            self._remove(tenant, claim, backend)
            self.step("forget")
            with claim.ending() as connection:
                configs.remove(connection, tenant)
                sizes.forget(connection, user_id)
                troubles.forget(connection, user_id)
                self.catalog.audit.append(
                    connection,
                    "tenant.delete",
                    user_id=user_id,
                    tenant_id=tenant.tenant_id,
                    detail={"type": tenant.db_type},
                )

    def set_state(self, user_id: int, before: State, after: State) -> None:
        """Suspend or resume: in the tenant's own database first, so that writes under way stop too."""
        with self.catalog.writing() as connection:
            tenant = configs.get(connection, user_id)
            if tenant.state is after:
                return
            if tenant.state is not before:
                raise TenantNotReadyError(
                    f"the database of user {user_id} is {tenant.state}, not {before}.", state=tenant.state
                )
            claim = self.claim(connection, tenant.tenant_id, str(after))
        backend = self.backends.get(tenant.db_type)
        with self.told(tenant, claim, before), explained(backend):
            self.step("mark")
            with claim.holding():
                self.mark(tenant, backend, after)
            self.step("record")
            with claim.ending() as connection:
                healed = {"last_error": None, "last_error_code": None}
                configs.change(connection, tenant, state=after, is_active=after is State.READY, **healed)
                self.catalog.audit.append(connection, f"tenant.{after}", user_id=user_id, tenant_id=tenant.tenant_id)

    def _remove(self, tenant: Placement, claim: Claim, backend: Backend) -> None:
        if tenant.revision is None and not tenant.owned:
            return  # nothing was ever made, and what stands there is somebody else's
        self.step("fence")
        try:
            with claim.holding():
                self.mark(tenant, backend, State.ARCHIVED, raise_epoch=True)
        except IdentityError:
            log.warning("tenant %s: the database in its place is not its own and stays", tenant.tenant_id)
            tenant = tenant.with_(owned=False)
        self.bench.on_retire(tenant.tenant_id)
        backend.clear_attempts(tenant, claim.attempt)
        self.step("drop")
        with claim.writing():
            if tenant.owned:
                self._discard_points(tenant, backend)
                backend.drop(tenant, self.bench.access(tenant))

    def _discard_points(self, tenant: Placement, backend: Backend) -> None:
        """Leave no copy of what was deleted."""
        access = self.bench.access(tenant)
        for point in backend.points(tenant, access):
            backend.discard(tenant, access, point)
