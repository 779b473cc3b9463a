"""Create a tenant's database, or bring it to head: a sequence that can stop anywhere.

What is to be done is decided and recorded in the catalog before the first step (``decision.py``). The steps run under a
claim, are undone on failure, and finish when run again; only the last write makes a tenant ``ready``. On a registered
server each attempt creates a database of its own name, so that no attempt can remove what another one created; what an
earlier one left is dropped. A database that somebody named is created where it is absent, and taken over where it is
empty or this tenant's own; what is taken over is never dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from tenancy.backends.access import Access
from tenancy.backends.base import Attempt, Backend, DatabaseFields
from tenancy.catalog import claims, tenants
from tenancy.catalog.claims import Claim
from tenancy.errors import (
    ClaimLostError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    TenancyError,
)
from tenancy.hosts import machine_of
from tenancy.lifecycle.decision import Decision, Decisions, Request, Work
from tenancy.lifecycle.leftovers import Leftovers
from tenancy.lifecycle.operation import Operation, Services, Site
from tenancy.lifecycle.seed import Seeding
from tenancy.lifecycle.upgrade import Reached, Upgrade
from tenancy.models import Origin, State, Tenant
from tenancy.routing.guards import Occupant, check_identity, check_whose, explained, inspect_occupant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Provisioned:
    """A user's tenant, and whether this call created its database."""

    tenant: Tenant
    created: bool


