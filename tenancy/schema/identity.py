"""Write the identity row of a tenant's database: its owner, epoch and state.

The epoch is a fencing token. The catalog gives every claim a number higher than all before. A runner that changes a
database's state writes its claim's number, WHERE the stored one is not higher. So a runner that was suspended until
its claim expired changes nothing after another runner was there, and no lock in the catalog is held meanwhile.
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
"""A higher epoch is refused: users can write one into their own database, and the catalog would run out of numbers."""

OLDER = (
    "the database is older than the catalog expects: restore its newest copy, or the catalog and all databases from "
    "one backup."
)

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
    """Insert the identity row of a new database; a pending one is in state ``provisioning`` until it has a user."""
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
    """Set the owner of a pending database; StaleRouteError if it was handed over or retired meanwhile."""
    given = {"user_id": tenant.user_id, "epoch": epoch, "state": str(State.READY)}
    changed = connection.execute(_hand_over, _upto(tenant, epoch) | given | {"created_at": datetime.now(UTC)})
    if changed.rowcount != 1:
        raise StaleRouteError("the database was handed over or retired meanwhile.", tenant_id=tenant.tenant_id)


def mark(connection: sa.Connection, tenant: Tenant, epoch: int, state: State) -> None:
    """Write a claim's epoch and a state, in the caller's transaction; writes by older routes fail from then on.

    Raises ClaimLostError if a later claim was here, StaleRouteError if the database is older than the catalog says,
    and IdentityError if it is not this tenant's.
    """
    changed = connection.execute(_change, _upto(tenant, epoch) | {"epoch": epoch, "state": str(state)})
    if changed.rowcount != 1:
        _refuse(connection, tenant, epoch)


def mark_restored(connection: sa.Connection, tenant: Tenant, epoch: int) -> None:
    """Mark a restored database as ready; like ``mark``, but any earlier epoch is accepted."""
    upto = {"whose": tenant.tenant_id, "upto": epoch}
    opened = {"epoch": epoch, "state": str(State.READY)}
    if connection.execute(_change_restored, upto | opened).rowcount != 1:
        _refuse(connection, tenant, epoch)


@contextmanager
def legible(tenant: Tenant) -> Iterator[None]:
    """Turn errors about impossible values in an identity row into IdentityError."""
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
    raise StaleRouteError(OLDER, tenant_id=tenant.tenant_id)
