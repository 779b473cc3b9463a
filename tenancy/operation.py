"""Hold what every operation on a tenant needs: its parts, its steps, and what it leaves behind when it fails."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import sqlalchemy as sa

from tenancy.backends import Backends
from tenancy.backends.base import Backend, Step
from tenancy.backends.logins import NO_ACCESS, Access, Login, Options
from tenancy.catalog import Catalog, claims, configs, servers
from tenancy.catalog.claims import Claim
from tenancy.errors import ClaimLostError, StaleRouteError, TamperedCredentialError, TenancyError, told
from tenancy.guards import check_identity
from tenancy.hosts import HostPolicy
from tenancy.keyring import Keyring
from tenancy.migrate import Chain
from tenancy.models import Kind, Origin, Placement, Server, State, TenantSchema, identity

log = logging.getLogger(__name__)


def _no_step(name: str) -> None:
    log.debug("step: %s", name)


@dataclass
class Workbench:
    """Hold the parts that operations work with; ``step`` hears each step's name before it is taken.

    ``on_error`` hears what went wrong with a tenant, on whichever way to it; ``on_placed`` that a registered server got
    one more.
    """

    catalog: Catalog
    backends: Backends
    schema: TenantSchema
    chain: Chain
    keyring: Keyring
    default_type: str = "sqlite"
    shared_url: str | None = None
    hosts: HostPolicy = field(default_factory=HostPolicy)
    step: Step = _no_step
    claim_ttl_s: float = claims.DEFAULT_TTL_S
    on_retire: Callable[[uuid.UUID], None] = lambda tenant_id: None
    on_error: Callable[[Placement, BaseException], None] = lambda tenant, error: None
    on_placed: Callable[[], None] = lambda: None

    def serving(self, tenant: Placement) -> Access:
        """Give what serves a tenant's rows; the catalog is not asked.

        Where a server keeps them there is always a sealed password, so that no stored field can be edited unnoticed;
        where the user named the host, it has to pass the policy at every connection.
        """
        if not self.backends.get(tenant.db_type).on_server:
            if tenant.sealed_password is not None:  # somebody put it there: it has to be this row's own
                self.keyring.open(tenant.sealed_password, tenant.binding)
            return NO_ACCESS
        if tenant.kind is Kind.SHARED and tenant.sealed_password is None:
            return self._shared(tenant)
        if tenant.sealed_password is None:
            raise TamperedCredentialError("the configuration has no sealed password: set it anew.")
        return Access(
            Login(
                tenant.db_host or "",
                tenant.db_port or 0,
                tenant.db_user or "",
                self.keyring.open(tenant.sealed_password, tenant.binding),
                tenant.db_name,
                Options.read(tenant.db_options),
                self.hosts if tenant.origin == Origin.USER else None,
            )
        )

    def access(self, tenant: Placement) -> Access:
        """Give what serves a tenant and what changes its schema: the server's login where the server is ours."""
        serving = self.serving(tenant)
        if serving.login is None or serving.admin is not None:
            return serving
        if tenant.kind is Kind.SHARED:
            return Access(serving.login, self._shared(tenant).admin)
        if tenant.server_id is None:
            return Access(serving.login, serving.login)
        with self.catalog.reading() as connection:
            server = servers.get(connection, tenant.server_id)
        return Access(serving.login, self.server_login(server))

    def server_login(self, server: Server) -> Login:
        """Open a registered server's credential."""
        secret = self.keyring.open(server.sealed_password, server.binding)
        options = Options.read(server.db_options)
        return Login(server.db_host, server.db_port, server.db_user, secret, None, options)

    def _shared(self, tenant: Placement) -> Access:
        backend = self.backends.get(tenant.db_type)
        login = backend.login(self.shared_url or "", "SHARED_DATABASE_URL")
        return Access(login, login)


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
        access = self.bench.access(tenant)
        if not backend.exists(tenant, access):
            return
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            with suppress(StaleRouteError):  # a retirement that is run again finds its epoch raised
                check_identity(backend, tenant, connection.connection, None)
            write_state(connection, tenant, state, raise_epoch=raise_epoch)

    def _failed(self, tenant: Placement, claim: Claim, state: State, error: Exception) -> None:
        """Leave word in the catalog; the error itself goes on to the caller, unless the claim is lost besides."""
        self.bench.on_error(tenant, error)
        code, message = told(error)
        log.error("work on tenant %s of user %s failed: %s", tenant.tenant_id, tenant.user_id, message)
        try:
            with claim.ending() as connection:
                configs.change(connection, tenant, state=state, last_error=message, last_error_code=code)
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
