"""Make a tenant's database, or bring it to head: a sequence that can stop anywhere.

It is recorded in the catalog before its first step, runs under a claim, is undone on failure, and finishes when run
again. Only the last write makes a tenant ``ready``. On a registered server each attempt makes a database of its own
name, so that no attempt can remove what another one made; what an earlier one left is dropped. A database that somebody
named is made where it is absent, and taken over where it is empty or this tenant's own; what is taken over is never
dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import sqlalchemy as sa

from tenancy.backends.access import Access
from tenancy.backends.base import Attempt, Backend, DatabaseFields, Whose
from tenancy.catalog import claims, leftovers, pending, servers, tenants, users
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.errors import (
    ClaimLostError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    TenancyError,
    TenantNotReadyError,
)
from tenancy.hosts import machine_of
from tenancy.lifecycle.leftovers import Leftovers
from tenancy.lifecycle.operation import Operation, Services
from tenancy.lifecycle.placement import PLACE, emptied, planned, refuse_another, replaceable, taken
from tenancy.lifecycle.seed import Seeding
from tenancy.lifecycle.upgrade import Reached, Upgrade
from tenancy.models import Origin, State, Tenant
from tenancy.routing.guards import Occupant, check_identity, check_whose, explained, inspect_occupant, way_on
from tenancy.types import new_id

log = logging.getLogger(__name__)

_RESUMABLE = (State.PROVISIONING, State.FAILED, State.MIGRATING, State.MOVING)


@dataclass(frozen=True)
class Provisioned:
    """Say where a user's database is, and whether this call made it."""

    tenant: Tenant
    created: bool


class Work(Enum):
    """Say what is to be done for a user who asks for a database."""

    NOTHING = "it stands ready"
    KEEP = "keep another password for it"
    HAND_OVER = "give one that stood ready to its user"
    FINISH = "make it, or bring it to head"


@dataclass(frozen=True)
class Begun:
    """Hold what was decided and recorded before the first step; what an earlier attempt ``left`` is to be removed."""

    work: Work
    tenant: Tenant
    backend: Backend
    claim: Claim | None = None
    left: bool = False
    before: State | None = None
    """The state to return to where a database that is there could not be reached."""

    failed: State = State.FAILED
    """The state to leave where anything else goes wrong."""


