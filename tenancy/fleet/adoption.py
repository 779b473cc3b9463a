"""Take a database that is newer than a recovered catalog as it is: the catalog says then what the database says."""

from __future__ import annotations

from tenancy.backends.base import Backend
from tenancy.backends.server.backend import ServerBackend, fresh_password
from tenancy.catalog import claims, tenants, users
from tenancy.fleet.standing import Look
from tenancy.lifecycle.operation import Operation
from tenancy.lifecycle.suspend_delete import Retirement
from tenancy.lifecycle.upgrade import Upgrade
from tenancy.models import State, Tenant
from tenancy.routing.guards import explained


class Adoption(Operation):
    """Adopt one tenant's database at a time."""

    def adopt(self, tenant: Tenant, look: Look) -> None:
        """Open a database for use under an epoch above its own, and write into the catalog where and how it is."""
        user_id = tenant.user_id or 0
        with self.catalog.writing() as connection:
            claim = claims.take(
                self.catalog,
                connection,
                tenant.tenant_id,
                "adopt",
                self.services.claim_ttl_s,
                least=max(tenant.epoch, look.epoch) + 1,
                user_id=user_id,
            )
        taken = self._placed(tenant, look)
        backend = self.services.backend(taken)
        with self.abandoned(tenant, claim, "adopt"), explained(backend), claims.beating(self.catalog, [claim]):
            self._let_in(taken, look, backend)
            reached = Upgrade(self.services).reopen(taken, claim, backend)
        place = {"db_path": taken.db_path, "db_name": taken.db_name, "db_user": taken.db_user}
        changes = {
            "db_password": taken.sealed_password,
            "state": State.READY,
            "is_active": True,
            "revision": reached.revision,
            "schema_fingerprint": self.chain.fingerprints.get(reached.revision or ""),
            "usable_from": self.chain.usable_from(reached.revision),
            "epoch": reached.epoch,
            "version": tenant.version + 1,
            "last_error": None,
            "last_error_code": None,
        }
        with claim.ending() as connection:
            tenants.change(connection, tenant, **place | changes)
            users.keep_database_epoch(connection, user_id, reached.epoch)
            detail = {"epoch": look.epoch, "before": tenant.epoch, "place": taken.db_path or taken.db_name}
            self.catalog.audit.append(
                connection, "tenant.adopt", user_id=user_id, tenant_id=tenant.tenant_id, detail=detail
            )
        if look.state == State.SUSPENDED:
            Retirement(self.services).set_state(user_id, State.READY, State.SUSPENDED)

    def _placed(self, tenant: Tenant, look: Look) -> Tenant:
        """Return the tenant with the place of the database that was found, and a new password for its login there."""
        if look.place is None:
            return tenant
        placed = tenant.with_(db_path=look.place.db_path, db_name=look.place.db_name, db_user=look.place.db_user)
        if placed.server_id is None:
            return placed
        return placed.with_(sealed_password=self.services.keyring.seal(fresh_password(), placed.binding))

    def _let_in(self, taken: Tenant, look: Look, backend: Backend) -> None:
        """Give the login of a database that was found elsewhere its new password: the catalog that knew it is lost."""
        access = self.services.access(taken)
        if look.place is not None and access.login is not None and isinstance(backend, ServerBackend):
            with backend.administering(access) as driver:
                backend.make_login(driver, access.login)
