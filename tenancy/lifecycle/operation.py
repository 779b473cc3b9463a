"""Give every operation on a tenant its services, its claim, and a way to record what failed."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from tenancy.archive.backup_settings import BackupSettings
from tenancy.backends import Backends
from tenancy.backends.access import NO_ACCESS, Access, Login, Options
from tenancy.backends.base import Backend, Step
from tenancy.catalog import Catalog, claims, servers, tenants, users
from tenancy.catalog.claims import Claim
from tenancy.credentials.keyring import Keyring
from tenancy.deadline import lifted
from tenancy.errors import (
    ClaimLostError,
    ConfigurationError,
    DatabaseMissingError,
    TamperedCredentialError,
    TenancyError,
    UnsupportedBackendError,
    code_and_message,
)
from tenancy.hosts import HostPolicy
from tenancy.models import Kind, Origin, Server, State, Tenant, TenantSchema
from tenancy.routing.guards import check_whose
from tenancy.schema import identity
from tenancy.schema.chain import Chain

log = logging.getLogger(__name__)


Ending = Callable[[], AbstractContextManager[sa.Connection]]
"""Open the last write transaction of a runner, as ``Claim.ending`` and ``Claim.failing`` do."""


def _no_step(name: str) -> None:
    log.debug("step: %s", name)


@dataclass(frozen=True)
class Site:
    """A registered server on which a database is about to be created, and the login that creates it."""

    server: Server
    login: Login


@dataclass
class Services:
    """The parts that operations work with.

    ``step`` is called with each step's name before the step is taken; ``on_error`` with what went wrong with a tenant;
    ``on_placed`` when a database was placed on a registered server.
    """

    catalog: Catalog
    backends: Backends
    schema: TenantSchema
    chain: Chain
    keyring: Keyring
    default_type: str = "sqlite"
    shared_url: str | None = None
    hosts: HostPolicy = field(default_factory=HostPolicy)
    backups: BackupSettings = field(default_factory=BackupSettings)
    step: Step = _no_step
    claim_ttl_s: float = claims.DEFAULT_TTL_S
    on_retire: Callable[[uuid.UUID], None] = lambda tenant_id: None
    on_error: Callable[[Tenant, BaseException], None] = lambda tenant, error: None
    on_placed: Callable[[], None] = lambda: None

    def backend(self, tenant: Tenant) -> Backend:
        """Return the backend of a tenant's database.

        Where there is none (its driver is not installed, say), the sealed credential is checked first: a changed
        credential is an attack, and matters more than a missing driver.
        """
        try:
            return self.backends.get(tenant.db_type)
        except (UnsupportedBackendError, ConfigurationError):
            self.serving(tenant)
            raise

    def backend_for(self, tenant: Tenant | None, db_type: str | None) -> Backend:
        """Return the backend of a type; by default that of the tenant, or of new tenants."""
        if tenant is not None and db_type in (None, tenant.db_type):
            return self.backend(tenant)
        return self.backends.get(self.default_type if db_type is None else db_type)

    def serving(self, tenant: Tenant) -> Access:
        """Return the login that serves a tenant's rows; the catalog is not asked.

        On a server there is always a sealed password: it is bound to the row's other fields, so an edited field is
        noticed. Where the user named the host, the host has to pass the policy at every connection.
        """
        if not self.backends.on_server(tenant.db_type):
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

    def access(self, tenant: Tenant, site: Site | None = None) -> Access:
        """Return the logins that serve a tenant and that change its schema: the server's own where the server is ours.

        With the ``site`` of a database that is being created neither the catalog is asked nor a credential unsealed.
        """
        serving = self.serving(tenant)
        if site is not None:
            return Access(serving.login, site.login, site.server.installation)
        if serving.login is None or serving.admin is not None:
            return serving
        if tenant.kind is Kind.SHARED:
            return Access(serving.login, self._shared(tenant).admin)
        if tenant.server_id is None:
            return Access(serving.login, serving.login)
        with self.catalog.reading() as connection:
            server = servers.get(connection, tenant.server_id)
        return Access(serving.login, self.server_login(server), server.installation)

    def site(self, server: Server) -> Site:
        """Unseal a server's credential: an edited row must not say where a tenant's own password goes."""
        return Site(server, self.server_login(server))

    def server_login(self, server: Server) -> Login:
        """Open a registered server's credential."""
        secret = self.keyring.open(server.sealed_password, server.binding)
        options = Options.read(server.db_options)
        return Login(server.db_host, server.db_port, server.db_user, secret, None, options)

    def _shared(self, tenant: Tenant) -> Access:
        backend = self.backends.get(tenant.db_type)
        login = backend.login(self.shared_url or "", "SHARED_DATABASE_URL")
        return Access(login, login)


