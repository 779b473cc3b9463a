"""Mend what is safe to mend of what a verification found: under the tenant's claim, and told in the audit log.

A database that knows better than the catalog is believed where its own identity, version table and ledger agree. No
database, no login and no row is ever removed.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.catalog import claims, configs
from tenancy.catalog.claims import Claim
from tenancy.errors import ClaimLostError, TenancyError
from tenancy.guards import check_whose, explained
from tenancy.models import Placement, State, ledger
from tenancy.operation import Operation
from tenancy.upgrade import Upgrade

_WORKABLE = (State.READY, State.MIGRATING, State.FAILED)


class Repair(Operation):
    """Mend one tenant at a time."""

    def mend(self, user_id: int, codes: Collection[str]) -> None:
        """Mend these findings of a tenant, or raise what stands in the way."""
        with self.catalog.writing() as connection:
            tenant = configs.get(connection, user_id)
            claim = claims.take(self.catalog, connection, tenant.tenant_id, "repair", self.bench.claim_ttl_s)
        backend = self.backends.get(tenant.db_type)
        try:
            with explained(backend), claims.beating(self.catalog, [claim]):
                changes = self._mended(tenant, claim, backend, codes)
        except BaseException:
            with suppress(ClaimLostError), claim.ending():
                pass
            raise
        with claim.ending() as connection:
            configs.change(connection, tenant, **changes)
            told = {"user_id": user_id, "tenant_id": tenant.tenant_id, "detail": {"found": sorted(codes)}}
            self.catalog.audit.append(connection, "tenant.repair", **told)  # type: ignore[arg-type]  # by name

    def _mended(self, tenant: Placement, claim: Claim, backend: Backend, codes: Collection[str]) -> dict[str, object]:
        if "draft" in codes:
            backend.clear_attempts(tenant, claim.attempt)
        if not set(codes) - {"draft"}:
            return {}
        if tenant.state not in _WORKABLE:
            raise TenancyError(f"the database of user {tenant.user_id} is {tenant.state}: it is left as it is.")
        upgrade, access = Upgrade(self.bench), self.bench.access(tenant)
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            check_whose(backend, tenant, connection.connection)
            connection.rollback()
            if "edited" in codes:
                self._restamp(connection)
            if "rights" in codes:
                backend.settle(connection, tenant, access, upgrade.owned_tables())
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
            mine = (ledger.c.revision == revision, ledger.c.direction == "upgrade")
            connection.execute(ledger.update().where(*mine), {"checksum": checksum})
        connection.commit()
