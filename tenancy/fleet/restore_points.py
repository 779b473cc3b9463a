"""Create a restore point of a tenant before a fleet run changes its schema, and restore it when the run is reverted.

It is created while the database is closed to writes, so no write between the restore point and the migration can get
lost unnoticed. A runner that takes over from a killed one never replaces a restore point that exists already, which
might otherwise contain the migrated database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.catalog import runs, tenants
from tenancy.catalog.claims import Claim
from tenancy.catalog.runs import Rules
from tenancy.errors import ClaimedError, IdentityError, MigrationError, TenancyError
from tenancy.lifecycle.operation import Operation
from tenancy.lifecycle.upgrade import Reached, Upgrade
from tenancy.models import Tenant
from tenancy.routing.guards import explained
from tenancy.schema.tables import tenancy_identity, tenancy_tables

PAGE = 200


class RestorePoints(Operation):
    """Create, restore and delete the restore points of fleet runs; ``backend.restore_points`` does the copying."""

    def wanted(self, rules: Rules, here: str | None, target: str) -> bool:
        """Return whether a tenant needs a restore point: the run asks for it, or a revision is destructive."""
        if rules.bare or here is None or not self.chain.knows(here):
            return False
        return rules.snapshot or any(self.chain.is_destructive(name) for name in self.chain.between(here, target))

    def create(self, tenant: Tenant, claim: Claim, backend: Backend, item: dict[str, Any]) -> bool:
        """Close a database to writes and create a restore point; return whether there is one of before the run."""
        here = Upgrade(self.services).close(tenant, claim, backend)
        access, point = self.services.access(tenant), _name(item["run_id"])
        if here != item["from_revision"]:
            return backend.restore_points.has(tenant, access, point)
        if item["tries"] and backend.restore_points.has(tenant, access, point):
            return True
        self.step("restore point")
        with self._open_again(tenant, claim, backend):
            mine = tenant.with_(epoch=claim.epoch)
            backend.restore_points.create(mine, access, point, step=self.services.step)
        return True

    def restore(self, tenant: Tenant, claim: Claim, backend: Backend, item: dict[str, Any], taken_back: int) -> Reached:
        """Restore a database from before the run ``taken_back``; everything written since is lost."""
        upgrade, access, point = Upgrade(self.services), self.services.access(tenant), _name(taken_back)
        if not backend.restore_points.has(tenant, access, point):
            raise MigrationError("its restore point is gone: bring back a backup.", tenant_id=tenant.tenant_id)
        try:
            upgrade.close(tenant, claim, backend)
        except IdentityError:
            if self.says_whose(tenant, backend):  # no identity row: a restore was killed, and goes on now
                raise
        target = item["to_revision"]
        with self._open_again(tenant, claim, backend):
            mine = tenant.with_(epoch=claim.epoch)
            rebuild = partial(self._rebuild, backend=backend, target=target)
            step = self.services.step
            backend.restore_points.restore(mine, access, point, rebuild=rebuild, claim=claim, step=step)
        self.step("open")
        return upgrade.open(tenant, claim, backend, target)

    def delete(self, run_id: int) -> int:
        """Delete a run's restore points, so it cannot be rolled back by them any more; return how many there were."""
        after, removed = 0, 0
        while rows := self._with_points(run_id, after):
            for row in rows:
                removed += self._delete(row)
            after = rows[-1]["user_id"]
        return removed

    def says_whose(self, tenant: Tenant, backend: Backend) -> bool:
        """Return whether a database has an identity row; a restore inserts it last."""
        with backend.checks.looking(backend.connect_to_migrate(tenant, self.services.access(tenant))) as connection:
            there = sa.inspect(connection).has_table(tenancy_identity.name)
            return there and connection.execute(sa.select(tenancy_identity.c.id)).first() is not None

    @contextmanager
    def _open_again(self, tenant: Tenant, claim: Claim, backend: Backend) -> Iterator[None]:
        """Reopen a closed database if the block fails, and put its revision and epoch into the error.

        It stays closed if the runner from which this one took the claim over is still at work there.
        """
        try:
            yield
        except TenancyError as error:
            if error.fields.pop("others_at_work", False):
                raise
            with suppress(TenancyError):  # half restored, it stays closed until the restore is tried again
                error.fields["reached"] = Upgrade(self.services).reopen(tenant, claim, backend)
            raise

    def _with_points(self, run_id: int, after: int) -> list[dict[str, Any]]:
        with self.catalog.reading() as connection:
            runs.get(connection, run_id)
            return runs.items(connection, run_id, with_points=True, after=after, limit=PAGE)

    def _delete(self, row: dict[str, Any]) -> bool:
        with self.catalog.writing() as connection:
            tenant = tenants.find(connection, row["user_id"])
            if tenant is None or tenant.tenant_id != row["tenant_id"]:
                runs.change_items(connection, row["run_id"], [{"user_id": row["user_id"], "restore_point": False}])
                return False
            try:
                claim = self.claim(connection, tenant, "discard")
            except ClaimedError:
                return False
        with self.abandoned(tenant, claim, "discard"):
            backend = self.services.backend(tenant)
            with explained(backend):
                tenant = self.refenced(tenant, claim, backend)
                backend.restore_points.delete(tenant, self.services.access(tenant), _name(row["run_id"]))
        with claim.ending() as connection:
            runs.change_items(connection, row["run_id"], [{"user_id": row["user_id"], "restore_point": False}])
        return True

    def _rebuild(self, connection: sa.Connection, backend: Backend, target: str) -> None:
        tenancy_tables.create_all(connection)
        connection.commit()
        self.chain.upgrade(connection, transactional_ddl=backend.transactional_ddl, target=target)


def _name(run_id: int) -> str:
    return f"run{run_id}"
