"""Say what a new tenant's database holds, and write it there: its tables, its ledger, whose it is, its first rows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy import ledger
from tenancy.backends.base import Backend, Blueprint
from tenancy.errors import StaleRouteError
from tenancy.models import Kind, Pending, Placement, State, house_metadata, identity
from tenancy.operation import Operation

_insert_identity = identity.insert()
_hand_over = identity.update().where(
    identity.c.id == 1,
    identity.c.tenant_id == sa.bindparam("tenant"),
    identity.c.epoch == sa.bindparam("at_epoch"),
    identity.c.kind == str(Kind.TENANT),
    identity.c.user_id.is_(None),
)


class Furnishing(Operation):
    """Furnish databases that were just made, and say of them in the catalog that they are."""

    def blueprint(self, tenant: Placement, backend: Backend) -> Blueprint:
        """Say what a new tenant's database holds."""
        return Blueprint(
            fingerprint=self.chain.fingerprint,
            build=lambda connection: self.build(connection, backend),
            fill=lambda connection: self.fill(connection, tenant),
        )

    def done(self) -> dict[str, Any]:
        """Give the columns of a configuration whose database is ready and at head."""
        return {
            "state": State.READY,
            "is_active": True,
            "revision": self.chain.head,
            "schema_fingerprint": self.chain.fingerprint,
            "usable_from": self.chain.usable_from(self.chain.head),
            "last_error": None,
            "last_error_code": None,
        }

    def build(self, connection: sa.Connection, backend: Backend) -> None:
        """Migrate an empty database to head, with its ledger."""
        house_metadata.create_all(connection)
        connection.commit()
        self.chain.upgrade(
            connection,
            transactional_ddl=backend.transactional_ddl,
            on_apply=lambda *seen: self._applied(backend, *seen),
        )

    def fill(self, connection: sa.Connection, tenant: Placement) -> None:
        """Write a new tenant's own rows: whose it is, when its revisions were applied, its first rows."""
        write_identity(connection, tenant)
        ledger.date_as_new(connection)
        self._first_rows(connection, tenant)

    def _first_rows(self, connection: sa.Connection, tenant: Placement) -> None:
        if tenant.user_id is not None:
            for table, values in self.bench.schema.first_rows(tenant.user_id):
                connection.execute(table.insert(), values)

    def _applied(
        self, backend: Backend, connection: sa.Connection, revision: str, direction: str, checksum: str, took_ms: int
    ) -> None:
        backend.check_before_commit(connection)
        ledger.record(connection, revision, direction, checksum, took_ms, self.bench.schema.app_version)
        self.step(f"applied {revision}")

    def hand_over(self, connection: sa.Connection, tenant: Placement) -> None:
        """Give a database that stood ready to its user, in the caller's transaction there; whoever was first has it."""
        given = {"user_id": tenant.user_id, "state": str(State.READY), "created_at": datetime.now(UTC)}
        waiting = {"tenant": tenant.tenant_id, "at_epoch": tenant.epoch}
        if connection.execute(_hand_over, {**waiting, **given}).rowcount != 1:
            raise StaleRouteError("the database was handed over or retired meanwhile.", tenant_id=tenant.tenant_id)
        self._first_rows(connection, tenant)


def write_identity(connection: sa.Connection, tenant: Placement) -> None:
    """Say in a database whose it is; one that waits for its user is not to be used yet."""
    connection.execute(
        _insert_identity,
        {
            "id": 1,
            "tenant_id": tenant.tenant_id,
            "user_id": tenant.user_id,
            "kind": str(tenant.kind),
            "epoch": tenant.epoch,
            "state": str(State.PROVISIONING if isinstance(tenant, Pending) else State.READY),
            "created_at": datetime.now(UTC),
        },
    )
