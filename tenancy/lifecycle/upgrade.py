"""Migrate one tenant's database to a revision, forward or back, under a claim.

Where a database can roll back schema changes each revision is one transaction, whose first statement raises the epoch.
Writes that began before wait for that row, find another epoch at the fence and are refused; whoever goes on after a
kill reads in the same row what was done. Where each statement commits by itself (MySQL) the database is closed to
writes first and opened again in the end.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.catalog.claims import Claim
from tenancy.errors import RevisionMismatchError, TenancyError
from tenancy.lifecycle.operation import Operation, mark
from tenancy.models import State, Tenant
from tenancy.routing.guards import check_whose
from tenancy.schema import identity, ledger
from tenancy.schema.tables import tenancy_identity as identity_table

log = logging.getLogger(__name__)


Held = tuple[Tenant, Claim, Backend]
"""A tenant under the claim of whoever works on it, and the product that keeps it."""


@dataclass(frozen=True)
class Reached:
    """At which revision a database is after a migration, what was applied or undone, and its epoch from here on."""

    revision: str | None
    epoch: int
    steps: list[str] = field(default_factory=list)


class Upgrade(Operation):
    """Migrate existing databases."""

    def migrate_to(
        self, tenant: Tenant, claim: Claim, backend: Backend, target: str, *, closed: bool = False
    ) -> Reached:
        """Apply the revisions between a database and ``target``, or undo them, and leave the database open for use.

        ``closed`` says that ``close`` came before.

        A revision that raises is rolled back where the database can. The error's ``reached`` field says at which
        revision the database is then; the field is missing where that could not be found out.
        """
        access = self.services.access(tenant)
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            here = self.verified_revision(connection, tenant, backend, target)
            self.step("migrate")
            try:
                steps = self._run(connection, here, target, (tenant, claim, backend))
                backend.grant_rights(connection, tenant, access, self.owned_tables())
                if not (steps and backend.transactional_ddl):
                    _mark(connection, (tenant, claim, backend), State.READY)
            except Exception as error:
                closed = closed or not backend.transactional_ddl
                self._reopen(connection, (tenant, claim, backend), error, closed=closed)
                raise
        return Reached(target, claim.epoch, steps)

    def close(self, tenant: Tenant, claim: Claim, backend: Backend) -> str | None:
        """Refuse all writes, those under way too; return the revision at which the database is."""
        with backend.migrating(backend.connect_to_migrate(tenant, self.services.access(tenant))) as connection:
            here = self.verified_revision(connection, tenant, backend)
            self.step("close")
            mark(backend, connection, tenant, claim, State.MIGRATING)
            claim.check()  # before the mark holds: whoever took over may have let in writes that a late one would undo
            connection.commit()
        return here

    def open(self, tenant: Tenant, claim: Claim, backend: Backend, revision: str) -> Reached:
        """Open a restored database for use, whatever epoch it had."""
        with backend.migrating(backend.connect_to_migrate(tenant, self.services.access(tenant))) as connection:
            if self.chain.current(connection) != revision:
                raise RevisionMismatchError(
                    f"what was put back is not at revision {revision}.", tenant_id=tenant.tenant_id, revision=revision
                )
            connection.rollback()
            identity.mark_restored(connection, tenant, claim.epoch)
            connection.commit()
        return Reached(revision, claim.epoch, [revision])

    def reopen(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached:
        """Open a database for use at the revision it reached: the runner that was to migrate it is gone."""
        with backend.migrating(backend.connect_to_migrate(tenant, self.services.access(tenant))) as connection:
            here = self.verified_revision(connection, tenant, backend)
            _mark(connection, (tenant, claim, backend), State.READY)
        return Reached(here, claim.epoch)

    def verified_revision(
        self, connection: sa.Connection, tenant: Tenant, backend: Backend, target: str | None = None
    ) -> str | None:
        """Return the revision at which a database is; refuse another tenant's database.

        A database whose version table and ledger disagree is refused too. A revision whose file was edited after it was
        applied may still be undone on the way back to ``target``, to be applied anew.
        """
        driver: Any = connection.connection
        check_whose(backend, tenant, driver)
        driver.rollback()
        here = self.chain.current(connection)
        told = ledger.applied_checksums(connection, self.chain.checksums)
        connection.rollback()
        if here is not None and not self.chain.knows(here):
            raise RevisionMismatchError(
                f"the database is at revision {here}, which this version of the application does not know.",
                tenant_id=tenant.tenant_id,
                revision=here,
            )
        undone = self.chain.between(here, target) if here is not None and target is not None else []
        self._compare(tenant, here, told, undone if here in undone else [])
        return here

    def owned_tables(self) -> list[str]:
        """Name the application's tables whose rows have an owner."""
        return [table.name for table in self.services.schema.metadata.sorted_tables if "user_id" in table.c]

    def _compare(self, tenant: Tenant, here: str | None, told: dict[str, str], undone: list[str]) -> None:
        """Refuse where version table and ledger disagree, or a revision's file was edited."""
        last = next(reversed(told), None)
        if last != here:
            raise RevisionMismatchError(
                f"the version table says {here}, the ledger {last}: find out which is right before migrating.",
                tenant_id=tenant.tenant_id,
                revision=here,
                ledger_revision=last,
            )
        kept = {name: checksum for name, checksum in told.items() if name not in undone}
        edited = [name for name, checksum in kept.items() if self.chain.checksums.get(name, checksum) != checksum]
        if edited:
            raise RevisionMismatchError(
                f"revision {edited[0]} was edited after it was applied here: put its file back, "
                "or see `unify fleet verify` or `manager.fleet.verify()`.",
                tenant_id=tenant.tenant_id,
                revision=edited[0],
                edited=True,
            )

    def _run(self, connection: sa.Connection, here: str | None, target: str, held: Held) -> list[str]:
        tenant, claim, backend = held

        def begun() -> None:
            if backend.transactional_ddl:
                mark(backend, connection, tenant, claim, State.READY)

        def applied(changed: sa.Connection, revision: str, direction: str, checksum: str, took_ms: int) -> None:
            backend.check_before_commit(changed)
            ledger.record(changed, revision, direction, checksum, took_ms, self.services.schema.app_version)
            claim.check()  # a runner that was replaced stops here, before it takes the other one's time
            self.step(f"applied {revision}")

        if not backend.transactional_ddl:
            _mark(connection, held, State.MIGRATING)
        return self.chain.migrate(
            connection, here, target, transactional_ddl=backend.transactional_ddl, on_begin=begun, on_apply=applied
        )

    def _reopen(self, connection: sa.Connection, held: Held, error: Exception, *, closed: bool) -> None:
        """Open a database for use again after a failure, and put its revision into the error."""
        tenant = held[0]
        try:
            connection.rollback()
            if closed:
                _mark(connection, held, State.READY)
            epoch = connection.execute(sa.select(identity_table.c.epoch)).scalar_one()
            revision = self.chain.current(connection)
            connection.rollback()
        except (TenancyError, sa.exc.SQLAlchemyError) as second:
            log.warning("tenant %s: its revision could not be found out: %s", tenant.tenant_id, type(second).__name__)
            return
        if isinstance(error, TenancyError):
            error.fields["reached"] = Reached(revision, epoch)


def _mark(connection: sa.Connection, held: Held, state: State) -> None:
    tenant, claim, backend = held
    mark(backend, connection, tenant, claim, state)
    connection.commit()
