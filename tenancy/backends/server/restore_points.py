"""Keep restore points on servers: a point is a second database there, named after the tenant's and the point.

What PostgreSQL, MySQL and SQL Server have in common stands here, how a database is copied in
``postgresql/restore_points.py``, ``mysql/restore_points.py`` and ``sqlserver/restore_points.py``; a SQLite point is a
file (``sqlite/restore_points.py``).
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tenancy import names
from tenancy.backends.access import Access
from tenancy.backends.base import Backend, Held, Rebuild, Step, unheard
from tenancy.errors import (
    AccessDeniedError,
    ClaimLostError,
    DatabaseBusyError,
    DatabaseMissingError,
    IdentityError,
    UnsupportedBackendError,
)
from tenancy.models import Kind, Origin, Tenant
from tenancy.schema.tables import tenancy_identity

LOCK_S = 3


@dataclass(frozen=True)
class Way:
    """Say from where to where rows go: a tenant's database and its restore point, over one connection to the server."""

    driver: Any
    tenant: Tenant
    access: Access
    point: str
    step: Step
    claim: Held | None = None

    def check(self) -> None:
        """Stop a runner whose claim is lost, under a lock that keeps whoever has it now from the database."""
        if self.claim is not None:
            self.claim.check()

    @property
    def database(self) -> str:
        return self.tenant.db_name or ""


class ServerPoints(Backend):
    """Keep each restore point in a database of its own, which only the login that made it may enter."""

    # --- what each product says -------------------------------------------------------------------------

    @abstractmethod
    def at_server(self, login: Any) -> Any: ...

    @abstractmethod
    def drop_database(self, driver: Any, name: str) -> None: ...

    @abstractmethod
    def beside(self, driver: Any, name: str) -> list[str]:
        """List the databases whose names begin with this one."""

    @abstractmethod
    def lock(self, driver: Any, name: str, wait_s: int = LOCK_S) -> bool:
        """Wait a few seconds for the lock of a name, which the session then holds to its end; say whether it was got.

        A runner that was stopped and wakes late finds nothing that changed under its hands.
        """

    @abstractmethod
    def make_point(self, way: Way) -> None:
        """Make the point's database from the tenant's."""

    @abstractmethod
    def is_whole(self, way: Way) -> bool:
        """Say whether the point's database was finished, and is this tenant's."""

    @abstractmethod
    def return_to(self, way: Way, rebuild: Rebuild) -> None:
        """Make the tenant's database from the point's, which is whole; ask ``way.check`` before it is changed."""

    def remains(self, point: str) -> tuple[str, ...]:
        """Name the databases that may be there because of a point."""
        return (point,)

    # --- the contract -----------------------------------------------------------------------------------

    def keep(self, tenant: Tenant, access: Access, point: str, *, step: Step = unheard) -> None:
        name = _point_of(tenant, point)
        _refuse_named(tenant)
        with self._alone(tenant, access, name, step) as way:
            self._refuse_later(tenant, access)
            try:
                with self.explained():
                    self.make_point(way)
            except AccessDeniedError as error:
                raise AccessDeniedError(
                    f"no restore point of user {tenant.user_id}'s database can be made: the login that changes its "
                    "schema needs the right to make databases on that server, and to end sessions in this one.",
                    tenant_id=tenant.tenant_id,
                ) from error

    def kept(self, tenant: Tenant, access: Access, point: str) -> bool:
        name = _point_of(tenant, point)
        if not _is_ours(tenant):
            return False
        with self._way(tenant, access, name) as way:
            return self.is_whole(way)

    def put_back(
        self,
        tenant: Tenant,
        access: Access,
        point: str,
        *,
        rebuild: Rebuild,
        claim: Held | None = None,
        step: Step = unheard,
    ) -> None:
        name = _point_of(tenant, point)
        _refuse_named(tenant)
        with self._alone(tenant, access, name, step, claim) as way:
            self._refuse_later(tenant, access)
            if not self.is_whole(way):
                raise no_point(tenant, point)
            self.return_to(way, rebuild)

    def discard(self, tenant: Tenant, access: Access, point: str) -> None:
        name = _point_of(tenant, point)
        if not _is_ours(tenant):
            return
        with self._alone(tenant, access, name) as way:
            for each in self.remains(name):
                self.drop_database(way.driver, each)

    def points(self, tenant: Tenant, access: Access) -> list[str]:
        if tenant.kind is Kind.SHARED or not _is_ours(tenant):
            return []
        assert access.admin is not None  # noqa: S101 - what stands on a server has a login
        with closing(self.at_server(access.admin)) as driver, self.explained():
            found = {names.point_in(tenant.db_name or "", name) for name in self.beside(driver, tenant.db_name or "")}
        return sorted(found - {""})

    def _refuse_later(self, tenant: Tenant, access: Access) -> None:
        """Stop a runner that slept: under the lock nobody else changes the database between this look and the work."""
        try:
            driver = self.connect_to_migrate(tenant, access)
        except DatabaseMissingError:
            return
        with self.looking(driver) as connection:
            if sa.inspect(connection).has_table(tenancy_identity.name):
                refuse_later(tenant, connection.execute(sa.select(tenancy_identity.c.epoch)).scalar())

    @contextmanager
    def _alone(
        self, tenant: Tenant, access: Access, name: str, step: Step = unheard, claim: Held | None = None
    ) -> Iterator[Way]:
        with self._way(tenant, access, name, step, claim) as way:
            if not self.lock(way.driver, way.database):
                busy = "another call works at this tenant's restore points: wait until it ends."
                raise DatabaseBusyError(busy, others_at_work=True)
            yield way

    @contextmanager
    def _way(
        self, tenant: Tenant, access: Access, name: str, step: Step = unheard, claim: Held | None = None
    ) -> Iterator[Way]:
        assert access.admin is not None  # noqa: S101 - what stands on a server has a login
        with closing(self.at_server(access.admin)) as driver, self.explained():
            yield Way(driver, tenant, access, name, step, claim)


