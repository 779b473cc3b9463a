"""Hold what every operation on a tenant needs: its parts, its steps, and what it leaves behind when it fails."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import sqlalchemy as sa

from tenancy.backends import Backends
from tenancy.backends.base import Backend, Step
from tenancy.catalog import Catalog, claims, configs
from tenancy.catalog.claims import Claim
from tenancy.errors import ClaimLostError, ProvisionError, StaleRouteError, TenancyError
from tenancy.guards import check_identity
from tenancy.keyring import Keyring
from tenancy.migrate import Chain
from tenancy.models import Placement, State, TenantSchema, identity

log = logging.getLogger(__name__)


def _no_step(name: str) -> None:
    log.debug("step: %s", name)


@dataclass
class Workbench:
    """Hold the parts that operations work with; ``step`` hears each step's name before it is taken.

    ``on_error`` hears what went wrong with a tenant, on whichever way to it.
    """

    catalog: Catalog
    backends: Backends
    schema: TenantSchema
    chain: Chain
    keyring: Keyring
    default_type: str = "sqlite"
    step: Step = _no_step
    claim_ttl_s: float = claims.DEFAULT_TTL_S
    on_retire: Callable[[uuid.UUID], None] = lambda tenant_id: None
    on_error: Callable[[Placement, BaseException], None] = lambda tenant, error: None

    def secret(self, tenant: Placement) -> str | None:
        """Open the tenant's password, where it has one."""
        return None if tenant.sealed_password is None else self.keyring.open(tenant.sealed_password, tenant.binding)


class Operation:
    """Work on one tenant at a time, under a claim, on a workbench."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self.catalog = bench.catalog
        self.backends = bench.backends
        self.chain = bench.chain

    def step(self, name: str) -> None:
        """Announce the step that comes next."""
        self.bench.step(name)

    def claim(self, connection: sa.Connection, tenant_id: uuid.UUID, operation: str, *, first: bool = False) -> Claim:
        """Claim a tenant in the caller's transaction, or raise ClaimedError."""
        return claims.take(self.catalog, connection, tenant_id, operation, self.bench.claim_ttl_s, first=first)

    @contextmanager
    def told(self, tenant: Placement, claim: Claim, state: State) -> Iterator[None]:
        """Leave word in the catalog of what fails inside, with the state it leaves, and end the claim."""
        try:
            yield
        except ClaimLostError:
            raise
        except Exception as error:
            self._failed(tenant, claim, state, error)
            raise

    def mark(self, tenant: Placement, backend: Backend, state: State, *, raise_epoch: bool = False) -> None:
        """Write a state into the tenant's own database, or raise IdentityError where another stands there."""
        if not backend.exists(tenant):
            return
        with backend.migrating(backend.connect(tenant, self.bench.secret(tenant))) as connection:
            with suppress(StaleRouteError):  # a retirement that is run again finds its epoch raised
                check_identity(backend, tenant, connection.connection, None)
            write_state(connection, tenant, state, raise_epoch=raise_epoch)

    def _failed(self, tenant: Placement, claim: Claim, state: State, error: Exception) -> None:
        """Leave word in the catalog; the error itself goes on to the caller, unless the claim is lost besides."""
        self.bench.on_error(tenant, error)
        known = isinstance(error, TenancyError)
        message = error.message if isinstance(error, TenancyError) else type(error).__name__
        log.error("work on tenant %s of user %s failed: %s", tenant.tenant_id, tenant.user_id, message)
        try:
            with claim.ending() as connection:
                configs.change(
                    connection,
                    tenant,
                    state=state,
                    last_error=message,
                    last_error_code=getattr(error, "code", ProvisionError.code) if known else ProvisionError.code,
                )
        except ClaimLostError as lost:
            raise lost from error
        except TenancyError as second:
            log.error("tenant %s: the failure could not be recorded: %s", tenant.tenant_id, second.message)


def write_state(connection: sa.Connection, tenant: Placement, state: State, *, raise_epoch: bool = False) -> None:
    """Write a state where every write under way will see it; a database of another epoch is StaleRouteError."""
    raised = tenant.epoch + 1
    epochs = [tenant.epoch, raised] if raise_epoch else [tenant.epoch]
    mine = (identity.c.id == 1, identity.c.tenant_id == tenant.tenant_id, identity.c.epoch.in_(epochs))
    values = {"state": str(state), **({"epoch": raised} if raise_epoch else {})}
    if connection.execute(identity.update().where(*mine), values).rowcount != 1:
        raise StaleRouteError("the database was replaced or retired meanwhile.", tenant_id=tenant.tenant_id)
    connection.commit()
