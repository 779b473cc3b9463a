"""Put another database in the place of a user's present one: the steps that every such exchange has.

The catalog says that the tenant is moving; then the present database is fenced: its identity row says so too, under a
higher epoch, and no write passes it any more. What fails before the switch opens the present database again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tenancy.backends.base import Backend
from tenancy.catalog import tenants
from tenancy.catalog.claims import Claim
from tenancy.deadline import unhurried
from tenancy.errors import ClaimLostError, TenancyError
from tenancy.lifecycle.leftovers import Leftovers
from tenancy.lifecycle.operation import Operation, Services
from tenancy.models import State, Tenant
from tenancy.routing.guards import explained


class Exchange(Operation):
    """An operation that exchanges a tenant's database for another one."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._leftovers = Leftovers(services)

    @contextmanager
    def _returned(self, tenant: Tenant, claim: Claim, backend: Backend, state: State = State.READY) -> Iterator[None]:
        """Open the present database for use again where the block fails, in a ``state``, and end the claim."""
        try:
            yield
        except ClaimLostError:
            raise
        except Exception as error:
            with suppress(ClaimLostError), unhurried():
                self._return(tenant, claim, backend, state, error)
                self._leftovers.clear(self._leftovers.of_user(tenant.user_id or 0))
            raise

    def _return(self, tenant: Tenant, claim: Claim, backend: Backend, state: State, why: Exception) -> None:
        of = [(tenant.user_id, tenant.tenant_id)]
        as_before = {"state": state, "epoch": claim.epoch, "version": tenant.version + 1}
        try:
            with explained(backend):
                self.mark(tenant, claim, backend, state)
        except TenancyError as error:  # whoever works on it next opens it
            self.services.on_error(tenant, error)
            with claim.failing() as connection:
                tenants.change(connection, tenant, state=state)
                self.catalog.audit.failed(connection, claim.operation, why, of)
        else:
            with claim.ending() as connection:
                tenants.change(connection, tenant, **as_before)
                self.catalog.audit.failed(connection, claim.operation, why, of)
