"""Repair what a verification found and what is safe to repair, under the tenant's claim and with an audit row.

Where database and catalog differ, the database is believed if its identity row, version table and ledger agree. No
database, login or row is ever removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

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
    """Repair one tenant at a time."""

    def mend(self, user_id: int, looking: Verification) -> list[str]:
        """Check a tenant again, under its claim, and repair what is safe; return the codes of what was repaired."""

        def work(tenant: Tenant, claim: Claim) -> tuple[set[str], dict[str, object]]:
            codes = {each.code for each in looking.look_under(claim, tenant) if each.repairable}
            return codes, self._mended(tenant, claim, codes) if codes else {}

        return self._under_claim(user_id, work)

    def clear_drafts(self, user_id: int) -> list[str]:
        """Remove files that earlier attempts to create a tenant's database left; return their finding's code."""

        def work(tenant: Tenant, claim: Claim) -> tuple[set[str], dict[str, object]]:
            backend = self.services.backend(tenant)
            self.refenced(tenant, claim, backend)
            backend.clear_attempts(tenant, claim.attempt)
            return {"draft"}, {}

        return self._under_claim(user_id, work)

    def _under_claim(
        self, user_id: int, work: Callable[[Tenant, Claim], tuple[set[str], dict[str, object]]]
    ) -> list[str]:
        """Do work under a claim; it returns the repaired codes and the tenant's new columns."""
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
                row: dict[str, Any] = {"user_id": user_id, "tenant_id": tenant.tenant_id, "detail": {"found": mended}}
                self.catalog.audit.append(connection, "tenant.repair", **row)
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
        """Write the checksums of the revisions' present files into the ledger; they make exactly these tables."""
        for revision, checksum in self.chain.checksums.items():
            mine = (tenancy_ledger.c.revision == revision, tenancy_ledger.c.direction == "upgrade")
            connection.execute(tenancy_ledger.update().where(*mine), {"checksum": checksum})
        connection.commit()
