"""Find a tenant's database under another name than the catalog says: a restore or an exchange makes a new one.

Names tell whose a database may be, and its identity row whether it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import sqlalchemy as sa

from tenancy.backends.access import NO_ACCESS, Access
from tenancy.backends.base import Backend
from tenancy.backends.inventory import ItemKind
from tenancy.catalog import leftovers, servers
from tenancy.errors import TenancyError
from tenancy.lifecycle.operation import Operation, Services
from tenancy.models import Origin, Server, State, Tenant
from tenancy.routing.guards import Occupant, explained, inspect_occupant
from tenancy.schema.tables import tenancy_identity

OPEN = frozenset(map(str, (State.READY, State.SUSPENDED, State.READ_ONLY)))
"""What a database says of itself while it is its tenant's own; any other state says that another took its place."""

Names = dict[int, list[str]]


class Beside(Operation):
    """Look for databases under other names; each place is listed once."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._listed: dict[tuple[str, str, int], Names] = {}

    def newest(self, tenant: Tenant) -> tuple[Tenant, int, str] | None:
        """Return the newest open database of a tenant that is newer than the catalog, with its epoch and state.

        The tenant that is returned has its place, and no password. None if there is none.
        """
        if tenant.origin not in (None, Origin.SERVER):
            return None  # somebody named its place, and the application makes it no other
        backend = self.services.backend(tenant)
        found = [
            (placed, *identity)
            for placed, access in self._places(tenant, backend)
            if (identity := self._identity(placed, access, backend)) is not None
        ]
        newer = [each for each in found if each[1] > tenant.epoch and each[2] in OPEN]
        return max(newer, key=lambda each: each[1], default=None)

    def _places(self, tenant: Tenant, backend: Backend) -> Iterator[tuple[Tenant, Access]]:
        server = None if tenant.server_id is None else self._servers[tenant.server_id]
        access = NO_ACCESS if server is None else self.access(server)
        with self.catalog.reading() as connection:
            known = [tenant, *leftovers.of_user(connection, tenant.user_id or 0)]  # what is half-made is a leftover
        passed = {each.db_path or each.db_name for each in known}
        for name in self._names(backend, server, access).get(tenant.user_id or 0, ()):
            if name not in passed:
                place = {"db_path": name} if server is None else {"db_name": name, "db_user": name}
                yield tenant.with_(**place, sealed_password=None), access

    def access(self, server: Server) -> Access:
        """Return the login that administers a server."""
        return Access(None, self.services.server_login(server), server.installation)

    @cached_property
    def _servers(self) -> dict[int, Server]:
        with self.catalog.reading() as connection:
            return {server.id: server for server in servers.every(connection)}

    def _names(self, backend: Backend, server: Server | None, access: Access) -> Names:
        place = (backend.name, "", 0) if server is None else server.address
        if place not in self._listed:
            names: Names = {}
            self._listed[place] = names
            for item in backend.checks.inventory(access):
                if item.kind is ItemKind.DATABASE and item.user_id is not None:
                    names.setdefault(item.user_id, []).append(item.name)
        return self._listed[place]

    def _identity(self, placed: Tenant, access: Access, backend: Backend) -> tuple[int, str] | None:
        """Return epoch and state of a database; None if it is another tenant's or cannot be read."""
        try:
            driver = backend.connect_to_migrate(placed, access)
            with explained(backend), backend.checks.looking(driver) as connection:
                if inspect_occupant(placed, connection) is not Occupant.OURS:
                    return None
                row = connection.execute(sa.select(tenancy_identity.c.epoch, tenancy_identity.c.state)).one()
                return int(row.epoch), str(row.state)
        except TenancyError:
            return None
