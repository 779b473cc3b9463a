"""Load an archive into a new database beside a tenant's present one, which is left alone.

The new database has a name that no other attempt has. A leftover row names it until the switch, so that a kill at any
moment leaves nothing that nobody knows of.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tenancy.archive.export import Progress, checksums_of, no_progress
from tenancy.archive.format import Contents
from tenancy.archive.load import Reading
from tenancy.archive.tables import Schema, tables_of
from tenancy.backends.base import Attempt, Backend, Blueprint, DatabaseFields, Whose
from tenancy.catalog import leftovers, servers
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.errors import ArchiveDamagedError, ArchiveError, ConfigurationError, RevisionMismatchError
from tenancy.lifecycle.operation import Operation, Services
from tenancy.lifecycle.placement import PLACE, emptied, planned
from tenancy.lifecycle.seed import Seeding
from tenancy.lifecycle.upgrade import Upgrade
from tenancy.models import Leftover, Origin, State, Tenant
from tenancy.schema import identity, ledger


@dataclass(frozen=True)
class Beside:
    """A database beside the present one: the tenant as it will be there, the columns that say so, its leftover row."""

    tenant: Tenant
    wanted: dict[str, Any]
    left: Leftover


class LoadBeside(Operation):
    """Create databases from archives."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._schema = Schema(services.schema.metadata, self.chain)
        self._seeding = Seeding(services)

    def refuse_unknown(self, found: Reading) -> None:
        """Raise RevisionMismatchError for an archive that a later version of the application made."""
        revision = found.header.revision
        if not self.chain.knows(revision):
            raise RevisionMismatchError(
                f"the backup is at revision {revision}, which this version of the application does not know: restore "
                "it with the version that made it, or a later one.",
                revision=revision,
            )

    def planned(self, tenant: Tenant, claim: Claim, backend: Backend) -> Beside:
        """Say where the new database will be, and remember it as half made."""
        wanted = self._place(tenant, claim, backend)
        place = emptied() | wanted | {"owned": True, "version": tenant.version + 1, "epoch": claim.epoch}
        made = tenant.with_(sealed_password=place.pop("db_password"), **place)
        with claim.writing() as connection:
            return Beside(made, wanted, leftovers.add(connection, made, Reason.HALF_MADE))

    def filled(
        self,
        beside: Beside,
        claim: Claim,
        backend: Backend,
        found: Reading,
        *,
        present: Tenant | None = None,
        only: Collection[str] = (),
        progress: Progress = no_progress,
    ) -> Contents:
        """Create the database at the archive's revision, load its rows, compare them and migrate to head.

        With ``only``, all other tables get the rows of the ``present`` database. Returns what the new one holds at
        head; ArchiveDamagedError if that is not what was loaded.
        """
        made, access = beside.tenant, self.services.access(beside.tenant)
        backend.create(
            made, access, self._blueprint(made, backend, found.header.revision), Attempt(claim.attempt, self.step)
        )
        self.step("load")
        with backend.copying.loading(made, access) as connection:
            held = found.load(connection, backend, schema=self._schema, owner=made.user_id, progress=progress)
            connection.commit()
        self.step("compare")
        if self.contents(made, backend) != held:
            raise ArchiveDamagedError("the new database does not hold what the archive says after it was loaded.")
        Upgrade(self.services).migrate_to(made, claim, backend, self.chain.head)
        if only and present is not None:
            self.mark(made, claim, backend, State.MOVING)  # until its rows are complete again
            self._keep_others(made, present, backend, only)
            self.mark(made, claim, backend, State.READY)
        at_head = found.header.revision == self.chain.head and not only
        return held if at_head else self.contents(made, backend)

    def contents(self, tenant: Tenant, backend: Backend) -> Contents:
        """Sum up the rows that a tenant's database holds now."""
        with backend.copying.snapshot(tenant, self.services.access(tenant)) as connection:
            return checksums_of(connection, backend, schema=self._schema)

    def _keep_others(self, made: Tenant, present: Tenant, backend: Backend, only: Collection[str]) -> None:
        """Give all tables but some the rows of the present database, which takes no writes meanwhile."""
        source = self.services.backend(present)
        self.step("keep the other tables")
        with (
            source.copying.snapshot(present, self.services.access(present)) as reading,
            backend.copying.loading(made, self.services.access(made)) as writing,
        ):
            theirs = {each.table.name: each.table for each in tables_of(reading, source, self._schema)}
            ours = [each.table for each in tables_of(writing, backend, self._schema)]
            self._refuse_names(only, [table.name for table in ours], theirs)
            with backend.copying.unordered(writing):
                others = [table for table in ours if table.name not in only]
                for table in reversed(others):
                    writing.execute(sa.table(table.name).delete())
                for table in others:
                    for rows in source.copying.rows(reading, theirs[table.name]) if table.name in theirs else ():
                        backend.copying.insert(writing, table, rows)
                    backend.copying.counted_on(writing, table)
            writing.commit()
        kept = {table.name for table in others}
        if self.contents(made, backend).only(kept) != self.contents(present, source).only(kept):
            raise ArchiveError("the new database does not hold the rows of the other tables after they were copied.")

    def _refuse_names(self, only: Collection[str], known: Collection[str], present: Collection[str]) -> None:
        unknown = sorted(set(only) - set(known))
        if unknown:
            raise ConfigurationError(
                f"there is no table {unknown[0][:64]!r}: there are {', '.join(sorted(known))}.", field="only_tables"
            )
        lost = sorted(set(present) - set(known))
        if lost:
            raise ArchiveError(
                f"the present database has a table {lost[0]} that the backup does not have: restore all of the backup, "
                "or drop that table first.",
                table=lost[0],
            )

    def _blueprint(self, made: Tenant, backend: Backend, revision: str) -> Blueprint:
        """Return how a database at a revision is built, with an identity row and no rows of the application."""

        def fill(connection: sa.Connection) -> None:
            identity.write(connection, made)
            identity.mark(connection, made, made.epoch, State.MOVING)  # open only when its rows are complete
            ledger.date_as_new(connection)

        def build(connection: sa.Connection) -> None:
            self._seeding.build(connection, backend, revision)

        return Blueprint(self.chain.fingerprints[revision], build, fill)

    def _place(self, tenant: Tenant, claim: Claim, backend: Backend) -> dict[str, Any]:
        """Return where the new database will be: a name of our own, or the named place of a database that is gone."""
        if backend.on_server and tenant.origin != Origin.SERVER:
            if backend.exists(tenant, self.services.access(tenant)):
                raise ConfigurationError(
                    f"the database of user {tenant.user_id} is one that somebody named, and it is there: none can be "
                    "made beside it. Restore into a new account (--as-new-user), or empty that place first.",
                    field="backup",
                )
            return {name: getattr(tenant, name) for name in PLACE} | {"db_password": tenant.sealed_password}
        site = None
        if tenant.server_id is not None:
            with self.catalog.reading() as connection:
                site = self.services.site(servers.get(connection, tenant.server_id))
        whose = Whose(tenant.user_id, tenant.tenant_id, claim.epoch)
        return planned(self.services, backend, whose, fields=DatabaseFields(), site=site, origin=Origin.SERVER)
