"""State what restore points must offer on every product.

A restore point is a copy of one tenant's database, made before a fleet run changes the schema, so that the run can be
reverted. ``tenancy/fleet/restore_points.py`` calls this through ``backend.restore_points``. Each product's
``restore_points.py`` implements it: SQLite with a file, the servers (``server/restore_points.py``) with a second
database.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence

from tenancy.backends.access import Access
from tenancy.backends.values import HeldClaim, Rebuild, Step, ignore_step
from tenancy.errors import ClaimLostError, DatabaseMissingError, UnsupportedBackendError
from tenancy.models import Kind, Tenant
from tenancy.schema.tables import tenancy_identity


class RestorePoints(ABC):
    """Create, find, restore and delete the restore points of tenants; a point is named by the caller.

    The caller holds the tenant's claim, has set the tenant's state to ``migrating``, and has no connection of its own
    open to the database. Other connections may be open; they are ended where they are in the way. ``tenant.epoch`` is
    the epoch of the caller's claim: a database with a later epoch is left as it is (ClaimLostError).

    Every method can be called again after a kill at any moment, and ends where the first call would have ended.

    There are no restore points of the shared database, because it may hold other tables, nor of a database on a
    server that a user named (AccessDeniedError).
    """

    @abstractmethod
    def create(self, tenant: Tenant, access: Access, point: str, *, step: Step = ignore_step) -> None:
        """Copy a tenant's database as it is now, whole or not at all; an earlier point of this name is replaced."""

    @abstractmethod
    def has(self, tenant: Tenant, access: Access, point: str) -> bool:
        """Say whether a whole restore point of this tenant and name exists."""

    @abstractmethod
    def restore(
        self, tenant: Tenant, access: Access, point: str, *, rebuild: Rebuild, claim: HeldClaim | None, step: Step
    ) -> None:
        """Make the database what it was at the restore point: tables, rows, version, ledger and identity.

        The point stays. ``rebuild`` makes the schema, on a product that can neither copy a database nor list the
        statements that make one. Raises DatabaseMissingError if there is no whole point.

        ``claim`` is checked once, while nobody else can change the database; if the claim is lost, nothing is changed.
        The restored identity row has the claim's epoch, or without a claim the point's.
        """

    @abstractmethod
    def delete(self, tenant: Tenant, access: Access, point: str) -> None:
        """Delete a restore point, and what a killed call left of one; a missing point is no error."""

    @abstractmethod
    def list(self, tenant: Tenant, access: Access) -> Sequence[str]:
        """Name the restore points of a tenant, whole or not, in alphabetical order."""


def is_of(tenant: Tenant, found: object) -> bool:
    """Compare the tenant id of an identity row with the tenant to whom the database should belong."""
    return found is not None and uuid.UUID(str(found)) == tenant.tenant_id


def no_point(tenant: Tenant, point: str) -> DatabaseMissingError:
    return DatabaseMissingError(
        f"user {tenant.user_id} has no whole restore point {point}: nothing was changed.", tenant_id=tenant.tenant_id
    )


def refuse_shared(tenant: Tenant) -> None:
    if tenant.kind is Kind.SHARED:
        raise UnsupportedBackendError(
            "the shared database has no restore points: it may hold other tables. Back it up instead."
        )


def refuse_later(tenant: Tenant, epoch: object) -> None:
    """Refuse to copy or replace a database whose epoch is later than the caller's: the caller lost its claim."""
    if isinstance(epoch, int) and epoch > tenant.epoch:
        raise ClaimLostError(
            f"tenant {tenant.tenant_id}: a later operation was here; nothing was changed.", tenant_id=tenant.tenant_id
        )


def raising_epoch(claim: HeldClaim, table: str = tenancy_identity.name) -> str:
    """Write the UPDATE that gives a restored identity row the epoch of the claim.

    The point's own epoch is older: routes that were opened since the point was made carry later ones, and a fence that
    went backwards would let an old route write again.
    """
    return f"UPDATE {table} SET epoch = {int(claim.epoch)} WHERE id = 1"  # noqa: S608 - our own words and a number
