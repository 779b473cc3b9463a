"""Keep restore points on servers: each is a second database there, named after the tenant's database and the point.

What PostgreSQL, MySQL and SQL Server have in common is here: names, locks and refusals. How a database is copied
is in the ``restore_points.py`` of each product.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.base import HeldClaim, Rebuild, Step, ignore_step
from tenancy.backends.restore_points import RestorePoints, is_of, no_point, refuse_later, refuse_shared
from tenancy.backends.server.backend import ServerBackend
from tenancy.errors import AccessDeniedError, DatabaseBusyError, DatabaseMissingError, IdentityError
from tenancy.models import Kind, Origin, Tenant
from tenancy.schema.tables import tenancy_identity


@dataclass(frozen=True)
class Copying:
    """Hold what one call works with: a tenant's database, its restore point, and one connection to their server."""

    driver: Any
    tenant: Tenant
    access: Access
    point: str
    step: Step
    claim: HeldClaim | None = None

    def check(self) -> None:
        """Raise ClaimLostError if the claim is lost; the caller holds a lock, so that the next holder has to wait."""
        if self.claim is not None:
            self.claim.check()

    @property
    def database(self) -> str:
        return self.tenant.db_name or ""


class ServerRestorePoints(RestorePoints):
    """Keep each restore point in a database of its own, which only the server's login may enter.

    A lock named after the tenant's database is held for the whole of a call, so that two calls cannot meet, and a
    runner that was suspended while it lost its claim changes nothing under the hands of the next.
    """

    def __init__(self, backend: ServerBackend) -> None:
        self.backend = backend

    # --- what each product implements -------------------------------------------------------------------

    @abstractmethod
    def make_point(self, work: Copying) -> None:
        """Make the point's database from the tenant's."""

    @abstractmethod
    def is_whole(self, work: Copying) -> bool:
        """Say whether the point's database was finished, and is this tenant's."""

    @abstractmethod
    def return_to(self, work: Copying, rebuild: Rebuild) -> None:
        """Make the tenant's database from the point's, which is whole; call ``work.check`` before any change."""

    def remains(self, point: str) -> tuple[str, ...]:
        """Name all databases that can exist because of a point."""
        return (point,)

    # --- the contract -----------------------------------------------------------------------------------

    def create(self, tenant: Tenant, access: Access, point: str, *, step: Step = ignore_step) -> None:
        name = _point_of(tenant, point)
        _refuse_named(tenant)
        with self._locked(tenant, access, name, step=step) as work:
            self._refuse_later(tenant, access)
            try:
                with self.backend.explained():
                    self.make_point(work)
            except AccessDeniedError as error:
                raise AccessDeniedError(
                    f"no restore point of user {tenant.user_id}'s database can be made: the login that changes its "
                    "schema needs the right to make databases on that server, and to end sessions in this one.",
                    tenant_id=tenant.tenant_id,
                ) from error

    def has(self, tenant: Tenant, access: Access, point: str) -> bool:
        name = _point_of(tenant, point)
        if not _is_ours(tenant):
            return False
        with self.backend.administering(access) as driver:
            return self.is_whole(Copying(driver, tenant, access, name, ignore_step))

    def restore(
        self, tenant: Tenant, access: Access, point: str, *, rebuild: Rebuild, claim: HeldClaim | None, step: Step
    ) -> None:
        name = _point_of(tenant, point)
        _refuse_named(tenant)
        with self._locked(tenant, access, name, step=step, claim=claim) as work:
            self._refuse_later(tenant, access)
            if not self.is_whole(work):
                raise no_point(tenant, point)
            self.return_to(work, rebuild)

    def delete(self, tenant: Tenant, access: Access, point: str) -> None:
        name = _point_of(tenant, point)
        if not _is_ours(tenant):
            return
        with self._locked(tenant, access, name) as work:
            for each in self.remains(name):
                self.backend.drop_database(work.driver, each)

    def list(self, tenant: Tenant, access: Access) -> Sequence[str]:
        if tenant.kind is Kind.SHARED or not _is_ours(tenant):
            return []
        own = tenant.db_name or ""
        with self.backend.administering(access) as driver:
            return sorted({names.point_in(own, name) for name in self.backend.databases(driver, own)} - {""})

    def _refuse_later(self, tenant: Tenant, access: Access) -> None:
        """Raise ClaimLostError if the database has a later epoch; the lock keeps it as it is from this look on."""
        try:
            driver = self.backend.connect_to_migrate(tenant, access)
        except DatabaseMissingError:
            return
        with self.backend.checks.looking(driver) as connection:
            if sa.inspect(connection).has_table(tenancy_identity.name):
                refuse_later(tenant, connection.execute(sa.select(tenancy_identity.c.epoch)).scalar())

    @contextmanager
    def _locked(
        self, tenant: Tenant, access: Access, name: str, *, step: Step = ignore_step, claim: HeldClaim | None = None
    ) -> Iterator[Copying]:
        with self.backend.administering(access) as driver:
            work = Copying(driver, tenant, access, name, step, claim)
            if not self.backend.lock(driver, work.database):
                busy = "another call works at this tenant's restore points: wait until it ends."
                raise DatabaseBusyError(busy, others_at_work=True)
            yield work


def refuse_half(tenant: Tenant, found: object) -> None:
    """Refuse to make a point of a database that has no identity row of this tenant.

    A restore writes the identity row last. A database without one may be the half of a restore that was killed, and
    must not replace the point from which that restore can be repeated.
    """
    if not is_of(tenant, found):
        raise IdentityError(
            f"the database of user {tenant.user_id} does not say that it is theirs: no restore point was made. "
            "If putting one back was cut off, do that again first.",
            tenant_id=tenant.tenant_id,
        )


def _point_of(tenant: Tenant, point: str) -> str:
    refuse_shared(tenant)
    return names.point_database(tenant.db_name or "", point)


def _is_ours(tenant: Tenant) -> bool:
    return tenant.origin == Origin.SERVER


def _refuse_named(tenant: Tenant) -> None:
    """Refuse a database on a user's own server: a database there may have a point's name and be somebody else's."""
    if not _is_ours(tenant):
        raise AccessDeniedError(
            f"the database of user {tenant.user_id} is where somebody named it: restore points are made on "
            "registered servers alone. Back it up instead.",
            tenant_id=tenant.tenant_id,
        )
