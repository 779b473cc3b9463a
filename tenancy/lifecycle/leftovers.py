"""Remove databases that no tenant uses any more, and take each off the list once it is gone.

A name that the application made up was never given to another tenant, nor on servers to another attempt, so what has it
can be dropped. A database that somebody named may be another tenant's by now: its identity row is compared before it is
dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import sqlalchemy as sa

from tenancy.catalog import leftovers
from tenancy.catalog.leftovers import Reason
from tenancy.errors import CatalogDamagedError, TenancyError, code_and_message
from tenancy.lifecycle.operation import Operation
from tenancy.models import Leftover, Tenant
from tenancy.routing.guards import explained

log = logging.getLogger(__name__)

PAGE = 200


class Leftovers(Operation):
    """Serve as ``manager.leftovers``: list the databases that were left behind, and remove them."""

    def listed(self, after: int = 0, most: int = PAGE) -> list[Leftover]:
        """List leftovers, oldest first; ``after`` is the id of the last one seen."""
        with self.catalog.reading() as connection:
            return leftovers.page(connection, after, most)

    def of_user(self, user_id: int, *, kept: bool = False) -> list[Leftover]:
        """List a user's leftovers, oldest first; those that a restore kept only if asked for."""
        with self.catalog.reading() as connection:
            found = leftovers.of_user(connection, user_id)
        return [each for each in found if kept or each.reason != Reason.KEPT]

    def confirm(self, leftover_id: int) -> Leftover:
        """Take an operator's word that a database is gone, and take it off the list."""
        with self.catalog.writing() as connection:
            left = leftovers.get(connection, leftover_id)
            self._forget(connection, left, "confirmed")
        return left

    def clear(self, left: Iterable[Leftover]) -> list[Leftover]:
        """Remove what can be removed now; return what stays, each with the error that was in the way."""
        staying = []
        for each in left:
            try:
                self.take_away(each)
            except (TenancyError, OSError) as error:
                code, message = code_and_message(error)
                log.warning("leftover database %d of user %s stays: %s", each.id, each.user_id, message)
                with self.catalog.writing() as connection:
                    leftovers.failed(connection, each, message, code)
                staying.append(each)
            else:
                self.step("forget leftover")
                with self.catalog.writing() as connection:
                    self._forget(connection, each, "removed")
        return staying

    def take_away(self, tenant: Tenant) -> None:
        """Drop a database that is ours, the remains of attempts to create it, and its restore points.

        A database that is gone already is no error.
        """
        if tenant.damaged:
            raise CatalogDamagedError(f"its row in the catalog is damaged ({', '.join(tenant.damaged)}).")
        backend = self.services.backend(tenant)
        with explained(backend):
            backend.clear_attempts(tenant, tenant.epoch + 1)
            if not tenant.owned:
                return
            access = self.services.access(tenant)
            for point in backend.restore_points.list(tenant, access):
                backend.restore_points.delete(tenant, access, point)
            backend.drop(tenant, access)

    def _forget(self, connection: sa.Connection, left: Leftover, how: str) -> None:
        leftovers.remove(connection, [left])
        where = {name: getattr(left, name) for name in ("db_type", "db_host", "db_name", "db_path")}
        self.catalog.audit.append(
            connection,
            "leftover.remove",
            user_id=left.user_id,
            tenant_id=left.tenant_id,
            detail={"how": how, "reason": left.reason} | {name: value for name, value in where.items() if value},
        )
