"""Write the identity row of a tenant's database: whose it is, its epoch, and what may be done with it.

The epoch is a fencing token: with every claim the catalog hands out a number that is higher than all before it. Whoever
changes the state of a database stores the number of their claim, and only where a lower one stands. So a runner that
wakes after its claim expired changes nothing once another runner was there, and no lock of the catalog is held while a
database is worked on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from tenancy.errors import ClaimLostError, IdentityError, StaleRouteError
from tenancy.models import Kind, Pending, State, Tenant
from tenancy.schema.tables import tenancy_identity

MOST = 2**30
"""No epoch comes near it; whoever can write to a database of their own could else use up all that the catalog has."""

_row = tenancy_identity.c
_insert = tenancy_identity.insert()
_read = sa.select(_row.tenant_id, _row.epoch).where(_row.id == 1)
_mine = (
    _row.id == 1,
    _row.tenant_id == sa.bindparam("whose"),
    _row.epoch <= sa.bindparam("upto"),
)
_change = tenancy_identity.update().where(*_mine, _row.epoch >= sa.bindparam("since"))
_change_restored = tenancy_identity.update().where(*_mine)
_hand_over = tenancy_identity.update().where(
    *_mine,
    _row.epoch >= sa.bindparam("since"),
    _row.kind == str(Kind.TENANT),
    _row.user_id.is_(None),
)


def write(connection: sa.Connection, tenant: Tenant) -> None:
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


def hand_over(connection: sa.Connection, tenant: Tenant, epoch: int) -> None:
    """Give a database that stood ready to its user; whoever is first has it, else StaleRouteError."""
    given = {"user_id": tenant.user_id, "epoch": epoch, "state": str(State.READY)}
    changed = connection.execute(_hand_over, _upto(tenant, epoch) | given | {"created_at": datetime.now(UTC)})
    if changed.rowcount != 1:
        raise StaleRouteError("the database was handed over or retired meanwhile.", tenant_id=tenant.tenant_id)


def mark(connection: sa.Connection, tenant: Tenant, epoch: int, state: State) -> None:
    """Raise the epoch to a claim's and write a state, in the caller's transaction: writes under way are refused.

    ClaimLostError where a later claim was here, StaleRouteError where the database is older than the catalog says,
    IdentityError where it is not this tenant's.
    """
    changed = connection.execute(_change, _upto(tenant, epoch) | {"epoch": epoch, "state": str(state)})
    if changed.rowcount != 1:
        _refuse(connection, tenant, epoch)


def mark_restored(connection: sa.Connection, tenant: Tenant, epoch: int) -> None:
    """Open a database that was put back as it was, whatever earlier epoch that had; else as ``mark``."""
    upto = {"whose": tenant.tenant_id, "upto": epoch}
    opened = {"epoch": epoch, "state": str(State.READY)}
    if connection.execute(_change_restored, upto | opened).rowcount != 1:
        _refuse(connection, tenant, epoch)


@contextmanager
def legible(tenant: Tenant) -> Iterator[None]:
    """Say of an identity row whose values no database of ours can have that it is not this tenant's."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise IdentityError("the database's identity cannot be read.", tenant_id=tenant.tenant_id) from error


def _upto(tenant: Tenant, epoch: int) -> dict[str, object]:
    return {"whose": tenant.tenant_id, "since": tenant.epoch, "upto": epoch}


def _refuse(connection: sa.Connection, tenant: Tenant, epoch: int) -> None:
    with legible(tenant):
        row = connection.execute(_read).first()
        found = 0 if row is None else int(row.epoch)
    connection.rollback()
    if found > MOST:
        raise IdentityError("the database names an epoch that was never given out.", tenant_id=tenant.tenant_id)
    if row is None or row.tenant_id != tenant.tenant_id:
        raise IdentityError("the database belongs to another tenant.", tenant_id=tenant.tenant_id)
    if found > epoch:
        raise ClaimLostError(
            f"tenant {tenant.tenant_id}: a later operation was here, or the catalog is older than the database. "
            "Nothing was changed. Run it again.",
            tenant_id=tenant.tenant_id,
            epoch=found,
        )
    raise StaleRouteError("the database was replaced or retired meanwhile.", tenant_id=tenant.tenant_id)