class Operation:
    """An operation on one tenant at a time, under a claim."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.catalog = services.catalog
        self.backends = services.backends
        self.chain = services.chain

    def step(self, name: str) -> None:
        self.services.step(name)

    def claim(self, connection: sa.Connection, tenant: Tenant, operation: str, *, first: bool = False) -> Claim:
        """Claim a tenant in the caller's transaction.

        The claim's epoch is the tenant's own (``first``), or higher than every epoch the tenant ever had.
        """
        least = tenant.epoch if first else tenant.epoch + 1
        claim = claims.take(
            self.catalog,
            connection,
            tenant.tenant_id,
            operation,
            self.services.claim_ttl_s,
            first=first,
            least=least,
            user_id=tenant.user_id,
        )
        if claim.interrupted and tenant.user_id is not None:  # its runner may still wake and remove what it made
            users.keep_database_epoch(connection, tenant.user_id, claim.epoch)
        return claim

    @contextmanager
    def recording_failure(
        self, tenant: Tenant, claim: Claim, state: State, *, unreached: State | None = None, touched: bool = True
    ) -> Iterator[None]:
        """Record in the catalog what fails inside, with the ``state`` it leaves, and let the claim expire.

        ``unreached`` is the state to leave instead where the database was busy or could not be reached: nothing is
        wrong with it then, and the operation may be tried again. ``touched`` says that the database may have been
        changed, so that the next operation has to look (``Claim.interrupted``). A request's deadline is lifted inside:
        an operation may take longer than a request may wait, and is bounded by its limits for each answer.
        """
        try:
            with lifted():
                yield
        except ClaimLostError as lost:
            _pass_over(claim, lost)
            raise
        except Exception as error:
            passing = isinstance(error, TenancyError) and error.retryable
            ended = claim.failing if touched or claim.interrupted else claim.ending
            self._failed(tenant, claim, unreached if passing and unreached else state, error, ended)
            raise

    @contextmanager
    def abandoned(self, tenant: Tenant, claim: Claim, operation: str) -> Iterator[None]:
        """Let a claim expire where the block fails, and audit that; the tenant's row stays as it is."""
        try:
            yield
        except ClaimLostError as lost:
            _pass_over(claim, lost)
            raise
        except BaseException as error:
            with suppress(ClaimLostError), claim.failing() as connection:
                self.catalog.audit.failed(connection, operation, error, [(tenant.user_id, tenant.tenant_id)])
            raise

    def mark(self, tenant: Tenant, claim: Claim, backend: Backend, state: State) -> None:
        """Write a state and the claim's epoch into the tenant's own database, where that is there, and commit.

        Every write that began before finds another epoch at the fence, and is refused.
        """
        access = self.services.access(tenant)
        try:
            driver = backend.connect_to_migrate(tenant, access)
        except DatabaseMissingError:
            return
        with backend.migrating(driver) as connection:
            check_whose(backend, tenant, driver)
            driver.rollback()
            mark(backend, connection, tenant, claim, state)
            self.step("commit")
            connection.commit()

    def refenced(self, tenant: Tenant, claim: Claim, backend: Backend) -> Tenant:
        """Raise the epoch in a database whose last operation was cut off; return the tenant with it.

        The runner of that operation may still wake; it can change nothing any more.
        """
        if not claim.interrupted or tenant.state not in (State.READY, State.READ_ONLY, State.SUSPENDED):
            return tenant
        self.mark(tenant, claim, backend, tenant.state)
        fresh = tenant.with_(epoch=claim.epoch, version=tenant.version + 1)
        with claim.writing() as connection:
            tenants.change(connection, tenant, epoch=fresh.epoch, version=fresh.version)
        return fresh

    def _failed(
        self, tenant: Tenant, claim: Claim, state: State, error: Exception, ended: Ending | None = None
    ) -> None:
        """Record a failure in the catalog; the error itself goes on to the caller, unless the claim is lost besides."""
        self.services.on_error(tenant, error)
        what = f"work on tenant {tenant.tenant_id} of user {tenant.user_id} failed"
        try:
            with told(what, error) as last, (ended or claim.failing)() as connection:
                tenants.change(connection, tenant, state=state, **last)
                self.catalog.audit.failed(connection, claim.operation, error, [(tenant.user_id, tenant.tenant_id)])
        except ClaimLostError as lost:
            raise lost from error


@contextmanager
def told(what: str, error: Exception) -> Iterator[dict[str, Any]]:
    """Log a failure, and give the columns in which the block records it.

    If the catalog cannot be written, that is logged too and goes no further: the caller raises the failure itself.
    """
    code, message = code_and_message(error)
    log.error("%s: %s", what, message)
    try:
        yield {"last_error": message, "last_error_code": code}
    except ClaimLostError:
        raise
    except TenancyError as second:
        log.error("%s, and this could not be recorded: %s", what, second.message)


def mark(backend: Backend, connection: sa.Connection, tenant: Tenant, claim: Claim, state: State) -> None:
    """Write a state and the claim's epoch into a tenant's database, in the caller's transaction (``identity.mark``)."""
    backend.queue_for_identity(connection)
    identity.mark(connection, tenant, claim.epoch, state)


def _pass_over(claim: Claim, lost: ClaimLostError) -> None:
    epoch = lost.fields.get("epoch")
    if isinstance(epoch, int):
        claim.pass_over(epoch)
