"""Keep databases that were left behind: no tenant uses them any more, and they may still be there.

A row is written in the transaction that leaves the database, and deleted once the database is gone, so that nothing is
lost from sight when a process is killed in between or the server does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from tenancy.catalog import damage, tenants
from tenancy.catalog.tables import leftover_databases
from tenancy.errors import TenantNotFoundError
from tenancy.models import Leftover, State, Tenant

_table = leftover_databases
_all = sa.select(*tenants.columns(_table), _table.c.id, _table.c.reason).order_by(_table.c.id)


class Reason(StrEnum):
    """Say why nobody uses a database any more."""

    REPLACED = "replaced"
    """Its user has another one."""

    FORGOTTEN = "forgotten"
    """An operator let go of it: its server could not be reached."""

    HALF_MADE = "half_made"
    """The attempt to make it ended; the next attempt makes another one."""


def add(connection: sa.Connection, tenant: Tenant, reason: Reason) -> Leftover:
    """Remember that a tenant's database may still be there; its password stays sealed as it is."""
    found = {f.name: getattr(tenant, f.name) for f in fields(Tenant) if f.name != "sealed_password"}
    row = found | {"db_password": tenant.sealed_password, "state": State.ARCHIVED, "updated_at": datetime.now(UTC)}
    key = connection.execute(_table.insert(), row | {"reason": str(reason)}).inserted_primary_key
    place: dict[str, Any] = found | {"state": State.ARCHIVED, "sealed_password": tenant.sealed_password}
    return Leftover(**place, id=int((key or [0])[0]), reason=str(reason))


def of_user(connection: sa.Connection, user_id: int) -> list[Leftover]:
    """List what a user's earlier databases left, oldest first; of a damaged row what can be read."""
    return _listed(connection, _all.where(_table.c.user_id == user_id))


def page(connection: sa.Connection, after: int, most: int) -> list[Leftover]:
    """List what is left of all users' databases, oldest first, from behind one of them."""
    return _listed(connection, _all.where(_table.c.id > after).limit(most))


def every(connection: sa.Connection) -> list[Leftover]:
    """List all that is left, oldest first."""
    return _listed(connection, _all)


def get(connection: sa.Connection, leftover_id: int) -> Leftover:
    found = _listed(connection, _all.where(_table.c.id == leftover_id))
    if not found:
        raise TenantNotFoundError(
            f"there is no leftover database {leftover_id}: "
            "`unify db leftovers` or `manager.leftovers.listed()` lists them."
        )
    return found[0]


def on_server(connection: sa.Connection, server_id: int) -> bool:
    """Say whether any was left on a registered server."""
    return (
        connection.execute(sa.select(_table.c.id).where(_table.c.server_id == server_id).limit(1)).first() is not None
    )


def failed(connection: sa.Connection, left: Leftover, message: str, code: str) -> None:
    """Keep what stood in the way of removing one."""
    told = {"last_error": message, "last_error_code": code, "updated_at": datetime.now(UTC)}
    connection.execute(_table.update().where(_table.c.id == left.id), told)


def remove(connection: sa.Connection, left: Sequence[Leftover]) -> None:
    """Forget databases that are gone."""
    if left:
        connection.execute(_table.delete().where(_table.c.id.in_([each.id for each in left])))


def _listed(connection: sa.Connection, query: sa.Select[Any]) -> list[Leftover]:
    found = []
    for row in damage.read(connection, query, tenants.CHECKS):
        kept = tenants.listed(damage.Read(row.values[:-2], row.damaged))
        held = {f.name: getattr(kept, f.name) for f in fields(Tenant)}
        found.append(Leftover(**held, id=row.values[-2], reason=str(row.values[-1])))
    return found
