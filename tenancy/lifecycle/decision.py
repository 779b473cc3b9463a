"""Decide what is to be done for a user who asks for a database, in one transaction of the catalog.

The decision is written down before the first step is taken, together with the claim under which the steps run: whoever
finds the tenant after a crash knows from its row where to go on. ``provision.py`` carries the decision out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import sqlalchemy as sa

from tenancy.backends.base import Backend, DatabaseFields, Whose
from tenancy.catalog import claims, leftovers, pending, servers, tenants
from tenancy.catalog.claims import Claim
from tenancy.catalog.leftovers import Reason
from tenancy.errors import TenantNotReadyError
from tenancy.lifecycle.operation import Operation, Site
from tenancy.lifecycle.placement import PLACE, emptied, planned, refuse_another, replaceable, taken
from tenancy.models import Origin, State, Tenant
from tenancy.routing.guards import way_on
from tenancy.types import new_id

_RESUMABLE = (State.PROVISIONING, State.FAILED, State.MIGRATING, State.MOVING)


class Work(Enum):
    """What is to be done for a user who asks for a database."""

    NOTHING = "it is ready"
    KEEP_PASSWORD = "keep another password for it"  # noqa: S105 - a description, no password
    HAND_OVER = "give one that was kept ready to its user"
    FINISH = "create it, or bring it to head"


@dataclass(frozen=True)
class Request:
    """Who asks for a database, what they say of it, and who said it."""

    user_id: int
    fields: DatabaseFields
    origin: Origin


@dataclass(frozen=True)
class Decision:
    """What was decided and recorded before the first step."""

    work: Work
    tenant: Tenant
    backend: Backend
    claim: Claim | None = None
    site: Site | None = None
    """The registered server on which a new database is created."""

    left: bool = False
    """Whether an earlier attempt may have left a database elsewhere, which is to be removed."""

    before: State | None = None
    """The state to return to where a database that is there could not be reached."""

    failed: State = State.FAILED
    """The state to leave where anything else goes wrong."""

    @property
    def held(self) -> Claim:
        """The claim under which the work is done."""
        assert self.claim is not None  # noqa: S101 - where there is work there is a claim
        return self.claim


class Decisions(Operation):
    """Decide, record and claim, in the caller's transaction of the catalog."""

    def of(self, connection: sa.Connection, asked: Request) -> Decision:
        """Decide what is to be done, record it and take the claim."""
        tenant, epoch = tenants.of_account_with_epoch(connection, asked.user_id)
        backend = self.services.backend_for(tenant, asked.fields.db_type)
        if tenant is None:
            return self._new(connection, backend, asked, epoch + 1)
        if replaceable(tenant, asked.fields):
            held = (tenant, self.claim(connection, tenant, "provision"))
            return self._placed_anew(connection, held, backend, asked)
        refuse_another(tenant, backend, backend.given(asked.fields))
        if self._is_whole(tenant):
            if self._says_another_password(tenant, asked.fields):
                return Decision(Work.KEEP_PASSWORD, tenant, backend, self.claim(connection, tenant, "password"))
            if not claims.interrupted(connection, tenant.tenant_id):
                return Decision(Work.NOTHING, tenant, backend)
        _refuse_unless_resumable(tenant)
        return self.resumed(connection, tenant, backend)

    def recorded(
        self, connection: sa.Connection, user_id: int | None, backend: Backend, wanted: dict[str, Any]
    ) -> Decision:
        """Record where a first database will be, and claim its tenant."""
        tenant = tenants.add(connection, user_id, {"tenant_id": new_id(), **wanted})
        return Decision(Work.FINISH, tenant, backend, self.claim(connection, tenant, "provision", first=True))

    def resumed(self, connection: sa.Connection, tenant: Tenant, backend: Backend) -> Decision:
        """Record that work goes on.

        Where another runner finished between our look and our claim there is nothing left to do: what it left is
        returned as it is, and the claim ends.
        """
        claim = self.claim(connection, tenant, "provision")
        if tenant.user_id is not None:
            tenant = tenants.get(connection, tenant.user_id)
            if tenant.state is State.READY and tenant.revision == self.chain.head and not claim.interrupted:
                claim.release(connection)
                return Decision(Work.NOTHING, tenant, backend)
            _refuse_unless_resumable(tenant)
        if tenant.revision is None and tenant.origin == Origin.SERVER:
            asked = Request(tenant.user_id or 0, DatabaseFields(), Origin.SERVER)
            return self._placed_anew(connection, (tenant, claim), backend, asked)
        failed = State.READY if self._is_whole(tenant) else State.FAILED
        state, before = (State.MIGRATING, State.READY) if tenant.revision else (State.PROVISIONING, None)
        tenants.change(connection, tenant, state=state, last_error=None, last_error_code=None)
        return Decision(Work.FINISH, tenant.with_(state=state), backend, claim, before=before, failed=failed)

    def _new(self, connection: sa.Connection, backend: Backend, asked: Request, epoch: int) -> Decision:
        """Record where a user's first database will be; one that is kept ready on its server is taken instead."""
        whose = Whose(asked.user_id, new_id(), epoch)
        site = self._site(connection, backend, asked, fingerprint=self.chain.fingerprint)
        if site is not None and site.server.ready:
            found = pending.take(connection, site.server.id, self.chain.fingerprint)
            if found is not None:
                wanted = taken(self.services, asked.user_id, found)
                ready = self.recorded(connection, asked.user_id, backend, wanted)
                return replace(ready, work=Work.HAND_OVER, site=site)
        wanted = planned(self.services, backend, whose, fields=asked.fields, site=site, origin=asked.origin)
        return replace(self.recorded(connection, asked.user_id, backend, wanted), site=site)

    def _placed_anew(
        self, connection: sa.Connection, held: tuple[Tenant, Claim], backend: Backend, asked: Request
    ) -> Decision:
        """Plan anew where a database will be, and record that place.

        What an attempt may have created in the old place is remembered until it is gone.
        """
        tenant, claim = held
        site = self._site(connection, backend, asked, fingerprint="")
        whose = Whose(tenant.user_id, tenant.tenant_id, claim.epoch)
        wanted = planned(self.services, backend, whose, fields=asked.fields, site=site, origin=asked.origin)
        left = tenant.owned
        if all(getattr(tenant, name) == wanted.get(name) for name in PLACE):
            # The same place again, with another password perhaps: what is there goes on being ours, or not.
            wanted |= {"owned": tenant.owned, "epoch": tenant.epoch}
            left = False
        if left:
            leftovers.add(connection, tenant, Reason.HALF_MADE)
        changes = emptied() | wanted | {"state": State.PROVISIONING, "version": tenant.version + 1}
        tenants.change(connection, tenant, **changes)
        placed = tenants.get(connection, tenant.user_id or 0)
        return Decision(Work.FINISH, placed, self.backends.get(placed.db_type), claim, site, left)

    def _site(self, connection: sa.Connection, backend: Backend, asked: Request, *, fingerprint: str) -> Site | None:
        """Choose a registered server, one with a database of this schema kept ready before others.

        None where the product keeps files, or where somebody named the server.
        """
        if not backend.on_server or backend.given(asked.fields):
            return None
        return self.services.site(servers.place(connection, backend.name, fingerprint=fingerprint))

    def _is_whole(self, tenant: Tenant) -> bool:
        return tenant.state is State.READY and self.chain.serves(tenant.revision, tenant.usable_from)

    def _says_another_password(self, tenant: Tenant, fields: DatabaseFields) -> bool:
        """Tell whether the password of a database that somebody named is to be changed here too."""
        if fields.db_password is None or tenant.origin in (None, Origin.SERVER):
            return False
        login = self.services.serving(tenant).login
        return login is not None and login.password != fields.db_password


def _refuse_unless_resumable(tenant: Tenant) -> None:
    behind = tenant.state is State.READY
    if not behind and tenant.state not in _RESUMABLE:
        raise TenantNotReadyError(
            f"the database of user {tenant.user_id} is {tenant.state}: {way_on(tenant)}",
            state=tenant.state,
            user_id=tenant.user_id,
        )
