"""Restore a tenant whose database is missing, into a new one: nothing that is there is touched.

The catalog names the old place until the new database is whole, and a leftover row names the new one meanwhile. So a
kill at any moment leaves the tenant as it was, or restored.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import sqlalchemy as sa

from tenancy.archive.backup_store import BackupStore
from tenancy.archive.encryption import Identities
from tenancy.archive.export import checksums_of
from tenancy.archive.load import Reading, reading
from tenancy.archive.records import Record
from tenancy.archive.tables import Schema
from tenancy.backends.base import Attempt, Backend, Blueprint, DatabaseFields, Whose
from tenancy.catalog import claims, leftovers, servers, tenants, users
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.errors import ArchiveDamagedError, ArchiveSignatureError, RevisionMismatchError
from tenancy.lifecycle.leftovers import Leftovers
from tenancy.lifecycle.operation import Operation, Services
from tenancy.lifecycle.placement import PLACE, emptied, planned
from tenancy.lifecycle.seed import Seeding
from tenancy.lifecycle.upgrade import Upgrade
from tenancy.models import Origin, State, Tenant
from tenancy.routing.guards import explained
from tenancy.schema import identity, ledger


class BringBack(Operation):
    """Restore tenants whose databases are gone."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._leftovers = Leftovers(services)
        self._schema = Schema(services.schema.metadata, self.chain)

    def bring_back(self, user_id: int, record: Record, store: BackupStore, identities: Identities) -> Tenant:
        """Restore a user's database from a backup of it; return the tenant as it is then."""
        with closing(store.open(record)) as source, reading(source, identities) as found:
            with self.catalog.writing() as connection:
                tenant = tenants.get(connection, user_id)
                claim = self.claim(connection, tenant, "restore")
            with self.abandoned(tenant, claim, "restore"), claims.beating(self.catalog, [claim]):
                self._refuse_another(tenant, record, found)
                restored = self._restored(tenant, claim, found, record)
        self._leftovers.clear(self._leftovers.of_user(user_id))
        return restored

    def _restored(self, tenant: Tenant, claim: Claim, found: Reading, record: Record) -> Tenant:
        backend = self.services.backend(tenant)
        wanted = self._place(tenant, claim, backend)
        made = _at(tenant, wanted, claim)
        with claim.writing() as connection:
            left = leftovers.add(connection, made, Reason.HALF_MADE)
        try:
            with explained(backend):
                self._fill(made, claim, backend, found)
        except BaseException:
            self._leftovers.clear([left])
            raise
        self.step("switch")
        with claim.ending() as connection:
            self._switch(connection, tenant, made, wanted, record)
            leftovers.remove(connection, [left])
        self.services.on_retire(tenant.tenant_id)
        return made

    def _fill(self, made: Tenant, claim: Claim, backend: Backend, found: Reading) -> None:
        """Create the database at the archive's revision, load its rows, compare them, and bring it to head."""
        access = self.services.access(made)
        blueprint = self._blueprint(made, backend, found.header.revision)
        backend.create(made, access, blueprint, Attempt(claim.attempt, self.step))
        self.step("load")
        with backend.copying.loading(made, access) as connection:
            held = found.load(connection, backend, schema=self._schema)
            connection.commit()
        self.step("compare")
        with backend.copying.snapshot(made, access) as connection:
            if checksums_of(connection, backend, schema=self._schema) != held:
                raise ArchiveDamagedError("the database does not hold what the archive says after it was loaded.")
        Upgrade(self.services).migrate_to(made, claim, backend, self.chain.head)

    def _blueprint(self, made: Tenant, backend: Backend, revision: str) -> Blueprint:
        """Return how a database at the archive's revision is built, with an identity row and no other rows."""

        def fill(connection: sa.Connection) -> None:
            identity.write(connection, made)
            identity.mark(connection, made, made.epoch, State.MOVING)  # open only when its rows are complete
            ledger.date_as_new(connection)

        seeding = Seeding(self.services)
        fingerprint = self.chain.fingerprints[revision]
        return Blueprint(fingerprint, lambda connection: seeding.build(connection, backend, revision), fill)

    def _place(self, tenant: Tenant, claim: Claim, backend: Backend) -> dict[str, Any]:
        """Return where the new database will be: under a new name, or where somebody said that it is."""
        if tenant.origin not in (None, Origin.SERVER):
            return {name: getattr(tenant, name) for name in PLACE} | {"db_password": tenant.sealed_password}
        site = None
        if tenant.server_id is not None:
            with self.catalog.reading() as connection:
                site = self.services.site(servers.get(connection, tenant.server_id))
        whose = Whose(tenant.user_id, tenant.tenant_id, claim.epoch)
        return planned(self.services, backend, whose, fields=DatabaseFields(), site=site, origin=Origin.SERVER)

    def _switch(
        self, connection: sa.Connection, tenant: Tenant, made: Tenant, wanted: dict[str, Any], record: Record
    ) -> None:
        changes = emptied() | wanted | Seeding(self.services).done()
        tenants.change(connection, tenant, **changes | {"epoch": made.epoch, "version": made.version})
        users.keep_database_epoch(connection, tenant.user_id or 0, made.epoch)
        detail = {"backup_id": str(record.backup_id), "made_at": record.started_at.isoformat()}
        self.catalog.audit.append(
            connection, "tenant.recover", user_id=tenant.user_id, tenant_id=tenant.tenant_id, detail=detail
        )

    def _refuse_another(self, tenant: Tenant, record: Record, found: Reading) -> None:
        if (record.tenant_id, found.header.tenant_id) != (tenant.tenant_id, tenant.tenant_id):
            raise ArchiveSignatureError("the backup is another tenant's.", tenant_id=tenant.tenant_id)
        if not self.chain.knows(found.header.revision):
            raise RevisionMismatchError(
                f"the backup is at revision {found.header.revision}, which this version of the application does not "
                "know.",
                tenant_id=tenant.tenant_id,
                revision=found.header.revision,
            )


def _at(tenant: Tenant, wanted: dict[str, Any], claim: Claim) -> Tenant:
    """Return the tenant as it will be in its new place."""
    place = emptied() | wanted | {"owned": True, "version": tenant.version + 1, "epoch": claim.epoch}
    sealed = place.pop("db_password")
    return tenant.with_(**place, sealed_password=sealed)
