"""Make a tenant's database, or bring it to head: a sequence that can stop anywhere.

It is recorded in the catalog before its first step, runs under a claim, is undone on failure, and finishes when run
again. Only the last write makes a tenant ``ready``. A database that somebody named is made where it is absent, and
taken over where it is empty or this tenant's own; what is taken over is never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Attempt, Backend, DatabaseFields
from tenancy.catalog import claims, configs, pending, servers
from tenancy.catalog.claims import Claim
from tenancy.errors import (
    ClaimLostError,
    DatabaseExistsError,
    DatabaseMissingError,
    DatabaseUnreachableError,
    IdentityError,
    TenantNotReadyError,
)
from tenancy.furnish import Furnishing
from tenancy.guards import Standing, check_identity, check_whose, explained, standing
from tenancy.models import Origin, Placement, State
from tenancy.operation import Operation, Workbench
from tenancy.placing import PLACE, planned, refuse_another, replaceable, taken
from tenancy.types import new_id
from tenancy.upgrade import Reached, Upgrade

_RESUMABLE = (State.PROVISIONING, State.FAILED, State.MIGRATING)


@dataclass(frozen=True)
class Provisioned:
    """Say where a user's database is, and whether this call made it."""

    placement: Placement
    created: bool


class Provisioner(Operation):
    """Make tenants' databases and bring them to head."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench)
        self.furnishing = Furnishing(bench)

    def provision(self, user_id: int, fields: DatabaseFields, origin: Origin = Origin.ADMIN) -> Provisioned:
        """Make a user's database, finish one half-made, or bring one that is behind to head.

        Naming the database there is with another password changes the stored one. ``origin`` says who gave the fields
        that name a server, if there are any.
        """
        changed: str | None = None
        ready = False
        self.step("record")
        with self.catalog.writing() as connection:
            tenant = configs.of_account(connection, user_id)
            configured = tenant.db_type if tenant else self.bench.default_type
            backend = self.backends.get(configured if fields.db_type is None else fields.db_type)
            given = backend.given(fields)
            if tenant is not None and not replaceable(tenant, fields, given):
                refuse_another(tenant, backend, given)
                if tenant.state is State.READY and self.chain.serves(tenant.revision, tenant.usable_from):
                    if not self._says_another_password(tenant, fields):
                        return self._found(tenant, backend)
                    claim = self.claim(connection, tenant.tenant_id, "password")
                    changed = fields.db_password
                else:
                    _refuse_unless_resumable(tenant)
                    tenant, claim = self._claimed(connection, tenant)
                    if tenant.state is State.READY:
                        return self._found(tenant, backend)
            else:
                tenant, claim, ready = self._recorded(connection, tenant, user_id, backend, fields, given, origin)
        if changed is not None:
            return self._with_password(tenant, claim, backend, changed)
        made = tenant.revision is None
        work = self._hand_over if ready else self._finish
        done = self._guarded(tenant, claim, lambda: work(tenant, claim, backend), made)
        if made and tenant.server_id is not None:
            self.bench.on_placed()
        return done

    def _says_another_password(self, tenant: Placement, fields: DatabaseFields) -> bool:
        """Say whether the password of a database that somebody named is to be changed here too."""
        if fields.db_password is None or tenant.origin in (None, Origin.SERVER):
            return False
        login = self.bench.serving(tenant).login
        return login is not None and login.password != fields.db_password

    def _with_password(self, tenant: Placement, claim: Claim, backend: Backend, password: str) -> Provisioned:
        """Keep a new password once it has opened the database; one that does not leaves the old one."""
        sealed = self.bench.keyring.seal(password, tenant.binding)
        fresh = tenant.with_(sealed_password=sealed, version=tenant.version + 1)
        with self.told(tenant, claim, State.READY), explained(backend):
            with closing(backend.connect(fresh, self.bench.serving(fresh))) as driver:
                check_identity(backend, fresh, driver, self.chain.head)
            with claim.ending() as connection:
                healed = {"last_error": None, "last_error_code": None}
                configs.change(connection, tenant, db_password=sealed, version=fresh.version, **healed)
                self.catalog.audit.append(
                    connection, "credential.change", user_id=tenant.user_id, tenant_id=tenant.tenant_id
                )
        return Provisioned(fresh, created=False)

    def _found(self, tenant: Placement, backend: Backend) -> Provisioned:
        """Say that there was nothing to do, unless what the catalog calls ready is gone."""
        if not backend.on_server and not backend.exists(tenant, self.bench.access(tenant)):
            raise _lost(tenant)
        return Provisioned(tenant, created=False)

    def _recorded(
        self,
        connection: sa.Connection,
        tenant: Placement | None,
        user_id: int,
        backend: Backend,
        fields: DatabaseFields,
        given: dict[str, Any],
        origin: Origin,
    ) -> tuple[Placement, Claim, bool]:
        """Record where a database is about to be made, and take the claim, in the caller's transaction.

        One that stands ready where it would be made is taken instead: the third of what is given says so. A
        configuration of which nothing was ever made (its server refused, say) is replaced by this one.
        """
        tenant_id = tenant.tenant_id if tenant else new_id()
        server = None
        if backend.on_server and not given:
            fingerprint = self.chain.fingerprint if tenant is None else ""
            server = servers.place(connection, backend.name, fingerprint=fingerprint)
            found = pending.take(connection, server.id, fingerprint) if server.ready else None
            if found is not None:
                self.bench.server_login(server)  # as in ``planned``
                return *self._first(connection, user_id, taken(self.bench, user_id, found)), True
        wanted = planned(self.bench, backend, user_id, tenant_id, fields.db_password, given, server, origin)
        if tenant is None:
            return *self._first(connection, user_id, wanted), False
        blank = dict.fromkeys((*PLACE, "last_error", "last_error_code"))
        changes = blank | {"owned": True} | wanted | {"state": State.PROVISIONING, "version": tenant.version + 1}
        claim = self.claim(connection, tenant_id, "provision")
        configs.change(connection, tenant, **changes)
        return configs.get(connection, user_id), claim, False

    def _first(self, connection: sa.Connection, user_id: int | None, wanted: dict[str, Any]) -> tuple[Placement, Claim]:
        tenant = configs.add(connection, user_id, {"tenant_id": new_id(), **wanted})
        return tenant, self.claim(connection, tenant.tenant_id, "provision", first=True)

    def _claimed(self, connection: sa.Connection, tenant: Placement) -> tuple[Placement, Claim]:
        """Record that work goes on, and take the claim, in the caller's transaction.

        Where another runner finished between our look and our claim there is nothing left to do: what it left is given
        as it is, and the claim ends.
        """
        claim = self.claim(connection, tenant.tenant_id, "provision")
        if tenant.user_id is not None:
            tenant = configs.get(connection, tenant.user_id)
            if tenant.state is State.READY and tenant.revision == self.chain.head:
                claim.release(connection)
                return tenant, claim
            _refuse_unless_resumable(tenant)
        state = State.MIGRATING if tenant.revision else State.PROVISIONING
        configs.change(connection, tenant, state=state, last_error=None, last_error_code=None)
        return tenant.with_(state=state), claim

    def _finish(self, tenant: Placement, claim: Claim, backend: Backend) -> Reached | None:
        """Do what is left to do, whatever an earlier attempt did; give what was migrated, where anything was there."""
        backend.clear_attempts(tenant, claim.attempt)
        # A name with a fresh tenant's digits in it cannot be there before the first attempt.
        fresh = claim.attempt == 1 and tenant.origin == Origin.SERVER
        there = not fresh and backend.exists(tenant, self.bench.access(tenant))
        if tenant.revision is not None and not there:
            raise _lost(tenant)
        if tenant.revision is not None:
            return self._upgrade(tenant, claim, backend)
        if there:
            return (self._take_over if backend.on_server else self._adopt)(tenant, claim, backend)
        self._create(tenant, claim, backend)
        return None

    def _guarded(
        self, tenant: Placement, claim: Claim, work: Callable[[], Reached | None], created: bool
    ) -> Provisioned:
        """Do the work, then make the tenant ready in one write; on failure say so in the catalog instead."""
        with self.told(tenant, claim, State.FAILED), explained(self.backends.get(tenant.db_type)):
            reached = work()
            self.step("ready")
            return Provisioned(self._ready(tenant, claim, created, reached), created)

    def _create(self, tenant: Placement, claim: Claim, backend: Backend) -> None:
        attempt = Attempt(claim.attempt, self.step, claim.holding)
        with self._as_ours(tenant, claim):
            backend.create(tenant, self.bench.access(tenant), self.furnishing.blueprint(tenant, backend), attempt)

    @contextmanager
    def _as_ours(self, tenant: Placement, claim: Claim) -> Iterator[None]:
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

    def _own(self, tenant: Placement, claim: Claim, owned: bool) -> None:
        with claim.writing() as connection:
            configs.change(connection, tenant, owned=owned)

    def _hand_over(self, tenant: Placement, claim: Claim, backend: Backend) -> None:
        """Give a database that stood ready to this user, in one transaction there; one that is gone is made anew.

        Whoever was first has it: nobody hands it over twice, claim or not.
        """
        self.step("hand over")
        try:
            driver = backend.connect_to_migrate(tenant, self.bench.access(tenant))
        except DatabaseMissingError:
            return self._create(tenant, claim, backend)
        with backend.filling(driver) as connection:
            self.furnishing.hand_over(connection, tenant)
            self.step("commit")
            connection.commit()

    def _take_over(self, tenant: Placement, claim: Claim, backend: Backend) -> Reached | None:
        """Go on with what stands in the place: what was left half-made, an empty database, or this tenant's own."""
        access = self.bench.access(tenant)
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            found = standing(tenant, connection)
        if found is Standing.OURS:
            return self._upgrade(tenant, claim, backend)
        if found is Standing.WAITING:
            self._hand_over(tenant, claim, backend)
            return None
        if found is Standing.FOREIGN:
            raise DatabaseExistsError(
                f"the database named for user {tenant.user_id} is in use by something else: name an empty one.",
                tenant_id=tenant.tenant_id,
                field="db_name",
            )
        if not tenant.owned:
            self._build_in_place(tenant, claim, backend)
            return None
        self.step("remove half-made")
        with claim.holding():
            backend.drop(tenant, access)
        self._create(tenant, claim, backend)
        return None

    def _build_in_place(self, tenant: Placement, claim: Claim, backend: Backend) -> None:
        access = self.bench.access(tenant)
        self.step("build")
        with backend.migrating(backend.connect_to_migrate(tenant, access)) as connection:
            self.furnishing.build(connection, backend)
            self.step("rows")
            with claim.holding():
                self.furnishing.fill(connection, tenant)
                connection.commit()

    def _adopt(self, tenant: Placement, claim: Claim, backend: Backend) -> Reached:
        """Take over what an earlier attempt of this very tenant finished; anything else stays untouched."""
        try:
            with closing(backend.connect(tenant, self.bench.access(tenant))) as driver:
                check_whose(backend, tenant, driver)
        except (IdentityError, DatabaseUnreachableError) as error:
            raise DatabaseExistsError(
                f"a database stands where user {tenant.user_id}'s belongs, and it is not theirs: "
                "move it away, or restore the catalog it belongs to.",
                tenant_id=tenant.tenant_id,
            ) from error
        return self._upgrade(tenant, claim, backend)

    def _upgrade(self, tenant: Placement, claim: Claim, backend: Backend) -> Reached:
        """Apply what is missing."""
        with claims.beating(self.catalog, [claim]):
            return Upgrade(self.bench).bring(tenant, claim, backend, self.chain.head)

    def _ready(self, tenant: Placement, claim: Claim, created: bool, reached: Reached | None) -> Placement:
        now = datetime.now(UTC)
        done = self.furnishing.done()
        if reached is not None:
            done |= {"epoch": reached.epoch, "version": tenant.version + 1}
        with claim.ending() as connection:
            configs.change(connection, tenant, **done)
            self.catalog.audit.append(
                connection,
                "tenant.provision" if created else "tenant.upgrade",
                user_id=tenant.user_id,
                tenant_id=tenant.tenant_id,
                detail={"type": tenant.db_type, "revision": self.chain.head},
            )
            if tenant.origin not in (None, Origin.SERVER):  # who owns what somebody named was found out on the way
                done["owned"] = configs.get(connection, tenant.user_id or 0).owned
        return tenant.with_(**done, updated_at=now)


def _refuse_unless_resumable(tenant: Placement) -> None:
    behind = tenant.state is State.READY
    if not behind and tenant.state not in _RESUMABLE:
        raise TenantNotReadyError(
            f"the database of user {tenant.user_id} is {tenant.state}.", state=tenant.state, user_id=tenant.user_id
        )


def _lost(tenant: Placement) -> DatabaseMissingError:
    return DatabaseMissingError(
        f"the database of user {tenant.user_id} was there and is gone: restore it; none is made in its place.",
        tenant_id=tenant.tenant_id,
    )
