"""Build a new tenant's database: its tables, its ledger, its identity row, its first rows."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend, Blueprint
from tenancy.catalog.claims import Claim
from tenancy.lifecycle.operation import Operation
from tenancy.models import State, Tenant
from tenancy.schema import identity, ledger
from tenancy.schema.tables import tenancy_tables


class Seeding(Operation):
    """Build the schema and write the first rows of databases that were just created."""

    def blueprint(self, tenant: Tenant, backend: Backend) -> Blueprint:
        """Return how a new tenant's database is built and filled."""
        return Blueprint(
            fingerprint=self.chain.fingerprint,
            build=lambda connection: self.build(connection, backend),
            fill=lambda connection: self.fill(connection, tenant),
        )

    def done(self) -> dict[str, Any]:
        """Return the columns of a tenant whose database is ready and at head."""
        return {
            "state": State.READY,
            "is_active": True,
            "revision": self.chain.head,
            "schema_fingerprint": self.chain.fingerprint,
            "usable_from": self.chain.usable_from(self.chain.head),
            "last_error": None,
            "last_error_code": None,
        }

    def build(self, connection: sa.Connection, backend: Backend, target: str = "head") -> None:
        """Migrate an empty database to a revision, with its ledger."""
        tenancy_tables.create_all(connection)
        connection.commit()
        self.chain.upgrade(
            connection,
            transactional_ddl=backend.transactional_ddl,
            on_apply=lambda *seen: self._applied(backend, *seen),
            target=target,
        )

    def fill(self, connection: sa.Connection, tenant: Tenant) -> None:
        """Write a new tenant's own rows: the identity row, the ledger's dates, the first rows."""
        identity.write(connection, tenant)
        ledger.date_as_new(connection)
        self._first_rows(connection, tenant)

    def _first_rows(self, connection: sa.Connection, tenant: Tenant) -> None:
        if tenant.user_id is not None:
            for table, values in self.services.schema.first_rows(tenant.user_id):
                connection.execute(table.insert(), values)

    def _applied(
        self, backend: Backend, connection: sa.Connection, revision: str, direction: str, checksum: str, took_ms: int
    ) -> None:
        backend.check_before_commit(connection)
        ledger.record(connection, revision, direction, checksum, took_ms, self.services.schema.app_version)
        self.step(f"applied {revision}")

    def hand_over(self, connection: sa.Connection, tenant: Tenant, claim: Claim) -> None:
        """Write a user and their first rows into a database that was kept ready; the caller commits."""
        identity.hand_over(connection, tenant, claim.epoch)
        self._first_rows(connection, tenant)
