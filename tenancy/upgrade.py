"""Bring one tenant's database to a revision, forward or back, under a claim.

Where a database can undo schema changes a revision is one transaction, and its first statement raises the epoch: every
write that began before waits for it, finds another epoch at the fence and is refused, and whoever finishes after a
kill finds in the same row what was done. Where each statement commits itself (MySQL) the database is closed to writes
first and opened again in the end.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from tenancy import ledger
from tenancy.backends.base import Backend
from tenancy.catalog.claims import Claim
from tenancy.errors import IdentityError, RevisionMismatchError, StaleRouteError, TenancyError
from tenancy.guards import check_whose
from tenancy.models import Placement, State, identity
from tenancy.operation import Operation

log = logging.getLogger(__name__)

_raise = identity.update().where(
    identity.c.id == 1,
    identity.c.tenant_id == sa.bindparam("whose"),
    identity.c.epoch.in_([sa.bindparam("before"), sa.bindparam("raised")]),
)


@dataclass(frozen=True)
class Reached:
    """Say where a database stands after a migration, what was applied or undone, and its epoch from here on."""

    revision: str | None
    epoch: int
    steps: list[str] = field(default_factory=list)


class Upgrade(Operation):
    """Migrate tenants that are there."""

    def bring(self, tenant: Placement, claim: Claim, backend: Backend, target: str, *, closed: bool = False) -> Reached:
        """Apply what lies between a database and ``target``, or undo it, and leave it open for use.

        ``closed`` says that ``close`` came before.

        Of a revision that raised nothing is left where the database can undo it. The error's ``reached`` field says
        where the database stands then; it is missing where that could not be found out.
        """
        access = self.bench.access(tenant)
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            here = self.standing(connection, tenant, backend, target)
            self.step("migrate")
            try:
                steps = self._run(connection, here, target, (tenant, claim, backend))
                backend.settle(connection, tenant, access, self.owned_tables())
                if not (steps and backend.transactional_ddl):
                    claim.check()
                    _mark(connection, tenant, State.READY)
            except Exception as error:
                self._reopen(connection, tenant, error, closed=closed or not backend.transactional_ddl)
                raise
        return Reached(target, tenant.epoch + 1, steps)

    def close(self, tenant: Placement, claim: Claim, backend: Backend) -> str | None:
        """Turn away all writes, those under way too; give the revision at which the database stands."""
        with backend.migrating(backend.connect_to_migrate(tenant, self.bench.access(tenant))) as connection:
            here = self.standing(connection, tenant, backend)
            claim.check()
            _mark(connection, tenant, State.MIGRATING)
        return here

    def open(self, tenant: Placement, claim: Claim, backend: Backend, revision: str) -> Reached:
        """Let a database be used that was put back as it was, whatever epoch that had."""
        with backend.migrating(backend.connect_to_migrate(tenant, self.bench.access(tenant))) as connection:
            if self.chain.current(connection) != revision:
                raise RevisionMismatchError(
                    f"what was put back is not at revision {revision}.", tenant_id=tenant.tenant_id, revision=revision
                )
            connection.rollback()
            claim.check()
            mine = (identity.c.id == 1, identity.c.tenant_id == tenant.tenant_id)
            opened = {"epoch": tenant.epoch + 1, "state": str(State.READY)}
            if connection.execute(identity.update().where(*mine), opened).rowcount != 1:
                raise IdentityError("what was put back belongs to another tenant.", tenant_id=tenant.tenant_id)
            connection.commit()
        return Reached(revision, tenant.epoch + 1, [revision])

    def reopen(self, tenant: Placement, claim: Claim, backend: Backend) -> Reached:
        """Leave a database as far as it came, open for use: whoever was to migrate it is gone."""
        with backend.migrating(backend.connect_to_migrate(tenant, self.bench.access(tenant))) as connection:
            here = self.standing(connection, tenant, backend)
            claim.check()
            _mark(connection, tenant, State.READY)
        return Reached(here, tenant.epoch + 1)

    def standing(
        self, connection: sa.Connection, tenant: Placement, backend: Backend, target: str | None = None
    ) -> str | None:
        """Give the revision at which a database stands; refuse one that is another's, or contradicts itself.

        What was edited after it was applied may still be undone, to be applied anew: on the way back to ``target``.
        """
        driver: Any = connection.connection
        check_whose(backend, tenant, driver)
        driver.rollback()
        here = self.chain.current(connection)
        told = ledger.standing(connection)
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
        return [table.name for table in self.bench.schema.metadata.sorted_tables if "user_id" in table.c]

    def _compare(self, tenant: Placement, here: str | None, told: dict[str, str], undone: list[str]) -> None:
        """Refuse where version table and ledger disagree, or where a revision is not the one that was applied."""
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
                "or see `unify fleet verify`.",
                tenant_id=tenant.tenant_id,
                revision=edited[0],
                edited=True,
            )

    def _run(
        self, connection: sa.Connection, here: str | None, target: str, held: tuple[Placement, Claim, Backend]
    ) -> list[str]:
        tenant, claim, backend = held

        def begun() -> None:
            if backend.transactional_ddl:
                _raise_epoch(connection, tenant, State.READY)

        def applied(changed: sa.Connection, revision: str, direction: str, checksum: str, took_ms: int) -> None:
            backend.check_before_commit(changed)
            ledger.record(changed, revision, direction, checksum, took_ms, self.bench.schema.app_version)
            claim.check()
            self.step(f"applied {revision}")

        if not backend.transactional_ddl:
            _mark(connection, tenant, State.MIGRATING)
        return self.chain.migrate(
            connection, here, target, transactional_ddl=backend.transactional_ddl, on_begin=begun, on_apply=applied
        )

    def _reopen(self, connection: sa.Connection, tenant: Placement, error: Exception, *, closed: bool) -> None:
        """Let a database be used again after a failure, and say in the error where it stands."""
        try:
            connection.rollback()
            if closed:
                _mark(connection, tenant, State.READY)
            epoch = connection.execute(sa.select(identity.c.epoch)).scalar_one()
            revision = self.chain.current(connection)
            connection.rollback()
        except (TenancyError, sa.exc.SQLAlchemyError) as second:
            log.warning(
                "tenant %s: where it stands could not be found out: %s", tenant.tenant_id, type(second).__name__
            )
            return
        if isinstance(error, TenancyError):
            error.fields["reached"] = Reached(revision, epoch)


def _mark(connection: sa.Connection, tenant: Placement, state: State) -> None:
    _raise_epoch(connection, tenant, state)
    connection.commit()


def _raise_epoch(connection: sa.Connection, tenant: Placement, state: State) -> None:
    """Turn away every write that began before; a database of yet another epoch is StaleRouteError."""
    epochs = {"whose": tenant.tenant_id, "before": tenant.epoch, "raised": tenant.epoch + 1}
    changed = connection.execute(_raise, epochs | {"epoch": tenant.epoch + 1, "state": str(state)})
    if changed.rowcount != 1:
        raise StaleRouteError("the database was replaced or retired meanwhile.", tenant_id=tenant.tenant_id)
