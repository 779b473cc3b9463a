"""Take a tenant out of use: suspend it for a while, or delete it for good.

The tenant's own database is written first: its epoch is raised to that of this operation's claim, so writes that began
before are refused there, and a runner that wakes late finds a higher epoch and changes nothing. Once catalog and
database both say ``archived`` no operation brings a tenant back, so its database can be dropped without a lock: no
other tenant is ever given its name.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from tenancy.archive.records import Deletion
from tenancy.backends.base import Backend
from tenancy.catalog import claims, leftovers, now, tenant_errors, tenant_sizes, tenants, users
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.catalog.tables import installation
from tenancy.errors import BackupExistsError, ClaimLostError, IdentityError, TenancyError, TenantNotReadyError
from tenancy.lifecycle.leftovers import Leftovers
from tenancy.lifecycle.operation import Operation, Services
from tenancy.models import State, Tenant
from tenancy.routing.guards import Occupant, explained, inspect_occupant, way_on

log = logging.getLogger(__name__)


class Retirement(Operation):
    """Suspend, resume and delete tenants, and end claims of runners that are gone."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._leftovers = Leftovers(services)

    def delete(self, user_id: int, *, forget: bool = False) -> bool:
        """Archive a tenant, then drop its database; return whether the database is gone.

        Another tenant's file in its place is left alone. With ``forget`` a database that cannot be dropped is put on
        the list of leftovers, and its user may have another one.
        """
        with self.catalog.writing() as connection:
            tenant = tenants.get(connection, user_id)
            claim = self.claim(connection, tenant, "delete")
            tenants.change(connection, tenant, state=State.ARCHIVED)
        try:
            with self.recording_failure(tenant, claim, tenant.state):  # until the fence is up, nothing of it is gone
                retired = self._fenced(tenant, claim)
            with self.recording_failure(retired, claim, State.ARCHIVED):
                self._note_deletion(tenant)
                self.step("drop")
                self._leftovers.take_away(retired)
                self.step("forget")
                with claim.ending() as connection:
                    self._removed(connection, retired, "tenant.delete")
        except ClaimLostError:
            raise
        except TenancyError as error:
            if not forget:
                raise
            log.warning("the database of user %s is left behind: %s", user_id, error.message)
            self._forget(tenant, claim)
            return False
        self._leftovers.clear(self._leftovers.of_user(user_id, kept=True))
        return True

    def _note_deletion(self, tenant: Tenant) -> None:
        """Leave a signed record beside the backups: whoever recovers an older catalog deletes the database again.

        Where no backups are made, none has to be kept from coming back.
        """
        settings = self.services.backups
        if not settings.complete or tenant.revision is None:
            return
        self.step("note deletion")
        with self.catalog.reading() as connection:
            mark, moment = connection.execute(sa.select(installation.c.mark)).scalar() or "", now(connection)
        with suppress(BackupExistsError):  # an attempt that was cut off got that far
            settings.store().add_deletion(Deletion(tenant.tenant_id, tenant.user_id, moment, mark))

    def _forget(self, retired: Tenant, before: Claim) -> None:
        """Put a database that could not be dropped on the list of leftovers.

        ClaimLostError where anybody operated on the user's database since: it may be another one, or in use again.
        """
        user_id = retired.user_id or 0
        with self.catalog.writing() as connection:
            tenant = tenants.get(connection, user_id)
            claim = self.claim(connection, tenant, "forget")
            if (tenant.tenant_id, claim.attempt) != (retired.tenant_id, before.attempt + 1):
                before.lost()
            claim.release(connection)
            left = tenant.with_(epoch=claim.epoch)
            if tenant.owned or tenant.revision is not None:
                leftovers.add(connection, left, Reason.FORGOTTEN)
            users.keep_database_epoch(connection, user_id, claim.epoch)
            self._removed(connection, left, "tenant.forget")
        self.services.on_retire(tenant.tenant_id)

    def _removed(self, connection: sa.Connection, tenant: Tenant, action: str) -> None:
        user_id = tenant.user_id or 0
        tenants.remove(connection, tenant)
        tenant_sizes.forget(connection, user_id)
        tenant_errors.forget(connection, user_id)
        detail = {"type": tenant.db_type}
        self.catalog.audit.append(connection, action, user_id=user_id, tenant_id=tenant.tenant_id, detail=detail)

    def set_state(self, user_id: int, before: State, after: State) -> bool:
        """Suspend or resume: in the tenant's own database as well, so that writes under way stop too.

        Returns whether there was anything to do.

        The catalog is written first when a tenant is suspended: from then on new work is refused, and raising the epoch
        has to wait only for writes under way. SQLite has no queue in which it could wait ahead of later writers.
        """
        with self.catalog.writing() as connection:
            tenant = tenants.get(connection, user_id)
            if tenant.state is after and not claims.interrupted(connection, tenant.tenant_id):
                return False
            if tenant.state not in (before, after):
                raise TenantNotReadyError(
                    f"the database of user {user_id} is {tenant.state}, not {before}: {way_on(tenant)}",
                    state=tenant.state,
                )
            claim = self.claim(connection, tenant, str(after))
            if after is State.SUSPENDED:
                tenants.change(connection, tenant, state=after)
        with self.recording_failure(tenant, claim, tenant.state):
            backend = self.services.backend(tenant)
            with explained(backend):
                self.step("mark")
                self.mark(tenant, claim, backend, after)
        self.step("record")
        with self.abandoned(tenant, claim, str(after)), claim.ending() as connection:
            healed = {"last_error": None, "last_error_code": None}
            here = {"state": after, "epoch": claim.epoch, "version": tenant.version + 1}
            tenants.change(connection, tenant, is_active=after is State.READY, **here, **healed)
            self.catalog.audit.append(connection, f"tenant.{after}", user_id=user_id, tenant_id=tenant.tenant_id)
        return True

    def release(self, user_id: int) -> dict[str, Any] | None:
        """End the claim that holds a tenant, for an operator who knows that its runner is gone."""
        with self.catalog.writing() as connection:
            tenant = tenants.get(connection, user_id)
            found = claims.release(connection, tenant.tenant_id)
            if found is not None:
                detail = {"operation": found["operation"], "runner": found["runner"]}
                self.catalog.audit.append(
                    connection, "claim.release", user_id=user_id, tenant_id=tenant.tenant_id, detail=detail
                )
        return found

    def _fenced(self, tenant: Tenant, claim: Claim) -> Tenant:
        """Raise the epoch so that every further write to a database is refused; return what is to be removed."""
        if tenant.revision is None and not tenant.owned:
            return tenant  # nothing was ever made, and what is there is somebody else's
        retired = tenant.with_(epoch=claim.epoch)
        backend = self.services.backend(tenant)
        self.step("fence")
        try:
            with explained(backend):
                self.mark(tenant.with_(epoch=0), claim, backend, State.ARCHIVED)  # an older copy may be there
        except IdentityError:
            if not self._is_half_made(tenant, backend):
                log.warning("tenant %s: the database in its place is not its own and stays", tenant.tenant_id)
                retired = retired.with_(owned=False)
        self.services.on_retire(tenant.tenant_id)
        return retired

    def _is_half_made(self, tenant: Tenant, backend: Backend) -> bool:
        """Tell whether what is there is the remains of an attempt, which has no owner yet."""
        if tenant.revision is not None or not backend.on_server:
            return False
        driver = backend.connect_to_migrate(tenant, self.services.access(tenant))
        with explained(backend), backend.migrating(driver) as connection:
            return inspect_occupant(tenant, connection) in (Occupant.EMPTY, Occupant.HALF)
