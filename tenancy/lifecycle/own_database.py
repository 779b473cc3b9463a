"""Let users keep their rows in a database of their own, where the operator allows that (ALLOW_USER_DATABASES).

``hosts.HostPolicy`` decides at every connection which hosts may be named. A database that holds rows already is not
given up for another one: moving rows is an operation of its own. So the present database is fenced (its epoch raised)
before its rows are counted, and dropped only after the user's row names the other one. Whatever fails on the way leaves
the user as they were.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.base import Backend, DatabaseFields, Whose
from tenancy.catalog import leftovers, tenants, users
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.deadline import lifted, unhurried
from tenancy.errors import (
    AccessDeniedError,
    ConfigurationError,
    DatabaseMissingError,
    TenantExistsError,
    TenantNotReadyError,
)
from tenancy.lifecycle.exchange import Exchange
from tenancy.lifecycle.placement import emptied, planned
from tenancy.lifecycle.preflight import probe
from tenancy.lifecycle.provision import Provisioned, Provisioner
from tenancy.models import Leftover, Origin, State, Tenant
from tenancy.routing.bulkhead import Bulkhead
from tenancy.routing.guards import Occupant, explained, inspect_occupant, way_on
from tenancy.schema.tables import tenancy_identity

_PLACE = ("db_type", "db_host", "db_port", "db_name", "db_user")


class OwnDatabases(Exchange):
    """Serve as ``manager.own_databases``: try and connect databases that users name."""

    def __init__(self, provisioner: Provisioner, bulkhead: Bulkhead, *, allowed: bool) -> None:
        super().__init__(provisioner.services)
        self._provisioner = provisioner
        self._bulkhead = bulkhead
        self.allowed = allowed

    def probe(self, user_id: int, fields: DatabaseFields) -> dict[str, Any]:
        """Report on a database that a user names, as ``preflight.probe`` does; nothing is created."""
        user_id = names.user_id(user_id)
        self._refuse(fields)
        replacing = partial(self._refuse_to_replace, fields)
        with self._bulkhead.place(user_id):
            return probe(self.services, user_id, fields, Origin.USER, replacing=replacing)

    def connect(self, user_id: int, fields: DatabaseFields) -> Provisioned:
        """Keep a user's rows in the database that they name; one that cannot be used leaves everything as it was.

        The server may be far away, or never answer: each part of the work is bounded in time, and a user holds few
        threads.
        """
        user_id = names.user_id(user_id)
        self._refuse(fields)
        with self._bulkhead.place(user_id), lifted():
            return self._connected(user_id, fields)

    def _connected(self, user_id: int, fields: DatabaseFields) -> Provisioned:
        with self.catalog.reading() as connection:
            there = tenants.of_account(connection, user_id)
        if there is None or there.revision is None or self._is_there(there, fields):
            with unhurried():
                return self._provisioner.provision(user_id, fields, Origin.USER)
        # The rows of the present database are looked at when it takes no more writes.
        found = probe(self.services, user_id, fields, Origin.USER, replacing=lambda present: None)
        if not found["ok"]:
            raise ConfigurationError(found["message"], field="db_host", reason=found["code"])
        return self._exchanged(user_id, fields)

    def _exchanged(self, user_id: int, fields: DatabaseFields) -> Provisioned:
        """Replace an empty database by the one that is named, and drop the empty one once the other is in use."""
        self.step("claim")
        with self.catalog.writing() as connection:
            tenant = tenants.get(connection, user_id)
            if tenant.state not in (State.READY, State.MOVING):
                raise TenantNotReadyError(
                    f"your database is {tenant.state}: {way_on(tenant)}", state=tenant.state, user_id=user_id
                )
            before = self.services.backend(tenant)
            backend = self.services.backend_for(tenant, fields.db_type)
            claim = self.claim(connection, tenant, "exchange")
            tenants.change(connection, tenant, state=State.MOVING)
        with self._returned(tenant, claim, before):
            self.step("fence")
            with unhurried(), explained(before):
                self.mark(tenant, claim, before, State.MOVING)
                self._refuse_rows(tenant, before)
            with unhurried(), explained(backend):
                whose = Whose(user_id, tenant.tenant_id, claim.epoch)
                wanted = planned(self.services, backend, whose, fields=fields, site=None, origin=Origin.USER)
                made = _at(tenant, wanted)
                same = self._is_present(made, claim, backend)
                left = self._made(made.with_(epoch=0), claim, backend)  # an attempt that was cut off may be there
            made = made.with_(owned=tenant.owned if same else left is not None)
            self.step("switch")
            with claim.ending() as connection:
                self._switch(connection, tenant, made, wanted, replaced=tenant.owned and not same)
                leftovers.remove(connection, [left] if left else [])
        self.services.on_retire(tenant.tenant_id)
        with unhurried():
            self._leftovers.clear(self._leftovers.of_user(user_id))
        return Provisioned(made.with_(**self._provisioner.seeding.done()), created=not same)

    def _is_present(self, made: Tenant, claim: Claim, backend: Backend) -> bool:
        """Tell whether the named database is the present one, under another name of its server or for another login.

        Only the present one has the epoch that was written a moment ago: an attempt that was cut off has a lower one.
        """
        try:
            driver = backend.connect_to_migrate(made, self.services.access(made))
        except DatabaseMissingError:
            return False
        with backend.checks.looking(driver) as connection:
            if inspect_occupant(made, connection) is not Occupant.OURS:
                return False
            return bool(connection.execute(sa.select(tenancy_identity.c.epoch)).scalar_one() == claim.epoch)

    def _made(self, tenant: Tenant, claim: Claim, backend: Backend) -> Leftover | None:
        """Create the named database, or fill it where it is there and empty; return the leftover row of a created one.

        The leftover row is written before the database is created and deleted in the transaction of the switch, so a
        kill in between leaves the database on the list of leftovers.
        """
        if backend.exists(tenant, self.services.access(tenant)):
            self._provisioner.take_over(tenant, claim, backend)
            return None
        with claim.writing() as connection:
            left = leftovers.add(connection, tenant.with_(owned=True, epoch=claim.epoch), Reason.HALF_MADE)
        self._provisioner.create(tenant, claim, backend)
        return left

    def _switch(
        self, connection: sa.Connection, tenant: Tenant, made: Tenant, wanted: dict[str, Any], *, replaced: bool
    ) -> None:
        """Record in one transaction where the user's rows are from here on, and what is to be removed."""
        if replaced:
            leftovers.add(connection, tenant.with_(epoch=made.epoch), Reason.REPLACED)
        changes = emptied() | wanted | self._provisioner.seeding.done()
        tenants.change(connection, tenant, **changes | {"owned": made.owned, "version": made.version})
        users.keep_database_epoch(connection, tenant.user_id or 0, made.epoch)
        detail = {"type": made.db_type, "host": f"{made.db_host}:{made.db_port}", "instead_of": tenant.db_type}
        self.catalog.audit.append(
            connection, "tenant.own_database", user_id=tenant.user_id, tenant_id=tenant.tenant_id, detail=detail
        )

    def _refuse(self, fields: DatabaseFields) -> None:
        if not self.allowed:
            raise AccessDeniedError("users may not connect their own databases here (ALLOW_USER_DATABASES=false).")
        if fields.db_host is None or fields.db_type is None:
            name = "db_host" if fields.db_host is None else "db_type"
            raise ConfigurationError(f"{name} is required to connect a database of your own.", field=name)
        self.backends.get(fields.db_type).given(fields)

    def _is_there(self, tenant: Tenant, fields: DatabaseFields) -> bool:
        """Tell whether the named database is the one that the user has."""
        backend, whose = self.backends.get(fields.db_type or ""), Whose(tenant.user_id, tenant.tenant_id)
        wanted = planned(self.services, backend, whose, fields=fields, site=None, origin=Origin.USER)
        return tenant.origin == Origin.USER and all(getattr(tenant, name) == wanted.get(name) for name in _PLACE)

    def _refuse_to_replace(self, fields: DatabaseFields, tenant: Tenant) -> None:
        if tenant.revision is not None and not self._is_there(tenant, fields):
            backend = self.services.backend(tenant)
            with explained(backend):
                self._refuse_rows(tenant, backend)

    def _refuse_rows(self, tenant: Tenant, backend: Backend) -> None:
        """Refuse where a user has written anything beside the rows that every new database begins with."""
        first = [table.name for table, _ in self.services.schema.first_rows(tenant.user_id or 0)]
        owned = [table for table in self.services.schema.metadata.sorted_tables if "user_id" in table.c]
        with backend.checks.looking(backend.connect(tenant, self.services.serving(tenant))) as connection:
            for table in owned:
                some = sa.select(sa.literal(1)).select_from(table).where(table.c.user_id == tenant.user_id)
                if len(connection.execute(some.limit(first.count(table.name) + 1)).all()) > first.count(table.name):
                    raise TenantExistsError(
                        "your present database holds data: only an empty one can be replaced.",
                        user_id=tenant.user_id,
                    )


def _at(tenant: Tenant, wanted: dict[str, Any]) -> Tenant:
    """Return the tenant as it will be in the wanted place."""
    place = emptied() | wanted | {"owned": False, "version": tenant.version + 1}
    sealed = place.pop("db_password")
    return tenant.with_(**place, sealed_password=sealed)