def _point_of(tenant: Tenant, point: str) -> str:
    refuse_shared(tenant)
    return names.point_database(tenant.db_name or "", point)


def _is_ours(tenant: Tenant) -> bool:
    return tenant.origin == Origin.SERVER


def _refuse_named(tenant: Tenant) -> None:
    """Beside a database that somebody named, others may stand that are called as a point would be."""
    if not _is_ours(tenant):
        raise AccessDeniedError(
            f"the database of user {tenant.user_id} stands where somebody named it: restore points are made on "
            "registered servers alone. Back it up instead.",
            tenant_id=tenant.tenant_id,
        )


def raising_epoch(claim: Held, table: str = tenancy_identity.name) -> str:
    """Give a copy of a point the epoch of the claim that puts it back: below it stands what others were told since."""
    return f"UPDATE {table} SET epoch = {int(claim.epoch)} WHERE id = 1"  # noqa: S608 - our own words and a number


def refuse_shared(tenant: Tenant) -> None:
    if tenant.kind is Kind.SHARED:
        raise UnsupportedBackendError(
            "the shared database has no restore points: other tables may stand in it. Back it up instead."
        )


def no_point(tenant: Tenant, point: str) -> DatabaseMissingError:
    return DatabaseMissingError(
        f"user {tenant.user_id} has no whole restore point {point}: nothing was changed.", tenant_id=tenant.tenant_id
    )


def refuse_half(tenant: Tenant, found: object) -> None:
    """Refuse to keep what is not this tenant's whole database: the identity row comes back last when one is put back.

    Else the half of a database that a kill left would take the place of the point it is made from.
    """
    if not is_of(tenant, found):
        raise IdentityError(
            f"the database of user {tenant.user_id} does not say that it is theirs: no restore point was made. "
            "If putting one back was cut off, do that again first.",
            tenant_id=tenant.tenant_id,
        )


def refuse_later(tenant: Tenant, epoch: object) -> None:
    """Refuse to copy or replace a database in which a later operation was than the one that asks."""
    if isinstance(epoch, int) and epoch > tenant.epoch:
        raise ClaimLostError(
            f"tenant {tenant.tenant_id}: a later operation was here; nothing was changed.", tenant_id=tenant.tenant_id
        )


def is_of(tenant: Tenant, found: object) -> bool:
    """Compare what an identity row says with whose the database should be."""
    return found is not None and uuid.UUID(str(found)) == tenant.tenant_id
