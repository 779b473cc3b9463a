"""Mend what is safe to mend of what a verification found: under the tenant's claim, and told in the audit log.

A database that knows better than the catalog is believed where its own identity, version table and ledger agree. No
database, no login and no row is ever removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import sqlalchemy as sa

from tenancy.catalog import claims, tenants
from tenancy.catalog.claims import Claim
from tenancy.errors import TenancyError
from tenancy.fleet.verify import Verification
from tenancy.lifecycle.operation import Operation
from tenancy.lifecycle.upgrade import Upgrade
from tenancy.models import State, Tenant
from tenancy.routing.guards import check_whose, explained
from tenancy.schema.tables import tenancy_ledger

_WORKABLE = (State.READY, State.MIGRATING, State.FAILED)


class Repair(Operation):
    """Mend one tenant at a time."""

    def mend(self, user_id: int, looking: Verification) -> list[str]:
        """Look again at a tenant, now that nobody else changes it, and mend what is safe; give the findings' codes.

        Raises what stands in the way.
        """

        def work(tenant: Tenant, claim: Claim) -> tuple[set[str], dict[str, object]]:
            codes = {each.code for each in looking.look_under(claim, tenant) if each.repairable}
            return codes, self._mended(tenant, claim, codes) if codes else {}

        return self._under_claim(user_id, work)

    def clear_drafts(self, user_id: int) -> list[str]:
        """Remove what earlier attempts to make a tenant's database left beside it; give what that is called."""

        def work(tenant: Tenant, claim: Claim) -> tuple[set[str], dict[str, object]]:
            backend = self.services.backend(tenant)
            self.refenced(tenant, claim, backend)
            backend.clear_attempts(tenant, claim.attempt)
            return {"draft"}, {}

        return self._under_claim(user_id, work)

    def _under_claim(
        self, user_id: int, work: Callable[[Tenant, Claim], tuple[set[str], dict[str, object]]]
    ) -> list[str]:
        """Do work that gives what was mended, and what the catalog is to say from here on."""
        with self.catalog.writing() as connection:
            tenant = tenants.get(connection, user_id)
            claim = self.claim(connection, tenant, "repair")
        held = self.abandoned(tenant, claim, "repair")
        with held, explained(self.services.backend(tenant)), claims.beating(self.catalog, [claim]):
            codes, changes = work(tenant, claim)
        mended = sorted(codes)
        with claim.ending() as connection:
            if mended:
                tenants.change(connection, tenant, **changes)
                told = {"user_id": user_id, "tenant_id": tenant.tenant_id, "detail": {"found": mended}}
                self.catalog.audit.append(connection, "tenant.repair", **told)  # type: ignore[arg-type]  # by name
        return mended

    def _mended(self, tenant: Tenant, claim: Claim, codes: Collection[str]) -> dict[str, object]:
        if tenant.state not in _WORKABLE:
            raise TenancyError(f"the database of user {tenant.user_id} is {tenant.state}: it is left as it is.")
        backend = self.services.backend(tenant)
        upgrade, access = Upgrade(self.services), self.services.access(tenant)
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            check_whose(backend, tenant, connection.connection)
            connection.rollback()
            if "edited" in codes:
                self._restamp(connection)
            if "rights" in codes:
                backend.grant_rights(connection, tenant, access, upgrade.owned_tables())
        reached = upgrade.reopen(tenant, claim, backend)
        return {
            "state": State.READY if tenant.state is State.MIGRATING else tenant.state,
            "revision": reached.revision,
            "schema_fingerprint": self.chain.fingerprints.get(reached.revision or ""),
            "usable_from": self.chain.usable_from(reached.revision),
            "epoch": reached.epoch,
            "version": tenant.version + 1,
        }

    def _restamp(self, connection: sa.Connection) -> None:
        """Let the ledger say what the files of the revisions are now: they make the very tables that stand here."""
        for revision, checksum in self.chain.checksums.items():
            mine = (tenancy_ledger.c.revision == revision, tenancy_ledger.c.direction == "upgrade")
            connection.execute(tenancy_ledger.update().where(*mine), {"checksum": checksum})
        connection.commit()
