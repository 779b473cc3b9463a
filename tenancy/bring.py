"""Let users keep their rows in a database of their own, where the operator allows that (ALLOW_USER_DATABASES).

Which hosts they may name is decided by ``hosts.HostPolicy`` at every connection. A database that holds rows already
is not given up for another one: rows are moved by an operation of their own.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import DatabaseFields
from tenancy.catalog import configs
from tenancy.errors import AccessDeniedError, ConfigurationError, TenantExistsError
from tenancy.models import Origin, Placement, State
from tenancy.operation import Operation, Workbench
from tenancy.probe import probe
from tenancy.provision import Provisioned, Provisioner
from tenancy.retire import Retirement
from tenancy.routes import Router


class OwnDatabases(Operation):
    """Try and connect databases that users name."""

    def __init__(
        self, bench: Workbench, provisioner: Provisioner, retirement: Retirement, router: Router, *, allowed: bool
    ) -> None:
        super().__init__(bench)
        self._provisioner = provisioner
        self._retirement = retirement
        self._router = router
        self.allowed = allowed

    def probe(self, user_id: int, fields: DatabaseFields) -> dict[str, Any]:
        """Say what is right and wrong with a database that a user names, as ``probe.probe`` does; nothing is made."""
        self._refuse(fields)
        return probe(self.bench, user_id, fields, Origin.USER, replacing=True)

    def connect(self, user_id: int, fields: DatabaseFields) -> Provisioned:
        """Keep a user's rows in the database they name from here on; what cannot be used leaves all as it was."""
        self._refuse(fields)
        with self.catalog.reading() as connection:
            there = configs.of_account(connection, user_id)
        if there is not None and there.revision is not None:
            self._refuse_used(there, user_id)
            found = self.probe(user_id, fields)
            if not found["ok"]:
                raise ConfigurationError(found["message"], field="db_host", reason=found["code"])
            self._retirement.delete(user_id)
        return self._provisioner.provision(user_id, fields, Origin.USER)

    def _refuse(self, fields: DatabaseFields) -> None:
        if not self.allowed:
            raise AccessDeniedError("users may not bring their own databases here (ALLOW_USER_DATABASES=false).")
        if fields.db_host is None or fields.db_type is None:
            name = "db_host" if fields.db_host is None else "db_type"
            raise ConfigurationError(f"{name} is needed to name a database of your own.", field=name)
        self.backends.get(fields.db_type).given(fields)

    def _refuse_used(self, tenant: Placement, user_id: int) -> None:
        if tenant.state is not State.READY or self._holds_rows(user_id):
            raise TenantExistsError(
                "your present database holds rows: they have to be moved, which is an operator's work.", user_id=user_id
            )

    def _holds_rows(self, user_id: int) -> bool:
        """Say whether a user has written anything beside what every new database begins with."""
        first = [table.name for table, _ in self.bench.schema.first_rows(user_id)]
        owned = [table for table in self.bench.schema.metadata.sorted_tables if "user_id" in table.c]
        with self._router.connected(user_id, write=False) as (connection, _):
            for table in owned:
                some = sa.select(sa.literal(1)).select_from(table).where(table.c.user_id == user_id)
                if len(connection.execute(some.limit(first.count(table.name) + 1)).all()) > first.count(table.name):
                    return True
        return False
