"""Write the identity row of a tenant's database: whose it is, its epoch, and what may be done with it.

The epoch is a fencing token. With every claim the catalog hands out a number (``Claim.epoch``) that is higher than all
before it, and whoever changes the state of a database stores that number, but only where a lower one stands. So a
runner that slept past its claim changes nothing once another runner was there, and no lock of the catalog has to be
held while a database is worked on.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from tenancy.backends.base import Backend
from tenancy.catalog.claims import Claim
from tenancy.errors import ClaimLostError, IdentityError, StaleRouteError
from tenancy.models import Kind, Pending, Placement, State, identity
from tenancy.routing.guards import legible

MOST = 2**30
"""No epoch comes near it; whoever can write to a database of their own could else use up all that the catalog has."""

_insert = identity.insert()
_read = sa.select(identity.c.tenant_id, identity.c.epoch).where(identity.c.id == 1)
_mine = (identity.c.id == 1, identity.c.tenant_id == sa.bindparam("whose"), identity.c.epoch <= sa.bindparam("upto"))
_change = identity.update().where(*_mine, identity.c.epoch >= sa.bindparam("since"))
_change_restored = identity.update().where(*_mine)
_hand_over = identity.update().where(
    *_mine, identity.c.epoch >= sa.bindparam("since"), identity.c.kind == str(Kind.TENANT), identity.c.user_id.is_(None)
)


def write(connection: sa.Connection, tenant: Placement) -> None:
    """Say in a new database whose it is; one that waits for its user is not to be used yet."""
    connection.execute(
        _insert,
        {
            "id": 1,
            "tenant_id": tenant.tenant_id,
            "user_id": tenant.user_id,
            "kind": str(tenant.kind),
            "epoch": tenant.epoch,
            "state": str(State.PROVISIONING if isinstance(tenant, Pending) else State.READY),
            "created_at": datetime.now(UTC),
        },
    )


def hand_over(connection: sa.Connection, tenant: Placement, claim: Claim) -> None:
    """Give a database that stood ready to its user; whoever is first has it, else StaleRouteError."""
    given = {"user_id": tenant.user_id, "epoch": claim.epoch, "state": str(State.READY)}
    changed = connection.execute(_hand_over, _upto(tenant, claim) | given | {"created_at": datetime.now(UTC)})
    if changed.rowcount != 1:
        raise StaleRouteError("the database was handed over or retired meanwhile.", tenant_id=tenant.tenant_id)


def mark(backend: Backend, connection: sa.Connection, tenant: Placement, claim: Claim, state: State) -> None:
    """Raise the epoch to the claim's and write a state, in the caller's transaction: writes under way are refused.

    ClaimLostError where a later claim was here, StaleRouteError where the database is older than the catalog says,
    IdentityError where it is not this tenant's.
    """
    backend.queue_for_identity(connection)
    changed = connection.execute(_change, _upto(tenant, claim) | {"epoch": claim.epoch, "state": str(state)})
    if changed.rowcount != 1:
        _refuse(connection, tenant, claim)


def mark_restored(connection: sa.Connection, tenant: Placement, claim: Claim) -> None:
    """Open a database that was put back as it was, whatever earlier epoch that had; else as ``mark``."""
    upto = {"whose": tenant.tenant_id, "upto": claim.epoch}
    opened = {"epoch": claim.epoch, "state": str(State.READY)}
    if connection.execute(_change_restored, upto | opened).rowcount != 1:
        _refuse(connection, tenant, claim)


def _upto(tenant: Placement, claim: Claim) -> dict[str, object]:
    return {"whose": tenant.tenant_id, "since": tenant.epoch, "upto": claim.epoch}


def _refuse(connection: sa.Connection, tenant: Placement, claim: Claim) -> None:
    with legible(tenant):
        row = connection.execute(_read).first()
        epoch = 0 if row is None else int(row.epoch)
    connection.rollback()
    if epoch > MOST:
        raise IdentityError("the database names an epoch that was never given out.", tenant_id=tenant.tenant_id)
    if row is None or row.tenant_id != tenant.tenant_id:
        raise IdentityError("the database belongs to another tenant.", tenant_id=tenant.tenant_id)
    if epoch > claim.epoch:
        raise ClaimLostError(
            f"tenant {tenant.tenant_id}: a later operation was here, or the catalog is older than the database. "
            "Nothing was changed. Run it again.",
            tenant_id=tenant.tenant_id,
            epoch=epoch,
        )
    raise StaleRouteError("the database was replaced or retired meanwhile.", tenant_id=tenant.tenant_id)