class Provisioner(Operation):
    """Make tenants' databases and bring them to head."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self.seeding = Seeding(services)
        self.leftovers = Leftovers(services)

    def provision(self, user_id: int, fields: DatabaseFields, origin: Origin = Origin.ADMIN) -> Provisioned:
        """Make a user's database, finish one half-made, or bring one that is behind to head.

        Naming the database there is with another password changes the stored one. ``origin`` says who gave the fields
        that name a server, if there are any.
        """
        if origin is Origin.USER and fields.db_host is not None:  # a host that is refused is not even written down
            self.services.hosts.address(machine_of(fields.db_host))
        self.step("record")
        with self.catalog.writing() as connection:
            begun = self._begun(connection, user_id, fields, origin)
        tenant, backend, claim = begun.tenant, begun.backend, begun.claim
        if claim is None:
            return self._found(tenant, backend)
        if begun.work is Work.KEEP:
            return self._with_password(tenant, claim, backend, fields.db_password or "")
        made = tenant.revision is None
        work = self._hand_over if begun.work is Work.HAND_OVER else self._finish
        done = self._guarded(tenant, claim, lambda: work(tenant, claim, backend), begun)
        if made and tenant.server_id is not None:
            self.services.on_placed()
        if begun.left:
            self.leftovers.clear(self.leftovers.of_user(user_id))
        return done

    # --- deciding, in one transaction of the catalog ----------------------------------------------------

    def _begun(self, connection: sa.Connection, user_id: int, fields: DatabaseFields, origin: Origin) -> Begun:
        """Decide what is to be done, record it and take the claim, in the caller's transaction."""
        tenant = tenants.of_account(connection, user_id)
        backend = self.services.backend_for(tenant, fields.db_type)
        if tenant is None:
            return self._new(connection, user_id, backend, fields, origin)
        if replaceable(tenant, fields):
            return self._replaced(connection, tenant, backend, fields, origin)
        refuse_another(tenant, backend, backend.given(fields))
        if self._is_whole(tenant):
            if self._says_another_password(tenant, fields):
                return Begun(Work.KEEP, tenant, backend, self.claim(connection, tenant, "password"))
            if not claims.interrupted(connection, tenant.tenant_id):
                return Begun(Work.NOTHING, tenant, backend)
        _refuse_unless_resumable(tenant)
        return self._resumed(connection, tenant, backend)

    def _new(
        self, connection: sa.Connection, user_id: int, backend: Backend, fields: DatabaseFields, origin: Origin
    ) -> Begun:
        """Record where a user's first database will stand; one that stands ready there is taken instead."""
        whose = Whose(user_id, new_id(), users.database_epoch(connection, user_id) + 1)
        server = None
        if backend.on_server and not backend.given(fields):
            server = servers.place(connection, backend.name, fingerprint=self.chain.fingerprint)
            found = pending.take(connection, server.id, self.chain.fingerprint) if server.ready else None
            if found is not None:
                self.services.server_login(server)  # as in ``planned``
                return Begun(
                    Work.HAND_OVER, *self._first(connection, user_id, taken(self.services, user_id, found), backend)
                )
        wanted = planned(self.services, backend, whose, fields, server, origin)
        return Begun(Work.FINISH, *self._first(connection, user_id, wanted, backend))

    def _first(
        self, connection: sa.Connection, user_id: int | None, wanted: dict[str, Any], backend: Backend
    ) -> tuple[Tenant, Backend, Claim]:
        tenant = tenants.add(connection, user_id, {"tenant_id": new_id(), **wanted})
        return tenant, backend, self.claim(connection, tenant, "provision", first=True)

    def _replaced(
        self, connection: sa.Connection, tenant: Tenant, backend: Backend, fields: DatabaseFields, origin: Origin
    ) -> Begun:
        """Record another place for a tenant of which nothing was ever made (its server refused, say)."""
        claim = self.claim(connection, tenant, "provision")
        server = None
        if backend.on_server and not backend.given(fields):
            server = servers.place(connection, backend.name, fingerprint="")
        whose = Whose(tenant.user_id, tenant.tenant_id, claim.epoch)
        wanted = planned(self.services, backend, whose, fields, server, origin)
        same = all(getattr(tenant, name) == wanted.get(name) for name in PLACE)
        if same:  # the same again, with another password perhaps: what is there goes on being ours, or not
            wanted |= {"owned": tenant.owned, "epoch": tenant.epoch}
        return self._placed(connection, tenant, claim, wanted, left=not same)

    def _resumed(self, connection: sa.Connection, tenant: Tenant, backend: Backend) -> Begun:
        """Record that work goes on.

        Where another runner finished between our look and our claim there is nothing left to do: what it left is given
        as it is, and the claim ends.
        """
        claim = self.claim(connection, tenant, "provision")
        if tenant.user_id is not None:
            tenant = tenants.get(connection, tenant.user_id)
            if tenant.state is State.READY and tenant.revision == self.chain.head and not claim.interrupted:
                claim.release(connection)
                return Begun(Work.NOTHING, tenant, backend)
            _refuse_unless_resumable(tenant)
        if tenant.revision is None and tenant.origin == Origin.SERVER:
            server = servers.place(connection, backend.name, fingerprint="")
            whose = Whose(tenant.user_id, tenant.tenant_id, claim.epoch)
            wanted = planned(self.services, backend, whose, DatabaseFields(), server, Origin.SERVER)
            return self._placed(connection, tenant, claim, wanted, left=True)
        failed = State.READY if self._is_whole(tenant) else State.FAILED
        state, before = (State.MIGRATING, State.READY) if tenant.revision else (State.PROVISIONING, None)
        tenants.change(connection, tenant, state=state, last_error=None, last_error_code=None)
        return Begun(Work.FINISH, tenant.with_(state=state), backend, claim, before=before, failed=failed)

    def _placed(
        self, connection: sa.Connection, tenant: Tenant, claim: Claim, wanted: dict[str, Any], *, left: bool
    ) -> Begun:
        """Give a tenant another place; what an attempt may have made in the old one is remembered until it is gone."""
        left = left and tenant.owned
        if left:
            leftovers.add(connection, tenant, Reason.HALF_MADE)
        changes = emptied() | wanted | {"state": State.PROVISIONING, "version": tenant.version + 1}
        tenants.change(connection, tenant, **changes)
        placed = tenants.get(connection, tenant.user_id or 0)
        return Begun(Work.FINISH, placed, self.backends.get(placed.db_type), claim, left)

    def _is_whole(self, tenant: Tenant) -> bool:
        return tenant.state is State.READY and self.chain.serves(tenant.revision, tenant.usable_from)

    def _says_another_password(self, tenant: Tenant, fields: DatabaseFields) -> bool:
        """Say whether the password of a database that somebody named is to be changed here too."""
        if fields.db_password is None or tenant.origin in (None, Origin.SERVER):
            return False
        login = self.services.serving(tenant).login
        return login is not None and login.password != fields.db_password

    # --- doing ------------------------------------------------------------------------------------------

    def _found(self, tenant: Tenant, backend: Backend) -> Provisioned:
        """Say that there was nothing to do, unless what the catalog calls ready is gone."""
        if not backend.on_server and not backend.exists(tenant, self.services.access(tenant)):
            raise _lost(tenant)
        return Provisioned(tenant, created=False)

    def _with_password(self, tenant: Tenant, claim: Claim, backend: Backend, password: str) -> Provisioned:
        """Keep a new password once it has opened the database; one that does not leaves the old one."""
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

    def _finish(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached | None:
        """Do what is left to do, whatever an earlier attempt did; give what was migrated, where anything was there."""
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
            self.create(tenant, claim, backend)
        return None

    def _guarded(self, tenant: Tenant, claim: Claim, work: Callable[[], Reached | None], begun: Begun) -> Provisioned:
        """Do the work, then make the tenant ready in one write; on failure say so in the catalog instead."""
        backend, created = self.services.backend(tenant), tenant.revision is None
        with self.recording_failure(tenant, claim, begun.failed, unreached=begun.before), explained(backend):
            reached = work()
            self.step("ready")
            try:
                return Provisioned(self._ready(tenant, claim, created, reached), created)
            except ClaimLostError:
                if created:
                    self.undo(tenant)
                raise

    def undo(self, tenant: Tenant) -> None:
        """Remove what was made after another runner took over, where that one cannot be using it."""
        with self.catalog.reading() as connection:
            here = tenants.find(connection, tenant.user_id or 0)
        gone = here is None or here.tenant_id != tenant.tenant_id
        if gone or (tenant.origin == Origin.SERVER and here is not None and here.db_name != tenant.db_name):
            try:
                self.leftovers.take_away(tenant.with_(owned=True) if gone else tenant)
            except TenancyError as error:
                log.error("tenant %s: what was made too late stays: %s", tenant.tenant_id, error.message)

    def create(self, tenant: Tenant, claim: Claim, backend: Backend) -> None:
        """Make a database that is not there, whole or not at all."""
        mine = tenant.with_(epoch=claim.epoch)
        attempt = Attempt(claim.attempt, self.step)
        backend.create(mine, self.services.access(mine), self.seeding.blueprint(mine, backend), attempt)

    @contextmanager
    def _as_ours(self, tenant: Tenant, claim: Claim) -> Iterator[None]:
        """Record that the database is ours before it is made, so that it may be dropped; take that back on failure."""
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

    def _hand_over(self, tenant: Tenant, claim: Claim, backend: Backend) -> None:
        """Give a database that stood ready to this user, in one transaction there; one that is gone is made anew.

        Whoever was first has it: nobody hands it over twice, claim or not.
        """
        self.step("hand over")
        try:
            driver = backend.connect_to_migrate(tenant, self.services.access(tenant))
        except DatabaseMissingError:
            return self.create(tenant, claim, backend)
        with backend.filling(driver) as connection:
            self.seeding.hand_over(connection, tenant, claim)
            self.step("commit")
            connection.commit()

    def take_over(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached | None:
        """Go on with what stands in a place that somebody named: an empty or half-made database, or this tenant's."""
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
        """Take over what an earlier attempt of this very tenant finished; anything else stays untouched."""
        try:
            with closing(backend.connect(tenant, self.services.access(tenant))) as driver:
                check_whose(backend, tenant, driver)
        except (IdentityError, DatabaseUnreachableError) as error:
            raise DatabaseExistsError(
                f"a database stands where user {tenant.user_id}'s belongs, and it is not theirs: "
                "move it away, or restore the catalog it belongs to.",
                tenant_id=tenant.tenant_id,
            ) from error
        return self._upgrade(tenant, claim, backend)

    def _upgrade(self, tenant: Tenant, claim: Claim, backend: Backend) -> Reached:
        """Apply what is missing; where that fails half-way, record how far it came."""
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


def _refuse_unless_resumable(tenant: Tenant) -> None:
    behind = tenant.state is State.READY
    if not behind and tenant.state not in _RESUMABLE:
        raise TenantNotReadyError(
            f"the database of user {tenant.user_id} is {tenant.state}: {way_on(tenant)}",
            state=tenant.state,
            user_id=tenant.user_id,
        )


def _lost(tenant: Tenant) -> DatabaseMissingError:
    return DatabaseMissingError(
        f"the database of user {tenant.user_id} was there and is gone: restore it; none is made in its place.",
        tenant_id=tenant.tenant_id,
    )