class Provisioner(Operation):
    """Create tenants' databases and bring them to head."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.decisions = Decisions(services)
        self.seeding = Seeding(services)
        self.leftovers = Leftovers(services)

    def provision(self, user_id: int, fields: DatabaseFields, origin: Origin = Origin.ADMIN) -> Provisioned:
        """Create a user's database, finish one half-made, or bring one that is behind to head.

        Naming the database there is with another password changes the stored one. ``origin`` says who gave the fields
        that name a server, if there are any.
        """
        if origin is Origin.USER and fields.db_host is not None:  # a host that is refused is not even written down
            self.services.hosts.address(machine_of(fields.db_host))
        self.step("record")
        with self.catalog.writing() as connection:
            decided = self.decisions.of(connection, Request(user_id, fields, origin))
        match decided.work:
            case Work.NOTHING:
                return self.found(decided.tenant, decided.backend)
            case Work.KEEP_PASSWORD:
                return self._with_password(decided, fields.db_password or "")
            case Work.HAND_OVER:
                done = self.carried_out(decided, self._hand_over)
            case Work.FINISH:
                done = self.carried_out(decided, self._finish)
        if done.created and decided.tenant.server_id is not None:
            self.services.on_placed()
        if decided.left:
            self.leftovers.clear(self.leftovers.of_user(user_id))
        return done

    def carried_out(self, decided: Decision, work: Callable[[Decision, Claim], Reached | None]) -> Provisioned:
        """Do the work, then make the tenant ready in one write; on failure say so in the catalog instead."""
        tenant, claim, backend = decided.tenant, decided.held, self.services.backend(decided.tenant)
        created = tenant.revision is None
        with self.recording_failure(tenant, claim, decided.failed, unreached=decided.before), explained(backend):
            reached = work(decided, claim)
            self.step("ready")
            try:
                return Provisioned(self._ready(tenant, claim, created, reached), created)
            except ClaimLostError:
                if created:
                    self.undo(tenant)
                raise

    def found(self, tenant: Tenant, backend: Backend) -> Provisioned:
        """Return a tenant for which there is nothing to do, unless what the catalog calls ready is gone."""
        if not backend.on_server and not backend.exists(tenant, self.services.access(tenant)):
            raise _lost(tenant)
        return Provisioned(tenant, created=False)

    def _with_password(self, decided: Decision, password: str) -> Provisioned:
        """Store a new password once it has opened the database; one that does not open it changes nothing."""
        tenant, claim, backend = decided.tenant, decided.held, decided.backend
        sealed = self.services.keyring.seal(password, tenant.binding)
        with self.recording_failure(tenant, claim, State.READY, touched=False), explained(backend):
            fresh = self.refenced(tenant.with_(sealed_password=sealed, version=tenant.version + 1), claim, backend)
            with closing(backend.connect(fresh, self.services.serving(fresh))) as driver:
                check_identity(backend, fresh, driver, self.chain.head)
            with claim.ending() as connection:
                healed = {"last_error": None, "last_error_code": None}
                tenants.change(connection, tenant, db_password=sealed, version=fresh.version, **healed)
                self.catalog.audit.append(
                    connection, "credential.change", user_id=tenant.user_id, tenant_id=tenant.tenant_id
                )
        return Provisioned(fresh, created=False)

    def _finish(self, decided: Decision, claim: Claim) -> Reached | None:
        """Finish provisioning from wherever an earlier attempt stopped; return what was migrated, if anything."""
        tenant, backend = decided.tenant, decided.backend
        backend.clear_attempts(tenant, claim.attempt)
        if tenant.revision is not None:
            try:
                return self._upgrade(tenant, claim, backend)
            except DatabaseMissingError as error:
                raise _lost(tenant) from error
        # A registered server has nothing of the name that this attempt alone was given.
        if tenant.origin != Origin.SERVER and backend.exists(tenant, self.services.access(tenant)):
            return (self.take_over if backend.on_server else self._adopt)(tenant, claim, backend)
        with self._as_ours(tenant, claim):
            self.create(tenant, claim, backend, decided.site)
        return None

    def undo(self, tenant: Tenant) -> None:
        """Drop what was created after another runner took over, where the other runner cannot be using it."""
        with self.catalog.reading() as connection:
            here = tenants.find(connection, tenant.user_id or 0)
        gone = here is None or here.tenant_id != tenant.tenant_id
        if gone or (tenant.origin == Origin.SERVER and here is not None and here.db_name != tenant.db_name):
            try:
                self.leftovers.take_away(tenant.with_(owned=True) if gone else tenant)
            except TenancyError as error:
                log.error("tenant %s: what was made too late stays: %s", tenant.tenant_id, error.message)

    def create(self, tenant: Tenant, claim: Claim, backend: Backend, site: Site | None = None) -> None:
        """Create a missing database, completely or not at all."""
        mine = tenant.with_(epoch=claim.epoch)
        attempt = Attempt(claim.attempt, self.step)
        backend.create(mine, self.services.access(mine, site), self.seeding.blueprint(mine, backend), attempt)

    @contextmanager
    def _as_ours(self, tenant: Tenant, claim: Claim) -> Iterator[None]:
        """Record that a database is ours before it is created, and take that back on failure.

        Only what is recorded as ours is ever dropped.
        """
        if tenant.owned:
            yield
            return
        self._own(tenant, claim, True)
        try:
            yield
        except ClaimLostError:
            raise
        except Exception:
            self._own(tenant, claim, False)
            raise

    def _own(self, tenant: Tenant, claim: Claim, owned: bool) -> None:
        with claim.writing() as connection:
            tenants.change(connection, tenant, owned=owned)

    def _hand_over(self, decided: Decision, claim: Claim) -> None:
        """Give a database that was kept ready to this user, in one transaction there; one that is gone is created anew.

        The transaction succeeds only while the identity row names no user, so two runners never hand over the same
        database, whatever became of their claims.
        """
        tenant, backend = decided.tenant, decided.backend
        self.step("hand over")
        try:
            driver = backend.connect_to_migrate(tenant, self.services.access(tenant, decided.site))
        except DatabaseMissingError:
            return self.create(tenant, claim, backend, decided.site)
        with backend.filling(driver) as connection:
            self.seeding.hand_over(connection, tenant, claim)
            self.step("commit")
            connection.commit()

    def take_over(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached | None:
        """Go on with the database in a place that somebody named: an empty or half-made one, or this tenant's own."""
        access = self.services.access(tenant)
        with backend.alone_in_place(tenant, access):
            return self._taken_over(tenant, claim, backend, access)

    def _taken_over(self, tenant: Tenant, claim: Claim, backend: Backend, access: Access) -> Reached | None:
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            found = inspect_occupant(tenant, connection)
        if found is Occupant.OURS:
            return self._upgrade(tenant, claim, backend)
        if found not in (Occupant.EMPTY, Occupant.HALF):
            raise DatabaseExistsError(
                f"the database named for user {tenant.user_id} is in use by something else: name an empty one.",
                tenant_id=tenant.tenant_id,
                field="db_name",
            )
        self.step("build")
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            self.seeding.build(connection, backend)
            self.step("rows")
            self.seeding.fill(connection, tenant.with_(epoch=claim.epoch))
            connection.commit()
        return None

    def _adopt(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached:
        """Take over what an earlier attempt for this very tenant finished; anything else is left untouched."""
        try:
            with closing(backend.connect(tenant, self.services.access(tenant))) as driver:
                check_whose(backend, tenant, driver)
        except (IdentityError, DatabaseUnreachableError) as error:
            raise DatabaseExistsError(
                f"there is a database where user {tenant.user_id}'s belongs, and it is not theirs: "
                "move it away, or restore the catalog it belongs to.",
                tenant_id=tenant.tenant_id,
            ) from error
        return self._upgrade(tenant, claim, backend)

    def _upgrade(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached:
        """Apply missing revisions; where one fails half-way, record how far the database came."""
        try:
            with claims.beating(self.catalog, [claim]):
                return Upgrade(self.services).migrate_to(tenant, claim, backend, self.chain.head)
        except TenancyError as error:
            reached = error.fields.get("reached")
            if isinstance(reached, Reached) and reached.epoch != tenant.epoch:
                self._reached(tenant, claim, reached)
            raise

    def _reached(self, tenant: Tenant, claim: Claim, reached: Reached) -> None:
        here = {"epoch": reached.epoch, "version": tenant.version + 1, "revision": reached.revision}
        fingerprint = self.chain.fingerprints.get(reached.revision or "")
        usable_from = self.chain.usable_from(reached.revision)
        with claim.writing() as connection:
            tenants.change(connection, tenant, **here, schema_fingerprint=fingerprint, usable_from=usable_from)

    def _ready(self, tenant: Tenant, claim: Claim, created: bool, reached: Reached | None) -> Tenant:
        now = datetime.now(UTC)
        done = self.seeding.done() | {"epoch": claim.epoch}
        if reached is not None:
            done["version"] = tenant.version + 1
        with claim.ending() as connection:
            tenants.change(connection, tenant, **done)
            self.catalog.audit.append(
                connection,
                "tenant.provision" if created else "tenant.upgrade",
                user_id=tenant.user_id,
                tenant_id=tenant.tenant_id,
                detail={"type": tenant.db_type, "revision": self.chain.head},
            )
            if tenant.origin not in (None, Origin.SERVER):  # who owns what somebody named was found out on the way
                done["owned"] = tenants.get(connection, tenant.user_id or 0).owned
        return tenant.with_(**done, updated_at=now)


def _lost(tenant: Tenant) -> DatabaseMissingError:
    return DatabaseMissingError(
        f"the database of user {tenant.user_id} was there and is gone: restore it; none is made in its place.",
        tenant_id=tenant.tenant_id,
    )
