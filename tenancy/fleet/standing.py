"""Look how tenants' databases stand to a catalog that was recovered; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from tenancy.backends.access import NO_ACCESS
from tenancy.backends.base import Backend
from tenancy.backends.inventory import InventoryItem
from tenancy.catalog import servers
from tenancy.catalog.tables import audit_log, users
from tenancy.errors import DatabaseMissingError, DatabaseUnreachableError, TenancyError
from tenancy.fleet.beside import OPEN, Beside
from tenancy.lifecycle.operation import Operation, Services
from tenancy.models import Server, Tenant
from tenancy.routing.guards import Occupant, explained, inspect_occupant
from tenancy.schema import identity
from tenancy.schema.tables import tenancy_identity

BEYOND = 10_000
"""How many user ids are passed over where a server did not answer, whose databases may have them."""


class Standing(StrEnum):
    """List how a tenant's database may stand to the catalog."""

    KEPT = "kept"
    """It is in its place and as the catalog knows it."""

    MISSING = "missing"
    UNMADE = "unmade"
    """The catalog says that it was being made, and it was not finished."""

    NEWER = "newer"
    """An operation that the catalog does not know has changed it."""

    REPLACED = "replaced"
    """An operation that the catalog does not know has closed it: its rows are elsewhere by now."""

    OLDER = "older"
    """The catalog knows an operation that it does not: it is an old copy."""

    UNREACHABLE = "unreachable"
    FAILED = "failed"


_LEFT = (Standing.MISSING, Standing.UNMADE, Standing.REPLACED, Standing.OLDER)
"""How a database may stand whose tenant may have another one by now."""


@dataclass(frozen=True)
class Look:
    """Say how a tenant's database stands, its epoch and its state; ``place`` is where it is, if under another name."""

    standing: Standing
    epoch: int = 0
    state: str = ""
    why: str = ""
    place: Tenant | None = None


class Looking(Operation):
    """Look at one tenant after another; a server that did not answer once is not asked again."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._beside = Beside(services)
        self._away: dict[str | None, str] = {}

    def look(self, tenant: Tenant) -> Look:
        """Return how a tenant's database stands; errors are returned, so that the others go on."""
        server = None
        try:
            backend = self.services.backend(tenant)
            server = backend.budget_key(tenant)
            if server in self._away:
                return Look(Standing.UNREACHABLE, why=self._away[server])
            with explained(backend):
                found = self._in_place(tenant, backend)
                return self._elsewhere(tenant) or found if found.standing in _LEFT else found
        except DatabaseUnreachableError as error:
            if server is not None:
                self._away[server] = error.message
            return Look(Standing.UNREACHABLE, why=error.message)
        except TenancyError as error:
            return Look(Standing.FAILED, why=error.message)

    def highest_user(self) -> tuple[int, list[str]]:
        """Return the highest id of a user that the catalog or the name of any database has, and who did not answer."""
        highest, silent = self._highest_known(), []
        for backend in self.backends.registered():
            if not backend.on_server:
                highest = max(highest, _highest(backend.checks.inventory(NO_ACCESS)))
        with self.catalog.reading() as connection:
            registered = servers.every(connection)
        for server in {each.address: each for each in registered}.values():
            try:
                highest = max(highest, self._highest_on(server))
            except TenancyError as error:
                silent.append(f"server {server.name}: {error.message}")
        return highest + (BEYOND if silent else 0), silent

    def _elsewhere(self, tenant: Tenant) -> Look | None:
        """Return the newer database that a tenant has under another name; None if there is none."""
        found = self._beside.newest(tenant)
        if found is None:
            return None
        place, epoch, state = found
        return Look(Standing.NEWER, epoch, state, f"it is at {place.db_path or place.db_name}", place)

    def _in_place(self, tenant: Tenant, backend: Backend) -> Look:
        try:
            driver = backend.connect_to_migrate(tenant, self.services.access(tenant))
        except DatabaseMissingError:
            return _absent(tenant)
        with backend.checks.looking(driver) as connection:
            found = inspect_occupant(tenant, connection)
            if found is not Occupant.OURS:
                return _absent(tenant, "" if found is Occupant.EMPTY else f"what is in its place is {found.value}")
            query = sa.select(tenancy_identity.c.epoch, tenancy_identity.c.state)
            with identity.legible(tenant):
                row = connection.execute(query).one()
                return _compared(tenant, int(row.epoch), str(row.state))

    def _highest_known(self) -> int:
        ids = [sa.select(sa.func.max(column)) for column in (users.c.id, audit_log.c.user_id, audit_log.c.actor_id)]
        with self.catalog.reading() as connection:
            return max(int(connection.execute(query).scalar_one() or 0) for query in ids)

    def _highest_on(self, server: Server) -> int:
        return _highest(self.backends.get(server.db_type).checks.inventory(self._beside.access(server)))


def _highest(items: Iterator[InventoryItem]) -> int:
    """Return the highest believable id: a file can be given any name, and ids must not run out."""
    return max((item.user_id for item in items if item.user_id and item.user_id < identity.MOST), default=0)


def _absent(tenant: Tenant, why: str = "") -> Look:
    return Look(Standing.UNMADE if tenant.revision is None else Standing.MISSING, why=why)


def _compared(tenant: Tenant, epoch: int, state: str) -> Look:
    if epoch < tenant.epoch:
        return Look(Standing.OLDER, epoch, state)
    if epoch == tenant.epoch and tenant.revision is not None:
        return Look(Standing.KEPT, epoch, state)
    return Look(Standing.NEWER if state in OPEN else Standing.REPLACED, epoch, state)
